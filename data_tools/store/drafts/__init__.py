"""Takes that are not submitted yet: a record as it was last sent whole, and its changes since.

A recorder saves each second. A whole take would be read and written anew each time; a change is one
row, and they are put together when somebody asks for the take. A revision names the state of a take
(the recorder makes it up, at random): a change says which one it builds on, and where that is not
the stored one, it is refused and the whole take is sent. So two pages with one take never mix.
"""

import time
from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    bindparam,
    delete,
    insert,
    select,
    update,
)

from data_tools.store import assignment
from data_tools.store import tables as db
from data_tools.store.database import StoreError
from data_tools.store.drafts.changes import merged
from data_tools.store.rows import Draft, moment

Values = dict[str, Any]
RENEWED = 3600  # seconds after which a save holds its image for another day

_MOVE_ON = (
    update(db.drafts)
    .where(db.drafts.c.take_id == bindparam("draft"))
    .values(revision=bindparam("next_revision"), saved=bindparam("now"))
)


@dataclass(frozen=True)
class DraftChange:
    """What a person adds to a draft of theirs; body: a change as JSON. `base` and `revision` name
    the state that it builds on and the one that it makes."""

    take_id: str
    name: str  # of the annotator
    image_row_id: int
    base: str
    revision: str
    body: str


def save(connection: Connection, take_id: str, values: Values) -> None:
    """Insert or replace, unless the take was submitted; StoreError where it is another's."""
    n, d = db.narratives.c, db.drafts.c
    if connection.scalar(select(n.id).where(n.take_id == take_id)) is not None:
        return  # an autosave that arrives after the submit
    owner = connection.scalar(select(d.annotator_id).where(d.take_id == take_id))
    if owner is None:
        connection.execute(insert(db.drafts).values(take_id=take_id, **values))
    elif owner == values["annotator_id"]:
        connection.execute(update(db.drafts).where(d.take_id == take_id).values(**values))
        connection.execute(delete(db.draft_changes).where(db.draft_changes.c.take_id == take_id))
    else:
        raise StoreError(f"draft {take_id!r} belongs to another annotator")
    assignment.hold_draft(connection, values["image_row_id"], values["annotator_id"])


def add_changes(connection: Connection, changes: Sequence[DraftChange]) -> list[bool]:
    """Add each where it builds on what is stored, by its owner and of its image; False where not.

    However many they are, few statements: each is a way to the database and back.
    """
    now = time.time()
    states = _states(connection, {change.take_id for change in changes})
    added = []
    for change in changes:
        state = states.get(change.take_id)
        builds_on = (change.name, change.image_row_id, change.base)
        if state is None or change.base == "" or state[:3] != builds_on:
            added.append(False)
            continue
        states[change.take_id] = (*state[:2], change.revision, *state[3:])
        added.append(True)

    new_changes = [change for change, is_next in zip(changes, added, strict=True) if is_next]
    if new_changes:
        moves = [
            {"draft": change.take_id, "next_revision": change.revision, "now": now}
            for change in new_changes
        ]
        rows = [{"take_id": change.take_id, "body": change.body} for change in new_changes]
        connection.execute(_MOVE_ON, moves)
        connection.execute(insert(db.draft_changes), rows)
    for take_id in {change.take_id for change in new_changes}:
        _, image_row_id, _, annotator_id, expires = states[take_id]
        if expires < now + assignment.HOLD_DRAFT - RENEWED:
            assignment.hold_draft(connection, image_row_id, annotator_id)
    return added


def _states(
    connection: Connection, take_ids: Collection[str]
) -> dict[str, tuple[str, int, str, int, float]]:
    """take_id -> annotator's name, image, revision, annotator's id, end of the claim (0: none)."""
    d, a, c = db.drafts.c, db.annotators.c, db.claims.c
    is_owner = d.annotator_id == db.FIRST_ANNOTATOR + a.id
    is_claim = (c.image_row_id == d.image_row_id) & (c.annotator_id == d.annotator_id)
    columns = (d.take_id, a.name, d.image_row_id, d.revision, d.annotator_id, c.expires)

    query = (
        select(*columns)
        .select_from(db.drafts.join(db.annotators, is_owner).outerjoin(db.claims, is_claim))
        .where(d.take_id.in_(take_ids))
        .with_for_update(of=db.drafts)
    )

    return {
        row.take_id: (row.name, row.image_row_id, row.revision, row.annotator_id, row.expires or 0)
        for row in connection.execute(query)
    }


def whole(connection: Connection, which: ColumnElement[bool]) -> list[Draft]:
    """The drafts with their changes in them, the oldest first."""
    d, c = db.drafts.c, db.draft_changes.c
    columns = (d.take_id, d.image_row_id, d.body, d.saved)
    rows = connection.execute(select(*columns).where(which).order_by(d.saved)).all()

    changes: dict[str, list[str]] = defaultdict(list)
    ids = [row.take_id for row in rows]
    for row in connection.execute(
        select(c.take_id, c.body).where(c.take_id.in_(ids)).order_by(c.id)
    ):
        changes[row.take_id].append(row.body)

    return [
        Draft(
            row.take_id, row.image_row_id, merged(row.body, changes[row.take_id]), moment(row.saved)
        )
        for row in rows
    ]
