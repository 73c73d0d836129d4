"""Alembic runs this; data_tools/database.py hands over the connection, inside a transaction."""

from alembic import context

from data_tools.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()
