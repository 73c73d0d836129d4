"""Rendered scenes with a simulated narrator: the built-in demo and the tests' ground truth. Ours.

    python -m data_tools.scenes --count 3000 --to DIR [--seed N]

writes DIR/narratives.jsonl (Localized Narratives lines), DIR/regions.jsonl (exact mask and box of
each naming, by caption characters) and DIR/images/. Two to four shapes lie on a textured ground; a
caption names each with its color and shape and says where they are; every word of it is true.

Nobody narrated these: data_tools/simulation/narrator.py simulates it, about as noisily as
people do. While a thing is named, 59 % of the points lie inside its box
(people, by a published figure: 55 %).
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

from data_tools.simulation.narrator import Phrase, box_region, mask_region, narrate
from data_tools.simulation.scene_captions import SceneWording
from data_tools.simulation.scene_pictures import (
    COLORS,
    GROUNDS,
    PATTERNS,
    distance,
    draw_size,
    paint,
    places,
    texture,
)
from loctex.records.files import write_whole
from loctex.records.narrative import Narrative, write_jsonl

DATASET = "scenes"
ANNOTATOR = 0  # nobody: simulated
PER_SEED = 1_000_000  # write(seed=s) draws the scenes from s * PER_SEED on

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
    """The scene of this number: the same on every call. `size` is (width, height) in pixels.

    ValueError: a side is shorter than 96, or one side is longer than twice the other.
    """
    rng = np.random.default_rng(seed)
    if size and not 96 <= min(size) <= max(size) <= 2 * min(size):
        raise ValueError(f"size: sides of at least 96 pixels, at most 2 : 1, got {size}")

    width, height = size or draw_size(rng)
    ground, pattern = str(rng.choice(list(GROUNDS))), str(rng.choice(PATTERNS))
    image = texture(GROUNDS[ground], pattern, width, height, rng)
    colors = [name for name, rgb in COLORS.items() if distance(rgb, GROUNDS[ground]) > 30]

    things: list[Thing] = []
    for center, side in places(int(rng.integers(2, 5)), width, height, rng):
        used = {(thing.color, thing.shape) for thing in things}
        free = [(c, s) for c in colors for s in NAMES if (c, s) not in used]
        color, shape = free[rng.integers(len(free))]
        mask = paint(image, shape, COLORS[color], center, side, rng)
        things = [thing.below(mask) for thing in things]
        things.append(Thing(shape, color, center, side, mask))

    narrative, regions = narrated(things, (ground, pattern), f"{seed:08d}", rng)
    return Scene(np.clip(image, 0, 255).astype(np.uint8), narrative, regions)


# --- what is said of it


def narrated(
    things: list[Thing], ground: tuple[str, str], image_id: str, rng: np.random.Generator
) -> tuple[Narrative, list[dict]]:
    """Describe the things and point at them: the narrative and its lines of regions.jsonl."""
    height, width = things[0].mask.shape
    centers, sides = (np.array([getattr(t, name) for t in things]) for name in ("center", "side"))
    template = SceneWording(centers, sides, (width, height), ground, rng).template()

    texts: list[str] = []
    targets: list[np.ndarray | None] = []
    lines: list[dict] = []
    named: set[str] = set()
    for plain, marked, stop in re.findall(r"([^{}]+)|\{([^}]*)\}([,.:]*)", template):
        text = (marked or plain).strip()
        target: np.ndarray | None = None
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
    usual, *synonyms = NAMES[thing.shape]
    noun = str(rng.choice(synonyms)) if synonyms and rng.random() < 0.2 else usual
    is_alone = sum(peer.shape == thing.shape for peer in things) == 1
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

    `progress(done, count)` is called after each. ValueError: count is not in 1..PER_SEED, or the
    seed is negative.
    """
    if seed < 0:
        raise ValueError(f"seed: must be 0 or more, got {seed}")
    if not 1 <= count <= PER_SEED:
        raise ValueError(f"count: must be within 1 and {PER_SEED}, got {count}")
    images = Path(to) / "images"
    lines: list[str] = []
    images.mkdir(parents=True, exist_ok=True)

    def narratives():
        for number in range(count):
            rendered = scene(seed * PER_SEED + number)
            (images / f"{rendered.narrative.image_id}.jpg").write_bytes(encode(rendered.image))
            lines.extend(json.dumps(line) + "\n" for line in rendered.regions)
            yield rendered.narrative
            if progress:
                progress(number + 1, count)

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
    try:
        with tqdm(total=options.count, unit="scene") as bar:
            write(options.to, options.count, options.seed, lambda done, total: bar.update())
    except ValueError as error:
        parser.error(str(error))
    print(f"{options.count} scenes in {options.to}")


if __name__ == "__main__":
    main()
