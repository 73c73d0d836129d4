"""Many images and narratives written at once: a statement for each table, not for each row."""

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from sqlalchemy import Connection, insert, select, tuple_

from data_tools.store import assignment, writes
from data_tools.store import tables as db
from loctex.records.narrative import Narrative

Key = tuple[str, str]  # dataset_id, image_id


class Take(NamedTuple):
    """A narrative, its record as it will be kept, and its known regions."""

    narrative: Narrative
    record: str
    regions: Sequence[dict[str, Any]]


class StoredImage(NamedTuple):
    """An image whose file is kept (Store.keep_image), and its narratives by their take ids."""

    values: dict[str, Any]
    takes: dict[str, Take]

    @property
    def key(self) -> Key:
        return self.values["dataset_id"], self.values["image_id"]


@dataclass
class AddReport:
    """How many narratives are new, how many were there, and why an image could not come in."""

    num_new: int = 0
    num_known: int = 0
    problems: list[str] = field(default_factory=list)


def add(connection: Connection, collection_id: int, images: Sequence[StoredImage]) -> AddReport:
    """Insert what is not there yet, inside one transaction."""
    added = AddReport()
    ids = _image_ids(connection, collection_id, images, added)
    takes = {
        take_id: (ids[image.key], take)
        for image in images
        if image.key in ids
        for take_id, take in image.takes.items()
    }

    n = db.narratives.c
    known_takes = set(connection.scalars(select(n.take_id).where(n.take_id.in_(takes))))
    new = {take_id: pair for take_id, pair in takes.items() if take_id not in known_takes}
    added.num_new, added.num_known = len(new), len(known_takes)

    if new:
        _add_takes(connection, collection_id, new)
        assignment.recount(connection, *sorted({image_row_id for image_row_id, _ in new.values()}))

    return added


def _image_ids(
    connection: Connection, collection_id: int, images: Sequence[StoredImage], added: AddReport
) -> dict[Key, int]:
    """The row of each image, inserted where there is none; not of one that is another picture."""
    i = db.images.c
    keys = tuple_(i.dataset_id, i.image_id).in_([image.key for image in images])
    query = select(i.id, i.dataset_id, i.image_id, i.sha256).where(i.collection_id == collection_id)
    row_of = {(r.dataset_id, r.image_id): r for r in connection.execute(query.where(keys))}

    ids, new = {}, {}
    for image in images:
        row = row_of.get(image.key)
        if row is None:
            new[image.key] = image.values | {"collection_id": collection_id}
        elif row.sha256 != image.values["sha256"]:
            added.problems.append(str(writes.another_picture(*image.key)))
        else:
            ids[image.key] = row.id

    if new:
        columns = i.id, i.dataset_id, i.image_id
        rows = connection.execute(insert(db.images).returning(*columns), list(new.values()))
        ids |= {(row.dataset_id, row.image_id): row.id for row in rows}

    return ids


def _add_takes(
    connection: Connection, collection_id: int, takes: dict[str, tuple[int, Take]]
) -> None:
    created = time.time()
    values = [
        {
            "collection_id": collection_id,
            "image_row_id": image_row_id,
            "annotator_id": take.narrative.annotator_id,
            "take_id": take_id,
            "created": created,
        }
        | writes.measures(take.narrative)
        for take_id, (image_row_id, take) in takes.items()
    ]

    n = db.narratives.c
    rows = connection.execute(insert(db.narratives).returning(n.id, n.take_id), values).all()

    bodies = []
    for row in rows:
        _, take = takes[row.take_id]
        regions = json.dumps(list(take.regions)) if take.regions else None
        bodies.append({"narrative_id": row.id, "record": take.record, "regions": regions})
    connection.execute(insert(db.bodies), bodies)
