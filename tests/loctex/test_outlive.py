"""Real trainings as jobs: killed, resumed from any checkpoint, gone on with, moved elsewhere."""

import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from loctex import settings
from loctex.jobs import failures, provenance
from loctex.jobs import queue as jobs
from loctex.jobs.command import Command, training
from loctex.jobs.run import Run
from loctex.model import build
from loctex.records.files import holder, is_locked
from loctex.settings import Settings, presets
from tests.loctex.small import small
from tests.loctex.stand_ins import wait_for

pytestmark = pytest.mark.slow  # each start imports torch: a quarter of a minute on a busy machine
PATIENCE = 900  # seconds


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    (tmp_path / "runs").mkdir()
    yield tmp_path
    for run in jobs.all_runs(tmp_path):
        jobs.stop(tmp_path, run)
    wait_for(lambda: not is_locked(tmp_path / "watcher.lock"), PATIENCE)


def wanted(snapshot: Path, **values) -> Settings:
    return small(
        snapshot,
        model__text_dropout=0.1,
        train__log_every=1,
        train__evaluate_every=10,
        train__checkpoint_every=5,
        train__film_every=5,
        **{"train__steps": 20} | values,
    )


def submit(workspace: Path, name: str, chosen: Settings, **more) -> Run:
    run = Run(workspace / "runs" / name)
    snapshots = chosen.data.snapshots
    changes = settings.changed(chosen, presets.PRESETS["tiny"])
    del changes["data.snapshots"]
    words = training(run.path, snapshots, "tiny", changes)
    command = Command(words, snapshots=provenance.hashes(snapshots), **more)
    return jobs.submit(workspace, run, command, settings.dump(chosen))


def ended(run: Run) -> bool:
    return run.state in ("done", "failed", "stopped")


def learned(run: Run) -> tuple[dict[str, torch.Tensor], list, list]:
    """What must be equal bit for bit: weights, the lines logged (but for times), the film."""
    rows = [
        {k: v for k, v in row.items() if k not in ("time", "pairs_per_second", "data_wait")}
        for row in run.metrics()
    ]
    return build.load(run.path / "last").state_dict(), rows, run.film()[1]


def assert_same(one: Run, two: Run) -> None:
    (weights, rows, film), (other_weights, other_rows, other_film) = learned(one), learned(two)
    assert all(torch.equal(weights[name], other_weights[name]) for name in weights)
    assert rows == other_rows and film == other_film


def test_a_killed_trainer_is_failed_within_5_s_and_resumes_to_the_same_bits(
    workspace: Path, snapshot: Path
) -> None:
    whole = submit(workspace, "whole", wanted(snapshot))
    broken = submit(workspace, "broken", wanted(snapshot))
    wait_for(lambda: (broken.path / "last").exists() and len(broken.metrics()) > 7, PATIENCE)
    assert whole.state == "done"
    begin = time.monotonic()
    os.kill(holder(broken.train_lock), signal.SIGKILL)
    wait_for(lambda: broken.state == "failed", 5)
    print(f"shown as failed after {time.monotonic() - begin:.2f} s")
    assert failures.explain(broken).what == failures.KILLED
    jobs.resume(workspace, broken)
    wait_for(lambda: ended(broken), PATIENCE)
    assert broken.state == "done", broken.log_tail(20)
    assert_same(whole, broken)
    assert len(provenance.starts(broken)) == 2

    jobs.extend(workspace, broken, 23)
    wait_for(lambda: ended(broken), PATIENCE)
    assert json.loads(broken.result_file.read_bytes())["step"] == 23
    assert settings.load(broken.settings_file).train.steps == 23


def test_a_run_goes_on_from_the_checkpoint_that_was_named(workspace: Path, snapshot: Path) -> None:
    """From step 4 of 20 the second time: the same 20 steps again, to the same bits."""
    whole = submit(workspace, "whole", wanted(snapshot, train__keep_every=4))
    again = submit(workspace, "again", wanted(snapshot, train__keep_every=4))
    wait_for(lambda: whole.state == "done" and len(again.metrics()) > 12, PATIENCE)
    jobs.stop(workspace, again)
    wait_for(lambda: ended(again), PATIENCE)
    assert (again.checkpoints / "step-00000004").is_dir()
    jobs.resume(workspace, again, "step-00000004")
    wait_for(lambda: ended(again), PATIENCE)
    assert again.state == "done", again.log_tail(20)
    assert_same(whole, again)
    kept = sorted(path.name for path in whole.checkpoints.iterdir())
    assert {f"step-000000{n:02}" for n in range(4, 21, 4)} <= set(kept)


def test_a_launcher_trains_elsewhere_on_this_machine(workspace: Path, snapshot: Path) -> None:
    """A stand-in for ssh: another folder, an empty environment, a session of its own."""
    launcher = workspace / "elsewhere.sh"
    launcher.write_text(
        '#!/bin/sh\nexec env -i PATH="$PATH" OMP_NUM_THREADS=1 setsid --wait '
        f'sh -c "cd {jobs.ROOT} && $1"\n'
    )
    launcher.chmod(0o755)
    here = submit(workspace, "here", wanted(snapshot, train__steps=6))
    far = submit(
        workspace,
        "far",
        wanted(snapshot, train__steps=6),
        devices=("far",),
        launcher=f"{launcher} '{{line}}'",
    )
    wait_for(lambda: ended(here) and ended(far), PATIENCE)
    assert (here.state, far.state) == ("done", "done"), far.log_tail(20)
    assert_same(here, far)


def test_a_killed_watcher_leaves_the_training_and_power_loss_is_not_running(
    workspace: Path, snapshot: Path
) -> None:
    first = submit(workspace, "first", wanted(snapshot, train__steps=2000))
    second = submit(workspace, "second", wanted(snapshot, train__steps=2))
    wait_for(lambda: len(first.metrics()) > 2, PATIENCE)
    os.kill(holder(workspace / "watcher.lock"), signal.SIGKILL)
    seen = len(first.metrics())
    wait_for(lambda: len(first.metrics()) > seen + 3, PATIENCE)
    assert (first.state, second.state) == ("running", "waiting")
    os.kill(holder(first.train_lock), signal.SIGKILL)  # and now nothing is left but files
    wait_for(lambda: first.state == "failed", 5)
    assert first.job_lock.exists() and first.train_lock.exists() and first.exit_code is None
    assert "power cut" in failures.explain(first).what
    jobs.ensure_watcher(workspace)
    wait_for(lambda: ended(second), PATIENCE)
    assert second.state == "done", second.log_tail(20)


def test_two_processes_are_one_run_of_torchrun(workspace: Path, snapshot: Path) -> None:
    """The way of two GPUs, here with two processes on the processor (gloo)."""
    torchrun = f"{sys.executable} -m torch.distributed.run --standalone --nproc-per-node 2"
    run = submit(
        workspace,
        "two",
        wanted(snapshot, train__steps=6),
        devices=("two",),
        launcher=f"{torchrun} -m -- loctex.train {{arguments}}",
    )
    wait_for(lambda: ended(run), PATIENCE)
    assert run.state == "done", run.log_tail(30)
    assert provenance.starts(run)[0]["environment"]["processes"] == 2
    assert [row["step"] for row in run.metrics() if "loss" in row] == [*range(1, 7)]
