"""The store's writes, each a function of a connection inside one transaction."""

import json
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, Table, delete, insert, select, update

from data_tools.quality import flags
from data_tools.store import assignment
from data_tools.store import tables as db
from data_tools.store.database import StoreError
from loctex.records.narrative import Narrative

Values = dict[str, Any]


def add_named(connection: Connection, table: Table, name: str) -> int:
    """The id of the row of this name, made where there is none."""
    row_id = connection.scalar(select(table.c.id).where(table.c.name == name))
    return _insert(connection, table, {"name": name}) if row_id is None else row_id


def add_collection(connection: Connection, name: str) -> int:
    """The id of the collection of this name; a new one wants one person for each image."""
    collection_id = connection.scalar(
        select(db.collections.c.id).where(db.collections.c.name == name)
    )
    values = {"name": name, "overlap": 1}
    return _insert(connection, db.collections, values) if collection_id is None else collection_id


def set_rules(connection: Connection, collection_id: int, overlap: int, needs_review: bool) -> None:
    has_id = db.collections.c.id == collection_id
    connection.execute(update(db.collections).where(has_id).values(needs_review=needs_review))
    assignment.set_overlap(connection, collection_id, overlap)


def add_image(connection: Connection, values: Values) -> Row:
    """The row of this image; the same content under the same id, or under no id, is one row."""
    i = db.images.c
    query = select(db.images).where(i.collection_id == values["collection_id"])

    if values["image_id"] == values["sha256"]:
        row = connection.execute(query.where(i.sha256 == values["sha256"]).limit(1)).first()
    else:
        query = query.where(i.dataset_id == values["dataset_id"])
        row = connection.execute(query.where(i.image_id == values["image_id"])).first()

    if row is None:
        image_row_id = _insert(connection, db.images, values)
        return connection.execute(select(db.images).where(i.id == image_row_id)).one()

    if row.sha256 != values["sha256"]:
        raise another_picture(row.dataset_id, row.image_id)
    return row


def another_picture(dataset_id: str, image_id: str) -> StoreError:
    return StoreError(f"image {image_id!r} of {dataset_id} is another picture in this collection")


def measures(narrative: Narrative) -> Values:
    """What a list of narratives shows of one, and is filtered by."""
    return {
        "caption": narrative.caption,
        "num_words": len(narrative.words),
        "num_points": narrative.num_points,
        "duration": narrative.duration,
        "flags": flags.joined(flags.flags(narrative)),
    }


def add_narrative(
    connection: Connection, key: tuple[str, str], values: Values, body: Values
) -> int:
    """Insert a narrative of the image key = (dataset_id, image_id), drop its draft; its id."""
    take_id, i = values["take_id"], db.images.c

    if take_id is not None:
        known_id = connection.scalar(
            select(db.narratives.c.id).where(db.narratives.c.take_id == take_id)
        )
        if known_id is not None:
            return known_id

    image_row_id = connection.scalar(
        select(i.id).where(
            i.collection_id == values["collection_id"], i.dataset_id == key[0], i.image_id == key[1]
        )
    )

    if image_row_id is None:
        raise StoreError(f"the collection has no image {key[1]!r} of {key[0]}: add the image first")

    narrative_id = _insert(connection, db.narratives, values | {"image_row_id": image_row_id})
    connection.execute(insert(db.bodies).values(narrative_id=narrative_id, **body))
    if take_id is not None:
        connection.execute(delete(db.drafts).where(db.drafts.c.take_id == take_id))
    assignment.recount(connection, image_row_id)
    return narrative_id


def delete_narratives(connection: Connection, which: ColumnElement[bool]) -> int:
    """With their bodies and reviews; how many. The images stay, and want people again."""
    n = db.narratives.c
    images = select(n.image_row_id).where(which).distinct().order_by(n.image_row_id)
    rows = connection.execute(images).all()
    count = connection.execute(delete(db.narratives).where(which)).rowcount
    for (image_row_id,) in rows:
        assignment.recount(connection, image_row_id)
    return count


def delete_image(connection: Connection, image_row_id: int) -> tuple[str | None, list[str]]:
    """With all that was told of it; its file, where no other row shows it, and their voices."""
    i, n = db.images.c, db.narratives.c
    file = connection.scalar(select(i.file).where(i.id == image_row_id))
    bodies = select(db.bodies.c.record).join(db.narratives).where(n.image_row_id == image_row_id)
    voices = [json.loads(record).get("voice_recording") for record in connection.scalars(bodies)]
    connection.execute(delete(db.images).where(i.id == image_row_id))
    is_spare = file is not None and not is_needed(connection, file)
    return file if is_spare else None, [voice for voice in voices if voice]


def is_needed(connection: Connection, file: str) -> bool:
    """Does an image show this file, or one that can be brought back from the trash?"""
    t = db.trash.c
    in_trash = select(t.id).where(t.file == file, t.kind == "image").limit(1)
    in_use = select(db.images.c.id).where(db.images.c.file == file).limit(1)
    return any(connection.scalar(query) is not None for query in (in_use, in_trash))


def skip(connection: Connection, image_row_id: int, annotator_id: int, reason: str) -> None:
    """Insert, or change the reason."""
    key = {"image_row_id": image_row_id, "annotator_id": annotator_id}
    if not connection.execute(update(db.skips).filter_by(**key).values(reason=reason)).rowcount:
        connection.execute(insert(db.skips).values(**key, reason=reason))


def _insert(connection: Connection, table: Table, values: Values) -> int:
    key = connection.execute(insert(table).values(values)).inserted_primary_key
    assert key is not None  # each of our tables has one
    return key[0]
