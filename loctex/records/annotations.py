"""Labeled instances of images: COCO files, Pascal VOC's XML, and a plain JSON of boxes.

COCO   {"images": [...], "annotations": [...], "categories": [...]}, boxes and masks
    XML    a folder of Pascal VOC annotations; ImageSets/Main beside it gives the split
    boxes  {"ID": {"size": [w, h], "split": "train", "objects": [{"name": "dog",
           "bbox": [x0, y0, x1, y1]}]}}, pixels from 1 as in Pascal VOC; "split" may be missing
"""

from __future__ import annotations

import json
import math
import re
from array import array
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
from pycocotools import mask as rle

Box = tuple[float, float, float, float]


@dataclass(frozen=True, eq=False)
class Instance:
    """One thing: its category's name and its box x0, y0, x1, y1 in fractions, inside 0..1.

    outline: as COCO writes it, polygons or run lengths in pixels; None where only the box is known.
    is_crowd: many things of the category in one outline.
    """

    name: str
    box: Box
    outline: Sequence | Mapping | None = None
    is_crowd: bool = False

    def encoded(self, height: int, width: int) -> dict[str, Any]:
        """The mask in pycocotools' run lengths; of the box where there is no outline."""
        if isinstance(self.outline, Mapping):
            if isinstance(self.outline["counts"], list):
                return rle.frPyObjects(dict(self.outline), height, width)
            rle.decode(dict(self.outline))  # ValueError if it does not fill the image
            return dict(self.outline)
        if self.outline is not None:
            polygons = [list(polygon) for polygon in self.outline]
            return rle.merge(rle.frPyObjects(polygons, height, width))
        x0, y0, x1, y1 = self.box
        pixels = np.array([[x0 * width, y0 * height, (x1 - x0) * width, (y1 - y0) * height]])
        return rle.frPyObjects(pixels, height, width)[0]


@dataclass(frozen=True, eq=False)
class ImageAnnotations:
    """All that is labeled in one image of (width, height) pixels."""

    dataset_id: str
    image_id: str
    width: int
    height: int
    instances: tuple[Instance, ...]


def read(path: Path, name: str | None = None) -> Iterator[ImageAnnotations]:
    """The images of a COCO file, a folder of XML or a JSON of boxes, in the order of the file.

    dataset_id becomes NAME_SPLIT_simulated; `name` is "coco", "voc" or the folder's name unless
    given. ValueError names the file and the field that is wrong.
    """
    if path.is_dir():
        return _read_xml(path, name or "voc")
    content = load(path)
    if isinstance(content, Mapping) and "annotations" in content:
        return _read_coco(path, content, name or "coco")
    return _read_boxes(path, content, name or path.resolve().parent.name)


def dataset_id(name: str, split: str | None, *marks: str) -> str:
    """coco, train, simulated -> coco_train_simulated: the split stays readable."""
    return "_".join(piece for piece in (name, split, *marks) if piece)


def image_id(name: str, image: Mapping) -> str:
    """COCO's number where the picture is named by it, 000000000139.jpg; else the picture's name."""
    file, number = Path(str(image["file_name"])), str(image["id"])
    return number if picture_name(name, number, file.suffix) == file.name else file.stem


def load(path: Path) -> Any:
    """The JSON of a file. Polygons become arrays at once: a tenth of the memory of lists."""
    try:
        return json.loads(path.read_text(encoding="utf-8"), object_hook=_compact)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: is not JSON: {error}") from error


def _compact(record: dict[str, Any]) -> dict[str, Any]:
    polygons = record.get("segmentation")
    if isinstance(polygons, list):
        try:
            record["segmentation"] = [array("f", polygon) for polygon in polygons]
        except (TypeError, OverflowError):
            pass  # _outline says what is wrong, and where
    return record


# --- COCO


def _read_coco(path: Path, content: Mapping, name: str) -> Iterator[ImageAnnotations]:
    split = official(path.stem)
    names = {c["id"]: c["name"] for c in items(path, content, "categories", ("id", "name"))}
    instances_of = defaultdict(list)
    needed = ("image_id", "category_id", "bbox")
    for i, annotation in enumerate(items(path, content, "annotations", needed)):
        if annotation["category_id"] not in names:
            raise ValueError(
                f"{path}: annotations[{i}].category_id: no category {annotation['category_id']!r}"
            )
        instances_of[annotation["image_id"]].append((i, annotation))
    images = items(path, content, "images", ("id", "file_name", "width", "height"))
    for k, image in enumerate(images):
        size = _size((image["width"], image["height"]), f"{path}: images[{k}].width")
        things = [
            _coco_instance(a, names[a["category_id"]], size, f"{path}: annotations[{i}]")
            for i, a in instances_of.get(image["id"], ())
        ]
        yield ImageAnnotations(
            dataset_id(name, split, "simulated"),
            image_id(name, image),
            *size,
            tuple(thing for thing in things if thing),
        )


def _coco_instance(
    annotation: Mapping, name: str, size: tuple[int, int], where: str
) -> Instance | None:
    x, y, width, height = _numbers(annotation["bbox"], f"{where}.bbox")
    outline = _outline(annotation.get("segmentation"), size, f"{where}.segmentation")
    box = _box((x, y, x + width, y + height), size)
    return box and Instance(str(name), box, outline, bool(annotation.get("iscrowd")))


def _outline(value: Any, size: tuple[int, int], where: str) -> Sequence | Mapping | None:
    """The outline if it can be drawn; None if there is none."""
    if not value:
        return None
    problem = outline_problem(value, size)
    if problem is not None:
        raise ValueError(f"{where}{problem}")
    return value


def outline_problem(value: Any, size: tuple[int, int]) -> str | None:
    """Why an outline cannot be drawn in an image of (width, height); None where it can.

    pycocotools trusts what it is given, and reads a list of four numbers as a box.
    """
    if isinstance(value, Mapping):
        if list(value.get("size") or ()) != [size[1], size[0]]:
            return ".size: must be [height, width] of the image"
        if not _are_counts(value.get("counts"), size[0] * size[1]):
            return ".counts: must be text, or numbers that fill the image"
        return None
    if not isinstance(value, (list, tuple)) or any(type(item) in (int, float) for item in value):
        return ": must be a list of polygons, [[x, y, x, y, ...]]"
    for polygon in value:
        is_list = isinstance(polygon, array) or (
            isinstance(polygon, list) and all(type(number) in (int, float) for number in polygon)
        )
        if not is_list or len(polygon) < 6 or len(polygon) % 2:
            return ": a polygon must be x, y, x, y, ... of three points or more"
        if not all(abs(number) <= 10 * max(size) for number in polygon):  # False for NaN
            return ": a polygon leads far out of the image"
    return None


def _are_counts(counts: Any, num_pixels: int) -> bool:
    if isinstance(counts, str):
        return bool(counts)
    is_list = isinstance(counts, list) and all(type(n) is int and n >= 0 for n in counts)
    return is_list and sum(counts) == num_pixels


def plain_id(value: Any) -> Any:
    """An id as what it means: "12" and 12.0 are the number 12; "0012" stays the text it is."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    is_number = isinstance(value, str) and re.fullmatch(r"0|-?[1-9][0-9]{0,17}", value)
    return int(value) if is_number else value


# --- boxes


def _read_boxes(path: Path, content: Any, name: str) -> Iterator[ImageAnnotations]:
    if not isinstance(content, Mapping):
        raise ValueError(f"{path}: must be a COCO file, or an object of boxes by image id")
    for image_id, record in content.items():
        where = f"{path}: {image_id}"
        check(record, f"{where}.", ("size", "objects"))
        size = _size(record["size"], f"{where}.size")
        yield _boxed(name, record.get("split"), image_id, size, record["objects"], where)


def _read_xml(folder: Path, name: str) -> Iterator[ImageAnnotations]:
    split_of = {
        line.split()[0]: split
        for split in ("test", "val", "train")
        for line in _lines(folder.parent / "ImageSets" / "Main" / f"{split}.txt")
    }
    paths = sorted(folder.glob("*.xml"))
    if not paths:
        raise ValueError(f"{folder}: holds no .xml file")
    for path in paths:
        try:
            root = ElementTree.parse(path).getroot()
            width, height = (float(root.findtext(f"size/{s}") or "") for s in ("width", "height"))
            objects = [
                {
                    "name": thing.findtext("name"),
                    "bbox": [
                        float(thing.findtext(f"bndbox/{side}") or "")
                        for side in ("xmin", "ymin", "xmax", "ymax")
                    ],
                }
                for thing in root.iter("object")
            ]
        except (ElementTree.ParseError, ValueError) as error:
            raise ValueError(f"{path}: is not an annotation of Pascal VOC: {error}") from error
        size = _size((width, height), f"{path}: size")
        yield _boxed(name, split_of.get(path.stem), path.stem, size, objects, str(path))


def _boxed(
    name: str,
    split: str | None,
    image_id: str,
    size: tuple[int, int],
    objects: Sequence[Mapping],
    where: str,
) -> ImageAnnotations:
    things = []
    for i, thing in enumerate(objects):
        check(thing, f"{where}: objects[{i}].", ("name", "bbox"))
        x0, y0, x1, y1 = _numbers(thing["bbox"], f"{where}: objects[{i}].bbox")
        box = _box((x0 - 1, y0 - 1, x1, y1), size)  # Pascal VOC counts pixels from 1
        if box:
            things.append(Instance(str(thing["name"]), box))
    marks = dataset_id(name, split, "simulated")
    return ImageAnnotations(marks, image_id, *size, tuple(things))


# --- checks


def items(path: Path, content: Mapping, key: str, needed: Sequence[str]) -> list[Mapping]:
    """A list of a COCO file, each item of which has the needed keys; else ValueError."""
    items = content.get(key)
    if not isinstance(items, list):
        raise ValueError(f"{path}: {key}: must be a list")
    for i, item in enumerate(items):
        check(item, f"{path}: {key}[{i}].", needed)
    return items


def check(item: Any, where: str, needed: Sequence[str]) -> None:
    """ValueError WHERE + KEY: the item is no object, or a key it needs is missing or null."""
    if not isinstance(item, Mapping):
        raise ValueError(f"{where.rstrip(': .')}: must be an object")
    for key in needed:
        if item.get(key) is None:
            raise ValueError(f"{where}{key}: is missing")


def _numbers(value: Any, where: str) -> list[float]:
    is_list = isinstance(value, (list, tuple)) and len(value) == 4
    if not is_list or not all(type(n) in (int, float) and math.isfinite(n) for n in value):
        raise ValueError(f"{where}: must be four numbers, got {value!r:.60}")
    return value


def _size(value: Any, where: str) -> tuple[int, int]:
    is_pair = isinstance(value, (list, tuple)) and len(value) == 2
    if not is_pair or not all(type(n) in (int, float) and 1 <= n <= 65_535 for n in value):
        raise ValueError(f"{where}: must be width and height in pixels, got {value!r:.60}")
    return int(value[0]), int(value[1])


def _box(corners: Sequence[float], size: tuple[int, int]) -> Box | None:
    """Pixels -> fractions inside 0..1; None for a box without area."""
    x0, y0, x1, y1 = (
        min(max(corner / side, 0.0), 1.0) for corner, side in zip(corners, size * 2, strict=True)
    )
    return (x0, y0, x1, y1) if x0 < x1 and y0 < y1 else None


def _lines(path: Path) -> list[str]:
    return [line for line in path.read_text().splitlines() if line.strip()] if path.exists() else []


_OFFICIAL = {
    "train": r"train(ing)?",
    "val": r"val(idation)?",
    "test": r"test",
}


def official(dataset_id: str) -> str | None:
    """The split that the dataset's name says, as in mscoco_val2017; None for none or two."""
    named = [
        split
        for split, word in _OFFICIAL.items()
        if re.search(rf"(?<![a-z]){word}(?![a-z])", dataset_id.lower())  # not the "val" of medieval
    ]
    return named[0] if len(named) == 1 else None


def is_plain_name(image_id: str) -> bool:
    """Can a file in a folder be named so, and not lie elsewhere?"""
    if image_id in ("", "..") or Path(image_id).name != image_id:
        return False
    return not {"\\", "\0"} & set(image_id) and len(image_id.encode(errors="replace")) <= 200


def picture_name(dataset_id: str, image_id: str, suffix: str) -> str:
    """What a picture's file is called: %012d.jpg for COCO, else id + extension."""
    is_coco = re.match(r"(ms)?coco", dataset_id, re.IGNORECASE) and re.fullmatch(r"\d+", image_id)
    return f"{int(image_id):012d}{suffix}" if is_coco else image_id + suffix
