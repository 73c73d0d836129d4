"""The pictures of rendered scenes: textured grounds and shapes with exact masks. Ours.

Colors are RGB 0..255. Whatever is drawn at random is drawn from the generator that is handed in.
"""

from __future__ import annotations

import cv2
import numpy as np

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
SHAPES = ("circle", "square", "triangle", "star", "ring", "cross", "heart", "diamond")


def draw_size(rng: np.random.Generator) -> tuple[int, int]:
    """Landscape or portrait, 192 to 256 pixels on the long side, up to 4 : 3."""
    long = int(rng.integers(208, 257))
    short = int(long * rng.uniform(0.75, 1))
    return (long, short) if rng.random() < 0.6 else (short, long)


def distance(first: tuple[int, int, int], second: tuple[int, int, int]) -> float:
    """How different two RGB colors look (CIE Lab, about 2 is just visible)."""
    lab = cv2.cvtColor(np.array([[first, second]], np.float32) / 255, cv2.COLOR_RGB2LAB)[0]
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
    flat = (np.array(color) + rng.uniform(-6, 6, 3)).astype(np.float32)
    return flat + (strength * shade + grain).astype(np.float32)[..., None]


def places(
    count: int, width: int, height: int, rng: np.random.Generator
) -> list[tuple[tuple[float, float], float]]:
    """Up to `count` (center, side) in pixels, at least two, whose squares barely overlap.

    A side is at least .2 of the image's longer side, at most .4 of its shorter one.
    """
    squares: list[tuple[tuple[float, float], float]] = []
    for attempt in range(2000):
        if len(squares) == count or (attempt > 100 and len(squares) >= 2):
            break

        side = rng.uniform(0.2 * max(width, height), 0.4 * min(width, height))
        margin = side / 2 + 2
        x, y = rng.uniform(margin, width - margin), rng.uniform(margin, height - margin)
        if all(max(abs(x - a), abs(y - b)) > 0.5 * (side + size) for (a, b), size in squares):
            squares.append(((x, y), side))

    return squares


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
    window = image[y0 : int(center[1] + reach), x0 : int(center[0] + reach)]
    near = alpha[y0 : y0 + window.shape[0], x0 : x0 + window.shape[1]]

    cover = near[..., None] / np.float32(255)
    shadow = np.zeros_like(cover)
    shadow[3:, 2:] = cover[:-3, :-2]
    window *= 1 - 0.45 * cv2.GaussianBlur(shadow, (0, 0), 3)[..., None]

    y, x = np.ogrid[: window.shape[0], : window.shape[1]]
    light = 14 * ((center[0] - x0 - x) + (center[1] - y0 - y)) / side  # from the top left
    grain = 3 * rng.standard_normal(near.shape, np.float32)
    rim = 30 * (cv2.erode(near, np.ones((3, 3), np.uint8)) < 128)
    body = np.array(color, np.float32) + rng.uniform(-8, 8, 3) + (light + grain - rim)[..., None]
    window += cover * (body.astype(np.float32) - window)

    return alpha > 127
