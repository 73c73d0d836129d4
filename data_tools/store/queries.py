"""The store's longer questions, as SQL."""

from dataclasses import fields

from sqlalchemy import ColumnElement, Row, Select, and_, case, exists, func, not_, or_, select

from data_tools.store import tables as db
from data_tools.store.database import StoreError
from data_tools.store.rows import Collection, NarrativeRow, moment


def counted_collections() -> Select:
    """All collections by name, as rows.Collection; counts come from the indexes, in one pass."""
    i, n, c = db.images.c, db.narratives.c, db.collections.c
    count_images = select(i.collection_id, func.count().label("num_images"))
    count_narratives = select(
        n.collection_id,
        func.count().label("num_narratives"),
        func.count(case((n.num_points > 0, 1))).label("num_with_trace"),
        func.sum(n.num_words).label("num_words"),
    )
    images = count_images.group_by(i.collection_id).subquery()
    narratives = count_narratives.group_by(n.collection_id).subquery()

    counts = [func.coalesce(column, 0).label(column.name) for column in narratives.c[1:]]
    own = [c[f.name] for f in fields(Collection) if f.name in c]
    return (
        select(*own, func.coalesce(images.c.num_images, 0).label("num_images"), *counts)
        .select_from(db.collections)
        .outerjoin(images, images.c.collection_id == c.id)
        .outerjoin(narratives, narratives.c.collection_id == c.id)
        .order_by(c.name)
    )


def images_of(collection_id: int) -> Select:
    """The images of a collection, by id."""
    i = db.images.c
    return select(db.images).where(i.collection_id == collection_id).order_by(i.id)


def bodies_of(collection_id: int) -> Select:
    """The bodies that may leave a collection with their images, in the order they were added."""
    n, b = db.narratives.c, db.bodies.c
    joined = db.images.join(db.narratives).join(db.bodies)
    query = select(db.images, b.narrative_id, b.record, b.regions).select_from(joined)
    return query.where(n.collection_id == collection_id, may_leave()).order_by(n.id)


def may_leave() -> ColumnElement[bool]:
    """True of a narrative that is frozen and exported: never a rejected one, and only accepted
    ones where the collection says so."""
    n, c = db.narratives.c, db.collections.c
    is_strict = select(c.needs_review).where(c.id == n.collection_id).correlate(db.narratives)
    return or_(
        n.status == "accepted", and_(n.status == "unreviewed", not_(is_strict.scalar_subquery()))
    )


def narrative_rows() -> Select:
    """Narratives without their bodies, by id; `narrative_row` makes rows of them."""
    n = db.narratives.c
    names = [field.name for field in fields(NarrativeRow)]
    return select(*(n[name] for name in names)).order_by(n.id)


def narrative_row(row: Row) -> NarrativeRow:
    flags = tuple(row.flags.strip("|").split("|")) if row.flags else ()
    return NarrativeRow(**row._asdict() | {"created": moment(row.created), "flags": flags})


def is_done_by(annotator_id: int) -> ColumnElement[bool]:
    """True of an image which the annotator narrated or skipped; one put off comes again."""
    return or_(is_narrated_by(annotator_id), is_skipped_by(annotator_id))


def is_narrated_by(annotator_id: int) -> ColumnElement[bool]:
    n = db.narratives.c
    return exists().where(n.image_row_id == db.images.c.id, n.annotator_id == annotator_id)


def is_skipped_by(annotator_id: int, *, is_later: bool = False) -> ColumnElement[bool]:
    """is_later: put off ("Not now") instead of skipped."""
    s = db.skips.c
    reason = s.reason == db.LATER if is_later else s.reason != db.LATER
    return exists().where(s.image_row_id == db.images.c.id, s.annotator_id == annotator_id, reason)


def with_status(query: Select, status: str | None) -> Select:
    """Only images that are narrated, skipped, open (neither), or usable (narrated, and it may
    leave the studio); None: all."""
    is_narrated = exists().where(db.narratives.c.image_row_id == db.images.c.id)
    s = db.skips.c
    is_skipped = exists().where(s.image_row_id == db.images.c.id, s.reason != db.LATER)

    if status is None:
        return query

    conditions = {
        "narrated": is_narrated,
        "skipped": is_skipped,
        "open": ~is_narrated & ~is_skipped,
        "usable": exists().where(db.narratives.c.image_row_id == db.images.c.id, may_leave()),
    }

    if status not in conditions:
        raise StoreError(f"status: must be one of {', '.join(conditions)}, got {status!r}")
    return query.where(conditions[status])
