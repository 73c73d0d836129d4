"""A run's state against real files, real locks and real processes."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from loctex.jobs.run import Run
from loctex.records.files import BusyError, is_locked, write_whole

HOLD = """
import sys
from loctex.jobs.run import Run
with Run(sys.argv[1]).hold():
    print("held", flush=True)
    sys.stdin.read()
"""
HOLD_AND_START = """
import subprocess, sys
from loctex.jobs.run import Run
with Run(sys.argv[1]).hold():
    child = subprocess.Popen(["sleep", "600"], close_fds=False)
    print(child.pid, flush=True)
    sys.stdin.read()
"""
HOLD_AND_FORK = """
import multiprocessing, os, sys, time
from loctex.jobs.run import Run
with Run(sys.argv[1]).hold():
    child = multiprocessing.get_context("fork").Process(target=time.sleep, args=(600,))
    child.start()
    print(child.pid, flush=True)
    sys.stdin.read()
"""


def start(script: str, run: Run) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-c", script, str(run.path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def end(process: subprocess.Popen) -> None:
    process.kill()
    process.wait()
    process.stdin.close()
    if process.stdout:
        process.stdout.close()


def test_a_run_creates_no_directory_until_its_first_write(tmp_path: Path) -> None:
    run = Run(tmp_path / "runs" / "first")
    assert (run.name, run.state) == ("first", "new")
    assert list(tmp_path.iterdir()) == []


def test_the_state_follows_the_files(tmp_path: Path) -> None:
    run = Run(tmp_path / "first")
    run.path.mkdir()
    run.wait(1.0)
    assert run.state == "waiting"
    with run.hold():
        assert run.state == "running"
        assert not run.waiting_file.exists()
        run.request_stop()
        assert run.state == "stopping"
    assert run.state == "stopped"
    with run.hold():
        assert run.state == "running", "a new start forgets the old request"
    assert run.state == "failed", "it ended without a result and nobody asked it to"
    run.finish({"loss": 1.5})
    assert run.state == "done"
    assert json.loads(run.result_file.read_text()) == {"loss": 1.5}
    run.exit_file.write_text('{"code": 1}')
    assert run.state == "failed", "the last start counts, not an older result"


def test_a_second_trainer_is_refused_and_told_who_holds_the_run(tmp_path: Path) -> None:
    run = Run(tmp_path / "first")
    process = start(HOLD, run)
    assert process.stdout.readline() == "held\n"
    with pytest.raises(BusyError, match=f"at work already, in process {process.pid}"), run.hold():
        pass
    end(process)
    with run.hold():
        assert run.state == "running"


def test_kill_9_frees_the_run_and_the_lock_file_left_says_nothing(tmp_path: Path) -> None:
    run = Run(tmp_path / "first")
    process = start(HOLD, run)
    assert process.stdout.readline() == "held\n"
    assert run.state == "running"
    end(process)
    assert run.train_lock.exists()
    assert not is_locked(run.train_lock)
    assert run.state == "failed"


@pytest.mark.parametrize("script", [HOLD_AND_FORK, HOLD_AND_START])
def test_a_child_that_outlives_the_trainer_does_not_keep_its_lock(
    tmp_path: Path, script: str
) -> None:
    run = Run(tmp_path / "first")
    process = start(script, run)
    child = int(process.stdout.readline())
    try:
        end(process)
        os.kill(child, 0)  # the child lives
        deadline = time.monotonic() + 5  # a new child closes what it got within microseconds
        while run.state == "running":
            assert time.monotonic() < deadline
        assert run.state == "failed"
    finally:
        os.kill(child, signal.SIGKILL)


def test_asking_a_thousand_times_never_makes_a_trainer_fail(tmp_path: Path) -> None:
    run = Run(tmp_path / "first")
    asking = "import sys\nfrom loctex.jobs.run import Run\nwhile True: Run(sys.argv[1]).is_live()"
    process = start(asking, run)
    for _ in range(1000):
        with run.hold():
            pass
    end(process)
    assert run.state == "failed"


def test_metrics_are_read_from_where_they_were_left(tmp_path: Path) -> None:
    run = Run(tmp_path / "first")
    assert run.read_metrics() == ([], 0)
    run.log(1, loss=2.0, learning_rate=0.1)
    rows, offset = run.read_metrics()
    assert [(row["step"], row["loss"]) for row in rows] == [(1, 2.0)]
    assert offset == run.metrics_file.stat().st_size
    run.log(2, loss=float("nan"))
    with open(run.metrics_file, "ab") as file:
        file.write(b'{"step": 3, "lo')
    rows, end_offset = run.read_metrics(offset)
    assert [(row["step"], row["loss"]) for row in rows] == [(2, None)]
    assert run.read_metrics(end_offset) == ([], end_offset)
    assert [row["step"] for row in run.metrics(after=1)] == [2]


def test_cutting_back_drops_later_steps_and_a_torn_line(tmp_path: Path) -> None:
    run = Run(tmp_path / "first")
    run.cut_back(0)
    assert not run.path.exists()
    for step in range(5):
        run.log(step, loss=step / 3)
    before = run.metrics()
    with open(run.metrics_file, "ab") as file:
        file.write(b'{"step": 5, "lo')
    run.cut_back(2)
    run.log(3, loss=9.0)
    rows = run.metrics()
    assert rows[:3] == before[:3]
    assert [row["step"] for row in rows] == [0, 1, 2, 3]


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "settings.yaml"
    write_whole(path, "old")
    with pytest.raises(UnicodeEncodeError):
        write_whole(path, "\ud800")
    assert path.read_text() == "old"
    assert [file.name for file in tmp_path.iterdir()] == ["settings.yaml"]


def test_the_log_shows_the_last_state_of_a_progress_bar(tmp_path: Path) -> None:
    run = Run(tmp_path)
    assert run.log_tail() == []
    run.log_file.write_bytes(b"one\n\n10%\r20%\r\ntwo\n5%\r6%")
    assert run.log_tail() == ["one", "20%", "two", "6%"]
    assert run.log_tail(2) == ["two", "6%"]
