"""One unreadable file in one run: that run says so, the queue and its watcher go on."""

import json
from pathlib import Path

import pytest

from loctex.jobs import damage, provenance, watcher
from loctex.jobs import queue as jobs
from loctex.jobs.command import Command, training
from loctex.jobs.run import Run, parse_row
from loctex.records.files import holder
from tests.loctex.stand_ins import stand_in
from tests.loctex.torn import FILES, TEARS, tear


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Nothing is started but by hand, and the watcher looks often."""
    monkeypatch.setattr(jobs, "ensure_watcher", lambda workspace: None)
    monkeypatch.setattr(watcher, "TICK", 0.002)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "stand-ins"))
    (tmp_path / "runs").mkdir()
    return tmp_path


def add(root: Path, name: str, *script: str) -> Run:
    run = Run(root / "runs" / name)
    stand_in(root / "stand-ins", name, *(script or ("pass",)))
    command = Command(training(run.path, [], "", {}))
    jobs.submit(root, run, command, "train: {steps: 7}\n", name)
    run.log(1, loss=1.0)
    run.log(2, loss=0.5)
    return run


@pytest.mark.parametrize("how", TEARS)
def test_the_watcher_works_off_a_queue_with_broken_runs_between(root: Path, how: str) -> None:
    script = "import sys, pathlib; pathlib.Path(sys.argv[2]).write_text('ran')"
    good = [add(root, "a", script, str(root / "a ran"))]
    broken = {file: add(root, f"b-{file}") for file in FILES}
    good.append(add(root, "c", script, str(root / "c ran")))
    for file, run in broken.items():
        tear(run.path, file, how)

    assert {run.name for run in jobs.all_runs(root)} == {"a", "c", *(f"b-{f}" for f in FILES)}
    watcher.watch(root)

    assert [run.exit_code for run in good] == [0, 0]
    assert (root / "a ran").exists() and (root / "c ran").exists()
    assert jobs.queue(root) == [] and not any(run.is_live() for run in jobs.all_runs(root))
    assert broken["command.json"].exit_code == 1
    assert "cannot be read" in broken["command.json"].log_tail()[-1]
    assert {run.state for run in jobs.all_runs(root)} <= {"done", "failed", "new", "stopped"}


@pytest.mark.parametrize("how", TEARS)
@pytest.mark.parametrize("file", FILES)
def test_what_is_asked_of_all_runs_is_answered(root: Path, file: str, how: str) -> None:
    good, broken = add(root, "good"), add(root, "broken")
    tear(broken.path, file, how)
    waiting = [run.name for run in jobs.queue(root)]
    assert waiting in (["good", "broken"], ["broken", "good"], ["good"])
    is_queued = file != "waiting" or how in ("half", "nul-line")  # the rest is as if from elsewhere
    assert ("broken" in waiting) == is_queued
    assert jobs.ahead(root, good) == [name for name in waiting[: waiting.index("good")]]
    assert jobs.find(root, "good") == good or jobs.find(root, "good").name == "good"
    assert {run.name for run in jobs.unended(root)} >= {"good"} and jobs.stopping(root) == []
    assert broken.state in ("waiting", "new", "failed", "done", "running", "stopped")
    assert [row["step"] for row in broken.metrics()] in ([1, 2], [1], [])
    assert broken.film() == (None, []) and provenance.starts(broken) == []
    assert good.state == "waiting" and damage.unreadable(good) == {}
    assert add(root, "another").state == "waiting"  # a start beside it


def test_a_broken_run_says_which_file_and_can_be_deleted(root: Path) -> None:
    run = add(root, "broken")
    run.waiting_file.unlink()
    run.exit_file.write_text('{"code": 1}')
    run.starts_file.write_bytes(b'{"time": 1}\n')
    assert set(damage.unreadable(run)) == {"starts.jsonl"}
    for file in ("settings.yaml", "command.json", "metrics.jsonl", "exit.json"):
        tear(run.path, file, "nuls" if file != "metrics.jsonl" else "nul-line")
    problems = damage.unreadable(run)
    assert set(problems) == {
        "settings.yaml",
        "command.json",
        "starts.jsonl",
        "exit.json",
        "metrics.jsonl",
    }
    assert "1 of its last lines" in problems["metrics.jsonl"] and len(run.metrics()) == 2
    with pytest.raises(ValueError, match="command.json cannot be read .* resume it by hand"):
        jobs.command_of(run)
    jobs.remove(run)
    assert jobs.all_runs(root) == []


def test_settings_of_another_version_are_named(root: Path) -> None:
    run = add(root, "newer")
    run.settings_file.write_text("train: {steps: 7, warp: 9}\n")
    assert "warp" in damage.unreadable(run)["settings.yaml"]
    record = json.loads(run.command_file.read_bytes()) | {"warp": 9}
    run.command_file.write_text(json.dumps(record))
    assert "'warp', which this version does not know" in damage.unreadable(run)["command.json"]


def test_lines_that_cannot_be_read_are_cut_with_the_rest(root: Path) -> None:
    run = add(root, "run")
    with open(run.metrics_file, "ab") as file:
        file.write(b'\0\0\0\n{"step": 3, "time": 1.0}\n{"step"')
    assert [row["step"] for row in run.metrics()] == [1, 2, 3]
    run.cut_back(3)
    assert run.metrics_file.read_bytes().count(b"\n") == 3
    assert [row["step"] for row in run.metrics()] == [1, 2, 3]


@pytest.mark.parametrize(
    ("line", "row"),
    [
        (b'{"step": 1, "time": 2.0, "loss": null}', {"step": 1, "time": 2.0, "loss": None}),
        (b'{"step": 1, "loss": "x", "more": [1]}', {"step": 1, "time": 0.0}),
        (b'{"step": true, "time": 2.0}', None),
        (b'{"step": 1' + b"0" * 400 + b"}", None),
        (b"[" * 100_000, None),
        (b"null", None),
    ],
)
def test_a_line_of_metrics_holds_numbers(line: bytes, row: dict | None) -> None:
    assert parse_row(line) == row


@pytest.mark.parametrize("text", ["0", "-1", "", "\0\0", "9" * 30, "4x"])
def test_a_torn_lock_names_no_process_and_no_group_of_them(tmp_path: Path, text: str) -> None:
    (tmp_path / "lock").write_text(text)
    assert holder(tmp_path / "lock") is None
