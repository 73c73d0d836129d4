"""A draft is a record and the changes since: a save is a row, not the whole take anew."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

ID = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    op.add_column("drafts", sa.Column("revision", sa.String, nullable=False, server_default=""))
    draft = sa.ForeignKey("drafts.take_id", name="fk_draft_changes_take_id", ondelete="CASCADE")
    op.create_table(
        "draft_changes",
        sa.Column("id", ID, primary_key=True),
        sa.Column("take_id", sa.String, draft, nullable=False),
        sa.Column("body", sa.Text, nullable=False),
    )
    op.create_index("ix_draft_changes_take_id", "draft_changes", ["take_id"])
