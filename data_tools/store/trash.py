"""What was deleted and can be brought back: an image with all that was told of it, or a narrative.

Its rows leave their tables and lie in the trash as JSON, so that no list, count, search, snapshot
or export can see them; files of pictures and voices stay. The trash is emptied by hand, by age
(`trash_days` of the collection; 0: at once), and by `python -m data_tools.withdrawal --erase`,
which takes out what the person recorded.
"""

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, Table, delete, insert, select, update

from data_tools.speech.voices import FOLDER, Voices
from data_tools.store import assignment, drafts, writes
from data_tools.store import tables as db
from data_tools.store.database import Database, StoreError
from data_tools.store.rows import TrashEntry, moment

DAY = 24 * 3600  # seconds
Contents = dict[str, Any]  # "image": its row; the other tables by name: lists of rows


class Trash:
    """The trash of a store. Each write is committed when it returns.

    images_folder: where the files of pictures lie; voices lie in the folder beside it.
    """

    def __init__(self, database: Database, images_folder: Path) -> None:
        self._database, self._images_folder = database, images_folder

    def put_narrative(self, narrative_id: int, annotator_id: int) -> int:
        """Delete a narrative; the id of its entry. annotator_id: who deletes it.

        StoreError: there is no such narrative.
        """
        return self._put(lambda c: _put_narrative(c, narrative_id, annotator_id))

    def put_image(self, image_row_id: int, annotator_id: int) -> int:
        """Delete an image with all that was told of it; the id of its entry.

        StoreError: there is no such image.
        """
        return self._put(lambda c: _put_image(c, image_row_id, annotator_id))

    def restore(self, entry_id: int) -> TrashEntry:
        """Bring back image, narratives and reviews as they were, under their ids.

        StoreError: it is gone for good; a narrative's image is deleted; another picture has the
        image's id by now.
        """
        return self._database.write(lambda c: _restore(c, entry_id))

    def entry(self, entry_id: int) -> TrashEntry | None:
        """None: it was restored, or is gone for good."""
        row = self._database.first(_entries().where(db.trash.c.id == entry_id))
        return None if row is None else _entry(row)

    def entries(self, collection_id: int, limit: int = 50) -> list[TrashEntry]:
        """What can be brought back, the latest first."""
        query = _entries().where(db.trash.c.collection_id == collection_id)
        return [_entry(row) for row in self._database.all(query.limit(limit))]

    def empty(self, collection_id: int) -> int:
        """Delete all of a collection's trash for good, with its files; how many entries."""
        return self._empty(db.trash.c.collection_id == collection_id)

    def expire(self) -> int:
        """Delete for good what lies there longer than its collection says; how many entries.

        What lies where nothing may be written stays.
        """
        if self._database.is_read_only:
            return 0

        c = db.collections.c
        days = select(c.trash_days).where(c.id == db.trash.c.collection_id).scalar_subquery()
        return self._empty(db.trash.c.deleted <= time.time() - DAY * days)

    def set_days(self, collection_id: int, days: int) -> None:
        """So long is deleted data of a collection kept; 0: not at all. StoreError: less than 0."""
        if days < 0:
            raise StoreError(f"trash_days: must be 0 (delete at once) or more, got {days}")
        change = update(db.collections).filter_by(id=collection_id)
        self._database.write(lambda c: c.execute(change.values(trash_days=days)))
        self.expire()

    # --- inside

    def _put(self, work: Any) -> int:
        entry_id = self._database.write(work)
        self.expire()
        return entry_id

    def _empty(self, which: ColumnElement[bool]) -> int:
        rows = self._database.write(lambda c: _take_out(c, which))
        if not rows:
            return 0

        voices = Voices(self._images_folder.with_name(FOLDER))
        for row in rows:
            contents = json.loads(row.contents)
            for voice in voices_of(contents["bodies"]):
                voices.drop(voice)
            if row.kind == "image" and not self._is_needed(row.file):
                (self._images_folder / row.file).unlink(missing_ok=True)
        return len(rows)

    def _is_needed(self, file: str) -> bool:
        with self._database.reading() as connection:
            return writes.is_needed(connection, file)


# --- a function of a connection inside one transaction each


def holdings(connection: Connection, annotator_id: int) -> list[Contents]:
    """What the trash holds of a person: of each entry, their rows alone."""
    rows = connection.execute(select(db.trash.c.contents))
    entries = [_of_annotator(json.loads(row.contents), annotator_id) for row in rows]
    return [entry for entry in entries if entry["narratives"] or entry["drafts"] or entry["skips"]]


def forget(connection: Connection, annotator_id: int) -> None:
    """Take what a person recorded out of the trash; what others told of an image stays there."""
    t = db.trash.c
    for row in connection.execute(select(t.id, t.kind, t.contents)).all():
        contents = json.loads(row.contents)
        theirs = _of_annotator(contents, annotator_id)
        if not (theirs["narratives"] or theirs["drafts"] or theirs["skips"]):
            continue

        remaining = {name: _without(contents[name], theirs[name]) for name in theirs}
        remaining["image"] = contents["image"]
        has_id = t.id == row.id
        if row.kind == "narrative" and not remaining["narratives"]:
            connection.execute(delete(db.trash).where(has_id))
        else:
            values = {
                "contents": json.dumps(remaining),
                "num_narratives": len(remaining["narratives"]),
            }
            connection.execute(update(db.trash).where(has_id).values(values))


def voices_of(bodies: Sequence[Mapping[str, Any]]) -> list[str]:
    """The voices that rows of bodies name."""
    names = [json.loads(body["record"]).get("voice_recording") for body in bodies]
    return [name for name in names if name]


def _put_narrative(connection: Connection, narrative_id: int, annotator_id: int) -> int:
    has_id = db.narratives.c.id == narrative_id
    row = connection.execute(select(db.narratives).where(has_id)).first()
    if row is None:
        raise StoreError("This narrative was deleted meanwhile.")

    contents = _contents(connection, row.image_row_id, has_id)
    entry_id = _insert(connection, "narrative", contents, row.caption, annotator_id)
    writes.delete_narratives(connection, has_id)
    return entry_id


def _put_image(connection: Connection, image_row_id: int, annotator_id: int) -> int:
    contents = _contents(connection, image_row_id, db.narratives.c.image_row_id == image_row_id)
    for table in (db.skips, db.drafts):
        contents[table.name] = _rows(connection, table, table.c.image_row_id == image_row_id)
    _merge_changes(connection, contents["drafts"], image_row_id)

    image = contents["image"]
    title = image["name"] or image["image_id"]
    entry_id = _insert(connection, "image", contents, title, annotator_id)
    connection.execute(delete(db.images).where(db.images.c.id == image_row_id))
    return entry_id


def _merge_changes(connection: Connection, rows: list[Contents], image_row_id: int) -> None:
    """A draft goes into the trash whole; what is restored waits for a whole save."""
    on_image = db.drafts.c.image_row_id == image_row_id
    bodies = {draft.take_id: draft.body for draft in drafts.whole(connection, on_image)}
    for row in rows:
        row |= {"body": bodies[row["take_id"]], "revision": ""}


def _contents(connection: Connection, image_row_id: int, which: ColumnElement[bool]) -> Contents:
    images = _rows(connection, db.images, db.images.c.id == image_row_id)
    if not images:
        raise StoreError("This image was deleted meanwhile.")

    ids = select(db.narratives.c.id).where(which)
    return {
        "image": images[0],
        "narratives": _rows(connection, db.narratives, which),
        "bodies": _rows(connection, db.bodies, db.bodies.c.narrative_id.in_(ids)),
        "reviews": _rows(connection, db.reviews, db.reviews.c.narrative_id.in_(ids)),
        "skips": [],
        "drafts": [],
    }


def _insert(
    connection: Connection, kind: str, contents: Contents, title: str, annotator_id: int
) -> int:
    image = contents["image"]
    values = {
        "collection_id": image["collection_id"],
        "annotator_id": annotator_id,
        "image_row_id": image["id"],
        "kind": kind,
        "file": image["file"],
        "title": title,
        "num_narratives": len(contents["narratives"]),
        "contents": json.dumps(contents),
        "deleted": time.time(),
    }

    key = connection.execute(insert(db.trash).values(values)).inserted_primary_key
    assert key is not None  # each of our tables has one
    return key[0]


def _restore(connection: Connection, entry_id: int) -> TrashEntry:
    has_id = db.trash.c.id == entry_id
    row = connection.execute(select(db.trash).where(has_id)).first()
    if row is None:
        raise StoreError("This is not in the trash any more: it was brought back, or emptied.")

    contents = json.loads(row.contents)
    image_row_id = _restored_image(connection, row.kind, contents["image"])
    _restore_narratives(connection, contents, image_row_id)
    for table, keys in ((db.skips, ("image_row_id", "annotator_id")), (db.drafts, ("take_id",))):
        for values in contents[table.name]:
            values["image_row_id"] = image_row_id
            key = {name: values[name] for name in keys}
            if connection.execute(select(table).filter_by(**key)).first() is None:
                connection.execute(insert(table).values(values))
    assignment.recount(connection, image_row_id)
    connection.execute(delete(db.trash).where(has_id))
    return _entry(row)


def _restored_image(connection: Connection, kind: str, image: Mapping[str, Any]) -> int:
    """The row that shows this image: its own, or that of one who added the picture again."""
    i = db.images.c
    same = select(i.id, i.sha256).where(
        i.collection_id == image["collection_id"],
        i.dataset_id == image["dataset_id"],
        i.image_id == image["image_id"],
    )
    row = connection.execute(same).first()
    if row is not None and row.sha256 != image["sha256"]:
        raise writes.another_picture(image["dataset_id"], image["image_id"])
    if row is not None:
        return row.id

    if kind == "narrative":
        raise StoreError("The image of this narrative was deleted too: bring the image back first.")
    connection.execute(insert(db.images).values(image))
    return image["id"]


def _restore_narratives(connection: Connection, contents: Contents, image_row_id: int) -> None:
    n = db.narratives.c
    takes = [row["take_id"] for row in contents["narratives"] if row["take_id"]]
    used_takes = set(connection.scalars(select(n.take_id).where(n.take_id.in_(takes))))
    for row in contents["narratives"]:
        row["image_row_id"] = image_row_id
        if row["take_id"] in used_takes:  # it was submitted once more meanwhile
            row["take_id"] = None
    for table in (db.narratives, db.bodies, db.reviews):
        if contents[table.name]:
            connection.execute(insert(table), contents[table.name])


def _take_out(connection: Connection, which: ColumnElement[bool]) -> Sequence[Row]:
    rows = connection.execute(select(db.trash).where(which)).all()
    if rows:
        connection.execute(delete(db.trash).where(db.trash.c.id.in_([row.id for row in rows])))
    return rows


def _of_annotator(contents: Contents, annotator_id: int) -> Contents:
    """The rows of one person; reviews are those of their narratives, whoever wrote them."""
    theirs: Contents = {
        name: [row for row in contents[name] if row["annotator_id"] == annotator_id]
        for name in ("narratives", "skips", "drafts")
    }
    ids = {row["id"] for row in theirs["narratives"]}
    for name in ("bodies", "reviews"):
        theirs[name] = [row for row in contents[name] if row["narrative_id"] in ids]
    return theirs


def _without(rows: Sequence[Contents], gone: Sequence[Contents]) -> list[Contents]:
    return [row for row in rows if row not in gone]


def _rows(connection: Connection, table: Table, which: ColumnElement[bool]) -> list[Contents]:
    return [dict(row) for row in connection.execute(select(table).where(which)).mappings()]


def _entries() -> Any:
    t = db.trash.c
    columns = (
        t.id,
        t.collection_id,
        t.annotator_id,
        t.image_row_id,
        t.kind,
        t.title,
        t.num_narratives,
        t.deleted,
    )
    return select(*columns).order_by(t.id.desc())


def _entry(row: Row) -> TrashEntry:
    return TrashEntry(
        id=row.id,
        collection_id=row.collection_id,
        annotator_id=row.annotator_id,
        image_row_id=row.image_row_id,
        kind=row.kind,
        title=row.title,
        num_narratives=row.num_narratives,
        deleted=moment(row.deleted),
    )
