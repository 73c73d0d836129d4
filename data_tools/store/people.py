"""The people of a store: their names, what each did, and taking all of it back."""

import json
from collections import Counter, defaultdict
from dataclasses import dataclass, field

import numpy as np
from sqlalchemy import Connection, delete, func, select, update

from data_tools.store import tables as db
from data_tools.store import trash, writes
from data_tools.store.database import Database, StoreError
from data_tools.store.queries import narrative_row, narrative_rows
from data_tools.store.rows import NarrativeRow, moment


@dataclass
class Work:
    """What one person did. seconds: of recording. days: date (UTC) -> pace of each narrative told
    then, in words a minute."""

    annotator_id: int
    name: str
    num_narratives: int = 0
    num_words: int = 0
    num_points: int = 0
    seconds: float = 0.0
    statuses: Counter = field(default_factory=Counter)
    days: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    num_skips: int = 0

    @property
    def median_pace(self) -> float:
        paces = [pace for day in self.days.values() for pace in day]
        return float(np.nanmedian(paces)) if np.isfinite(paces).any() else float("nan")


@dataclass(frozen=True)
class Holdings:
    """All that a store holds of one person."""

    annotator_id: int
    narratives: list[int]
    voices: list[str]  # as `voice_recording` names them
    takes: list[str]  # ids of those submitted
    drafts: list[str]  # and of those not
    num_skips: int
    num_in_trash: int = 0  # narratives that could be brought back


class People:
    """Annotators and reviewers; a reviewer has an annotator_id too."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def names(self) -> dict[int, str]:
        """annotator_id -> name, of all who ever worked here."""
        rows = self._database.all(select(db.annotators))
        return {db.FIRST_ANNOTATOR + row.id: row.name for row in rows}

    def narratives(
        self, annotator_id: int, *, before: int | None = None, limit: int = 50
    ) -> list[NarrativeRow]:
        """What a person told, the newest first."""
        n = db.narratives.c
        query = narrative_rows().where(n.annotator_id == annotator_id)
        if before is not None:
            query = query.where(n.id < before)
        query = query.order_by(None).order_by(n.id.desc()).limit(limit)
        return [narrative_row(row) for row in self._database.all(query)]

    def work(self, collection_id: int) -> list[Work]:
        """What each person did in a collection, the busiest first."""
        n, s = db.narratives.c, db.skips.c
        names = self.names()
        work_of: dict[int, Work] = {}

        query = select(
            n.annotator_id, n.num_words, n.num_points, n.duration, n.status, n.created
        ).where(n.collection_id == collection_id)
        for row in self._database.all(query):
            who = row.annotator_id
            work = work_of.setdefault(who, Work(who, names.get(who, f"annotator {who}")))
            work.num_narratives += 1
            work.num_words += row.num_words
            work.num_points += row.num_points
            work.seconds += row.duration
            work.statuses[row.status] += 1
            pace = 60 * row.num_words / row.duration if row.duration > 0 else float("nan")
            work.days[moment(row.created).date().isoformat()].append(pace)

        skips = select(s.annotator_id, func.count()).select_from(db.skips.join(db.images))
        in_collection = (db.images.c.collection_id == collection_id, s.reason != db.LATER)
        skips = skips.where(*in_collection).group_by(s.annotator_id)

        for who, count in self._database.all(skips):
            work_of.setdefault(who, Work(who, names.get(who, f"annotator {who}"))).num_skips = count

        return sorted(work_of.values(), key=lambda work: (-work.num_narratives, work.name))

    def shared(self, collection_id: int, limit: int = 200) -> dict[int, list[NarrativeRow]]:
        """The latest images that several people described: image row id -> what stands of it."""
        n = db.narratives.c
        in_collection = (n.collection_id == collection_id, n.status != "rejected")

        several = (
            select(n.image_row_id)
            .where(*in_collection)
            .group_by(n.image_row_id)
            .having(func.count(n.annotator_id.distinct()) > 1)
            .order_by(func.max(n.id).desc())
            .limit(limit)
        )

        images = [row[0] for row in self._database.all(several)]
        rows = self._database.all(
            narrative_rows().where(*in_collection, n.image_row_id.in_(images))
        )

        narratives_of: dict[int, list[NarrativeRow]] = defaultdict(list)
        for row in rows:
            narratives_of[row.image_row_id].append(narrative_row(row))
        return dict(narratives_of)

    # --- taking back

    def annotator_id(self, name: str) -> int:
        """StoreError: nobody of this name ever worked here."""
        a = db.annotators.c
        row = self._database.first(select(a.id).where(a.name == name))
        if row is None:
            raise StoreError(f"nobody named {name!r} worked here")
        return db.FIRST_ANNOTATOR + row.id

    def holdings(self, annotator_id: int) -> Holdings:
        """What `erase` will take."""
        with self._database.reading() as connection:
            return _holdings(connection, annotator_id)

    def erase(self, annotator_id: int) -> Holdings:
        """Delete all that a person recorded, with their name, beyond recovery from this database;
        what they said as a reviewer stays, without the name. Returns what was there."""

        def remove(connection: Connection) -> Holdings:
            held = _holdings(connection, annotator_id)
            writes.delete_narratives(connection, db.narratives.c.annotator_id == annotator_id)
            trash.forget(connection, annotator_id)
            for table in (db.drafts, db.skips, db.claims):
                connection.execute(delete(table).where(table.c.annotator_id == annotator_id))
            who = db.annotators.c.id == annotator_id - db.FIRST_ANNOTATOR
            gone = update(db.annotators).where(who).values(name=f"withdrawn {annotator_id}")
            connection.execute(gone)
            return held

        held = self._database.write(remove)
        self._database.forget()
        return held


def _holdings(connection: Connection, annotator_id: int) -> Holdings:
    n, b = db.narratives.c, db.bodies.c
    bodies = select(n.id, n.take_id, b.record).join(db.bodies).where(n.annotator_id == annotator_id)
    narratives, voices, takes = [], [], []
    for narrative_id, take_id, record in connection.execute(bodies.order_by(n.id)):
        narratives.append(narrative_id)
        takes += [take_id] if take_id else []
        if voice := json.loads(record).get("voice_recording"):
            voices.append(voice)
    d = db.drafts.c
    drafts = connection.scalars(select(d.take_id).where(d.annotator_id == annotator_id)).all()
    skips = select(func.count()).where(db.skips.c.annotator_id == annotator_id)
    num_skips = connection.scalar(skips) or 0

    in_trash = 0
    drafts = list(drafts)
    for entry in trash.holdings(connection, annotator_id):
        in_trash += len(entry["narratives"])
        num_skips += len(entry["skips"])
        voices += trash.voices_of(entry["bodies"])
        takes += [row["take_id"] for row in entry["narratives"] if row["take_id"]]
        drafts += [row["take_id"] for row in entry["drafts"]]
    return Holdings(annotator_id, narratives, voices, takes, drafts, num_skips, in_trash)
