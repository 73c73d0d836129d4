"""Who describes which image: at most so many people each, nobody twice, and none at once.

A collection's overlap is the number of people who describe each of its images (0: everybody), blind
to one another. Whoever opens an image claims it. A claim ends with the narrative, when its holder
opens another image, or when it expires; an unsent draft keeps it for a day. Images that still want
people are marked as such in the same transaction that changes it, so that the next one is found by
an index among hundreds of thousands. Only people of this studio count: imported narratives and
simulated ones take no place, and neither do rejected ones.
"""

import time
from typing import Any

from sqlalchemy import Connection, Row, Select, delete, exists, func, insert, or_, select, update

from data_tools.store import tables as db
from data_tools.store.queries import is_done_by, is_skipped_by

HOLD = 30 * 60  # seconds for which an image is in the hands of who opened it
HOLD_DRAFT = 24 * 3600  # seconds for which an unsent draft keeps its image
_LOCK: dict[str, Any] = {
    "key_share": True
}  # rows that point to the image may be inserted meanwhile: no deadlock


def hand_out(
    connection: Connection, collection_id: int, annotator_id: int, after: int
) -> Row | None:
    """Claim the first image after this row id that wants this annotator; None: there is none.
    What they put off ("Not now") comes behind all others.

    PostgreSQL: a row that another transaction is handing out is passed over; only where nothing
    else is left, it is waited for. SQLite's writers wait for each other anyway.
    """
    behind = wanted(collection_id, annotator_id).where(db.images.c.id > after)
    is_put_off = is_skipped_by(annotator_id, is_later=True)

    for candidates in (behind.where(~is_put_off), behind.where(is_put_off)):
        row = _first_free(connection, candidates, annotator_id)
        if row is not None:
            return row

    return None


def _first_free(connection: Connection, candidates: Select, annotator_id: int) -> Row | None:
    for is_patient in (False, True):
        while True:
            row = connection.execute(
                candidates.limit(1).with_for_update(
                    **_LOCK, skip_locked=not is_patient, of=db.images
                )
            ).first()

            if row is None:
                break
            if _is_free(connection, row.id, annotator_id):  # seen anew, now that it is locked
                _take(connection, row, annotator_id)
                return row
            candidates = candidates.where(db.images.c.id > row.id)
    return None


def claim(connection: Connection, image_row_id: int, annotator_id: int) -> bool:
    """Claim this very image; False where enough others have it. One's own is always free."""
    row = connection.execute(
        select(db.images).where(db.images.c.id == image_row_id).with_for_update(**_LOCK)
    ).first()
    if row is None:
        return False
    is_mine = select(is_done_by(annotator_id) | _has_draft(annotator_id))
    if connection.scalar(is_mine.select_from(db.images).where(db.images.c.id == image_row_id)):
        return True
    if not _is_free(connection, image_row_id, annotator_id):
        return False
    _take(connection, row, annotator_id)
    return True


def was_handed(connection: Connection, image_row_id: int, annotator_id: int) -> bool:
    """Whether this person opened the image here, perhaps long ago, or described it."""
    c, n = db.claims.c, db.narratives.c
    has_claim = exists().where(c.image_row_id == db.images.c.id, c.annotator_id == annotator_id)
    has_told = exists().where(n.image_row_id == db.images.c.id, n.annotator_id == annotator_id)
    handed = select(or_(has_claim, has_told, _has_draft(annotator_id))).select_from(db.images)
    return bool(connection.scalar(handed.where(db.images.c.id == image_row_id)))


def admit(connection: Connection, image_row_id: int, annotator_id: int) -> bool:
    """Whether a take of this image may be stored: it was handed to this person, or there is a place
    for one more, which is theirs now. Who skipped an image holds no place by that."""
    row = connection.execute(
        select(db.images).where(db.images.c.id == image_row_id).with_for_update(**_LOCK)
    ).first()
    if row is None:
        return False
    if was_handed(connection, image_row_id, annotator_id):
        return True
    if not _is_free(connection, image_row_id, annotator_id):
        return False
    _take(connection, row, annotator_id)
    return True


def hold_draft(connection: Connection, image_row_id: int, annotator_id: int) -> None:
    """An unsent take keeps its image for a day."""
    _hold(connection, image_row_id, annotator_id, time.time() + HOLD_DRAFT)


def recount(connection: Connection, *image_row_ids: int) -> None:
    """Mark whether the images still want people, after their narratives changed."""
    has_id = db.images.c.id.in_(image_row_ids)
    lock = select(db.images.c.id).where(has_id).order_by(db.images.c.id).with_for_update(**_LOCK)
    connection.execute(lock)  # first: what another wrote meanwhile is counted only in a new look
    _mark(connection, has_id)


def set_overlap(connection: Connection, collection_id: int, overlap: int) -> None:
    """So many people describe each image of the collection; 0: everybody."""
    where = db.collections.c.id == collection_id
    connection.execute(update(db.collections).where(where).values(overlap=overlap))
    _mark(connection, db.images.c.collection_id == collection_id)


def wanted(collection_id: int, annotator_id: int) -> Select:
    """The images of a collection, by id, which want this annotator now."""
    i = db.images.c
    places = _overlap_of() - _num_people() - _num_claims(annotator_id)
    return (
        select(db.images)
        .where(i.collection_id == collection_id, i.is_wanted, ~is_done_by(annotator_id))
        .where(or_(_overlap_of() == 0, places > 0))
        .order_by(i.id)
    )


def _is_free(connection: Connection, image_row_id: int, annotator_id: int) -> bool:
    """Is there a place for one more person, not counting this one's own claim?"""
    places = _overlap_of() - _num_people() - _num_claims(annotator_id)
    is_free = select(or_(_overlap_of() == 0, places > 0)).select_from(db.images)
    return bool(connection.scalar(is_free.where(db.images.c.id == image_row_id)))


def _take(connection: Connection, row: Row, annotator_id: int) -> None:
    """Claim the image, and let go of the others that this person only looked at."""
    c = db.claims.c
    drafts = select(db.drafts.c.image_row_id).where(db.drafts.c.annotator_id == annotator_id)
    images = select(db.images.c.id).where(db.images.c.collection_id == row.collection_id)
    connection.execute(
        delete(db.claims)
        .where(c.annotator_id == annotator_id, c.image_row_id != row.id)
        .where(c.image_row_id.in_(images), c.image_row_id.not_in(drafts))
    )
    _hold(connection, row.id, annotator_id, time.time() + HOLD)


def _hold(connection: Connection, image_row_id: int, annotator_id: int, until: float) -> None:
    key = {"image_row_id": image_row_id, "annotator_id": annotator_id}
    if not connection.execute(update(db.claims).filter_by(**key).values(expires=until)).rowcount:
        connection.execute(insert(db.claims).values(**key, expires=until))


def _mark(connection: Connection, images: Any) -> None:
    is_wanted = or_(_overlap_of() == 0, _num_people() < _overlap_of())
    connection.execute(update(db.images).where(images).values(is_wanted=is_wanted))


def _overlap_of() -> Any:
    where = db.collections.c.id == db.images.c.collection_id
    return select(db.collections.c.overlap).where(where).correlate(db.images).scalar_subquery()


def _num_people() -> Any:
    """People of this studio whose narrative of the image stands."""
    n = db.narratives.c
    query = select(func.count(n.annotator_id.distinct())).where(
        n.image_row_id == db.images.c.id,
        n.annotator_id >= db.FIRST_ANNOTATOR,
        n.status != "rejected",
    )
    return query.correlate(db.images).scalar_subquery()


def _num_claims(annotator_id: int) -> Any:
    """Others who hold the image now and have not described it."""
    c, n = db.claims.c, db.narratives.c
    has_described = exists().where(
        n.image_row_id == c.image_row_id, n.annotator_id == c.annotator_id, n.status != "rejected"
    )
    query = select(func.count()).where(
        c.image_row_id == db.images.c.id,
        c.annotator_id != annotator_id,
        c.expires > time.time(),
        ~has_described,
    )
    return query.correlate(db.images).scalar_subquery()


def _has_draft(annotator_id: int) -> Any:
    d = db.drafts.c
    return exists().where(d.image_row_id == db.images.c.id, d.annotator_id == annotator_id)
