"""Inspect's Atlas: a whole split scored in the background, and what to annotate next."""

from __future__ import annotations

from dataclasses import replace
from html import escape
from typing import Any

import gradio as gr

from loctex.scoring.atlas_job import AtlasJob
from ui.assets import static
from ui.components import Listing
from ui.data.listing import problem_html
from ui.guard.payloads import field
from ui.inspect import annotate_next
from ui.inspect.atlas_page import applied, atlas_html, progress_html
from ui.inspect.nearest import listed
from ui.viewing.models import Models
from ui.viewing.pictures import open_split
from ui.viewing.survey import SORTS, Survey, WordFilter, making, survey
from ui.workspace import Workspace


class AtlasView:
    """The parts and their events. `opened` is the event of a sentence that was clicked."""

    def __init__(
        self, workspace: Workspace, models: Models, checkpoint: gr.Dropdown, source: gr.Dropdown
    ) -> None:
        self.workspace, self.models = workspace, models
        self.selection, self.list_start = gr.State(WordFilter()), gr.State(0)
        self.where = [checkpoint, source]
        with gr.Row(elem_classes="studio-line"):
            self.start = gr.Button(
                "Score this split", variant="primary", visible=False, scale=0, min_width=180
            )
            self.stop = gr.Button("Stop", variant="stop", visible=False, scale=0, min_width=90)

        with gr.Column(visible=False) as self.tools:
            with gr.Row(elem_classes="studio-line"):
                self.text = gr.Textbox(
                    label="Sentences that contain", max_lines=1, scale=2, min_width=180
                )
                orders = [(label, key) for key, label in SORTS.items()]
                self.sort = gr.Dropdown(
                    orders, value="worst", label="In this order", scale=2, min_width=180
                )
                self.count = gr.Number(
                    50,
                    label="How many to annotate",
                    precision=0,
                    minimum=1,
                    maximum=5000,
                    scale=1,
                    min_width=130,
                )

            with gr.Row():
                self.queue = gr.Button("Annotate the first of these", size="sm", min_width=210)
                self.unsure = gr.Button(
                    "Annotate new pictures, least certain first", size="sm", min_width=210
                )

        self.outcome = Listing(elem_id="atlas-outcome")
        self.page = Listing(elem_id="atlas", css_template=static("atlas.css"))
        self.timer = gr.Timer(1.0, active=False)
        self.outputs = [self.page, self.start, self.stop, self.tools, self.timer]
        self._wire()

    def _wire(self) -> None:
        private: dict[str, Any] = {"api_visibility": "private"}
        atlas_inputs = [*self.where, self.selection, self.list_start]
        self.start.click(self._start, self.where, self.outcome, **private).then(
            self.show, atlas_inputs, self.outputs, **private
        )
        self.stop.click(self._stop, self.where, None, **private)
        self.timer.tick(self.show, atlas_inputs, self.outputs, show_progress="hidden", **private)

        self.sort.input(
            lambda sort, selection: (replace(selection, sort=sort), 0),
            [self.sort, self.selection],
            [self.selection, self.list_start],
            **private,
        ).then(self.show, atlas_inputs, self.outputs, **private)

        self.text.submit(
            lambda text, selection: (replace(selection, text=text), 0),
            [self.text, self.selection],
            [self.selection, self.list_start],
            **private,
        ).then(self.show, atlas_inputs, self.outputs, **private)

        self.page.pick(
            self._click,
            [self.selection, self.list_start],
            [self.selection, self.list_start, self.text],
            **private,
        ).then(self.show, atlas_inputs, self.outputs, show_progress="hidden", **private)

        self.queue.click(self._queue, [*atlas_inputs, self.count], self.outcome, **private)
        self.unsure.click(self._unsure, [*self.where, self.count], self.outcome, **private)

    # --- what it does

    def show(
        self, checkpoint: str | None, source: str | None, selection: WordFilter, start: int
    ) -> tuple:
        """The page of a scored split; where it is not scored, how far that is."""
        hidden = [gr.Button(visible=False)] * 2 + [gr.Column(visible=False), gr.Timer(active=False)]

        if not (checkpoint and source):
            return "", *hidden

        try:
            job, scored = self._survey(checkpoint, source)
        except (ValueError, FileNotFoundError) as error:
            return problem_html(error), *hidden
        if scored is not None:
            html = atlas_html(self.workspace, scored, source, selection, start)
            return html, *hidden[:2], gr.Column(visible=True), gr.Timer(active=False)

        progress = job.progress()
        is_going = progress.state == "running"
        label = "Go on" if progress.done else "Score this split"
        return (
            progress_html(progress, " · ".join(source.split("/")[1:])),
            gr.Button(label, visible=not is_going),
            gr.Button(visible=is_going),
            gr.Column(visible=False),
            gr.Timer(active=is_going),
        )

    def _survey(self, checkpoint: str, source: str) -> tuple[AtlasJob, Survey | None]:
        job = making(self.workspace, checkpoint, source)
        return job, survey(job)

    def _scored(self, checkpoint: str, source: str) -> Survey:
        """Of a split that is scored: what asks for it is in view with the atlas alone."""
        scored = self._survey(checkpoint, source)[1]
        assert scored is not None
        return scored

    def _start(self, checkpoint: str, source: str, request: gr.Request) -> str:
        try:
            self.workspace.demand("admin", request.username)
            job = making(self.workspace, checkpoint, source)
            job.start()
            job.wait_for_start()
        except (ValueError, FileNotFoundError) as error:
            return problem_html(error)
        return ""

    def _stop(self, checkpoint: str, source: str, request: gr.Request) -> None:
        self.workspace.demand("admin", request.username)
        making(self.workspace, checkpoint, source).stop()

    def _click(self, selection: WordFilter, start: int, event: gr.EventData) -> tuple:
        act = _clicked(event)
        if act.startswith("page:"):
            return selection, max(0, _number(act[5:])), gr.skip()
        if act.startswith("open:"):
            return selection, start, gr.skip()
        now = applied(selection, act)
        return now, 0, gr.Textbox(now.text)

    def opened(self, source: str, checkpoint: str, event: gr.EventData) -> Any:
        """The picture and sentence that was clicked; None for any other click."""
        act = _clicked(event)
        scored = self._survey(checkpoint, source)[1]
        if not act.startswith("open:") or scored is None:
            return None
        return listed(scored, source, _number(act[5:]))

    def _queue(
        self,
        checkpoint: str,
        source: str,
        selection: WordFilter,
        start: int,
        count: float,
        request: gr.Request,
    ) -> str:
        try:
            self.workspace.demand("admin", request.username)
            scored = self._scored(checkpoint, source)
            split = open_split(self.workspace, source)

            items = annotate_next.worst_items(
                scored, split, scored.narratives(selection), int(count)
            )

            _, name, split_name = source.split("/")
            return _queued(
                *annotate_next.queue_items(self.workspace, f"Worst of {name} {split_name}", items)
            )
        except (ValueError, FileNotFoundError) as error:
            return problem_html(error)

    def _unsure(
        self,
        checkpoint: str,
        source: str,
        count: float,
        request: gr.Request,
        progress: gr.Progress = gr.Progress(),  # noqa: B008, as Gradio asks for it
    ) -> str:
        try:
            self.workspace.demand("admin", request.username)
            scored = self._scored(checkpoint, source)
            rows = annotate_next.without_narratives(self.workspace)
            ranked = annotate_next.least_certain(
                self.models, checkpoint, scored, rows, progress.tqdm
            )

            best = [row for row, _ in ranked[: int(count)]]
            return _queued(*annotate_next.queue_rows(self.workspace, "Least certain", best))
        except (ValueError, FileNotFoundError) as error:
            return problem_html(error)


def _clicked(event: gr.EventData) -> str:
    """The data-id of what was clicked; numbers alone come as such."""
    try:
        return field(event, "id", str)
    except ValueError:
        return str(field(event, "id", int))


def _number(text: str) -> int:
    """The number in a data-id. Raises ValueError."""
    if not text.isdecimal() or len(text) > 15:
        raise ValueError("This is not in the list any more; reload the page.")
    return int(text)


def _queued(name: str, count: int) -> str:
    return (
        f'<div class="outcome" role="status"><b>“{escape(name)}” waits under Annotate with '
        f"{count:,} picture{'s' if count != 1 else ''}.</b></div>"
    )
