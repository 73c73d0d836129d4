"""The database at a start: emptied, damaged, and its automatic copies; what Erase takes along."""

import logging
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from data_tools import withdrawal
from data_tools.restoring import copies
from data_tools.store import Store
from data_tools.store.database import StoreError
from loctex.records.files import draft_of
from tests.data_tools.test_backup import filled
from ui.workspace import Workspace


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A workspace with images and narratives, that was opened once."""
    filled(tmp_path / "studio", None).close()
    Workspace(tmp_path / "studio").store.close()
    return tmp_path / "studio"


def change(file: Path, *statements: str) -> None:
    with closing(sqlite3.connect(file)) as connection, connection:
        for statement in statements:
            connection.execute(statement)


def scramble(file: Path) -> None:
    content = bytearray(file.read_bytes())
    for place in range(4096, len(content), 4096):
        content[place : place + 400] = b"\xff" * 400
    file.write_bytes(bytes(content))


BREAKS: dict[str, Callable[[Path], object]] = {
    "emptied": lambda file: file.write_bytes(b""),
    "gone": lambda file: file.unlink(),
    "without its rows": lambda file: change(file, "PRAGMA foreign_keys=OFF", "DELETE FROM images"),
    "another new one": lambda file: (
        file.unlink(),
        Store(f"sqlite:///{file}", file.parent / "images").close(),
    ),
    "scrambled": scramble,
    "cut": lambda file: file.write_bytes(file.read_bytes()[:9000]),
    "no database": lambda file: file.write_bytes(b"something else" * 900),
}


@pytest.mark.parametrize("how", BREAKS)
def test_a_lost_database_is_noticed_and_the_last_copy_brings_it_back(root: Path, how: str) -> None:
    with closing(sqlite3.connect(root / "studio.db")) as connection:
        before = connection.execute("SELECT count(*) FROM narratives").fetchone()
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    for name in ("studio.db-wal", "studio.db-shm"):
        (root / name).unlink(missing_ok=True)
    BREAKS[how](root / "studio.db")
    broken = {path.name: path.read_bytes() for path in root.glob("studio.db*")}
    with pytest.raises(StoreError, match=r"nothing was changed.*last automatic copy is of 20") as e:
        Workspace(root)
    after = {path.name: path.read_bytes() for path in root.glob("studio.db*")}
    assert {name: after[name] for name in broken if name[-3:] not in ("shm", "wal")} == {
        name: broken[name] for name in broken if name[-3:] not in ("shm", "wal")
    }
    (copy,) = copies.all_copies(root)
    assert str(copy) in str(e.value)
    for name in ("studio.db-wal", "studio.db-shm"):
        (root / name).unlink(missing_ok=True)
    shutil.copy(copy, root / "studio.db")  # as the sentence says
    Workspace(root).store.close()
    with closing(sqlite3.connect(root / "studio.db")) as connection:
        assert connection.execute("SELECT count(*) FROM narratives").fetchone() == before


def test_without_a_copy_it_is_noticed_too(root: Path) -> None:
    for copy in copies.all_copies(root):
        copy.unlink()
    (root / "images").mkdir(exist_ok=True)
    (root / "images" / "a.jpg").write_bytes(b"x")
    (root / "studio.db").write_bytes(b"")
    with pytest.raises(StoreError, match="There is no automatic copy: restore a backup"):
        Workspace(root)


def test_a_new_workspace_and_a_first_import_that_was_killed_open(tmp_path: Path) -> None:
    Workspace(tmp_path / "new").store.close()
    (tmp_path / "new" / "images" / "a.jpg").write_bytes(b"x")  # its row was never committed
    Workspace(tmp_path / "new").store.close()
    assert copies.all_copies(tmp_path / "new") == [], "there is nothing to copy"


def test_copies_are_one_a_day_and_three_at_the_most(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (today,) = copies.all_copies(root)
    written = today.stat().st_mtime_ns
    Workspace(root).store.close()
    assert today.stat().st_mtime_ns == written
    for day in range(1, 6):
        shutil.copy(today, root / f"studio.db.copy-2020-01-0{day}")
    today.unlink()
    Workspace(root).store.close()
    names = [copy.name for copy in copies.all_copies(root)]
    assert names == ["studio.db.copy-2020-01-04", "studio.db.copy-2020-01-05", today.name]


def test_a_full_disk_keeps_no_studio_from_starting(
    root: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    copies.all_copies(root)[0].unlink()

    def refuse(*paths: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(copies, "copy_sqlite", refuse)
    with caplog.at_level(logging.WARNING, "studio"):
        Workspace(root).store.close()
    assert "no copy of" in caplog.text and copies.all_copies(root) == []


def test_a_torn_index_of_the_search_is_made_anew(root: Path) -> None:
    copies.all_copies(root)[0].unlink()
    change(
        root / "studio.db", "INSERT INTO narratives_search(narratives_search) VALUES('delete-all')"
    )
    found = "SELECT count(*) FROM narratives_search WHERE narratives_search MATCH 'a OR the OR red'"
    with closing(sqlite3.connect(root / "studio.db")) as connection:
        assert connection.execute(found).fetchone() == (0,)
    copies.mend_search(root / "studio.db")
    command = "INSERT INTO narratives_search(narratives_search, rank) VALUES('integrity-check', 1)"
    change(root / "studio.db", command)  # raises where it does not fit


def test_torn_statistics_are_counted_anew(root: Path) -> None:
    store = Store.of_workspace(root)
    (collection, *_) = store.collections()
    *_, (before, _, _) = store.statistics.summary(collection.id)
    files = [*(root / "statistics").rglob("*.json")]
    for file in files:
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    *_, (after, _, _) = store.statistics.summary(collection.id)
    assert after.to_json() == before.to_json()
    store.close()


def test_erase_takes_copies_and_the_leftovers_of_killed_writers(root: Path) -> None:
    leftovers = []
    for place in ("images/a.jpg", "snapshots/one", "exports/mine", "voices/a.wav"):
        draft = draft_of(root / place)
        draft = draft.with_name(draft.name.replace(".tmp", "").rsplit(".", 2)[0] + ".4194305.0.tmp")
        draft.parent.mkdir(exist_ok=True)
        if "." in place:
            draft.write_text("what a person said")
        else:
            (draft / "data").mkdir(parents=True)
            (draft / "data" / "spool").write_text("what a person said")
        leftovers.append(draft)
    mine = draft_of(root / "images" / "b.jpg")
    mine.write_text("a writer at work")
    store = Store.of_workspace(root)
    name = "ann"
    store.annotator(name)
    store.close()
    assert withdrawal.main([name, "--workspace", str(root)]) == 0
    assert all(draft.exists() for draft in leftovers), "only looked"
    assert withdrawal.main([name, "--workspace", str(root), "--erase"]) == 0
    assert not any(draft.exists() for draft in leftovers) and mine.exists()
    assert copies.all_copies(root) == []
