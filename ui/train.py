"""Train: choose what to learn from, start it as a job, watch it learn, stop and resume it."""

import re
import secrets
import threading
from collections.abc import Callable
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.context import Context

from loctex import jobs, settings
from loctex.runs import Run
from loctex.settings import PRESETS
from ui import form, run_view
from ui.components import Curves, static
from ui.curves import History, chart
from ui.start import choices, make_plan, next_name, start
from ui.workspace import Workspace

PRESET_NOTES = {
    "tiny": "Tiny: about a million parameters, minutes on a laptop",
    "r50": "ResNet-50: the size of the LocTex paper, for a GPU",
}


# --- what it does


def newest(workspace: Workspace) -> str:
    """The run to show first: one that is at work, else the newest; "" where there is none."""
    runs = workspace.runs()
    live = [run for run in runs if run.state in ("running", "stopping")]
    return next((run.name for run in [*live, *runs]), "")


class Dashboard:
    """What the page shows of the runs; how far each was read is shared by all who look."""

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace
        self._histories: dict[str, History] = {}
        self._lock = threading.Lock()

    def history(self, run: Run) -> History:
        with self._lock:
            return self._histories.setdefault(run.name, History(run))

    def look(self, selected: str, seen: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        """The parts of the page that differ from `seen`, and what is seen after them."""
        runs = self.workspace.runs()
        now: dict[str, Any] = {"side": bool(runs), "runs": run_view.run_list(runs, selected)}
        run = next((run for run in runs if run.name == selected), None)
        if run is not None:
            command = jobs.read_command(run)
            state = run.state
            now |= {
                "status": run_view.status(run, jobs.ahead(self.workspace.root, run)),
                "log": run_view.log_text(run),
                "command": command.line if command else "It was started by hand.",
                "actions": (state, bool(command), (run.path / "last").exists()),
                "curves": (run.name, self.history(run).read(), state in ("running", "waiting")),
            }
        return {key: value for key, value in now.items() if seen.get(key) != value}, now

    def curves(self, name: str) -> dict[str, Any]:
        """What the charts of this run show; a message where there is nothing to draw yet."""
        run = Run(self.workspace.runs_dir / name)
        chosen = run_view.settings_of(run)
        value = chart(self.history(run), chosen.train.steps if chosen else None)
        is_early = run.state in ("new", "waiting", "running")
        message = "The curves begin with the first steps." if is_early else "No step was logged."
        return value | {"message": message}


# --- what it looks like

_GO = """document.querySelectorAll("button[role=tab]").forEach((tab) => {
  if (tab.textContent.trim() === "%s") tab.click();
});"""
_LISTEN = """element.addEventListener("click", (event) => {
  const button = event.target.closest("[data-run]");
  if (button) trigger("pick", { run: button.dataset.run });
});"""
_ACTION = {"scale": 0, "min_width": 220}
_COMMAND = {"interactive": False, "buttons": ["copy"], "lines": 2, "max_lines": 8}
_EMPTY = """<section class='empty'><h2>Nothing to learn from yet</h2>
<p>Describe a few pictures in Annotate, or load the demo collection in Data. Then a model learns
here where the words are.</p><button>Go to Data</button></section>"""


class TrainTab:
    """The components of the tab, and the events between them."""

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace
        self.dashboard = Dashboard(workspace)
        self.starting = threading.Lock()
        self.selected, self.seen = gr.State(""), gr.State({})
        with gr.Row():
            with gr.Column(visible=False, scale=1, min_width=260) as self.side:
                self.new = gr.Button("New run")
                self.runs = _html(js_on_load=_LISTEN)
            with gr.Column(scale=4, min_width=480):
                with gr.Column(visible=False) as self.start_page:
                    self._build_start()
                with gr.Column(visible=False) as self.run_page:
                    self._build_run()
        self.timer = gr.Timer(1)
        self.shown = [
            self.selected, self.seen, self.side, self.start_page, self.run_page, self.runs,
            self.status, self.log, self.command, self.curves, self.stop, self.resume, self.inspect,
        ]  # fmt: skip
        self._wire()

    def _build_start(self) -> None:
        go = f"element.querySelector('button').addEventListener('click', () => {{{_GO % 'Data'}}})"
        self.guide = _html(_EMPTY, js_on_load=go, visible=False)
        with gr.Column(visible=False) as self.questions:
            with gr.Row(equal_height=True):
                self.picked = gr.CheckboxGroup([], label="Learn from", min_width=320)
                self.preset = gr.Radio(
                    [(PRESET_NOTES.get(name, name), name) for name in PRESETS], value="tiny",
                    label="Model", min_width=320,
                )  # fmt: skip
            self.inputs = form.build(PRESETS["tiny"])
            with gr.Accordion("Snapshots from elsewhere", open=False):
                self.folders = gr.Textbox(
                    "", label="Folders", lines=2,
                    info="One a line; FOLDER=2 shows its images twice an epoch.",
                )  # fmt: skip
            self.name = gr.Textbox("", label="Name of the run", max_lines=1)
            self.lines = gr.Textbox(
                label="What Start runs", info=f"You can type the same in {jobs.ROOT}",
                elem_id="start-line", elem_classes="studio-command", **_COMMAND,
            )  # fmt: skip
            self.problem = _html(visible=False)
            with gr.Row(elem_classes="studio-actions"):
                self.start = gr.Button("Start", variant="primary", **_ACTION)
                self.back = gr.Button("Undo changes", visible=False, **_ACTION)
            self.token = gr.Textbox("", visible=False)
            self.marks = _html("<style></style>", visible="hidden")

    def _build_run(self) -> None:
        self.status = _html()
        with gr.Row(elem_classes="studio-actions"):
            self.stop = gr.Button("Stop", variant="stop", visible=False, **_ACTION)
            self.resume = gr.Button("Resume", variant="primary", visible=False, **_ACTION)
            self.inspect = gr.Button("See what it learned", visible=False, **_ACTION)
        self.curves = Curves()
        with gr.Accordion("What it printed", open=False):
            self.log = _html()
        with gr.Accordion("The command it runs", open=False):
            self.command = gr.Textbox(
                label="Command", info=f"In {jobs.ROOT}", elem_classes="studio-command", **_COMMAND
            )
        self.inspect.click(None, js=f"() => {{{_GO % 'Inspect'}}}", api_visibility="private")

    # --- events

    def _wire(self) -> None:
        asked = [self.picked, self.folders, self.preset, self.name, *self.inputs.values()]
        previewed = [self.problem, self.lines, self.start, self.marks, self.back]
        quiet = {"show_progress": "hidden", "api_visibility": "private"}
        fresh = [self.guide, self.questions, self.picked, self.name, self.token]
        fresh_from = [self.picked, self.preset, self.name]
        look = {"fn": self._look, "inputs": [self.selected, self.seen], "outputs": self.shown}

        page, tab = Context.root_block, Context.block
        for event in (page.load, tab.select):
            event(self._fresh, fresh_from, fresh, **quiet).then(
                self._preview, asked, previewed, **quiet
            )
        page.load(lambda: newest(self.workspace), None, self.selected, **quiet).then(
            **look, **quiet
        )
        self.timer.tick(**look, **quiet)
        self.new.click(lambda: ("", {}), None, [self.selected, self.seen], **quiet).then(
            **look, **quiet
        ).then(self._fresh, fresh_from, fresh, **quiet).then(
            self._preview, asked, previewed, **quiet
        )
        self.runs.pick(_picked_run, None, [self.selected, self.seen], **quiet).then(**look, **quiet)
        gr.on(
            [part.input for part in (self.picked, self.folders, self.name, *self.inputs.values())],
            self._preview, asked, previewed, trigger_mode="always_last", **quiet,
        )  # fmt: skip
        gr.on(
            [self.preset.input, self.back.click], self._use_preset, [self.preset, self.name],
            [self.name, *self.inputs.values()], **quiet,
        ).then(self._preview, asked, previewed, **quiet)  # fmt: skip
        self.start.click(
            self._start, [self.token, *asked], [self.selected, self.seen, self.problem, self.token],
            show_progress_on=self.lines, api_visibility="private",
        ).then(**look, **quiet)  # fmt: skip
        for button, action in ((self.stop, jobs.stop), (self.resume, jobs.resume)):
            button.click(self._do(action), self.selected, None, **quiet).then(**look, **quiet)

    def _fresh(self, picked: list[str], preset: str, name: str) -> list[Any]:
        """What can be trained on now, and a free name."""
        found = choices(self.workspace)
        known = [value for _, value in found]
        kept = [value for value in picked or [] if value in known] or known[:1]
        taken = not name.strip() or (self.workspace.runs_dir / name.strip()).exists()
        return [
            gr.update(visible=not found), gr.update(visible=bool(found)),
            gr.update(choices=found, value=kept),
            next_name(self.workspace, preset) if taken else gr.skip(), secrets.token_hex(8),
        ]  # fmt: skip

    def _preview(
        self, picked: list[str], folders: str, preset: str, name: str, *inputs: Any
    ) -> list[Any]:
        try:
            plan = make_plan(self.workspace, picked, folders, preset, name, inputs)
        except ValueError as error:
            problem = _problem(str(error))
            return [problem, gr.skip(), gr.update(interactive=False), gr.skip(), gr.skip()]
        changed = settings.changed(plan.settings, PRESETS[preset])
        return [
            _problem(""), plan.lines(), gr.update(interactive=True), form.highlight(changed),
            gr.update(visible=bool(changed)),
        ]  # fmt: skip

    def _use_preset(self, preset: str, name: str) -> list[Any]:
        is_ours = re.fullmatch(rf"({'|'.join(PRESETS)})-\d+", name.strip())
        new = next_name(self.workspace, preset) if is_ours else gr.skip()
        return [new, *form.values(PRESETS[preset])]

    def _start(
        self, request: gr.Request, token: str, picked: list[str], folders: str, preset: str,
        name: str, *inputs: Any,
        progress: gr.Progress = gr.Progress(),  # noqa: B008  (Gradio looks for it here)
    ) -> list[Any]:  # fmt: skip
        try:
            self.workspace.demand("admin", request.username)
            with self.starting:  # two clicks, one after the other
                run = jobs.find(self.workspace.root, token)
                if run is None:
                    plan = make_plan(self.workspace, picked, folders, preset, name, inputs)
                    run = start(plan, token, progress)
        except (ValueError, OSError) as error:
            return [gr.skip(), gr.skip(), _problem(str(error)), gr.skip()]
        return [run.name, {}, _problem(""), secrets.token_hex(8)]

    def _do(self, action: Callable[[Path, Run], None]) -> Callable[[str], None]:
        def act(selected: str, request: gr.Request) -> None:
            try:
                self.workspace.demand("admin", request.username)
                action(self.workspace.root, Run(self.workspace.runs_dir / selected))
            except (ValueError, OSError) as error:
                raise gr.Error(str(error), print_exception=False) from error

        return act

    def _look(self, selected: str, seen: dict[str, Any]) -> Any:
        """The outputs `shown`; what did not change is skipped."""
        jobs.ensure_watcher(self.workspace.root)
        changed, now = self.dashboard.look(selected, seen)
        if not changed and seen:
            return gr.skip()
        updates: dict[Any, Any] = {self.seen: now}
        if not seen:
            updates |= {
                self.start_page: gr.update(visible=not selected),
                self.run_page: gr.update(visible=bool(selected)),
            }
        if "side" in changed:
            updates[self.side] = gr.update(visible=changed["side"])
        for key in ("runs", "status", "log", "command"):
            if key in changed:
                updates[getattr(self, key)] = changed[key]
        if "curves" in changed:
            updates[self.curves] = self.dashboard.curves(selected)
        if "actions" in changed:
            state, is_job, has_model = changed["actions"]
            can_resume = is_job and state in ("stopped", "failed")
            updates |= {
                self.stop: gr.update(
                    visible=state in ("waiting", "running"),
                    value="Cancel" if state == "waiting" else "Stop",
                ),
                self.resume: gr.update(visible=can_resume),
                self.inspect: gr.update(visible=has_model),
            }
        return updates


def _picked_run(event: gr.EventData) -> tuple[str, dict]:
    return event.run, {}


def _problem(text: str) -> Any:
    html = f"<p class='problem' role='alert'>{escape(text)}</p>"
    return gr.update(value=html, visible=bool(text))


def _html(value: str = "", **kwargs: Any) -> gr.HTML:
    return gr.HTML(value, css_template=static("train.css"), apply_default_css=False, **kwargs)


def build(workspace: Workspace) -> None:
    """The tab, inside the current gr.Tab."""
    jobs.ensure_watcher(workspace.root)  # what waits from last time goes on now
    TrainTab(workspace)
