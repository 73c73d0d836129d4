"""Labels of any layout for the simulated narrator: one file or folder after another."""

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from loctex.records import annotations
from loctex.records.annotations import ImageAnnotations, UnusedLabels
from loctex.records.layouts.recognition import recognise
from loctex.records.text import read_json

# what is labeled on a picture, and what people wrote of it
Labeled = tuple[ImageAnnotations, tuple[str, ...]]


def read(path: Path, images: Path, name: str | None, unused: UnusedLabels) -> Iterator[Labeled]:
    """The labels of a COCO file, a folder of VOC's XML, a JSON of boxes, or of a folder as a tool
    unzips it. images: where the pictures lie; path itself where they lie beside their labels.

    ValueError names what is wrong, or that nothing here is known.
    """
    if is_plain(path):
        for one in annotations.read(path, name, unused):
            yield one, ()
        return

    layout = recognise(path)
    if layout is None or layout.has_narratives:
        raise ValueError(
            f"{path}: no labels of boxes are known here; it may be a COCO file, YOLO's data.yaml "
            "with labels/, Pascal VOC's XML, Label Studio's export, or Open Images' CSV"
        )
    root = layout.tree.root
    data_set = name or re.sub(r"\W+", "_", root.resolve().name)
    for picture in layout.pictures(None if images == root else images, unused):
        if picture.file is None:
            unused.orphans.append(f"{picture.name}: there is no such picture")
            continue
        try:
            labels = picture.annotations(data_set)
        except (ValueError, OSError) as error:
            unused.unusable.append(str(error))
            continue
        if picture.file.is_relative_to(images):  # whatever the labels call it
            file = picture.file.relative_to(images)
            labels = replace(labels, image_id=file.stem, file=file.as_posix())
        yield labels, picture.captions


def is_plain(path: Path) -> bool:
    """Whether it is one of the three that `loctex.records.annotations` reads by itself."""
    if path.is_dir():
        return any(file.suffix.lower() == ".xml" for file in path.iterdir())
    return path.suffix.lower() == ".json" and isinstance(read_json(path), dict)


def pictures_of(path: Path) -> Path:
    """The folder in which a layout's pictures lie beside its labels."""
    return path if path.is_dir() else path.parent
