"""Mine: what I told, what reviewers said of it, and taking it back: mend the words or delete."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

import gradio as gr

from data_tools.quality.wording import reworded
from data_tools.store.rows import NarrativeRow
from ui.components import Listing, Player
from ui.context import page_and_tab
from ui.data.listing import problem_html, thumbnail
from ui.guard.access import name_of
from ui.guard.payloads import MOST_CHARACTERS, demand_length, field
from ui.html import empty
from ui.review.tab import show, trail_html
from ui.workspace import Workspace

PAGE = 8  # narratives listed at a time
NOTHING = empty(
    "Nothing told yet",
    "What you submit in Annotate is listed here, with what reviewers say of it.",
    "Annotate",
)


# --- what it does


def mend(workspace: Workspace, name: str, narrative_id: int, caption: str) -> str:
    """Other words for one's own narrative; ValueError: it is another's."""
    store = workspace.store
    demand_length(caption, MOST_CHARACTERS, "The caption")
    mended = reworded(own_narrative(workspace, name, narrative_id), caption)
    store.reviews.edit(narrative_id, store.annotator(name), mended)
    return "Your words are saved; the narrative is reviewed anew."


def take_back(workspace: Workspace, name: str, narrative_id: int) -> tuple[str, int | None]:
    """Delete one's own narrative, with its voice; what is said of it, and its entry in the trash
    (None: gone for good). ValueError: it is another's."""
    own_narrative(workspace, name, narrative_id)
    trash = workspace.store.trash
    entry_id = trash.put_narrative(narrative_id, workspace.store.annotator(name))
    is_kept = trash.entry(entry_id) is not None
    text = "Deleted, with its voice. Snapshots that were frozen before still hold it: ask an admin."
    if is_kept:
        text += " An admin can empty the trash, where it lies for now."
    return text, entry_id if is_kept else None


def bring_back(workspace: Workspace, name: str, entry_id: int) -> str:
    """Undo `take_back`; ValueError: it is another's, or gone for good."""
    entry = workspace.store.trash.entry(entry_id)
    if entry is not None and entry.annotator_id != workspace.store.annotator(name):
        raise ValueError("This narrative is not yours.")
    workspace.store.trash.restore(entry_id)
    return "Your narrative is back."


def own_narrative(workspace: Workspace, name: str, narrative_id: int) -> Any:
    narrative = workspace.store.narrative(narrative_id)
    if narrative.annotator_id != workspace.store.annotator(name):
        raise ValueError("This narrative is not yours.")
    return narrative


# --- how it reads


def rows_html(workspace: Workspace, rows: Sequence[NarrativeRow], chosen_id: int | None) -> str:
    """HTML: a button for each narrative, with its picture and its verdict."""
    if not rows:
        return NOTHING
    buttons = "".join(
        f"<button type='button' class='row' data-id='{row.id}' "
        f"aria-pressed='{str(row.id == chosen_id).lower()}'>"
        f"<img src='{thumbnail(workspace.store.image(row.image_row_id))}' alt='' loading='lazy'>"
        f"<span class='said' dir='auto'>{escape(row.caption)}</span><span class='facts'>"
        f"<i class='verdict {row.status}'>{row.status}</i> "
        f"{row.created.astimezone():%d %b %Y, %H:%M}</span></button>"
        for row in rows
    )
    return f"<div class='rows'>{buttons}</div>"


# --- the page


class MineTab:
    """The components of the tab, and the events between them."""

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace
        self.ends = gr.State([None])
        self.narrative = gr.Number(visible=False)  # as the page shows it, with the words it shows
        self.entry = gr.State(None)  # what was deleted last, by its id in the trash
        with gr.Row(elem_classes="studio-line"):
            self.undo = gr.Button(
                "Undo the deletion", visible=False, scale=0, min_width=180, elem_id="mine-undo"
            )
        with gr.Row(elem_classes="studio-pair"):
            with gr.Column(scale=2, min_width=280):
                self.rows = Listing(elem_id="mine-rows")
                with gr.Row():
                    self.back = gr.Button("Back", size="sm", min_width=60, visible=False)
                    self.more = gr.Button("More", size="sm", min_width=60, visible=False)
            with gr.Column(scale=3, min_width=400, visible=False) as self.details:
                self.player = Player({"message": "Choose a narrative to replay it."})
                self.notes = Listing(elem_id="mine-said")
                with gr.Column(visible=False) as self.actions:
                    self.caption = gr.Textbox(label="Words", lines=2)
                    with gr.Row(elem_classes="studio-line"):
                        small: dict[str, Any] = {"scale": 0, "min_width": 180}
                        self.save = gr.Button("Save my words", variant="primary", **small)
                        self.delete = gr.Button("Delete this narrative", **small)
                        # where the pointer is, so that a second click keeps it
                        self.keep = gr.Button("Keep it", visible=False, **small)
                        self.sure = gr.Button(
                            "Delete the narrative", variant="stop", visible=False, **small
                        )
        self._wire()

    def _wire(self) -> None:
        at = [self.ends, self.narrative]
        ask = [self.delete, self.keep, self.sure]
        outputs = [
            *at,
            self.rows,
            self.back,
            self.more,
            self.player,
            self.notes,
            self.actions,
            self.caption,
            *ask,
            self.details,
        ]

        quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
        anew: dict[str, Any] = {"inputs": at, "outputs": outputs} | quiet
        page_and_tab()[1].select(self._show, **anew)

        self.rows.pick(self._pick, **anew)
        self.more.click(self._turn, **anew)
        self.back.click(self._turn_back, **anew)
        self.delete.click(lambda: _visible(False, True, True), None, ask, **quiet)
        self.keep.click(lambda: _visible(True, False, False), None, ask, **quiet)
        self.save.click(self._mend, [*at, self.caption], outputs, **quiet)

        undone = [self.entry, self.undo]
        self.sure.click(self._take_back, at, [*outputs, *undone], **quiet)
        self.undo.click(self._bring_back, [*at, self.entry], [*outputs, *undone], **quiet)

    def _show(
        self, ends: list[int | None], narrative_id: int | None, request: gr.Request, notes: str = ""
    ) -> list[Any]:
        store = self.workspace.store
        me = store.annotator(name_of(request))
        rows = store.people.narratives(me, before=ends[-1], limit=PAGE + 1)
        page = rows[:PAGE]

        chosen_row = next(
            (row for row in page if row.id == narrative_id), page[0] if page else None
        )

        player, caption = {"message": ""}, ""
        if chosen_row:
            caption = chosen_row.caption
            notes += trail_html(self.workspace, store.reviews.trail(chosen_row.id))
            try:
                player = show(self.workspace, store.narrative(chosen_row.id), chosen_row)
            except (ValueError, OSError) as error:
                player = {"message": str(error)}

        return [
            ends,
            chosen_row.id if chosen_row else None,
            rows_html(self.workspace, page, chosen_row.id if chosen_row else None),
            gr.Button(visible=len(ends) > 1),
            gr.Button(visible=len(rows) > PAGE),
            player,
            notes,
            gr.Column(visible=bool(chosen_row)),
            caption,
            *_visible(True, False, False),
            gr.Column(visible=bool(chosen_row)),
        ]

    def _pick(
        self, ends: list[int | None], _: int | None, request: gr.Request, event: gr.EventData
    ) -> list[Any]:
        return self._show(ends, field(event, "id", int), request)

    def _turn(self, ends: list[int | None], _: int | None, request: gr.Request) -> list[Any]:
        me = self.workspace.store.annotator(name_of(request))
        rows = self.workspace.store.people.narratives(me, before=ends[-1], limit=PAGE)
        return self._show([*ends, rows[-1].id] if rows else ends, None, request)

    def _turn_back(self, ends: list[int | None], _: int | None, request: gr.Request) -> list[Any]:
        return self._show(ends[:-1] or [None], None, request)

    def _mend(
        self, ends: list[int | None], narrative_id: int, caption: str, request: gr.Request
    ) -> list[Any]:
        notes = _notes(mend, self.workspace, name_of(request), narrative_id, caption)
        return self._show(ends, narrative_id, request, notes)

    def _take_back(
        self, ends: list[int | None], narrative_id: int, request: gr.Request
    ) -> list[Any]:
        try:
            text, entry_id = take_back(self.workspace, name_of(request), narrative_id)
            notes = f"<p class='done' role='status'>{escape(text)}</p>"
        except ValueError as error:
            notes, entry_id = problem_html(error), None
        undone = [entry_id, gr.Button(visible=entry_id is not None)]
        return [*self._show(ends, None, request, notes), *undone]

    def _bring_back(
        self, ends: list[int | None], narrative_id: int, entry_id: int, request: gr.Request
    ) -> list[Any]:
        notes = _notes(bring_back, self.workspace, name_of(request), entry_id)
        return [*self._show(ends, narrative_id, request, notes), None, gr.Button(visible=False)]


def _notes(action: Any, *arguments: Any) -> str:
    try:
        return f"<p class='done' role='status'>{escape(action(*arguments))}</p>"
    except ValueError as error:
        return problem_html(error)


def _visible(*flags: bool) -> list[gr.Button]:
    return [gr.Button(visible=flag) for flag in flags]


def build(workspace: Workspace) -> None:
    """The tab, inside the current gr.Tab."""
    MineTab(workspace)
