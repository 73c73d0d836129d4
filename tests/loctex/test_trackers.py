"""train.report_to: the programs themselves, on this machine and without a network."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from loctex import settings
from loctex.jobs.run import Run
from loctex.settings import Settings
from loctex.training import trackers
from loctex.training.film import strip
from loctex.training.loop import train
from tests.loctex.small import small

ROOT = Path(__file__).parents[2]


def run_with(snapshot: Path, run: Run, report_to: str, **values) -> Settings:
    run_settings = small(snapshot, train__report_to=report_to, train__film_every=4, **values)
    train(run_settings, run)
    return run_settings


def test_tensorboard_reads_the_curves_by_group_and_the_films_pictures(snapshot, tmp_path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run = Run(tmp_path / "run")
    run_with(snapshot, run, "", train__tensorboard=True, train__film_pictures=2)
    events = EventAccumulator(str(run.path / "tensorboard"), {"images": 0, "scalars": 0})
    events.Reload()
    tags = events.Tags()
    assert {tag.split("/")[0] for tag in tags["scalars"]} == {"train", "val"}
    logged = [(row["step"], row["loss"]) for row in run.metrics() if "loss" in row]
    shown = [(event.step, event.value) for event in events.Scalars("train/loss")]
    assert [step for step, _ in shown] == [step for step, _ in logged] == [1, 2, 4, 6, 8]
    assert np.allclose([loss for _, loss in shown], [loss for _, loss in logged])
    assert [event.step for event in events.Scalars("val/auc")] == [4, 8]
    assert sorted(tags["images"]) == ["film/0", "film/1"]
    frames = events.Images("film/0")
    assert [frame.step for frame in frames] == [0, 4, 8]
    assert frames[0].width > frames[0].height, "a picture for each word, side by side"


@pytest.mark.slow
def test_trackio_keeps_a_run_that_goes_on_as_one_run(snapshot, tmp_path) -> None:
    """In a process of its own: where it keeps its files is settled when it is imported."""
    pytest.importorskip("trackio")
    run_settings = small(snapshot, train__report_to="trackio", train__film_every=4)
    (tmp_path / "settings.yaml").write_text(settings.dump(run_settings))
    code = f"""
import json, sys, trackio
from loctex.train import main
run = {str(tmp_path / "run")!r}
main(["--run", run, "--settings", {str(tmp_path / "settings.yaml")!r}])
main(["--run", run, "--resume", "auto", "--train.steps", "12"])
api = trackio.Api().runs("loctex")
runs = [api[number] for number in range(len(api))]
from trackio.sqlite_storage import SQLiteStorage
logs = [[one.name, SQLiteStorage.get_logs("loctex", one.name)] for one in runs]
print(json.dumps(logs, default=str))
"""
    environment = os.environ | {"TRACKIO_DIR": str(tmp_path / "trackio"), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    ((name, rows),) = json.loads(done.stdout.splitlines()[-1])
    assert name == f"run-{trackers.number_of(tmp_path / 'run')}"
    losses = [(row["step"], row["train/loss"]) for row in rows if "train/loss" in row]
    logged = [(r["step"], r["loss"]) for r in Run(tmp_path / "run").metrics() if "loss" in r]
    assert losses == logged and [step for step, _ in losses] == [1, 2, 4, 6, 8, 10, 12]
    assert [row["step"] for row in rows if "val/auc" in row] == [4, 8, 12]
    frames = [row for row in rows if "film/0" in row]
    assert [row["step"] for row in frames] == [0, 4, 8, 12]
    assert frames[0]["film/0"]["_type"] == "trackio.image"
    assert [*(tmp_path / "trackio").rglob("*.png")]


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["offline", "online"])
def test_wandb_takes_the_same_offline_and_is_left_out_without_a_network(
    snapshot, tmp_path, mode
) -> None:
    pytest.importorskip("wandb")
    run_settings = small(snapshot, train__report_to="wandb", train__film_every=4)
    (tmp_path / "settings.yaml").write_text(settings.dump(run_settings))
    words = [sys.executable, "-m", "loctex.train", "--run", str(tmp_path / "run")]
    words += ["--settings", str(tmp_path / "settings.yaml")]
    environment = os.environ | {
        "WANDB_MODE": mode,
        "HOME": str(tmp_path),
        "WANDB_API_KEY": "0" * 40,
    }
    environment |= {"WANDB_INIT_TIMEOUT": "5", "WANDB_BASE_URL": "http://127.0.0.1:9"}
    done = subprocess.run(words, env=environment, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "run" / "result.json").read_bytes())["step"] == 8
    files = [*(tmp_path / "run" / "wandb").rglob("*.wandb")]
    assert len(files) == (1 if mode == "offline" else len(files))
    assert ("is left out, training goes on" in done.stderr) == (mode == "online"), done.stderr
    if mode == "offline":
        content = files[0].read_bytes()
        assert b"train/loss" in content and b"val/auc" in content and b"film/0" in content


def test_one_that_is_not_installed_or_fails_is_a_sentence_and_changes_no_bit(
    snapshot, tmp_path, monkeypatch, caplog
) -> None:
    class Failing:
        def __init__(self, run: Run, values: dict) -> None:
            self.count = 0

        def log(self, step: int, values: dict) -> None:
            self.count += 1
            if self.count == 2:
                raise ConnectionError("no route\nto host")

        def show(self, *arguments) -> None:
            pass

        def close(self) -> None:
            raise AssertionError("it was left out before")

    monkeypatch.setitem(trackers.ADAPTERS, "wandb", Failing)
    monkeypatch.setitem(sys.modules, "trackio", None)
    plain, run = Run(tmp_path / "plain"), Run(tmp_path / "run")
    run_with(snapshot, plain, "")
    run_with(snapshot, run, "trackio, wandb")
    said = [record.getMessage() for record in caplog.records if "left out" in record.message]
    assert len(said) == 2
    assert "trackio is left out" in said[0] and "pip install trackio" in said[0]
    assert "wandb is left out, training goes on: ConnectionError: no route to host" in said[1]
    losses = [[row.get("loss") for row in r.metrics()] for r in (plain, run)]
    assert losses[0] == losses[1]


def test_only_what_was_asked_for_is_opened(snapshot, tmp_path, monkeypatch) -> None:
    opened = []
    for name in trackers.ADAPTERS:
        monkeypatch.setitem(trackers.ADAPTERS, name, lambda *_, name=name: opened.append(name))
    assert not trackers.Trackers(Run(tmp_path), small(snapshot)) and opened == []
    both = small(snapshot, train__report_to="wandb,tensorboard, wandb", train__tensorboard=True)
    trackers.Trackers(Run(tmp_path), both)
    assert opened == ["wandb", "tensorboard"]
    with pytest.raises(ValueError, match="knows tensorboard, trackio, wandb, .* got 'mlflow'"):
        small(snapshot, train__report_to="mlflow")


def test_a_strip_shows_the_image_once_a_word_and_bright_where_it_looks() -> None:
    maps = np.zeros((3, 4, 4), np.float32)
    maps[0, :, 0], maps[1, :, 3] = 1, 5
    shown = strip(np.full((60, 120, 3), 200, np.uint8), maps)
    assert shown.shape == (120, 3 * 240, 3) and shown.dtype == np.uint8
    assert shown[60, 10, 0] == 200 and shown[60, 230, 0] == 50
    assert shown[60, 250, 0] == 50 and shown[60, 470, 0] == 200
    assert (shown[:, 480:] == 50).all(), "a map of nothing"
