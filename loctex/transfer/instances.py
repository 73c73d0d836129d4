"""Boxes and masks of images as COCO files give them, checked once, ready to train a detector on.

    {"images": [{"id", "file_name", "width", "height"}], "categories": [{"id", "name"}],
     "annotations": [{"id", "image_id", "category_id", "bbox": [x, y, width, height],
                      "segmentation": polygons or run lengths, "iscrowd"}]}

Where no annotation has a segmentation, boxes alone are learned. A crowd is never trained on, and
pycocotools counts it neither for nor against a detection.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pycocotools import mask as rle
from torch import Tensor

from loctex.records.annotations import annotation_problem, plain_id
from loctex.records.file_names import find_file
from loctex.records.images import Frame, decode_image, read_frame
from loctex.records.text import read_json
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
            reasons = [f"{what}: {why}" for what, why in self.left_out.items()]
            raise ValueError(
                f"{self.file}: no image has an annotation that is not a crowd"
                + (f"; left out: {listing(reasons)}" if reasons else "")
            )
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
        for item in sorted(content["categories"], key=lambda item: item["id"])
    }
    left_out: dict[str, str] = {}
    sizes: dict[int, tuple[int, int]] = {}
    for item in content["images"]:
        if _is_sized(item):
            sizes[item["id"]] = item["width"], item["height"]
        else:
            left_out[f"image {item['file_name']}"] = (
                f"{file.name} gives no width and height for it; write its picture's into the file"
            )

    usable: list[dict[str, Any]] = []
    annotations_of: dict[int, list[dict[str, Any]]] = {key: [] for key in sizes}
    known_images = {item["id"] for item in content["images"]}
    for item in content["annotations"]:
        where = f"{file}: annotation {item['id']}"
        if item.get("image_id") not in known_images:
            raise ValueError(f"{where} is of image {item.get('image_id')!r}, which is not there")
        if item.get("category_id") not in categories:
            raise ValueError(f"{where} is of category {item.get('category_id')!r}: not there")
        if item["image_id"] not in sizes:
            continue
        why = annotation_problem(item, sizes[item["image_id"]])
        if why is not None:
            left_out[f"annotation {item['id']}"] = why
            continue
        usable.append(item)
        if not item.get("iscrowd", 0):
            annotations_of[item["image_id"]].append(item)

    annotations = [item for items in annotations_of.values() for item in items]
    without = [item["id"] for item in annotations if not item.get("segmentation")]
    if without and len(without) < len(annotations):
        raise ValueError(
            f"{file}: {len(without)} of {len(annotations)} annotations have no segmentation, as "
            f"{without[0]}; give each one, or none of them to learn boxes alone"
        )
    photos = [
        Photo(item["id"], _place(images, item["file_name"]), *sizes[item["id"]], tuple(things))
        for item in content["images"]
        if (things := annotations_of.get(item["id"])) is not None
    ]
    wrong = _unusable_photos(photos, skip_damaged)
    if wrong and not skip_damaged:
        raise ValueError(
            f"{len(wrong)} image(s) of {file} cannot be used: {listing(list(wrong.values()))}; "
            "mend them, or leave them out with --skip-damaged"
        )
    left_out |= {f"image {photo.file.name}": why for photo, why in wrong.items()}
    photos = [photo for photo in photos if photo not in wrong]
    if not photos:
        reasons = [f"{what}: {why}" for what, why in left_out.items()]
        raise ValueError(f"{file} has no image that can be used: {listing(reasons)}")
    content = dict(content) | {"annotations": usable}
    has_masks = not without and bool(annotations)
    return Instances(file, categories, tuple(photos), has_masks, content, left_out)


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


def _place(images: Path, name: str) -> Path:
    """Where the picture lies, its name perhaps written as another system does."""
    return find_file(images, name) or images / name


def _is_sized(image: Mapping) -> bool:
    sides = image.get("width"), image.get("height")
    return all(type(side) is int and 1 <= side <= 65_535 for side in sides)


def _unusable_photos(photos: Sequence[Photo], decodes: bool) -> dict[Photo, str]:
    """Why images cannot be used: missing, of another size, or, where all are decoded, damaged."""

    def problem(photo: Photo) -> str | None:
        if not photo.file.is_file():
            return f"{photo.file.name}: is not there"
        try:
            if decodes:
                pixels(photo)
            _check_size(photo, read_frame(photo.file))
        except (ValueError, OSError) as error:
            return str(error)
        return None

    with ThreadPoolExecutor(THREADS) as pool:
        problems = zip(photos, pool.map(problem, photos), strict=True)
        return {photo: why for photo, why in problems if why is not None}


def _check_size(photo: Photo, frame: Frame) -> None:
    """ValueError where the labels are not of the picture as it is seen, or that cannot be known."""
    width, height = frame.size
    if (width, height) != (photo.width, photo.height):
        raise ValueError(
            f"{photo.file.name}: is {width} x {height} pixels, its labels are for "
            f"{photo.width} x {photo.height}; is it scaled, or turned by EXIF?"
        )
    if frame.is_same_size_turned:
        raise ValueError(
            f"{photo.file.name}: is turned by EXIF, and of {width} x {height} pixels either way, "
            "so nobody can tell whether its labels were turned too; save it without EXIF"
        )


def _corners(bbox: Sequence[float], photo: Photo) -> tuple[float, ...]:
    """x, y, width, height -> x0, y0, x1, y1 inside the image; pixel k spans k to k + 1."""
    x, y, width, height = bbox
    sides = zip((x, y, x + width, y + height), (photo.width, photo.height) * 2, strict=True)
    return tuple(min(max(float(value), 0.0), float(side)) for value, side in sides)


def _load(file: Path) -> dict[str, Any]:
    """The file, its ids as what they mean; ValueError where a list or a key of it is missing."""
    content = read_json(file)
    if not isinstance(content, Mapping):
        raise ValueError(f"{file} is not a COCO file: it must be an object")
    lists = {
        key: _items(file, content, key, needed)
        for key, needed in (("categories", "name"), ("images", "width"), ("annotations", "bbox"))
    }

    # of two images of one picture, each would teach that the other's things are background
    image_of: dict[str, int] = {}
    for item in lists["images"]:
        name = item.get("file_name")
        if not isinstance(name, str) or not name:
            raise ValueError(f"{file}: image {item['id']} needs file_name, width and height")
        if name in image_of:
            raise ValueError(
                f"{file}: images {image_of[name]} and {item['id']} are both {name}; "
                "give each picture one image"
            )
        image_of[name] = item["id"]
    return dict(content) | lists


def _items(file: Path, content: Mapping, key: str, needed: str) -> list[dict[str, Any]]:
    """A list of the file, whose items have an id of their own and what is needed."""
    values = content.get(key)
    if not isinstance(values, list) or not values:
        raise ValueError(f"{file} is not a COCO file: it has no {key}")
    items = []
    for i, value in enumerate(values):
        is_object = isinstance(value, Mapping) and needed in value
        item = _with_plain_ids(value) if is_object else {}
        if type(item.get("id")) is not int:
            raise ValueError(f"{file}: {key}[{i}] needs an id (a whole number) and {needed}")
        items.append(item)
    twice = [number for number, count in Counter(i["id"] for i in items).items() if count > 1]
    if twice and key == "annotations":  # nothing else in the file speaks of these ids
        return [item | {"id": number} for number, item in enumerate(items, 1)]
    if twice:
        raise ValueError(f"{file}: {key} has the id {twice[0]} twice; give each one of its own")
    return items


def _with_plain_ids(item: Mapping) -> dict[str, Any]:
    keys = ("id", "image_id", "category_id", "width", "height")  # sides are whole numbers, too
    return dict(item) | {key: plain_id(item[key]) for key in keys if key in item}
