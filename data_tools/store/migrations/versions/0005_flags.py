"""What is odd about each narrative, so that lists can be filtered by it."""

import sqlalchemy as sa
from alembic import op

from data_tools.quality import flags
from loctex.records.narrative import Narrative

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

TOGETHER = 500  # records held in memory


def upgrade() -> None:
    op.add_column("narratives", sa.Column("flags", sa.String, nullable=False, server_default=""))
    op.create_index(
        "ix_narratives_collection_id_id_flags",
        "narratives",
        ["collection_id", "id", "flags"],
        sqlite_where=sa.text("flags <> ''"),
        postgresql_where=sa.text("flags <> ''"),
    )
    connection, after = op.get_bind(), -1
    page = sa.text(
        "SELECT narrative_id, record FROM bodies WHERE narrative_id > :after "
        "ORDER BY narrative_id LIMIT :most"
    )
    change = sa.text("UPDATE narratives SET flags = :flags WHERE id = :id")
    while rows := connection.execute(page, {"after": after, "most": TOGETHER}).all():
        told = [(row.narrative_id, Narrative.from_json(row.record)) for row in rows]
        found = [{"id": i, "flags": flags.joined(flags.flags(one))} for i, one in told]
        connection.execute(change, found)
        after = rows[-1].narrative_id
