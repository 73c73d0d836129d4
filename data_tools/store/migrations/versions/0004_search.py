"""Words of captions found at once; counts and lists by annotator from an index; terms of use."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("collections", sa.Column("license", sa.Text, nullable=False, server_default=""))
    op.create_index(
        "ix_narratives_collection_id_annotator_id_id",
        "narratives",
        ["collection_id", "annotator_id", "id"],
    )
    op.create_index(
        "ix_narratives_collection_id_num_points_num_words",
        "narratives",
        ["collection_id", "num_points", "num_words"],
    )
    if op.get_bind().dialect.name == "postgresql":
        op.execute(
            "CREATE INDEX narratives_search ON narratives "
            "USING gin (to_tsvector('simple', caption))"
        )
        return
    op.execute(  # the words alone; triggers keep it in step
        "CREATE VIRTUAL TABLE narratives_search USING fts5"
        "(caption, content='narratives', content_rowid='id', tokenize='unicode61')"
    )
    add = "INSERT INTO narratives_search(rowid, caption) VALUES (new.id, new.caption);"
    drop = (
        "INSERT INTO narratives_search(narratives_search, rowid, caption) "
        "VALUES ('delete', old.id, old.caption);"
    )
    for name, event, does in (
        ("add", "INSERT", add),
        ("drop", "DELETE", drop),
        ("change", "UPDATE OF caption", drop + add),
    ):
        op.execute(
            f"CREATE TRIGGER narratives_search_{name} AFTER {event} ON narratives BEGIN {does} END"
        )
    op.execute("INSERT INTO narratives_search(narratives_search) VALUES ('rebuild')")
