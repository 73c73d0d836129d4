"""What to annotate next: pictures where the model is worst or least certain, as a collection."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np

from data_tools.store import ImageRow
from loctex.records.images import decode_image
from loctex.records.items import Item
from ui.viewing.models import Models
from ui.viewing.survey import Survey, uncertainty
from ui.workspace import Workspace


def queue_items(workspace: Workspace, name: str, items: Iterable[Item]) -> tuple[str, int]:
    """A new collection of these pictures; its name and size.

    The original is taken where a collection has it, else the snapshot's smaller copy.
    """
    originals = _originals(workspace)
    keyed = (((item.dataset_id, item.image_id), item.image) for item in items)
    return _queue(workspace, name, ((*key, originals.get(key), copy) for key, copy in keyed))


def queue_rows(workspace: Workspace, name: str, rows: Sequence[ImageRow]) -> tuple[str, int]:
    """A new collection of pictures that other collections hold."""
    return _queue(workspace, name, ((row.dataset_id, row.image_id, row, b"") for row in rows))


def _queue(
    workspace: Workspace, name: str, pictures: Iterable[tuple[str, str, ImageRow | None, bytes]]
) -> tuple[str, int]:
    store = workspace.store
    names = {collection.name for collection in store.collections()}

    unique = next(
        full
        for k in range(1, len(names) + 2)
        if (full := name if k == 1 else f"{name} {k}") not in names
    )

    collection, keys = None, set()
    for dataset_id, image_id, original, copy in pictures:
        if (dataset_id, image_id) in keys:
            continue
        if collection is None:
            collection = store.add_collection(unique)
        data = original.path.read_bytes() if original else copy
        store.add_image(collection, data, dataset_id=dataset_id, image_id=image_id)
        keys.add((dataset_id, image_id))

    if not keys:
        raise ValueError("There is no picture to queue: choose others, or clear the filter.")
    return unique, len(keys)


def _originals(workspace: Workspace) -> dict[tuple[str, str], ImageRow]:
    return {
        (row.dataset_id, row.image_id): row
        for collection in workspace.store.collections()
        for row in workspace.store.each_image(collection.id)
    }


def without_narratives(workspace: Workspace) -> list[ImageRow]:
    """The pictures of all collections that nobody described or skipped, each content once."""
    row_of = {
        row.sha256: row
        for collection in workspace.store.collections()
        for row in workspace.store.each_image(collection.id, status="open")
    }
    return list(row_of.values())


def least_certain(
    models: Models,
    checkpoint: str,
    survey: Survey,
    rows: Sequence[ImageRow],
    progress: Callable[[Sequence[ImageRow]], Iterable[ImageRow]] = iter,
) -> list[tuple[ImageRow, float]]:
    """Pictures without narratives, the one on which the model is least certain first.

    Its uncertainty is that of which of the split's captions would be said of it.
    """

    scored = []
    for row in progress(rows):
        image = models.embed_image(checkpoint, decode_image(row.path))
        scored.append((row, uncertainty(image, survey.atlas.texts)))

    return sorted(scored, key=lambda pair: -pair[1])


def worst_items(survey: Survey, split: Sequence[Item], rows: np.ndarray, count: int) -> list[Item]:
    """The first `count` different pictures of these rows of the atlas."""
    images = list(dict.fromkeys(survey.atlas.row[rows].tolist()))[:count]
    return [split[image] for image in images]
