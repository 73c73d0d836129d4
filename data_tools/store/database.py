"""Open a database safely and bring its tables up to date.

SQLite: write-ahead log, synchronous FULL (a commit is on disk when it returns), foreign keys on,
60 s busy timeout, and writers take the write lock when they begin: a transaction that reads first
and asks for the lock later fails at once when another has written, whatever the timeout.
"""

import logging
import os
import shutil
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Generic, TypeVar

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, Row, Select, create_engine, event, make_url, text
from sqlalchemy.exc import ArgumentError, DBAPIError, IntegrityError

from loctex.records.files import draft_file, draft_of, is_writable, sweep, user_folder

MIGRATIONS = Path(__file__).parent / "migrations"
BUSY_SECONDS = 60  # twenty writers on a machine that is busy with other work waited 20
T = TypeVar("T")
Item = TypeVar("Item")
log = logging.getLogger("studio")
_MIGRATING = threading.Lock()  # Alembic keeps what it migrates in globals of the process
_PRAGMAS = ("synchronous=FULL", "foreign_keys=ON")


class StoreError(ValueError):
    """What was asked of the store cannot be done; the message says why, and the way out."""


class Database:
    """An engine whose `reading()` and `writing()` give a connection inside one transaction.

    revision: of the tables of a new database; one that is there is brought up to the newest.
    Opening an SQLite file of an older version copies it first, to FILE.before-REVISION beside it.

    is_read_only: an SQLite file lies where nothing may be written, as on a share or a mounted
    backup. It is read from a copy in the user's cache, and whatever writes raises StoreError.
    """

    is_read_only = False

    def __init__(self, url: str, revision: str = "head") -> None:
        self._engine = _engine(url)
        self._place = self._engine.url.render_as_string(hide_password=True)
        self._copy: Path | None = None
        is_locked_away = self.file is not None and not _may_be_written(self.file)
        if self.file is not None and is_locked_away:
            self._original = self.file
            self._copy = _copy_to_read(self.file)
            self._engine.dispose()
            self._engine = _engine(f"sqlite:///{self._copy / self.file.name}")

        # SQLite's own waiting is a poll with growing pauses: behind a lock, writers come in turn
        is_sqlite = self._engine.url.get_backend_name() == "sqlite"
        self._turn: threading.Semaphore | None = threading.Semaphore() if is_sqlite else None
        try:
            self._migrate(revision)
        except StoreError:
            self.close()
            raise
        except DBAPIError as error:
            self.close()
            raise StoreError(f"cannot open {self._place}: {error.orig}") from error
        self.is_read_only = is_locked_away  # the copy was migrated until now

    def close(self) -> None:
        self._engine.dispose()
        if self._copy is not None:
            shutil.rmtree(self._copy, ignore_errors=True)

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        with self._engine.begin() as connection:
            yield connection

    @contextmanager
    def frozen(self) -> Iterator[Connection]:
        """As `reading`, and all statements see the same moment; in SQLite they do anyway."""
        is_sqlite = self._engine.url.get_backend_name() == "sqlite"
        options = {} if is_sqlite else {"isolation_level": "REPEATABLE READ"}
        with self._engine.execution_options(**options).begin() as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """Committed, on disk, when the block ends. StoreError: not saved, and nothing changed."""
        if self.is_read_only:
            raise StoreError(
                f"Nothing is saved: {self._original} lies where nothing may be written. Copy the "
                "workspace to a place of your own, and open it there."
            )
        try:
            with self._writers_turn():
                with self._engine.execution_options(is_writing=True).begin() as connection:
                    yield connection
        except IntegrityError:
            raise
        except DBAPIError as error:
            raise StoreError(f"not saved: {error.orig}") from error

    @contextmanager
    def _writers_turn(self) -> Iterator[None]:
        """Of the writers of this process; those of others are waited for by SQLite itself."""
        if self._turn is None:
            yield
            return
        if not self._turn.acquire(timeout=BUSY_SECONDS):
            raise StoreError("not saved: the database is busy with other work; try again")
        try:
            yield
        finally:
            self._turn.release()

    def write(self, work: Callable[[Connection], T]) -> T:
        """One transaction. Where another inserted the same meanwhile, a second look finds it."""
        try:
            with self.writing() as connection:
                return work(connection)
        except IntegrityError:
            pass
        try:
            with self.writing() as connection:
                return work(connection)
        except IntegrityError as error:
            raise StoreError(f"not saved: {error.orig}") from error

    def all(self, query: Select) -> Sequence[Row]:
        with self.reading() as connection:
            return connection.execute(query).all()

    def one(self, query: Select) -> Row:
        """The first row of a query that always has one, as counts do."""
        row = self.first(query)
        assert row is not None
        return row

    def first(self, query: Select) -> Row | None:
        with self.reading() as connection:
            return connection.execute(query.limit(1)).first()

    def forget(self) -> None:
        """What was deleted cannot be read from the database's files any more."""
        if self.file:
            with closing(sqlite3.connect(self.file, timeout=BUSY_SECONDS)) as connection:
                connection.execute("VACUUM")
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        elif self._engine.url.get_backend_name() == "postgresql":
            with self._engine.connect().execution_options(isolation_level="AUTOCOMMIT") as server:
                server.execute(text("VACUUM FULL"))

    @property
    def dialect(self) -> str:
        """sqlite or postgresql."""
        return self._engine.dialect.name

    @property
    def file(self) -> Path | None:
        """The file of an SQLite database; None for PostgreSQL, and in memory."""
        url = self._engine.url
        is_sqlite = url.get_backend_name() == "sqlite"
        if not is_sqlite or not url.database or url.database == ":memory:":
            return None
        return Path(url.database)

    def _migrate(self, revision: str) -> None:
        settings = migrations()
        scripts = ScriptDirectory.from_config(settings).walk_revisions()
        revisions = [script.revision for script in scripts]

        with self.reading() as connection:
            current = MigrationContext.configure(connection).get_current_revision()
        if current == revisions[0]:
            return

        if current is not None and current not in revisions:
            raise StoreError(
                f"{self._place} was made by a newer version of LocTex Studio (its tables are at "
                f"{current}, this version knows up to {revisions[0]}): update the studio, nothing "
                "was changed"
            )

        with _MIGRATING, self.writing() as connection:
            if connection.dialect.name == "postgresql":  # SQLite's writers wait for each other
                connection.execute(text("SELECT pg_advisory_xact_lock(20211108950)"))

            current = MigrationContext.configure(connection).get_current_revision()
            is_older = current not in (None, revisions[0])
            if self.file and is_older:  # as it is now that nobody else writes
                copy_sqlite(self.file, to := Path(f"{self.file}.before-{revisions[0]}"))
                log.info("%s is brought up to date; as it was, it is kept in %s", self.file, to)

            settings.attributes["connection"] = connection
            command.upgrade(settings, revision)


class SharedCommits(Generic[Item, T]):
    """Writes of one kind, from many threads: what comes together is one transaction.

    A commit waits for the disk some milliseconds, in which others come: the next commit is theirs
    together. work: takes some items, and returns as many results; where it fails for some together,
    each is written by itself, and only who sent the wrong one gets the error.
    """

    def __init__(
        self, database: Database, work: Callable[[Connection, Sequence[Item]], Sequence[T]]
    ) -> None:
        self._database, self._work = database, work
        self._waiting: deque[tuple[Item, Future[T]]] = deque()
        self._turn = threading.Lock()  # held by who writes for all that wait

    def write(self, item: Item) -> T:
        """Its result, when it is on disk. Raises StoreError as `Database.write`."""
        outcome: Future[T] = Future()
        self._waiting.append((item, outcome))
        with self._turn:
            batch = [self._waiting.popleft() for _ in range(len(self._waiting))]
            if batch:  # else whoever had the turn before has written ours
                self._write_batch(batch)
        return outcome.result()

    def _write_batch(self, batch: Sequence[tuple[Item, Future[T]]]) -> None:
        try:
            results = self._database.write(lambda c: self._work(c, [item for item, _ in batch]))
        except Exception as error:
            if len(batch) == 1:
                batch[0][1].set_exception(error)
                return
            for member in batch:
                self._write_batch([member])
            return
        for (_, outcome), result in zip(batch, results, strict=True):
            outcome.set_result(result)


def migrations() -> Config:
    """What Alembic wants to know; attributes["connection"] is for the caller to add."""
    settings = Config()
    settings.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    settings.set_main_option("path_separator", "os")
    return settings


def copy_sqlite(source: Path, to: Path) -> None:
    """A whole copy of a database that others may be reading and writing."""
    with draft_file(to) as draft:
        with closing(sqlite3.connect(source)) as old, closing(sqlite3.connect(draft)) as new:
            old.backup(new)


def _may_be_written(file: Path) -> bool:
    """Also where there is none yet: then SQLite itself says what is wrong with the place."""
    if not file.exists():
        return True
    return os.access(file, os.W_OK) and is_writable(file.parent)


def _copy_to_read(file: Path) -> Path:
    """The folder, in the user's cache, of a copy of a database that SQLite cannot open where it
    lies: it keeps its log and its locks beside the file. Raises StoreError."""
    place = user_folder("read-only")
    sweep(place, rested=0)  # of studios that were killed
    folder = draft_of(place / file.name)
    try:
        folder.mkdir(mode=0o700)
        for source in (file, Path(f"{file}-wal")):  # the log holds what was written last
            if source.exists():
                shutil.copyfile(source, folder / source.name)
    except OSError as error:
        shutil.rmtree(folder, ignore_errors=True)
        size = file.stat().st_size / 1e6
        raise StoreError(
            f"{file} lies where nothing may be written, and cannot be copied to {place} "
            f"({error.strerror}; it has {size:,.0f} MB): set XDG_CACHE_HOME to a folder with room"
        ) from error
    return folder


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
    _write_ahead(connection)
    for pragma in _PRAGMAS:
        connection.execute(f"PRAGMA {pragma}")


def _write_ahead(connection: Any) -> None:
    """Turns the write-ahead log on, once for a file.

    SQLite does not wait here: where two connections turn it on at once, one of them is told at
    once that the file is locked, whatever its timeout (each holds what the other waits for).
    """
    last_try = time.monotonic() + BUSY_SECONDS

    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as error:
            is_busy = error.sqlite_errorcode & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
            if not is_busy or time.monotonic() > last_try:
                raise
        time.sleep(0.02)


def _begin_sqlite(connection: Connection) -> None:
    is_writing = connection.get_execution_options().get("is_writing", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if is_writing else "BEGIN")
