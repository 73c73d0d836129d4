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
    ImageAnnotations,
    check,
    dataset_id,
    image_ids,
    items,
    load,
    official,
    plain_id,
)
from loctex.records.file_names import folded, plain_path
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


class CaptionIndex:
    """People's captions, found for the labels of the same picture."""

    def __init__(self) -> None:
        self._entries: dict[str, list[Captions]] = defaultdict(list)  # by file name, by image id
        self._unused: dict[int, Captions] = {}  # by identity

    def add(self, captions: Captions) -> None:
        self._unused[id(captions)] = captions
        keys = {f"id {captions.image_id}"}
        if captions.file is not None:
            keys.add(_file_key(captions.file))
        for key in keys:
            self._entries[key].append(captions)

    def of(self, labels: ImageAnnotations) -> list[str]:
        """The captions of the picture: of its file, whose folders may begin at another one, or,
        where one of the two names no file, of its image id. Those of two pictures are nobody's."""
        entries = self._entries.get(f"id {labels.image_id}", [])
        entries = [one for one in entries if one.file is None or labels.file is None]
        if not entries and labels.file is not None:
            named = self._entries.get(_file_key(labels.file), [])
            named = [one for one in named if _may_be_one(labels.file, one.file or "")]
            same = [one for one in named if plain_path(one.file or "") == plain_path(labels.file)]
            entries = same or named
            if len({str(plain_path(one.file or "")) for one in entries}) > 1:
                return []

        for captions in entries:
            self._unused.pop(id(captions), None)
        return [text for captions in entries for text in captions.texts]

    @property
    def num_unused(self) -> int:
        """Captioned images of which no labels were looked for."""
        return sum(bool(captions.texts) for captions in self._unused.values())


def _file_key(file: str) -> str:
    return f"file {folded(plain_path(file).name)}"


def _may_be_one(file: str, other: str) -> bool:
    """Whether one path ends as the whole other one."""
    pieces = [list(map(folded, plain_path(path).parts)) for path in (file, other)]
    shorter, longer = sorted(pieces, key=len)
    return longer[-len(shorter) :] == shorter


def read(
    path: Path, name: str | None = None, orphans: list[str] | None = None
) -> Iterator[Captions]:
    """The captions of each image, perhaps none, in the order of the file.

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
        texts = captions_of.get(plain_id(image["id"]), [])
        where = f"{path}: image {image['id']}"
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
