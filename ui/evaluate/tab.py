"""Evaluate: is a model worth it, on your own labels or on a split of a snapshot?"""

import tempfile
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.utils import get_upload_folder

from loctex.jobs import queue as jobs
from loctex.jobs.command import Command
from loctex.jobs.run import Run
from ui.components import Curves
from ui.evaluate import evaluation_view as view
from ui.evaluate import questions
from ui.evaluate.questions import LABELS, SPLIT, Question
from ui.html import empty
from ui.inspect.tab import checkpoints
from ui.job_tab import ACTION, QUIET, JobTab, html, still_offered
from ui.workspace import Workspace

KINDS = [("How many labels does it save me?", LABELS), ("Does it find and point?", SPLIT)]
ABOUT = {
    LABELS: "Learns from a few of your labels, then from more and more, on frozen features of this "
    "model and of others: the curve shows what each label buys.",
    SPLIT: "Retrieval and pointing on images with narratives that no training has seen.",
}


# --- what it does


def rival_runs(workspace: Workspace) -> list[tuple[str, str]]:
    """(label, folder) of the runs that can stand beside a model."""
    return [(run.name, str(run.path)) for run in workspace.runs() if (run.path / "best").exists()]


def snapshots(workspace: Workspace) -> list[tuple[str, str]]:
    """(label, folder) of the frozen snapshots."""
    return [(path.name, str(path)) for path in workspace.snapshots()]


def downloads(job: Run) -> list[str]:
    """The table as CSV, and the whole result, where the browser may fetch them."""
    upload_folder = Path(get_upload_folder())
    upload_folder.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(dir=upload_folder))
    table, numbers = folder / f"{job.name}.csv", folder / f"{job.name}.json"
    table.write_text(questions.spreadsheet(questions.result(job)), encoding="utf-8")
    numbers.write_bytes(job.result_file.read_bytes())
    return [str(table), str(numbers)]


# --- what it looks like


class EvaluateTab(JobTab):
    """A question, the evaluations that were asked for, and what one of them found."""

    noun = "evaluation"
    empty = empty(
        "Nothing to evaluate yet",
        "Train a model first. Then see here how many labels it saves you.",
        "Train",
    )

    def build_form(self) -> None:
        self.kind = gr.Radio(KINDS, value=LABELS, label="Question", info=ABOUT[LABELS])

        with gr.Row(equal_height=True):
            self.model = gr.Dropdown(
                [], label="Model", min_width=280, info="A run, and which of its checkpoints."
            )
            self.rivals = gr.Dropdown(
                [],
                value=[],
                multiselect=True,
                allow_custom_value=True,
                min_width=320,
                label="Beside it",
                elem_id="evaluation-others",
                info="Runs, or timm:MODEL whose weights this machine has. Random initialization "
                "always stands beside it.",
            )

        with gr.Column() as self.label_part:
            self.labels = gr.Textbox(
                label="Your labels",
                max_lines=1,
                elem_id="evaluation-labels",
                info="A path on this machine: a folder of class folders, a CSV with the columns "
                "image and label, COCO JSON, a dataset saved to disk, a VOCdevkit, or a folder as "
                "YOLO, CVAT, Roboflow, Label Studio, imagefolder or Open Images have it.",
            )
            with gr.Accordion("More", open=False), gr.Row(equal_height=True):
                self.images = gr.Textbox(
                    label="Images",
                    max_lines=1,
                    info="The folder that a CSV or JSON names files of; beside the file where "
                    "empty.",
                )
                self.seeds = gr.Slider(
                    1, 20, 5, step=1, label="Draws", info="Of each number of labels: the bars."
                )
                self.skip = gr.Checkbox(
                    True, label="Leave out what cannot be read", info="It is named either way."
                )

        with gr.Row(visible=False) as self.split_part:
            self.snapshot = gr.Dropdown([], label="Snapshot", min_width=280)
            self.split = gr.Dropdown([], label="Split", min_width=160)

        self.question_inputs = [
            self.kind,
            self.model,
            self.rivals,
            self.labels,
            self.images,
            self.seeds,
            self.skip,
            self.snapshot,
            self.split,
        ]

        self.offered = [self.model, self.rivals, self.snapshot, self.split]
        fields = [self.kind, self.label_part, self.split_part, self.rivals]
        self.kind.input(_ask, self.kind, fields, **QUIET)
        self.snapshot.input(self._splits, self.snapshot, self.split, **QUIET)

    def build_job(self) -> None:
        self.says = html(visible=False)
        self.curves = Curves(visible=False)
        self.report = html(visible=False)
        with gr.Row(elem_classes="studio-actions"):
            self.table = gr.DownloadButton("Download the table", visible=False, **ACTION)
            self.numbers = gr.DownloadButton("Download all numbers", visible=False, **ACTION)
        self.answered = [self.says, self.curves, self.report, self.table, self.numbers]

    def has_models(self) -> bool:
        return bool(checkpoints(self.workspace))

    def offer(
        self, model: str | None, beside: list[str] | None, snapshot: str | None, split: str | None
    ) -> list[Any]:
        models, runs, frozen = (
            choices(self.workspace) for choices in (checkpoints, rival_runs, snapshots)
        )

        folders = {folder for _, folder in runs}
        snapshot = still_offered(frozen, snapshot)
        splits = questions.snapshot_splits(snapshot or "")
        named_splits = [(name, name) for name in splits]

        return [
            gr.update(choices=models, value=still_offered(models, model)),
            gr.update(choices=runs, value=[x for x in beside or [] if x in folders or ":" in x]),
            gr.update(choices=frozen, value=snapshot),
            gr.update(choices=splits, value=still_offered(named_splits, split)),
        ]

    def plan(
        self,
        kind: str,
        model: str | None,
        beside: list[str] | None,
        labels: str | None,
        images: str | None,
        seeds: float,
        skip: bool,
        snapshot: str | None,
        split: str | None,
    ) -> tuple[Run, Command] | None:
        if kind == LABELS and not (labels or "").strip():
            return None

        question = Question(
            kind,
            str(self.workspace.checkpoint(model)) if model else "",
            tuple(self._other(name) for name in beside or ()),
            labels or "",
            images or "",
            int(seeds),
            skip,
            str(self.workspace.snapshot(Path(snapshot).name)) if snapshot else "",
            split or "val",
        )
        return questions.command(self.workspace, question)

    def _other(self, name: str) -> str:
        """timm:MODEL and random:MODEL as they are; else the folder of a run that exists."""
        if name.startswith(("timm:", "random:")):
            return name
        return str(self.workspace.run(Path(name).name).path)

    def _splits(self, snapshot: str | None) -> Any:
        folder = self.workspace.snapshot(Path(str(snapshot)).name)
        splits = questions.snapshot_splits(str(folder))
        return gr.update(choices=splits, value=splits[0] if splits else None)

    def show_list(self, job_runs: list[Run], selected: str) -> str:
        return view.job_list(job_runs, selected)

    def show_status(self, job: Run) -> str:
        return view.status(job, jobs.ahead(self.root, job))

    def answer(self, job: Run, state: str) -> dict[Any, Any]:
        content = questions.result(job) if state == "done" else {}
        files = downloads(job) if content else [None, None]
        chart = questions.chart(job, content)
        return {
            self.says: gr.update(value=view.headline(content), visible="sentences" in content),
            self.curves: gr.update(value=chart, visible=bool(chart["panels"])),
            self.report: gr.update(value=view.report(content), visible=bool(content)),
            self.table: gr.update(value=files[0], visible=bool(content)),
            self.numbers: gr.update(value=files[1], visible=bool(content)),
        }


def _ask(kind: str) -> list[Any]:
    is_labels = gr.update(visible=kind == LABELS)
    return [gr.update(info=ABOUT[kind]), is_labels, gr.update(visible=kind == SPLIT), is_labels]


def build(workspace: Workspace) -> None:
    """The tab, inside the current tab of the page."""
    EvaluateTab(workspace, questions.root(workspace))
