"""Where a workspace's database is: its own studio.db, or a server whose address it notes.

Without the note, a command that was not told of the server would make an empty studio.db, show
nothing to anybody, and a backup would save nothing.
"""

from pathlib import Path
from urllib.parse import urlsplit

from data_tools.store.database import StoreError
from loctex.records.files import write_whole

NOTE = "database.txt"  # in the workspace: the address without its password


def address(root: Path, database: str | None = None) -> str:
    """The URL of the database that is named; where none is, of the workspace's studio.db.

    Raises StoreError: none is named, and the workspace is kept in another than its studio.db.
    """
    note = root / NOTE
    if database is None and note.exists():
        raise StoreError(
            f"the narratives of {root} are in {note.read_text().strip()}: name it with --database"
        )
    return database or _own(root)


def note_address(root: Path, database: str | None) -> None:
    """Remember the database that a workspace is kept in; its own studio.db needs no note."""
    if database in (None, _own(root)):
        (root / NOTE).unlink(missing_ok=True)
    else:
        write_whole(root / NOTE, without_password(database) + "\n")


def without_password(url: str) -> str:
    """A database's address for everybody's eyes; ~/.pgpass or PGPASSWORD bring the password."""
    password = urlsplit(url).password
    return url if password is None else url.replace(f":{password}@", "@", 1)


def _own(root: Path) -> str:
    return f"sqlite:///{root / 'studio.db'}"
