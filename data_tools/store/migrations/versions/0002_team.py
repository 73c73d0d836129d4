"""A team: how many people describe each image, who holds which, and what reviewers said."""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

ID = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    op.add_column(  # 0: everybody, as it was before
        "collections", sa.Column("overlap", sa.Integer, nullable=False, server_default="0")
    )
    op.add_column(
        "collections",
        sa.Column("needs_review", sa.Boolean, nullable=False, server_default=sa.false()),
    )
    op.add_column(
        "images", sa.Column("is_wanted", sa.Boolean, nullable=False, server_default=sa.true())
    )
    op.create_index(
        "ix_images_collection_id_is_wanted_id", "images", ["collection_id", "is_wanted", "id"]
    )
    op.add_column(
        "narratives",
        sa.Column("status", sa.String, nullable=False, server_default="unreviewed"),
    )
    op.create_index(
        "ix_narratives_collection_id_status_id", "narratives", ["collection_id", "status", "id"]
    )
    op.create_index("ix_narratives_annotator_id_id", "narratives", ["annotator_id", "id"])
    op.create_table(
        "claims",
        _link("image_row_id", "images", "claims", primary_key=True, autoincrement=False),
        sa.Column("annotator_id", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("expires", sa.Float(53), nullable=False),
    )
    op.create_index("ix_claims_annotator_id", "claims", ["annotator_id"])
    op.create_table(
        "reviews",
        sa.Column("id", ID, primary_key=True),
        _link("narrative_id", "narratives", "reviews", nullable=False),
        sa.Column("reviewer_id", sa.BigInteger, nullable=False),
        sa.Column("verdict", sa.String, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("before", sa.Text),
        sa.Column("created", sa.Float(53), nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_reviews_narrative_id", "reviews", ["narrative_id"])
    op.create_index("ix_reviews_reviewer_id", "reviews", ["reviewer_id"])


def _link(column: str, table: str, of: str, **options: Any) -> sa.Column:
    key = sa.ForeignKey(f"{table}.id", name=f"fk_{of}_{column}", ondelete="CASCADE")
    return sa.Column(column, ID, key, **options)
