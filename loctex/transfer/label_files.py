"""Reads labels as people keep them: class folders, CSV, COCO JSON, a saved dataset, VOCdevkit, and
what other tools unzip (loctex/records/layouts): YOLO, Roboflow, CVAT, Label Studio, Open Images.

Every reader gives rows; `read` makes the tables to train and to test on out of them. An image is
named by its place in its source.
"""

import csv
import hashlib
import io
import os
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from loctex.records.annotations import UnusedLabels, plain_id, twice
from loctex.records.file_names import EXTENSIONS, find_file, is_hidden
from loctex.records.images import begins_as_image
from loctex.records.layouts.labeled import SPLITS
from loctex.records.layouts.recognition import (
    NARRATIVES,
    SNAPSHOT,
    VIDEO_NARRATIVES,
    recognise,
)
from loctex.records.text import read_json, read_text
from loctex.transfer import voc
from loctex.transfer.encoders import Picture
from loctex.transfer.labels import Labels, table

if TYPE_CHECKING:
    from datasets import Dataset

LeftOut = dict[str, str]  # what was not read -> how many, or why
COLUMNS = {  # of a CSV, with the names that other programs give them
    "image": ("image", "file_name", "filename", "image_path", "path", "file"),
    "label": ("label", "labels", "class", "category"),
    "split": ("split",),
}
TABLES = {"Roboflow CSV", "Label Studio", "Open Images CSV"}  # a CSV with columns of its own
WITHOUT_CLASSES = {"captions", NARRATIVES, VIDEO_NARRATIVES, SNAPSHOT}
NO_CLASSES = {"images", "image", "imgs", "img", "pictures", "photos", "jpegimages", "data"}
UNLABELED = {"unsupervised", "unlabeled", "unlabelled"}  # splits that say they have no labels
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
    labels: Path,
    images: Path | None = None,
    test: Path | None = None,
    left_out: LeftOut | None = None,
) -> tuple[Labels, Labels]:
    """The tables to train and to test on.

    labels: a folder or file as in this module's docstring. images: the folder that CSV and COCO
    JSON name files of; beside the file where None. test: the same again, to test on; where None,
    the source's own test (else val) images; where it has none, every fifth image of each kind.
    left_out: gets what was not read, by kind. ValueError says what is wrong, and where.
    """
    left_out = {} if left_out is None else left_out
    if test is None and _is_devkit(labels):
        return _read_devkit(labels, left_out)
    rows = _read_rows(labels, images, left_out)
    if test is not None:
        of_test: LeftOut = {}
        train = [_assign(row, "train") for row in rows]
        held = [_assign(row, "test") for row in _read_rows(test, images, of_test)]
        rows = train + held
        left_out |= {f"to test on: {what}": why for what, why in of_test.items()}
    else:
        train, held = _divide(rows, left_out)
    for labels_of_split, name in ((train, "train"), (held, "test")):
        if not labels_of_split:
            raise ValueError(f"{labels} holds no image to {name} on")
    classes = sorted({name for row in rows for name in row.values})
    return _table(train, classes), _table(held, classes)


def _is_devkit(labels: Path) -> bool:
    """Pascal VOC's folders, perhaps one level down, and perhaps without the lists of its sets."""
    has_sets = any([*labels.glob("ImageSets/Main"), *labels.glob("*/ImageSets/Main")])
    return has_sets or all((labels / name).is_dir() for name in ("Annotations", "JPEGImages"))


def _read_devkit(labels: Path, left_out: LeftOut) -> tuple[Labels, Labels]:
    folder = voc.find(labels)
    tables = voc.read(folder, *voc.splits(folder))
    used = {image for table_of_split in tables for image in table_of_split.images}
    files = _files_below(folder / "JPEGImages")
    num_unused = sum(is_image(file) and file.stem not in used for file in files)
    if num_unused:
        left_out["images of no set to train or test on"] = f"{num_unused} not used"
    return tables


def _read_rows(labels: Path, images: Path | None, left_out: LeftOut) -> list[Row]:
    """ValueError names a picture that is there twice, perhaps with its name written otherwise."""
    rows = list(_reader(labels)(labels, images, left_out))
    names = [row.image for row in rows]
    files = [os.fspath(row.picture) for row in rows if isinstance(row.picture, Path)]
    for key, count in chain(Counter(names).items(), Counter(files).items()):
        if count > 1:
            raise ValueError(f"{labels}: image {key!r} is listed twice; give it one line")
    return rows


def _reader(path: Path) -> Callable[[Path, Path | None, LeftOut | None], Iterator[Row]]:
    if any((path / name).exists() for name in ("dataset_dict.json", "dataset_info.json")):
        return read_saved
    layout = recognise(path) if path.exists() else None
    if path.suffix.lower() in (".csv", ".tsv"):
        return read_layout if layout is not None and layout.kind in TABLES else read_csv
    if path.suffix.lower() == ".json":
        return read_layout if layout is not None and layout.kind == "Label Studio" else read_coco
    if layout is not None and layout.kind not in WITHOUT_CLASSES:
        return read_layout
    if path.is_dir():
        return read_folders
    raise ValueError(
        f"{path}: expected a folder of class folders, a .csv, a COCO .json, a dataset saved with "
        "save_to_disk, a VOCdevkit, or what YOLO, Roboflow, CVAT, Label Studio, Open Images write"
    )


def read_layout(
    path: Path, images: Path | None = None, left_out: LeftOut | None = None
) -> Iterator[Row]:
    """A layout that another tool wrote; the boxes of a picture say which classes it shows."""
    layout = recognise(path)
    assert layout is not None  # or it was given to another reader
    unused, num_missing = UnusedLabels(), 0
    for picture in layout.pictures(images, unused):
        if picture.file is None:
            num_missing += 1
            continue
        values = {_class_name(name): value for name, value in picture.shown().items()}
        yield Row(picture.name, picture.file, values, picture.split)
    if left_out is None:
        return
    if num_missing:
        left_out["pictures that are named and not there"] = f"{num_missing} not read"
    for kind, sentences in (
        ("labels of no picture", unused.orphans),
        ("labels that cannot be used", unused.unusable),
    ):
        if sentences:
            left_out[kind] = f"{len(sentences)} not read, as {sentences[0]}"


def _assign(row: Row, split: str) -> Row:
    return Row(f"{split}:{row.image}", row.picture, row.values, split)


def _divide(rows: Sequence[Row], left_out: LeftOut) -> tuple[list[Row], list[Row]]:
    """Rows to train and to test on: as they say, else one of five of each set of classes.

    Which ones depends on the images' names alone, not on their order. left_out: gets what belongs
    to neither.
    """
    if any(row.split for row in rows):
        train, val, test = ([r for r in rows if r.split == n] for n in ("train", "val", "test"))
        if val and test:
            left_out["split val"] = f"{len(val)} images not used: there are some to test on"
        num_without = sum(row.split is None for row in rows)
        if num_without:
            left_out["images without a split"] = f"{num_without} not used: the others have one"
        if test or val:
            return train, test or val
        rows = train  # all there is
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


def read_folders(
    root: Path, images: Path | None = None, left_out: LeftOut | None = None
) -> Iterator[Row]:
    """ROOT/CLASS/image, or ROOT/train/CLASS/image and ROOT/test/CLASS/image; folders inside a
    class's are walked down."""
    ignored = Counter[str]()
    is_found = False
    names: set[str] = set()
    for split_folder, split in _split_folders(root, left_out).items():
        for folder in sorted(_visible(split_folder)):
            if not folder.is_dir():
                ignored[f"images beside the folders of {split_folder.name}"] += is_image(folder)
                continue
            for file in _files_below(folder):
                if file.is_dir():
                    ignored["links to folders inside a class's"] += 1
                    continue
                if not is_image(file):
                    ignored[f"files {file.suffix.lower() or file.name}"] += 1
                    continue
                is_found = True
                names.add(folder.name)
                name = file.relative_to(root).as_posix()
                yield Row(name, file, {_class_name(folder.name): 1}, split)
    if not is_found:
        raise ValueError(f"{root} holds no CLASS/image; put each image into its class's folder")
    if {name.lower() for name in names} <= NO_CLASSES:
        raise ValueError(
            f"{root}: its only class would be {', '.join(sorted(names))!r}, which is no class: it "
            "holds pictures, and no labels that are known. Put each image into its class's folder, "
            "or add what names the labels (YOLO's data.yaml, COCO's instances.json, a labels.csv)"
        )
    if left_out is not None:
        left_out |= {kind: f"{count} not read" for kind, count in sorted(ignored.items()) if count}


def _split_folders(root: Path, left_out: LeftOut | None) -> dict[Path, str | None]:
    """The folders that hold class folders, with their splits; the root itself where it has none."""
    folders = [path for path in sorted(_visible(root)) if path.is_dir()]
    split_of = {path: SPLITS.get(path.name.lower()) for path in folders}
    unlabeled = [path for path in folders if path.name.lower() in UNLABELED]
    trains = [path for path, split in split_of.items() if split == "train"]

    # a class may be called train: alone it is a split if its images lie in folders of their own
    is_alone = len(trains) + len(unlabeled) == len(folders)
    is_split = bool({"val", "test"} & set(split_of.values())) or is_alone
    if not trains or not is_split or (is_alone and any(map(is_image, _visible(trains[0])))):
        return {root: None}

    for path in unlabeled:
        del split_of[path]
        if left_out is not None:
            num_images = sum(map(is_image, _files_below(path)))
            left_out[f"folder {path.name}"] = f"its {num_images} images have no labels"
    for path, split in split_of.items():
        if split is None:
            raise ValueError(f"{path} is neither train nor test; move it away")
    return dict(split_of)


def _visible(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if not is_hidden(path.name)]


def _files_below(folder: Path) -> Iterator[Path]:
    """All files in the folder and in those inside it, but for hidden ones, in order.

    Of links to folders, which may lead in a circle, the links themselves.
    """
    for path, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not is_hidden(name))
        links = [name for name in folders if Path(path, name).is_symlink()]
        visible = [name for name in names if not is_hidden(name)]
        yield from (Path(path, name) for name in sorted(visible + links))


def is_image(file: Path) -> bool:
    """Whether its name says so, or, whatever it is called, its first bytes."""
    if file.suffix.lower() in EXTENSIONS:
        return file.is_file()
    try:
        with open(file, "rb") as content:
            return begins_as_image(content.read(16))
    except OSError:
        return False


def _class_name(name: str) -> str:
    """One form of Unicode, so that a class written on two systems is one."""
    return unicodedata.normalize("NFC", name.strip())


def read_csv(
    file: Path, images: Path | None = None, left_out: LeftOut | None = None
) -> Iterator[Row]:
    """Columns image and label, optionally split (train, test, val); labels parted by ";".

    Commas, semicolons or tabs between columns, and any encoding that spreadsheets write.
    """
    text = read_text(file)
    if text.lower().startswith("sep="):  # Excel's own first line
        text = text.partition("\n")[2]
    delimiter = _delimiter(text.partition("\n")[0])
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    num_unlabeled = 0
    try:
        names = {name.strip().lower(): name for name in reader.fieldnames or ()}
        columns = {key: _column(names, aliases) for key, aliases in COLUMNS.items()}
        if columns["image"] is None or columns["label"] is None:
            raise ValueError(f"{file}: the first line must name the columns image and label")
        for record in reader:
            where = f"{file}:{reader.line_num}"
            if any(record.pop(None, ())):
                raise ValueError(
                    f"{where}: has more columns than the first line; put what holds a "
                    f"{delimiter!r} into quotes"
                )
            name, label, split = (
                (record.get(column) or "").strip() if column is not None else ""
                for column in columns.values()
            )
            if not any(isinstance(value, str) and value.strip() for value in record.values()):
                continue  # an empty row of a spreadsheet
            classes = [_class_name(one) for one in label.split(";") if one.strip()]
            if split.lower() in UNLABELED:
                num_unlabeled += 1
                continue
            if not name or not classes:
                raise ValueError(f"{where}: the {'label' if name else 'image'} is empty")
            if split and split.lower() not in SPLITS:
                raise ValueError(f"{where}: split {split!r} is neither train, val nor test")
            place = _place(images or file.parent, name, where)
            yield Row(name, place, dict.fromkeys(classes, 1), SPLITS.get(split.lower()))
    except csv.Error as error:
        raise ValueError(
            f"{file}:{reader.line_num + 1}: {error}; does a quote have no second one?"
        ) from error
    if num_unlabeled and left_out is not None:
        left_out["lines without labels"] = f"{num_unlabeled} not read"


def _delimiter(header: str) -> str:
    """What parts most columns of the first line."""
    return max(",;\t|", key=header.count)


def _column(names: Mapping[str, str], aliases: Sequence[str]) -> str | None:
    return next((names[alias] for alias in aliases if alias in names), None)


def _place(folder: Path, name: str, where: str) -> Path:
    """Where the named picture lies, its name perhaps written as another system does."""
    if "\0" in name:
        raise ValueError(f"{where}: the image's name has a zero byte in it")
    try:
        return find_file(folder, name) or folder / name
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error


def read_coco(
    file: Path, images: Path | None = None, left_out: LeftOut | None = None
) -> Iterator[Row]:
    """An instances file; a class of which an image shows only crowds takes no part there."""
    content = read_json(file)
    try:
        twice(file, "images", [plain_id(item["id"]) for item in content["images"]])
        names = {plain_id(item["id"]): _class_name(item["name"]) for item in content["categories"]}
        pictures = {plain_id(item["id"]): item["file_name"] for item in content["images"]}
        values: dict[Any, dict[str, int]] = {key: {} for key in pictures}
        for i, item in enumerate(content["annotations"]):
            if plain_id(item["image_id"]) not in values:
                raise ValueError(
                    f"{file}: annotations[{i}] is of image {item['image_id']!r}, which is not "
                    "there; take it out, or add the image"
                )
            values_of = values[plain_id(item["image_id"])]
            name = names[plain_id(item["category_id"])]
            values_of[name] = max(values_of.get(name, 0), int(not item.get("iscrowd", 0)))
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{file} is not COCO instances: {error!r} is missing") from error
    for key, name in pictures.items():
        place = _place(images or file.parent, str(name), f"{file}: image {key!r}")
        yield Row(str(name), place, values[key])


def read_saved(
    folder: Path, images: Path | None = None, left_out: LeftOut | None = None
) -> Iterator[Row]:
    """A `datasets` dataset saved with save_to_disk: an image column and a column label(s)."""
    from datasets import DatasetDict, Image, load_from_disk

    try:
        loaded = load_from_disk(str(folder))
    except (OSError, ValueError) as error:  # pyarrow's errors are ValueErrors
        raise ValueError(f"{folder} cannot be read ({error}); save it again") from error
    loaded_splits = loaded if isinstance(loaded, DatasetDict) else {"": loaded}
    for split_name, rows in loaded_splits.items():
        if split_name.lower() in UNLABELED:
            if left_out is not None:
                left_out[f"split {split_name}"] = f"its {len(rows)} images have no labels"
            continue
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
        _refuse_one_hot(folder, label, rows[label], hasattr(kind, "int2str"))
        for index, value in enumerate(rows[label]):
            name = f"{split_name or 'row'}/{index:07d}"
            labels = (
                value if isinstance(value, Sequence) and not isinstance(value, str) else [value]
            )
            if any(one in (None, -1, "") or one != one for one in labels):  # NaN is not itself
                raise ValueError(f"{folder}: {name} has no label; remove it")
            classes = [
                _class_name(kind.int2str(one) if hasattr(kind, "int2str") else str(one))
                for one in labels
            ]
            picture = SavedImage(name, rows, index, column)
            yield Row(name, picture, dict.fromkeys(classes, 1), SPLITS.get(split_name.lower()))


def _refuse_one_hot(folder: Path, label: str, values: Iterable, has_names: bool) -> None:
    """ValueError where each row has a list of zeros and ones, as long as all others."""
    lists = [one for one in values if isinstance(one, Sequence) and not isinstance(one, str)]
    lengths = {len(value) for value in lists}
    is_binary = all(one in (0, 1) for one in chain.from_iterable(lists))
    is_one_hot = is_binary and len(lengths) == 1 and min(lengths) > 1
    if is_one_hot and not has_names:
        raise ValueError(
            f"{folder}: {label} holds {min(lengths)} zeros and ones a row; write the numbers or "
            "names of the classes that are shown, [2] for [0, 0, 1]"
        )


def is_single(labels: Labels) -> bool:
    """Whether each image shows exactly one class, and no class takes no part."""
    return bool(np.all((labels.values > 0).sum(axis=1) == 1) and np.all(labels.values != 0))
