"""Pictures that can be looked at: of snapshots and collections, with what was told of them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np

from loctex.records.images import decode_image
from loctex.records.items import Split
from loctex.records.narrative import Narrative
from loctex.records.snapshot import Snapshot
from ui.workspace import Workspace

PAGE = 12  # pictures offered at a time
THUMBNAIL = 240  # pixels of the long side


@dataclass(frozen=True)
class PictureRef:
    """A picture that can be looked at, with one of its narratives, or none."""

    caption: str
    source: str = ""
    row: int = 0  # of the split
    narrative: int | None = None  # number within the image of a split, or the store's id
    path: Path | None = None  # a picture of a collection, or one dropped in


def sources(workspace: Workspace) -> list[tuple[str, str]]:
    """(label, key) of each place that holds pictures: unseen ones of snapshots first."""
    choices = []
    for folder in workspace.snapshots():
        splits = sorted(_snapshot(folder).splits, key=("val", "test", "train").index)

        choices += [
            (f"{folder.name} · {split}", f"snapshot/{folder.name}/{split}")
            for split in splits
            if len(_snapshot(folder).split(split))
        ]

    return choices + [
        (f"{collection.name} (collection)", f"collection/{collection.id}")
        for collection in workspace.store.collections()
        if collection.num_images
    ]


def list_items(
    workspace: Workspace, source: str, after: int = 0
) -> tuple[list[PictureRef], int | None]:
    """Up to PAGE pictures with their narratives, and where the next page starts (None: nowhere)."""
    kind, _, name = source.partition("/")
    if kind == "snapshot":
        return _of_split(workspace, source, after)

    collection, items = int(name), []
    rows = workspace.store.images(collection, after=after, limit=PAGE)
    for row in rows:
        narratives = workspace.store.narratives(collection, image_row_id=row.id)
        path = Path(row.path)
        items += [
            PictureRef(narrative.caption, source, narrative=narrative.id, path=path)
            for narrative in narratives
        ]
        if not narratives:
            items.append(PictureRef("", source, path=path))

    return items, rows[-1].id if len(rows) == PAGE else None


def _of_split(workspace: Workspace, source: str, after: int) -> tuple[list[PictureRef], int | None]:
    split, end = open_split(workspace, source), after + PAGE
    items = [
        PictureRef(narrative.caption, source, row, number)
        for row in range(after, min(end, len(split)))
        for number, narrative in enumerate(split[row].narratives)
    ]
    return items, end if end < len(split) else None


def load_item(workspace: Workspace, item: PictureRef) -> tuple[np.ndarray, Narrative | None]:
    """The picture, (H, W, 3) uint8 RGB, and what was told of it. ValueError for a bad picture."""
    if item.path is None:
        assert item.narrative is not None  # a split's pictures have narratives
        row = open_split(workspace, item.source)[item.row]
        return decode_image(row.image), row.narratives[item.narrative]
    narrative = None if item.narrative is None else workspace.store.narrative(item.narrative)
    return decode_image(item.path), narrative


def thumbnail(image: np.ndarray) -> np.ndarray:
    """(H, W, 3) -> at most THUMBNAIL pixels long."""
    scale = min(1.0, THUMBNAIL / max(image.shape[:2]))
    size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA)


def open_split(workspace: Workspace, source: str) -> Split:
    """Of "snapshot/NAME/SPLIT". ValueError where there is no such snapshot or split."""
    _, folder, split = source.split("/")
    return _snapshot(workspace.snapshot(folder)).split(split)


def _snapshot(folder: Path) -> Snapshot:
    return _open(folder, (folder / "snapshot.json").stat().st_mtime_ns)


@lru_cache(maxsize=8)
def _open(folder: Path, written: int) -> Snapshot:
    return Snapshot.open(folder)
