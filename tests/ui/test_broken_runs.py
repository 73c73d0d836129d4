"""One unreadable file in one run: a row says so; Train, Start, Inspect and Compare go on."""

from pathlib import Path

import pytest

from loctex import settings
from loctex.jobs import provenance
from loctex.jobs import queue as jobs
from loctex.jobs.command import Command
from loctex.jobs.run import Run
from loctex.settings import presets
from tests.loctex.torn import FILES, TEARS, copy, tear
from ui.train import compare, devices, forecast, run_facts, start
from ui.train import film_frames as film
from ui.train.run_page import RunPage
from ui.train.tab import Dashboard, newest
from ui.viewing import models
from ui.workspace import Workspace


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A stopped run with all its files and two checkpoints; none of them was trained."""
    run = Run(tmp_path_factory.mktemp("template") / "run")
    run.path.mkdir()
    run.settings_file.write_text(settings.dump(presets.TINY))
    run.command_file.write_text(
        Command(("python", "-m", "loctex.train", "--preset", "tiny"), submitted=5.0).to_json()
    )
    run.starts_file.touch()
    provenance.record(run, [])
    for step in range(1, 9):
        run.log(step, loss=1 / step, pairs_per_second=10.0)
    run.film_file.write_text('{"pictures": [], "grid": [1, 1]}\n')
    run.remarks_file.write_text('{"star": true, "note": "mine"}')
    run.log_file.write_text("$ true\nstep 1\n")
    run.exit_file.write_text('{"code": 1, "time": 1.0}')
    run.train_lock.write_text("123")
    for step in (4, 8):
        folder = run.checkpoints / f"step-{step:08d}"
        folder.mkdir(parents=True)
        (folder / "config.json").write_text("{}")
    (run.path / "best").symlink_to("checkpoints/step-00000004")
    (run.path / "last").symlink_to("checkpoints/step-00000008")
    return run.path


@pytest.fixture
def workspace(tmp_path: Path, template: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    monkeypatch.setattr(jobs, "ensure_watcher", lambda workspace: None)
    opened = Workspace(tmp_path)
    copy(template, opened.runs_dir / "good")
    yield opened
    opened.store.close()


def page_of(workspace: Workspace) -> RunPage:
    page = RunPage.__new__(RunPage)
    page.workspace = workspace
    return page


def test_every_page_shows_the_good_run_whatever_is_torn_in_others(
    workspace: Workspace, template: Path
) -> None:
    names = ["good"]
    for file in FILES:
        for how in TEARS:
            names.append(f"{file}-{how}")
            tear(copy(template, workspace.runs_dir / names[-1]), file, how)

    runs = workspace.runs()
    assert {run.name for run in runs} == {run.name for run in jobs.all_runs(workspace.root)}
    assert len(runs) == len(names) == 1 + len(FILES) * len(TEARS) and newest(workspace) in names
    dashboard, page = Dashboard(workspace), page_of(workspace)
    for name in names:
        now = dashboard.look(name, names[:6], page)
        assert now["runs"].count("data-run=") == len(names)
        assert f"<h2>{name}</h2>" in now["status"] and now["actions"][0] == name
        assert dashboard.curves(name)["run"] == name
        assert film.film(workspace.run(name))["run"] == name
    assert "step 4" in str(run_facts.checkpoints(workspace.run("good")))

    table = compare.table(runs, [])
    assert len(table["rows"]) == len(names)
    assert next(row for row in table["rows"] if row["name"] == "good")["note"] == "mine"
    labels = [label for label, _ in models.checkpoints(workspace)]
    good = [label for label in labels if label.startswith("good ")]
    assert good == ["good · best", "good · last"]
    assert len(labels) == 2 * len(names)
    assert len(start.starts_from(workspace)) == len(names) + 2
    assert devices.available(runs)[2] is not None
    assert forecast.pace(presets.TINY, runs, has_gpu=False).is_same
    assert start.next_name(workspace, "good") == "good-1"


@pytest.mark.parametrize("how", ["half", "nuls", "list", "other-version", "folder"])
@pytest.mark.parametrize("file", ["settings.yaml", "command.json", "starts.jsonl", "exit.json"])
def test_a_broken_run_is_a_row_that_says_so(
    workspace: Workspace, template: Path, file: str, how: str
) -> None:
    broken = copy(template, workspace.runs_dir / "broken")
    if (file, how) == ("settings.yaml", "half"):  # half a YAML may be a whole one
        how = "no-text"
    tear(broken, file, how)
    now = Dashboard(workspace).look("broken", [], page_of(workspace))
    rows = now["runs"].split("<button")
    assert [f"{file} cannot be read" in row for row in rows if "data-run='broken'" in row] == [True]
    assert [f"{file} cannot be read" in row for row in rows if "data-run='good'" in row] == [False]
    assert f"<b>{file}</b> cannot be read" in now["status"] and str(broken) in now["status"]
    assert "delete the run" in now["status"]
    assert "damaged" not in Dashboard(workspace).look("good", [], page_of(workspace))["status"]
    jobs.remove(workspace.run("broken"))
    assert [run.name for run in workspace.runs()] == ["good"]


def test_a_nul_line_in_metrics_leaves_all_others_to_be_seen(
    workspace: Workspace, template: Path
) -> None:
    broken = copy(template, workspace.runs_dir / "broken")
    tear(broken, "metrics.jsonl", "nul-line")
    dashboard = Dashboard(workspace)
    assert "1 of its last lines" in dashboard.look("broken", [], page_of(workspace))["status"]
    lines = dashboard.curves("broken")["panels"][0]["lines"]
    assert lines[0]["x"] == list(range(1, 9))


def test_checkpoints_of_any_name_are_no_error(workspace: Workspace) -> None:
    run = workspace.run("good")
    for name in ("step-abcdefgh", "step-0000000²", "step-00000012.tmp", "step-"):
        (run.checkpoints / name).mkdir()
        (run.checkpoints / name / "config.json").write_text("{}")
    (run.path / "last").unlink()
    (run.path / "last").symlink_to("last")  # a link in a circle
    assert [value for _, value in run_facts.checkpoints(run)] == ["step-00000008", "step-00000004"]
    labels = [label for label, _ in models.checkpoints(workspace)]
    assert labels == ["good · best", "good · step 8"]


def test_a_broken_command_never_keeps_others_from_starting(
    workspace: Workspace, template: Path
) -> None:
    tear(copy(template, workspace.runs_dir / "broken"), "command.json", "half")
    run = Run(workspace.runs_dir / "new")
    assert jobs.submit(workspace.root, run, Command(("true",)), "", "token").state == "waiting"
    assert jobs.find(workspace.root, "token").name == "new"
    assert [one.name for one in jobs.queue(workspace.root)] == ["new"]
