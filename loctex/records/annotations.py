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
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
from pycocotools import mask as rle

from loctex.records.file_names import folded, is_hidden, plain_path
from loctex.records.text import read_text

Box = tuple[float, float, float, float]
LARGEST = 65_535  # pixels of a side
THINNEST = 0.01  # pixels: less is no area once it is scaled in float32


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
    file: str | None = None  # the picture's path as the labels write it, if they do

    def turned(self, orientation: int) -> ImageAnnotations:
        """The labels of stored pixels on the picture as it is seen, where EXIF's orientation (5 to
        8) exchanges its sides."""
        turn = _Turn(orientation, self.width, self.height)
        things = tuple(
            replace(thing, box=turn.box(thing.box), outline=turn.outline(thing.outline))
            for thing in self.instances
        )
        return replace(self, width=self.height, height=self.width, instances=things)


@dataclass(frozen=True)
class _Turn:
    """From stored pixels of (width, height) to seen ones, sides exchanged."""

    orientation: int
    width: int
    height: int

    def point(self, x: float, y: float, width: float = 1.0, height: float = 1.0) -> tuple:
        """EXIF: 5 mirrors at the diagonal, 6 turns clockwise, 8 back, 7 mirrors at the other."""
        seen_x = height - y if self.orientation in (6, 7) else y
        seen_y = width - x if self.orientation in (7, 8) else x
        return seen_x, seen_y

    def box(self, box: Box) -> Box:
        (x0, y0), (x1, y1) = self.point(*box[:2]), self.point(*box[2:])
        return min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1)

    def outline(self, outline: Sequence | Mapping | None) -> Sequence | Mapping | None:
        if outline is None:
            return None
        if isinstance(outline, Mapping):
            mask = rle.decode(_run_lengths(outline, self.height, self.width)).T
            mask = mask[:, ::-1] if self.orientation in (6, 7) else mask
            mask = mask[::-1] if self.orientation in (7, 8) else mask
            coded = rle.encode(np.asfortranarray(mask))
            return {"size": coded["size"], "counts": coded["counts"].decode("ascii")}
        polygons = []
        for polygon in outline:
            points = zip(polygon[::2], polygon[1::2], strict=True)
            seen = [self.point(x, y, self.width, self.height) for x, y in points]
            polygons.append(array("f", chain.from_iterable(seen)))
        return polygons


def _run_lengths(outline: Mapping, height: int, width: int) -> Mapping:
    is_plain = isinstance(outline["counts"], list)
    return rle.frPyObjects(dict(outline), height, width) if is_plain else dict(outline)


@dataclass
class UnusedLabels:
    """What a file of labels holds and nobody can use: a sentence each."""

    orphans: list[str] = field(default_factory=list)  # annotations of an image that is not there
    unusable: list[str] = field(default_factory=list)  # what cannot be drawn, and has no size


def read(
    path: Path, name: str | None = None, unused: UnusedLabels | None = None
) -> Iterator[ImageAnnotations]:
    """The images of a COCO file, a folder of XML or a JSON of boxes, in the order of the file.

    dataset_id becomes NAME_SPLIT_simulated; `name` is "coco", "voc" or the folder's name unless
    given. unused: gets what is in the file and not in the images given, by name. ValueError names
    the file and the field that is wrong, or what is there twice.
    """
    unused = UnusedLabels() if unused is None else unused
    if path.is_dir():
        return _read_xml(path, name or "voc", unused)
    content = load(path)
    if isinstance(content, Mapping) and "annotations" in content:
        return _read_coco(path, content, name or "coco", unused)
    return _read_boxes(path, content, name or path.resolve().parent.name, unused)


def dataset_id(name: str, split: str | None, *marks: str) -> str:
    """coco, train, simulated -> coco_train_simulated: the split stays readable."""
    return "_".join(piece for piece in (name, split, *marks) if piece)


def image_id(name: str, image: Mapping) -> str:
    """COCO's number where the picture is named by it, 000000000139.jpg; else the picture's name."""
    file, number = plain_path(str(image["file_name"])), str(image["id"])
    return number if picture_name(name, number, file.suffix) == file.name else file.stem


SLASH = "%2F"  # in an image id, which is a plain name, between the folder and the picture


def long_id(file: str) -> str:
    """a/001.jpg -> a%2F001.jpg: a picture is its folder and its name."""
    return str(plain_path(file)).replace("/", SLASH)


def image_ids(path: Path, name: str, images: Sequence[Mapping]) -> list[str]:
    """image_id of each image of a file; long_id where it would be two pictures' (1.jpg, 1.png).

    ValueError names an id or a picture that is there twice.
    """
    twice(path, "images", [plain_id(image["id"]) for image in images])
    twice(path, "images: file_name", [str(plain_path(str(i["file_name"]))) for i in images])
    short = [image_id(name, image) for image in images]
    pictures = [folded(picture_name(name, one, "")) for one in short]  # 12 is 000012 to COCO
    counts = Counter(pictures)
    return [
        one if counts[picture] == 1 else long_id(str(image["file_name"]))
        for one, picture, image in zip(short, pictures, images, strict=True)
    ]


def twice(path: Path, where: str, keys: Sequence) -> None:
    """ValueError names a key that is there twice."""
    double = next((key for key, count in Counter(keys).items() if count > 1), None)
    if double is not None:
        raise ValueError(f"{path}: {where}: {double!r} is there twice; give each picture one entry")


def load(path: Path) -> Any:
    """The JSON of a file. Polygons become arrays at once: a tenth of the memory of lists."""
    try:
        return json.loads(read_text(path), object_hook=_compact)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: is not JSON: {error}") from error


def _compact(record: dict[str, Any]) -> dict[str, Any]:
    polygons = record.get("segmentation")
    if isinstance(polygons, list):
        try:
            record["segmentation"] = [array("f", polygon) for polygon in polygons]
        except (TypeError, OverflowError):
            pass  # outline_problem says what is wrong
    return record


# --- COCO


def _read_coco(
    path: Path, content: Mapping, name: str, unused: UnusedLabels
) -> Iterator[ImageAnnotations]:
    split = official(path.stem)
    names: dict[Any, str] = {}
    for category in items(path, content, "categories", ("id", "name")):
        key, known = plain_id(category["id"]), category["name"]
        if names.setdefault(key, known) != known:
            raise ValueError(f"{path}: categories: {key!r} is {names[key]!r} and {known!r}")

    instances_of = defaultdict(list)
    needed = ("image_id", "category_id", "bbox")
    for i, annotation in enumerate(items(path, content, "annotations", needed)):
        if plain_id(annotation["category_id"]) not in names:
            raise ValueError(
                f"{path}: annotations[{i}].category_id: no category {annotation['category_id']!r}"
            )
        instances_of[plain_id(annotation["image_id"])].append((i, annotation))

    images = items(path, content, "images", ("id", "file_name"))
    for key in instances_of.keys() - {plain_id(image["id"]) for image in images}:
        unused.orphans += [
            f"{path.name}: annotations[{i}] is of image {key!r}, which is not there"
            for i, _ in instances_of[key]
        ]

    for own_id, image in zip(image_ids(path, name, images), images, strict=True):
        size = _known_size(image)
        if size is None:
            unused.unusable.append(
                f"{path.name}: image {image['file_name']} has no width and height there; "
                "write its picture's into the file"
            )
            continue
        things = []
        for i, annotation in instances_of.get(plain_id(image["id"]), ()):
            problem = annotation_problem(annotation, size)
            if problem is None:
                things.append(_coco_instance(annotation, names, size))
            else:
                unused.unusable.append(f"{path.name}: annotations[{i}]: {problem}")
        own_dataset = dataset_id(name, split, "simulated")
        file = str(image["file_name"])
        yield ImageAnnotations(own_dataset, own_id, *size, tuple(things), file)


def _known_size(image: Mapping) -> tuple[int, int] | None:
    sides = plain_id(image.get("width")), plain_id(image.get("height"))
    if all(type(side) is int and 1 <= side <= LARGEST for side in sides):
        return sides
    return None


def _coco_instance(annotation: Mapping, names: Mapping, size: tuple[int, int]) -> Instance:
    """Of an annotation without a problem."""
    x, y, width, height = annotation["bbox"]
    box = _box((x, y, x + width, y + height), size)
    assert box is not None
    name = str(names[plain_id(annotation["category_id"])])
    outline = annotation.get("segmentation") or None
    return Instance(name, box, outline, bool(annotation.get("iscrowd")))


def annotation_problem(annotation: Mapping, size: tuple[int, int]) -> str | None:
    """Why an annotation of COCO can be neither drawn nor learned in an image of (width, height);
    None where it can."""
    bbox = annotation["bbox"]
    is_list = isinstance(bbox, list) and len(bbox) == 4
    if not is_list or not all(type(n) in (int, float) and math.isfinite(n) for n in bbox):
        return f"its bbox is not four numbers: {bbox!r:.60}"

    x, y, width, height = bbox
    box = _box((x, y, x + width, y + height), size)
    is_thin = (
        box is None or min((box[2] - box[0]) * size[0], (box[3] - box[1]) * size[1]) < THINNEST
    )
    if is_thin:
        return f"its bbox has no area inside the image: {bbox}"

    outline = annotation.get("segmentation")
    problem = outline_problem(outline, size) if outline else None
    return problem and f"its segmentation{problem}"


def outline_problem(value: Any, size: tuple[int, int]) -> str | None:
    """Why an outline cannot be drawn in an image of (width, height); None where it can.

    pycocotools trusts what it is given, and reads a list of four numbers as a box.
    """
    if isinstance(value, Mapping):
        if list(value.get("size") or ()) != [size[1], size[0]]:
            return ".size: must be [height, width] of the image"
        if not _are_counts(value.get("counts"), size[0] * size[1]):
            return ".counts: must be text, or numbers that fill the image"
        if isinstance(value["counts"], str):
            try:
                rle.decode(dict(value))
            except ValueError as error:
                return f".counts: {error}"
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


def _read_boxes(
    path: Path, content: Any, name: str, unused: UnusedLabels
) -> Iterator[ImageAnnotations]:
    if not isinstance(content, Mapping):
        raise ValueError(f"{path}: must be a COCO file, or an object of boxes by image id")
    for image_id, record in content.items():
        where = f"{path}: {image_id}"
        check(record, f"{where}.", ("size", "objects"))
        size = _size(record["size"], f"{where}.size")
        split, objects = record.get("split"), record["objects"]
        yield _boxed(name, split, image_id, size, objects, where, unused)


def _read_xml(folder: Path, name: str, unused: UnusedLabels) -> Iterator[ImageAnnotations]:
    split_of = {
        line.split()[0]: split
        for split in ("test", "val", "train")
        for line in _lines(folder.parent / "ImageSets" / "Main" / f"{split}.txt")
    }
    files = [path for path in folder.iterdir() if path.suffix.lower() == ".xml"]
    paths = sorted(path for path in files if not is_hidden(path.name))
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
        split = split_of.get(path.stem)
        yield _boxed(name, split, path.stem, size, objects, str(path), unused)


def _boxed(
    name: str,
    split: str | None,
    image_id: str,
    size: tuple[int, int],
    objects: Sequence[Mapping],
    where: str,
    unused: UnusedLabels,
) -> ImageAnnotations:
    things = []
    for i, thing in enumerate(objects):
        check(thing, f"{where}: objects[{i}].", ("name", "bbox"))
        x0, y0, x1, y1 = _numbers(thing["bbox"], f"{where}: objects[{i}].bbox")
        box = _box((x0 - 1, y0 - 1, x1, y1), size)  # Pascal VOC counts pixels from 1
        if box is not None:
            things.append(Instance(str(thing["name"]), box))
        else:
            unused.unusable.append(
                f"{where}: objects[{i}]: its bbox has no area inside the image: {thing['bbox']}"
            )
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
    if not is_pair or not all(type(n) in (int, float) and 1 <= n <= LARGEST for n in value):
        raise ValueError(f"{where}: must be width and height in pixels, got {value!r:.60}")
    return int(value[0]), int(value[1])


def _box(corners: Sequence[float], size: tuple[int, int]) -> Box | None:
    """Pixels -> fractions inside 0..1; None for a box without area."""
    x0, y0, x1, y1 = (
        min(max(corner / side, 0.0), 1.0) for corner, side in zip(corners, size * 2, strict=True)
    )
    return (x0, y0, x1, y1) if x0 < x1 and y0 < y1 else None


def _lines(path: Path) -> list[str]:
    return [line for line in read_text(path).splitlines() if line.strip()] if path.exists() else []


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
    if {"", ".", ".."} & set(image_id.split(SLASH)):
        return False
    return not {"\\", "\0"} & set(image_id) and len(image_id.encode(errors="replace")) <= 240


def picture_name(dataset_id: str, image_id: str, suffix: str) -> str:
    """What a picture's file is called: %012d.jpg for COCO, else id + extension."""
    is_coco = re.match(r"(ms)?coco", dataset_id, re.IGNORECASE) and re.fullmatch(r"\d+", image_id)
    return f"{int(image_id):012d}{suffix}" if is_coco else image_id + suffix
