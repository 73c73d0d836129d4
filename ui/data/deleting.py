"""Deleting in Data: asked twice where much would go, undone with one click, kept in a trash.

Whoever clicks twice without moving keeps everything: the harmless answer comes first, where the
pointer is, and the one that deletes is the last and never below it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape
from typing import Any

import gradio as gr

from data_tools.store.rows import TrashEntry
from ui.components import Listing
from ui.data.exchange import Outcome, counted, demand, find
from ui.data.listing import outcome_html, problem_html
from ui.guard.access import name_of
from ui.guard.payloads import field
from ui.workspace import Workspace

QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
_BUTTON: dict[str, Any] = {"size": "sm", "scale": 0, "min_width": 220}

# --- what it does


def delete_narrative(workspace: Workspace, name: str, narrative_id: int) -> int:
    """Into the trash; the id of its entry. ValueError: it is gone."""
    return workspace.store.trash.put_narrative(narrative_id, workspace.store.annotator(name))


def delete_image(workspace: Workspace, name: str, narrative_id: int) -> int:
    """The image of this narrative into the trash, with all that was told of it."""
    image_row_id = workspace.store.narrative_row(narrative_id).image_row_id
    return workspace.store.trash.put_image(image_row_id, workspace.store.annotator(name))


def deleted_text(workspace: Workspace, entry_id: int) -> str:
    """What was deleted, and where it is now."""
    entry = workspace.store.trash.entry(entry_id)
    if entry is None:  # the collection keeps nothing
        return "Deleted for good: this collection has no trash."

    days = next(
        collection.trash_days
        for collection in workspace.store.collections()
        if collection.id == entry.collection_id
    )

    where = f"It lies in the trash for {counted(days, 'day')}."
    if entry.kind == "narrative":
        return f"The narrative was deleted. Its image stays. {where}"

    much = counted(entry.num_narratives, "narrative")
    return f"The image was deleted, with all that was told of it ({much}). {where}"


def restore(workspace: Workspace, entry_id: int) -> str:
    """Bring it back; what came back, in words. ValueError: why it cannot."""
    entry = workspace.store.trash.restore(entry_id)
    if entry.kind == "narrative":
        return "The narrative is back."
    return f"The image is back, with {counted(entry.num_narratives, 'narrative')}."


def image_question(workspace: Workspace, narrative_id: int) -> tuple[str, str]:
    """How much would go with the image of this narrative: a question, and the answer yes."""
    row = workspace.store.narrative_row(narrative_id)
    narratives = workspace.store.narratives(
        row.collection_id, image_row_id=row.image_row_id, limit=1000
    )
    people = len({narrative.annotator_id for narrative in narratives})
    by = f"by {counted(people, 'person')}" if people == 1 else f"by {people:,} people"
    much = counted(len(narratives), "narrative")
    return f"Delete this image with {much} {by}?", f"Delete image and {much}"


def entries_html(workspace: Workspace, entries: Sequence[TrashEntry]) -> str:
    """HTML: what lies in the trash; a click on an entry brings it back."""
    if not entries:
        return "<p class='none'>The trash is empty.</p>"
    names = workspace.store.people.names()

    items = []
    for entry in entries:
        what = "a narrative"
        if entry.kind == "image":
            what = f"an image with {counted(entry.num_narratives, 'narrative')}"
        who = names.get(entry.annotator_id, "somebody")
        items.append(
            f"<li><span class='said' dir='auto'>{escape(entry.title)}</span>"
            f"<span class='facts'>{what}, deleted by {escape(who)}, "
            f"{entry.deleted.astimezone():%d %b %Y, %H:%M}</span>"
            f"<button type='button' data-id='{entry.id}'>Bring it back</button></li>"
        )

    return f"<ul class='trash'>{''.join(items)}</ul>"


# --- what it looks like


class DeletingRow:
    """The buttons below a narrative, and their questions. `reset(is_there)` are the updates of
    `components` that put them back to the beginning."""

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace
        hidden: dict[str, Any] = {"visible": False, **_BUTTON}
        with gr.Row():  # one row: "Keep it" comes where "Delete" was
            self.delete = gr.Button("Delete this narrative", **hidden)
            self.keep = gr.Button("Keep it", **hidden)
            self.sure = gr.Button("Delete the narrative", variant="stop", **hidden)
            self.with_image = gr.Button("Delete its image too", **hidden)
            self.sure_image = gr.Button("Delete image and narratives", variant="stop", **hidden)
        # below, so that the answers stay where they are, and in sight
        self.how_much = gr.HTML(visible=False, apply_default_css=False, elem_id="data-question")
        self.components = [
            self.delete,
            self.keep,
            self.sure,
            self.with_image,
            self.sure_image,
            self.how_much,
        ]

    def wire(
        self, narrative: gr.State, outcome: Listing, undo: UndoButton, show: dict[str, Any]
    ) -> None:
        """narrative: the id of the shown one. show: the event that shows the page anew."""
        self.delete.click(lambda: _question_updates("narrative"), None, self.components, **QUIET)
        self.keep.click(lambda: _question_updates("nothing"), None, self.components, **QUIET)
        self.with_image.click(self._ask, narrative, self.components, **QUIET)
        for button, action in (
            (self.sure, delete_narrative),
            (self.sure_image, delete_image),
        ):
            outputs = [outcome, *undo.components]
            button.click(undo.deleting(action), narrative, outputs, **QUIET).then(**show)

    def reset(self, is_there: bool) -> list[Any]:
        return _question_updates("nothing" if is_there else "none")

    def _ask(self, narrative_id: int) -> list[Any]:
        try:
            text, answer = image_question(self.workspace, narrative_id)
        except ValueError:  # deleted meanwhile: the page is shown anew with the next click
            return _question_updates("none")
        *buttons, sure_image, _ = _question_updates("image")
        sure_image = gr.Button(answer, visible=True)
        return [*buttons, sure_image, gr.HTML(f"<p class='ask'>{escape(text)}</p>", visible=True)]


class UndoButton:
    """Beside what is said of the last deletion: brings it back."""

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace
        self.entry = gr.State(None)  # its id in the trash
        self.button = gr.Button("Undo", scale=0, min_width=90, visible=False, elem_id="data-undo")
        self.components = [self.entry, self.button]

    def wire(self, outcome: Listing, show: dict[str, Any]) -> None:
        self.button.click(self._undo, self.entry, [outcome, *self.components], **QUIET).then(**show)

    def deleting(self, action: Callable[..., int]) -> Callable[..., list[Any]]:
        """The event of a deletion: the outcome, and `components`, after it."""

        def delete(narrative_id: int, request: gr.Request) -> list[Any]:
            try:
                self.workspace.demand("admin", request.username)
                entry_id = action(self.workspace, name_of(request), narrative_id)
            except ValueError as error:
                return [problem_html(error), None, gr.Button(visible=False)]
            is_kept = self.workspace.store.trash.entry(entry_id) is not None
            text = outcome_html(Outcome(deleted_text(self.workspace, entry_id)))
            return [text, entry_id, gr.Button(visible=is_kept)]

        return delete

    def _undo(self, entry_id: int, request: gr.Request) -> list[Any]:
        return [restored(self.workspace, entry_id, request), None, gr.Button(visible=False)]


class TrashPage:
    """The tab Trash: what can be brought back, for how long, and emptying it."""

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace
        workspace.store.trash.expire()  # what grew too old while no studio was open

        with gr.Tab("Trash") as self.tab:
            self.rows = Listing(elem_id="data-trash")

            with gr.Row(elem_classes="studio-line"):
                self.days = gr.Number(
                    30,
                    label="Days until what is deleted is gone",
                    info="0: gone at once, without an undo",
                    minimum=0,
                    precision=0,
                    scale=0,
                    min_width=280,
                    elem_id="data-trash-days",
                )
                self.save = gr.Button("Save", scale=0, min_width=120)
                self.empty = gr.Button("Empty the trash", scale=0, min_width=160)

            with gr.Column(visible=False) as self.question:
                self.how_much = gr.HTML(apply_default_css=False)
                with gr.Row():
                    self.keep = gr.Button("Keep it", **_BUTTON)
                    self.sure = gr.Button("Delete for good", variant="stop", **_BUTTON)

    def wire(self, collection: gr.State, outcome: Listing, show: dict[str, Any]) -> None:
        outputs = [self.rows, self.days, self.question]
        look: dict[str, Any] = {"fn": self._show, "inputs": collection, "outputs": outputs} | QUIET
        for event in (self.tab.select, collection.change):
            event(**look)
        self.rows.pick(self._restore, None, outcome, **QUIET).then(**look).then(**show)
        self.save.click(self._save, [collection, self.days], outcome, **QUIET).then(**look)
        question = [self.question, self.how_much]
        self.empty.click(self._ask, collection, question, **QUIET)
        self.keep.click(lambda: gr.Column(visible=False), None, self.question, **QUIET)
        self.sure.click(self._empty, collection, outcome, **QUIET).then(**look).then(**show)

    def _show(self, collection_id: int | None) -> list[Any]:
        collection = find(self.workspace, collection_id)
        if collection is None:
            return [gr.skip()] * 3
        self.workspace.store.trash.expire()
        entries = self.workspace.store.trash.entries(collection.id)
        return [
            entries_html(self.workspace, entries),
            collection.trash_days,
            gr.Column(visible=False),
        ]

    def _restore(self, request: gr.Request, event: gr.EventData) -> str:
        return restored(self.workspace, field(event, "id", int), request)

    def _save(self, collection_id: int | None, days: float | None, request: gr.Request) -> str:
        try:
            self.workspace.demand("admin", request.username)
            collection = demand(self.workspace, collection_id)
            self.workspace.store.trash.set_days(collection.id, int(days or 0))
        except ValueError as error:
            return problem_html(error)
        return outcome_html(
            Outcome(f"What is deleted is kept for {counted(int(days or 0), 'day')}.")
        )

    def _ask(self, collection_id: int | None) -> list[Any]:
        collection = demand(self.workspace, collection_id)
        entries = self.workspace.store.trash.entries(collection.id, limit=1000)
        num_narratives = sum(entry.num_narratives for entry in entries)
        text = f"Delete {counted(num_narratives, 'narrative')} for good? This cannot be undone."
        return [gr.Column(visible=bool(entries)), f"<p class='ask'>{text}</p>"]

    def _empty(self, collection_id: int | None, request: gr.Request) -> str:
        try:
            self.workspace.demand("admin", request.username)
            self.workspace.store.trash.empty(demand(self.workspace, collection_id).id)
        except ValueError as error:
            return problem_html(error)
        return outcome_html(Outcome("The trash is empty."))


def restored(workspace: Workspace, entry_id: int, request: gr.Request) -> str:
    """HTML: what came back, or why it cannot."""
    try:
        workspace.demand("admin", request.username)
        return outcome_html(Outcome(restore(workspace, entry_id)))
    except ValueError as error:
        return problem_html(error)


def _question_updates(what: str) -> list[Any]:
    """Updates of DeletingRow.components: what is asked now. "none": there is nothing to delete."""
    return [
        gr.Button(visible=what == "nothing"),
        gr.Button(visible=what in ("narrative", "image")),
        gr.Button(visible=what == "narrative"),
        gr.Button(visible=what == "narrative"),
        gr.Button(visible=what == "image"),
        gr.HTML(visible=what == "image"),
    ]
