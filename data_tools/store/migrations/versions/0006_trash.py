"""A trash: what was deleted can be brought back until the trash is emptied."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

ID = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    op.add_column(
        "collections", sa.Column("trash_days", sa.Integer, nullable=False, server_default="30")
    )
    collection = sa.ForeignKey("collections.id", name="fk_trash_collection_id", ondelete="CASCADE")
    op.create_table(
        "trash",
        sa.Column("id", ID, primary_key=True),
        sa.Column("collection_id", ID, collection, nullable=False),
        sa.Column("annotator_id", sa.BigInteger, nullable=False),
        sa.Column("image_row_id", sa.BigInteger, nullable=False),
        sa.Column("kind", sa.String, nullable=False),
        sa.Column("file", sa.String, nullable=False),
        sa.Column("title", sa.Text, nullable=False),
        sa.Column("num_narratives", sa.Integer, nullable=False),
        sa.Column("contents", sa.Text, nullable=False),
        sa.Column("deleted", sa.Float(53), nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_trash_collection_id_id", "trash", ["collection_id", "id"])
