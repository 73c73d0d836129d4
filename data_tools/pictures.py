"""The picture of a record: where it lies, and how a snapshot keeps it."""

import io
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from loctex.records.annotations import is_plain_name, picture_name
from loctex.records.images import FORMATS

EXTENSIONS = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp")


def find_picture(folder: Path, dataset_id: str, image_id: str) -> Path | None:
    """%012d.jpg for COCO, else id + extension, in this folder; None if there is none.

    ValueError: the id, or a symlink of that name, leads out of the folder.
    """
    if not is_plain_name(image_id):
        raise ValueError(f"image_id: {image_id[:60]!r} is no name of a picture")
    suffixes = [s for suffix in EXTENSIONS for s in (suffix, suffix.upper())]
    names = [picture_name(dataset_id, image_id, ".jpg"), *(image_id + s for s in suffixes)]
    if image_id.lower().endswith(EXTENSIONS):
        names.append(image_id)
    path = next((folder / name for name in names if (folder / name).is_file()), None)
    if path is not None and not path.resolve().is_relative_to(folder.resolve()):
        raise ValueError(f"image_id: {image_id!r} is a link out of {folder}")
    return path


def shrink(image: np.ndarray, short_side: int, quality: int) -> bytes:
    """A JPEG of an (H, W, 3) uint8 RGB picture, scaled to at most short_side pixels there.

    ValueError: a side is too long for JPEG.
    """
    height, width = image.shape[:2]
    scale = short_side / min(height, width)
    if scale < 1:
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    options = [cv2.IMWRITE_JPEG_QUALITY, quality]
    is_done, encoded = cv2.imencode(".jpg", np.ascontiguousarray(image[..., ::-1]), options)
    if not is_done:  # a JPEG side has at most 65,535 pixels
        raise ValueError(f"cannot be kept as JPEG: {width} x {height} pixels")
    return encoded.tobytes()


def extension(data: bytes) -> str:
    """.jpg, .png, ... of an image that decode_image accepted; what its name said may be wrong."""
    with Image.open(io.BytesIO(data), formats=FORMATS) as image:
        kind = (image.format or "").lower()
    return ".jpg" if kind in ("jpeg", "mpo") else f".{kind}"
