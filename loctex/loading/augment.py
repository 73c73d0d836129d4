"""Augmentation that moves image, trace and caption together.

Parameters are drawn per example; pure functions then apply them: points and words on the CPU,
pixels of the whole batch on the device.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from loctex.loading import distortions
from loctex.loading.distortions import Distortion
from loctex.records import trace, words
from loctex.settings import DataSettings

# Mean and standard deviation of ImageNet's pixels, as torchvision's and timm's weights expect.
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_GRAY = np.array((0.299, 0.587, 0.114))
_TO_GRAY = np.tile(_GRAY, (3, 1))
_TO_YIQ = np.array([_GRAY, (0.596, -0.274, -0.322), (0.211, -0.523, 0.312)])
_FROM_YIQ = np.linalg.inv(_TO_YIQ)
_ROTATION = (
    _FROM_YIQ
    @ [np.diag([1, 0, 0]), np.diag([0, 1, 1]), [[0, 0, 0], [0, 0, -1], [0, 1, 0]]]
    @ _TO_YIQ
)
TRIES = 10  # to find a crop that fits
DRAWS = 48  # random numbers for an example: 40 for the crop, 6 for the rest, 2 for others


@dataclass(frozen=True)
class Augmentation:
    """What is done to one example. box: x0, y0, x1, y1 in fractions of the image."""

    box: tuple[float, float, float, float] = (0.0, 0.0, 1.0, 1.0)
    is_flipped: bool = False
    color: np.ndarray | None = None  # (3, 3) applied to RGB
    contrast: float = 1.0
    distortion: Distortion | None = None


def uniforms(seed: int, epoch: int, first: int, count: int) -> np.ndarray:
    """(count, DRAWS) in 0..1 for the places `first`, `first` + 1, ... of an epoch: each row is a
    function of (seed, epoch, place), whichever rows are asked for together."""
    key = np.random.SeedSequence((seed, epoch)).generate_state(2, np.uint64)
    bits = np.random.Philox(key=key).advance(first * DRAWS // 4)  # which gives four at a time
    return np.random.Generator(bits).random((count, DRAWS))


def draw(
    random: np.ndarray, settings: DataSettings, sizes: Sequence[tuple[int, int]]
) -> list[Augmentation]:
    """A random resized crop, a flip, a color change and distortions of each of B images.

    random: (B, DRAWS) in 0..1. sizes: width and height of each.
    """
    width, height = np.array(sizes, dtype=np.float64).T
    boxes = _crops(random[:, :40].reshape(-1, TRIES, 4), settings.min_scale, width / height)

    around = 2 * random[:, 40:44] - 1
    brightness, contrast, saturation = 1 + settings.color * around[:, :3].T

    draws = zip(
        map(tuple, boxes.tolist()),
        (random[:, 44] < settings.flip).tolist(),
        color_matrix(brightness, saturation, settings.hue * around[:, 3]),
        contrast.tolist(),
        _distortions(random[:, 45], settings),
        strict=True,
    )

    return [Augmentation(*row) for row in draws]


def _distortions(random: np.ndarray, settings: DataSettings) -> list[Distortion | None]:
    if not settings.distort:
        return [None] * len(random)
    generators = map(np.random.default_rng, (random * 2**53).astype(np.int64).tolist())
    strength = settings.distort_strength
    return [distortions.draw(generator, settings.distort, strength) for generator in generators]


def _crops(random: np.ndarray, min_scale: float, aspect: np.ndarray) -> np.ndarray:
    """(B, TRIES, 4) in 0..1, (B,) width / height -> (B, 4) boxes in fractions.

    Torchvision's RandomResizedCrop: area in [min_scale, 1], aspect in [3/4, 4/3], ten tries.
    """
    area = min_scale + (1 - min_scale) * random[..., 0]
    ratio = np.exp((2 * random[..., 1] - 1) * math.log(4 / 3))
    w, h = np.sqrt(area * ratio / aspect[:, None]), np.sqrt(area / ratio * aspect[:, None])
    fits = (w <= 1) & (h <= 1)
    tried = np.arange(len(random)), fits.argmax(axis=1)  # the first that fits
    w, h, x, y = w[tried], h[tried], random[..., 2][tried], random[..., 3][tried]
    x, y = x * (1 - w), y * (1 - h)
    boxes = np.stack((x, y, x + w, y + h), axis=1)
    return np.where(fits[tried][:, None], boxes, (0.0, 0.0, 1.0, 1.0))


def color_matrix(brightness: np.ndarray, saturation: np.ndarray, hue: np.ndarray) -> np.ndarray:
    """(...,) each -> (..., 3, 3): brightness, saturation, and the hue circle turned by `hue` of a
    turn."""
    angle = 2 * np.pi * np.asarray(hue)[..., None, None]
    # The turn leaves the first axis alone: one + cosine * plane + sine * quarter turn.
    hued = _ROTATION[0] + np.cos(angle) * _ROTATION[1] + np.sin(angle) * _ROTATION[2]
    brightness, saturation = (np.asarray(v)[..., None, None] for v in (brightness, saturation))
    return brightness * (saturation * hued + (1 - saturation) * _TO_GRAY)


def affine(what: Augmentation) -> np.ndarray:
    """(2, 3) map of points of the image to where they are seen: cropped, distorted, mirrored."""
    x0, y0, x1, y1 = what.box
    across, down = 1 / (x1 - x0), 1 / (y1 - y0)
    result = np.array([[across, 0.0, -x0 * across], [0.0, down, -y0 * down]])
    if what.distortion is not None:
        result = distortions.after(what.distortion, result)
    if what.is_flipped:
        result[0] = (0.0, 0.0, 1.0) - result[0]
    return result


def apply_to_trace(strokes: trace.Strokes, what: Augmentation) -> tuple[np.ndarray, ...]:
    """The trace on the distorted image."""
    return trace.move(strokes, affine(what))


def apply_to_caption(
    caption: str, spans: Sequence[words.Span], what: Augmentation
) -> tuple[str, list[words.Span]]:
    """The caption true of the distorted image, and where its utterances went."""
    return words.mirror(caption, spans) if what.is_flipped else (caption, list(spans))


@lru_cache
@torch.inference_mode(False)
def _constants(
    device: torch.device, mean: tuple[float, ...], std: tuple[float, ...]
) -> tuple[Tensor, Tensor, Tensor]:
    """Mean, deviation and gray of RGB, put on the device once: each time the host would wait."""
    center, deviation, gray = (
        torch.tensor(values, dtype=torch.float32, device=device)
        for values in (mean, std, _GRAY.tolist())
    )
    return center, deviation, gray


def apply_to_pixels(
    images: Tensor,
    flips: Tensor,
    colors: Tensor | None = None,
    contrasts: Tensor | None = None,
    distorted: Tensor | None = None,
    *,
    mean: Sequence[float] = MEAN,
    std: Sequence[float] = STD,
) -> Tensor:
    """(B, H, W, 3) uint8 cropped images -> (B, 3, H, W) normalised floats, on their device.

    flips: (B,) bool. colors: (B, 3, 3); contrasts: (B,), around each image's mean gray; None
    leaves colors alone. distorted: (B, 9), as `distortions` makes it. mean, std: of RGB in 0..1, as
    the backbone wants its pixels. The result is channels-last in memory.
    """
    center, deviation, weights = _constants(images.device, tuple(mean), tuple(std))
    pixels = images.float() / 255  # (B, H, W, 3)

    if colors is not None and contrasts is not None:
        gray = torch.einsum("c,bcd,bhwd->b", weights, colors, pixels)
        gray = gray / (pixels.shape[1] * pixels.shape[2])
        matrix = contrasts[:, None, None] * colors
        offset = ((1 - contrasts) * gray)[:, None, None]
        pixels = torch.bmm(pixels.flatten(1, 2), matrix.transpose(1, 2)) + offset
        pixels = pixels.clamp_(0, 1).view(images.shape)

    if distorted is not None:
        pixels = distortions.apply_tones(pixels, distorted)

    pixels = (pixels - center) / deviation
    if distorted is not None:
        pixels = distortions.apply_map(pixels, distorted)

    pixels = torch.where(flips[:, None, None, None], pixels.flip(2), pixels)
    return pixels.permute(0, 3, 1, 2)
