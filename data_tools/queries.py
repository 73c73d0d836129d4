"""The store's longer questions, as SQL."""

from sqlalchemy import ColumnElement, Select, exists, or_, select

from data_tools import tables as db
from data_tools.database import StoreError


def images_of(collection_id: int) -> Select:
    """The images of a collection, by id."""
    i = db.images.c
    return select(db.images).where(i.collection_id == collection_id).order_by(i.id)


def bodies_of(collection_id: int) -> Select:
    """The bodies of a collection with their images, in the order they were added."""
    n, b = db.narratives.c, db.bodies.c
    both = db.images.join(db.narratives).join(db.bodies)
    query = select(db.images, b.narrative_id, b.record, b.regions).select_from(both)
    return query.where(n.collection_id == collection_id).order_by(n.id)


def is_done_by(annotator_id: int) -> ColumnElement[bool]:
    """True of an image which the annotator narrated or skipped."""
    n, s, image = db.narratives.c, db.skips.c, db.images.c.id
    return or_(
        exists().where(n.image_row_id == image, n.annotator_id == annotator_id),
        exists().where(s.image_row_id == image, s.annotator_id == annotator_id),
    )


def with_status(query: Select, status: str | None) -> Select:
    """Only images that are narrated, skipped, or open (neither); None: all."""
    is_narrated = exists().where(db.narratives.c.image_row_id == db.images.c.id)
    is_skipped = exists().where(db.skips.c.image_row_id == db.images.c.id)
    if status is None:
        return query
    if status not in ("narrated", "open", "skipped"):
        raise StoreError(f"status: must be narrated, open or skipped, got {status!r}")
    wanted = {"narrated": is_narrated, "skipped": is_skipped, "open": ~is_narrated & ~is_skipped}
    return query.where(wanted[status])
