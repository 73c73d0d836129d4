"""YOLO's folders: a .txt for each picture, a line for each thing, in fractions of the picture.

    data.yaml     names: [cat, dog] or {0: cat}; train, val, test: folders or lists of pictures
    images/train/1.jpg, labels/train/1.txt     Ultralytics, Label Studio
    train/images/1.jpg, train/labels/1.txt     Roboflow
    obj_train_data/1.jpg, obj_train_data/1.txt CVAT's YOLO 1.1, Darknet: beside each other, names in
                                               obj.names, classes.txt or _darknet.labels

A line is `class x y width height`, perhaps with a confidence, or `class x y x y x y ...`, an
outline; with kpt_shape in data.yaml the numbers after the box are key points, and are not read.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from loctex.records.annotations import Instance, UnusedLabels
from loctex.records.file_names import EXTENSIONS
from loctex.records.images import read_frame
from loctex.records.layouts.labeled import (
    SPLITS,
    LabeledPicture,
    PictureIndex,
    Tree,
    relative,
    split_of,
)
from loctex.records.text import read_text

NAME_FILES = ("classes.txt", "obj.names", "_darknet.labels", "predefined_classes.txt")
NO_LABELS = ("train.txt", "val.txt", "valid.txt", "test.txt", "requirements.txt", "autosplit")


def evidence(tree: Tree) -> PurePosixPath | None:
    """The file that says that this is a YOLO folder; None where it is none."""
    described = _description(tree)
    if described is not None:
        return described
    lists = [file for file in tree.named(*NAME_FILES) if _labels(tree)]
    if lists:
        return lists[0]
    in_labels = [file for file in _labels(tree) if "labels" in file.parts]
    return next((file for file in in_labels if _looks_like_labels(tree.path(file))), None)


def read(tree: Tree, images: Path | None, unused: UnusedLabels) -> Iterator[LabeledPicture]:
    """The pictures, those without a .txt as showing nothing. ValueError names the file and line."""
    content = _content(tree)
    names, splits = _names(tree, content), _Splits(tree, content)
    has_key_points = "kpt_shape" in content
    index = PictureIndex(tree, images) if images is not None else PictureIndex(tree)

    seen: set[Path] = set()
    labels = _labels(tree)
    for label in labels:
        picture = _picture_of(tree, label) or index.find_stem(
            str(_beside(label).with_suffix("")), _beside(label).parent
        )
        if picture is not None:
            seen.add(picture)
        name = relative(picture, tree.root, str(label.with_suffix("")))
        things = tuple(_instances(tree.path(label), names, picture, has_key_points, unused))
        yield LabeledPicture(name, picture, splits.of(label, name), things)

    folders = {_beside(label).parent for label in labels}
    for file in tree.pictures():
        if tree.path(file) not in seen and file.parent in folders:
            yield LabeledPicture(str(file), tree.path(file), splits.of(file, str(file)))


def _description(tree: Tree) -> PurePosixPath | None:
    for file in tree.ending(".yaml", ".yml"):
        if len(file.parts) <= 2 and _is_description(_yaml(tree.path(file))):
            return file
    return None


def _is_description(content: Any) -> bool:
    if not isinstance(content, Mapping) or not content.get("names"):
        return False
    return bool({"train", "val", "test", "path", "nc"} & content.keys())


def _yaml(path: Path) -> Any:
    """What the file holds; None where it is none of ours to complain of."""
    try:
        return yaml.safe_load(read_text(path))
    except (yaml.YAMLError, OSError, RecursionError):
        return None


def _content(tree: Tree) -> Mapping[str, Any]:
    file = _description(tree)
    return _yaml(tree.path(file)) if file is not None else {}


def _names(tree: Tree, content: Mapping[str, Any]) -> Mapping[int, str]:
    names = content.get("names")
    if isinstance(names, Mapping) and all(str(key).isdigit() for key in names):
        return {int(key): str(name) for key, name in names.items()}
    if isinstance(names, Sequence) and not isinstance(names, str):
        return dict(enumerate(map(str, names)))
    for file in tree.named(*NAME_FILES):
        lines = [line.strip() for line in read_text(tree.path(file)).splitlines()]
        return dict(enumerate(line for line in lines if line))
    raise ValueError(
        f"{tree.root}: its labels are YOLO's, and nothing says what class 0 is called: put "
        "data.yaml (names: [cat, dog]) or classes.txt (one name a line) beside them"
    )


class _Splits:
    """Which pictures are to train, validate and test on: as data.yaml says, else their folders."""

    def __init__(self, tree: Tree, content: Mapping[str, Any]) -> None:
        self.folders: dict[PurePosixPath, str] = {}
        self.listed: dict[str, str] = {}
        for key, split in SPLITS.items():
            values = content.get(key)
            for value in values if isinstance(values, list) else [values]:
                place = _inside(tree, content, str(value or ""))
                if place is None:
                    continue
                if tree.path(place).is_dir():
                    self.folders[place] = split
                else:
                    lines = read_text(tree.path(place)).splitlines()
                    self.listed |= {_key(line): split for line in lines if line.strip()}

    def of(self, file: PurePosixPath, picture: str) -> str | None:
        if self.listed:
            return self.listed.get(_key(picture))
        above = [folder for folder in PurePosixPath(picture).parents if folder in self.folders]
        return self.folders[above[0]] if above else split_of(file.parent)


def _key(name: str) -> str:
    """A picture's folder and name, as lists write them below anything."""
    return "/".join(PurePosixPath(name.strip().replace("\\", "/")).parts[-2:])


def _inside(tree: Tree, content: Mapping[str, Any], value: str) -> PurePosixPath | None:
    """A place of data.yaml that lies in the folder: many are written for another machine."""
    parts = [part for part in PurePosixPath(value.replace("\\", "/")).parts if part not in "./.."]
    if not parts:
        return None
    base = tuple(PurePosixPath(str(content.get("path") or "")).parts[-1:])
    for start in range(len(parts)):
        for above in ((), base):
            place = PurePosixPath(*above, *parts[start:])
            if ".." not in place.parts and tree.path(place).exists():
                return place
    return None


def _labels(tree: Tree) -> list[PurePosixPath]:
    """The .txt files that stand for pictures."""
    folders = {file.parent for file in tree.pictures()}
    labels = []
    for file in tree.ending(".txt"):
        is_other = file.name.lower() in (*NAME_FILES, *NO_LABELS)
        if is_other or file.name.lower().startswith(("readme", "autosplit")):
            continue
        if "labels" in file.parts or file.parent in folders or "obj_" in str(file.parent):
            labels.append(file)
    return labels


def _looks_like_labels(path: Path) -> bool:
    try:
        lines = read_text(path).splitlines()[:20]
        rows = [[float(number) for number in line.split()] for line in lines if line.strip()]
    except (OSError, ValueError):
        return False
    return bool(rows) and all(len(row) >= 5 and row[0].is_integer() for row in rows)


def _beside(label: PurePosixPath) -> PurePosixPath:
    """labels/train/1.txt -> images/train/1.txt, as Ultralytics does: the last such folder."""
    parts = list(label.parts)
    for k in reversed(range(len(parts) - 1)):
        if parts[k] == "labels":
            parts[k] = "images"
            break
    return PurePosixPath(*parts)


def _picture_of(tree: Tree, label: PurePosixPath) -> Path | None:
    place = tree.path(_beside(label))
    for extension in (*EXTENSIONS, *(one.upper() for one in EXTENSIONS)):
        picture = place.with_name(place.stem + extension)
        if picture.is_file():
            return picture
    return None


def _instances(
    path: Path,
    names: Mapping[int, str],
    picture: Path | None,
    has_key_points: bool,
    unused: UnusedLabels,
) -> Iterator[Instance]:
    size: tuple[int, int] | None = None
    for number, line in enumerate(read_text(path).splitlines(), 1):
        if not line.strip():
            continue
        where = f"{path}:{number}"
        try:
            key, *numbers = (float(word) for word in line.split())
        except ValueError as error:
            raise ValueError(
                f"{where}: is no line of YOLO's labels: {line.strip()!r:.60}"
            ) from error
        if not key.is_integer() or int(key) not in names:
            raise ValueError(
                f"{where}: class {key:g} has no name; there are {len(names)}, counted from 0"
            )

        is_box = len(numbers) in (4, 5) or has_key_points
        if len(numbers) < 4 or not all(map(math.isfinite, numbers)):
            raise ValueError(f"{where}: must be class x y width height, or an outline")
        corners = _corners(numbers) if is_box else _around(numbers)
        if corners[0] >= corners[2] or corners[1] >= corners[3]:
            unused.unusable.append(f"{where}: its box has no area inside the image")
            continue
        outline = None
        if not is_box and picture is not None:
            size = size or read_frame(picture).size
            sides = [*size] * (len(numbers) // 2)
            outline = [[x * side for x, side in zip(numbers, sides, strict=False)]]
        yield Instance(names[int(key)], corners, outline)


def _corners(numbers: Sequence[float]) -> tuple[float, float, float, float]:
    x, y, width, height = numbers[:4]
    return _clipped(x - width / 2, y - height / 2, x + width / 2, y + height / 2)


def _around(numbers: Sequence[float]) -> tuple[float, float, float, float]:
    xs, ys = numbers[::2], numbers[1::2]
    return _clipped(min(xs), min(ys), max(xs), max(ys))


def _clipped(x0: float, y0: float, x1: float, y1: float) -> tuple[float, float, float, float]:
    return max(x0, 0.0), max(y0, 0.0), min(x1, 1.0), min(y1, 1.0)
