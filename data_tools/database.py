"""Open a database safely and bring its tables up to date.

SQLite: write-ahead log, synchronous FULL (a commit is on disk when it returns), foreign keys on,
10 s busy timeout, and writers take the write lock when they begin: a transaction that reads first
and asks for the lock later fails at once when another has written, whatever the timeout.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, create_engine, event, make_url, text
from sqlalchemy.exc import ArgumentError, DBAPIError, IntegrityError

MIGRATIONS = Path(__file__).parent / "migrations"
BUSY_SECONDS = 10
_PRAGMAS = ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON")


class StoreError(ValueError):
    """What was asked of the store cannot be done; the message says why, and the way out."""


class Database:
    """An engine whose `reading()` and `writing()` give a connection inside one transaction."""

    def __init__(self, url: str) -> None:
        self._engine = _engine(url)
        self._place = self._engine.url.render_as_string(hide_password=True)
        try:
            self._migrate()
        except StoreError:
            self.close()
            raise
        except DBAPIError as error:
            self.close()
            raise StoreError(f"cannot open {self._place}: {error.orig}") from error

    def close(self) -> None:
        self._engine.dispose()

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        with self._engine.begin() as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """Committed, on disk, when the block ends. StoreError: not saved, and nothing changed."""
        try:
            with self._engine.execution_options(is_writing=True).begin() as connection:
                yield connection
        except IntegrityError:
            raise
        except DBAPIError as error:
            raise StoreError(f"not saved: {error.orig}") from error

    def _migrate(self) -> None:
        settings = Config()
        settings.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
        settings.set_main_option("path_separator", "os")
        known = [
            script.revision for script in ScriptDirectory.from_config(settings).walk_revisions()
        ]
        with self.reading() as connection:
            found = MigrationContext.configure(connection).get_current_revision()
        if found == known[0]:
            return
        if found is not None and found not in known:
            raise StoreError(
                f"{self._place} was made by a newer version of LocTex Studio (its tables are at "
                f"{found}, this version knows up to {known[0]}): update the studio, nothing was "
                "changed"
            )
        with self.writing() as connection:
            if connection.dialect.name == "postgresql":  # SQLite's writers wait for each other
                connection.execute(text("SELECT pg_advisory_xact_lock(20211108950)"))
            settings.attributes["connection"] = connection
            command.upgrade(settings, "head")


def _engine(url: str) -> Engine:
    try:
        parsed = make_url(url)
    except ArgumentError as error:
        raise StoreError(f"{url!r} is no database URL, as postgresql://user@host/name") from error
    if parsed.drivername in ("postgresql", "postgres"):
        parsed = parsed.set(drivername="postgresql+psycopg")
    if parsed.get_backend_name() not in ("sqlite", "postgresql"):
        raise StoreError(f"{parsed.get_backend_name()} is not supported: use SQLite or PostgreSQL")
    if parsed.get_backend_name() == "postgresql":
        return create_engine(parsed, pool_pre_ping=True)
    engine = create_engine(parsed, connect_args={"timeout": BUSY_SECONDS})
    event.listen(engine, "connect", _set_up_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _set_up_sqlite(connection: Any, _: Any) -> None:
    connection.isolation_level = None  # the driver's own BEGIN is deferred: we send ours
    for pragma in _PRAGMAS:
        connection.execute(f"PRAGMA {pragma}")


def _begin_sqlite(connection: Connection) -> None:
    is_writing = connection.get_execution_options().get("is_writing", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if is_writing else "BEGIN")
