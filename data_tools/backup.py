"""A workspace in one file, and back.

    python -m data_tools.backup save FILE.tar [--workspace DIR] [--database URL] [--without-runs]
    python -m data_tools.backup restore FILE.tar --workspace NEW_DIR [--database EMPTY_URL]

The studio may run while it is saved. The database travels as lines of JSON, so that what was saved
from SQLite can be restored to PostgreSQL and the other way; an older version's is brought up to
date. A workspace that is kept in PostgreSQL is saved only with its --database named. The users file
lies outside a workspace: keep it too.
"""

import argparse
import json
import os
import sys
import tarfile
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from alembic.script import ScriptDirectory
from sqlalchemy import Connection, MetaData, Table, func, insert, select, text

from data_tools.address import address, note_address
from data_tools.database import Database, StoreError, migrations
from data_tools.folders import whole_folder
from data_tools.processes import stop_tidily

TABLES = "tables/"  # in the file: NAME.jsonl of each table
FOLDERS = ("images", "voices", "snapshots", "exports", "runs")
INDEX = "narratives_search"  # SQLite keeps its words in step by itself, in tables of this beginning
SKIPPED = (".cache", "lock", "pid", "tmp")  # endings of what is made anew
ROWS = 500  # read and inserted at a time


def save(workspace: Path, to: Path, database: str | None = None, *, has_runs: bool = True) -> int:
    """Write the file `to`, whole or not at all; how many rows and files it holds.

    Raises StoreError: there is no workspace, or its database has to be named; FileExistsError: `to`
    is there already.
    """
    workspace, to = Path(workspace).expanduser().resolve(), Path(to)
    if not workspace.is_dir():
        raise StoreError(f"there is no workspace {workspace}")
    if to.exists():
        raise FileExistsError(f"{to} is there already; name another file")
    url = address(workspace, database)
    if database is None and not (workspace / "studio.db").exists():
        raise StoreError(f"{workspace} holds no studio.db: name its database with --database")
    source, part = Database(url), Path(f"{to}.tmp")
    try:
        with tarfile.open(part, "w") as tar:
            count = _add_tables(tar, source)  # first: files are written before their rows
            for path in _files(workspace, FOLDERS if has_runs else FOLDERS[:-1]):
                try:
                    tar.add(path, str(path.relative_to(workspace)), recursive=False)
                except FileNotFoundError:
                    continue  # a draft that was submitted meanwhile
                count += 1
        with open(part, "rb") as file:
            os.fsync(file.fileno())
        os.replace(part, to)
    finally:
        source.close()
        part.unlink(missing_ok=True)
    return count


def restore(file: Path, workspace: Path, database: str | None = None) -> int:
    """Make the workspace anew from a saved file; how many rows it has.

    database: an empty one that is filled; else the workspace gets a studio.db.

    Raises FileExistsError: the folder holds something; StoreError: the database does, or a newer
    version saved it; ValueError: it is no saved workspace.
    """
    workspace = Path(workspace).expanduser().resolve()
    try:
        tar = tarfile.open(file)
    except tarfile.ReadError as error:
        raise ValueError(f"{file} is no saved workspace: {error}") from error
    with tar, whole_folder(workspace) as building:
        revision = _revision(tar, file)
        try:
            tar.extractall(building, filter="data")
        except tarfile.FilterError as error:
            raise ValueError(f"{file} is no saved workspace: {error}") from error
        lines = sorted((building / TABLES).glob("*.jsonl"))
        url = address(building, database)
        target = Database(url, revision)
        try:
            count = target.write(lambda c: sum(_fill(c, path) for path in _in_order(c, lines)))
        finally:
            target.close()
        Database(url).close()  # brings it up to date
        note_address(building, database)
        for path in lines:
            path.unlink()
        (building / TABLES).rmdir()
    return count


def _files(workspace: Path, folders: Sequence[str]) -> Iterator[Path]:
    for folder in folders:
        for path in sorted((workspace / folder).rglob("*")):
            parts = path.relative_to(workspace).parts
            if path.is_file() and not any(part.endswith(SKIPPED) for part in parts):
                yield path


# --- rows


def _add_tables(tar: tarfile.TarFile, source: Database) -> int:
    """Each table of one moment, as lines of JSON; how many lines."""
    count = 0
    with source.frozen() as connection:
        metadata = MetaData()
        metadata.reflect(connection)
        for table in metadata.sorted_tables:
            if not table.name.startswith(INDEX):
                few = {"yield_per": ROWS}  # bodies may be many gigabytes
                result = connection.execute(select(table), execution_options=few)
                rows = (dict(row) for row in result.mappings())
                count += _add(tar, f"{TABLES}{table.name}.jsonl", rows)
    return count


def _add(tar: tarfile.TarFile, name: str, rows: Iterable[Mapping[str, Any]]) -> int:
    """A file of these rows, a line each; how many."""
    count = 0
    with tempfile.TemporaryFile(dir=Path(tar.name).parent) as lines:
        for row in rows:
            lines.write(json.dumps(dict(row)).encode() + b"\n")
            count += 1
        entry = tarfile.TarInfo(name)
        entry.size = lines.tell()
        lines.seek(0)
        tar.addfile(entry, lines)
    return count


def _revision(tar: tarfile.TarFile, file: Path) -> str:
    """The version of the tables in a saved file."""
    try:
        line = tar.extractfile(f"{TABLES}alembic_version.jsonl").read()
    except KeyError:
        raise ValueError(f"{file} is no saved workspace: it holds no database") from None
    revision = json.loads(line)["version_num"]
    known = [one.revision for one in ScriptDirectory.from_config(migrations()).walk_revisions()]
    if revision not in known:
        raise StoreError(
            f"{file} was saved by a newer version of LocTex Studio (its tables are at {revision}, "
            f"this version knows up to {known[0]}): update the studio"
        )
    return revision


def _in_order(connection: Connection, lines: Sequence[Path]) -> list[Path]:
    """Tables before those that point to them; without Alembic's own."""
    metadata = MetaData()
    metadata.reflect(connection)
    if connection.scalar(select(func.count()).select_from(metadata.tables["collections"])):
        raise StoreError("the database holds something already; name an empty one")
    order = [table.name for table in metadata.sorted_tables]
    kept = [path for path in lines if path.stem != "alembic_version"]
    return sorted(kept, key=lambda path: order.index(path.stem))


def _fill(connection: Connection, path: Path) -> int:
    table, count = Table(path.stem, MetaData(), autoload_with=connection), 0
    rows: list[dict] = []
    with open(path, encoding="utf-8") as lines:
        for line in lines:
            rows.append(json.loads(line))
            if len(rows) == ROWS:
                connection.execute(insert(table), rows)
                rows, count = [], count + len(rows)
    if rows:
        connection.execute(insert(table), rows)
    if connection.dialect.name == "postgresql" and "id" in table.c:
        last = f"(SELECT coalesce(max(id), 0) + 1 FROM {table.name})"
        sequence = f"pg_get_serial_sequence('{table.name}', 'id')"
        connection.execute(text(f"SELECT setval({sequence}, {last}, false)"))
    return count + len(rows)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m data_tools.backup", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("what", choices=("save", "restore"))
    parser.add_argument("file", type=Path, help="the file to write, or to read")
    parser.add_argument("--workspace", type=Path, default=Path("workspace"), help="the folder")
    parser.add_argument("--database", help="its database URL, if not its studio.db")
    parser.add_argument("--without-runs", action="store_true", help="leave out what was trained")
    options = parser.parse_args(arguments)
    try:
        if options.what == "save":
            has_runs = not options.without_runs
            count = save(options.workspace, options.file, options.database, has_runs=has_runs)
            print(f"{count:,} rows and files in {options.file}")
        else:
            count = restore(options.file, options.workspace, options.database)
            print(f"{count:,} rows restored, and their files, in {options.workspace}")
    except (ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    stop_tidily()
    sys.exit(main())
