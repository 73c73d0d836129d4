"""Takes that are not submitted yet: a record as it was last sent whole, and its changes since.

A recorder saves each second. A whole take would be read and written anew each time; a change is one
row, and they are put together when somebody asks for the take. A revision names the state of a take
(the recorder makes it up, at random): a change says which one it builds on, and where that is not
the stored one, it is refused and the whole take is sent. So two pages with one take never mix.
"""

import time
from collections import defaultdict
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

_OWNER = select(db.FIRST_ANNOTATOR + db.annotators.c.id).where(
    db.annotators.c.name == bindparam("name")
)
_MOVE_ON = (  # to another revision, where everything is as the recorder thinks
    update(db.drafts)
    .where(
        db.drafts.c.take_id == bindparam("draft"),
        db.drafts.c.image_row_id == bindparam("image"),
        db.drafts.c.revision == bindparam("base"),
        db.drafts.c.annotator_id == _OWNER.scalar_subquery(),
    )
    .values(revision=bindparam("next_revision"), saved=bindparam("now"))
)
_ADD_CHANGE = insert(db.draft_changes)
_RENEW = (
    update(db.claims)
    .where(
        db.claims.c.image_row_id == bindparam("image"),
        db.claims.c.annotator_id == _OWNER.scalar_subquery(),
        db.claims.c.expires < bindparam("soon"),
    )
    .values(expires=bindparam("until"))
)


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


def change(
    connection: Connection, take_id: str, name: str, image_row_id: int, values: Values
) -> bool:
    """Add a change {"base", "revision", "body"} of a person's draft; False: it is another state."""
    now = time.time()
    key = {"draft": take_id, "image": image_row_id, "name": name}
    move = key | {"base": values["base"], "next_revision": values["revision"], "now": now}
    if not connection.execute(_MOVE_ON, move).rowcount:
        return False
    connection.execute(_ADD_CHANGE, {"take_id": take_id, "body": values["body"]})
    until = now + assignment.HOLD_DRAFT
    connection.execute(_RENEW, key | {"soon": until - RENEWED, "until": until})
    return True


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
