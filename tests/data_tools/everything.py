"""A workspace with everything that one can hold, made by the product itself, and its buttons."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data_tools import scenes
from data_tools.exchange.importing import import_file
from data_tools.freezing.exporting import export_collection
from data_tools.snapshot import main as freeze
from data_tools.speech.voices import read_voice
from data_tools.store import Store
from data_tools.store.search import NarrativeFilter
from loctex import evaluate, settings
from loctex.export import __main__ as export
from loctex.jobs import checkpoint_files
from loctex.jobs import queue as jobs
from loctex.jobs.command import CPU, Command, training
from loctex.jobs.execution import rebuilt
from loctex.jobs.run import Run
from loctex.records.images import decode_image
from loctex.records.narrative import Narrative
from loctex.scoring.atlas_job import AtlasJob
from loctex.settings import changed
from loctex.settings.presets import PRESETS
from loctex.train import main as train
from loctex.training import loop
from tests.loctex.small import small
from ui.data import tab as data
from ui.evaluate import questions
from ui.export import exports
from ui.viewing.models import Models
from ui.workspace import Workspace

PEOPLE = ("ann", "rob", "eve")
DRAFT, VOICE = "a" * 32, "b" * 32
NUM_STEPS, STOPPED_AT = 6, 4
CAPTION = "a red circle above a blue square"
MAINS = {
    "loctex.train": train,
    "loctex.evaluate": evaluate.main,
    "loctex.export": export.main,
}


class _StoppedRun(Run):
    """Is asked to stop at a step, to the step exactly."""

    def stop_requested(self) -> bool:
        return any(row["step"] >= STOPPED_AT for row in self.metrics())


def make(root: Path, sources: Path) -> None:
    """sources: an empty folder for what comes in. Nothing may watch the workspace."""
    workspace = Workspace(root)
    _add_data(workspace, sources)
    snapshot = root / "snapshots" / "scenes-1"
    freeze([f"--workspace={root}", "--collection=scenes", f"--to={snapshot}"])
    store = workspace.store
    export_collection(store, store.collection("scenes"), root / "exports" / "mine")

    values = {"train__steps": NUM_STEPS, "train__checkpoint_every": 2, "train__batch_size": 4}
    chosen = small(snapshot, **values)
    execute(_submit(workspace, "done", chosen))
    stopped = _submit(workspace, "stopped", chosen)
    jobs.stop(root, stopped)
    loop.train(chosen, _StoppedRun(stopped.path))
    for run, code in ((stopped, 0), (_submit(workspace, "failed", chosen), 1)):
        run.waiting_file.unlink(missing_ok=True)
        run.train_lock.touch()
        run.exit_file.write_text(json.dumps({"code": code, "time": 1.0}))
        run.log_file.write_text("$ python -m loctex.train\n")
    _submit(workspace, "queued", chosen)

    best = root / "runs" / "done" / "best"
    assert AtlasJob(checkpoint_files.folder_at(best), snapshot, "val").make("cpu")
    ask_evaluation(workspace, "done")
    ask_export(workspace, "done")
    (root / "launchers.yaml").write_text("cluster: srun {command}\n")
    store.close()


def _add_data(workspace: Workspace, sources: Path) -> None:
    """Twenty scenes told of by three people, reviewed, with drafts, voices and trash."""
    store, voices = workspace.store, workspace.voices
    people = [store.annotator(name) for name in PEOPLE]
    scenes.write(sources, 20)
    lines = (sources / "narratives.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in lines]
    for number, record in enumerate(records):
        record["annotator_id"] = people[number % len(people)]
    text = "".join(json.dumps(record) + "\n" for record in records)
    (sources / "narratives.jsonl").write_text(text)
    import_file(store, sources / "narratives.jsonl", sources / "images", "scenes")

    collection = store.collection("scenes")
    store.set_rules(collection, overlap=2, needs_review=True)
    store.set_recording(collection, question="What do you see?", keeps_voice=True)
    store.set_license(collection, "CC BY 4.0")
    sound = (np.arange(1600) % 50 * 100).astype("<i2").tobytes()
    for take in (DRAFT, VOICE):
        voices.append(take, 0, sound)
    images = store.images(collection)
    spoken = records[0] | {"voice_recording": voices.keep(VOICE, 1600), "annotator_id": people[1]}
    voices.drop_draft(VOICE)
    image_of = {image.image_id: image for image in images}
    store.add(collection, Narrative.from_json(spoken), take_id=VOICE)
    for person in people:
        take = f"{person:x}".rjust(32, "a") if person != people[0] else DRAFT
        store.save_draft(take, person, image_of[records[1]["image_id"]].id, '{"caption": "é 猫"}')
    rows = store.narratives(collection)
    for row in rows[3:]:  # the first one is left to review
        store.reviews.accept(row.id, people[2])
    store.reviews.reject(rows[1].id, people[2], "the pointer rests")
    store.skip(images[3].id, people[0], "later")
    store.trash.put_narrative(rows[2].id, people[0])
    store.trash.put_image(images[-1].id, people[0])


def _submit(workspace: Workspace, name: str, chosen: settings.Settings) -> Run:
    run = Run(workspace.runs_dir / name)
    changes = changed(chosen, PRESETS["tiny"])
    words = training(run.path, changes.pop("data.snapshots"), "tiny", changes)
    command = Command(words, devices=(CPU,))
    return jobs.submit(workspace.root, run, command, settings.dump(chosen), name)


def execute(job: Run) -> None:
    """What a watcher does with a job that waits, in this process."""
    module, *words = rebuilt(job, jobs.command_of(job)).words[2:]
    job.waiting_file.unlink()
    MAINS[module](words)
    job.exit_file.write_text(json.dumps({"code": 0, "time": 1.0}))


def ask_evaluation(workspace: Workspace, run: str) -> dict[str, Any]:
    model = str(workspace.runs_dir / run / "best")
    snapshot = str(workspace.snapshots_dir / "scenes-1")
    question = questions.Question(questions.SPLIT, model, snapshot=snapshot, split="val")
    job, command = questions.command(workspace, question)
    execute(jobs.submit(questions.root(workspace), job, command))
    return questions.result(job)


def ask_export(workspace: Workspace, run: str) -> dict[str, bytes]:
    job, command = exports.command(workspace, str(workspace.runs_dir / run / "best"), "huggingface")
    execute(jobs.submit(exports.root(workspace), job, command))
    folder = exports.files(job)
    return {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def contents(store: Store) -> dict[str, Any]:
    """All rows that a store tells, and the bytes of its pictures."""
    collection = store.collection("scenes")
    rows = store.narratives(collection, limit=1000)
    people = store.people.names()
    return {
        "collections": store.collections(),
        "content": store.content(collection),
        "people": people,
        "images": [
            (one.id, one.image_id, one.path.read_bytes()) for one in store.images(collection)
        ],
        "narratives": [(row, store.narrative(row.id).to_json()) for row in rows],
        "reviews": [store.reviews.trail(row.id) for row in rows],
        "regions": list(store.each_region(collection)),
        "drafts": {person: store.drafts(person) for person in people},
        "trash": store.trash.entries(collection),
        "left": {person: store.num_left(collection, person) for person in people},
    }


def read_everything(workspace: Workspace) -> dict[str, Any]:
    """What Data, Annotate, Review and Inspect show: the same wherever the workspace lies."""
    store = workspace.store
    collection = store.collection("scenes")
    rows = store.narratives(collection, narrative_filter=NarrativeFilter(words="red"))
    assert len(rows) > 0
    voice = workspace.voices.find(f"voices/{VOICE}.wav")
    assert voice is not None
    checkpoint = str(workspace.checkpoint(workspace.runs_dir / "done" / "best"))
    picture = decode_image(store.images(collection)[0].path)
    answer = Models("cpu").look(checkpoint, picture, CAPTION, None)
    return {
        "found": [row.id for row in rows],
        "played": [data.replay(workspace, row)["words"] for row in rows],
        "voice": read_voice(voice).tolist(),
        "draft": workspace.voices.draft(DRAFT).tolist(),
        "maps": answer.attention.maps.tolist(),
        "score": answer.attention.score,
        "runs": {run.name: [row["step"] for row in run.metrics()] for run in workspace.runs()},
        "snapshots": [folder.name for folder in workspace.snapshots()],
        "evaluations": [questions.result(job) for job in jobs.all_runs(questions.root(workspace))],
        "exports": [exports.state(job) for job in jobs.all_runs(exports.root(workspace))],
    }


def learned(run: Run) -> tuple[list[dict], dict[str, bytes]]:
    """What it logged, but for the clock, and its last weights."""
    rows = [
        {name: value for name, value in row.items() if name in ("step", "epoch") or "loss" in name}
        for row in run.metrics()
    ]
    folder = checkpoint_files.find(run.path, "last")
    weights = {path.name: path.read_bytes() for path in folder.glob("*.safetensors")}
    assert len(weights) > 0 and len(rows) >= NUM_STEPS // 2
    return rows, weights


def assert_resumes_bit_for_bit(workspace: Workspace) -> None:
    """The run that was stopped goes on to where the undisturbed one is."""
    run = workspace.run("stopped")
    assert run.state == "stopped" and run.metrics()[-1]["step"] == STOPPED_AT
    jobs.resume(workspace.root, run)
    execute(run)
    assert run.state == "done"
    assert learned(run) == learned(workspace.run("done"))


def use_everything(workspace: Workspace) -> None:
    """Each button once more, after the click that wakes what waited."""
    assert_resumes_bit_for_bit(workspace)
    queued, failed = workspace.run("queued"), workspace.run("failed")
    for run in (queued, failed):
        if run.state != "waiting":
            jobs.resume(workspace.root, run)
        execute(run)
        assert learned(run) == learned(workspace.run("done"))
    (before,) = (questions.result(job) for job in jobs.all_runs(questions.root(workspace)))
    after = ask_evaluation(workspace, "done")
    assert after["metrics"] == before["metrics"] and after["metrics"]
    (old,) = (exports.files(job) for job in jobs.all_runs(exports.root(workspace)))
    weights = (old / "model.safetensors").read_bytes()
    assert ask_export(workspace, "done")["model.safetensors"] == weights

    store = workspace.store
    collection = store.collection("scenes")
    num_narratives = store.content(collection).narratives
    for entry in store.trash.entries(collection):
        store.trash.restore(entry.id)
    assert store.content(collection).narratives > num_narratives
    to = workspace.root / "exports" / "again"
    count = export_collection(store, collection, to)
    assert count == len(list(store.each_narrative(collection))) > 0
    database = [f"--database={workspace.database}"] if workspace.database else []
    place = workspace.snapshots_dir / "again"
    freeze([f"--workspace={workspace.root}", *database, "--collection=scenes", f"--to={place}"])
    assert {folder.name for folder in workspace.snapshots()} == {"scenes-1", "again"}


def unwatched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "ensure_watcher", lambda workspace: None)
