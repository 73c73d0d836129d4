"""Team: who did what, how far they agree, how many describe each image, and withdrawn consent."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from itertools import combinations
from typing import Any

import gradio as gr
import numpy as np

from data_tools import withdrawal
from data_tools.quality import agreement
from data_tools.quality.agreement import Agreement
from data_tools.store import Collection
from data_tools.store.people import Work
from ui.components import Curves, Listing
from ui.context import page_and_tab
from ui.data.exchange import counted
from ui.data.listing import problem_html
from ui.html import empty
from ui.workspace import Workspace

NOBODY = empty(
    "Nobody has described an image here yet",
    "When people do, this page shows who did how much, how fast, and how far they agree.",
    "Annotate",
)
COLUMNS = (
    ("Person", ""),
    ("Narratives", "how many, and how many images were skipped"),
    ("Recorded", "time of all recordings"),
    ("Pace", "words a minute; the middle narrative"),
    ("Accepted", "of those that have a verdict"),
    ("Same place", "of the cells that two traces of one image visit, the share that both do"),
    ("Path apart", "local bipartite matching (LBM, k = 1) of two traces: 0 is the same path"),
    ("Words apart", "edits from one caption to the other, by word; free descriptions differ much"),
)


# --- what it does


def agreements(workspace: Workspace, collection: int) -> dict[int, Agreement]:
    """annotator_id -> agreement with all others on the images both described; 0 -> over all."""
    pairs: dict[int, list[Agreement]] = {0: []}
    store = workspace.store
    for rows in store.people.shared(collection, limit=100).values():
        narratives = [(row.annotator_id, store.narrative(row.id)) for row in rows]
        for (annotator_a, a), (annotator_b, b) in combinations(narratives, 2):
            if annotator_a != annotator_b:
                comparison = agreement.compare(a, b)
                for who in (0, annotator_a, annotator_b):
                    pairs.setdefault(who, []).append(comparison)
    return {who: agreement.average(values) for who, values in pairs.items() if values}


def look_up(workspace: Workspace, name: str) -> str:
    """HTML: all that there is of a person, and where copies went. ValueError: nobody."""
    people = workspace.store.people
    annotator_id = people.annotator_id(name.strip())
    copies = withdrawal.copies(workspace.root, annotator_id)
    lines = withdrawal.summary(people.holdings(annotator_id), copies)
    return _list(f"{name.strip()} recorded", lines)


def erase(workspace: Workspace, name: str) -> str:
    """Take it all back; HTML that says what is gone, and what others must delete."""
    annotator_id = workspace.store.people.annotator_id(name.strip())
    copies = withdrawal.copies(workspace.root, annotator_id)
    held = withdrawal.erase(workspace.store, workspace.voices, annotator_id)
    return _list(f"Erased of {name.strip()}", withdrawal.summary(held, copies))


# --- how it reads


def table_html(work: Sequence[Work], agreed: dict[int, Agreement]) -> str:
    """HTML: a row for each person."""
    if not work:
        return NOBODY
    head = "".join(f"<th title='{escape(why)}'>{name}</th>" for name, why in COLUMNS)
    body = "".join(f"<tr>{_cells(person, agreed.get(person.annotator_id))}</tr>" for person in work)
    foot = ""
    if 0 in agreed:
        all_ = "".join(f"<td>{_number(value)}</td>" for value in _values(agreed[0]))
        foot = f"<tfoot><tr><td colspan='5'>All pairs of people</td>{all_}</tr></tfoot>"
    return (
        f"<div class='people'><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody>{foot}"
        "</table></div>"
    )


def _cells(work: Work, agreed: Agreement | None) -> str:
    judged = work.statuses["accepted"] + work.statuses["rejected"]
    share = work.statuses["accepted"] / judged if judged else 0.0
    verdicts = (
        f"<span class='share' style='--share: {share:.0%}'></span>{work.statuses['accepted']:,} "
        f"of {judged:,}"
        if judged
        else "none yet"
    )

    skips = f"<small>{counted(work.num_skips, 'skip')}</small>" if work.num_skips else ""
    values = _values(agreed) if agreed else (np.nan,) * 3

    cells = (
        escape(work.name),
        f"{work.num_narratives:,} {skips}",
        _time(work.seconds),
        _number(work.median_pace, 0),
        verdicts,
        *map(_number, values),
    )
    return "".join(f"<td>{cell}</td>" for cell in cells)


def _values(agreed: Agreement) -> tuple[float, float, float]:
    return agreed.trace_iou, agreed.lbm, agreed.word_error_rate


def _number(value: float, digits: int = 2) -> str:
    return "–" if np.isnan(value) else f"{value:.{digits}f}"


def _time(seconds: float) -> str:
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"


def _list(title: str, lines: Sequence[str]) -> str:
    items = "".join(f"<li>{escape(line)}</li>" for line in lines)
    return f"<div class='outcome' role='status'><b>{escape(title)}</b><ul>{items}</ul></div>"


def charts(collection: int, work: Sequence[Work]) -> dict[str, Any]:
    """What Curves draws: narratives and pace by day, of the busiest people and all others."""
    groups = [
        (person.name, [person])
        for person in work[: 2 if len(work) > 3 else 3]
        if person.num_narratives
    ]

    if len(work) > 3:
        groups.append((f"{len(work) - 2} others", list(work[2:])))

    counts, paces = [], []
    for name, people in groups:
        days = sorted({day for person in people for day in person.days})
        paces_by_day = [
            [pace for person in people for pace in person.days.get(day, ())] for day in days
        ]

        counts.append({"name": name, "x": days, "y": [len(day) for day in paces_by_day]})
        middles = [
            (day, float(np.nanmedian(all_)))
            for day, all_ in zip(days, paces_by_day, strict=True)
            if np.isfinite(all_).any()
        ]
        if middles:
            paces.append(
                {"name": name, "x": [day for day, _ in middles], "y": [pace for _, pace in middles]}
            )

    panels = [
        {"title": "Narratives", "note": "each day", "is_share": False, "lines": counts},
        {
            "title": "Pace",
            "note": "words a minute, the middle one of each day",
            "is_share": False,
            "lines": paces,
        },
    ]

    filled_panels = [panel | {"by": "day"} for panel in panels if panel["lines"]]
    return {
        "run": f"team {collection}",
        "steps": None,
        "hover": "%d %b %Y",
        "panels": filled_panels,
        "message": "",
    }


# --- the page


class TeamTab:
    """The components of the tab, and the events between them."""

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace

        with gr.Row(elem_classes="studio-line"):
            self.collection = gr.Dropdown([], label="Collection", scale=0, min_width=260)
        self.people = Listing(elem_id="team-people")
        self.charts = Curves()

        with gr.Accordion("Rules of this collection", open=False) as self.rules:
            with gr.Row(elem_classes="studio-line"):
                self.overlap = gr.Number(
                    1,
                    label="People who describe each image",
                    minimum=0,
                    precision=0,
                    scale=0,
                    min_width=280,
                    info="Blind to one another; 0: everybody describes every image",
                )
                self.needs_review = gr.Checkbox(
                    False,
                    label="Only what a reviewer accepted is frozen and exported",
                    scale=1,
                    info="Rejected narratives never are",
                    min_width=320,
                )
                self.save = gr.Button("Save", variant="primary", scale=0, min_width=140)
            self.saved = Listing()

        with gr.Accordion("Take back all that a person recorded", open=False) as self.withdrawal:
            with gr.Row(elem_classes="studio-line"):
                self.name = gr.Textbox(
                    label="Login name", max_lines=1, scale=0, min_width=260, elem_id="team-name"
                )
                self.look = gr.Button("Show what there is", scale=0, min_width=180)
                self.erase = gr.Button(
                    "Erase it for good", variant="stop", scale=0, min_width=180, visible=False
                )
            self.holdings = Listing(elem_id="team-found")

        self._wire()

    def _wire(self) -> None:
        outputs = [
            self.collection,
            self.people,
            self.charts,
            self.overlap,
            self.needs_review,
            self.rules,
            self.withdrawal,
        ]

        quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
        show: dict[str, Any] = {
            "fn": self._show,
            "inputs": self.collection,
            "outputs": outputs,
        } | quiet

        page_and_tab()[1].select(**show)
        self.collection.input(**show)
        rules = [self.collection, self.overlap, self.needs_review]
        self.save.click(self._save, rules, self.saved, **quiet)

        holdings = [self.holdings, self.erase]
        gr.on([self.look.click, self.name.submit], self._look, self.name, holdings, **quiet)
        self.name.input(lambda: ("", gr.Button(visible=False)), None, holdings, **quiet)
        self.erase.click(self._erase, self.name, holdings, **quiet).then(**show)

    def _show(self, collection: int | None) -> list[Any]:
        collections: dict[int | None, Collection] = {
            c.id: c for c in self.workspace.store.collections()
        }

        current = collections.get(collection) or next(iter(collections.values()), None)
        choices = gr.Dropdown(
            choices=[(c.name, c.id) for c in collections.values()],
            value=current.id if current else None,
            visible=bool(current),
        )
        more = [gr.Accordion(visible=bool(current))] * 2

        if current is None:
            return [choices, NOBODY, {"panels": []}, gr.skip(), gr.skip(), *more]

        work = self.workspace.store.people.work(current.id)
        table = table_html(work, agreements(self.workspace, current.id))
        return [
            choices,
            table,
            charts(current.id, work),
            current.overlap,
            current.needs_review,
            *more,
        ]

    def _save(
        self, collection: int, overlap: float, needs_review: bool, request: gr.Request
    ) -> str:
        try:
            self.workspace.demand("admin", request.username)
            self.workspace.store.set_rules(
                collection, overlap=int(overlap), needs_review=needs_review
            )
        except ValueError as error:
            return problem_html(error)
        return "<p class='done' role='status'>Saved.</p>"

    def _look(self, name: str, request: gr.Request) -> list[Any]:
        try:
            self.workspace.demand("admin", request.username)
            return [look_up(self.workspace, name), gr.Button(visible=True)]
        except ValueError as error:
            return [problem_html(error), gr.Button(visible=False)]

    def _erase(self, name: str, request: gr.Request) -> list[Any]:
        try:
            self.workspace.demand("admin", request.username)
            return [erase(self.workspace, name), gr.Button(visible=False)]
        except ValueError as error:
            return [problem_html(error), gr.Button(visible=False)]


def build(workspace: Workspace) -> None:
    """The tab, inside the current gr.Tab."""
    TeamTab(workspace)
