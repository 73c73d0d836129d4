"""Workspaces that were copied, renamed or made by somebody else: what their runs may execute."""

import json
import os
import shutil
import signal
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from loctex.jobs import failures, watcher
from loctex.jobs import queue as jobs
from loctex.jobs.command import Command, training
from loctex.jobs.execution import home_of, rebuilt
from loctex.jobs.run import Run
from loctex.records.files import holder
from tests.loctex.stand_ins import TRAINER, stand_in, wait_for
from tests.loctex.test_queue import snapshot

ENDLESS = "train: {steps: 99999}"


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Nothing is started but by `watching`; a stand-in trains."""
    root = tmp_path / "original"
    (root / "runs").mkdir(parents=True)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path / 'stand-ins'}")
    monkeypatch.setattr(jobs, "ensure_watcher", lambda workspace: None)
    yield root
    for place in (root, root.with_name("copy")):
        for run in jobs.all_runs(place):
            jobs.stop(place, run)
    wait_for(lambda: not any(run.is_live() for run in jobs.all_runs(root)))


def watching(workspace: Path) -> threading.Thread:
    thread = threading.Thread(target=watcher.watch, args=(workspace,), daemon=True)
    thread.start()
    return thread


def add(root: Path, name: str = "one", settings: str = ENDLESS, **more) -> Run:
    run = Run(root / "runs" / name)
    stand_in(root.with_name("stand-ins"), name, TRAINER)
    words = training(run.path, more.get("snapshots", ()), "", {})
    return jobs.submit(root, run, Command(words, **more), settings)


def option(run: Run, name: str) -> str:
    words = rebuilt(run, jobs.command_of(run)).words
    return os.path.abspath(jobs.ROOT / words[words.index(name) + 1])


def test_resume_and_stop_in_a_copy_never_touch_the_original(workspace: Path) -> None:
    run = add(workspace)
    watching(workspace)
    wait_for(lambda: len(run.metrics()) > 3)
    copy = Run(shutil.copytree(workspace, workspace.with_name("copy")) / "runs" / "one")
    assert copy.state == "failed" and run.state == "running", "alive in one place only"

    jobs.resume(copy.path.parents[1], copy)
    thread = watching(copy.path.parents[1])
    steps = len(copy.metrics())
    wait_for(lambda: copy.state == "running" and len(copy.metrics()) > steps + 3)
    assert holder(copy.train_lock) != holder(run.train_lock)
    jobs.stop(copy.path.parents[1], copy)
    thread.join(20)
    assert (copy.state, run.state) == ("stopped", "running")
    steps = len(run.metrics())
    wait_for(lambda: len(run.metrics()) > steps)


def test_what_waits_in_a_copy_waits_for_a_click(workspace: Path) -> None:
    run = add(workspace)
    jobs.move(workspace, run, -1)
    for copying in ("copy2", "copystat-free"):
        root = workspace.with_name(copying)
        keep = shutil.copy2 if copying == "copy2" else shutil.copyfile
        shutil.copytree(workspace, root, copy_function=keep)
        copy = Run(root / "runs" / "one")
        assert copy.state == "stopped" and not jobs.has_work(root)
        jobs.resume(root, copy)
        assert copy.state == "waiting" and option(copy, "--run") == str(copy.path)
        jobs.stop(root, copy)
    renamed = workspace.rename(workspace.with_name("renamed"))
    assert [run.name for run in jobs.queue(renamed)] == ["one"], "a renamed one goes on by itself"
    (renamed / "runs" / "one" / "waiting").write_text("1.0".ljust(24))
    assert Run(renamed / "runs" / "one").state == "stopped", "of an older version, or made by hand"
    renamed.rename(workspace)


def test_what_lies_in_the_workspace_is_named_relative_to_it(workspace: Path) -> None:
    frozen = snapshot(workspace / "snapshots" / "scenes-1", "abc")
    run = add(workspace, snapshots={str(frozen): "abc"})
    assert str(workspace) not in run.command_file.read_text()
    assert option(run, "--data") == str(frozen)


@pytest.mark.parametrize("is_old", [False, True])
def test_a_snapshot_goes_along_with_a_renamed_workspace(workspace: Path, is_old: bool) -> None:
    frozen = snapshot(workspace / "snapshots" / "scenes-1", "abc")
    run = add(workspace, snapshots={str(frozen): "abc"})
    if is_old:  # as the version before wrote it: all absolute
        words = training(run.path, [frozen], "", {})
        run.command_file.write_text(Command(words, snapshots={str(frozen): "abc"}).to_json())
    jobs.stop(workspace, run)
    renamed = workspace.rename(workspace.with_name("copy"))
    run = Run(renamed / "runs" / "one")
    jobs.resume(renamed, run)
    assert option(run, "--data") == str(renamed / "snapshots" / "scenes-1")
    (renamed / "snapshots" / "scenes-1").rename(renamed / "snapshots" / "better name")
    assert option(run, "--data") == str(renamed / "snapshots" / "better name")
    snapshot(renamed / "snapshots" / "better name", "other")
    with pytest.raises(ValueError, match="snapshot .*scenes-1 is gone"):
        rebuilt(run, jobs.command_of(run))


def test_a_copy_reads_its_own_snapshot_and_what_lies_outside_where_it_was(workspace: Path) -> None:
    inside = snapshot(workspace / "snapshots" / "scenes-1", "abc")
    outside = snapshot(workspace.with_name("elsewhere"), "def")
    run = add(workspace, snapshots={str(inside): "abc", str(outside): "def"})
    shutil.copytree(workspace, workspace.with_name("copy"))
    copy = Run(workspace.with_name("copy") / "runs" / "one")
    words = rebuilt(copy, jobs.command_of(copy)).words
    paths = [words[place + 1] for place, word in enumerate(words) if word == "--data"]
    assert paths == [str(copy.path.parents[1] / "snapshots" / "scenes-1"), str(outside)]
    assert run.name == "one"


WORDS = [
    ("touch", "{mark}"),
    ("sh", "-c", "touch {mark}"),
    ("python", "-c", "open('{mark}', 'w')"),
    ("python", "-m", "pdb", "-c", "!open('{mark}', 'w')"),
    ("python", "-m", "loctex.export", "--run", "r", "--to", "x", "--push", "somebody/else"),
    ("python", "-m", "loctex.train", "--run", "r", "--settings", "{mark}"),
    ("python", "-m", "loctex.train", "{mark}"),
    ("python", "-m", "loctex.train", "--train.warp", "1"),
    ("python", "-m"),
]


@pytest.mark.parametrize("words", WORDS, ids=lambda words: " ".join(words)[:30])
def test_words_that_are_no_job_are_refused_wherever_they_come_in(
    workspace: Path, words: tuple[str, ...]
) -> None:
    mark = workspace / "executed"
    run = add(workspace)
    words = tuple(word.replace("{mark}", str(mark)) for word in words)
    run.command_file.write_text(replace(jobs.command_of(run), words=words).to_json())
    watching(workspace).join(20)  # as the watcher and `python -m loctex.jobs` do
    assert run.state == "failed" and "command.json" in failures.explain(run).what
    with pytest.raises(ValueError, match=r"command\.json"):
        jobs.resume(workspace, run)
    assert jobs.line(run).startswith("It cannot be shown: command.json")
    assert not mark.exists() and jobs.queue(workspace) == []


def test_interpreter_folder_place_and_result_are_this_programs(workspace: Path) -> None:
    evil = workspace.with_name("evil")
    evil.mkdir()
    (evil / "loctex.py").write_text("raise SystemExit('executed')")
    run = add(workspace, settings="train: {steps: 2}")
    words = (f"{evil}/python", "-m", "loctex.train", "--run", str(evil), "--train.steps", "9")
    run.command_file.write_text(Command(words, folder=str(evil)).to_json())
    execution = rebuilt(run, jobs.command_of(run))
    assert execution.words[0].endswith("/python") and str(evil) not in execution.line
    assert option(run, "--run") == str(run.path)
    assert execution.words[-2:] == ("--train.steps", "2"), "of its settings"
    watching(workspace).join(20)
    assert run.state == "done" and not list(evil.glob("*.jsonl"))

    job = Run(workspace / "evaluations" / "runs" / "one")
    words = ("python", "-m", "loctex.evaluate", "--run", "r", "--to", str(evil / "result.json"))
    assert str(evil) not in rebuilt(job, Command(words)).line and home_of(job) == workspace


def test_a_launcher_is_one_of_the_workspaces_own(workspace: Path) -> None:
    run = add(workspace, devices=("cluster",), launcher="cluster")
    mark = workspace / "executed"
    for launcher in ("cluster", f"sh -c 'touch {mark}; {{line}}'"):
        command = replace(jobs.command_of(run), launcher=launcher)
        run.command_file.write_text(command.to_json())
        with pytest.raises(ValueError, match=r"launchers\.yaml: write it there"):
            rebuilt(run, command)
    (workspace / "launchers.yaml").write_text("cluster: no-such-srun {command}")
    assert rebuilt(run, command).launched[0] == "no-such-srun", "its name stands in devices"
    watching(workspace).join(20)
    assert not mark.exists() and json.loads(run.exit_file.read_bytes())["code"] == 127


def test_a_pid_that_a_copy_brought_along_is_not_signalled(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = add(workspace)
    run.waiting_file.unlink()
    signals: list[int] = []
    monkeypatch.setattr(os, "kill", lambda pid, number: signals.append(pid))
    for lock in (run.job_lock, run.train_lock):
        lock.write_text("4242")
    run.request_stop()
    assert jobs.stopping(workspace) == [] and run.state == "stopped"
    watching(workspace).join(20)
    assert signals == [] and signal.SIGTERM
