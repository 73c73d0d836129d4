"""COCO's files in the folders that tools put them into.

    annotations/instances_default.json, images/     CVAT
    annotations/instances_val2017.json, val2017/    COCO itself
    train/_annotations.coco.json, train/1.jpg       Roboflow

Captions of the same pictures (annotations/captions_*.json) come with them.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any

from loctex.records import annotations
from loctex.records.annotations import UnusedLabels, official, plain_id
from loctex.records.layouts.labeled import LabeledPicture, PictureIndex, Tree, relative, split_of
from loctex.records.text import read_json

BESIDE_INSTANCES = (
    "person_keypoints",
    "panoptic",
    "stuff",
    "image_info",
)  # the same pictures again
INSTANCES, CAPTIONS = "instances", "captions"
LARGEST_JSON = 4 << 30  # bytes


def evidence(tree: Tree) -> PurePosixPath | None:
    files = _files(tree)
    return files[0] if files else None


def read(tree: Tree, images: Path | None, unused: UnusedLabels) -> Iterator[LabeledPicture]:
    """ValueError names the file and the field that is wrong."""
    index = PictureIndex(tree, images) if images is not None else PictureIndex(tree)
    files = _files(tree)
    captioned = [file for file in files if _kind(tree.path(file)) == CAPTIONS]
    captions_of = _captions({file: read_json(tree.path(file)) for file in captioned})

    for file in files:
        if file in captioned:
            continue
        split = split_of(file.parent) or official(file.stem)
        for image in annotations.read(tree.path(file), unused=unused):
            key = image.file or image.image_id
            picture = index.find(key, file.parent)
            yield LabeledPicture(
                name=relative(picture, tree.root, str(file.parent / key)),
                file=picture,
                split=split,
                instances=image.instances,
                captions=tuple(captions_of.pop((split, key), ())),
                size=(image.width, image.height),
            )

    for (split, key), texts in captions_of.items():
        picture = index.find(key)
        name = relative(picture, tree.root, key)
        yield LabeledPicture(name, picture, split, captions=tuple(texts))


def _captions(contents: Mapping[PurePosixPath, Any]) -> dict[tuple[str | None, str], list[str]]:
    """(split, file name) -> captions."""
    captions: dict[tuple[str | None, str], list[str]] = defaultdict(list)
    for file, content in contents.items():
        split = split_of(file.parent) or official(file.stem)
        names = {plain_id(image["id"]): str(image["file_name"]) for image in content["images"]}
        for entry in content["annotations"]:
            key = plain_id(entry["image_id"])
            if key in names and str(entry["caption"]).strip():
                captions[split, names[key]].append(str(entry["caption"]))
    return dict(captions)


def _files(tree: Tree) -> list[PurePosixPath]:
    """The files of instances, and of captions; those of the same pictures again are not read."""
    files = []
    for file in tree.ending(".json"):
        is_placed = file.parent.name.lower() in ("annotations", "labels") or len(file.parts) <= 2
        if is_placed and _kind(tree.path(file)):
            files.append(file)
    first = [file for file in files if not file.name.startswith(BESIDE_INSTANCES)]
    return first or files


def _kind(path: Path) -> str:
    """INSTANCES, CAPTIONS, or "" for another file; read whole where its beginning is JSON's, and
    once."""
    status = path.stat()
    return _kind_of(path, status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=64)
def _kind_of(path: Path, size: int, written: int) -> str:
    if not 2 < size <= LARGEST_JSON:
        return ""
    with open(path, "rb") as file:
        if file.read(64).lstrip(b"\xef\xbb\xbf \t\r\n")[:1] != b"{":
            return ""
    try:
        content = read_json(path)
    except ValueError:
        return ""

    if not all(isinstance(content.get(key), list) for key in ("images", "annotations")):
        return ""
    if isinstance(content.get("categories"), list):
        return INSTANCES
    first = next(iter(content["annotations"]), None)
    return CAPTIONS if isinstance(first, Mapping) and "caption" in first else ""
