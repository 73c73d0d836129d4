"""Make, with the code of an older commit, what that commit leaves on disk; README.md has the words.

    cd OLD_CHECKOUT && python NEW_CHECKOUT/tests/old/make.py TO

Writes workspace.tar.gz, backup.tar, scores.json and keys.json into TO. It imports nothing of the
checkout that it lies in: the old one is the folder it is run in.
"""

import json
import shutil
import sys
import tarfile
from dataclasses import fields
from pathlib import Path

sys.path.insert(0, str(Path.cwd()))

import numpy as np
import torch
from safetensors import safe_open
from transformers import PretrainedConfig

from data_tools import backup, localized_narratives, scenes
from data_tools import snapshot as freezing
from loctex import settings
from loctex.jobs import queue as jobs
from loctex.jobs import watcher
from loctex.jobs.command import CPU, Command, training
from loctex.jobs.run import Run
from loctex.model.config import LocTexConfig
from loctex.records.images import decode_image
from loctex.scoring.predictor import Predictor
from loctex.settings import Settings, changed
from loctex.settings.presets import PRESETS
from loctex.training import loop
from loctex.training.checkpoint import load_state
from tests.loctex.small import small
from ui.evaluate import questions
from ui.workspace import Workspace

ROOT = Path("/tmp/old-workspace")
CAPTION = "a red circle above a blue square"
SIZES = {
    "model__text_width": 16,
    "model__text_heads": 2,
    "model__embedding": 8,
    "model__attention": 8,
    "train__batch_size": 4,
    "train__checkpoint_every": 2,
    "train__evaluate_every": 4,
    "train__film_every": 0,
    "train__steps": 6,
}
EVERYTHING = {  # all that a model, and a trainer's state, can hold
    "train__ema": 0.9,
    "train__steps": 2,
    "loss__queue": 8,
    "loss__matching_weight": 1.0,
    "loss__masked_words_weight": 1.0,
    "loss__changed_captions": True,
    "loss__changed_word_weight": 1.0,
    "loss__fusion_localization_weight": 1.0,
}


def main(to: Path) -> None:
    jobs.ensure_watcher = lambda workspace: None  # here it is watched by hand
    shutil.rmtree(ROOT, ignore_errors=True)

    add_recordings()
    snapshot = ROOT / "snapshots" / "scenes-1"
    freezing.main(["--workspace", str(ROOT), "--collection", "scenes", "--to", str(snapshot)])
    run = submit("done", small(snapshot, **SIZES))
    watcher.watch(ROOT)
    assert run.state == "done", run.log_tail()
    add_evaluation(snapshot)
    submit("queued", small(snapshot, **SIZES))

    (to / "backup.tar").unlink(missing_ok=True)
    backup.save(ROOT, to / "backup.tar")
    with tarfile.open(to / "workspace.tar.gz", "w:gz", compresslevel=9) as tar:
        tar.add(ROOT, ".", filter=without_caches)
    (to / "scores.json").write_text(json.dumps(scores(run), indent=1) + "\n")
    (to / "keys.json").write_text(json.dumps(keys(run, snapshot), indent=1) + "\n")


def add_recordings() -> None:
    """Twelve scenes with their narratives in a collection, a draft and its voice, a voice."""
    folder = ROOT.with_name("old-scenes")
    shutil.rmtree(folder, ignore_errors=True)
    scenes.write(folder, 12)
    for path in (folder / "images").iterdir():  # smaller files for the repository
        picture = decode_image(path)[::2, ::2]
        path.write_bytes(scenes.encode(np.ascontiguousarray(picture)))
    (folder / "regions.jsonl").unlink()  # masks of the full size
    localized_narratives.main(
        [
            "import",
            str(folder / "narratives.jsonl"),
            f"--images={folder / 'images'}",
            "--collection=scenes",
            f"--workspace={ROOT}",
        ]
    )

    workspace = Workspace(ROOT)
    store, voices = workspace.store, workspace.voices
    annotator = store.annotator("ann")
    image = store.images(store.collection("scenes"))[0]
    store.save_draft("a" * 32, annotator, image.id, '{"caption": "half a s\u00e9ntence"}')
    sound = (np.arange(800) % 50 * 100).astype("<i2").tobytes()
    voices.append("a" * 32, 0, sound)
    voices.append("b" * 32, 0, sound)
    voices.keep("b" * 32, 800)
    store.close()


def submit(name: str, chosen: Settings) -> Run:
    run = Run(ROOT / "runs" / name)
    changes = changed(chosen, PRESETS["tiny"])
    snapshots = changes.pop("data.snapshots")
    words = training(run.path, snapshots, "tiny", changes)
    return jobs.submit(ROOT, run, Command(words, devices=(CPU,)), settings.dump(chosen), name)


def add_evaluation(snapshot: Path) -> None:
    workspace = Workspace(ROOT)
    model = str(ROOT / "runs" / "done" / "best")
    question = questions.Question(questions.SPLIT, model, snapshot=str(snapshot), split="val")
    job, command = questions.command(workspace, question)
    jobs.submit(questions.root(workspace), job, command)
    watcher.watch(questions.root(workspace))
    assert job.state == "done", job.log_tail()
    workspace.store.close()


def without_caches(entry: tarfile.TarInfo) -> tarfile.TarInfo | None:
    """What is made anew would be most of the archive."""
    is_made_anew = ".cache" in entry.name or entry.name.endswith((".lock", "-wal", "-shm"))
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = "root"
    return None if is_made_anew else entry


def scores(run: Run) -> dict:
    """What the predictor of each checkpoint says of the first picture."""
    workspace = Workspace(ROOT)
    image = workspace.store.images(1)[0]
    answers = {}
    for name in ("best", "last"):
        predictor = Predictor.load(run.path, name, device="cpu")
        predictor.set_image(decode_image(image.path))
        attention = predictor.attend(CAPTION)
        answers[name] = {
            "score": attention.score,
            "trace": attention.trace.tolist(),
            "map_of_red": attention.maps[1].tolist(),
        }
    workspace.store.close()
    return {
        "caption": CAPTION,
        "image_id": image.image_id,
        "checkpoints": answers,
        "state": run.state,
        "metrics": run.metrics(),
        "result": json.loads(run.result_file.read_bytes()),
        "links": {name: (run.path / name).resolve().name for name in ("best", "last")},
        "num_narratives": 12,
    }


def keys(run: Run, snapshot: Path) -> dict:
    """Every name that outlives the program which wrote it."""
    whole = Run(ROOT.with_name("old-run"))
    shutil.rmtree(whole.path, ignore_errors=True)
    loop.train(small(snapshot, **SIZES | EVERYTHING), whole)
    job = jobs.all_runs(ROOT / "evaluations")[0]
    return {
        "state_dict": {"small": tensors(run), "everything": tensors(whole)},
        "config": sorted(set(LocTexConfig().to_dict()) - set(PretrainedConfig().to_dict())),
        "training.pt": {
            "small": names_in(load_state(run.path / "last")),
            "everything": names_in(load_state(whole.path / "last")),
        },
        "settings": settings.to_dict(Settings()),
        "presets": {name: settings.to_dict(preset) for name, preset in PRESETS.items()},
        "command": [field.name for field in fields(Command)],
        "metrics": sorted({name for row in run.metrics() for name in row}),
        "result.json": sorted(json.loads(run.result_file.read_bytes())),
        "evaluation": sorted(json.loads(job.result_file.read_bytes())),
        "evaluation metrics": sorted(json.loads(job.result_file.read_bytes())["metrics"]),
        "files": sorted(
            str(path.relative_to(run.path)) for path in run.path.rglob("*") if path.is_file()
        ),
    }


def tensors(run: Run) -> dict[str, list[int]]:
    """Name -> shape of the saved weights."""
    with safe_open(run.path / "last" / "model.safetensors", "pt") as file:
        return {name: file.get_slice(name).get_shape() for name in file.keys()}


def names_in(state: dict) -> list[str]:
    """The keys of a trainer's state, and of what it holds by name, one level down."""
    names = []
    for name, value in state.items():
        names.append(name)
        inner = value if isinstance(value, dict) else {}
        names += [f"{name}.{key}" for key in inner if isinstance(key, str)]
    return sorted(names)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(Path(sys.argv[1]).resolve())
