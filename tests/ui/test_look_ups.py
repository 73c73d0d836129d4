"""What a browser names is looked up among what exists: no name leads out of its folder."""

import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gradio as gr
import pytest

from loctex.jobs import queue as jobs
from loctex.jobs.command import Command
from loctex.jobs.run import Run
from ui.evaluate.tab import EvaluateTab
from ui.export import exports
from ui.export.tab import ExportTab
from ui.guard import access
from ui.inspect import tab as inspect
from ui.train import compare
from ui.train.new_run import NewRun
from ui.train.run_page import RunPage
from ui.train.start import RunRequest, like, make_plan
from ui.train.tab import Dashboard
from ui.viewing import look, pictures, survey
from ui.workspace import Workspace, look_up

ROOT = Path(__file__).parents[2]
HOSTILE = [
    "../../victim",
    "../images",
    "../runs/mine",
    ".",
    "..",
    "",
    "/etc",
    "mine/",
    "mine/.",
    "mine/../mine",
    "mine/checkpoints",
    ".hidden",
    "mine\0",
    "*",
    "x" * 5000,
    None,
    7,
    ["mine"],
    {"name": "mine"},
]
REQUEST = SimpleNamespace(username=None)


@pytest.fixture
def workspace(tmp_path: Path) -> Any:
    """A workspace with one run, one snapshot and one job, and a victim beside it."""
    for folder in (tmp_path / "victim", tmp_path / "workspace" / "runs" / "mine"):
        (folder / "checkpoints" / "step-00000002").mkdir(parents=True)
        (folder / "remarks.json").write_text('{"note": "a secret", "star": true}')
        (folder / "settings.yaml").write_text("train: {steps: 7}\n")
        (folder / "result.json").write_text("{}")
        (folder / "config.json").write_text("{}")
    (tmp_path / "workspace" / "runs" / ".hidden").mkdir()
    frozen = tmp_path / "workspace" / "snapshots" / "scenes"
    frozen.mkdir(parents=True)
    (frozen / "snapshot.json").write_text('{"hash": "x", "splits": {}}')
    (tmp_path / "workspace" / "evaluations" / "runs" / "one").mkdir(parents=True)
    opened = Workspace(tmp_path / "workspace")
    run = opened.run("mine")
    for name in ("best", "last"):
        (run.path / name).symlink_to("checkpoints/step-00000002")
    yield opened
    opened.store.close()


def without_components(kind: type, workspace: Workspace, **values: Any) -> Any:
    """A tab whose functions are called, without its components."""
    tab = kind.__new__(kind)
    vars(tab).update(workspace=workspace, **values)
    return tab


def everything_below(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file() and "studio.db" not in path.name)
    return {str(path): path.read_bytes() for path in files}


def test_what_exists_is_found(workspace: Workspace) -> None:
    mine = workspace.runs_dir / "mine"
    assert workspace.run("mine").path == mine
    assert workspace.snapshot("scenes") == workspace.snapshots_dir / "scenes"
    for name in ("best", "last", "checkpoints/step-00000002"):
        assert workspace.checkpoint(str(mine / name)) == mine / name


@pytest.mark.parametrize("name", HOSTILE, ids=lambda name: repr(name)[:16])
def test_no_name_leads_to_a_folder_that_is_none_of_the_list(
    workspace: Workspace, name: Any
) -> None:
    for find in (workspace.run, workspace.snapshot):
        with pytest.raises(ValueError, match="choose one from the list"):
            find(name)
    with pytest.raises(ValueError, match="There is no evaluation .* choose one from the list"):
        look_up(workspace.root / "evaluations" / "runs", name, "evaluation")
    best = workspace.runs_dir / "mine" / "best"
    for folder in (name, f"{workspace.runs_dir}/{name}/best", f"{best.parent}/{name}"):
        if Path(str(folder)) == best:  # mine//best is another spelling of what exists
            continue
        with pytest.raises(ValueError, match="from the list"):
            workspace.checkpoint(folder)


@pytest.mark.parametrize("name", HOSTILE, ids=lambda name: repr(name)[:16])
def test_no_event_deletes_writes_or_reads_beyond_the_runs(
    workspace: Workspace, name: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "ensure_watcher", lambda workspace: None)
    before = everything_below(tmp_path)
    page = without_components(RunPage, workspace)
    for action in (
        jobs.remove,
        lambda run: jobs.stop(workspace.root, run),
        lambda run: jobs.resume(workspace.root, run),
        lambda run: compare.remark(run, note="x"),
        lambda run: page.train_on(run, 100),
    ):
        with pytest.raises(gr.Error, match="There is no run"):
            page.doing(action)(REQUEST, name)
    with pytest.raises(gr.Error, match="There is no run"):
        without_components(NewRun, workspace).copy_of(name)
    with pytest.raises(ValueError, match="There is no run"):
        Dashboard(workspace).curves(name)
    job_tab = without_components(EvaluateTab, workspace, root=workspace.root / "evaluations")
    with pytest.raises(gr.Error, match="There is no evaluation"):
        job_tab._stop(name)
    assert everything_below(tmp_path) == before and (tmp_path / "victim").is_dir()


def test_names_that_are_compared_are_looked_up(workspace: Workspace) -> None:
    names = [name for name in HOSTILE if isinstance(name, str)]
    assert [one.run.name for one in Dashboard(workspace).picked([*names, "mine"])] == ["mine"]


def test_a_reviewer_reads_no_remarks_beyond_the_runs(workspace: Workspace) -> None:
    from ui.train.tab import TrainTab

    tab = TrainTab.__new__(TrainTab)
    parts = dict.fromkeys(
        ("view_state", "start_page", "compare_page", "one_page", "side", "comparing", "runs"), None
    )
    tab.workspace, tab.dashboard = workspace, Dashboard(workspace)
    run_page = without_components(RunPage, workspace, note="note")
    tab.run = SimpleNamespace(
        **dict.fromkeys(("log", "status", "command", "origin", "curves", "film")), note="note"
    )
    tab.run.facts, tab.run.actions = lambda run: {}, run_page.actions
    tab.table = tab.overlay = None
    vars(tab).update({name: name for name in parts})
    assert tab._look("mine", {}, [])["note"] == "a secret"
    for name in ("../../victim", "../runs/mine", "."):
        assert tab._look(name, {}, [])["note"] == ""


@pytest.mark.parametrize("name", ["../../victim", "../runs/mine", ".", "/etc"])
def test_a_model_or_a_snapshot_of_a_question_is_one_of_the_lists(
    workspace: Workspace, name: str, tmp_path: Path
) -> None:
    model = str(workspace.runs_dir / "mine" / "best")
    outside = [str(tmp_path / "victim" / "checkpoints"), str(workspace.runs_dir / name / "best")]
    evaluation = without_components(EvaluateTab, workspace)
    export = without_components(ExportTab, workspace)
    models = SimpleNamespace(look=lambda *_: pytest.fail("a model was read"))
    item = SimpleNamespace()
    for folder in outside:
        with pytest.raises(ValueError, match="from the list"):
            evaluation.plan("labels", folder, [], str(tmp_path), "", 1, True, None, None)
        with pytest.raises(ValueError, match="from the list"):
            export.plan(folder, "timm")
        with pytest.raises(ValueError, match="from the list"):
            survey.making(workspace, folder, "snapshot/scenes/val")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(look, "load_item", lambda *_: (None, None))
            with pytest.raises(ValueError, match="from the list"):
                look.look(workspace, models, folder, item, "a dog")
    with pytest.raises(ValueError, match="There is no run"):
        evaluation.plan("labels", model, [f"x/{name}/.."], str(tmp_path), "", 1, True, None, None)
    for source in ("snapshot/../val", "snapshot/./val", "snapshot/gone/val"):
        with pytest.raises(ValueError, match="There is no snapshot"):
            pictures.open_split(workspace, source)
        with pytest.raises(ValueError, match="There is no snapshot"):
            survey.making(workspace, model, source)
    with pytest.raises(ValueError, match="There is no format"):
        exports.command(workspace, model, "../../x")


def test_a_plan_takes_snapshots_and_collections_that_exist(workspace: Workspace) -> None:
    for picked in ("snapshot:../../victim", "snapshot:.", "collection:../x", "collection:gone"):
        with pytest.raises(ValueError, match="choose"):
            make_plan(workspace, RunRequest((picked,), name="new"))
    with pytest.raises(ValueError, match="Name the run"):
        make_plan(workspace, RunRequest(("snapshot:scenes",), name="../../x"))


def test_settings_are_read_of_runs_only(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "ui.train.run_facts.settings_of", lambda run: pytest.fail(f"{run} was read")
    )
    assert like(workspace, str(tmp_path / "victim"), [1, 2]) == [1, 2]


def test_a_checkpoint_to_resume_from_is_one_of_the_run(
    workspace: Workspace, tmp_path: Path
) -> None:
    run = workspace.run("mine")
    run.result_file.unlink()
    run.command_file.write_text(
        Command(("python", "-m", "loctex.train", "--run", str(run.path))).to_json()
    )
    run.request_stop()
    assert run.state == "stopped"
    for name in ("../../../victim", ".", "/etc", "step-4/../../x"):
        with pytest.raises(ValueError, match="has no checkpoint"):
            jobs.resume(workspace.root, run, name)
    assert not run.waiting_file.exists() and "--resume" not in run.command_file.read_text()


def test_a_file_is_one_of_the_uploads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    uploads = tmp_path / "uploads"
    (uploads / "hash").mkdir(parents=True)
    (uploads / "hash" / "own.jpg").write_text("x")
    (uploads / "hash" / "link.jpg").symlink_to("/etc/passwd")
    monkeypatch.setattr(access, "get_upload_folder", lambda: str(uploads))
    own = uploads / "hash" / "own.jpg"
    assert access.uploaded(str(own)) == own
    event = SimpleNamespace(_data={"path": str(own)})
    assert inspect._dropped(event)[0].path == own
    for path in (
        "/etc/passwd",
        f"{uploads}/../uploads/../x",
        str(uploads),
        f"{uploads}/hash/link.jpg",
    ):
        with pytest.raises(ValueError, match="not uploaded here; choose it again"):
            access.uploaded(path)
        with pytest.raises(gr.Error, match="not uploaded here"):
            inspect._dropped(SimpleNamespace(_data={"path": path}))


def test_no_page_joins_a_name_to_a_folder_of_the_workspace() -> None:
    joined = re.compile(r"(runs_dir|snapshots_dir|voices_dir|images_dir|\"runs\") /")
    found = [
        f"{path.name}: {line.strip()}"
        for path in sorted((ROOT / "ui").rglob("*.py"))
        for line in path.read_text().splitlines()
        if joined.search(line)
    ]
    assert found == [  # names of new ones, with nothing in them that leads elsewhere
        'questions.py: while (folder / "runs" / f"{stem}-{number}").exists():',
        'questions.py: return folder / "runs" / f"{stem}-{number}"',
        "start.py: run = Run(workspace.runs_dir / name)",
    ]


def test_a_run_is_deleted_by_its_name_alone(workspace: Workspace, tmp_path: Path) -> None:
    page = without_components(RunPage, workspace)
    page.doing(jobs.remove)(REQUEST, "mine")
    assert not (workspace.runs_dir / "mine").exists() and Run(tmp_path / "victim").path.is_dir()
    assert json.loads((tmp_path / "victim" / "remarks.json").read_bytes())["note"] == "a secret"
