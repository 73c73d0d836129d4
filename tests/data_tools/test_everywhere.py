"""A workspace with everything, elsewhere: restored, copied, renamed, in PostgreSQL; read-only.

Everything is found, and after the one click that wakes a run every button works; where nothing may
be written, all that shows something works, and what would write says why it does not.
"""

import errno
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from sqlalchemy import text

from data_tools import backup
from data_tools.store import Store, StoreError, database
from data_tools.store.database import Database
from loctex.evaluate import main as evaluate
from loctex.jobs import checkpoint_files
from loctex.jobs import queue as jobs
from loctex.records.images import decode_image
from loctex.records.snapshot import Snapshot
from loctex.scoring.predictor import Predictor
from tests.browser.conftest import Studio
from tests.data_tools import everything
from ui.guard.access import way_out
from ui.workspace import Workspace


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its users' file lies beside it."""
    folder = tmp_path_factory.mktemp("everything")
    with pytest.MonkeyPatch.context() as patch:
        everything.unwatched(patch)
        everything.make(folder / "studio", folder / "sources")
    (folder / "users").write_text("eve admin hash\n")
    return folder / "studio"


@pytest.fixture(autouse=True)
def unwatched(monkeypatch: pytest.MonkeyPatch) -> None:
    everything.unwatched(monkeypatch)


def restored(original: Path, to: Path, url: str | None = None) -> Path:
    file = to.with_name("saved.tar")
    backup.save(original, file, users=original.with_name("users"))
    done = backup.restore(file, to, url, has_launchers=True, users=to.with_name("users"))
    assert (done.missing, done.left_out, done.is_proven) == ((), (), True)
    return to


def copied(original: Path, to: Path) -> Path:
    return shutil.copytree(original, to, symlinks=True)


def renamed(original: Path, to: Path) -> Path:
    return copied(original, to.with_name("before")).rename(to)


def files_of(root: Path) -> dict[str, bytes]:
    """What counts: no database, lock or cache, nor what says how a job waits or stops."""
    files = {}
    for path in sorted(root.rglob("*")):
        name = str(path.relative_to(root))
        is_made_anew = ".cache/" in name or name.startswith(
            ("studio.db", "database.txt", "statistics/")
        )
        if is_made_anew or path.suffix == ".lock" or path.name in ("stop", "waiting", "lock"):
            continue
        if path.is_symlink():
            files[name] = os.readlink(path).encode()
        elif path.is_file():
            files[name] = path.read_bytes()
    return files


def assert_everything_is_found(original: Path, workspace: Workspace) -> None:
    before = Workspace(original)
    old, new = files_of(original), files_of(workspace.root)
    for name in [*old]:  # what says where it lies says where it lies now
        if name.endswith(("settings.yaml", "command.json", "starts.jsonl")):
            here = new.pop(name, b"").replace(bytes(workspace.root), bytes(original))
            assert here.split() == old.pop(name).split(), name
    assert len(old) > 80 and {name: new.get(name) for name in old} == old
    assert set(new) == set(old)

    first, second = (everything.contents(one.store) for one in (before, workspace))
    for name in first:
        assert first[name] == second[name], name
    first, second = (everything.read_everything(one) for one in (before, workspace))
    for name in first:
        assert first[name] == second[name], name
    before.store.close()


PLACES = {"restored": restored, "copied": copied, "renamed": renamed}


@pytest.mark.parametrize("place", PLACES)
def test_everything_is_found_elsewhere_and_a_stopped_run_resumes_bit_for_bit(
    original: Path, tmp_path: Path, place: str
) -> None:
    workspace = Workspace(PLACES[place](original, tmp_path / "studio"))
    assert_everything_is_found(original, workspace)
    if place == "restored":
        assert (tmp_path / "users").read_text() == "eve admin hash\n"
        everything.assert_resumes_bit_for_bit(workspace)
    workspace.store.close()


@pytest.mark.slow
@pytest.mark.parametrize("place", PLACES)
def test_every_button_works_elsewhere(original: Path, tmp_path: Path, place: str) -> None:
    workspace = Workspace(PLACES[place](original, tmp_path / "studio"))
    hidden = original.rename(original.with_name("hidden"))  # nothing reaches back to it
    try:
        everything.use_everything(workspace)
    finally:
        hidden.rename(original)
    workspace.store.close()


@pytest.mark.slow
def test_everything_is_found_and_works_in_postgresql(
    original: Path, tmp_path: Path, empty_postgres: str
) -> None:
    root = restored(original, tmp_path / "studio", empty_postgres)
    workspace = Workspace(root, empty_postgres)
    assert_everything_is_found(original, workspace)
    everything.use_everything(workspace)
    workspace.store.close()


@pytest.fixture
def read_only(original: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The whole workspace where nothing may be written; the user's cache is elsewhere."""
    share = copied(original, tmp_path / "share")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "cwd").mkdir()
    monkeypatch.chdir(tmp_path / "cwd")
    commands = (
        ["mount", "--bind", str(share), str(share)],
        ["mount", "-o", "remount,ro,bind", str(share)],
    )
    if os.getuid() or any(subprocess.run(c, capture_output=True).returncode for c in commands):
        subprocess.run(["umount", str(share)], capture_output=True)
        pytest.skip("a read-only mount needs root")
    yield share
    subprocess.run(["umount", "--lazy", str(share)], check=True)  # tables are mapped still


def test_what_is_read_only_is_read_and_scored(
    original: Path, read_only: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    assert files_of(read_only) == files_of(original)
    snapshot = Snapshot.open(read_only / "snapshots" / "scenes-1")
    split = snapshot.split("val")
    for name in ("best", "last"):
        assert checkpoint_files.find(read_only / "runs" / "done", name).is_dir()
    predictor = Predictor.load(read_only / "runs" / "done", device="cpu")
    predictor.set_image(decode_image(split[0].image))
    assert predictor.attend(everything.CAPTION).maps.shape[0] == len(everything.CAPTION.split())

    words = [f"--run={read_only / 'runs/done'}", f"--data={snapshot.path}", "--device=cpu"]
    evaluate(words)
    assert "Read-only file system" in capsys.readouterr().out
    (file,) = (tmp_path / "cwd").iterdir()
    (job,) = (original / "evaluations" / "runs").iterdir()
    metrics = json.loads((job / "result.json").read_bytes())["metrics"]
    assert json.loads(file.read_bytes())["metrics"] == metrics


def test_a_studio_opens_read_only_and_shows_everything(
    original: Path, read_only: Path, tmp_path: Path
) -> None:
    studios = [Studio(read_only) for _ in range(2)]  # any number of them may look
    try:
        for studio in studios:
            reply = httpx.post(f"{studio.url}/recorder/open", json={}, timeout=60).json()
            assert reply["problem"].startswith("Nothing is saved")
        assert "Read only." in httpx.get(f"{studio.url}/config", timeout=60).text
    finally:
        for studio in studios:
            studio.stop()

    workspace = Workspace(read_only)
    assert workspace.is_read_only and workspace.store.is_read_only
    assert_everything_is_found(original, workspace)

    store = workspace.store
    for write in (
        lambda: store.add_collection("new"),
        lambda: store.claim(store.images(store.collection("scenes"))[0].id, 0),
        lambda: store.trash.empty(store.collection("scenes")),
    ):
        with pytest.raises(StoreError, match=r"Nothing is saved: .*studio\.db lies where .* Copy"):
            write()
    for work in (
        lambda: jobs.resume(read_only, workspace.run("stopped")),
        lambda: everything.ask_export(workspace, "done"),
    ):
        with pytest.raises(OSError) as refusal:
            work()
        assert way_out(refusal.value).startswith("Nothing is saved"), refusal.value

    (copy,) = (tmp_path / "cache" / "loctex" / "read-only").iterdir()
    store.close()
    assert not copy.exists()
    backup.save(read_only, tmp_path / "saved.tar")
    done = backup.restore(tmp_path / "saved.tar", tmp_path / "studio", None)
    assert done.is_proven and not done.missing
    assert files_of(read_only) == files_of(original)


def test_what_was_written_last_is_read_and_an_older_database_upgraded_in_the_copy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A studio that was killed leaves its last writes in SQLite's log."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    file, share = tmp_path / "studio.db", tmp_path / "share"
    before = Database(f"sqlite:///{file}", revision="0001")
    with before.writing() as connection:
        connection.execute(text("INSERT INTO collections (name) VALUES ('last')"))
    share.mkdir()
    for source in (file, Path(f"{file}-wal")):
        shutil.copyfile(source, share / source.name)
    before.close()
    assert (share / "studio.db-wal").stat().st_size > 0
    content = {path.name: path.read_bytes() for path in share.iterdir()}

    monkeypatch.setattr(database, "is_writable", lambda folder: folder != share)
    store = Store(f"sqlite:///{share / 'studio.db'}", tmp_path / "images")
    assert store.is_read_only and [c.name for c in store.collections()] == ["last"]
    store.close()
    assert {path.name: path.read_bytes() for path in share.iterdir()} == content

    monkeypatch.setattr(shutil, "copyfile", full_disk)
    with pytest.raises(StoreError, match=r"No space left .*set XDG_CACHE_HOME to a folder with"):
        Store(f"sqlite:///{share / 'studio.db'}", tmp_path / "images")
    assert list((tmp_path / "cache" / "loctex" / "read-only").iterdir()) == []


def full_disk(*_: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
