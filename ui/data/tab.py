"""Data: the collections, what was told in each, and how it comes in and goes out."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gradio as gr

from data_tools.store import Collection, NarrativeRow
from data_tools.store.search import EVERYTHING, FLAGS, STATUSES, NarrativeFilter
from loctex.records.images import decode_image
from ui.components import Listing, Player
from ui.context import page_and_tab
from ui.data.charts import charts
from ui.data.deleting import DeletingRow, TrashPage, UndoButton
from ui.data.exchange import choose, demand, find
from ui.data.exchange_page import ExchangePage
from ui.data.listing import WELCOME, collection_cards, narrative_rows, problem_html
from ui.guard.payloads import field
from ui.viewing.payload import payload
from ui.workspace import Workspace

PAGE = 12  # narratives shown at a time

# --- what is shown


def people(
    workspace: Workspace, collection: Collection | None, annotator_id: int | None = None
) -> list[tuple[str, str]]:
    """(name, annotator_id as text) of those who told something of it, after "everybody";
    annotator_id: one who stays a choice, though their last narrative was deleted meanwhile."""
    names = workspace.store.people.names()
    ids = workspace.store.annotators_of(collection.id) if collection else []
    if annotator_id is not None and annotator_id not in ids:
        ids = [*ids, annotator_id]
    return [("everybody", ""), *((names.get(i, f"annotator {i}"), str(i)) for i in ids)]


def page(
    workspace: Workspace,
    collection: Collection,
    after: int,
    row_filter: NarrativeFilter = EVERYTHING,
) -> tuple[list[NarrativeRow], int | None]:
    """Narratives by age, and where the next page starts (None: nowhere)."""
    rows = workspace.store.narratives(
        collection.id, after=after, limit=PAGE + 1, narrative_filter=row_filter
    )
    return rows[:PAGE], rows[PAGE - 1].id if len(rows) > PAGE else None


def replay(workspace: Workspace, narrative: NarrativeRow | None) -> dict[str, Any]:
    """What the player shows of a narrative."""
    if narrative is None:
        return {"message": "Choose a narrative to replay it."}
    image = workspace.store.image(narrative.image_row_id)
    return payload(None, decode_image(image.path), workspace.store.narrative(narrative.id))


# --- the page


class DataTab:
    """The components of the tab, and the events between them."""

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace
        self.collection, self.narrative = gr.State(None), gr.State(None)  # their ids
        self.starts = gr.State([0])  # where each page up to this one starts
        self.row_filter = gr.State(EVERYTHING)

        self.cards = Listing(elem_id="data-collections")

        with gr.Row(elem_classes="studio-line"):
            self.demo = gr.Button(
                "Open the demo collection", scale=0, min_width=240, variant="primary", visible=False
            )
            self.name = gr.Textbox(
                show_label=False,
                container=False,
                placeholder="Name of a new collection",
                max_lines=1,
                scale=0,
                min_width=260,
                elem_id="data-name",
            )
            self.add = gr.Button("New collection", scale=0, min_width=160)

        with gr.Row(elem_classes="studio-line studio-folds"):
            self.outcome = Listing(elem_id="data-outcome")
            self.undo = UndoButton(workspace)
            self.stop = gr.Button("Stop", variant="stop", scale=0, min_width=90, visible=False)

        with gr.Tabs(visible=False) as self.pages:
            with gr.Tab("Narratives"):
                self._build_filters()
                self._build_narratives()
            with gr.Tab("Charts") as self.charts_tab:
                self.charts = Listing(elem_id="data-charts")
            self.exchange = ExchangePage(workspace)
            self.trash = TrashPage(workspace)
        self._wire()

    def _build_filters(self) -> None:
        small: dict[str, Any] = {
            "container": False,
            "show_label": False,
            "scale": 1,
            "min_width": 130,
        }

        with gr.Row(elem_classes="studio-line"):
            self.words = gr.Textbox(
                container=False,
                show_label=False,
                placeholder="Search in captions",
                max_lines=1,
                scale=3,
                min_width=240,
                elem_id="data-words",
            )
            self.who = gr.Dropdown([("everybody", "")], value="", elem_id="data-who", **small)

            self.status = gr.Dropdown(
                [("any status", ""), *((name, name) for name in STATUSES)],
                value="",
                elem_id="data-status",
                **small,
            )
            self.trace = gr.Dropdown(
                [("any trace", ""), ("with trace", "yes"), ("without trace", "no")],
                value="",
                elem_id="data-trace",
                **small,
            )
            self.flag = gr.Dropdown(
                [
                    ("flagged or not", ""),
                    ("flagged", "any"),
                    ("not flagged", "none"),
                    *((name, name) for name in FLAGS[2:]),
                ],
                value="",
                elem_id="data-flag",
                **small,
            )

    def _build_narratives(self) -> None:
        with gr.Row(elem_classes="studio-pair"):
            with gr.Column(scale=2, min_width=280):
                self.rows = Listing(elem_id="data-narratives")
                with gr.Row():
                    self.back = gr.Button("Back", size="sm", min_width=60, interactive=False)
                    self.more = gr.Button("More", size="sm", min_width=60, interactive=False)
            with gr.Column(scale=3, min_width=400):
                self.player = Player({"message": "Choose a narrative to replay it."})
                self.deleting = DeletingRow(self.workspace)

    # --- events

    def _wire(self) -> None:
        at = [self.collection, self.starts, self.narrative, self.row_filter]
        filters: list[Any] = [self.words, self.who, self.status, self.trace, self.flag]
        quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
        outputs = [
            self.cards,
            self.demo,
            self.pages,
            self.rows,
            self.back,
            self.more,
            self.player,
            *self.deleting.components,
            self.who,
        ]
        in_turn: dict[str, Any] = {
            "concurrency_id": "data",
            **quiet,
        }  # what is shown last was asked last
        show: dict[str, Any] = {"fn": self._show, "inputs": at, "outputs": outputs} | in_turn
        move: dict[str, Any] = {"inputs": at, "outputs": [*at, *outputs]} | in_turn

        page_and_tab()[1].select(**show)
        emptied = [self.outcome, *(control for control in filters if control != self.who)]
        emptied += self.undo.components
        self.cards.pick(self._pick_collection, at, [*at, *outputs, *emptied], **in_turn).then(
            self._known_charts, self.collection, self.charts, **quiet
        )
        for event in (self.words.change, *(control.input for control in filters[1:])):
            event(
                self._filter,
                [*at, *filters],
                [*at, *outputs],
                trigger_mode="always_last",
                **in_turn,
            )
        self.charts_tab.select(
            self._charts, self.collection, self.charts, trigger_mode="always_last", **quiet
        )
        self.rows.pick(self._pick_narrative, **move)
        self.more.click(self._turn, **move)
        self.back.click(self._turn_back, **move)
        self.deleting.wire(self.narrative, self.outcome, self.undo, show)
        self.undo.wire(self.outcome, show)
        self.trash.wire(self.collection, self.outcome, show)
        gr.on(
            [self.add.click, self.name.submit],
            self._add,
            self.name,
            [*at, self.name, self.outcome],
            **quiet,
        ).then(**show)
        self.exchange.wire(self.collection, self.demo, self.outcome, self.stop, show)

    def _show(
        self,
        collection_id: int | None,
        starts: list[int],
        narrative_id: int | None,
        row_filter: NarrativeFilter,
    ) -> list[Any]:
        collections = self.workspace.store.collections()

        current = choose(collections, collection_id)
        rows, end = page(self.workspace, current, starts[-1], row_filter) if current else ([], None)
        narrative = next((row for row in rows if row.id == narrative_id), None)
        who = row_filter.annotator_id

        return [
            collection_cards(collections, current) if collections else WELCOME,
            gr.Button(visible=not collections),
            gr.Tabs(visible=bool(collections)),
            narrative_rows(
                self.workspace, rows, narrative_id, is_filtered=row_filter != EVERYTHING
            ),
            gr.Button(visible=len(starts) > 1, interactive=True),
            gr.Button(visible=end is not None, interactive=True),
            replay(self.workspace, narrative),
            *self.deleting.reset(bool(narrative)),
            gr.Dropdown(
                choices=people(self.workspace, current, who), value="" if who is None else str(who)
            ),
        ]

    def _move(self, *at: Any) -> list[Any]:
        return [*at, *self._show(*at)]

    def _pick_collection(
        self,
        _: int | None,
        starts: list[int],
        narrative: int | None,
        row_filter: NarrativeFilter,
        event: gr.EventData,
    ) -> list[Any]:
        return [
            *self._move(field(event, "id", int), [0], None, EVERYTHING),
            *[""] * 5,
            None,
            gr.Button(visible=False),
        ]

    def _pick_narrative(
        self,
        collection: int | None,
        starts: list[int],
        _: int | None,
        row_filter: NarrativeFilter,
        event: gr.EventData,
    ) -> list[Any]:
        return self._move(collection, starts, field(event, "id", int), row_filter)

    def _filter(
        self,
        collection: int | None,
        starts: list[int],
        narrative: int | None,
        _: NarrativeFilter,
        words: str,
        who: str,
        status: str,
        trace: str,
        flag: str,
    ) -> list[Any]:
        has_trace = {"yes": True, "no": False}.get(trace)
        who_id = int(who) if who else None

        row_filter = NarrativeFilter(words, who_id, status or None, has_trace, flag or None)
        return self._move(collection, [0], None, row_filter)

    def _charts(self, collection_id: int | None) -> Iterator[str]:
        current = find(self.workspace, collection_id)
        if current:
            yield from charts(self.workspace, current.id)

    def _known_charts(self, collection_id: int | None) -> str:
        """As far as they were counted before; opening the tab counts the rest."""
        return next(self._charts(collection_id), "")

    def _turn(
        self, collection: int | None, starts: list[int], _: int | None, row_filter: NarrativeFilter
    ) -> list[Any]:
        end = page(self.workspace, demand(self.workspace, collection), starts[-1], row_filter)[1]
        return self._move(collection, starts if end is None else [*starts, end], None, row_filter)

    def _turn_back(
        self, collection: int | None, starts: list[int], _: int | None, row_filter: NarrativeFilter
    ) -> list[Any]:
        return self._move(collection, starts[:-1] or [0], None, row_filter)

    def _add(self, name: str, request: gr.Request) -> list[Any]:
        try:
            self.workspace.demand("admin", request.username)
            return [self.workspace.store.add_collection(name), [0], None, EVERYTHING, "", ""]
        except ValueError as error:
            return [*(gr.skip() for _ in range(5)), problem_html(error)]


def build(workspace: Workspace) -> None:
    """The tab, inside the current gr.Tab."""
    DataTab(workspace)
