"""`--resume auto`: what is ended and started again, however often, learns the same bits."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from loctex import distributed, settings
from loctex.jobs import checkpoint_files, provenance
from loctex.jobs.run import Run
from loctex.records.files import holder
from loctex.scoring import score
from loctex.train import main
from loctex.training import checkpoint, stopping
from loctex.training.loop import Training, train
from tests.loctex.small import small
from tests.loctex.stand_ins import wait_for
from tests.loctex.test_train import assert_equal, assert_same_run

ROOT = Path(__file__).parents[2]
TIMES = ("time", "pairs_per_second", "data_wait")


class Death(BaseException):
    """Stands for SIGKILL: nothing after it is done."""


def lively(snapshot: Path, **values) -> settings.Settings:
    """12 steps in which much is due: lines, checkpoints, scores and frames at different steps."""
    return small(
        snapshot,
        model__text_dropout=0.1,
        **{
            "train__steps": 12,
            "train__log_every": 3,
            "train__evaluate_every": 4,
            "train__checkpoint_every": 5,
            "train__film_every": 2,
        }
        | values,
    )


def start(run: Run, run_settings: settings.Settings) -> None:
    """As a cluster does it: always the same line."""
    file = run.path.parent / "settings.yaml"
    file.write_text(settings.dump(run_settings))
    main(["--run", str(run.path), "--settings", str(file), "--resume", "auto"])


def assert_same(one: Run, two: Run) -> None:
    """Weights, optimizer, sums of the meter, lines (but for times), film, and which is best."""
    assert_same_run(one.path, two.path)
    lines, other_lines = (
        [{k: v for k, v in row.items() if k not in TIMES} for row in run.metrics()]
        for run in (one, two)
    )
    assert lines == other_lines
    assert one.film() == two.film()
    best, other_best = (checkpoint_files.linked(run.path, "best") for run in (one, two))
    assert best is not None and other_best is not None and best.name == other_best.name


@pytest.fixture
def whole(snapshot: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Undisturbed; its best is the second of three scores."""
    monkeypatch.setattr(score, "summary", lambda values: values["lbm_0"])
    run = Run(tmp_path / "whole")
    train(lively(snapshot), run)
    assert (run.path / "best").resolve().name == "step-00000008"
    return run


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_after_each_of_twelve_steps_changes_no_bit(
    snapshot, tmp_path, whole, monkeypatch, number
):
    """Also between two lines of the log, and where a validation is due."""
    update = Training.update

    def signaled(training: Training, batch, step: int) -> None:
        update(training, batch, step)
        os.kill(os.getpid(), number)

    monkeypatch.setattr(Training, "update", signaled)
    run = Run(tmp_path / "run")
    for step in range(1, 12):
        with pytest.raises(SystemExit) as ended:
            start(run, lively(snapshot))
        assert ended.value.code == 128 + number
        folder = checkpoint_files.find(run.path, "last")
        assert checkpoint.load_state(folder)["step"] == step
    start(run, lively(snapshot))
    assert json.loads(run.result_file.read_bytes())["step"] == 12
    assert_same(whole, run)


@pytest.mark.parametrize(
    ("place", "times", "first_step"),
    [
        ("loctex.training.loop.Training.score", 1, 4),  # before the validation of step 4
        ("loctex.training.checkpoint.mark_best", 2, 8),  # scored, and the link not moved
        ("loctex.training.film.Film.shoot", 5, 8),  # its frame of step 8 was not taken
        ("loctex.training.checkpoint.link", 3, 4),  # written, and not linked: step 5 again
    ],
)
def test_killed_between_a_step_and_what_is_due_after_it_nothing_is_left_out(
    snapshot, tmp_path, whole, monkeypatch, place, times, first_step
):
    calls = []

    def dying(*arguments, **more) -> None:
        calls.append(arguments)
        if len(calls) == times:
            raise Death
        original(*arguments, **more)

    module, name = place.rsplit(".", 1)
    owner = {
        "loctex.training.loop.Training": Training,
        "loctex.training.checkpoint": checkpoint,
        "loctex.training.film.Film": sys.modules["loctex.training.film"].Film,
    }[module]
    original = getattr(owner, name)
    run = Run(tmp_path / "run")
    with monkeypatch.context() as patch:
        patch.setattr(owner, name, dying)
        with pytest.raises(Death):
            start(run, lively(snapshot))
    folder = checkpoint_files.find(run.path, "last")
    assert checkpoint.load_state(folder)["step"] == first_step
    start(run, lively(snapshot))
    assert_same(whole, run)


def test_the_stop_file_ends_it_well_and_a_run_that_is_done_says_so(
    snapshot, tmp_path, monkeypatch, caplog
):
    update = Training.update

    def asked(training: Training, batch, step: int) -> None:
        update(training, batch, step)
        if step == 2:
            training.run.request_stop()
            training.stop_check.looked_at -= stopping.SECONDS  # as if they had passed

    run, run_settings = Run(tmp_path / "run"), lively(snapshot, train__steps=4)
    with monkeypatch.context() as patch:
        patch.setattr(Training, "update", asked)
        start(run, run_settings)
    assert checkpoint.load_state(checkpoint_files.find(run.path, "last"))["step"] == 2
    start(run, run_settings)
    result = run.result_file.read_bytes()
    assert json.loads(result)["step"] == 4

    caplog.set_level("INFO")
    start(run, run_settings)
    assert "is done with its 4 steps" in caplog.text
    assert run.result_file.read_bytes() == result
    with pytest.raises(SystemExit, match="is done with its 4 steps"):
        main(["--run", str(run.path), "--resume"])


def test_it_is_looked_at_by_the_clock_and_under_torchrun_all_look_after_the_same_step(
    tmp_path, monkeypatch
):
    """Two processes, of which the second is half as fast: the first says when they ask."""
    clock, exchanged = [0.0], []
    monkeypatch.setattr(stopping.time, "monotonic", lambda: clock[0])
    run = Run(tmp_path / "run")
    run.path.mkdir()
    alone = stopping.StopCheck(run, torch.device("cpu"))
    run.request_stop()
    clock[0] = 1.9
    assert not alone.is_asked(1, False) and alone.is_asked(1, True)
    clock[0] = 4.0
    assert alone.is_asked(2, False)

    def total(tensor: torch.Tensor) -> torch.Tensor:
        exchanged.append(tensor.tolist())
        return tensor

    monkeypatch.setattr(distributed, "num_ranks", lambda: 2)
    monkeypatch.setattr(distributed, "total", total)
    run.clear_stop()
    first = stopping.StopCheck(run, torch.device("cpu"))
    steps = []
    for step in range(1, 1001):
        clock[0] += 0.01
        before = len(exchanged)
        assert not first.is_asked(step, False)
        if len(exchanged) > before:
            steps.append(step)
    assert steps[:9] == [1, 3, 7, 15, 31, 63, 127, 255, 455]  # then 2 s of steps of 10 ms
    assert steps[9:] == [655, 855]


@pytest.mark.slow
def test_preempted_ten_times_at_random_it_learns_the_same_bits(snapshot, tmp_path):
    """SIGTERM, then SIGKILL before or after the checkpoint was written; started again each time.

    No step before the last checkpoint is taken again: its lines are those of the first time.
    """
    every = {"checkpoint": 10, "evaluate": 25, "film": 20, "log": 1}
    run_settings = lively(
        snapshot, train__steps=300, **{f"train__{name}_every": n for name, n in every.items()}
    )
    whole, run = Run(tmp_path / "whole"), Run(tmp_path / "run")
    train(run_settings, whole)

    file, printed = tmp_path / "settings.yaml", tmp_path / "printed.txt"
    file.write_text(settings.dump(run_settings))
    words = [sys.executable, "-m", "loctex.train", "--run", str(run.path)]
    words += ["--settings", str(file), "--resume", "auto"]
    draw = random.Random(19)

    for _ in range(10):
        lines = run.metrics()
        kept = checkpoint_files.linked(run.path, "last")
        step = checkpoint_files.step_of(kept) if kept else 0
        with open(printed, "ab") as log:
            process = subprocess.Popen(words, cwd=ROOT, stdout=log, stderr=log)
        target = step + draw.randint(1, 25)
        wait_for(
            lambda target=target, process=process: (
                run.metrics()[-1:]
                and run.metrics()[-1]["step"] >= target
                or process.poll() is not None
            ),
            300,
        )
        assert process.poll() is None, printed.read_text()
        process.send_signal(signal.SIGTERM)
        time.sleep(draw.choice((0, 0.01, 0.05, 0.2)))  # the grace
        process.kill()
        process.wait()
        before = [line for line in lines if line["step"] <= step]
        assert run.metrics()[: len(before)] == before

    process = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
    assert process.returncode == 0, process.stderr
    assert_same(whole, run)
    one, two = (checkpoint.load_state(r.path / "last") for r in (whole, run))
    assert_equal(one, two)


@pytest.mark.slow
def test_of_two_processes_one_is_preempted_and_both_stop_after_the_same_step(snapshot, tmp_path):
    """Started again, as Kubernetes does it, they go on to the bits of an undisturbed run."""
    every = {f"train__{name}_every": 40 for name in ("evaluate", "film", "checkpoint")}
    run_settings = lively(snapshot, train__steps=120, **every)
    file = tmp_path / "settings.yaml"
    file.write_text(settings.dump(run_settings))
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    torchrun += ["--nproc-per-node", "2", "-m", "--", "loctex.train"]
    whole, run = Run(tmp_path / "whole"), Run(tmp_path / "run")

    def start(run: Run) -> subprocess.Popen:
        words = [*torchrun, "--run", str(run.path), "--settings", str(file), "--resume", "auto"]
        with open(tmp_path / f"{run.name}.txt", "ab") as printed:
            return subprocess.Popen(words, cwd=ROOT, stdout=printed, stderr=printed)

    assert start(whole).wait(300) == 0, (tmp_path / "whole.txt").read_text()

    process = start(run)
    wait_for(lambda: len(run.metrics()) > 5, 300)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text()
    first = holder(run.train_lock)
    os.kill(next(int(pid) for pid in children.split() if int(pid) != first), signal.SIGTERM)
    assert process.wait(300) != 0, "whoever started it must not take it for done"
    step = checkpoint.load_state(checkpoint_files.find(run.path, "last"))["step"]
    assert 18 <= step < 120

    assert start(run).wait(300) == 0, (tmp_path / "run.txt").read_text()
    assert_same(whole, run)
    assert len(provenance.starts(run)) == 2
