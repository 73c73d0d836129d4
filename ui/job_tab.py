"""A tab of questions and jobs: a form, the list of what was asked, and the page of one job.

Evaluate and Export are such tabs. All that is shown comes from the jobs' files, so that a reload,
or another browser, shows the same.
"""

import secrets
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr

from loctex.jobs import queue as jobs
from loctex.jobs.command import Command
from loctex.jobs.execution import Execution
from loctex.jobs.run import Run
from ui.assets import static
from ui.context import page_and_tab
from ui.evaluate.questions import newest_first
from ui.guard.payloads import field
from ui.train.run_facts import log_text
from ui.workspace import Workspace, look_up

QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
ACTION: dict[str, Any] = {"scale": 0, "min_width": 220}
COMMAND: dict[str, Any] = {
    "interactive": False,
    "buttons": ["copy"],
    "lines": 2,
    "max_lines": 8,
    "elem_classes": "studio-command",
}
_LISTEN = """element.addEventListener("click", (event) => {
  const button = event.target.closest("[data-run]");
  if (button) trigger("pick", { run: button.dataset.run });
});"""
LIVE = ("waiting", "running", "stopping")


def html(value: str = "", **kwargs: Any) -> gr.HTML:
    css = static("train.css", "report.css")
    return gr.HTML(value, css_template=css, apply_default_css=False, **kwargs)


def problem(text: str) -> Any:
    """The update that shows what is wrong; nothing where the text is empty."""
    markup = f"<p class='problem' role='alert'>{escape(text)}</p>"
    return gr.update(value=markup, visible=bool(text))


def still_offered(choices: list[tuple[str, str]], value: str | None) -> str | None:
    """The person's choice where it still exists, else the first."""
    offered = [choice for _, choice in choices]
    return value if value in offered else next(iter(offered), None)


def chip(state: str) -> str:
    return f"<span class='chip {state}'>{state}</span>"


class JobTab:
    """The components of such a tab, and the events they share.

    root: the folder whose runs/ the jobs are. A subclass builds the form (`build_form`; it sets
    self.question_inputs, what its question is made of, and self.offered, what can change while
    nobody looks) and the page of a job (`build_downloads`, `build_job`; they set self.answered).
    """

    noun = "job"
    start_label = "Start"

    def __init__(self, workspace: Workspace, root: Path) -> None:
        jobs.ensure_watcher(root)  # what waits from last time goes on now
        self.workspace, self.root = workspace, root

        self.question_inputs: list[Any] = []
        self.offered: list[Any] = []
        self.answered: list[Any] = []
        self.selected, self.view_state, self.token = gr.State(""), gr.State({}), gr.State("")

        with gr.Row():
            with gr.Column(visible=False, scale=1, min_width=260) as self.side:
                self.new = gr.Button(f"New {self.noun}")
                self.list = html(js_on_load=_LISTEN)
            with gr.Column(scale=4, min_width=480):
                self._build_question()
                self._build_answer()

        self.timer = gr.Timer(1)
        self._wire()

    def _build_question(self) -> None:
        with gr.Column() as self.form_page:
            self.guide = html(self.empty, visible=False)
            with gr.Column(visible=False) as self.questions:
                self.build_form()
                self.lines = gr.Textbox(
                    label=f"What “{self.start_label}” runs", elem_id=f"{self.noun}-line", **COMMAND
                )
                self.problem = html(visible=False)
                with gr.Row(elem_classes="studio-actions"):
                    self.start = gr.Button(self.start_label, variant="primary", **ACTION)
                    self.build_actions()
                self.build_below()

    def _build_answer(self) -> None:
        with gr.Column(visible=False) as self.job_page:
            self.status = html()
            with gr.Row(elem_classes="studio-actions"):
                self.stop = gr.Button("Stop", variant="stop", visible=False, **ACTION)
            self.build_job()
            with gr.Accordion("What it printed", open=False):
                self.log = html()
            with gr.Accordion("The command it runs", open=False):
                self.command = gr.Textbox(show_label=False, **COMMAND)

    # --- what a subclass says

    empty = ""  # HTML where no model was trained yet

    def build_form(self) -> None:
        raise NotImplementedError

    def build_actions(self) -> None:
        """More buttons beside Start."""

    def build_below(self) -> None:
        """What the form shows below its buttons."""

    def build_job(self) -> None:
        raise NotImplementedError

    def offer(self, *offered: Any) -> list[Any]:
        """What can be chosen now: updates of self.offered."""
        raise NotImplementedError

    def has_models(self) -> bool:
        raise NotImplementedError

    def plan(self, *answers: Any) -> tuple[Run, Command] | None:
        """The job that a question leads to, None before it was asked. ValueError: what to mend."""
        raise NotImplementedError

    def state(self, job: Run) -> str:
        return job.state

    def show_list(self, job_runs: list[Run], selected: str) -> str:
        raise NotImplementedError

    def show_status(self, job: Run) -> str:
        raise NotImplementedError

    def answer(self, job: Run, state: str) -> dict[Any, Any]:
        """What the page of a job shows in this state: updates of self.answered."""
        raise NotImplementedError

    # --- events

    def _wire(self) -> None:
        choice = [self.selected, self.view_state]
        offer: dict[str, Any] = {
            "fn": self._offer,
            "inputs": self.offered,
            "outputs": [self.guide, self.questions, self.token, *self.offered],
        }
        preview: dict[str, Any] = {
            "fn": self._preview,
            "inputs": self.question_inputs,
            "outputs": [self.problem, self.lines, self.start],
        }
        outputs = [
            self.view_state,
            self.side,
            self.form_page,
            self.job_page,
            self.list,
            self.status,
            self.log,
            self.command,
            self.stop,
            *self.answered,
        ]
        show: dict[str, Any] = {"fn": self._look, "inputs": choice, "outputs": outputs}

        page, tab = page_and_tab()
        for event in (page.load, tab.select):
            event(**offer, **QUIET).then(**preview, **QUIET)
        page.load(self._newest, None, self.selected, **QUIET).then(**show, **QUIET)
        self.timer.tick(**show, **QUIET)
        self.new.click(lambda: ("", {}), None, choice, **QUIET).then(**show, **QUIET).then(
            **offer, **QUIET
        ).then(**preview, **QUIET)
        self.list.pick(_picked, None, choice, **QUIET).then(**show, **QUIET)
        # a path pasted into a fresh Textbox is no `input` for Gradio 6.31, only a `change`
        events = [p.change if isinstance(p, gr.Textbox) else p.input for p in self.question_inputs]
        gr.on(events, **preview, trigger_mode="always_last", **QUIET)
        self.start.click(
            self._start,
            [self.token, *self.question_inputs],
            [*choice, self.problem, self.token],
            show_progress_on=self.lines,
            api_visibility="private",
        ).then(**show, **QUIET)
        self.stop.click(self._stop, self.selected, None, **QUIET).then(**show, **QUIET)

    def job(self, name: str) -> Run:
        """The job of this name, which may come from a browser. ValueError: there is none."""
        return Run(look_up(self.root / "runs", name, self.noun))

    def _newest(self) -> str:
        """The job to show first: one at work, else the newest."""
        job_runs = newest_first(self.root)
        live = [job for job in job_runs if job.state in LIVE]
        return next((job.name for job in [*live, *job_runs]), "")

    def _offer(self, *offered: Any) -> list[Any]:
        has = self.has_models()
        token = secrets.token_hex(8)
        return [gr.update(visible=not has), gr.update(visible=has), token, *self.offer(*offered)]

    def _preview(self, *answers: Any) -> list[Any]:
        try:
            planned = self.plan(*answers)
        except ValueError as error:
            return [problem(str(error)), "", gr.update(interactive=False)]
        line = Execution(planned[1].words).line if planned else ""
        return [problem(""), line, gr.update(interactive=bool(planned))]

    def _start(self, token: str, *answers: Any) -> list[Any]:
        try:
            planned = self.plan(*answers)
            assert planned is not None  # the preview leaves Start off without one
            job = jobs.submit(self.root, *planned, token=token)
        except (ValueError, OSError) as error:
            return [gr.skip(), gr.skip(), problem(str(error)), gr.skip()]
        return [job.name, {}, problem(""), secrets.token_hex(8)]

    def _stop(self, selected: str) -> None:
        try:
            jobs.stop(self.root, self.job(selected))
        except (ValueError, OSError) as error:
            raise gr.Error(str(error), print_exception=False) from error

    def look(self, selected: str) -> dict[str, Any]:
        """All that the page shows of the jobs, by part."""
        job_runs = newest_first(self.root)
        now: dict[str, Any] = {"list": self.show_list(job_runs, selected), "side": bool(job_runs)}
        job = next((job for job in job_runs if job.name == selected), None)
        if job is not None:
            now |= {
                "status": self.show_status(job),
                "state": self.state(job),
                "log": log_text(job),
                "command": jobs.line(job),
            }
        return now

    def _look(self, selected: str, before: dict[str, Any]) -> Any:
        """Updates of what changed since `before`."""
        jobs.ensure_watcher(self.root)

        now = self.look(selected)
        changed = {key: value for key, value in now.items() if before.get(key) != value}
        if not changed and before:
            return gr.skip()

        updates: dict[Any, Any] = {self.view_state: now}
        if not before:
            updates[self.form_page] = gr.update(visible="status" not in now)
            updates[self.job_page] = gr.update(visible="status" in now)

        if "side" in changed:
            updates[self.side] = gr.update(visible=changed["side"])
        for key in ("list", "status", "log", "command"):
            if key in changed:
                updates[getattr(self, key)] = changed[key]

        if "state" in changed:
            state = changed["state"]
            label = "Cancel" if state == "waiting" else "Stop"
            updates[self.stop] = gr.update(visible=state in ("waiting", "running"), value=label)
            updates |= self.answer(self.job(selected), state)
        return updates


def _picked(event: gr.EventData) -> tuple[str, dict]:
    return field(event, "run", str), {}
