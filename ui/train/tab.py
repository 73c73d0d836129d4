"""Train: choose what to learn from, start it as a job, watch it learn, compare what was tried."""

import secrets
import threading
from typing import Any

import gradio as gr

from loctex.jobs import queue as jobs
from loctex.jobs.run import Run
from ui.components import Curves, RunTable
from ui.context import page_and_tab
from ui.guard.payloads import field
from ui.train import compare, run_facts
from ui.train import film_frames as film
from ui.train.curves import History, chart
from ui.train.new_run import QUIET, NewRun, html, problem
from ui.train.run_page import RunPage
from ui.workspace import Workspace

NEW, COMPARE = "", "/compare"  # what is selected where it is no run; no run can be named so


# --- what it does


def newest(workspace: Workspace) -> str:
    """The run to show first: one that is at work, else the newest; NEW where there is none."""
    runs = workspace.runs()
    live = [run for run in runs if run.state in ("running", "stopping")]
    return next((run.name for run in [*live, *runs]), NEW)


class Dashboard:
    """What the page shows of the runs; how far each was read is shared by all who look."""

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace
        self._histories: dict[str, History] = {}
        self._lock = threading.Lock()

    def history(self, run: Run) -> History:
        with self._lock:
            return self._histories.setdefault(run.name, History(run))

    def picked(self, names: list[str]) -> list[History]:
        """Of the runs that are compared; those deleted meanwhile are left out."""
        run_of = {run.name: run for run in self.workspace.runs()}
        return [self.history(run_of[name]) for name in names if name in run_of]

    def look(self, selected: str, names: list[str], page: RunPage | None = None) -> dict[str, Any]:
        """What there is to see now, by part of the page."""
        runs = self.workspace.runs()
        now: dict[str, Any] = {
            "side": bool(runs),
            "many": len(runs) > 1,
            "runs": run_facts.run_list(runs, selected, self._places()),
        }

        if selected == COMPARE:
            histories = self.picked(names)
            now["table"] = compare.table(runs, [history.run.name for history in histories])
            now["overlay"] = [(history.run.name, history.read()) for history in histories]

        run = next((run for run in runs if run.name == selected), None)
        if run is not None:
            is_early = run.state in ("running", "waiting")
            now["curves"] = (run.name, self.history(run).read(), is_early)
            now |= page.facts(run) if page else {}

        return now

    def _places(self) -> dict[str, int]:
        """Waiting runs by name: their places in the queue, from 1."""
        waiting = jobs.queue(self.workspace.root)
        return {run.name: number for number, run in enumerate(waiting, 1)}

    def curves(self, name: str) -> dict[str, Any]:
        """What the charts of this run show; a message where there is nothing to draw yet."""
        run = self.workspace.run(name)
        run_settings = run_facts.settings_of(run)
        value = chart(self.history(run), run_settings.train.steps if run_settings else None)
        is_early = run.state in ("new", "waiting", "running")
        message = "The curves begin with the first steps." if is_early else "No step was logged."
        return value | {"message": message}


# --- what it looks like

_LISTEN = """element.addEventListener("click", (event) => {
  const button = event.target.closest("[data-run]");
  if (button) trigger("pick", { run: button.dataset.run });
});"""


class TrainTab:
    """The tab: the runs at the side, and beside them a new run, one run, or several compared."""

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace
        self.dashboard = Dashboard(workspace)
        self.selected, self.view_state, self.names = gr.State(None), gr.State({}), gr.State([])

        with gr.Row():
            with gr.Column(visible=False, scale=1, min_width=260) as self.side:
                with gr.Row():
                    self.new = gr.Button("New run", min_width=110)
                    self.comparing = gr.Button("Compare", min_width=110, visible=False)
                self.runs = html(js_on_load=_LISTEN)
            with gr.Column(scale=4, min_width=480):
                with gr.Column(visible=False) as self.start_page:
                    self.form = NewRun(workspace)
                with gr.Column(visible=False) as self.one_page:
                    self.run = RunPage(workspace)
                with gr.Column(visible=False) as self.compare_page:
                    self.table = RunTable()
                    self.overlay = Curves()

        self.timer = gr.Timer(1)
        self.outputs = [
            self.selected,
            self.view_state,
            self.side,
            self.comparing,
            self.start_page,
            self.one_page,
            self.compare_page,
            self.runs,
            self.table,
            self.overlay,
            *self.run.parts,
        ]

        self._wire()

    def _wire(self) -> None:
        look: dict[str, Any] = {
            "fn": self._look,
            "inputs": [self.selected, self.view_state, self.names],
            "outputs": self.outputs,
        }

        page, tab = page_and_tab()
        choice = [self.selected, self.view_state]
        self.run.wire(self.selected, look)
        loaded = page.load(self._open, None, self.outputs, **QUIET)
        self.form.wire((loaded.then, tab.select), self.selected)

        self.timer.tick(**look, **QUIET)
        self.form.again(
            self.new.click(lambda: (NEW, {}), None, choice, **QUIET).then(**look, **QUIET)
        )

        self.comparing.click(lambda: (COMPARE, {}), None, choice, **QUIET).then(**look, **QUIET)
        for event in (self.runs.pick, self.table.open):
            event(_picked_run, None, choice, **QUIET).then(**look, **QUIET)
        self.table.pick(_picked_names, None, self.names, **QUIET).then(**look, **QUIET)
        self.table.star(self._star, None, None, **QUIET).then(**look, **QUIET)

        self.form.start.click(
            self._start,
            [self.form.token, *self.form.request_inputs],
            [*choice, self.form.problem, self.form.token],
            show_progress_on=self.form.lines,
            api_visibility="private",
        ).then(**look, **QUIET)

        copied = self.run.copy.click(self.form.copy_of, self.selected, self.form.copied, **QUIET)
        self.form.refresh(
            copied.then(lambda: (NEW, {}), None, choice, **QUIET).then(**look, **QUIET)
        )

        self.run.really.click(self.run.doing(jobs.remove), self.selected, None, **QUIET).success(
            lambda: (newest(self.workspace), {}), None, choice, **QUIET
        ).then(**look, **QUIET)

    def _start(
        self,
        request: gr.Request,
        token: str,
        *form_values: Any,
        progress: gr.Progress = gr.Progress(),  # noqa: B008  (Gradio looks for it here)
    ) -> list[Any]:
        try:
            self.workspace.demand("admin", request.username)
            run = self.form.begin(token, form_values, progress)
        except (ValueError, OSError) as error:
            return [gr.skip(), gr.skip(), problem(str(error)), gr.skip()]
        return [run.name, {}, problem(""), secrets.token_hex(8)]

    def _star(self, request: gr.Request, event: gr.EventData) -> None:
        is_starred, run_name = field(event, "star", bool), field(event, "run", str)
        self.run.doing(lambda run: compare.remark(run, star=is_starred))(request, run_name)

    def _open(self) -> dict[Any, Any]:
        """The `outputs` of a fresh page, in one event: a run at work is seen at once."""
        selected = newest(self.workspace)
        return self._look(selected, {}, []) | {self.selected: selected}

    def _look(self, selected: str | None, before: dict[str, Any], names: list[str]) -> Any:
        """The `outputs`; what did not change is skipped, all of it before the page opened."""
        if selected is None:
            return gr.skip()

        jobs.ensure_watcher(self.workspace.root)
        now = self.dashboard.look(selected, names, self.run)
        changed = {key: value for key, value in now.items() if before.get(key) != value}
        if not changed and before:
            return gr.skip()

        updates: dict[Any, Any] = {self.view_state: now}
        if not before:
            matches = [run for run in self.workspace.runs() if run.name == selected]
            updates |= {
                self.start_page: gr.update(visible=selected == NEW),
                self.compare_page: gr.update(visible=selected == COMPARE),
                self.one_page: gr.update(visible=selected not in (NEW, COMPARE)),
                self.run.note: compare.remarks(matches[0])["note"] if matches else "",
            }

        for key, component in (("side", self.side), ("many", self.comparing)):
            if key in changed:
                updates[component] = gr.update(visible=changed[key])
        for key, component in (
            ("runs", self.runs),
            ("table", self.table),
            ("log", self.run.log),
            ("status", self.run.status),
            ("command", self.run.command),
            ("origin", self.run.origin),
        ):
            if key in changed:
                updates[component] = changed[key]

        if "curves" in changed:
            updates[self.run.curves] = self.dashboard.curves(selected)
        if "overlay" in changed:
            updates[self.overlay] = compare.chart(self.dashboard.picked(names))
        if "film" in changed:
            updates[self.run.film] = film.film(self.workspace.run(selected))
        if "actions" in changed:
            updates |= self.run.actions(*changed["actions"])
        return updates


def _picked_run(event: gr.EventData) -> tuple[str, dict]:
    return field(event, "run", str), {}


def _picked_names(event: gr.EventData) -> list[str]:
    return [str(name) for name in field(event, "runs", list)[: compare.MOST]]


def build(workspace: Workspace) -> TrainTab:
    """The tab, inside the current gr.Tab."""
    jobs.ensure_watcher(workspace.root)  # what waits from last time goes on now
    return TrainTab(workspace)
