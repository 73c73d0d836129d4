"""The tables of a workspace's database. Changing one takes a new file in migrations/versions."""

from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    false,
    text,
    true,
)

metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
    }
)
LATER = "later"  # the reason of a skip that only puts an image off
FIRST_ANNOTATOR = 1_000_000  # the public files number theirs from 0: nobody here is one of them
_ID = BigInteger().with_variant(Integer, "sqlite")  # SQLite numbers rows only under INTEGER
_FLAGGED: dict[str, Any] = {  # an index of some rows
    name: text("flags <> ''") for name in ("sqlite_where", "postgresql_where")
}
_NEVER_REUSED: dict[str, Any] = {
    "sqlite_autoincrement": True
}  # else the id of a deleted last row comes again


def _to(column: str) -> ForeignKey:
    return ForeignKey(column, ondelete="CASCADE")


annotators = Table(
    "annotators",
    metadata,
    Column("id", _ID, primary_key=True),
    Column("name", String, nullable=False, unique=True),
    **_NEVER_REUSED,
)
collections = Table(
    "collections",
    metadata,
    Column("id", _ID, primary_key=True),
    Column("name", String, nullable=False, unique=True),
    Column("overlap", Integer, nullable=False, server_default="0"),  # people an image; 0: all
    Column("needs_review", Boolean, nullable=False, server_default=false()),  # to leave the studio
    Column("question", Text, nullable=False, server_default=""),  # shown to its annotators
    Column("keeps_voice", Boolean, nullable=False, server_default=true()),  # once words are timed
    Column("license", Text, nullable=False, server_default=""),  # terms of what is told here
    Column("trash_days", Integer, nullable=False, server_default="30"),  # 0: deleted at once
    **_NEVER_REUSED,
)
images = Table(  # of a collection; the bytes lie in the images folder, once for each sha256
    "images",
    metadata,
    Column("id", _ID, primary_key=True),
    Column("collection_id", _ID, _to("collections.id"), nullable=False),
    Column("dataset_id", String, nullable=False),
    Column("image_id", String, nullable=False),
    Column("sha256", String, nullable=False),
    Column("file", String, nullable=False),
    Column("name", String, nullable=False),
    Column("width", Integer, nullable=False),
    Column("height", Integer, nullable=False),
    Column("is_wanted", Boolean, nullable=False, server_default=true()),  # by more people
    UniqueConstraint("collection_id", "dataset_id", "image_id"),
    Index(None, "collection_id", "id"),
    Index(None, "collection_id", "sha256"),
    Index(None, "collection_id", "is_wanted", "id"),
    **_NEVER_REUSED,
)
narratives = Table(  # the words of its captions are indexed too: data_tools/store/search.py
    "narratives",
    metadata,
    Column("id", _ID, primary_key=True),
    Column("collection_id", _ID, _to("collections.id"), nullable=False),
    Column("image_row_id", _ID, _to("images.id"), nullable=False),
    Column("annotator_id", BigInteger, nullable=False),  # as in the record
    Column("take_id", String, unique=True),
    Column("caption", Text, nullable=False),
    Column("num_words", Integer, nullable=False),
    Column("num_points", Integer, nullable=False),
    Column("duration", Float(53), nullable=False),  # seconds
    Column("created", Float(53), nullable=False),  # seconds since 1970
    Column("status", String, nullable=False, server_default="unreviewed"),  # accepted, rejected
    Column("flags", String, nullable=False, server_default=""),  # quality.joined of the record
    Index(None, "collection_id", "id"),
    Index(None, "collection_id", "status", "id"),
    Index(None, "collection_id", "annotator_id", "id"),
    Index(None, "collection_id", "num_points", "num_words"),  # for the counts
    Index(None, "collection_id", "id", "flags", **_FLAGGED),
    Index(None, "image_row_id", "annotator_id"),
    Index(None, "annotator_id", "id"),
    **_NEVER_REUSED,
)
bodies = Table(  # apart, so that lists of narratives do not read them
    "bodies",
    metadata,
    Column("narrative_id", _ID, _to("narratives.id"), primary_key=True, autoincrement=False),
    Column("record", Text, nullable=False),  # the public line
    Column("regions", Text),  # JSON: the narrative's lines of regions.jsonl
)
skips = Table(
    "skips",
    metadata,
    Column("image_row_id", _ID, _to("images.id"), primary_key=True, autoincrement=False),
    Column("annotator_id", BigInteger, primary_key=True, autoincrement=False),
    Column("reason", Text, nullable=False),
)
drafts = Table(
    "drafts",
    metadata,
    Column("take_id", String, primary_key=True),
    Column("annotator_id", BigInteger, nullable=False, index=True),
    Column("image_row_id", _ID, _to("images.id"), nullable=False),
    Column("body", Text, nullable=False),
    Column("saved", Float(53), nullable=False),  # seconds since 1970
    Column("revision", String, nullable=False, server_default=""),  # of body and changes
)
draft_changes = Table(  # since a draft's body was written: data_tools/store/drafts
    "draft_changes",
    metadata,
    Column("id", _ID, primary_key=True),
    Column("take_id", String, _to("drafts.take_id"), nullable=False, index=True),
    Column("body", Text, nullable=False),  # JSON
)
claims = Table(  # an image in the hands of an annotator, until it expires (seconds since 1970)
    "claims",
    metadata,
    Column("image_row_id", _ID, _to("images.id"), primary_key=True, autoincrement=False),
    Column("annotator_id", BigInteger, primary_key=True, autoincrement=False, index=True),
    Column("expires", Float(53), nullable=False),
)
reviews = Table(  # the trail: what reviewers did, the latest last
    "reviews",
    metadata,
    Column("id", _ID, primary_key=True),
    Column("narrative_id", _ID, _to("narratives.id"), nullable=False, index=True),
    Column("reviewer_id", BigInteger, nullable=False, index=True),  # who: as annotator_id
    Column("verdict", String, nullable=False),  # accepted, rejected, fixed, edited
    Column("reason", Text, nullable=False),
    Column("before", Text),  # the public line before it was fixed or edited
    Column("created", Float(53), nullable=False),  # seconds since 1970
    **_NEVER_REUSED,
)
trash = Table(  # what was deleted and can be brought back: data_tools/store/trash.py
    "trash",
    metadata,
    Column("id", _ID, primary_key=True),
    Column("collection_id", _ID, _to("collections.id"), nullable=False),
    Column("annotator_id", BigInteger, nullable=False),  # who deleted it
    Column("image_row_id", BigInteger, nullable=False),
    Column("kind", String, nullable=False),  # image, narrative
    Column("file", String, nullable=False),  # of the image
    Column("title", Text, nullable=False),
    Column("num_narratives", Integer, nullable=False),
    Column("contents", Text, nullable=False),  # JSON: the rows as they were
    Column("deleted", Float(53), nullable=False),  # seconds since 1970
    Index(None, "collection_id", "id"),
    **_NEVER_REUSED,
)
