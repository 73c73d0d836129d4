"""A workspace's own studio.db at a start: is it sound, is it the one that belongs to the folders
beside it, and its automatic copies, one a day.

A database that was emptied or damaged would otherwise begin as a new studio beside full folders.
"""

import logging
import sqlite3
from contextlib import closing, suppress
from datetime import date
from pathlib import Path

from data_tools.store.database import BUSY_SECONDS, StoreError, copy_sqlite

FILE = "studio.db"
COPY = f"{FILE}.copy-"  # and the day
MOST = 3  # copies that stay
log = logging.getLogger("studio")


def check(root: Path) -> None:
    """StoreError where studio.db is damaged, or holds nothing while the folders beside it do; it
    names the last automatic copy, and nothing was changed."""
    file = root / FILE
    problem = ""
    try:
        num_images = count_images(file)
    except sqlite3.DatabaseError as error:
        problem = f"{file} is damaged ({error})"
    else:
        if not num_images and _is_full(root, is_new=num_images is None):
            problem = f"{file} holds no images, but the folders beside it are full"
    if problem:
        raise StoreError(f"{problem}; nothing was changed. {_way_out(root)}")


def count_images(file: Path) -> int | None:
    """The images that a database knows, those in the trash too; None where it has no tables.

    Raises sqlite3.DatabaseError where it is damaged.
    """
    if not file.exists() or file.stat().st_size == 0:
        return None

    with closing(sqlite3.connect(file, timeout=BUSY_SECONDS)) as connection:
        (answer,) = connection.execute("PRAGMA quick_check(1)").fetchone()
        if answer != "ok":
            raise sqlite3.DatabaseError(answer)

        tables = {
            name
            for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type='table'")
        }
        if "images" not in tables:
            return None

        counted = tables & {"images", "trash"}
        counts = [connection.execute(f"SELECT count(*) FROM {table}") for table in sorted(counted)]
        return sum(count.fetchone()[0] for count in counts)


def _is_full(root: Path, is_new: bool) -> bool:
    """Whether the folders show that there was more; is_new: the database has no tables.

    Runs and snapshots show nothing: they may have come from elsewhere. Where the database has its
    tables, images alone may be of an import that was killed, and an earlier copy of one that was
    emptied by hand; both together are of neither.
    """
    if _has_files(root / "voices", ".wav"):
        return True
    if is_new:
        return bool(_sound_copies(root)) or _has_files(root / "images")
    return bool(_sound_copies(root)) and _has_files(root / "images")


def _has_files(folder: Path, ending: str = "") -> bool:
    names = (path.name for path in folder.glob(f"*{ending}"))
    return any(not name.startswith(".") for name in names)


def _way_out(root: Path) -> str:
    sound = _sound_copies(root)
    begin = f"To begin anew, move the folders of {root} away."
    if not sound:
        return f"There is no automatic copy: restore a backup into a new folder. {begin}"
    day = sound[-1].name.removeprefix(COPY)
    return (
        f"The last automatic copy is of {day}; to take it: rm -f '{root / FILE}'-wal "
        f"'{root / FILE}'-shm; cp '{sound[-1]}' '{root / FILE}'. {begin}"
    )


def all_copies(root: Path) -> list[Path]:
    """The automatic copies, the oldest first."""
    return sorted(root.glob(f"{COPY}[0-9]*"))


def _sound_copies(root: Path) -> list[Path]:
    """Those that hold images."""
    sound = []
    for copy in all_copies(root):
        with suppress(sqlite3.DatabaseError):
            if count_images(copy):
                sound.append(copy)
    return sound


def keep(root: Path) -> None:
    """Make today's copy, if there is something to copy, and remove all but the last few. The index
    of the search is looked through then, and made anew where it is torn.

    A copy that cannot be made is a line of the log: the studio starts.
    """
    file, to = root / FILE, root / f"{COPY}{date.today().isoformat()}"
    if to.exists():
        return

    try:
        if not count_images(file):
            return
        mend_search(file)
        copy_sqlite(file, to)
    except (OSError, sqlite3.Error) as error:
        log.warning("no copy of %s was made today: %s", file, error)
        return

    for copy in all_copies(root)[:-MOST]:
        copy.unlink(missing_ok=True)


def mend_search(file: Path) -> None:
    """Makes the index of the captions' words anew where it does not fit the captions."""
    with closing(sqlite3.connect(file, timeout=BUSY_SECONDS)) as connection, connection:
        command = "INSERT INTO narratives_search(narratives_search, rank) VALUES(?, 1)"
        try:
            connection.execute(command, ("integrity-check",))
        except sqlite3.DatabaseError:
            connection.execute("INSERT INTO narratives_search(narratives_search) VALUES('rebuild')")
            log.warning("the index of the search in %s was torn and is made anew", file)
