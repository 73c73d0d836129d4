"""Review: what was told and waits for a verdict, replayed beside its words; a key for everything.

A reviewer accepts, mends the words and accepts, or rejects for a reason that the annotator reads.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

import gradio as gr

from data_tools.quality import flags
from data_tools.quality.wording import reworded
from data_tools.speech.voices import read_voice
from data_tools.store.rows import NarrativeRow, Review
from loctex.records.images import decode_image
from loctex.records.narrative import Narrative
from ui.assets import static
from ui.components import Listing, Player
from ui.context import page_and_tab
from ui.data.listing import problem_html, thumbnail
from ui.guard.access import name_of
from ui.guard.payloads import MOST_CHARACTERS, demand_length, field
from ui.html import empty
from ui.viewing.payload import payload
from ui.workspace import Workspace

MOST_REASON = 1_000  # characters
PAGE = 8  # narratives listed at a time
LABELS = {"unreviewed": "To review", "accepted": "Accepted", "rejected": "Rejected"}
NOTHING = {
    "unreviewed": "Nothing waits for a verdict here. New narratives appear as they are submitted.",
    "accepted": "Nothing was accepted here yet.",
    "rejected": "Nothing was rejected here.",
}
NO_COLLECTION = empty(
    "Nothing to review yet", "What people tell of the images waits here for a verdict.", "Data"
)
KEYS = """<p class='studio-quiet keys'><kbd>a</kbd> accept <kbd>x</kbd> reject <kbd>e</kbd> mend the
words <kbd>↓</kbd> <kbd>↑</kbd> next, previous</p>"""


# --- what it does


def flags_of(workspace: Workspace, narrative: Narrative) -> list[flags.Flag]:
    """What is odd about it, its voice included."""
    path = workspace.voices.find(narrative.voice)
    return flags.flags(narrative, read_voice(path) if path else None)


def show(workspace: Workspace, narrative: Narrative, row: NarrativeRow) -> dict[str, Any]:
    """What the player shows."""
    image = workspace.store.image(row.image_row_id)
    voice = workspace.voices.find(narrative.voice)
    return payload(None, decode_image(image.path), narrative, voice=voice)


def accept(workspace: Workspace, reviewer: str, narrative_id: int, caption: str) -> str:
    """Accept, with other words where the caption was changed; what was done, in words."""
    store = workspace.store
    demand_length(caption, MOST_CHARACTERS, "The caption")
    me, was = store.annotator(reviewer), store.narrative(narrative_id)
    demand_other(workspace, me, was)
    if " ".join(caption.split()) == " ".join(was.caption.split()):
        store.reviews.accept(narrative_id, me)
        return "Accepted."
    store.reviews.fix(narrative_id, me, reworded(was, caption))
    return "Accepted with your words; what it said before is kept in its trail."


def demand_other(workspace: Workspace, reviewer_id: int, narrative: Narrative) -> None:
    """ValueError where a person would judge what they told themselves; alone, one may."""
    if workspace.users is not None and narrative.annotator_id == reviewer_id:
        raise ValueError(
            "This is your own narrative: another reviewer judges it. Mend or delete it in Mine."
        )


def reject(workspace: Workspace, reviewer: str, narrative_id: int, reason: str) -> str:
    store = workspace.store
    demand_length(reason, MOST_REASON, "The reason")
    me = store.annotator(reviewer)
    demand_other(workspace, me, store.narrative(narrative_id))
    store.reviews.reject(narrative_id, me, reason)
    return "Rejected. Its image goes to somebody else, and the annotator reads why."


# --- how it reads


def rows_html(
    workspace: Workspace, rows: Sequence[NarrativeRow], chosen_id: int | None, status: str
) -> str:
    """HTML: a button for each narrative, with its picture, who told it, and its flags."""
    if not rows:
        return f"<p class='none'>{NOTHING[status]}</p>"

    names, buttons = workspace.store.people.names(), []
    for row in rows:
        flags = flags_of(workspace, workspace.store.narrative(row.id))
        image = workspace.store.image(row.image_row_id)
        who = names.get(row.annotator_id, f"annotator {row.annotator_id}")
        buttons.append(
            f"<button type='button' class='row' data-id='{row.id}' "
            f"aria-pressed='{str(row.id == chosen_id).lower()}'>"
            f"<img src='{thumbnail(image)}' alt='' loading='lazy'>"
            f"<span class='said' dir='auto'>{escape(row.caption)}</span>"
            f"<span class='facts'>{escape(who)} · "
            f"{row.duration:.0f} s{chips(flags)}</span></button>"
        )

    return f"<div class='rows'>{''.join(buttons)}</div>"


def chips(flags: Sequence[flags.Flag]) -> str:
    return "".join(f" <i class='flag' title='{escape(f.says)}'>{f.name}</i>" for f in flags)


def flags_html(flags: Sequence[flags.Flag]) -> str:
    if not flags:
        return "<p class='gates good'>All automatic checks passed.</p>"
    lines = "".join(
        f"<li><i class='flag'>{flag.name}</i> {escape(flag.says)}</li>" for flag in flags
    )
    return f"<ul class='gates'>{lines}</ul>"


def trail_html(workspace: Workspace, trail: Sequence[Review]) -> str:
    """HTML: who did what to it, and when."""
    names = workspace.store.people.names()
    lines = "".join(
        f"<li><b>{entry.verdict}</b> by {escape(names.get(entry.reviewer_id, 'somebody'))}, "
        f"{entry.created.astimezone():%d %b %Y, %H:%M}"
        + (f": <q>{escape(entry.reason)}</q>" if entry.reason else "")
        + (f"<br>before: {escape(caption_of(entry.before))}" if entry.before else "")
        + "</li>"
        for entry in trail
    )
    return f"<ul class='trail'>{lines}</ul>" if lines else ""


def caption_of(record: str) -> str:
    return Narrative.from_json(record).caption


# --- the page


class ReviewTab:
    """The components of the tab, and the events between them."""

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace
        self.narrative, self.starts = gr.State(None), gr.State([0])
        self.shown_id = gr.Number(visible=False)  # the page's own word for which narrative it shows

        with gr.Row(elem_classes="studio-line"):
            self.collection = gr.Dropdown([], label="Collection", scale=0, min_width=260)
            self.status = gr.Radio(
                [(label, key) for key, label in LABELS.items()],
                value="unreviewed",
                show_label=False,
                container=False,
                scale=1,
                min_width=380,
                elem_id="review-status",
            )

        with gr.Row(elem_classes="studio-pair"):
            with gr.Column(scale=2, min_width=280):
                self.rows = Listing(elem_id="review-rows")
                with gr.Row():
                    self.back = gr.Button("Back", size="sm", min_width=60, visible=False)
                    self.more = gr.Button("More", size="sm", min_width=60, visible=False)
            with gr.Column(scale=3, min_width=400, visible=False) as self.details:
                with gr.Row(elem_classes="studio-line"):
                    self.accept = gr.Button(
                        "Accept",
                        variant="primary",
                        scale=0,
                        min_width=90,
                        elem_id="review-accept",
                    )
                    self.reason = gr.Textbox(
                        show_label=False,
                        container=False,
                        max_lines=1,
                        min_width=120,
                        placeholder="Why it is rejected, for the annotator",
                        elem_id="review-reason",
                    )
                    self.reject = gr.Button("Reject", scale=0, min_width=84)

                self.notes = Listing(elem_id="review-said")
                self.player = Player({"message": "Choose a narrative to replay it."})
                self.caption = gr.Textbox(
                    label="Words",
                    lines=2,
                    elem_id="review-words",
                    info="Mend them here; Accept keeps what you changed.",
                )
                self.trail = Listing(elem_id="review-trail")
                gr.HTML(
                    KEYS,
                    js_on_load=static("review.js"),
                    apply_default_css=False,
                    css_template=static("listing.css"),
                )

        self._wire()

    def _wire(self) -> None:
        at = [self.collection, self.status, self.starts, self.narrative]
        outputs = [
            *at,
            self.rows,
            self.back,
            self.more,
            self.player,
            self.notes,
            self.details,
            self.caption,
            self.reason,
            self.trail,
            self.shown_id,
        ]

        quiet: dict[str, Any] = {
            "show_progress": "hidden",
            "api_visibility": "private",
            "concurrency_id": "review",
        }
        anew: dict[str, Any] = {"inputs": at, "outputs": outputs} | quiet

        page_and_tab()[1].select(self._show, **anew)
        gr.on([self.collection.input, self.status.input], self._first_page, **anew)
        self.rows.pick(self._pick, **anew)
        self.more.click(self._turn, **anew)
        self.back.click(self._turn_back, **anew)

        for event, action, text in (
            (self.accept.click, accept, self.caption),
            (self.reject.click, reject, self.reason),
            (self.reason.submit, reject, self.reason),
        ):
            event(self._judge(action), [*at, self.shown_id, text], outputs, **quiet)

    def _show(
        self,
        collection: int | None,
        status: str,
        starts: list[int],
        narrative_id: int | None,
        *,
        notes: str = "",
    ) -> list[Any]:
        store = self.workspace.store
        collections = store.collections()
        ids = [c.id for c in collections]
        collection = collection if collection in ids else next(iter(ids), None)

        rows, counts = [], {}
        if collection is not None:
            rows = store.reviews.queue(collection, status, after=starts[-1], limit=PAGE + 1)
            counts = store.reviews.counts(collection)

        page = rows[:PAGE]
        chosen_row = next(
            (row for row in page if row.id == narrative_id), page[0] if page else None
        )

        label = [(f"{text} ({counts.get(key, 0):,})", key) for key, text in LABELS.items()]
        listing_html = rows_html(
            self.workspace, page, chosen_row.id if chosen_row else None, status
        )
        listing_html = listing_html if collections else NO_COLLECTION
        choices = [(c.name, c.id) for c in collections]

        return [
            gr.Dropdown(choices=choices, value=collection, visible=bool(collections)),
            gr.Radio(choices=label, value=status, visible=bool(collections)),
            starts,
            chosen_row.id if chosen_row else None,
            listing_html if chosen_row else notes + listing_html,
            gr.Button(visible=len(starts) > 1),
            gr.Button(visible=len(rows) > PAGE),
            *self._details(chosen_row, notes),
        ]

    def _details(self, row: NarrativeRow | None, notes: str) -> list[Any]:
        """Player, what is said of it, all of it shown or not, its words, no reason, its trail, and
        that it is shown."""
        if row is None:
            return [{"message": ""}, "", gr.Column(visible=False), "", "", "", None]
        try:
            narrative = self.workspace.store.narrative(row.id)
            player = show(self.workspace, narrative, row)
            notes += flags_html(flags_of(self.workspace, narrative))
        except (ValueError, OSError) as error:
            player = {"message": str(error)}
        trail = trail_html(self.workspace, self.workspace.store.reviews.trail(row.id))
        return [player, notes, gr.Column(visible=True), row.caption, "", trail, row.id]

    def _first_page(self, collection: int | None, status: str, *_: Any) -> list[Any]:
        return self._show(collection, status, [0], None)

    def _pick(
        self,
        collection: int | None,
        status: str,
        starts: list[int],
        _: int | None,
        event: gr.EventData,
    ) -> list[Any]:
        return self._show(collection, status, starts, field(event, "id", int))

    def _turn(self, collection: int, status: str, starts: list[int], _: int | None) -> list[Any]:
        queue = self.workspace.store.reviews.queue
        rows = queue(collection, status, after=starts[-1], limit=PAGE)
        return self._show(collection, status, [*starts, rows[-1].id] if rows else starts, None)

    def _turn_back(self, collection: int, status: str, starts: list[int], *_: Any) -> list[Any]:
        return self._show(collection, status, starts[:-1] or [0], None)

    def _judge(self, action: Any) -> Any:
        """The verdict, then the narrative after it."""

        def judge(
            collection: int,
            status: str,
            starts: list[int],
            narrative_id: int,
            shown_id: int,
            text: str,
            request: gr.Request,
        ) -> list[Any]:
            if collection is None or narrative_id is None:
                raise ValueError("There is no narrative to judge here; choose one.")
            if shown_id != narrative_id:  # the words on the page would become another's
                problem = problem_html(
                    ValueError("Not judged: the page was on its way to this one.")
                )
                return self._show(collection, status, starts, narrative_id, notes=problem)

            queue = self.workspace.store.reviews.queue
            after = queue(collection, status, after=narrative_id, limit=1)

            try:
                outcome = action(self.workspace, name_of(request), narrative_id, text)
            except ValueError as error:
                updates = self._show(collection, status, starts, narrative_id)
                unchanged = [gr.skip()] * 4  # what was typed stays
                return [*updates[:8], problem_html(error), updates[9], *unchanged]

            notes = f"<p class='done' role='status'>{escape(outcome)}</p>"
            following = after[0].id if after else None
            return self._show(collection, status, starts, following, notes=notes)

        return judge


def build(workspace: Workspace) -> None:
    """The tab, inside the current gr.Tab."""
    ReviewTab(workspace)
