"""Boxes and masks of images as COCO files give them, checked once, ready to train a detector on.

    {"images": [{"id", "file_name", "width", "height"}], "categories": [{"id", "name"}],
     "annotations": [{"id", "image_id", "category_id", "bbox": [x, y, width, height],
                      "segmentation": polygons or run lengths, "iscrowd"}]}

Where no annotation has a segmentation, boxes alone are learned. A crowd is never trained on, and
pycocotools counts it neither for nor against a detection.
"""

import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pycocotools import mask as rle
from torch import Tensor

from loctex.records.images import decode_image
from loctex.transfer.labels import listing

THREADS = 4  # that decode where every image is looked at


@dataclass(frozen=True, eq=False)
class Photo:
    """One image; annotations: of its things, crowds left out, as the file has them."""

    id: int
    file: Path
    width: int
    height: int
    annotations: tuple[Mapping[str, Any], ...]


@dataclass(frozen=True, eq=False)
class Instances:
    """A COCO file. categories: id -> name; label k >= 1 is the k-th id, label 0 is background."""

    file: Path
    categories: Mapping[int, str]
    photos: tuple[Photo, ...]
    has_masks: bool
    content: Mapping[str, Any]  # the file itself, which detections are scored against
    left_out: Mapping[str, str]  # "image NAME" or "annotation ID" -> why it does not count

    @cached_property
    def label_of(self) -> dict[int, int]:
        """Category id -> label."""
        return {key: label for label, key in enumerate(self.categories, 1)}

    def with_things(self) -> "Instances":
        """Only the images that show something: the others teach a detector's second stage nothing.

        ValueError where none does.
        """
        photos = tuple(photo for photo in self.photos if photo.annotations)
        if not photos:
            raise ValueError(f"{self.file}: no image has an annotation that is not a crowd")
        return replace(self, photos=photos)

    def share(self, share: float, seed: int) -> "Instances":
        """A part of the images; of one seed, a smaller share lies inside every larger one."""
        photos = sorted(self.photos, key=lambda photo: photo.id)
        order = np.random.default_rng(seed).permutation(len(photos))
        count = max(1, round(share * len(photos)))
        return replace(self, photos=tuple(photos[i] for i in sorted(order[:count])))

    def target(self, photo: Photo) -> dict[str, Tensor]:
        """boxes (n, 4) x0, y0, x1, y1 in pixels, labels (n,), masks (n, H, W) uint8 if known."""
        boxes = np.array([_corners(a["bbox"], photo) for a in photo.annotations])
        target = {
            "boxes": torch.from_numpy(boxes.reshape(-1, 4).astype(np.float32)),
            "labels": torch.tensor(
                [self.label_of[a["category_id"]] for a in photo.annotations], dtype=torch.int64
            ),
        }
        if self.has_masks:
            masks = [outline(a["segmentation"], photo) for a in photo.annotations]
            shape = (0, photo.height, photo.width)
            target["masks"] = torch.from_numpy(np.stack(masks) if masks else np.zeros(shape, "u1"))
        return target


def read(file: Path, images: Path, *, skip_damaged: bool = False) -> Instances:
    """The instances of a COCO file whose images lie in a folder.

    skip_damaged: leave out, by name, what is missing or cannot be decoded; every image is decoded
    once to know. ValueError says what is wrong, and where.
    """
    content = _load(file)
    categories = {
        item["id"]: str(item["name"])
        for item in sorted(_items(file, content, "categories", "name"), key=lambda item: item["id"])
    }
    left_out: dict[str, str] = {}
    annotations_of: dict[int, list] = {
        item["id"]: [] for item in _items(file, content, "images", "width")
    }
    sizes = {item["id"]: item for item in content["images"]}
    for item in _items(file, content, "annotations", "bbox"):
        where = f"{file}: annotation {item['id']}"
        if item.get("image_id") not in annotations_of:
            raise ValueError(f"{where} is of image {item.get('image_id')!r}, which is not there")
        if item.get("category_id") not in categories:
            raise ValueError(f"{where} is of category {item.get('category_id')!r}: not there")
        why = _unusable_box(item["bbox"], sizes[item["image_id"]])
        if why is not None:
            left_out[f"annotation {item['id']}"] = why
        elif not item.get("iscrowd", 0):
            annotations_of[item["image_id"]].append(item)
    annotations = [item for items in annotations_of.values() for item in items]
    without = [item["id"] for item in annotations if not item.get("segmentation")]
    if without and len(without) < len(annotations):
        raise ValueError(
            f"{file}: {len(without)} of {len(annotations)} annotations have no segmentation, as "
            f"{without[0]}; give each one, or none of them to learn boxes alone"
        )
    photos = [_photo(file, item, images, annotations_of[item["id"]]) for item in content["images"]]
    wrong = _unreadable(photos, skip_damaged)
    if wrong and not skip_damaged:
        raise ValueError(
            f"{len(wrong)} image(s) of {file} cannot be used: {listing(list(wrong.values()))}; "
            "mend them, or leave them out with --skip-damaged"
        )
    left_out |= {f"image {photo.file.name}": why for photo, why in wrong.items()}
    photos = [photo for photo in photos if photo not in wrong]
    if not photos:
        raise ValueError(f"{file} has no image that can be used")
    return Instances(
        file, categories, tuple(photos), not without and bool(annotations), content, left_out
    )


def pixels(photo: Photo) -> np.ndarray:
    """(H, W, 3) uint8 RGB; ValueError names a file that is missing, damaged or of another size."""
    try:
        image = decode_image(photo.file)
    except OSError as error:
        raise ValueError(f"{photo.file.name}: cannot be read ({error.strerror})") from error
    height, width = image.shape[:2]
    if (width, height) != (photo.width, photo.height):
        raise ValueError(
            f"{photo.file.name}: is {width} x {height} pixels, its labels are for "
            f"{photo.width} x {photo.height}; is it scaled, or turned by EXIF?"
        )
    return image


def outline(value: Any, photo: Photo) -> np.ndarray:
    """(H, W) uint8 of polygons or run lengths. ValueError where they are not of this image."""
    size = [photo.height, photo.width]
    if isinstance(value, Mapping):
        if list(value.get("size", ())) != size:
            rle_size = value.get("size")
            raise ValueError(f"{photo.file.name}: a mask is of size {rle_size}, not {size}")
        coded = rle.frPyObjects(value, *size) if isinstance(value["counts"], list) else value
        return rle.decode(coded)
    return rle.decode(rle.merge(rle.frPyObjects([list(polygon) for polygon in value], *size)))


def _photo(file: Path, item: Mapping, images: Path, annotations: Sequence[Mapping]) -> Photo:
    name: Any = item.get("file_name")
    width: Any = item.get("width")
    height: Any = item.get("height")
    if not isinstance(name, str) or not all(type(n) is int and n > 0 for n in (width, height)):
        raise ValueError(f"{file}: image {item['id']} needs file_name, width and height")
    return Photo(item["id"], images / name, width, height, tuple(annotations))


def _unreadable(photos: Sequence[Photo], decodes: bool) -> dict[Photo, str]:
    """Why images cannot be used: missing, or, where all are decoded, damaged."""

    def problem(photo: Photo) -> str | None:
        if not decodes:
            return None if photo.file.is_file() else f"{photo.file.name}: is not there"
        try:
            pixels(photo)
        except ValueError as error:
            return str(error)
        return None

    with ThreadPoolExecutor(THREADS) as pool:
        problems = zip(photos, pool.map(problem, photos), strict=True)
        return {photo: why for photo, why in problems if why is not None}


def _corners(bbox: Sequence[float], photo: Photo | Mapping) -> tuple[float, ...]:
    """x, y, width, height -> x0, y0, x1, y1 inside the image; pixel k spans k to k + 1."""
    x, y, width, height = bbox
    size = (
        (photo["width"], photo["height"])
        if isinstance(photo, Mapping)
        else (photo.width, photo.height)
    )
    sides = zip((x, y, x + width, y + height), size * 2, strict=True)
    return tuple(min(max(float(value), 0.0), float(side)) for value, side in sides)


def _unusable_box(bbox: Any, image: Mapping) -> str | None:
    """Why a box cannot be learned; None where it can."""
    is_list = isinstance(bbox, list) and len(bbox) == 4
    if not is_list or not all(isinstance(n, int | float) and math.isfinite(n) for n in bbox):
        return f"its bbox is not four numbers: {bbox!r:.60}"
    x0, y0, x1, y1 = _corners(bbox, image)
    return None if x1 > x0 and y1 > y0 else f"its bbox has no area inside the image: {bbox}"


def _load(file: Path) -> Mapping[str, Any]:
    try:
        content = json.loads(file.read_bytes())
    except OSError as error:
        raise ValueError(f"{file} cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise ValueError(f"{file} is not JSON ({error})") from error
    if not isinstance(content, Mapping):
        raise ValueError(f"{file} is not a COCO file: it must be an object")
    return content


def _items(file: Path, content: Mapping, key: str, needed: str) -> Iterable[Mapping]:
    """A list of the file, whose items have an id of their own and what is needed."""
    items = content.get(key)
    if not isinstance(items, list) or not items:
        raise ValueError(f"{file} is not a COCO file: it has no {key}")
    for i, item in enumerate(items):
        if not isinstance(item, Mapping) or type(item.get("id")) is not int or needed not in item:
            raise ValueError(f"{file}: {key}[{i}] needs an id (a whole number) and {needed}")
    twice = [key for key, count in Counter(item["id"] for item in items).items() if count > 1]
    if twice:
        raise ValueError(f"{file}: {key} has the id {twice[0]} twice")
    return items
