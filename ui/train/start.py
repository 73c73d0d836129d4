"""Starting a run: what there is to learn from, the plan, freezing it, the job."""

import os
import re
import shlex
import shutil
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from data_tools.exchange.sources import CollectionSource
from data_tools.freezing.freeze import freeze
from data_tools.store.address import without_password
from loctex import settings
from loctex.jobs import provenance
from loctex.jobs import queue as jobs
from loctex.jobs.checkpoint_files import folder_at
from loctex.jobs.command import CPU, Command, short, training
from loctex.jobs.execution import Execution
from loctex.jobs.launchers import template_of
from loctex.jobs.run import Run
from loctex.records.frozen import manifest
from loctex.records.snapshot import Snapshot
from loctex.settings import Settings
from loctex.settings.presets import PRESETS
from ui import form
from ui.train import devices, forecast, run_facts
from ui.train.forecast import Amount
from ui.workspace import Workspace


@dataclass(frozen=True)
class RunRequest:
    """What the form says, as it says it."""

    picked: tuple[str, ...] = ()  # collection:NAME, snapshot:NAME
    folders: str = ""
    preset: str = "tiny"
    name: str = ""
    takes: tuple[str, ...] = ()  # GPU UUIDs or "cpu"
    launcher: str = devices.HERE
    inputs: tuple[Any, ...] = ()  # in the order of `form.items`


@dataclass(frozen=True)
class Plan:
    """All that a start needs. collections: (name, folder it is frozen into); unchanged: those of
    them whose folder is there already."""

    workspace: Workspace
    run: Run
    preset: str
    settings: Settings
    collections: tuple[tuple[str, Path], ...]
    folders: tuple[str, ...]  # FOLDER or FOLDER=weight
    takes: tuple[str, ...]
    launcher: str
    unchanged: tuple[str, ...] = ()

    def command(self, frozen: Sequence[Path]) -> tuple[Command, Settings]:
        """The command with the frozen collections' folders, and the settings it leads to."""
        folders: list[Path | str] = [*frozen, *self.folders]
        names = [short(folder) for folder in folders]
        changes = settings.changed(self.settings, PRESETS[self.preset])
        complete = settings.with_values(self.settings, {"data": {"snapshots": names}})
        words = training(self.run.path, names, self.preset, changes)
        return Command(words, devices=self.takes, launcher=self.launcher), complete

    def lines(self) -> str:
        """What a person would type in a shell to get the same run."""
        database = self.workspace.database
        source = ["--workspace", short(self.workspace.root)]
        source += ["--database", without_password(database)] if database else []

        freezing = [
            shlex.join(
                [
                    short(sys.executable),
                    "-m",
                    "data_tools.snapshot",
                    *source,
                    "--collection",
                    name,
                    "--to",
                    short(folder),
                ]
            )
            for name, folder in self.collections
            if name not in self.unchanged
        ]

        command, _ = self.command([folder for _, folder in self.collections])
        template = template_of(self.workspace.root, self.launcher, ())
        execution = Execution(command.words, self.takes, template)
        return "\n".join([*freezing, execution.line])

    def amount(self) -> Amount:
        """What there is to train on: of a collection that is not frozen yet, all of it."""
        total = Amount(0, 0, 0)
        for collection in self.workspace.store.collections():
            if collection.name in dict(self.collections):
                total += Amount(
                    collection.num_images, collection.num_narratives, collection.num_with_trace
                )
        for folder in self.folders:
            total += forecast.of_snapshot(Path(provenance.without_weight(folder)), "train")
        return total

    def forecast(self) -> str:
        """What this start would be, in words."""
        gpus = [device for device in self.takes if device != "cpu"]
        return forecast.say(
            self.amount(), self.settings, self.workspace.runs(), len(gpus), bool(self.launcher)
        )


def choices(workspace: Workspace) -> list[tuple[str, str]]:
    """(label with counts, value) of what can be trained on: collections, then snapshots."""
    options = []
    for collection in workspace.store.collections():
        if collection.num_narratives:
            options.append(
                (
                    f"{collection.name} · {_counted(collection.num_narratives, 'caption')}, "
                    f"{collection.num_with_trace:,} with traces",
                    f"collection:{collection.name}",
                )
            )

    for path in workspace.snapshots():
        amount = forecast.of_snapshot(path)
        options.append(
            (
                f"{path.name} · frozen, {_counted(amount.images, 'image')}, "
                f"{_counted(amount.captions, 'caption')}, {amount.traced:,} with traces",
                f"snapshot:{path.name}",
            )
        )

    return options


def _counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def starts_from(workspace: Workspace) -> list[tuple[str, str]]:
    """(label, value of model.init) of what a run may start from; an earlier run says why."""
    runs = [
        run for run in workspace.runs() if (folder_at(run.path / "best") / "config.json").is_file()
    ]
    return [
        ("Pre-trained backbone (timm)", "timm"),
        ("Nothing: random numbers", "random"),
        *((f"What {run.name} learned: for more of the same", short(run.path)) for run in runs),
    ]


def like(workspace: Workspace, init: str, inputs: Sequence[Any]) -> list[Any]:
    """The inputs with the shape of the model they start from, where that is an earlier run."""
    folder = Path(os.path.abspath(jobs.ROOT / str(init)))
    if folder not in [run.path for run in workspace.runs()]:
        return list(inputs)

    run_settings = run_facts.settings_of(Run(folder))
    if run_settings is None:
        return list(inputs)

    shape = {
        f"model.{name}": value for name, value in settings.to_dict(run_settings)["model"].items()
    }
    shape |= {
        "data.image_size": run_settings.data.image_size,
        "data.max_tokens": run_settings.data.max_tokens,
    }

    del shape["model.init"]
    return form.replaced(inputs, shape)


def picked_from(workspace: Workspace, snapshots: Sequence[str]) -> tuple[list[str], str]:
    """What the form shows of these snapshots: those of the workspace ticked, others as folders."""
    names = {os.path.abspath(jobs.ROOT / name): name for name in snapshots}
    own = {str(path): path.name for path in workspace.snapshots()}
    picked = [f"snapshot:{own[path]}" for path in names if path in own]
    return picked, "\n".join(name for path, name in names.items() if path not in own)


def make_plan(workspace: Workspace, request: RunRequest) -> Plan:
    """What the form asks for. ValueError says what to mend."""
    name = request.name.strip()
    if not re.fullmatch(r"\w[\w .+-]*", name):
        raise ValueError("Name the run with letters, digits, spaces and . _ + -")

    run = Run(workspace.runs_dir / name)
    if run.path.exists():
        raise ValueError(f"A run named {name} exists: choose another name.")

    kinds = [str(value).partition(":")[::2] for value in request.picked]
    folders = [line.strip() for line in request.folders.splitlines() if line.strip()]
    if not kinds and not folders:
        raise ValueError("Choose what to learn from.")

    names = [collection.name for collection in workspace.store.collections()]
    for kind, collection in kinds:
        if kind == "collection" and collection not in names:
            raise ValueError(f"There is no collection {collection[:60]!r} here; choose again.")

    frozen = [str(workspace.snapshot(name)) for kind, name in kinds if kind == "snapshot"]
    takes, launcher = devices.resolved(
        request.takes, request.launcher, devices.launchers(workspace.root), run
    )

    run_settings = form.read(request.inputs, PRESETS[request.preset])
    if takes == (CPU,):
        run_settings = settings.with_values(run_settings, {"train": {"device": CPU}})

    collections = [(n, _folder(workspace, n)) for kind, n in kinds if kind == "collection"]
    return Plan(
        workspace,
        run,
        request.preset,
        run_settings,
        tuple(collections),
        (*frozen, *folders),
        takes,
        launcher,
        tuple(n for n, folder in collections if (folder / "snapshot.json").exists()),
    )


def _folder(workspace: Workspace, collection: str) -> Path:
    """Where its snapshot will lie: the latest one, while nothing has changed since; else a new
    folder. `start` looks at every narrative; this is what can be told at once."""
    folder = _next_folder(workspace, collection)
    latest = _latest(folder)
    if latest is None:
        return folder

    splits = manifest.read(latest)["splits"].values()
    totals = {
        name: sum(split.get(name, 0) for split in splits)
        for name in ("images", "narratives", "words")
    }

    store = workspace.store
    content = store.content(store.collection(collection))
    is_older = content.changed < (latest / "snapshot.json").stat().st_mtime
    counts = {name: getattr(content, name) for name in totals}
    return latest if is_older and counts == totals else folder


def _next_folder(workspace: Workspace, collection: str) -> Path:
    stem = re.sub(r"[^\w.+-]+", "-", collection).strip("-.") or "collection"
    return _next(workspace.snapshots_dir, stem)


def _next(folder: Path, stem: str) -> Path:
    number = 1
    while (folder / f"{stem}-{number}").exists():
        number += 1
    return folder / f"{stem}-{number}"


def next_name(workspace: Workspace, stem: str) -> str:
    """A free name for a run."""
    return _next(workspace.runs_dir, stem).name


def start(plan: Plan, token: str, progress: Callable[..., Any] = lambda *_, **__: None) -> Run:
    """Freeze the collections and put the run into the queue; the same token again is one job.

    A collection that has not changed since it was frozen keeps that snapshot.
    """
    frozen = []
    for name, _ in plan.collections:
        folder = _next_folder(plan.workspace, name)

        def report(done: int, total: int, name: str = name) -> None:
            progress((done, total), desc=f"Freezing {name}", unit="steps")

        collection = [CollectionSource(plan.workspace.store, name)]
        content = freeze(folder, collection, report, previous=_latest(folder))
        same = _same_snapshot(plan.workspace, folder, content["hash"])
        if same:
            shutil.rmtree(folder)
        frozen.append(same or folder)
    command, complete = plan.command(frozen)
    absolute = [os.path.abspath(jobs.ROOT / name) for name in complete.data.snapshots]
    command = replace(command, snapshots=provenance.hashes(absolute))
    return jobs.submit(plan.workspace.root, plan.run, command, settings.dump(complete), token)


def _latest(folder: Path) -> Path | None:
    """The newest snapshot of the same collection: its images stay in their splits, and what has
    not changed since is not made again."""
    stem = folder.name.rpartition("-")[0]
    earlier = [
        path.parent
        for path in folder.parent.glob("[!.]*/rows.parquet")
        if re.fullmatch(rf"{re.escape(stem)}-\d+", path.parent.name)
    ]
    return max(earlier, key=lambda path: int(path.name.rpartition("-")[2]), default=None)


def _same_snapshot(workspace: Workspace, folder: Path, content: str) -> Path | None:
    for candidate in workspace.snapshots():
        if candidate != folder:
            with suppress(ValueError, OSError):  # a damaged one is not the same
                if Snapshot.open(candidate).hash == content:
                    return candidate
    return None
