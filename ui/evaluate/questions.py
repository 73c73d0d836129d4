"""Evaluations as jobs: what a person asks for, as a command of its own process, and its result.

They lie in WORKSPACE/evaluations/runs and have a queue of their own, beside that of trainings.
"""

import csv
import io
import json
import re
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loctex.jobs import queue as jobs
from loctex.jobs.command import Command, short
from loctex.jobs.run import Run
from loctex.records.frozen import manifest
from ui.workspace import Workspace

LABELS, SPLIT = "labels", "split"  # the two kinds


@dataclass(frozen=True)
class Question:
    """What the form asks. model: a checkpoint's folder, RUN/best. rivals: RUN or timm:MODEL."""

    kind: str
    model: str
    rivals: tuple[str, ...] = ()
    labels: str = ""
    images: str = ""
    seeds: int = 5
    skip_damaged: bool = True
    snapshot: str = ""
    split: str = "val"

    def name(self) -> str:
        """What the evaluation is called: the run, and what it is tried on."""
        tried = (
            Path(self.labels.strip()).stem
            if self.kind == LABELS
            else (f"{Path(self.snapshot).name}-{self.split}")
        )
        return re.sub(r"[^\w.+-]+", "-", f"{Path(self.model).parent.name} on {tried}").strip("-.")

    def words(self, to: Path) -> tuple[str, ...]:
        """The command. ValueError says what is missing."""
        if not self.model:
            raise ValueError("Choose a model.")

        run = Path(self.model)
        model = ["--run", short(run.parent), "--checkpoint", run.name, "--to", short(to)]
        python = [short(sys.executable), "-m"]

        if self.kind == SPLIT:
            if not self.snapshot:
                raise ValueError("Choose a snapshot: images with narratives to score.")
            return (
                *python,
                "loctex.evaluate",
                *model,
                "--data",
                short(self.snapshot),
                "--split",
                self.split,
            )

        labels = existing(self.labels, "labels")
        more = [word for rival in self.rivals for word in ("--also", _named(rival))]
        if self.images.strip():
            more += ["--images", short(existing(self.images, "images"))]
        if self.skip_damaged:
            more.append("--skip-damaged")
        return (
            *python,
            "loctex.transfer.efficiency",
            *model,
            "--labels",
            short(labels),
            "--seeds",
            str(self.seeds),
            *more,
        )


def existing(text: str, what: str) -> Path:
    """A path that a person typed; ValueError where there is nothing."""
    path = Path(text.strip()).expanduser()
    if not text.strip():
        raise ValueError(f"Name the {what}: a path on this machine.")
    if not path.exists():
        raise ValueError(f"There is nothing at {path} on this machine.")
    return path


def _named(rival: str) -> str:
    return rival if rival.startswith(("timm:", "random:")) else short(rival)


def root(workspace: Workspace) -> Path:
    """Whose runs/ the evaluations are."""
    return workspace.root / "evaluations"


def newest_first(folder: Path) -> list[Run]:
    """The jobs of FOLDER/runs, newest first."""

    def submitted(job: Run) -> float:
        command = jobs.read_command(job)
        return command.submitted if command else 0.0

    return sorted(jobs.all_runs(folder), key=submitted, reverse=True)


def free_path(folder: Path, stem: str) -> Path:
    """FOLDER/runs/STEM-1, or the first number that is free."""
    number = 1
    while (folder / "runs" / f"{stem}-{number}").exists():
        number += 1
    return folder / "runs" / f"{stem}-{number}"


def command(workspace: Workspace, question: Question) -> tuple[Run, Command]:
    """The job that would answer, and what it executes. ValueError says what to mend."""
    job = Run(free_path(root(workspace), question.name()))
    return job, Command(question.words(job.result_file), devices=("cpu",), grace=0.0)


def result(job: Run) -> dict[str, Any]:
    """What it found; {} before it is done, or where its file cannot be read."""
    with suppress(OSError, ValueError):
        content = json.loads(job.result_file.read_bytes())
        if isinstance(content, dict) and {"protocol", "metrics"} & set(content):
            return content
    return {}


def snapshot_splits(folder: str) -> list[str]:
    """The splits of a snapshot that have images."""
    if not folder:
        return []
    splits = manifest.read(Path(folder))["splits"]
    order = {"val": 0, "test": 1, "train": 2}
    return sorted(splits, key=lambda name: order.get(name, 3))


# --- a result, for the chart, the table and a spreadsheet


def chart(job: Run, content: dict[str, Any]) -> dict[str, Any]:
    """What the Curves component draws: score over labels, with error bars."""
    if content.get("protocol") != "efficiency":
        return {"run": job.name, "panels": []}

    measure = {"accuracy": "Accuracy", "map": "Mean AP"}[content["measure"]]
    num_seeds = len(content["rows"][0]["scores"])
    lines = [
        {"name": row["name"], "x": content["counts"], "y": row["mean"], "error": row["std"]}
        for row in ours_first(content["rows"])
    ]

    panel = {
        "title": f"{measure} by number of labels",
        "note": f"on {content['num_test']:,} images never trained on; bars: standard deviation "
        f"over {num_seeds} draws",
        "is_share": True,
        "by": "labels",
        "ticks": content["counts"],
        "lines": lines,
    }
    return {"run": job.name, "panels": [panel]}


def ours_first(rows: Sequence[dict]) -> list[dict]:
    """The model in question stands second in a result; people look for it first."""
    return [*rows[1:2], *rows[:1], *rows[2:]]


def spreadsheet(content: dict[str, Any]) -> str:
    """The numbers as CSV."""
    text = io.StringIO()
    writer = csv.writer(text)

    if content.get("protocol") == "efficiency":
        writer.writerow(["encoder", "labels", "measure", "mean", "std", "draws"])
        for row in content["rows"]:
            cells = zip(content["counts"], row["mean"], row["std"], strict=True)
            for count, mean, std in cells:
                writer.writerow(
                    [row["name"], count, content["measure"], mean, std, len(row["scores"])]
                )
    else:
        writer.writerow(["measure", "value"])
        writer.writerows(sorted(content["metrics"].items()))

    return text.getvalue()
