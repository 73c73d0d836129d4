"""What a collection asks its annotators, and whether it keeps their voices."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("collections", sa.Column("question", sa.Text, nullable=False, server_default=""))
    op.add_column(
        "collections",
        sa.Column("keeps_voice", sa.Boolean, nullable=False, server_default=sa.true()),
    )
