"""Open Images' CSV: boxes and labels of whole pictures, named by MID.

    *-annotations-bbox.csv, detections.csv              ImageID,Source,LabelName,Confidence,XMin,...
    *-annotations-human-imagelabels*.csv, classifications.csv   ImageID,Source,LabelName,Confidence
    class-descriptions*.csv, classes.csv                /m/01yrx,Cat

A label of a whole picture with Confidence 0 says that the class is not shown; what is not mentioned
was not looked at, and takes no part.
"""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from loctex.records.annotations import Instance, UnusedLabels
from loctex.records.layouts.csv_tables import columns, rows
from loctex.records.layouts.labeled import LabeledPicture, PictureIndex, Tree, relative, split_of

BOX = {"ImageID", "LabelName", "XMin", "XMax", "YMin", "YMax"}
LABEL = {"ImageID", "LabelName", "Confidence"}
SIDES = ("XMin", "YMin", "XMax", "YMax")


def evidence(tree: Tree) -> PurePosixPath | None:
    files = [file for file in tree.ending(".csv") if LABEL <= set(columns(tree.path(file)))]
    files += [file for file in tree.ending(".csv") if BOX <= set(columns(tree.path(file)))]
    return files[0] if files else None


def read(tree: Tree, images: Path | None, unused: UnusedLabels) -> Iterator[LabeledPicture]:
    """Only pictures that lie here: the files name millions. ValueError: a class has no name."""
    index = PictureIndex(tree, images) if images is not None else PictureIndex(tree)
    names = _names(tree)
    things: dict[str, list[Instance]] = defaultdict(list)
    values: dict[str, dict[str, int]] = defaultdict(dict)
    splits: dict[str, str | None] = {}
    missing: set[str] = set()

    for file in tree.ending(".csv"):
        header = set(columns(tree.path(file)))
        if not LABEL <= header and not BOX <= header:
            continue
        split = split_of(PurePosixPath(str(file).replace("-", "/"))) or split_of(file.parent)
        for number, record in rows(tree.path(file)):
            key = record["ImageID"]
            if index.find_stem(key) is None:
                missing.add(key)
                continue
            splits.setdefault(key, split)
            where = f"{tree.path(file)}:{number}"
            name = _name(record["LabelName"], names, where)
            if BOX <= header:
                thing = _thing(name, record, where)
                if thing is None:
                    unused.unusable.append(f"{where}: its box has no area inside the image")
                else:
                    things[key].append(thing)
            else:
                is_shown = float(record["Confidence"] or 1) >= 0.5
                values[key][name] = 1 if is_shown else -1

    every = {name: 0 for some in values.values() for name in some}
    for key in splits:
        picture = index.find_stem(key)
        classes = every | values[key] if values else {}
        name = relative(picture, tree.root, key)
        yield LabeledPicture(name, picture, splits[key], tuple(things[key]), classes)
    if missing:
        unused.orphans.append(f"{len(missing):,} images of the CSV have no picture here")


def _names(tree: Tree) -> dict[str, str]:
    """MID -> name."""
    names: dict[str, str] = {}
    for file in tree.ending(".csv"):
        if not file.name.lower().startswith(("class-descriptions", "oidv", "classes")):
            continue
        with open(tree.path(file), encoding="utf-8-sig", newline="") as text:
            for row in csv.reader(text):
                if len(row) == 2 and row[0].startswith("/"):
                    names[row[0]] = row[1]
    return names


def _name(mid: str, names: dict[str, str], where: str) -> str:
    if mid in names:
        return names[mid]
    if not mid.startswith("/"):
        return mid
    raise ValueError(
        f"{where}: nothing says what {mid} is called; put Open Images' class-descriptions.csv "
        "(class-descriptions-boxable.csv for boxes) beside it"
    )


def _thing(name: str, record: dict[str, str], where: str) -> Instance | None:
    try:
        x0, y0, x1, y1 = (min(max(float(record[side]), 0.0), 1.0) for side in SIDES)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error
    is_crowd = record.get("IsGroupOf", "0") == "1"
    return Instance(name, (x0, y0, x1, y1), None, is_crowd) if x0 < x1 and y0 < y1 else None
