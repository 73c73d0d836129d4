"""Pictures as the transfer protocols see them: whatever the file is, an RGB square of one size."""

import hashlib
from dataclasses import dataclass
from typing import Protocol

import cv2
import numpy as np

from loctex.snapshot import decode_image


class Picture(Protocol):
    """An image file, or what behaves like one."""

    @property
    def name(self) -> str: ...
    def read_bytes(self) -> bytes: ...


@dataclass(frozen=True)
class Crop:
    """The short side is brought to `short` pixels, then the center square of `size` is cut out."""

    short: int = 256
    size: int = 224

    @classmethod
    def of(cls, size: int) -> "Crop":
        """The square of `size` pixels, with the border of 256 around 224."""
        return cls(short=round(size * 256 / 224), size=size)


def fingerprint(picture: Picture) -> str:
    """What stands for the file's content: its SHA-256. ValueError where it cannot be read."""
    return hashlib.sha256(_read(picture)).hexdigest()


def read_square(picture: Picture, crop: Crop) -> np.ndarray:
    """(size, size, 3) uint8 RGB of a file: gray, CMYK, transparent or turned by EXIF.

    ValueError says that it is missing, truncated or no image; whoever asked names the file.
    """
    return center_square(decode_image(_read(picture)), crop)


def _read(picture: Picture) -> bytes:
    try:
        return picture.read_bytes()
    except OSError as error:
        raise ValueError(f"cannot be read ({error.strerror})") from error


def center_square(image: np.ndarray, crop: Crop) -> np.ndarray:
    """(H, W, 3) uint8 -> (size, size, 3): scaled by the short side, the middle cut out."""
    height, width = image.shape[:2]
    scale = crop.short / min(height, width)
    height, width = round(height * scale), round(width * scale)
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    scaled = cv2.resize(image, (width, height), interpolation=how)
    y, x = (height - crop.size) // 2, (width - crop.size) // 2
    return scaled[y : y + crop.size, x : x + crop.size]
