"""Nothing half is taken for whole: full disks, killed watchers, clocks, torn caches."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from loctex.jobs import checkpoint_files, watcher
from loctex.jobs import queue as jobs
from loctex.jobs.command import Command, training
from loctex.jobs.run import Run
from loctex.records.files import holder, is_locked, worker
from loctex.training import checkpoint
from tests.loctex.stand_ins import stand_in, wait_for

WORK = """
import sys, time
from pathlib import Path
for number in range(1000):
    Path(sys.argv[1], "beats").write_text(str(number))
    if Path(sys.argv[1], "end").exists():
        Path(sys.argv[1], "result.json").write_text("{}")
        sys.exit()
    time.sleep(0.05)
"""


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    (tmp_path / "runs").mkdir()
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "stand-ins"))
    monkeypatch.setattr(watcher, "KILL_AFTER", 0.5)
    yield tmp_path
    for run in jobs.all_runs(tmp_path):
        (run.path / "end").touch()
    wait_for(lambda: not is_locked(tmp_path / "watcher.lock"))


def at_work_without_watcher(workspace: Path) -> Run:
    """A job that holds no lock of its own, as an evaluation, whose watcher was killed."""
    run = Run(workspace / "runs" / "one")
    stand_in(workspace / "stand-ins", "one", WORK)
    jobs.submit(workspace, run, Command(training(run.path, [], "", {}), grace=0.0))
    wait_for(lambda: (run.path / "beats").exists() and worker(run.job_lock))
    killed = holder(workspace / "watcher.lock")
    os.kill(killed, signal.SIGKILL)
    wait_for(lambda: not is_locked(workspace / "watcher.lock"))
    return run


def test_a_job_whose_watcher_was_killed_is_not_failed_while_it_works(workspace: Path) -> None:
    run = at_work_without_watcher(workspace)
    beats = (run.path / "beats").read_text()
    wait_for(lambda: (run.path / "beats").read_text() not in ("", beats))
    assert run.state == "running"
    with pytest.raises(ValueError, match="is running; stop it first"):
        jobs.remove(run)
    (run.path / "end").touch()
    wait_for(lambda: run.state != "running")
    assert run.state == "done"


def test_stop_reaches_a_job_whose_watcher_was_killed(workspace: Path) -> None:
    run = at_work_without_watcher(workspace)
    run.request_stop()
    watcher.watch(workspace, grace=0.1)
    wait_for(lambda: run.state == "stopped")
    beats = (run.path / "beats").read_text()
    time.sleep(0.3)
    assert (run.path / "beats").read_text() == beats and not run.result_file.exists()


def test_a_clock_that_jumps_brings_no_signal_forward(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A laptop that was suspended for an hour after Stop: by the wall clock all time is up."""
    run, sent, now = Run(tmp_path), [], [100.0]
    run.request_stop()
    os.utime(run.stop_file, (0, 0))
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    escalation = watcher.StopEscalation(run, 10.0, sent.append)
    escalation()
    assert sent == []
    for seconds, expected in (
        (9.0, []),
        (2.0, [15]),
        (59.0, [15]),
        (2.0, [15, 9]),
        (99.0, [15, 9]),
    ):
        now[0] += seconds
        escalation()
        assert sent == expected


def test_between_the_two_signals_lies_a_minute_however_late_the_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, sent, now = Run(tmp_path), [], [0.0]
    run.request_stop()
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    escalation = watcher.StopEscalation(run, 10.0, sent.append)
    escalation()
    now[0] = 5000.0  # the watcher itself was stopped
    escalation()
    now[0] += 1.0
    escalation()
    assert sent == [signal.SIGTERM]


class Model:
    """Saves weights of a megabyte."""

    def __init__(self, num_bytes: int) -> None:
        self.weights = torch.zeros(num_bytes // 4)

    def parameters(self) -> list:
        return [self.weights]

    def save_pretrained(self, folder: Path) -> None:
        from safetensors.torch import save_file

        save_file({"weights": self.weights}, folder / "model.safetensors")
        (folder / "config.json").write_text("{}")


class Tokenizer:
    def save_pretrained(self, folder: Path) -> None:
        (folder / "tokenizer.json").write_text(json.dumps({}))


@pytest.mark.parametrize("where", ["weights", "state"])
def test_a_full_disk_says_so_and_the_earlier_checkpoints_stay(tmp_path: Path, where: str) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("a small disk needs root")
    try:
        run, state = disk / "run", {"step": 2, "best": 0.0}

        def save(step: int, num_bytes: int, **more: object) -> None:
            checkpoint.save(
                run,
                step,
                model=Model(num_bytes),
                tokenizer=Tokenizer(),
                state=state | more,
                is_best=True,
            )

        save(2, 1 << 20)
        size = (3 << 20) if where == "weights" else 1 << 20
        large = torch.zeros(1 << 19) if where == "state" else 0
        with pytest.raises(ValueError, match="the disk is full: the checkpoint of step 4 .* stay"):
            save(4, size, large=large)
        two = checkpoint_files.find(run, "last")
        assert two.name == "step-00000002" and checkpoint.load_state(two)["step"] == 2
        assert [path.name for path in (run / "checkpoints").iterdir()] == ["step-00000002"]
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)
