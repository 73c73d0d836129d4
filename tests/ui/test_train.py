"""Train without a browser: what is planned, started and shown."""

import json
import os
import shlex
import shutil
import subprocess
import time
from collections.abc import Callable

import numpy as np
import pytest

from data_tools.exchange.importing import import_file
from loctex import settings
from loctex.jobs import queue as jobs
from loctex.jobs.command import short
from loctex.jobs.run import Run
from loctex.records.snapshot import Snapshot
from loctex.settings.presets import PRESETS
from ui import form
from ui.train import run_facts
from ui.train.curves import LIMIT, History, chart, thin
from ui.train.run_page import RunPage
from ui.train.start import (
    RunRequest,
    choices,
    like,
    make_plan,
    next_name,
    picked_from,
    start,
    starts_from,
)
from ui.train.tab import Dashboard, newest
from ui.workspace import Workspace


@pytest.fixture(scope="module")
def filled(tmp_path_factory, scenes):
    """The folder of a workspace that holds 40 scenes."""
    made = Workspace(tmp_path_factory.mktemp("filled"))
    import_file(made.store, scenes / "narratives.jsonl", scenes / "images", "Demo scenes")
    made.store.close()
    return made.root


@pytest.fixture
def workspace(tmp_path, filled):
    """A copy of it."""
    shutil.copytree(filled, tmp_path, dirs_exist_ok=True)
    result = Workspace(tmp_path)
    yield result
    result.store.close()


@pytest.fixture
def still(monkeypatch):
    """Nothing is started."""
    monkeypatch.setattr(jobs, "ensure_watcher", lambda workspace: None)


class Page(RunPage):
    """A run's page without its components."""

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace


def wait_for(condition: Callable[[], object], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come true"
        time.sleep(0.05)


def plan(
    workspace: Workspace,
    picked=("collection:Demo scenes",),
    name="one",
    takes=(),
    launcher="",
    **changes,
):
    shown = dict(zip(form.items(), form.values(PRESETS["tiny"]), strict=True)) | changes
    wish = RunRequest(tuple(picked), "", "tiny", name, takes, launcher, tuple(shown.values()))
    return make_plan(workspace, wish)


def changes(dashboard: Dashboard, selected: str, seen: dict, page=None) -> tuple[dict, dict]:
    """What a look shows that was not seen, and all of it."""
    now = dashboard.look(selected, [], page)
    return {key: value for key, value in now.items() if seen.get(key) != value}, now


# --- starting


def test_collections_and_snapshots_are_offered_with_their_counts(workspace, still):
    workspace.store.add_collection("Empty")
    assert choices(workspace) == [
        ("Demo scenes · 40 captions, 40 with traces", "collection:Demo scenes")
    ]
    start(plan(workspace), "click")
    label = "Demo-scenes-1 · frozen, 40 images, 40 captions, 40 with traces"
    assert choices(workspace)[1] == (label, "snapshot:Demo-scenes-1")


def test_a_start_freezes_and_writes_all_that_was_chosen(workspace, still):
    wanted = plan(workspace, **{"train.steps": 3})
    run = start(wanted, "click")
    assert (run.name, run.state) == ("one", "waiting")
    command = jobs.read_command(run)
    assert wanted.lines().splitlines()[1] == jobs.line(run)
    assert command.words[-2:] == ("--train.steps", "3")
    written = settings.load(run.settings_file)
    frozen = workspace.snapshots_dir / "Demo-scenes-1"
    assert written.data.snapshots == (str(frozen),) and written.train.steps == 3
    assert json.loads((frozen / "snapshot.json").read_bytes())["splits"]["train"]["images"] == 32


def test_an_unchanged_collection_keeps_its_snapshot(workspace, still):
    start(plan(workspace), "1")
    run = start(plan(workspace, name="two"), "2")
    assert [path.name for path in workspace.snapshots()] == ["Demo-scenes-1"]
    assert "Demo-scenes-1" in jobs.line(run)


def test_the_preview_names_the_snapshot_that_the_run_uses(workspace, still):
    names = []
    for number in range(3):
        wished = plan(workspace, name=f"run-{number}")
        ((_, previewed),) = wished.collections
        names.append(previewed.name)
        run = start(wished, f"token {number}")
        assert f"{previewed.name} " in jobs.line(run)
        assert "data_tools.snapshot" not in plan(workspace, name="after").lines()
        if number == 1:
            (one, *_) = workspace.store.narratives(workspace.store.collections()[0].id)
            workspace.store.trash.put_narrative(one.id, 7)
            assert "data_tools.snapshot" in plan(workspace, name="changed").lines()
    assert names == ["Demo-scenes-1", "Demo-scenes-1", "Demo-scenes-2"]


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"picked": ()}, "Choose what to learn from"),
        ({"name": "../x"}, "Name the run with letters"),
        ({"name": " "}, "Name the run with letters"),
        ({"train.steps": 0}, "train.steps must lie in"),
    ],
)
def test_a_plan_says_what_to_mend(workspace, change, problem):
    with pytest.raises(ValueError, match=problem):
        plan(workspace, **change)


def test_a_taken_name_is_refused_and_a_free_one_offered(workspace, still):
    assert next_name(workspace, "tiny") == "tiny-1"
    start(plan(workspace, name="tiny-1"), "1")
    assert next_name(workspace, "tiny") == "tiny-2"
    with pytest.raises(ValueError, match="A run named tiny-1 exists"):
        plan(workspace, name="tiny-1")


def test_the_lines_shown_typed_in_a_shell_give_the_same_run(workspace, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    small = {"train.steps": 3, "train.batch_size": 8, "train.log_every": 1, "data.image_size": 64}
    wanted = plan(workspace, **small)
    by_hand = wanted.lines().replace("runs/one", "runs/by-hand")
    run = start(wanted, "click")
    wait_for(lambda: run.state in ("done", "failed"))
    assert run.state == "done", run.log_tail(20)
    # the collection is frozen already: the first line would refuse to write over it
    subprocess.run(
        by_hand.splitlines()[1],
        shell=True,
        check=True,
        cwd=jobs.ROOT,
        capture_output=True,
        env=os.environ,
    )
    typed = Run(workspace.runs_dir / "by-hand")
    losses = [[row["loss"] for row in r.metrics() if "loss" in row] for r in (run, typed)]
    assert len(losses[0]) == 3 and losses[0] == losses[1]
    assert typed.settings_file.read_text() == run.settings_file.read_text()
    assert shlex.split(by_hand.splitlines()[1])[1:3] == ["-m", "loctex.train"]


def test_the_first_twenty_losses_of_the_copied_command_are_those_of_the_job(workspace, monkeypatch):
    """Both lines as they are shown, typed in a shell before the job is started."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    small = {
        "train.steps": 20,
        "train.batch_size": 8,
        "train.log_every": 1,
        "data.image_size": 64,
        "train.film_every": 0,
    }
    wanted = plan(workspace, **small)
    for line in wanted.lines().replace("runs/one", "runs/typed").splitlines():
        subprocess.run(line, shell=True, check=True, cwd=jobs.ROOT, capture_output=True)
    run = start(plan(workspace, **small), "click")
    wait_for(lambda: run.state in ("done", "failed"))
    assert run.state == "done", run.log_tail(20)
    typed = Run(workspace.runs_dir / "typed")
    losses = [[row["loss"] for row in r.metrics() if "loss" in row] for r in (run, typed)]
    assert len(losses[0]) == 20 and losses[0] == losses[1]
    assert typed.settings_file.read_text() == run.settings_file.read_text()


def test_the_freeze_line_names_the_database_without_its_password(workspace):
    assert "--database" not in plan(workspace).lines()
    workspace.database = "postgresql://ann:secret@db:5432/studio"
    line = plan(workspace).lines().splitlines()[0]
    assert "--database postgresql://ann@db:5432/studio --collection" in line
    workspace.database = "sqlite:////data/other.db"
    assert "--database sqlite:////data/other.db" in plan(workspace).lines()


def test_a_start_remembers_what_the_snapshot_was_and_what_it_takes(workspace, still):
    run = start(plan(workspace, takes=("GPU-1",)), "click")
    command = jobs.read_command(run)
    frozen = workspace.snapshots_dir / "Demo-scenes-1"
    assert command.snapshots == {"snapshots/Demo-scenes-1": Snapshot.open(frozen).hash}
    assert jobs.line(run).startswith("env CUDA_VISIBLE_DEVICES=GPU-1 ")
    cpu = start(plan(workspace, name="two", takes=("cpu",)), "another")
    assert jobs.read_command(cpu).words[-2:] == ("--train.device", "cpu")
    assert settings.load(cpu.settings_file).train.device == "cpu"


# --- what it starts from


def learned(workspace: Workspace, name: str, **model) -> Run:
    """A run with a checkpoint, of a model of this shape."""
    run = Run(workspace.runs_dir / name)
    (run.path / "best").mkdir(parents=True)
    (run.path / "best" / "config.json").write_text("{}")
    chosen = settings.with_values(PRESETS["tiny"], {"model": model, "data": {"image_size": 64}})
    run.settings_file.write_text(settings.dump(chosen))
    return run


def test_what_an_earlier_run_learned_is_offered_beside_the_usual_starts(workspace):
    assert [value for _, value in starts_from(workspace)] == ["timm", "random"]
    run = learned(workspace, "first", text_width=64)
    Run(workspace.runs_dir / "failed").request_stop()
    init = short(run.path)
    assert [value for _, value in starts_from(workspace)] == ["timm", "random", init]
    shown = like(workspace, init, form.values(PRESETS["tiny"]))
    chosen = form.read(shown, PRESETS["tiny"])
    assert (chosen.model.text_width, chosen.data.image_size) == (64, 64)
    assert chosen.train == PRESETS["tiny"].train
    unchanged = form.values(PRESETS["tiny"])
    assert like(workspace, "random", unchanged) == unchanged
    assert like(workspace, "/somewhere/else", unchanged) == unchanged


def test_snapshots_of_an_earlier_run_are_ticked_or_named(workspace, still):
    run = start(plan(workspace), "click")
    own = settings.load(run.settings_file).data.snapshots[0]
    assert picked_from(workspace, [own, "/data/other=2"]) == (
        ["snapshot:Demo-scenes-1"],
        "/data/other=2",
    )


# --- curves


def test_thinning_keeps_the_ends_and_every_spike():
    steps, values = np.arange(100_000.0), np.sin(np.arange(100_000.0) / 5000)
    values[[7, 77_777]] = 9, -9
    x, y = thin(steps, values, LIMIT)
    assert 500 < len(x) <= LIMIT
    assert (x[0], x[-1]) == (0, 99_999) and x == sorted(set(x))
    assert (max(y), min(y)) == (9, -9)
    assert thin(steps[:10], values[:10], LIMIT)[0] == list(range(10))


def test_a_history_reads_on_from_where_it_was_and_notices_a_resume(tmp_path):
    run = Run(tmp_path)
    history = History(run)
    assert history.read() == 0
    for step in range(4):
        run.log(step, loss=step, data_wait=float("nan"))
    size = history.read()
    assert size == run.metrics_file.stat().st_size == history.read()
    assert history.line("loss") == ([0, 1, 2, 3], [0, 1, 2, 3])
    assert "data_wait" not in history.lines
    run.cut_back(1)
    for step in (2, 3, 4, 5):
        run.log(step, loss=10 * step)
    history.read()
    assert history.line("loss") == ([0, 1, 2, 3, 4, 5], [0, 1, 20, 30, 40, 50])


def test_the_chart_holds_the_panels_that_have_lines(tmp_path):
    run = Run(tmp_path / "one")
    run.log(20, loss=2.0, loss_contrastive=1.0, pairs_per_second=500)
    run.log(20, val_pointing_region=0.5, val_pointing_region_chance=0.2)
    history = History(run)
    history.read()
    panels = chart(history, 100)["panels"]
    assert [panel["title"] for panel in panels] == ["Loss", "Pointing", "Speed"]
    assert [line["is_chance"] for line in panels[1]["lines"]] == [False, True]


# --- what is shown


@pytest.mark.timed
def test_a_tick_with_ten_long_runs_costs_little(workspace, still):
    for number in range(10):
        run = Run(workspace.runs_dir / f"long-{number}")
        run.log(0, loss=1.0, data_wait=0.1)
        rows = (
            f'{{"step": {s}, "time": {s}, "loss": {1 + s % 7}, "data_wait": 0.1}}\n'
            for s in range(100_000)
        )
        run.metrics_file.write_text("".join(rows))
    dashboard, selected, page = Dashboard(workspace), newest(workspace), Page(workspace)
    _, seen = changes(dashboard, selected, {}, page)
    dashboard.curves(selected)

    def tick(step: int) -> float:
        Run(workspace.runs_dir / selected).log(step, loss=1.0, data_wait=0.1)
        begin = time.thread_time()  # ours alone, however busy the machine
        jobs.ensure_watcher(workspace.root)
        changed, _ = changes(dashboard, selected, seen, page)
        assert "curves" in changed
        dashboard.curves(selected)
        return time.thread_time() - begin

    cost = np.median([tick(100_000 + step) for step in range(9)])
    print(f"a tick: {1000 * cost:.1f} ms of processor time")
    assert cost < 0.02
    assert len(dashboard.curves(selected)["panels"][0]["lines"][0]["x"]) <= LIMIT


def test_nothing_is_sent_when_nothing_changed(workspace, still):
    run = start(plan(workspace), "click")
    dashboard, page = Dashboard(workspace), Page(workspace)
    first, seen = changes(dashboard, "one", {}, page)
    assert {"runs", "status", "log", "command", "actions", "curves", "film"} <= set(first)
    assert changes(dashboard, "one", seen, page)[0] == {}
    run.log(1, loss=2.0)
    assert {"status", "curves"} >= set(changes(dashboard, "one", seen, page)[0]) - {"runs"}


def test_what_is_shown_of_a_run_is_escaped_and_true(workspace, still):
    run = start(plan(workspace, name="one"), "click")
    other = start(plan(workspace, name="two"), "another")
    assert "It starts after one." in run_facts.status(other, jobs.ahead(workspace.root, other))
    with run.hold():
        assert "Starting: loading" in run_facts.status(run)
        now, steps = time.time(), PRESETS["tiny"].train.steps
        rows = [{"step": step, "time": now + step / 10, "loss": 1} for step in (0, steps // 5)]
        run.metrics_file.write_text("".join(json.dumps(row) + "\n" for row in rows))
        left = run_facts.duration(0.4 * steps // 5)
        assert f"Step {steps // 5} of {steps:,}, about {left} left" in run_facts.status(run)
        run.request_stop()
        assert "It writes a checkpoint" in run_facts.status(run)
    assert f"Stopped at step {steps // 5} of {steps:,}. Resume goes on" in run_facts.status(run)
    run.clear_stop()
    run.exit_file.write_text('{"code": 1}')
    run.log_file.write_text("$ x\nerror: <b>no trace</b>\n")
    shown = run_facts.status(run)
    assert "&lt;b&gt;no trace&lt;/b&gt;" in shown and "<b>no trace" not in shown
    run.exit_file.unlink()
    run.log(steps, val_pointing_region=0.75)
    run.finish({})
    assert "<dd>75%</dd>" in run_facts.status(run)
    assert newest(workspace) == "two"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (40, "40 s"),
        (100, "2 min"),
        (3600, "60 min"),
        (11_100, "3 h 5 min"),
        (200_000, "2 days"),
    ],
)
def test_durations_are_said_as_people_say_them(seconds, text):
    assert run_facts.duration(seconds) == text


def test_a_score_stands_beside_what_always_pointing_at_the_middle_would_have(workspace):
    run = learned(workspace, "middle")
    values = {"val_pointing_region": 0.52, "val_pointing_region_center": 0.48}
    run.log(8, **values)
    shown = run_facts._scores(run)
    assert "<dd>52%<small>always the middle: 48%</small></dd>" in shown


def test_while_features_are_computed_the_page_says_how_many_and_how_long(workspace):
    run = Run(workspace.runs_dir / "frozen")
    run.path.mkdir(parents=True)
    facts = {"count": 300, "total": 400, "missing": 200, "began": time.time() - 50}
    run.features_file.write_text(json.dumps(facts))
    features, left = run_facts._features(run)
    assert features == (300, 400) and left == pytest.approx(50, abs=2)  # 100 new ones in 50 s
    progress = run_facts.RunProgress("running", 0, 600, None, left, features)
    text = run_facts.sentence(progress)
    assert text.startswith("Looking at each image once: 300 of 400, about 50 s left")
    run.features_file.write_text("{")
    assert run_facts._features(run) == (None, None)
