"""Which narratives of a collection are listed: by words, annotator, status, trace, and flags."""

import string
import unicodedata
from dataclasses import dataclass

import regex
from sqlalchemy import Select, column, func, literal_column, or_, select, table

from data_tools.quality.flags import OF_RECORDS
from data_tools.store import tables as db
from data_tools.store.database import StoreError
from data_tools.store.queries import narrative_rows
from loctex.records.words import UNSPACED

FLAGS = ("any", "none", *OF_RECORDS)
_WORD = regex.compile(r"[\p{L}\p{N}_]\w*")
_UNSPACED = regex.compile(rf"{UNSPACED.pattern}|\p{{Tibetan}}")
_SYMBOL = regex.compile(r"\p{S}")  # emoji, and signs as + and €
STATUSES = ("unreviewed", "accepted", "rejected")
_words = table("narratives_search", column("rowid"), column("narratives_search"))


@dataclass(frozen=True)
class NarrativeFilter:
    """words: all of them are in the caption, the last one perhaps only begun; Chinese, Thai and
    their like anywhere in a sentence, and emoji. flag: the name of
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

    words, pieces = _parse(narrative_filter.words)

    if words and dialect == "sqlite":
        *whole, begun = words
        terms = [*(_any_spelling(word, " OR ", '"{}"') for word in whole)]
        text = " AND ".join([*terms, _any_spelling(begun, " OR ", '"{}"*')])
        query = query.select_from(_words.join(db.narratives, n.id == _words.c.rowid))
        query = query.where(_words.c.narratives_search.op("MATCH")(text))
        query = query.where(_words.c.rowid > after).order_by(None).order_by(_words.c.rowid)
    else:
        query = query.where(n.id > after)

    if words and dialect == "postgresql":
        *whole, begun = words
        terms = [_any_spelling(word, " | ", "'{}'") for word in whole]
        text = " & ".join([*terms, _any_spelling(begun, " | ", "'{}':*")])
        query = query.where(
            func.to_tsvector("simple", n.caption).op("@@")(func.to_tsquery("simple", text))
        )

    for piece in pieces:
        contains = [n.caption.icontains(text, autoescape=True) for text in _spellings(piece)]
        query = query.where(or_(*contains))

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


def _parse(text: str) -> tuple[list[str], list[str]]:
    """The words that an index knows, and what is looked for in each caption, letter by letter.

    No index knows words of scripts that write them without spaces, nor emoji. Punctuation beside
    words is nothing; alone it is what is looked for.
    """
    words, pieces, punctuation = [], [], []

    for term in text.split():
        its_words = _WORD.findall(term)
        if _UNSPACED.search(term):
            pieces += [term.strip(string.punctuation)]
        elif its_words:
            words += its_words
        elif _SYMBOL.search(term):
            pieces.append(term)
        else:
            punctuation.append(term)

    return words, pieces if words or pieces else punctuation


def _spellings(text: str) -> list[str]:
    """As it may stand in a caption, which is kept as it was typed: é as one character, or two."""
    return list(dict.fromkeys(unicodedata.normalize(form, text) for form in ("NFC", "NFD")))


def _any_spelling(word: str, either: str, form: str) -> str:
    return f"({either.join(form.format(spelling) for spelling in _spellings(word))})"


def annotators_of(collection_id: int, most: int) -> Select:
    """annotator_id of those who told something of a collection, by id; from the index, a step
    for each of them, however much they told."""
    n = db.narratives.c
    mine = n.collection_id == collection_id
    lowest = select(func.min(n.annotator_id).label("id")).where(mine).cte(recursive=True)
    following = select(func.min(n.annotator_id)).where(mine, n.annotator_id > lowest.c.id)
    ids = lowest.union_all(select(following.scalar_subquery()).where(lowest.c.id.is_not(None)))
    return select(ids.c.id).where(ids.c.id.is_not(None)).limit(most)
