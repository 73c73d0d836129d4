"""Label Studio's exports: JSON (tasks with annotations), JSON_MIN and CSV (a row for each).

Read are rectangles, polygons, ellipses (as boxes), choices (classes of the whole picture) and text
areas (captions). Of several annotations of one task the one marked as ground truth counts, else the
first that was not canceled. Pictures lie where the app put them: media/upload/1/1a2b3c4d-cat.jpg is
also found as cat.jpg.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import parse_qs, unquote, urlparse

from loctex.records.annotations import Instance, UnusedLabels
from loctex.records.file_names import EXTENSIONS
from loctex.records.layouts.csv_tables import columns
from loctex.records.layouts.labeled import LabeledPicture, PictureIndex, Tree, relative, split_of
from loctex.records.text import read_json

MARKS = {"annotation_id", "annotator", "lead_time"}  # of a row, beside its own columns
OTHERS = (*MARKS, "id", "created_at", "updated_at", "agreement", "sentiment")


def evidence(tree: Tree) -> PurePosixPath | None:
    exports = (*tree.ending(".json"), *tree.ending(".csv"))
    return next((file for file in exports if is_one(tree.path(file))), None)


def is_one(path: Path) -> bool:
    """Whether the file is an export; its beginning says so before all of it is read."""
    if path.suffix.lower() == ".csv":
        return len(MARKS & set(columns(path))) >= 2
    with open(path, "rb") as file:
        if file.read(64).lstrip(b"\xef\xbb\xbf \t\r\n")[:1] != b"[":
            return False
    try:
        content = read_json(path)
    except ValueError:
        return False
    tasks = _flat(content) if isinstance(content, list) else []
    if not tasks or not isinstance(tasks[0], Mapping):
        return False
    first = tasks[0]
    return isinstance(first.get("data"), Mapping) or len(MARKS & first.keys()) >= 2


def read(tree: Tree, images: Path | None, unused: UnusedLabels) -> Iterator[LabeledPicture]:
    """ValueError names the file and the task that is wrong."""
    index = PictureIndex(tree, images) if images is not None else PictureIndex(tree)
    num_without = 0
    for file in (*tree.ending(".json"), *tree.ending(".csv")):
        if not is_one(tree.path(file)):
            continue
        for number, (name, results) in enumerate(_tasks(tree.path(file))):
            where = f"{file.name}: task {number + 1}"
            if name is None:
                raise ValueError(f"{where}: names no picture; only tasks with images are read")
            if results is None:
                num_without += 1
                continue
            picture = index.find(_path(name))
            own_name = relative(picture, tree.root, unquote(_path(name)))
            yield _picture(own_name, picture, results, split_of(file.parent), where, unused)
    if num_without:
        unused.unusable.append(f"{num_without:,} task(s) that nobody has annotated yet")


# name of the picture, and what was drawn on it; None where nobody has annotated it
_Task = tuple[str | None, list[Mapping[str, Any]] | None]


def _tasks(path: Path) -> Iterator[_Task]:
    if path.suffix.lower() == ".csv":
        with open(path, encoding="utf-8-sig", errors="replace", newline="") as text:
            for row in csv.DictReader(text):
                yield _row({key: _parsed(value) for key, value in row.items() if key})
        return
    for task in _flat(read_json(path)):
        if isinstance(task.get("data"), Mapping):
            yield _picture_name(task["data"]), _results(task.get("annotations") or ())
        else:
            yield _row(task)


def _flat(content: list[Any]) -> list[Any]:
    """The tasks; Label Studio's converter puts those of a file into a list of their own."""
    tasks: list[Any] = []
    for entry in content:
        tasks += entry if isinstance(entry, list) else [entry]
    return tasks


def _parsed(value: str | None) -> Any:
    """A cell of a CSV is JSON where it looks like it."""
    text = (value or "").strip()
    if text[:1] not in ("[", "{"):
        return text
    try:
        return json.loads(text)
    except ValueError:
        return text


def _row(row: Mapping[str, Any]) -> _Task:
    """One row of JSON_MIN or CSV: columns of the data and columns of what was drawn."""
    name = _picture_name(row)
    results: list[Mapping[str, Any]] = []
    for key, value in row.items():
        if key in OTHERS or value in ("", None) or value == name:
            continue
        if isinstance(value, Mapping):
            results.append({"value": value})
        elif isinstance(value, list) and all(isinstance(one, Mapping) for one in value):
            results += [{"value": one} for one in value]
        elif isinstance(value, (str, list)):
            kind = "text" if key.lower() in ("caption", "captions", "text", "transcription") else ""
            some = value if isinstance(value, list) else [value]
            results.append({"value": {kind or "choices": list(map(str, some))}})
    return name, results or None


def _results(annotations: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]] | None:
    done = [one for one in annotations if not one.get("was_cancelled")]
    done.sort(key=lambda one: not one.get("ground_truth"))
    return list(done[0].get("result") or ()) if done else None


def _picture_name(row: Mapping[str, Any]) -> str | None:
    values = {key: value for key, value in row.items() if isinstance(value, str)}
    pictures = [value for value in values.values() if _path(value).lower().endswith(EXTENSIONS)]
    return pictures[0] if pictures else values.get("image")


def _path(value: str) -> str:
    """The picture's path of an address of the app, or of a bucket."""
    address = urlparse(value)
    path = address.path if address.scheme else value.partition("?")[0]
    if "local-files" in value:  # /data/local-files/?d=pictures/1.jpg
        path = (parse_qs(address.query).get("d") or [path])[0]
    return path.lstrip("/")


def _picture(
    name: str,
    file: Path | None,
    results: Sequence[Mapping[str, Any]],
    split: str | None,
    where: str,
    unused: UnusedLabels,
) -> LabeledPicture:
    things: list[Instance] = []
    classes: dict[str, int] = {}
    captions: list[str] = []
    size: tuple[int, int] | None = None

    for result in results:
        value = result.get("value")
        if not isinstance(value, Mapping):
            continue
        size = size or _size(result) or _size(value)
        has_place = "x" in value or "points" in value
        if "choices" in value or "taxonomy" in value:
            if not has_place:  # else they say more of a region
                classes |= dict.fromkeys(_choices(value), 1)
        elif "text" in value:
            if not has_place:
                text = value["text"]
                captions += [text] if isinstance(text, str) else map(str, text)
        else:
            labels = [one for key in value if key.endswith("labels") for one in value[key]]
            thing = _thing(str(labels[0]), value, size) if labels else None
            if thing is not None:
                things.append(thing)
            elif labels or "rle" in value:
                kind = result.get("type") or ", ".join(value)
                unused.unusable.append(f"{where}: a region of kind {kind:.40} is not read")
    return LabeledPicture(name, file, split, tuple(things), classes, tuple(captions), size)


def _choices(value: Mapping[str, Any]) -> list[str]:
    if "choices" in value:
        choices = value["choices"]
        return [choices] if isinstance(choices, str) else list(map(str, choices))
    return [" / ".join(map(str, path)) for path in value["taxonomy"]]


def _size(value: Mapping[str, Any]) -> tuple[int, int] | None:
    width, height = value.get("original_width"), value.get("original_height")
    return (int(width), int(height)) if width and height else None


def _thing(name: str, value: Mapping[str, Any], size: tuple[int, int] | None) -> Instance | None:
    """Of a rectangle, perhaps turned, a polygon or an ellipse, in percent of the picture; None
    where it is something else, or has no area inside."""
    outline: list[tuple[float, float]] | None = None
    if "points" in value:
        outline = [(float(x) / 100, float(y) / 100) for x, y in value["points"]]
    elif "radiusX" in value:
        x, y, dx, dy = (float(value[key]) / 100 for key in ("x", "y", "radiusX", "radiusY"))
        corners = [(x - dx, y - dy), (x + dx, y + dy)]
    elif {"x", "y", "width", "height"} <= value.keys():
        corners, is_turned = _rectangle(value, size)
        outline = corners if is_turned else None
    else:
        return None

    points = outline or corners
    xs, ys = zip(*points, strict=True)
    box = (max(min(xs), 0.0), max(min(ys), 0.0), min(max(xs), 1.0), min(max(ys), 1.0))
    if box[0] >= box[2] or box[1] >= box[3]:
        return None
    if outline is None or size is None:
        return Instance(name, box)
    polygon = [side for x, y in outline for side in (x * size[0], y * size[1])]
    return Instance(name, box, [polygon])


def _rectangle(
    value: Mapping[str, Any], size: tuple[int, int] | None
) -> tuple[list[tuple[float, float]], bool]:
    """Its four corners, turned clockwise around the first, in pixels; whether it is turned."""
    x, y, width, height = (float(value[key]) / 100 for key in ("x", "y", "width", "height"))
    angle = math.radians(float(value.get("rotation") or 0))
    sides = size or (1, 1)
    cosine, sine = math.cos(angle), math.sin(angle)
    corners = []
    for across, down in ((0.0, 0.0), (width, 0.0), (width, height), (0.0, height)):
        right, below = across * sides[0], down * sides[1]
        corners.append(
            (
                x + (right * cosine - below * sine) / sides[0],
                y + (right * sine + below * cosine) / sides[1],
            )
        )
    return corners, bool(angle)
