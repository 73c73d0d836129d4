"""Jobs as real processes: queued, watched, stopped, killed and resumed."""

import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from loctex.jobs import command, failures, watcher
from loctex.jobs import queue as jobs
from loctex.jobs.command import Command, training
from loctex.jobs.execution import Execution
from loctex.jobs.run import Run
from loctex.records.files import holder, is_locked
from tests.loctex.stand_ins import stand_in, wait_for

TRAINER = """
import sys, time
from pathlib import Path
from loctex.jobs.execution import Execution
from loctex.jobs.run import Run
run, steps = Run(sys.argv[1]), int(sys.argv[2])
with run.hold():
    start = int((run.path / "last").read_text()) if "--resume" in sys.argv else 0
    run.cut_back(start)
    for step in range(start + 1, steps + 1):
        run.log(step, loss=1 / step)
        print("step", step)
        (run.path / "last").write_text(str(step))
        if run.stop_requested():
            sys.exit()
        time.sleep(0.01)
run.finish({"step": steps})
"""
DEAF = """
import signal, sys
from loctex.jobs.execution import Execution
from loctex.jobs.run import Run
signal.signal(signal.SIGTERM, signal.SIG_IGN if "deaf" in sys.argv else signal.SIG_DFL)
with Run(sys.argv[1]).hold():
    print("ready", flush=True)
    signal.pause()
"""


def add(workspace: Path, name: str, script: str, *words: str, token: str = "", **more) -> Run:
    run = Run(workspace / "runs" / name)
    stand_in(workspace / "stand-ins", name, script, *words)
    return jobs.submit(workspace, run, Command(training(run.path, [], "", {}), **more), token=token)


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A run of this workspace is a stand-in script."""
    (tmp_path / "runs").mkdir()
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "stand-ins"))
    yield tmp_path
    for run in jobs.all_runs(tmp_path):
        run.waiting_file.unlink(missing_ok=True)
        if run.is_live():
            kill(run.train_lock if is_locked(run.train_lock) else run.job_lock)
    wait_for(lambda: not is_locked(tmp_path / "watcher.lock"))


def kill(lock: Path) -> None:
    """kill -9 of who holds the lock, and of a second watcher that was about to take it."""
    killed = None
    while is_locked(lock):
        if holder(lock) not in (None, killed):
            killed = holder(lock)
            os.kill(killed, signal.SIGKILL)


@pytest.mark.timed
def test_a_watcher_starts_at_once_and_ends_when_nothing_waits(tmp_path: Path) -> None:
    start = time.monotonic()
    subprocess.run(
        [sys.executable, "-m", "loctex.jobs", "watch", str(tmp_path)], check=True, cwd=jobs.ROOT
    )
    assert time.monotonic() - start < 1
    code = (
        "import sys, loctex.jobs, loctex.jobs.watcher; "
        "print({'torch', 'numpy', 'yaml'} & set(sys.modules))"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "set()\n"


def test_three_jobs_run_one_after_another_in_order(workspace: Path) -> None:
    runs = [add(workspace, name, TRAINER, "5") for name in ("c", "a", "b")]
    assert {run.state for run in runs} <= {"waiting", "running"}
    wait_for(lambda: [run.state for run in runs] == ["done"] * 3)
    times = [[row["time"] for row in run.metrics()] for run in runs]
    assert max(times[0]) < min(times[1]) and max(times[1]) < min(times[2])
    assert runs[0].log_tail(1) == ["step 5"] and runs[0].exit_code == 0


def test_the_line_shown_is_the_line_run(workspace: Path) -> None:
    run = add(workspace, "it's a run", TRAINER, "3")
    wait_for(lambda: run.state == "done")
    line = jobs.line(run)
    assert run.log_file.read_text().startswith(f"$ {line}\n")
    first = [row["loss"] for row in run.metrics()]
    subprocess.run(line, shell=True, check=True, cwd=jobs.ROOT, stdout=subprocess.DEVNULL)
    assert [row["loss"] for row in run.metrics()] == first


def test_the_command_holds_only_what_was_changed(tmp_path: Path) -> None:
    words = command.training(
        jobs.ROOT / "w" / "runs" / "my run",
        [tmp_path / "s"],
        "tiny",
        {
            "train.steps": 10,
            "train.compile": True,
            "model.backbone_options": {"layers": [1, 1]},
            "train.device": "cpu",
        },
    )
    expected = [
        "-m",
        "loctex.train",
        "--data",
        str(tmp_path / "s"),
        "--run",
        "w/runs/my run",
        "--preset",
        "tiny",
        "--train.steps",
        "10",
        "--train.compile",
        "true",
        "--model.backbone_options",
        '{"layers": [1, 1]}',
        "--train.device",
        "cpu",
    ]
    assert list(words[1:]) == expected
    assert shlex.split(Execution(words).line) == list(words)


def test_two_clicks_make_one_job_and_a_taken_name_is_refused(workspace: Path) -> None:
    found = []
    clicks = [
        threading.Thread(
            target=lambda: found.append(add(workspace, "one", TRAINER, "2", token="click"))
        )
        for _ in range(2)
    ]
    for click in clicks:
        click.start()
    for click in clicks:
        click.join()
    assert [run.name for run in found] == ["one", "one"]
    assert add(workspace, "two", TRAINER, "2", token="click").name == "one"
    with pytest.raises(ValueError, match="'one' exists; choose another name"):
        add(workspace, "one", TRAINER, "2", token="another click")
    wait_for(lambda: found[0].state == "done")
    assert [path.name for path in (workspace / "runs").iterdir()] == ["one"]


def test_stop_writes_a_checkpoint_and_resume_goes_on_to_the_same_numbers(workspace: Path) -> None:
    run = add(workspace, "one", TRAINER, "100000")
    wait_for(lambda: len(run.metrics()) >= 3)
    jobs.stop(workspace, run)
    wait_for(lambda: run.state == "stopped")
    last = int((run.path / "last").read_text())
    assert run.metrics()[-1]["step"] == last and run.exit_code == 0
    jobs.resume(workspace, run)
    assert jobs.read_command(run).words[-1] == "--resume"
    wait_for(lambda: len(run.metrics()) > last)
    assert [row["step"] for row in run.metrics()][: last + 1] == list(range(1, last + 2))
    jobs.stop(workspace, run)
    wait_for(lambda: run.state == "stopped")


def test_a_waiting_job_that_is_stopped_never_starts(workspace: Path) -> None:
    first = add(workspace, "first", DEAF)
    wait_for(lambda: first.log_tail(1) == ["ready"])
    second = add(workspace, "second", TRAINER, "1")
    jobs.stop(workspace, second)
    assert second.state == "stopped" and not second.log_file.exists()
    jobs.resume(workspace, second)
    assert second.state == "waiting"
    kill(first.train_lock)
    wait_for(lambda: second.state == "done")


@pytest.mark.parametrize(("word", "signal_number"), [("", 15), ("deaf", 9)])
def test_a_trainer_that_ignores_the_stop_file_is_ended(
    workspace: Path, monkeypatch: pytest.MonkeyPatch, word: str, signal_number: int
) -> None:
    monkeypatch.setattr(watcher, "KILL_AFTER", 0.2)
    monkeypatch.setattr(jobs, "ensure_watcher", lambda workspace: None)  # we watch ourselves
    run = add(workspace, "one", DEAF, word)
    watching = threading.Thread(target=watcher.watch, args=(workspace, 0.2))
    watching.start()
    wait_for(lambda: run.log_tail(1) == ["ready"])
    jobs.stop(workspace, run)
    assert run.state == "stopping"
    watching.join(10)
    assert (run.state, run.exit_code) == ("stopped", -signal_number)


@pytest.mark.timed
def test_a_trainer_killed_is_shown_as_failed_with_the_reason(workspace: Path) -> None:
    run = add(workspace, "one", DEAF)
    wait_for(lambda: is_locked(run.train_lock) and holder(run.train_lock))
    start = time.monotonic()
    kill(run.train_lock)
    wait_for(lambda: run.state == "failed")
    assert time.monotonic() - start < 5
    assert run.exit_code == -9
    assert failures.explain(run).what.startswith("The system killed it")


def test_a_killed_watcher_leaves_the_run_running_and_the_next_one_moves_the_queue(
    workspace: Path,
) -> None:
    first = add(workspace, "first", TRAINER, "100000")
    second = add(workspace, "second", TRAINER, "2")
    wait_for(lambda: len(first.metrics()) >= 2)
    kill(workspace / "watcher.lock")
    assert (first.state, second.state) == ("running", "waiting")
    jobs.ensure_watcher(workspace)
    wait_for(lambda: is_locked(workspace / "watcher.lock"))
    seen = len(first.metrics())
    wait_for(lambda: len(first.metrics()) > seen + 20)
    assert second.state == "waiting", "it waits for the run that lost its watcher"
    jobs.stop(workspace, first)
    wait_for(lambda: first.state == "stopped" and second.state == "done")


def test_the_queue_moves_on_when_the_app_that_filled_it_is_killed(workspace: Path) -> None:
    app = (
        "import sys\nfrom pathlib import Path\nfrom loctex.jobs import queue as jobs\n"
        "from loctex.jobs.run import Run\n"
        "from loctex.jobs.command import training\n"
        "for n in '12':\n r = Run(Path(sys.argv[1]) / 'runs' / n)\n"
        " jobs.submit(Path(sys.argv[1]), r, jobs.Command(training(r.path, [], '', {})))\n"
        "print('in', flush=True)\ninput()"
    )
    for name in "12":
        stand_in(workspace / "stand-ins", name, TRAINER, "3")
    process = subprocess.Popen(
        [sys.executable, "-c", app, str(workspace)],
        text=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=jobs.ROOT,
    )
    assert process.stdout.readline() == "in\n"
    process.kill()
    process.communicate()
    wait_for(lambda: [run.state for run in jobs.all_runs(workspace)] == ["done"] * 2)


def test_words_that_are_no_job_fail_unexecuted_and_the_next_job_runs(workspace: Path) -> None:
    run = Run(workspace / "runs" / "one")
    jobs.submit(workspace, run, Command(("touch", str(workspace / "executed"))))
    second = add(workspace, "second", TRAINER, "1")
    wait_for(lambda: second.state == "done")
    assert (run.state, run.exit_code) == ("failed", 1)
    assert "names no job of this program" in failures.explain(run).what
    with pytest.raises(ValueError, match="names no job of this program"):
        jobs.resume(workspace, run)
    assert not (workspace / "executed").exists()
    with pytest.raises(ValueError, match="'second' is done"):
        jobs.resume(workspace, second)


@pytest.mark.parametrize(
    ("code", "last", "what"),
    [
        (1, "torch.OutOfMemoryError: CUDA out of memory. Tried", "The GPU ran out of memory."),
        (1, "error: out of memory: 9 pairs at once do not fit", "It ran out of memory."),
        (1, "RuntimeError: NCCL error in: x.cpp", "The processes lost each other."),
        (1, "RuntimeError: can't start new thread", "A worker that loads images died."),
        (
            1,
            "ValueError: Decoding JPEG failed: Premature end of JPEG file",
            "An image of the snapshot is missing or cannot be read.",
        ),
        (1, "FileNotFoundError: s/data/a.parquet", "A file is missing: s/data/a.parquet"),
        (1, "error: snapshot s is gone: put it back", "snapshot s is gone: put it back"),
        (-9, "step 3", failures.KILLED),
        (137, "step 3", failures.KILLED),
        (1, "OSError: [Errno 28] No space left on device: 'x'", "The disk is full."),
        (1, "error: the loss is not finite at step 7", "The loss was no longer a finite number."),
        (1, "error: s has no train split, only val", "s has no train split, only val"),
        (1, "ModuleNotFoundError: No module named 'timm'", "The Python package timm is missing."),
        (-11, "step 3", "It was ended by SIGSEGV."),
        (3, "something odd", "something odd"),
        (None, "step 3", "It ended without saying how: a power cut, or it was killed."),
    ],
)
def test_a_failure_is_said_in_plain_words(code: int | None, last: str, what: str) -> None:
    earlier = ["$ python", "torch.OutOfMemoryError: CUDA out of memory", "$ python --resume"]
    failure = failures.from_log(code, [*earlier, last])
    assert failure.what == what and failure.remedy.endswith(".")


def test_who_was_killed_for_memory_is_told_the_smaller_chunks(tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.exit_file.write_text('{"code": -9}')
    assert failures.explain(run).remedy.startswith("Use a smaller batch size")
    run.settings_file.write_text("train: {batch_size: 96, accumulate: 2}")
    assert failures.explain(run).remedy.startswith(
        "It had 48 pairs in memory at once: try train.accumulate 4"
    )
