"""Pascal VOC's XML: Annotations/ beside JPEGImages/, or each beside its picture (Roboflow)."""

from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from loctex.records import annotations
from loctex.records.annotations import UnusedLabels
from loctex.records.layouts.labeled import LabeledPicture, PictureIndex, Tree, relative, split_of


def evidence(tree: Tree) -> PurePosixPath | None:
    for folder in _folders(tree):
        first = next(file for file in tree.ending(".xml") if file.parent == folder)
        with open(tree.path(first), "rb") as file:
            if b"<annotation" in file.read(4096):
                return first
    return None


def _folders(tree: Tree) -> list[PurePosixPath]:
    return sorted({file.parent for file in tree.ending(".xml")})


def read(tree: Tree, images: Path | None, unused: UnusedLabels) -> Iterator[LabeledPicture]:
    index = PictureIndex(tree, images) if images is not None else PictureIndex(tree)
    for folder in _folders(tree):
        for image in annotations.read(tree.path(folder), unused=unused):
            picture = index.find_stem(image.image_id, folder)
            name = relative(picture, tree.root, str(folder / image.image_id))
            listed = annotations.official(image.dataset_id.replace("_", " "))
            split = listed or split_of(folder)
            size = image.width, image.height
            yield LabeledPicture(name, picture, split, image.instances, size=size)
