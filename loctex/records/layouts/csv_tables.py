"""Tables beside pictures.

metadata.jsonl, metadata.csv   imagefolder of `datasets`: file_name with a text, a label, or
                               objects {"bbox": [[x, y, width, height]], "categories": [...]}
_classes.csv                   Roboflow: filename, then a column of 0 and 1 for each class
_annotations.csv               Roboflow: filename,width,height,class,xmin,ymin,xmax,ymax
captions.txt, .csv             image,caption: Flickr8k
captions.jsonl                 {"image_id": "...", "captions": ["..."]}
"""

from __future__ import annotations

import csv
import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from loctex.records.annotations import Instance, UnusedLabels
from loctex.records.images import read_frame
from loctex.records.layouts.labeled import (
    SPLITS,
    LabeledPicture,
    PictureIndex,
    Tree,
    relative,
    split_of,
)
from loctex.records.narrative import numbered_lines

csv.field_size_limit(1 << 28)  # outlines of a picture are one cell
METADATA = ("metadata.jsonl", "metadata.csv")
TEXTS = ("text", "caption", "captions", "sentence", "sentences", "description")
LABELS = ("label", "labels", "class", "category")
NAMES = ("categories", "category", "labels", "label", "names", "name")  # of its objects
ONE_HOT, BOXES = "_classes.csv", "_annotations.csv"


def rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """(line, record) of JSON Lines or of a CSV, whose names are stripped. ValueError names a line
    that is no record."""
    if path.suffix.lower() == ".jsonl":
        for number, line in numbered_lines(path):
            try:
                record = json.loads(line)
            except ValueError as error:
                raise ValueError(f"{path}:{number}: is not JSON: {error}") from error
            if not isinstance(record, dict):
                raise ValueError(f"{path}:{number}: must be an object")
            yield number, record
        return
    with open(path, encoding="utf-8-sig", errors="replace", newline="") as text:
        header = text.readline()
        delimiter = max(",;\t|", key=header.count)
        names = [name.strip() for name in next(csv.reader([header], delimiter=delimiter), [])]
        reader = csv.DictReader(text, names, delimiter=delimiter)
        for row in reader:
            yield reader.line_num + 1, {key: (row[key] or "").strip() for key in names}


def columns(path: Path) -> list[str]:
    """The names in the first line of a CSV."""
    with open(path, encoding="utf-8-sig", errors="replace", newline="") as text:
        header = text.readline(1 << 16)
    delimiter = max(",;\t|", key=header.count)
    try:
        return [name.strip() for name in next(csv.reader([header], delimiter=delimiter), [])]
    except csv.Error:  # of a file that is no table
        return []


def first_record(path: Path) -> dict[str, Any]:
    """The first record of JSON Lines; {} where it is none."""
    try:
        return next((record for _, record in rows(path)), {})
    except ValueError:
        return {}


# --- imagefolder


def metadata_evidence(tree: Tree) -> PurePosixPath | None:
    return next(iter(_metadata_files(tree)), None)


def _metadata_files(tree: Tree) -> list[PurePosixPath]:
    files = []
    for file in tree.named(*METADATA):
        path = tree.path(file)
        names = first_record(path) if file.suffix.lower() == ".jsonl" else columns(path)
        if "file_name" in names:
            files.append(file)
    return files


def read_metadata(
    tree: Tree, images: Path | None, unused: UnusedLabels
) -> Iterator[LabeledPicture]:
    """ValueError: a record names no picture, or nothing that is known."""
    index = PictureIndex(tree, images) if images is not None else PictureIndex(tree)
    for file in _metadata_files(tree):
        for number, record in rows(tree.path(file)):
            where = f"{tree.path(file)}:{number}"
            if not record.get("file_name"):
                raise ValueError(f"{where}: file_name is missing")
            if not any(key in record for key in (*TEXTS, *LABELS, "objects")):
                raise ValueError(
                    f"{where}: has no {', '.join((*TEXTS[:2], *LABELS[:1], 'objects'))}; it has "
                    f"{', '.join(record)}"
                )
            name = str(record["file_name"])
            picture = index.find(str(file.parent / name), file.parent)
            split = split_of(file.parent) or split_of(PurePosixPath(name).parent)
            yield LabeledPicture(
                name=relative(picture, tree.root, str(file.parent / name)),
                file=picture,
                split=SPLITS.get(str(record.get("split") or "").lower(), split),
                instances=tuple(_objects(record.get("objects"), picture, where, unused)),
                classes=dict.fromkeys(_texts(record, LABELS), 1),
                captions=tuple(_texts(record, TEXTS)),
            )


def _texts(record: Mapping[str, Any], keys: tuple[str, ...]) -> list[str]:
    texts: list[str] = []
    for key in keys:
        value = record.get(key)
        values = value if isinstance(value, list) else [value]
        texts += [str(one) for one in values if one not in (None, "")]
    return texts


def _objects(
    value: Any, picture: Path | None, where: str, unused: UnusedLabels
) -> Iterator[Instance]:
    if not value or picture is None:
        return
    if isinstance(value, str):  # of a CSV
        value = json.loads(value)
    if not isinstance(value, Mapping) or not isinstance(value.get("bbox"), list):
        raise ValueError(f"{where}: objects must hold lists: bbox, categories")
    names = next((value[key] for key in NAMES if isinstance(value.get(key), list)), None)
    if names is None or len(names) != len(value["bbox"]):
        raise ValueError(f"{where}: objects names {len(names or ())} of {len(value['bbox'])} boxes")
    size = read_frame(picture).size
    for name, box in zip(names, value["bbox"], strict=True):
        x, y, width, height = box
        thing = boxed(str(name), (x, y, x + width, y + height), size)
        if thing is None:
            unused.unusable.append(f"{where}: a bbox has no area inside the image: {box}")
        else:
            yield thing


def boxed(name: str, corners: Sequence[float], size: tuple[int, int]) -> Instance | None:
    """Of x0, y0, x1, y1 in pixels; None where the box has no area inside the image."""
    (x0, y0, x1, y1), (width, height) = corners, size
    box = (max(x0 / width, 0), max(y0 / height, 0), min(x1 / width, 1), min(y1 / height, 1))
    return Instance(name, box) if box[0] < box[2] and box[1] < box[3] else None


# --- Roboflow's CSV


def roboflow_evidence(tree: Tree) -> PurePosixPath | None:
    return next(iter(tree.named(ONE_HOT, BOXES)), None)


def read_roboflow(
    tree: Tree, images: Path | None, unused: UnusedLabels
) -> Iterator[LabeledPicture]:
    index = PictureIndex(tree, images) if images is not None else PictureIndex(tree)
    for file in tree.named(ONE_HOT, BOXES):
        path, split = tree.path(file), split_of(file.parent)
        names = columns(path)
        if not names or names[0].lower() != "filename" or len(names) < 2:
            raise ValueError(f"{path}: the first column must be filename, then one for each class")
        read = _one_hot if file.name.lower() == ONE_HOT else _boxes
        for name, classes, things, size in read(path, names, unused):
            picture = index.find(str(file.parent / name), file.parent)
            own_name = relative(picture, tree.root, str(file.parent / name))
            yield LabeledPicture(own_name, picture, split, things, classes, size=size)


_Labels = tuple[str, dict[str, int], tuple[Instance, ...], tuple[int, int] | None]


def _one_hot(path: Path, names: list[str], unused: UnusedLabels) -> Iterator[_Labels]:
    for number, record in rows(path):
        values = {name: record[name] for name in names[1:]}
        wrong = [f"{name} = {value!r}" for name, value in values.items() if value not in "01"]
        if wrong or "" in values.values():
            raise ValueError(f"{path}:{number}: must be 0 or 1 for each class: {wrong[:1]}")
        yield record[names[0]], {n: 1 for n, value in values.items() if value == "1"}, (), None


def _boxes(path: Path, names: list[str], unused: UnusedLabels) -> Iterator[_Labels]:
    things: dict[str, list[Instance]] = defaultdict(list)
    sizes: dict[str, tuple[int, int]] = {}
    for number, record in rows(path):
        try:
            size = int(record["width"]), int(record["height"])
            corners = [float(record[side]) for side in ("xmin", "ymin", "xmax", "ymax")]
            thing = boxed(record["class"], corners, size)
        except (KeyError, ValueError, ZeroDivisionError) as error:
            raise ValueError(f"{path}:{number}: is no box of Roboflow's: {error!r}") from error
        sizes[record["filename"]] = size
        if thing is None:
            unused.unusable.append(f"{path}:{number}: its box has no area inside the image")
        else:
            things[record["filename"]].append(thing)
    for name, size in sizes.items():
        yield name, {}, tuple(things[name]), size


# --- captions


def caption_evidence(tree: Tree) -> PurePosixPath | None:
    for file in tree.ending(".jsonl"):
        record = first_record(tree.path(file))
        if isinstance(record.get("captions"), list) and "image_id" in record:
            return file
    for file in (*tree.ending(".csv"), *tree.named("captions.txt", "captions.token")):
        if _caption_columns(tree.path(file)):
            return file
    return None


def _caption_columns(path: Path) -> tuple[str, str] | None:
    names = {name.lower(): name for name in columns(path)}
    image = next(
        (names[n] for n in ("image", "image_name", "file", "filename") if n in names), None
    )
    text = next((names[name] for name in ("caption", "comment") if name in names), None)
    return (image, text) if image and text else None


def read_captions(
    tree: Tree, images: Path | None, unused: UnusedLabels
) -> Iterator[LabeledPicture]:
    index = PictureIndex(tree, images) if images is not None else PictureIndex(tree)
    file = caption_evidence(tree)
    assert file is not None  # or the folder was not recognised
    captions: dict[str, list[str]] = defaultdict(list)
    split_by_name: dict[str, str | None] = {}
    if file.suffix.lower() == ".jsonl":
        for _, record in rows(tree.path(file)):
            name = str(record["image_id"])
            captions[name] += map(str, record["captions"])
            split_by_name[name] = SPLITS.get(str(record.get("split") or "").lower())
    else:
        image, text = _caption_columns(tree.path(file)) or ("", "")
        for _, record in rows(tree.path(file)):
            captions[record[image].partition("#")[0]].append(record[text])
    for name, texts in captions.items():
        picture = index.find(name) or index.find_stem(name)
        own_name = relative(picture, tree.root, name)
        written = tuple(text for text in texts if text.strip())
        yield LabeledPicture(own_name, picture, split_by_name.get(name), captions=written)
