"""Export: take a model's weights into your own code, checked, with a model card."""

from typing import Any

import gradio as gr

from loctex.jobs.command import Command
from loctex.jobs.run import Run
from ui.export import export_view, exports
from ui.html import empty
from ui.inspect.tab import checkpoints
from ui.job_tab import ACTION, QUIET, JobTab, problem, still_offered
from ui.workspace import Workspace


class ExportTab(JobTab):
    """A model and a format, the exports that were made, and one of them with its card."""

    noun = "export"
    start_label = "Export and check"
    empty = empty(
        "Nothing to hand over yet",
        "Train a model first. Then take its weights into torchvision, timm, transformers, ONNX or "
        "detectron2 in one line.",
        "Train",
    )

    def build_form(self) -> None:
        with gr.Row(equal_height=True):
            self.model = gr.Dropdown([], label="Model", min_width=280, scale=1)
            self.format = gr.Radio(
                [(label, name) for name, label in exports.FORMATS],
                value="torchvision",
                label="For",
                min_width=320,
                scale=2,
            )
            self.license = gr.Textbox(
                label="License of the weights",
                placeholder="cc-by-4.0",
                max_lines=1,
                min_width=180,
                scale=1,
                elem_id="export-license",
            )
        self.question_inputs = [self.model, self.format, self.license]
        self.offered = [self.model]

    def build_actions(self) -> None:
        self.peek = gr.Button("Read the model card first", **ACTION)

    def build_below(self) -> None:
        self.draft = gr.Markdown(visible=False, elem_classes="studio-card")
        self.peek.click(
            self._card,
            self.question_inputs,
            [self.draft, self.problem],
            show_progress_on=self.lines,
            api_visibility="private",
        )

        gr.on(
            [field.input for field in self.question_inputs],
            lambda: gr.update(visible=False),
            None,
            self.draft,
            **QUIET,
        )

    def _card(self, model: str, format: str, license: str) -> list[Any]:
        try:
            text = exports.card(str(self.workspace.checkpoint(model)), format, license)
        except (ValueError, OSError) as error:
            return [gr.update(visible=False), problem(str(error))]
        return [gr.update(value=text, visible=True), problem("")]

    def build_job(self) -> None:
        with gr.Row(elem_classes="studio-actions"):
            self.zip = gr.DownloadButton("Download", variant="primary", visible=False, **ACTION)
        self.card = gr.Markdown(visible=False, elem_classes="studio-card")
        self.answered = [self.zip, self.card]

    def has_models(self) -> bool:
        return bool(checkpoints(self.workspace))

    def offer(self, model: str | None) -> list[Any]:
        models = checkpoints(self.workspace)
        return [gr.update(choices=models, value=still_offered(models, model))]

    def plan(self, model: str | None, format: str, license: str = "") -> tuple[Run, Command]:
        checkpoint = str(self.workspace.checkpoint(model)) if model else ""
        return exports.command(self.workspace, checkpoint, format, license)

    def state(self, job: Run) -> str:
        return exports.state(job)

    def show_list(self, job_runs: list[Run], selected: str) -> str:
        return export_view.job_list(job_runs, selected)

    def show_status(self, job: Run) -> str:
        return export_view.status(job)

    def answer(self, job: Run, state: str) -> dict[Any, Any]:
        is_done = state == "done"
        text = (exports.files(job) / "README.md").read_text(encoding="utf-8") if is_done else ""
        packed = str(exports.packed(job)) if is_done else None
        return {
            self.zip: gr.update(value=packed, visible=is_done),
            self.card: gr.update(value=exports.without_head(text), visible=is_done),
        }


def build(workspace: Workspace) -> None:
    """The tab, inside the current tab of the page."""
    ExportTab(workspace, exports.root(workspace))
