"""What bdc576d left on disk is read, gone on with and restored by today's code; see old/README."""

import json
import shutil
import tarfile
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open

from data_tools import backup
from loctex import settings
from loctex.jobs import queue as jobs
from loctex.jobs.command import Command
from loctex.jobs.run import Run
from loctex.model.config import LocTexConfig
from loctex.records.images import decode_image
from loctex.records.snapshot import Snapshot
from loctex.scoring.predictor import Predictor
from loctex.settings import Settings
from loctex.settings.presets import PRESETS
from loctex.train import main as train
from loctex.training.checkpoint import load_state
from loctex.training.loop import train as run_training
from tests.loctex.small import small
from ui.evaluate import questions
from ui.workspace import Workspace

OLD = Path(__file__).parent / "old"
SCORES = json.loads((OLD / "scores.json").read_bytes())
KEYS = json.loads((OLD / "keys.json").read_bytes())
SIZES = {  # as in old/make.py
    "model__text_width": 16,
    "model__text_heads": 2,
    "model__embedding": 8,
    "model__attention": 8,
    "train__batch_size": 4,
    "train__checkpoint_every": 2,
    "train__evaluate_every": 4,
    "train__film_every": 0,
    "train__steps": 2,
}
EVERYTHING = SIZES | {
    "train__ema": 0.9,
    "loss__queue": 8,
    "loss__matching_weight": 1.0,
    "loss__masked_words_weight": 1.0,
    "loss__changed_captions": True,
    "loss__changed_word_weight": 1.0,
    "loss__fusion_localization_weight": 1.0,
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The old workspace, unpacked."""
    with tarfile.open(OLD / "workspace.tar.gz") as tar:
        tar.extractall(tmp_path / "old", filter="data")
    return tmp_path / "old"


def answers(run: Run, image: Path, name: str) -> dict:
    """What today's predictor says of the picture and the caption of old/scores.json."""
    predictor = Predictor.load(run.path, name, device="cpu")
    predictor.set_image(decode_image(image))
    attention = predictor.attend(SCORES["caption"])
    return {
        "score": attention.score,
        "trace": attention.trace.tolist(),
        "map_of_red": attention.maps[1].tolist(),
    }


def assert_same_answers(run: Run, image: Path) -> None:
    """Of both checkpoints, to 1e-5."""
    for name, expected in SCORES["checkpoints"].items():
        for key, value in answers(run, image, name).items():
            assert np.abs(np.array(value) - np.array(expected[key])).max() < 1e-5, (name, key)


def test_an_old_workspace_opens_with_all_that_it_held(root: Path) -> None:
    workspace = Workspace(root)
    (collection,) = workspace.store.collections()
    assert (collection.name, collection.num_images) == ("scenes", 12)
    assert collection.num_narratives == collection.num_with_trace == SCORES["num_narratives"]
    drafts = workspace.store.drafts(workspace.store.annotator("ann"))
    assert [json.loads(draft.body)["caption"] for draft in drafts] == ["half a s\u00e9ntence"]
    assert len(workspace.voices.draft("a" * 32)) == 800
    assert workspace.voices.find(f"voices/{'b' * 32}.wav") is not None
    (frozen,) = workspace.snapshots()
    assert {name: len(Snapshot.open(frozen).split(name)) for name in ("train", "val", "test")} == {
        "train": 10,
        "val": 1,
        "test": 1,
    }

    runs = {run.name: run for run in workspace.runs()}
    (job,) = jobs.all_runs(questions.root(workspace))
    assert {name: run.state for name, run in runs.items()} == {"done": "done", "queued": "stopped"}
    assert runs["done"].metrics() == SCORES["metrics"] and len(SCORES["metrics"]) > 4
    assert json.loads(runs["done"].result_file.read_bytes()) == SCORES["result"]
    assert settings.load(runs["done"].settings_file).train.steps == 6
    assert jobs.read_command(runs["queued"]).token == "queued"
    assert set(KEYS["evaluation"]) <= set(questions.result(job))
    assert_same_answers(runs["done"], workspace.store.images(collection.id)[0].path)
    workspace.store.close()


def test_an_old_run_goes_on_to_more_steps(root: Path) -> None:
    run = Run(root / "runs" / "done")
    words = ["--run", str(run.path), "--data", str(root / "snapshots" / "scenes-1")]
    train([*words, "--resume", "--train.steps", "8"])
    assert (run.path / "last").resolve().name == "step-00000008"
    rows = run.metrics()
    assert rows[: len(SCORES["metrics"])] == SCORES["metrics"] and rows[-1]["step"] == 8
    result = json.loads(run.result_file.read_bytes())
    assert result["step"] == 8 and set(KEYS["result.json"]) <= set(result)
    assert set(KEYS["metrics"]) <= {name for row in rows for name in row}
    assert set(KEYS["training.pt"]["small"]) <= set(names_in(load_state(run.path / "last")))
    files = {str(path.relative_to(run.path)) for path in run.path.rglob("*") if path.is_file()}
    renamed = {name.replace("step-00000006", "step-00000008") for name in KEYS["files"]}
    assert renamed - {"job.lock", "exit.json"} <= files  # a watcher's; this run had none


def test_an_old_backup_is_restored(root: Path, tmp_path: Path) -> None:
    to = tmp_path / "restored"
    assert backup.main(["restore", str(OLD / "backup.tar"), "--workspace", str(to)]) == 0
    old, new = Workspace(root), Workspace(to)
    assert new.store.collections() == old.store.collections()
    narratives = [
        [one.store.narrative(row.id).to_json() for row in one.store.narratives(1)]
        for one in (old, new)
    ]
    assert narratives[0] == narratives[1] and len(narratives[0]) == 12
    run = Run(to / "runs" / "done")
    assert run.state == "done" and run.metrics() == SCORES["metrics"]
    folder = run.checkpoints / SCORES["links"]["last"]
    weights = (old.root / folder.relative_to(to) / "model.safetensors").read_bytes()
    assert (folder / "model.safetensors").read_bytes() == weights
    for workspace in (old, new):
        workspace.store.close()


def names_in(state: dict) -> list[str]:
    """As in old/make.py."""
    names = []
    for name, value in state.items():
        names.append(name)
        inner = value if isinstance(value, dict) else {}
        names += [f"{name}.{key}" for key in inner if isinstance(key, str)]
    return names


def test_no_key_of_the_old_program_is_gone() -> None:
    assert set(KEYS["config"]) <= set(LocTexConfig().to_dict())
    assert set(KEYS["command"]) <= {field.name for field in fields(Command)}
    for name, sections in {"": KEYS["settings"], **KEYS["presets"]}.items():
        now = settings.to_dict(PRESETS[name] if name else Settings())
        for section, values in sections.items():
            assert {key: now[section].get(key, "gone") for key in values} == values, (name, section)


@pytest.mark.parametrize("kind", ["small", "everything"])
def test_a_new_checkpoint_has_every_tensor_of_an_old_one(
    kind: str, root: Path, tmp_path: Path
) -> None:
    run = Run(tmp_path / kind)
    values = SIZES if kind == "small" else EVERYTHING
    run_training(small(root / "snapshots" / "scenes-1", **values), run)
    with safe_open(run.path / "last" / "model.safetensors", "pt") as file:
        shapes = {name: list(file.get_slice(name).get_shape()) for name in file.keys()}
    old = KEYS["state_dict"][kind]
    assert {name: shapes.get(name, "gone") for name in old} == old and len(old) > 90
    state = load_state(run.path / "last")
    assert set(KEYS["training.pt"][kind]) <= set(names_in(state))
    assert torch.is_tensor(next(iter(state["optimizer"]["state"].values()))["exp_avg"])
    shutil.rmtree(run.path)
