"""The picture of a record: where it lies, and how a snapshot keeps it."""

from pathlib import Path

import cv2
import numpy as np
import simplejpeg

from loctex.records.annotations import SLASH, is_plain_name, long_id, picture_name
from loctex.records.file_names import EXTENSIONS, find_file, find_stem, plain_path
from loctex.records.images import (
    decode_image,
    is_plain_jpeg,
    open_image,
    without_metadata,
)


def find_picture(folder: Path, dataset_id: str, image_id: str) -> Path | None:
    """%012d.jpg for COCO, else id + extension, in this folder; None if there is none.

    An id a%2F001 is 001 in the sub-folder a. Another Unicode form or case of the name is found,
    too. ValueError: the id, or a symlink of that name, leads out of the folder, or it may be two
    pictures.
    """
    if not is_plain_name(image_id):
        raise ValueError(f"image_id: {image_id[:60]!r} is no name of a picture")
    path = _find(folder, dataset_id, image_id)
    if path is not None and not path.resolve().is_relative_to(folder.resolve()):
        raise ValueError(f"image_id: {image_id!r} is a link out of {folder}")
    return path


def _find(folder: Path, dataset_id: str, image_id: str) -> Path | None:
    coco = folder / picture_name(dataset_id, image_id, ".jpg")
    if coco.name != f"{image_id}.jpg" and coco.is_file():
        return coco

    name, names = image_id, find_stem(folder, image_id)
    if not names and SLASH in image_id:
        *above, name = image_id.split(SLASH)
        folder = folder.joinpath(*above)
        names = find_stem(folder, name)

    if len(names) > 1:
        raise ValueError(
            f"image_id: {image_id!r} may be {' or '.join(names)} in {folder}; "
            "name it with its extension, or rename one of them"
        )

    if names:
        return folder / names[0]
    is_whole = name.lower().endswith(EXTENSIONS)
    return find_file(folder, name) if is_whole else None


def name_picture(
    folder: Path, dataset_id: str, image_id: str, file: str | None
) -> tuple[str, Path | None]:
    """The id by which find_picture gives the very picture that labels name, and that picture.

    image_id: the short one, or, where it would be two pictures' (SLASH or an extension in it), the
    only one. file: the picture's path as the labels write it, None where they name no file; its
    folders may begin above ours. ValueError as find_picture.
    """
    if file is None or image_id == long_id(file):
        return image_id, find_picture(folder, dataset_id, image_id)

    pieces = plain_path(file).parts
    for start in range(len(pieces)):
        name = "/".join(pieces[start:])
        path = find_file(folder, name)

        if path is None:
            continue
        for some_id in (image_id, long_id(path.relative_to(folder).as_posix())):
            try:
                its_path = find_picture(folder, dataset_id, some_id)
            except ValueError:
                continue  # the short one is two pictures'
            if its_path == path:
                return some_id, path

    return image_id, find_picture(folder, dataset_id, image_id)


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


def for_snapshot(data: bytes, image: np.ndarray, short_side: int, quality: int) -> bytes:
    """The JPEG that a snapshot keeps of a picture; image: what decode_image makes of its bytes.

    A plain upright JPEG that is small enough keeps its own pixels to the bit, without EXIF, texts
    and thumbnails: a second compression would only lose. Everything else is made anew.
    """
    if is_plain_jpeg(data) and min(image.shape[:2]) <= short_side:
        bare = without_metadata(data)
        try:  # training decodes with a stricter reader than ours
            if simplejpeg.decode_jpeg(bare).shape == image.shape:
                return bare
        except ValueError:
            pass
    return shrink(image, short_side, quality)


def browsable(data: bytes) -> bytes:
    """The picture as browsers show it: a TIFF becomes PNG; AVIF and HEIC, which lost something
    before, JPEG; everything else stays as it is."""
    if data.startswith((b"II*\0", b"MM\0*")):
        form, options = ".png", []
    elif data[4:8] == b"ftyp":
        form, options = ".jpg", [cv2.IMWRITE_JPEG_QUALITY, 95]
    else:
        return data
    pixels = np.ascontiguousarray(decode_image(data)[..., ::-1])
    is_done, encoded = cv2.imencode(form, pixels, options)
    if not is_done:  # a JPEG side has at most 65,535 pixels
        raise ValueError(f"cannot be kept as JPEG: {pixels.shape[1]} x {pixels.shape[0]} pixels")
    return encoded.tobytes()


def extension(data: bytes) -> str:
    """.jpg, .png, ... of an image that decode_image accepted; what its name said may be wrong."""
    try:
        image = open_image(data)
    except ValueError:  # of broken metadata, which decode_image does without
        image = open_image(without_metadata(data))
    kind = (image.format or "").lower()
    return ".jpg" if kind in ("jpeg", "mpo") else f".{kind}"
