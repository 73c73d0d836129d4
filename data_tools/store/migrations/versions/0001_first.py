"""Collections, images, narratives and their bodies, annotators, skips, drafts."""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

ID = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    for name in ("annotators", "collections"):
        op.create_table(
            name,
            sa.Column("id", ID, primary_key=True),
            sa.Column("name", sa.String, nullable=False),
            sa.UniqueConstraint("name", name=f"uq_{name}_name"),
            sqlite_autoincrement=True,
        )
    _images()
    _narratives()
    op.create_table(
        "skips",
        _link("image_row_id", "images", "skips", primary_key=True, autoincrement=False),
        sa.Column("annotator_id", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("reason", sa.Text, nullable=False),
    )
    op.create_table(
        "drafts",
        sa.Column("take_id", sa.String, primary_key=True),
        sa.Column("annotator_id", sa.BigInteger, nullable=False),
        _link("image_row_id", "images", "drafts", nullable=False),
        sa.Column("body", sa.Text, nullable=False),
        sa.Column("saved", sa.Float(53), nullable=False),
    )
    op.create_index("ix_drafts_annotator_id", "drafts", ["annotator_id"])


def _link(column: str, table: str, of: str, **options: Any) -> sa.Column:
    key = sa.ForeignKey(f"{table}.id", name=f"fk_{of}_{column}", ondelete="CASCADE")
    return sa.Column(column, ID, key, **options)


def _images() -> None:
    op.create_table(
        "images",
        sa.Column("id", ID, primary_key=True),
        _link("collection_id", "collections", "images", nullable=False),
        sa.Column("dataset_id", sa.String, nullable=False),
        sa.Column("image_id", sa.String, nullable=False),
        sa.Column("sha256", sa.String, nullable=False),
        sa.Column("file", sa.String, nullable=False),
        sa.Column("name", sa.String, nullable=False),
        sa.Column("width", sa.Integer, nullable=False),
        sa.Column("height", sa.Integer, nullable=False),
        sa.UniqueConstraint(
            "collection_id",
            "dataset_id",
            "image_id",
            name="uq_images_collection_id_dataset_id_image_id",
        ),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_images_collection_id_id", "images", ["collection_id", "id"])
    op.create_index("ix_images_collection_id_sha256", "images", ["collection_id", "sha256"])


def _narratives() -> None:
    op.create_table(
        "narratives",
        sa.Column("id", ID, primary_key=True),
        _link("collection_id", "collections", "narratives", nullable=False),
        _link("image_row_id", "images", "narratives", nullable=False),
        sa.Column("annotator_id", sa.BigInteger, nullable=False),
        sa.Column("take_id", sa.String),
        sa.Column("caption", sa.Text, nullable=False),
        sa.Column("num_words", sa.Integer, nullable=False),
        sa.Column("num_points", sa.Integer, nullable=False),
        sa.Column("duration", sa.Float(53), nullable=False),
        sa.Column("created", sa.Float(53), nullable=False),
        sa.UniqueConstraint("take_id", name="uq_narratives_take_id"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_narratives_collection_id_id", "narratives", ["collection_id", "id"])
    op.create_index(
        "ix_narratives_image_row_id_annotator_id", "narratives", ["image_row_id", "annotator_id"]
    )
    op.create_table(
        "bodies",
        _link("narrative_id", "narratives", "bodies", primary_key=True, autoincrement=False),
        sa.Column("record", sa.Text, nullable=False),
        sa.Column("regions", sa.Text),
    )
