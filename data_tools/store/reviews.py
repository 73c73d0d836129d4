"""What happens to a narrative after it was told: accepted, rejected, its words mended, its trail.

A rejected narrative leaves its place free: its image wants another person.
"""

import json
import time
from functools import partial

from sqlalchemy import Connection, func, insert, select, update

from data_tools.store import assignment, writes
from data_tools.store import tables as db
from data_tools.store.database import Database, StoreError
from data_tools.store.queries import narrative_row, narrative_rows
from data_tools.store.rows import NarrativeRow, Review, moment
from loctex.records.narrative import Narrative

STATUSES = ("unreviewed", "accepted", "rejected")


class Reviews:
    """The verdicts on the narratives of a store. Each write is committed when it returns."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def queue(
        self, collection_id: int, status: str = "unreviewed", *, after: int = 0, limit: int = 50
    ) -> list[NarrativeRow]:
        """A page by id of the narratives with this status."""
        n = db.narratives.c
        query = narrative_rows().where(n.collection_id == collection_id, n.status == status)
        rows = self._database.all(query.where(n.id > after).limit(limit))
        return [narrative_row(row) for row in rows]

    def counts(self, collection_id: int) -> dict[str, int]:
        """How many narratives have each status."""
        n = db.narratives.c
        query = select(n.status, func.count()).where(n.collection_id == collection_id)
        count_of = {status: count for status, count in self._database.all(query.group_by(n.status))}
        return {status: count_of.get(status, 0) for status in STATUSES}

    def accept(self, narrative_id: int, reviewer_id: int) -> None:
        """StoreError: there is no such narrative."""
        judge = partial(_judge, verdict="accepted", reviewer_id=reviewer_id)
        self._database.write(lambda c: judge(c, narrative_id))

    def reject(self, narrative_id: int, reviewer_id: int, reason: str) -> None:
        """StoreError: no reason, or no such narrative."""
        if not reason.strip():
            raise StoreError("Say why, so that the annotator can do it better next time.")
        judge = partial(_judge, verdict="rejected", reviewer_id=reviewer_id, reason=reason.strip())
        self._database.write(lambda c: judge(c, narrative_id))

    def fix(self, narrative_id: int, reviewer_id: int, mended: Narrative) -> None:
        """Replace what was told, and accept it; the line as it was stays in the trail."""
        change = partial(_replace, mended=mended, who=reviewer_id)
        self._database.write(lambda c: change(c, narrative_id, "fixed", "accepted"))

    def edit(self, narrative_id: int, annotator_id: int, mended: Narrative) -> None:
        """Its teller changes it: it is reviewed anew. StoreError: it is another's."""

        def change(connection: Connection) -> None:
            _demand_own(connection, narrative_id, annotator_id)
            _replace(connection, narrative_id, "edited", "unreviewed", mended, annotator_id)

        self._database.write(change)

    def take_back(self, narrative_id: int, annotator_id: int) -> None:
        """Its teller deletes it. StoreError: it is another's."""

        def remove(connection: Connection) -> None:
            _demand_own(connection, narrative_id, annotator_id)
            writes.delete_narratives(connection, db.narratives.c.id == narrative_id)

        self._database.write(remove)

    def trail(self, narrative_id: int) -> list[Review]:
        """What was done to a narrative, the latest last."""
        r = db.reviews.c
        query = select(
            r.narrative_id, r.reviewer_id, r.verdict, r.reason, r.before, r.created
        ).where(r.narrative_id == narrative_id)
        rows = self._database.all(query.order_by(r.id))
        return [Review(**dict(row._mapping) | {"created": moment(row.created)}) for row in rows]


def _judge(
    connection: Connection,
    narrative_id: int,
    verdict: str,
    reviewer_id: int,
    reason: str = "",
    status: str | None = None,
    before: str | None = None,
) -> None:
    n = db.narratives.c
    image_row_id = connection.scalar(select(n.image_row_id).where(n.id == narrative_id))
    if image_row_id is None:
        raise StoreError("This narrative was deleted meanwhile.")

    new = update(db.narratives).where(n.id == narrative_id)
    connection.execute(new.values(status=status or verdict))

    entry = {
        "narrative_id": narrative_id,
        "reviewer_id": reviewer_id,
        "verdict": verdict,
        "reason": reason,
        "before": before,
        "created": time.time(),
    }
    connection.execute(insert(db.reviews).values(entry))

    assignment.recount(connection, image_row_id)


def _replace(
    connection: Connection,
    narrative_id: int,
    verdict: str,
    status: str,
    mended: Narrative,
    who: int,
) -> None:
    b = db.bodies.c
    before = connection.scalar(select(b.record).where(b.narrative_id == narrative_id))
    _judge(connection, narrative_id, verdict, who, status=status, before=before)

    record = json.dumps(mended.to_json(), allow_nan=False)
    body = update(db.bodies).where(b.narrative_id == narrative_id)
    connection.execute(body.values(record=record, regions=None))  # regions point into old words

    measures = writes.measures(mended)
    connection.execute(
        update(db.narratives).where(db.narratives.c.id == narrative_id).values(measures)
    )


def _demand_own(connection: Connection, narrative_id: int, annotator_id: int) -> None:
    n = db.narratives.c
    owner = connection.scalar(select(n.annotator_id).where(n.id == narrative_id))
    if owner != annotator_id:
        raise StoreError("This narrative is not yours.")
