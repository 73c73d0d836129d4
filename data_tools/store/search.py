"""Which narratives of a collection are listed: by words, annotator, status, trace, and flags."""

import re
from dataclasses import dataclass

from sqlalchemy import Select, column, func, literal_column, select, table

from data_tools.quality.flags import OF_RECORDS
from data_tools.store import tables as db
from data_tools.store.database import StoreError
from data_tools.store.queries import narrative_rows

FLAGS = ("any", "none", *OF_RECORDS)
STATUSES = ("unreviewed", "accepted", "rejected")
_words = table("narratives_search", column("rowid"), column("narratives_search"))


@dataclass(frozen=True)
class NarrativeFilter:
    """words: all of them are in the caption, the last one perhaps only begun. flag: the name of
    one, "any" or "none" (data_tools.quality.flags, of the record, not its voice). None, "": all."""

    words: str = ""
    annotator_id: int | None = None
    status: str | None = None
    has_trace: bool | None = None
    flag: str | None = None

    def __post_init__(self) -> None:
        for name, allowed in (("status", STATUSES), ("flag", FLAGS)):
            if (value := getattr(self, name)) not in (None, *allowed):
                raise StoreError(f"{name}: must be one of {', '.join(allowed)}, got {value!r}")


EVERYTHING = NarrativeFilter()


def matching(
    collection_id: int, narrative_filter: NarrativeFilter, after: int, dialect: str
) -> Select:
    """The rows after this id, by id. With words, SQLite walks along the ids that have them."""
    n = db.narratives.c
    query = narrative_rows().where(n.collection_id == collection_id)
    words = re.findall(r"\w+", narrative_filter.words)
    if words and dialect == "sqlite":
        text = " ".join(f'"{word}"' for word in words) + "*"
        query = query.select_from(_words.join(db.narratives, n.id == _words.c.rowid))
        query = query.where(_words.c.narratives_search.op("MATCH")(text))
        query = query.where(_words.c.rowid > after).order_by(None).order_by(_words.c.rowid)
    else:
        query = query.where(n.id > after)
    if words and dialect == "postgresql":
        text = " & ".join(f"'{word}'" for word in words) + ":*"
        query = query.where(
            func.to_tsvector("simple", n.caption).op("@@")(func.to_tsquery("simple", text))
        )
    if narrative_filter.annotator_id is not None:
        query = query.where(n.annotator_id == narrative_filter.annotator_id)
    if narrative_filter.status is not None:
        query = query.where(n.status == narrative_filter.status)
    if narrative_filter.has_trace is not None:
        query = query.where(n.num_points > 0 if narrative_filter.has_trace else n.num_points == 0)
    if narrative_filter.flag == "none":
        query = query.where(n.flags == "")
    elif narrative_filter.flag is not None:
        query = query.where(n.flags != literal_column("''"))  # so the index says it
        if narrative_filter.flag != "any":
            query = query.where(n.flags.contains(f"|{narrative_filter.flag}|"))
    return query


def annotators_of(collection_id: int, most: int) -> Select:
    """annotator_id of those who told something of a collection, by id; from the index, a step
    for each of them, however much they told."""
    n = db.narratives.c
    mine = n.collection_id == collection_id
    lowest = select(func.min(n.annotator_id).label("id")).where(mine).cte(recursive=True)
    following = select(func.min(n.annotator_id)).where(mine, n.annotator_id > lowest.c.id)
    ids = lowest.union_all(select(following.scalar_subquery()).where(lowest.c.id.is_not(None)))
    return select(ids.c.id).where(ids.c.id.is_not(None)).limit(most)
