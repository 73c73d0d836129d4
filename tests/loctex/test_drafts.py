"""Many writers of one path: each has a draft of its own, and what stays is always whole."""

import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from data_tools.exchange.importing import import_file
from data_tools.store import Store
from loctex.jobs import queue as jobs
from loctex.jobs.command import Command
from loctex.jobs.run import Run
from loctex.records import files
from loctex.records.files import draft_file, draft_of, is_draft, sweep, whole_folder, write_whole
from loctex.records.narrative import write_jsonl
from tests.data_tools.samples import narrative, picture

ROOT = Path(__file__).parents[2]
KILLED = """
import os, signal, sys
from pathlib import Path
from loctex.records.files import draft_file, draft_folder
with draft_file(Path(sys.argv[1]) / "a.json") as file, draft_folder(Path(sys.argv[1]) / "b") as b:
    file.write_text("half")
    (b / "x").write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def killed_in(folder: Path) -> int:
    """A process that is killed while it writes a file and a folder; its number."""
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(folder)], cwd=ROOT)
    assert process.wait(30) == -signal.SIGKILL
    return process.pid


def make_older(folder: Path, seconds: float = 2 * files.RESTED) -> None:
    for path in folder.iterdir():
        os.utime(path, (time.time() - seconds,) * 2, follow_symlinks=False)


def test_of_many_threads_that_write_one_path_none_fails_and_each_look_sees_a_whole_file(
    tmp_path: Path,
) -> None:
    path, stop, seen = tmp_path / "one", threading.Event(), set()
    contents = [bytes([65 + k]) * (1000 * (k + 1)) for k in range(8)]
    write_whole(path, contents[0])

    def look() -> None:
        while not stop.is_set():
            seen.add(path.read_bytes())

    looker = threading.Thread(target=look)
    looker.start()
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda k: write_whole(path, contents[k % 8]), range(400)))
    stop.set()
    looker.join()
    assert seen <= set(contents) and len(seen) > 1
    assert [one.name for one in tmp_path.iterdir()] == ["one"]


def test_an_import_of_identical_pictures_never_fails(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    for k in range(24):
        (tmp_path / "images" / f"{k}.png").write_bytes(picture(k // 12))
    write_jsonl(tmp_path / "narratives.jsonl", (narrative(str(k)) for k in range(24)))
    for attempt in range(6):
        store = Store.of_workspace(tmp_path / f"workspace {attempt}", is_new=True)
        report = import_file(store, tmp_path / "narratives.jsonl", tmp_path / "images", "twins")
        assert report.problems == [] and report.num_imported == 24
        kept = [path.read_bytes() for path in store.images_folder.iterdir()]
        assert sorted(kept) == sorted([picture(0), picture(1)])
        store.close()


def test_a_failed_writer_leaves_nothing_and_the_old_file(tmp_path: Path) -> None:
    write_whole(tmp_path / "one", "old")
    with pytest.raises(RuntimeError, match="torn"):
        with draft_file(tmp_path / "one") as draft:
            draft.write_text("half")
            raise RuntimeError("torn")
    with pytest.raises(RuntimeError, match="torn"):
        with whole_folder(tmp_path / "folder") as building:
            (building / "x").write_text("half")
            raise RuntimeError("torn")
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"one": "old"}


def test_what_a_killed_writer_left_is_no_content_and_is_swept(tmp_path: Path) -> None:
    killed_in(tmp_path)
    left = [path.name for path in tmp_path.iterdir()]
    assert len(left) == 2 and all(is_draft(name) and name.startswith(".") for name in left)
    sweep(tmp_path)
    assert len(list(tmp_path.iterdir())) == 2  # it may be of another container: it rests first
    make_older(tmp_path)
    sweep(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_the_draft_of_a_live_writer_is_never_swept(tmp_path: Path) -> None:
    with draft_file(tmp_path / "one") as draft:
        draft.write_text("slow")
        make_older(tmp_path, 10 * files.ABANDONED)
        sweep(tmp_path)
        assert draft.read_text() == "slow"
    assert (tmp_path / "one").read_text() == "slow"


def test_another_machines_draft_rests_for_a_day(tmp_path: Path) -> None:
    (tmp_path / ".one.elsewhere.4194305.0.tmp").write_text("half")
    make_older(tmp_path)
    sweep(tmp_path)
    assert len(list(tmp_path.iterdir())) == 1
    make_older(tmp_path, 2 * files.ABANDONED)
    sweep(tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["one.tmp", ".one.tmp", "a.b.1.2.tmp", ".hidden", "step-1.tmp"])
def test_a_file_that_is_no_draft_is_left_alone(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("mine")
    make_older(tmp_path, 10 * files.ABANDONED)
    sweep(tmp_path)
    assert (tmp_path / name).read_text() == "mine" and not is_draft(name)


@pytest.mark.parametrize("name", ["x" * 250, "é" * 120, "a.b.c", "sp ace"])
def test_names_of_any_length_have_drafts(tmp_path: Path, name: str) -> None:
    names = {draft_of(tmp_path / name).name for _ in range(100)}
    assert len(names) == 100 and all(is_draft(one) for one in names)
    write_whole(tmp_path / name, "x")
    assert (tmp_path / name).read_text() == "x"


def test_a_deletion_that_was_killed_is_finished_by_the_sweep(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "ensure_watcher", lambda workspace: None)
    run = jobs.submit(tmp_path, Run(tmp_path / "runs" / "one"), Command(("true",)))
    jobs.stop(tmp_path, run)
    with monkeypatch.context() as patch:
        patch.setattr("shutil.rmtree", lambda path: None)
        jobs.remove(run)
    (grave,) = (tmp_path / "runs").iterdir()
    assert is_draft(grave.name) and jobs.all_runs(tmp_path) == []
    number = grave.name.replace(f".{os.getpid()}.", ".4194305.")  # beyond any process
    grave.rename(grave.with_name(number))
    make_older(tmp_path / "runs")
    sweep(tmp_path / "runs")
    assert list((tmp_path / "runs").iterdir()) == []
