"""Rendered scenes with a simulated narrator: the built-in demo and the tests' ground truth. Ours.

    python -m data_tools.scenes --count 3000 --to DIR [--seed N]

writes DIR/narratives.jsonl (Localized Narratives lines), DIR/regions.jsonl (exact mask and box of
each naming, by caption characters) and DIR/images/. Two to four shapes lie on a textured ground; a
caption names each with its color and shape and says where they are; every word of it is true.

Nobody narrated these: data_tools/narrator.py simulates it, about as noisily as people do. While a
thing is named, 59 % of the points lie inside its box (people, by a published figure: 55 %).
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
from pycocotools import mask as rle
from tqdm import tqdm

from data_tools.narrator import Phrase, box_region, mask_region, narrate
from data_tools.scene_captions import Wording
from loctex.narrative import Narrative, write_jsonl
from loctex.runs import write_whole

DATASET = "scenes"
ANNOTATOR = 0  # nobody: simulated
PER_SEED = 1_000_000  # write(seed=s) draws the scenes from s * PER_SEED on

COLORS = {
    "red": (212, 38, 40),
    "orange": (244, 126, 22),
    "yellow": (250, 214, 48),
    "green": (52, 160, 70),
    "blue": (42, 98, 210),
    "purple": (124, 58, 168),
    "pink": (246, 132, 180),
    "white": (246, 246, 242),
}
GROUNDS = {  # muted, so that a ground is not taken for a thing
    "gray": (132, 134, 138),
    "dark gray": (62, 64, 70),
    "beige": (218, 202, 170),
    "brown": (104, 76, 56),
    "navy": (30, 40, 78),
    "olive": (98, 102, 62),
    "sky blue": (176, 206, 228),
    "mint": (186, 220, 202),
}
PATTERNS = ("stripes", "checks", "dots", "gradient", "clouds")
NAMES = {  # the first is the usual one
    "circle": ("circle", "disc"),
    "square": ("square", "box"),
    "triangle": ("triangle",),
    "star": ("star",),
    "ring": ("ring", "hoop"),
    "cross": ("cross", "plus sign"),
    "heart": ("heart",),
    "diamond": ("diamond",),
}


@dataclass(frozen=True, eq=False)
class Thing:
    """One drawn shape: `center` and `side` in pixels, `mask` (H, W) bool of its visible part."""

    shape: str
    color: str
    center: tuple[float, float]
    side: float
    mask: np.ndarray

    def below(self, mask: np.ndarray) -> Thing:
        """This thing when one of this mask (H, W) is drawn over it."""
        return replace(self, mask=self.mask & ~mask)


@dataclass(frozen=True, eq=False)
class Scene:
    """image (H, W, 3) uint8 RGB, its narrative, and the lines of regions.jsonl."""

    image: np.ndarray
    narrative: Narrative
    regions: list[dict]


def scene(seed: int, size: tuple[int, int] | None = None) -> Scene:
    """The scene of this number: the same on every call. `size` (width, height) pixels, >= 96."""
    rng = np.random.default_rng(seed)
    width, height = size or draw_size(rng)
    ground, pattern = str(rng.choice(list(GROUNDS))), str(rng.choice(PATTERNS))
    image = texture(GROUNDS[ground], pattern, width, height, rng)
    colors = [name for name, rgb in COLORS.items() if distance(rgb, GROUNDS[ground]) > 30]
    things: list[Thing] = []
    for center, side in places(int(rng.integers(2, 5)), width, height, rng):
        taken = {(thing.color, thing.shape) for thing in things}
        free = [(c, s) for c in colors for s in NAMES if (c, s) not in taken]
        color, shape = free[rng.integers(len(free))]
        mask = paint(image, shape, COLORS[color], center, side, rng)
        things = [thing.below(mask) for thing in things]
        things.append(Thing(shape, color, center, side, mask))
    narrative, regions = narrated(things, (ground, pattern), f"{seed:08d}", rng)
    return Scene(np.clip(image, 0, 255).astype(np.uint8), narrative, regions)


# --- the picture


def draw_size(rng: np.random.Generator) -> tuple[int, int]:
    """Landscape or portrait, 192 to 256 pixels on the long side, up to 4 : 3."""
    long = int(rng.integers(208, 257))
    short = int(long * rng.uniform(0.75, 1))
    return (long, short) if rng.random() < 0.6 else (short, long)


def distance(first: tuple[int, int, int], second: tuple[int, int, int]) -> float:
    """How different two RGB colors look (CIE Lab, about 2 is just visible)."""
    lab = cv2.cvtColor(np.float32([[first, second]]) / 255, cv2.COLOR_RGB2LAB)[0]
    return float(np.linalg.norm(lab[0] - lab[1]))


def texture(
    color: tuple[int, int, int], pattern: str, width: int, height: int, rng: np.random.Generator
) -> np.ndarray:
    """(H, W, 3) float32 RGB 0..255: the ground, two shades of its color in the pattern, grainy."""
    y, x = np.ogrid[:height, :width]
    angle, period = rng.uniform(0, np.pi), rng.uniform(14, 30)
    u = np.float32(x * np.cos(angle) + y * np.sin(angle) + rng.uniform(0, period))
    v = np.float32(y * np.cos(angle) - x * np.sin(angle) + rng.uniform(0, period))
    wave_u, wave_v = np.sin(2 * np.pi * u / period), np.sin(2 * np.pi * v / period)
    if pattern == "stripes":
        shade = (3 * wave_u).clip(-1, 1)
    elif pattern == "checks":
        shade = (8 * wave_u * wave_v).clip(-1, 1)
    elif pattern == "dots":
        shade = (5 * (wave_u + wave_v - 1.3)).clip(-1, 1)
    elif pattern == "gradient":
        shade = np.interp(u, (u.min(), u.max()), (-2.5, 2.5))
    else:
        coarse = rng.standard_normal((6, 8))
        shade = 0.9 * cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    strength = rng.uniform(9, 16)
    grain = 8 * cv2.GaussianBlur(rng.standard_normal((height, width), np.float32), (0, 0), 0.7)
    flat = np.float32(np.array(color) + rng.uniform(-6, 6, 3))
    return flat + np.float32(strength * shade + grain)[..., None]


def places(
    count: int, width: int, height: int, rng: np.random.Generator
) -> list[tuple[tuple[float, float], float]]:
    """Up to `count` (center, side) in pixels, at least two, whose squares barely overlap.

    A side is at least .2 of the image's longer side, at most .4 of its shorter one.
    """
    found: list[tuple[tuple[float, float], float]] = []
    for attempt in range(2000):
        if len(found) == count or (attempt > 100 and len(found) >= 2):
            break
        side = rng.uniform(0.2 * max(width, height), 0.4 * min(width, height))
        margin = side / 2 + 2
        x, y = rng.uniform(margin, width - margin), rng.uniform(margin, height - margin)
        if all(max(abs(x - a), abs(y - b)) > 0.5 * (side + other) for (a, b), other in found):
            found.append(((x, y), side))
    return found


def outline(shape: str) -> list[np.ndarray]:
    """Closed lines (P, 2) within -1..1, y down, which bound the shape (even-odd rule)."""
    turn = np.linspace(0, 2 * np.pi, 72, endpoint=False)
    circle = np.stack([np.sin(turn), -np.cos(turn)], axis=1)
    if shape == "circle":
        return [circle]
    if shape == "ring":
        return [circle, 0.55 * circle]
    if shape == "triangle":
        return [np.array([[0, -0.92], [1, 0.82], [-1, 0.82]])]
    if shape == "square":
        return [0.9 * np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]])]
    if shape == "diamond":
        return [np.array([[0, -1], [0.72, 0], [0, 1], [-0.72, 0]])]
    if shape == "star":
        return [circle[np.arange(0, 72, 7.2).astype(int)] * np.resize([1, 0.45], 10)[:, None]]
    if shape == "cross":
        a = 0.34
        arm, quarter = np.array([[-a, -1], [a, -1], [a, -a]]), np.array([[0, 1], [-1, 0]])
        return [np.concatenate([arm @ np.linalg.matrix_power(quarter, k) for k in range(4)])]
    x = np.sin(turn) ** 3  # heart
    y = 13 * np.cos(turn) - 5 * np.cos(2 * turn) - 2 * np.cos(3 * turn) - np.cos(4 * turn)
    return [np.stack([x, -(y + 2.5) / 15], axis=1)]


def paint(
    image: np.ndarray,
    shape: str,
    color: tuple[int, int, int],
    center: tuple[float, float],
    side: float,
    rng: np.random.Generator,
) -> np.ndarray:
    """Draw the shape with a soft shadow into the image, in place; its mask (H, W) bool."""
    tilt = np.radians(rng.uniform(-12, 12))
    turned = np.array([[np.cos(tilt), np.sin(tilt)], [-np.sin(tilt), np.cos(tilt)]])
    lines = [line @ turned * side / 2 + center for line in outline(shape)]
    alpha = np.zeros(image.shape[:2], np.uint8)
    fixed = [np.round(line * 16).astype(np.int32) for line in lines]
    cv2.fillPoly(alpha, fixed, 255, cv2.LINE_AA, shift=4)
    reach = 0.75 * side + 12  # the shape and its shadow
    x0, y0 = (int(max(0, middle - reach)) for middle in center)
    part = image[y0 : int(center[1] + reach), x0 : int(center[0] + reach)]
    near = alpha[y0 : y0 + part.shape[0], x0 : x0 + part.shape[1]]
    cover = near[..., None] / np.float32(255)
    shadow = np.zeros_like(cover)
    shadow[3:, 2:] = cover[:-3, :-2]
    part *= 1 - 0.45 * cv2.GaussianBlur(shadow, (0, 0), 3)[..., None]
    y, x = np.ogrid[: part.shape[0], : part.shape[1]]
    light = 14 * ((center[0] - x0 - x) + (center[1] - y0 - y)) / side  # from the top left
    grain = 3 * rng.standard_normal(near.shape, np.float32)
    rim = 30 * (cv2.erode(near, np.ones((3, 3), np.uint8)) < 128)
    body = np.float32(color) + rng.uniform(-8, 8, 3) + (light + grain - rim)[..., None]
    part += cover * (body.astype(np.float32) - part)
    return alpha > 127


# --- what is said of it


def narrated(
    things: list[Thing], ground: tuple[str, str], image_id: str, rng: np.random.Generator
) -> tuple[Narrative, list[dict]]:
    """Describe the things and point at them: the narrative and its lines of regions.jsonl."""
    height, width = things[0].mask.shape
    centers, sides = (np.array([getattr(t, name) for t in things]) for name in ("center", "side"))
    template = Wording(centers, sides, (width, height), ground, rng).template()
    texts, targets, lines, named = [], [], [], set()
    for plain, marked, stop in re.findall(r"([^{}]+)|\{([^}]*)\}([,.:]*)", template):
        text, target = (marked or plain).strip(), None
        if marked.isdigit():
            thing = things[int(marked)]
            text, target = called(thing, things, marked in named, rng), mask_region(thing.mask)
            named.add(marked)
        elif marked:
            target = box_region((0.15, 0.15, 0.85, 0.85))  # the ground: a wide sweep
        if not text:
            continue
        if text[0] in "aeio" and re.search(r"\b[aA]$", texts[-1] if texts else ""):
            texts[-1] += "n"
        if marked.isdigit():
            start = len(" ".join(texts)) + 1
            lines.append(naming(thing.mask, image_id, start, start + len(text)))
        texts.append(text + stop)
        targets.append(target)
    words, strokes = narrate(list(map(Phrase, texts, targets)), rng)
    caption = " ".join(texts)
    return Narrative(DATASET, image_id, ANNOTATOR, caption, words, strokes, None, {}), lines


def called(thing: Thing, things: list[Thing], is_again: bool, rng: np.random.Generator) -> str:
    """Color and shape; a second mention may leave the color out where one shape is like that."""
    usual, *others = NAMES[thing.shape]
    noun = rng.choice(others) if others and rng.random() < 0.2 else usual
    is_alone = sum(other.shape == thing.shape for other in things) == 1
    return noun if is_again and is_alone and rng.random() < 0.4 else f"{thing.color} {noun}"


def naming(mask: np.ndarray, image_id: str, start: int, end: int) -> dict:
    """The line of regions.jsonl of caption characters start to end, which name this (H, W) mask."""
    (y0, y1), (x0, x1) = (np.flatnonzero(mask.any(axis=k))[[0, -1]].tolist() for k in (1, 0))
    height, width = mask.shape
    encoded = rle.encode(np.asfortranarray(mask, dtype=np.uint8))
    return {
        "dataset_id": DATASET,
        "image_id": image_id,
        "annotator_id": ANNOTATOR,
        "start": start,
        "end": end,
        "box": [x0 / width, y0 / height, (x1 + 1) / width, (y1 + 1) / height],
        "rle": {"size": [height, width], "counts": encoded["counts"].decode("ascii")},
    }


# --- the files


def write(
    to: Path, count: int, seed: int = 0, progress: Callable[[int, int], None] | None = None
) -> None:
    """Write `count` scenes into the folder; scene i depends on (seed, i) only.

    `progress(done, count)` is called after each. ValueError: count is not in 1..PER_SEED.
    """
    if not 1 <= count <= PER_SEED:
        raise ValueError(f"count: must be within 1 and {PER_SEED}, got {count}")
    images, lines = Path(to) / "images", []
    images.mkdir(parents=True, exist_ok=True)

    def narratives():
        for done in range(count):
            made = scene(seed * PER_SEED + done)
            (images / f"{made.narrative.image_id}.jpg").write_bytes(encode(made.image))
            lines.extend(json.dumps(line) + "\n" for line in made.regions)
            yield made.narrative
            if progress:
                progress(done + 1, count)

    write_jsonl(Path(to) / "narratives.jsonl", narratives())
    write_whole(Path(to) / "regions.jsonl", "".join(lines))


def encode(image: np.ndarray) -> bytes:
    """(H, W, 3) uint8 RGB -> JPEG of quality 92."""
    quality = [cv2.IMWRITE_JPEG_QUALITY, 92]
    return cv2.imencode(".jpg", image[..., ::-1], quality)[1].tobytes()


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m data_tools.scenes", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--count", type=int, default=500, help="how many scenes (default 500)")
    parser.add_argument("--to", type=Path, required=True, help="folder to write into")
    parser.add_argument("--seed", type=int, default=0, help="another number, other scenes")
    options = parser.parse_args(arguments)
    with tqdm(total=options.count, unit="scene") as bar:
        write(options.to, options.count, options.seed, lambda done, total: bar.update())
    print(f"{options.count} scenes in {options.to}")


if __name__ == "__main__":
    main()
