"""Random distortions after RandAugment (Cubuk et al., 2020) that carry the trace along.

Operations are drawn per example and joined into one affine map and three tone values, so that a
batch of any mixture takes one pass on the device. Brightness, contrast and saturation, the rest of
RandAugment's list, are `data.color`.
"""

import math
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

TURN, SHEAR, SHIFT = math.radians(30), 0.3, 0.3  # largest, as RandAugment's
OPERATIONS = ("turn", "shear_x", "shear_y", "shift_x", "shift_y", "solarize", "posterize", "blur")


@dataclass(frozen=True)
class Distortion:
    """matrix: (2, 3) moves points x, y in fractions of the square that the model sees.

    solarize: brightness from which tones are inverted. levels: tones left in each channel.
    sharpness: share of a blurred copy that is mixed in, or taken off where negative.
    """

    matrix: np.ndarray = field(default_factory=lambda: np.eye(2, 3))
    solarize: float = 2.0
    levels: float = 256.0
    sharpness: float = 0.0

    def tensor(self) -> Tensor:
        """(9,) float32: the inverse map as `F.affine_grid` takes it, then the three tones."""
        inverse = np.linalg.inv(self.matrix[:, :2])
        moved = inverse @ (1 - 2 * self.matrix[:, 2]) - 1
        theta = np.column_stack((inverse, moved)).ravel()
        return torch.tensor([*theta, self.solarize, self.levels, self.sharpness]).float()


def draw(random: np.random.Generator, count: int, strength: float) -> Distortion | None:
    """`count` operations, each at a random degree up to `strength` of the largest; None of none."""
    if count == 0:
        return None

    matrix, tones = np.eye(3), {}
    for name in random.choice(OPERATIONS, count):
        degree = random.uniform(-strength, strength)
        if name == "solarize":
            tones["solarize"] = 1 - abs(degree)
        elif name == "posterize":
            tones["levels"] = 2.0 ** (8 - round(4 * abs(degree)))
        elif name == "blur":
            tones["sharpness"] = degree
        else:
            matrix = _about_center(name, degree) @ matrix

    return Distortion(matrix[:2], **tones)


def _about_center(name: str, degree: float) -> np.ndarray:
    """(3, 3) map of one operation, which leaves the middle of the image where it is."""
    change = np.eye(3)
    if name == "turn":
        cos, sin = math.cos(TURN * degree), math.sin(TURN * degree)
        change[:2, :2] = [[cos, -sin], [sin, cos]]
    elif name.startswith("shear"):
        change[:2, :2] += (
            SHEAR * degree * np.array([[0, 1], [0, 0]] if name[-1] == "x" else [[0, 0], [1, 0]])
        )
    else:
        change["xy".index(name[-1]), 2] = SHIFT * degree

    center = np.eye(3)
    center[:2, 2] = 0.5
    return center @ change @ np.linalg.inv(center)


def after(what: Distortion, matrix: np.ndarray) -> np.ndarray:
    """(2, 3) map: `matrix`, another such map, then the distortion's."""
    result = what.matrix[:, :2] @ matrix
    result[:, 2] += what.matrix[:, 2]
    return result


def apply_tones(pixels: Tensor, values: Tensor) -> Tensor:
    """(B, H, W, 3) in 0..1 and (B, 9) of `Distortion.tensor` -> the same with other tones."""
    solarize, levels, sharpness = (values[:, k, None, None, None] for k in (6, 7, 8))
    pixels = torch.where(pixels >= solarize, 1 - pixels, pixels)
    pixels = torch.where(levels < 256, (pixels * levels).floor() / (levels - 1), pixels)
    blurred = F.avg_pool2d(pixels.permute(0, 3, 1, 2), 3, 1, 1, count_include_pad=False)
    return torch.lerp(pixels, blurred.permute(0, 2, 3, 1), sharpness).clamp(0, 1)


def apply_map(pixels: Tensor, values: Tensor) -> Tensor:
    """(B, H, W, 3) normalised and (B, 9) -> moved; what comes from outside is the mean color."""
    images = pixels.permute(0, 3, 1, 2)
    grid = F.affine_grid(values[:, :6].view(-1, 2, 3), list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, align_corners=False).permute(0, 2, 3, 1)
