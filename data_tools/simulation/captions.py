"""Captions that people wrote without pointing, as narratives without words and traces.

    COCO    {"images": [...], "annotations": [{"image_id": 1, "caption": "..."}]}
    lines   JSON Lines: {"image_id": "...", "captions": ["...", ...]}, "dataset_id" if known

They train the contrastive loss alone.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from json import loads
from pathlib import Path
from typing import Any

from loctex.records.annotations import (
    check,
    dataset_id,
    image_ids,
    items,
    load,
    official,
    plain_id,
)
from loctex.records.narrative import Narrative, NarrativeError, numbered_lines

ANNOTATOR = 0  # not known


@dataclass(frozen=True)
class Captions:
    """The captions of one image; where: in which file, to say what is wrong."""

    dataset_id: str
    image_id: str
    texts: Sequence[str]
    where: str
    file: str | None = None  # the picture's path as a COCO file writes it

    def narratives(self) -> list[Narrative]:
        """One for each different caption. ValueError: a caption is empty, or no text."""
        key = {"dataset_id": self.dataset_id, "image_id": self.image_id}
        try:
            narratives = [
                Narrative.from_json(key | {"annotator_id": ANNOTATOR, "caption": _plain(text)})
                for text in self.texts
            ]
        except NarrativeError as error:
            raise ValueError(f"{self.where}: {error}") from error
        return list({narrative.caption: narrative for narrative in narratives}.values())


def read(
    path: Path, name: str | None = None, orphans: list[str] | None = None
) -> Iterator[Captions]:
    """The captions of each image, in the order of the file.

    dataset_id becomes NAME_SPLIT: `name` is the file's own, or "coco", unless given; the split is
    what the file's name says. orphans: gets a sentence for each caption of an image that is not in
    the file. ValueError names the file and what is wrong in it.
    """
    if path.suffix == ".jsonl":
        return _read_lines(path, name)
    return _read_coco(path, name or "coco", [] if orphans is None else orphans)


def _read_coco(path: Path, name: str, orphans: list[str]) -> Iterator[Captions]:
    content = load(path)
    if not isinstance(content, Mapping):
        raise ValueError(f"{path}: must be a COCO file of captions, or be named .jsonl")
    captions_of: dict[Any, list[str]] = defaultdict(list)
    for annotation in items(path, content, "annotations", ("image_id", "caption")):
        captions_of[plain_id(annotation["image_id"])].append(annotation["caption"])
    images = items(path, content, "images", ("id", "file_name"))
    for key in captions_of.keys() - {plain_id(image["id"]) for image in images}:
        orphans += [f"{path.name}: a caption is of image {key!r}, which is not there"]
    for own_id, image in zip(image_ids(path, name, images), images, strict=True):
        key = plain_id(image["id"])
        if key in captions_of:
            texts, where = captions_of[key], f"{path}: image {image['id']}"
            own = dataset_id(name, official(path.stem))
            yield Captions(own, own_id, texts, where, str(image["file_name"]))


def _read_lines(path: Path, name: str | None) -> Iterator[Captions]:
    for number, line in numbered_lines(path):
        where = f"{path}:{number}"
        try:
            record = loads(line)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{where}: is not JSON: {error}") from error
        check(record, f"{where}: ", ("image_id", "captions"))
        if not isinstance(record["captions"], list):
            raise ValueError(f"{where}: captions: must be a list of texts")
        own = name or str(record.get("dataset_id") or path.resolve().parent.name)
        own = dataset_id(own, official(path.stem))
        yield Captions(own, str(record["image_id"]), record["captions"], where)


def _plain(text: Any) -> Any:
    """Without the line breaks and spaces that captions end in."""
    return " ".join(text.split()) if isinstance(text, str) else text
