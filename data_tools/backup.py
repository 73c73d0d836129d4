"""A workspace in one file, and back.

    python -m data_tools.backup save FILE.tar [--workspace DIR] [--database URL] [--without-runs]
                                              [--users FILE]
    python -m data_tools.backup restore FILE.tar --workspace NEW_DIR [--database EMPTY_URL]
                                              [--partial] [--launchers] [--users NEW_FILE]

The studio may run while it is saved. The database travels as lines of JSON, so that what was saved
from SQLite can be restored to PostgreSQL and the other way; an older version's is brought up to
date. A workspace that is kept in PostgreSQL is saved only with its --database named. The users file
lies outside a workspace: name it, and it travels too.

The last thing in the file is a manifest with the size and the hash of everything before it. A file
that was cut off or damaged is refused, and nothing is put in place; --partial restores what is
whole of it and says what is missing. Launchers and users say what is executed and who may do what:
they travel, and are put in place only where that is asked for. A run that waited or worked comes
back stopped: nothing is executed before somebody resumes it.
"""

import argparse
import io
import json
import os
import shutil
import sys
import tarfile
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from alembic.script import ScriptDirectory
from sqlalchemy import Connection, MetaData, Table, func, insert, select, text

from data_tools.processes import stop_tidily
from data_tools.restoring import arrived
from data_tools.restoring.copies import COPY
from data_tools.restoring.manifest import NAME, HashedFile, Manifest
from data_tools.store.address import address, note_address
from data_tools.store.database import Database, StoreError, migrations
from loctex.jobs import checkpoint_files
from loctex.jobs import queue as jobs
from loctex.records.files import draft_file, is_draft, whole_folder, write_whole

TABLES = "tables/"  # in the file: NAME.jsonl of each table
MARK = "format.json"  # the first thing in the file: from here on there is a manifest at its end
FORMAT = b'{"format": 2}'
HELD = "held/"  # in the file: what is put in place only where that is asked for
LAUNCHERS = "launchers.yaml"
FOLDERS = ("images", "voices", "snapshots", "exports", "runs", "evaluations", "handover")
TRAINED = ("runs", "evaluations", "handover")  # folders of runs, and of what was made of them
INDEX = "narratives_search"  # SQLite keeps its words in step by itself, in tables of this beginning
MADE_ANEW = (".lock", ".pid", ".tmp")  # endings of files
ROWS = 500  # read and inserted at a time


@dataclass(frozen=True)
class RestoreReport:
    """What a restore did. missing: a sentence for each file that is not there or damaged; left_out:
    what was not saved in the first place. is_proven: whether the file had a manifest."""

    num_rows: int
    missing: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    held: tuple[str, ...] = ()  # what waits in the file for an option
    is_proven: bool = True


def save(
    workspace: Path,
    to: Path,
    database: str | None = None,
    *,
    has_runs: bool = True,
    users: Path | None = None,
    tell: Callable[[str], None] = lambda line: None,
) -> int:
    """Write the file `to`, whole or not at all; how many rows and files it holds.

    tell: is told what does not travel, a sentence for each. Raises StoreError: there is no
    workspace, or its database has to be named; FileExistsError: `to` is there already.
    """
    workspace, to = Path(workspace).expanduser().resolve(), Path(to).resolve()
    if not workspace.is_dir():
        raise StoreError(f"there is no workspace {workspace}")
    if to.exists():
        raise FileExistsError(f"{to} is there already; name another file")
    url = address(workspace, database)
    if database is None and not (workspace / "studio.db").exists():
        raise StoreError(f"{workspace} holds no studio.db: name its database with --database")

    source = Database(url)
    try:
        with draft_file(to) as draft, tarfile.open(draft, "w") as tar:
            written = _SavedFile(tar)
            written.add_bytes(MARK, FORMAT)
            count = _add_tables(written, source)  # first: files are written before their rows
            for held in (workspace / LAUNCHERS, users):
                if held is not None and held.is_file():
                    name = LAUNCHERS if held.name == LAUNCHERS else "users"
                    count += written.add(held, HELD + name)
            for path in _files(workspace, FOLDERS if has_runs else FOLDERS[:4]):
                count += written.add(path, str(path.relative_to(workspace)), workspace)
            written.manifest.left_out += _left_out(workspace, has_runs)
            written.seal()
    finally:
        source.close()
    for line in written.manifest.left_out:
        tell(line)
    return count


class _SavedFile:
    """A saved file while it is written, and what its manifest will say."""

    def __init__(self, tar: tarfile.TarFile) -> None:
        self.tar, self.manifest = tar, Manifest()

    def add_bytes(self, name: str, content: bytes) -> None:
        self.add_open(name, io.BytesIO(content), len(content))

    def add_open(self, name: str, file: BinaryIO, size: int, written: float = 0) -> None:
        entry = tarfile.TarInfo(name)
        entry.size, entry.mtime = size, int(written)
        hashed = HashedFile(file)
        self.tar.addfile(entry, hashed)
        self.manifest.files[name] = size, hashed.hexdigest()

    def add(self, path: Path, name: str, workspace: Path | None = None) -> int:
        """A file as long as it is now, for it may grow, or a link; how many were added."""
        try:
            if path.is_symlink() and workspace is not None:
                return self._add_link(path, name, workspace)
            with open(path, "rb") as file:
                status = os.fstat(file.fileno())
                self.add_open(name, file, status.st_size, status.st_mtime)
        except FileNotFoundError:  # a draft that was submitted, a checkpoint that was replaced
            folder = path.parent.relative_to(workspace) if workspace else path.parent
            if folder.parent.name == "checkpoints":
                self.manifest.forget(str(folder))
                self.manifest.left_out.append(f"{folder}: it was replaced while it was saved")
            return 0
        return 1

    def _add_link(self, path: Path, name: str, workspace: Path) -> int:
        target = Path(os.path.realpath(path))
        if not target.is_relative_to(workspace):
            self.manifest.left_out.append(f"{name}: a link to {target}, out of the workspace")
            return 0
        entry = tarfile.TarInfo(name)
        entry.type = tarfile.SYMTYPE
        entry.linkname = os.path.relpath(target, os.path.realpath(path.parent))
        self.tar.addfile(entry)
        self.manifest.links[name] = entry.linkname
        return 1

    def seal(self) -> None:
        """The manifest, last of all."""
        content = self.manifest.to_bytes()
        entry = tarfile.TarInfo(NAME)
        entry.size = len(content)
        self.tar.addfile(entry, io.BytesIO(content))


def restore(
    file: Path,
    workspace: Path,
    database: str | None = None,
    *,
    is_partial: bool = False,
    has_launchers: bool = False,
    users: Path | None = None,
) -> RestoreReport:
    """Make the workspace anew from a saved file.

    database: an empty one that is filled; else the workspace gets a studio.db. is_partial: restore
    what is whole of a file that is not. users: where the users file is put, if it holds one.

    Raises FileExistsError: the folder holds something; StoreError: the database does, or a newer
    version saved it; ValueError: it is no saved workspace, or not whole.
    """
    workspace = Path(workspace).expanduser().resolve()
    if users is not None and users.exists():
        raise FileExistsError(f"{users} is there already; name another file for the users")
    try:
        tar = tarfile.open(file)
    except (tarfile.TarError, ValueError, EOFError) as error:
        raise ValueError(f"{file} is no saved workspace: {error}") from error
    with tar, whole_folder(workspace) as building:
        problems = _extract(tar, building, file)
        manifest, missing = _checked(building, file, problems, is_partial)
        revision = _revision(building, file)

        lines = sorted((building / TABLES).glob("*.jsonl"))
        url = address(building, database)
        target = Database(url, revision)
        try:
            count = target.write(lambda c: sum(_fill(c, path) for path in _in_order(c, lines)))
        finally:
            target.close()
        Database(url).close()  # brings it up to date
        note_address(building, database)
        shutil.rmtree(building / TABLES)

        held = _put_held(building, has_launchers, users)
        for folder in TRAINED:
            root = building if folder == "runs" else building / folder
            for run in jobs.all_runs(root):
                arrived.settle(run, workspace)
    left_out = tuple(manifest.left_out) if manifest else ()
    return RestoreReport(count, tuple(missing), left_out, tuple(held), manifest is not None)


def _extract(tar: tarfile.TarFile, building: Path, file: Path) -> list[str]:
    """Everything that can be read of it; what could not. ValueError: a path leads out."""
    problems: list[str] = []

    while True:
        name = ""
        try:
            entry = tar.next()
            if entry is None:
                return problems
            name = entry.name
            if entry.issym():
                _extract_link(entry, building)
            else:
                tar.extract(entry, building, filter="data")
        except tarfile.FilterError as error:
            raise ValueError(f"{file} is no saved workspace: {error}") from error
        except (tarfile.TarError, ValueError, EOFError) as error:
            problems.append(f"{name or 'what follows'} cannot be read ({error})")
            torn = building / name
            if name and torn.is_relative_to(building) and torn.is_file():
                torn.unlink()
            if not name or isinstance(error, tarfile.ReadError):
                return problems


def _extract_link(entry: tarfile.TarInfo, building: Path) -> None:
    """A link; on a file system without links those of a run become text files, and others count as
    missing (tarfile would read on to the end for something to copy)."""
    filtered = tarfile.data_filter(entry, str(building))
    path = building / filtered.name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    try:
        os.symlink(filtered.linkname, path)
    except (OSError, NotImplementedError):
        checkpoint_files.write_plain(path, filtered.linkname)


def _checked(
    building: Path, file: Path, problems: list[str], is_partial: bool
) -> tuple[Manifest | None, list[str]]:
    """The manifest, if there is one, and what is missing: nothing, where partial is not asked for.

    What is damaged, and what the manifest does not name, is removed. ValueError: it is not whole.
    """
    mark, sealed = building / MARK, building / NAME
    has_mark = mark.is_file() and mark.read_bytes() == FORMAT
    manifest = None
    if has_mark and sealed.is_file():
        try:
            manifest = Manifest.from_bytes(sealed.read_bytes())
        except ValueError as error:
            problems.append(str(error))
    elif has_mark or mark.exists() or sealed.exists():
        problems.append("its end is missing: it was cut off")
    if manifest is not None:
        wrong = manifest.problems(building)
        problems = [f"{name} {why}" for name, why in sorted(wrong.items())]
        _remove_all_but(building, {*manifest.files, *manifest.links} - set(wrong))

    if problems and not is_partial:
        more = f", and {len(problems) - 3:,} more" if len(problems) > 3 else ""
        raise ValueError(
            f"{file} is not whole: {'; '.join(problems[:3])}{more}. Nothing was restored; take "
            "another backup, or restore what is whole of it with --partial"
        )
    tables = [line for line in problems if line.startswith(TABLES)]
    if tables:
        raise ValueError(f"{file} cannot be restored even in part: {'; '.join(tables[:3])}")
    mark.unlink(missing_ok=True)
    sealed.unlink(missing_ok=True)
    return manifest, problems


def _remove_all_but(building: Path, names: set[str]) -> None:
    for path in sorted(building.rglob("*"), reverse=True):
        is_folder = path.is_dir() and not path.is_symlink()
        if not is_folder and str(path.relative_to(building)) not in {*names, NAME}:
            path.unlink()
        elif is_folder and not any(path.iterdir()):
            path.rmdir()


def _put_held(building: Path, has_launchers: bool, users: Path | None) -> list[str]:
    """Put in place what is asked for; what is not, in words."""
    waiting = []
    for name, to, option in (
        (LAUNCHERS, building / LAUNCHERS if has_launchers else None, "--launchers"),
        ("users", users, "--users NEW_FILE"),
    ):
        path = building / HELD / name
        if path.is_file() and to is not None:
            write_whole(to, path.read_bytes())
            to.chmod(0o600)
        elif path.is_file():
            waiting.append(f"{name} was not put in place; add {option} to have it")

    shutil.rmtree(building / HELD, ignore_errors=True)
    return waiting


def _files(workspace: Path, folders: Sequence[str]) -> Iterator[Path]:
    """The files and links that travel."""
    for folder in folders:
        for path in sorted((workspace / folder).rglob("*")):
            names = path.relative_to(workspace).parts
            is_draft_or_cache = any(name == ".cache" or is_draft(name) for name in names)
            if is_draft_or_cache or names[1].startswith("."):  # so are drafts of older versions
                continue
            is_made_anew = path.name in ("lock", "pid") or path.name.endswith(MADE_ANEW)
            if path.is_symlink() or path.is_file() and not is_made_anew:
                yield path


def _left_out(workspace: Path, has_runs: bool) -> list[str]:
    """A sentence for each thing at the top of a workspace that does not travel."""
    expected = {"studio.db", "studio.db-wal", "studio.db-shm", "database.txt", LAUNCHERS}
    expected.add("statistics")  # counted anew
    expected |= set(FOLDERS if has_runs else FOLDERS[:4])
    lines = []
    for path in sorted(workspace.iterdir()):
        is_made_anew = path.name.startswith((".", COPY))
        is_made_anew |= path.name.endswith((".lock", ".log", ".tmp"))
        if path.name not in expected and not is_made_anew:
            is_asked = path.name in FOLDERS
            why = "as --without-runs says" if is_asked else "it is no part that a backup knows"
            lines.append(f"{path.name}: {why}")
    return lines


# --- rows


def _add_tables(written: _SavedFile, source: Database) -> int:
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
                count += _add(written, f"{TABLES}{table.name}.jsonl", rows)
    return count


def _add(written: _SavedFile, name: str, rows: Iterable[Mapping[str, Any]]) -> int:
    """A file of these rows, a line each; how many."""
    count = 0
    with tempfile.TemporaryFile(dir=Path(str(written.tar.name)).parent) as lines:
        for row in rows:
            lines.write(json.dumps(dict(row)).encode() + b"\n")
            count += 1
        size = lines.tell()
        lines.seek(0)
        written.add_open(name, lines, size)
    return count


def _revision(building: Path, file: Path) -> str:
    """The version of the tables in a saved file."""
    try:
        line = (building / TABLES / "alembic_version.jsonl").read_bytes()
        revision = json.loads(line)["version_num"]
    except FileNotFoundError:
        raise ValueError(f"{file} is no saved workspace: it holds no database") from None
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{file} is damaged: its tables cannot be read ({error})") from error

    revisions = [
        script.revision for script in ScriptDirectory.from_config(migrations()).walk_revisions()
    ]

    if revision not in revisions:
        raise StoreError(
            f"{file} was saved by a newer version of LocTex Studio (its tables are at {revision}, "
            f"this version knows up to {revisions[0]}): update the studio"
        )

    return revision


def _in_order(connection: Connection, lines: Sequence[Path]) -> list[Path]:
    """Tables before those that point to them; without Alembic's own."""
    metadata = MetaData()
    metadata.reflect(connection)
    if connection.scalar(select(func.count()).select_from(metadata.tables["collections"])):
        raise StoreError("the database holds something already; name an empty one")
    order = [table.name for table in metadata.sorted_tables]
    table_files = [path for path in lines if path.stem != "alembic_version"]
    return sorted(table_files, key=lambda path: order.index(path.stem))


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
        next_id = f"(SELECT coalesce(max(id), 0) + 1 FROM {table.name})"
        sequence = f"pg_get_serial_sequence('{table.name}', 'id')"
        connection.execute(text(f"SELECT setval({sequence}, {next_id}, false)"))
    return count + len(rows)


def report(restored: RestoreReport, file: Path) -> None:
    """What was not restored, a line each."""
    if not restored.is_proven and not restored.missing:
        print(
            f"{file} has no manifest, as older versions saved it: it cannot be proven whole. Look "
            "whether all is there before the original goes.",
            file=sys.stderr,
        )

    for noun, lines in (
        ("missing", restored.missing),
        ("not saved", restored.left_out),
        ("waits", restored.held),
    ):
        for line in lines:
            print(f"{noun}: {line}", file=sys.stderr)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m data_tools.backup", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("what", choices=("save", "restore"))

    parser.add_argument("file", type=Path, help="the file to write, or to read")
    parser.add_argument("--workspace", type=Path, default=Path("workspace"), help="the folder")
    parser.add_argument("--database", help="its database URL, if not its studio.db")
    parser.add_argument("--without-runs", action="store_true", help="leave out what was trained")
    parser.add_argument("--users", type=Path, help="the users file: saved too, or restored there")
    parser.add_argument(
        "--partial", action="store_true", help="restore what is whole of a damaged file"
    )
    parser.add_argument(
        "--launchers", action="store_true", help="put launchers.yaml in place, which runs commands"
    )

    options = parser.parse_args(arguments)

    try:
        if options.what == "save":
            count = save(
                options.workspace,
                options.file,
                options.database,
                has_runs=not options.without_runs,
                users=options.users,
                tell=lambda line: print(f"left out: {line}", file=sys.stderr),
            )
            print(f"{count:,} rows and files in {options.file}")
        else:
            restored = restore(
                options.file,
                options.workspace,
                options.database,
                is_partial=options.partial,
                has_launchers=options.launchers,
                users=options.users,
            )
            report(restored, options.file)
            print(f"{restored.num_rows:,} rows restored, and their files, in {options.workspace}")
    except (ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 1

    return 0


if __name__ == "__main__":
    stop_tidily()
    sys.exit(main())
