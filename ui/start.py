"""Starting a run: what there is to learn from, the plan, freezing it, the job."""

import json
import re
import shlex
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_tools.freeze import freeze
from data_tools.sources import Collection
from loctex import jobs, settings
from loctex.command import Command, short, training
from loctex.runs import Run
from loctex.settings import PRESETS, Settings
from ui import form
from ui.workspace import Workspace


@dataclass(frozen=True)
class Plan:
    """All that a start needs. collections: (name, folder it is frozen into)."""

    workspace: Workspace
    run: Run
    preset: str
    settings: Settings
    collections: tuple[tuple[str, Path], ...]
    folders: tuple[str, ...]  # FOLDER or FOLDER=weight

    def command(self, frozen: Sequence[Path]) -> tuple[Command, Settings]:
        """The command with the frozen collections' folders, and the settings it leads to."""
        names = [short(folder) for folder in (*frozen, *self.folders)]
        changes = settings.changed(self.settings, PRESETS[self.preset])
        complete = settings.with_values(self.settings, {"data": {"snapshots": names}})
        return Command(training(self.run.path, names, self.preset, changes)), complete

    def lines(self) -> str:
        """What a person would type in a shell to get the same run."""
        freezing = [
            shlex.join([
                short(sys.executable), "-m", "data_tools.snapshot", "--workspace",
                short(self.workspace.root), "--collection", name, "--to", short(folder),
            ])
            for name, folder in self.collections
        ]  # fmt: skip
        command, _ = self.command([folder for _, folder in self.collections])
        return "\n".join([*freezing, command.line])


def choices(workspace: Workspace) -> list[tuple[str, str]]:
    """(label with counts, value) of what can be trained on: collections, then snapshots."""
    found = []
    for collection in workspace.store.collections():
        if collection.num_narratives:
            found.append((
                f"{collection.name} · {_counted(collection.num_narratives, 'caption')}, "
                f"{collection.num_with_trace:,} with traces",
                f"collection:{collection.name}",
            ))  # fmt: skip
    for path in workspace.snapshots():
        splits = json.loads((path / "snapshot.json").read_bytes())["splits"].values()
        images, captions, traced = (
            sum(split.get(key, 0) for split in splits)
            for key in ("images", "narratives", "with_trace")
        )
        found.append((
            f"{path.name} · frozen, {_counted(images, 'image')}, "
            f"{_counted(captions, 'caption')}, {traced:,} with traces",
            f"snapshot:{path.name}",
        ))  # fmt: skip
    return found


def _counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def make_plan(
    workspace: Workspace, picked: Sequence[str], folders: str, preset: str, name: str,
    inputs: Sequence[Any],
) -> Plan:  # fmt: skip
    """What the form asks for. ValueError says what to mend."""
    name = name.strip()
    if not re.fullmatch(r"\w[\w .+-]*", name):
        raise ValueError("Name the run with letters, digits, spaces and . _ + -")
    run = Run(workspace.runs_dir / name)
    if run.path.exists():
        raise ValueError(f"A run named {name} exists: choose another name.")
    kinds = [value.split(":", 1) for value in picked]
    others = [line.strip() for line in folders.splitlines() if line.strip()]
    if not kinds and not others:
        raise ValueError("Choose what to learn from.")
    return Plan(
        workspace, run, preset, form.read(inputs, PRESETS[preset]),
        tuple((n, _next_folder(workspace, n)) for kind, n in kinds if kind == "collection"),
        (*(str(workspace.snapshots_dir / n) for kind, n in kinds if kind == "snapshot"), *others),
    )  # fmt: skip


def _next_folder(workspace: Workspace, collection: str) -> Path:
    stem = re.sub(r"[^\w.+-]+", "-", collection).strip("-.") or "collection"
    return _next(workspace.snapshots_dir, stem)


def _next(folder: Path, stem: str) -> Path:
    number = 1
    while (folder / f"{stem}-{number}").exists():
        number += 1
    return folder / f"{stem}-{number}"


def next_name(workspace: Workspace, preset: str) -> str:
    """A free name for a run of this preset."""
    return _next(workspace.runs_dir, preset).name


def start(plan: Plan, token: str, progress: Callable[..., Any] = lambda *_, **__: None) -> Run:
    """Freeze the collections and put the run into the queue; the same token again is one job.

    A collection that has not changed since it was frozen keeps that snapshot.
    """
    frozen = []
    for name, folder in plan.collections:
        def report(done: int, total: int, name: str = name) -> None:
            progress((done, total), desc=f"Freezing {name}", unit="steps")

        collection = [Collection(plan.workspace.store, name)]
        manifest = freeze(folder, collection, report, previous=_latest(folder))
        same = _same_snapshot(plan.workspace, folder, manifest["hash"])
        if same:
            shutil.rmtree(folder)
        frozen.append(same or folder)
    command, complete = plan.command(frozen)
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
    for other in workspace.snapshots():
        if other != folder:
            if json.loads((other / "snapshot.json").read_bytes())["hash"] == content:
                return other
    return None
