"""The queue: order, GPU sets, launchers, what fails before it starts, going on, deleting."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from loctex.jobs import failures, watcher
from loctex.jobs import queue as jobs
from loctex.jobs.command import Command, training, with_option
from loctex.jobs.execution import Execution
from loctex.jobs.launchers import wrap
from loctex.jobs.run import Run
from loctex.records.files import holder, is_locked
from tests.loctex.stand_ins import TRAINER, stand_in, wait_for

ENDLESS = "100000"


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Nothing is started but by `watching`; a stand-in trains."""
    (tmp_path / "runs").mkdir()
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path / 'stand-ins'}:{jobs.ROOT}")
    monkeypatch.setattr(jobs, "ensure_watcher", lambda workspace: None)
    yield tmp_path
    for run in jobs.all_runs(tmp_path):
        jobs.stop(tmp_path, run)
    wait_for(lambda: not any(run.is_live() for run in jobs.all_runs(tmp_path)))


def watching(workspace: Path) -> threading.Thread:
    thread = threading.Thread(target=watcher.watch, args=(workspace,), daemon=True)
    thread.start()
    return thread


def add(workspace: Path, name: str, steps: str = "3", **more) -> Run:
    run = Run(workspace / "runs" / name)
    stand_in(workspace / "stand-ins", name, TRAINER)
    words = training(run.path, more.get("snapshots", ()), "", {"train.steps": int(steps)})
    return jobs.submit(workspace, run, Command(words, **more), f"train: {{steps: {steps}}}")


def names(runs: list[Run]) -> list[str]:
    return [run.name for run in runs]


def test_waiting_runs_change_places(workspace: Path) -> None:
    a, b, c = (add(workspace, name) for name in "abc")
    assert names(jobs.queue(workspace)) == ["a", "b", "c"]
    jobs.move(workspace, c, -1)
    assert names(jobs.queue(workspace)) == ["a", "c", "b"]
    jobs.move(workspace, a, 1)
    assert names(jobs.queue(workspace)) == ["c", "a", "b"]
    jobs.move(workspace, b, -9)
    jobs.move(workspace, c, 9)
    assert names(jobs.queue(workspace)) == ["b", "a", "c"]
    assert jobs.ahead(workspace, c) == ["b", "a"]
    jobs.stop(workspace, a)
    with pytest.raises(ValueError, match="'a' does not wait any more"):
        jobs.move(workspace, a, 1)
    watching(workspace).join(20)
    begun = [run.metrics()[0]["time"] for run in (b, c)]
    assert begun == sorted(begun) and a.state == "stopped" and a.metrics() == []


def test_runs_on_different_gpus_go_side_by_side_the_others_wait(workspace: Path) -> None:
    first = add(workspace, "first", ENDLESS, devices=("GPU-1", "GPU-2"))
    second = add(workspace, "second", ENDLESS, devices=("GPU-3",))
    third = add(workspace, "third", devices=("GPU-2",))
    anywhere = add(workspace, "anywhere")
    late = add(workspace, "late", devices=("GPU-4",))  # free, but a whole machine waits before it
    watching(workspace)
    wait_for(lambda: first.metrics() and second.metrics())
    assert [run.state for run in (third, anywhere, late)] == ["waiting"] * 3
    assert jobs.ahead(workspace, third) == ["first"]
    assert jobs.ahead(workspace, anywhere) == ["first", "second", "third"]
    assert "GPUs GPU-3" in second.log_file.read_text()
    jobs.stop(workspace, first)
    wait_for(lambda: third.state == "done")
    assert anywhere.state == "waiting"
    jobs.stop(workspace, second)
    wait_for(lambda: anywhere.state == "done" and late.state == "done")
    assert anywhere.metrics()[-1]["time"] <= late.metrics()[0]["time"]


def test_several_gpus_are_one_torchrun_on_them() -> None:
    words = ("python", "-m", "loctex.train", "--run", "r")
    assert Execution(words, ("GPU-1",)).line == "env CUDA_VISIBLE_DEVICES=GPU-1 " + " ".join(words)
    assert Execution(words, ("GPU-1", "GPU-2")).line == (
        "env CUDA_VISIBLE_DEVICES=GPU-1,GPU-2 python -m torch.distributed.run --standalone "
        "--nproc-per-node 2 -m -- loctex.train --run r"
    )
    assert Execution(words, ("cpu",)).line == " ".join(words)


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("srun --gpus 1 {command}", "srun --gpus 1 python -m loctex.train --run 'runs/my run'"),
        (
            "sbatch --wait -J '{run}' --wrap '{line}'",
            "sbatch --wait -J 'my run' "
            "--wrap 'python -m loctex.train --run '\"'\"'runs/my run'\"'\"''",
        ),
        (
            "torchrun --nproc-per-node 2 -m -- loctex.train {arguments}",
            "torchrun --nproc-per-node 2 -m -- loctex.train --run 'runs/my run'",
        ),
    ],
)
def test_a_launcher_wraps_the_command(template: str, expected: str) -> None:
    words = ("python", "-m", "loctex.train", "--run", "runs/my run")
    assert Execution(words, ("cluster",), template).line == expected
    command = Command(words, devices=("cluster",), launcher="cluster")
    again = Command.from_json(command.to_json())
    assert again == command


@pytest.mark.parametrize(
    ("template", "problem"),
    [
        ("srun", "starts nothing"),
        ("srun {comand}", "{comand} is none of"),
        ("ssh host 'cd x; {command}'", "inside quotes write {line}"),
        ("srun '{line}", "cannot be read"),
    ],
)
def test_a_launcher_that_cannot_work_is_refused(template: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        wrap(template, ["python"])


def test_a_launcher_runs_the_command_elsewhere_and_can_be_stopped(workspace: Path) -> None:
    """As ssh does: a shell with another folder, environment and session reads one line."""
    elsewhere = workspace / "elsewhere"
    elsewhere.mkdir()
    launcher = workspace / "stand-in-ssh"
    launcher.write_text(
        f"#!/bin/sh\ncd {elsewhere}\nexec env -i PYTHONPATH=$PYTHONPATH HOST=$1 PATH=$PATH "
        f'setsid --wait sh -c "echo on $1 in $(pwd); cd {jobs.ROOT}; $2"\n'
    )
    launcher.chmod(0o755)
    (workspace / "launchers.yaml").write_text(f"cluster: {launcher} far '{{line}}'")
    run = add(workspace, "it's far", ENDLESS, devices=("cluster",), launcher="cluster")
    near = add(workspace, "near", ENDLESS, devices=("cpu",))
    watching(workspace)
    wait_for(lambda: run.metrics() and near.metrics())
    assert f"on far in {elsewhere}" in run.log_file.read_text()
    jobs.stop(workspace, run)
    wait_for(lambda: run.state == "stopped")
    assert run.exit_code == 0 and near.state == "running"
    jobs.resume(workspace, run)
    stopped_at = run.metrics()[-1]["step"]
    wait_for(lambda: run.metrics()[-1]["step"] > stopped_at)
    assert [row["step"] for row in run.metrics()][: stopped_at + 1] == [*range(1, stopped_at + 2)]


def test_the_program_that_a_launcher_needs_is_missing(workspace: Path) -> None:
    (workspace / "launchers.yaml").write_text("srun: no-such-srun {command}")
    run = add(workspace, "one", launcher="srun")
    watching(workspace).join(20)
    assert (run.state, run.exit_code) == ("failed", 127)
    assert "no-such-srun" in failures.explain(run).what


def snapshot(folder: Path, content: str) -> Path:
    (folder / "data").mkdir(parents=True, exist_ok=True)
    (folder / "data" / "train-00000-of-00001.parquet").write_bytes(b"x")
    (folder / "snapshot.json").write_text(json.dumps({"hash": content, "splits": {"train": {}}}))
    return folder


@pytest.mark.parametrize(
    ("break_it", "what"),
    [
        (lambda s: s.rename(s.with_name("moved")), "is gone"),
        (lambda s: snapshot(s, "another"), "was changed since"),
        (
            lambda s: (s / "data" / "train-00000-of-00001.parquet").unlink(),
            "train-*.parquet is gone",
        ),
        (lambda s: (s / "snapshot.json").write_text("{"), "is damaged"),
    ],
)
def test_a_job_whose_snapshot_is_not_what_it_was_fails_before_it_starts(
    workspace: Path, break_it, what: str
) -> None:
    frozen = snapshot(workspace / "frozen", "abc")
    run = add(workspace, "one", devices=("GPU-1",), snapshots={str(frozen): "abc"})
    after = add(workspace, "after", devices=("GPU-1",))
    break_it(frozen)
    watching(workspace).join(20)
    assert (run.state, run.exit_code, after.state) == ("failed", 1, "done")
    assert what in failures.explain(run).what
    assert len(run.log_file.read_text().splitlines()) == 1, "not executed"


def test_going_on_is_one_explicit_act_with_more_steps(workspace: Path) -> None:
    run = add(workspace, "one", "5")
    with pytest.raises(ValueError, match="'one' is waiting"):
        jobs.extend(workspace, run, 9)
    watching(workspace).join(20)
    with pytest.raises(ValueError, match="'one' is done"):
        jobs.resume(workspace, run)
    jobs.extend(workspace, run, 9)
    assert run.state == "waiting" and not run.result_file.exists()
    assert jobs.read_command(run).words[-3:] == ("--train.steps", "9", "--resume")
    watching(workspace).join(20)
    assert run.state == "done" and json.loads(run.result_file.read_bytes()) == {"step": 9}
    assert [row["step"] for row in run.metrics()] == [*range(1, 10)]


def test_stopped_while_it_went_on_it_is_stopped_not_done(workspace: Path) -> None:
    run = add(workspace, "one", "2")
    watching(workspace).join(20)
    jobs.extend(workspace, run, int(ENDLESS))
    thread = watching(workspace)
    wait_for(lambda: run.metrics()[-1]["step"] > 4)
    jobs.stop(workspace, run)
    thread.join(20)
    assert run.state == "stopped"


def test_a_run_is_resumed_from_the_checkpoint_that_is_named(workspace: Path) -> None:
    run = add(workspace, "one", ENDLESS)
    thread = watching(workspace)
    wait_for(lambda: len(run.metrics()) >= 9)
    os.kill(holder(run.train_lock), signal.SIGKILL)
    thread.join(20)
    assert run.state == "failed"
    before = run.metrics()[3]["time"]
    jobs.resume(workspace, run, "step-00000004")
    assert jobs.read_command(run).words[-2:] == ("--resume", "step-00000004")
    watching(workspace)
    wait_for(lambda: run.metrics()[-1]["time"] > before + 1e-3 and len(run.metrics()) > 5)
    wait_for(lambda: run.state == "running")
    rows = run.metrics()
    assert [row["step"] for row in rows] == [*range(1, len(rows) + 1)]
    jobs.stop(workspace, run)
    wait_for(lambda: run.state == "stopped")
    jobs.resume(workspace, run)
    assert jobs.read_command(run).words[-1] == "--resume", "the old name is forgotten"


def test_an_option_takes_the_place_of_what_it_was() -> None:
    words = ("p", "--a", "1", "--resume", "best", "--b", "2")
    assert with_option(words, "--resume") == ("p", "--a", "1", "--b", "2", "--resume")
    assert with_option(words, "--a", "3") == ("p", "--resume", "best", "--b", "2", "--a", "3")


def test_only_a_run_at_rest_is_deleted_and_then_wholly(workspace: Path) -> None:
    run = add(workspace, "one", ENDLESS)
    with pytest.raises(ValueError, match="'one' is waiting; stop it first"):
        jobs.remove(run)
    watching(workspace)
    wait_for(lambda: run.metrics())
    with pytest.raises(ValueError, match="'one' is running; stop it first"):
        jobs.remove(run)
    jobs.stop(workspace, run)
    wait_for(lambda: run.state == "stopped")
    jobs.remove(run)
    assert [*(workspace / "runs").iterdir()] == []


def test_power_loss_leaves_locks_and_files_that_say_it_is_not_running(workspace: Path) -> None:
    run = add(workspace, "one")
    run.waiting_file.unlink()
    for lock in (run.job_lock, run.train_lock, workspace / "watcher.lock"):
        lock.write_text("4242")  # what a holder writes; nobody holds it
    run.log(3, loss=1.0)
    assert run.state == "failed" and not is_locked(workspace / "watcher.lock")
    assert "power cut" in failures.explain(run).what
    (run.path / "last").write_text("3")
    jobs.resume(workspace, run)
    watching(workspace).join(20)
    assert run.state == "done"


@pytest.mark.timed
def test_an_idle_watcher_beside_five_hundred_runs_costs_little(workspace: Path) -> None:
    for number in range(500):
        run = Run(workspace / "runs" / f"old-{number}")
        run.path.mkdir()
        run.train_lock.touch()
        run.exit_file.write_text('{"code": 0}')
    blocked = add(workspace, "blocked")
    code = (
        "import sys, time\nfrom pathlib import Path\n"
        "from loctex.jobs import queue as jobs, watcher\n"
        "w = Path(sys.argv[1]); costs = []\n"
        "for _ in range(20):\n"
        "    begin = time.process_time(); watcher.startable(w); jobs.has_work(w)\n"
        "    costs.append(time.process_time() - begin)\n"
        "print(sorted(costs)[10])"
    )
    words = [sys.executable, "-c", code, str(workspace)]
    cost = float(subprocess.check_output(words, cwd=jobs.ROOT, text=True))
    assert cost < 0.3 * watcher.TICK
    jobs.stop(workspace, blocked)
