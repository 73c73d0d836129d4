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

from loctex import distortions, trace, words
from loctex.distortions import Distortion
from loctex.settings import DataSettings

# Mean and standard deviation of ImageNet's pixels, as torchvision's and timm's weights expect.
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_GRAY = np.array((0.299, 0.587, 0.114))
_TO_GRAY = np.tile(_GRAY, (3, 1))
_TO_YIQ = np.array([_GRAY, (0.596, -0.274, -0.322), (0.211, -0.523, 0.312)])
_FROM_YIQ = np.linalg.inv(_TO_YIQ)


@dataclass(frozen=True)
class Augmentation:
    """What is done to one example. box: x0, y0, x1, y1 in fractions of the image."""

    box: tuple[float, float, float, float] = (0.0, 0.0, 1.0, 1.0)
    is_flipped: bool = False
    color: np.ndarray | None = None  # (3, 3) applied to RGB
    contrast: float = 1.0
    distortion: Distortion | None = None


def draw(
    random: np.random.Generator, settings: DataSettings, width: int, height: int
) -> Augmentation:
    """A random resized crop, a flip, a color change and distortions of an image of this size."""
    strength = settings.color
    brightness, contrast, saturation = random.uniform(1 - strength, 1 + strength, 3)
    return Augmentation(
        box=_crop(random, settings.min_scale, width / height),
        is_flipped=bool(random.random() < settings.flip),
        color=color_matrix(brightness, saturation, random.uniform(-1, 1) * settings.hue),
        contrast=contrast,
        distortion=distortions.draw(random, settings.distort, settings.distort_strength),
    )


def _crop(random: np.random.Generator, min_scale: float, aspect: float) -> tuple[float, ...]:
    """Torchvision's RandomResizedCrop: area in [min_scale, 1], aspect in [3/4, 4/3], ten tries."""
    for _ in range(10):
        area = random.uniform(min_scale, 1.0)
        ratio = math.exp(random.uniform(math.log(3 / 4), math.log(4 / 3)))
        w, h = math.sqrt(area * ratio / aspect), math.sqrt(area / ratio * aspect)
        if w <= 1 and h <= 1:
            x, y = random.uniform(0, 1 - w), random.uniform(0, 1 - h)
            return x, y, x + w, y + h
    return 0.0, 0.0, 1.0, 1.0


def color_matrix(brightness: float, saturation: float, hue: float) -> np.ndarray:
    """(3, 3) matrix of brightness, saturation and a turn of the hue circle by `hue` of a turn."""
    cosine, sine = math.cos(2 * math.pi * hue), math.sin(2 * math.pi * hue)
    rotate = np.array([(1.0, 0.0, 0.0), (0.0, cosine, -sine), (0.0, sine, cosine)])
    hued = _FROM_YIQ @ rotate @ _TO_YIQ
    return brightness * (saturation * hued + (1 - saturation) * _TO_GRAY)


def apply_to_trace(strokes: trace.Strokes, what: Augmentation) -> tuple[np.ndarray, ...]:
    """The trace on the distorted image."""
    moved = trace.crop(strokes, what.box)
    if what.distortion is not None:
        moved = distortions.move(moved, what.distortion)
    return trace.flip(moved) if what.is_flipped else moved


def apply_to_caption(
    caption: str, spans: Sequence[words.Span], what: Augmentation
) -> tuple[str, list[words.Span]]:
    """The caption true of the distorted image, and where its utterances went."""
    return words.mirror(caption, spans) if what.is_flipped else (caption, list(spans))


@lru_cache
@torch.inference_mode(False)
def _constants(device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Mean, deviation and gray of RGB, put on the device once: each time the host would wait."""
    return tuple(torch.tensor(values, dtype=torch.float32, device=device)
                 for values in (MEAN, STD, _GRAY.tolist()))  # fmt: skip


def apply_to_pixels(
    images: Tensor,
    flips: Tensor,
    colors: Tensor | None = None,
    contrasts: Tensor | None = None,
    distorted: Tensor | None = None,
) -> Tensor:
    """(B, H, W, 3) uint8 cropped images -> (B, 3, H, W) normalised floats, on their device.

    flips: (B,) bool. colors: (B, 3, 3); contrasts: (B,), around each image's mean gray; None
    leaves colors alone. distorted: (B, 9), as `distortions` makes it. The result is channels-last
    in memory.
    """
    mean, std, weights = _constants(images.device)
    pixels = images.float() / 255  # (B, H, W, 3)
    if colors is not None:
        gray = torch.einsum("c,bcd,bhwd->b", weights, colors, pixels)
        gray = gray / (pixels.shape[1] * pixels.shape[2])
        matrix = contrasts[:, None, None] * colors
        offset = ((1 - contrasts) * gray)[:, None, None]
        pixels = torch.bmm(pixels.flatten(1, 2), matrix.transpose(1, 2)) + offset
        pixels = pixels.clamp_(0, 1).view(images.shape)
    if distorted is not None:
        pixels = distortions.apply_tones(pixels, distorted)
    pixels = (pixels - mean) / std
    if distorted is not None:
        pixels = distortions.apply_map(pixels, distorted)
    pixels = torch.where(flips[:, None, None, None], pixels.flip(2), pixels)
    return pixels.permute(0, 3, 1, 2)
