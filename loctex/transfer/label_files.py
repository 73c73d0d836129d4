"""Reads labels as people keep them: class folders, CSV, COCO JSON, a saved dataset, VOCdevkit.

Every reader gives rows; `read` makes the tables to train and to test on out of them. An image is
named by its place in its source.
"""

import csv
import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from loctex.transfer import voc
from loctex.transfer.encoders import Picture
from loctex.transfer.labels import Labels, table

if TYPE_CHECKING:
    from datasets import Dataset

EXTENSIONS = {".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp"}
SPLITS = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
}
TEST_SHARE = 5  # one image of five is tested on where the source does not say


@dataclass(frozen=True)
class Row:
    """One image. values: class -> 1 shown, 0 takes no part. split: train, val, test, or None."""

    image: str
    picture: Picture
    values: Mapping[str, int]
    split: str | None = None


@dataclass(frozen=True, eq=False)
class SavedImage:
    """An image inside a dataset saved to disk."""

    name: str
    rows: "Dataset" = field(repr=False)
    index: int
    column: str

    def read_bytes(self) -> bytes:
        value = self.rows[self.index][self.column]
        if not value or not (value["bytes"] or value["path"]):
            raise OSError(None, "the dataset holds no image here")
        return value["bytes"] or Path(value["path"]).read_bytes()


def read(
    labels: Path, images: Path | None = None, test: Path | None = None
) -> tuple[Labels, Labels]:
    """The tables to train and to test on.

    labels: a folder or file as in this module's docstring. images: the folder that CSV and COCO
    JSON name files of; beside the file where None. test: the same again, to test on; where None,
    the source's own test (else val) images; where it has none, every fifth image of each kind.
    ValueError says what is wrong, and where.
    """
    if test is None and any([*labels.glob("ImageSets/Main"), *labels.glob("*/ImageSets/Main")]):
        folder = voc.find(labels)
        return voc.read(folder, *voc.splits(folder))
    rows = list(_reader(labels)(labels, images))
    if test is not None:
        rows = [_assign(row, "train") for row in rows]
        rows += [_assign(row, "test") for row in _reader(test)(test, images)]
        train, held = ([row for row in rows if row.split == name] for name in ("train", "test"))
    else:
        train, held = _divide(rows)
    twice = [image for image, count in Counter(row.image for row in rows).items() if count > 1]
    if twice:
        raise ValueError(f"{labels}: image {twice[0]!r} is listed twice; give it one line")
    for labels_of_split, name in ((train, "train"), (held, "test")):
        if not labels_of_split:
            raise ValueError(f"{labels} holds no image to {name} on")
    classes = sorted({name for row in rows for name in row.values})
    return _table(train, classes), _table(held, classes)


def _reader(path: Path) -> Callable[[Path, Path | None], Iterator[Row]]:
    if path.suffix.lower() == ".csv":
        return read_csv
    if path.suffix.lower() == ".json":
        return read_coco
    if any((path / name).exists() for name in ("dataset_dict.json", "dataset_info.json")):
        return read_saved
    if path.is_dir():
        return read_folders
    raise ValueError(
        f"{path}: expected a folder of class folders, a .csv, a COCO .json, a dataset saved with "
        "save_to_disk, or a VOCdevkit"
    )


def _assign(row: Row, split: str) -> Row:
    return Row(f"{split}:{row.image}", row.picture, row.values, split)


def _divide(rows: Sequence[Row]) -> tuple[list[Row], list[Row]]:
    """Rows to train and to test on: as they say, else one of five of each set of classes.

    Which ones depends on the images' names alone, not on their order.
    """
    if any(row.split for row in rows):
        train, val, test = ([r for r in rows if r.split == n] for n in ("train", "val", "test"))
        return train, test or val
    kinds: dict[tuple, list[Row]] = defaultdict(list)
    for row in rows:
        kinds[tuple(sorted(row.values.items()))].append(row)
    order = [
        row
        for kind in sorted(kinds)
        for row in sorted(kinds[kind], key=lambda r: hashlib.sha256(r.image.encode()).digest())
    ]
    test = order[TEST_SHARE // 2 :: TEST_SHARE]
    held = {row.image for row in test}
    return [row for row in order if row.image not in held], test


def _table(rows: Sequence[Row], classes: Sequence[str]) -> Labels:
    values = {row.image: row.values for row in rows}
    return table(values, {row.image: row.picture for row in rows}, classes)


def read_folders(root: Path, images: Path | None = None) -> Iterator[Row]:
    """ROOT/CLASS/image, or ROOT/train/CLASS/image and ROOT/test/CLASS/image."""
    folders = sorted(path for path in root.iterdir() if path.is_dir())
    split_of = {path: SPLITS.get(path.name.lower()) for path in folders}
    if "train" not in split_of.values() or not {"val", "test"} & set(split_of.values()):
        split_of = {root: None}
    is_found = False
    for split_folder, split in split_of.items():
        if split is None and split_folder != root:
            raise ValueError(f"{split_folder} is neither train nor test; move it away")
        for folder in sorted(path for path in split_folder.iterdir() if path.is_dir()):
            for file in sorted(folder.iterdir()):
                if file.suffix.lower() in EXTENSIONS:
                    is_found = True
                    name = file.relative_to(root).as_posix()
                    yield Row(name, file, {folder.name: 1}, split)
    if not is_found:
        raise ValueError(f"{root} holds no CLASS/image; put each image into its class's folder")


def read_csv(file: Path, images: Path | None = None) -> Iterator[Row]:
    """Columns image and label, optionally split (train, test, val); labels parted by ";"."""
    with open(file, newline="", encoding="utf-8-sig") as lines:
        reader = csv.DictReader(lines)
        columns = {name.strip().lower(): name for name in reader.fieldnames or ()}
        if not {"image", "label"} <= set(columns):
            raise ValueError(f"{file}: the first line must name the columns image and label")
        for row in reader:
            where = f"{file}:{reader.line_num}"
            name, label, split = (
                (row.get(columns.get(key, "")) or "").strip() for key in ("image", "label", "split")
            )
            classes = [class_name.strip() for class_name in label.split(";") if class_name.strip()]
            if not name or not classes:
                raise ValueError(f"{where}: the {'label' if name else 'image'} is empty")
            if split and split.lower() not in SPLITS:
                raise ValueError(f"{where}: split {split!r} is neither train, val nor test")
            place = (images or file.parent) / name
            yield Row(name, place, dict.fromkeys(classes, 1), SPLITS.get(split.lower()))


def read_coco(file: Path, images: Path | None = None) -> Iterator[Row]:
    """An instances file; a class of which an image shows only crowds takes no part there."""
    try:
        content = json.loads(file.read_bytes())
        names = {item["id"]: item["name"] for item in content["categories"]}
        pictures = {item["id"]: item["file_name"] for item in content["images"]}
        values: dict[Any, dict[str, int]] = {key: {} for key in pictures}
        for item in content["annotations"]:
            values_of, name = values[item["image_id"]], names[item["category_id"]]
            values_of[name] = max(values_of.get(name, 0), int(not item.get("iscrowd", 0)))
    except (KeyError, TypeError) as error:
        raise ValueError(f"{file} is not COCO instances: {error!r} is missing") from error
    except ValueError as error:
        raise ValueError(f"{file} is not JSON ({error})") from error
    for key, name in pictures.items():
        yield Row(name, (images or file.parent) / name, values[key])


def read_saved(folder: Path, images: Path | None = None) -> Iterator[Row]:
    """A `datasets` dataset saved with save_to_disk: an image column and a column label(s)."""
    from datasets import DatasetDict, Image, load_from_disk

    try:
        loaded = load_from_disk(str(folder))
    except (OSError, ValueError) as error:  # pyarrow's errors are ValueErrors
        raise ValueError(f"{folder} cannot be read ({error}); save it again") from error
    loaded_splits = loaded if isinstance(loaded, DatasetDict) else {"": loaded}
    for split_name, rows in loaded_splits.items():
        if split_name and split_name.lower() not in SPLITS:
            raise ValueError(f"{folder}: split {split_name!r} is neither train, val nor test")
        column = next((n for n, kind in rows.features.items() if isinstance(kind, Image)), None)
        label = next((name for name in ("label", "labels") if name in rows.features), None)
        if column is None or label is None:
            raise ValueError(
                f"{folder} has the columns {', '.join(rows.features)}; an image and a label needed"
            )
        rows = rows.cast_column(column, Image(decode=False))
        kind = rows.features[label]
        kind = getattr(kind, "feature", kind)  # of a list of labels: the one label
        for index, value in enumerate(rows[label]):
            name = f"{split_name or 'row'}/{index:07d}"
            labels = (
                value if isinstance(value, Sequence) and not isinstance(value, str) else [value]
            )
            if any(number in (None, -1) for number in labels):
                raise ValueError(f"{folder}: {name} has no label; remove it")
            classes = [
                kind.int2str(value_) if hasattr(kind, "int2str") else str(value_)
                for value_ in labels
            ]
            picture = SavedImage(name, rows, index, column)
            yield Row(name, picture, dict.fromkeys(classes, 1), SPLITS.get(split_name.lower()))


def is_single(labels: Labels) -> bool:
    """Whether each image shows exactly one class, and no class takes no part."""
    return bool(np.all((labels.values > 0).sum(axis=1) == 1) and np.all(labels.values != 0))
