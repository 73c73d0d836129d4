"""Inspect: where a trained model looks for each word, beside where a person pointed."""

from __future__ import annotations

import base64
import mimetypes
import re
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr

from loctex.jobs.checkpoint_files import folder_at
from ui.assets import static
from ui.components import Comparison, Listing, Player, Saver
from ui.guard.access import uploaded
from ui.guard.payloads import field
from ui.html import empty
from ui.inspect import nearest
from ui.inspect.atlas_tab import AtlasView
from ui.inspect.comparison import MOST, compare
from ui.viewing.look import NO_MODEL, look, player_value
from ui.viewing.models import Models, checkpoints
from ui.viewing.pictures import PictureRef, list_items, load_item, sources, thumbnail
from ui.viewing.survey import making, survey
from ui.workspace import Workspace

FIGURES = {"SVG": "svg", "PNG": "png", "PDF": "pdf", "Player (HTML)": "html", "Numbers": "json"}
NOTHING = empty(
    "Nothing to look at yet",
    "Train a model, then come back and see where it looks for each word.",
    "Train",
)
NOT_SCORED = (
    '<div class="nearest"><p>Score this split under Atlas once, then the sentences nearest to a '
    "picture and the pictures nearest to a sentence stand here.</p></div>"
)


def build(workspace: Workspace) -> InspectPage:
    """The tab, inside the current gr.Tab."""
    return InspectPage(workspace)


class InspectPage:
    """The tab's parts: what to look at on the left; one picture, models compared, the atlas."""

    def __init__(self, workspace: Workspace) -> None:
        self.workspace, self.models = workspace, Models()
        self.items, self.item = gr.State([]), gr.State(None)
        self.starts, self.end, self.view = gr.State([0]), gr.State(None), gr.State("one")
        self.guide = gr.HTML(NOTHING, visible=False, apply_default_css=False)

        with gr.Row(elem_classes="inspect", visible=False) as self.row:
            with gr.Column(scale=1, min_width=250):
                self._build_side()
            with gr.Column(scale=5, min_width=600):
                self.caption = gr.Textbox(
                    show_label=False,
                    container=False,
                    placeholder="Say what is in the picture",
                    submit_btn="Look",
                    max_lines=3,
                    elem_id="inspect-caption",
                )

                with gr.Tabs(elem_id="inspect-views", elem_classes="inner") as self.views:
                    with gr.Tab("One picture", id="one") as self.one:
                        self._build_one()
                    with gr.Tab("Compare", id="compare") as self.compared:
                        self.rivals = gr.Dropdown(
                            [],
                            multiselect=True,
                            max_choices=MOST,
                            show_label=False,
                            container=False,
                            elem_id="inspect-rivals",
                        )
                        self.comparison = Comparison(elem_id="inspect-comparison")
                    with gr.Tab("Atlas", id="atlas") as self.atlas_tab:
                        self.atlas = AtlasView(workspace, self.models, self.checkpoint, self.source)

        self._wire()

    def _build_side(self) -> None:
        with gr.Row():
            self.checkpoint = gr.Dropdown([], label="Model", min_width=180)
            self.source = gr.Dropdown([], label="Pictures", min_width=180)

        with gr.Column() as self.browse:
            self.gallery = gr.Gallery(
                show_label=False,
                columns=2,
                height=520,
                object_fit="cover",
                allow_preview=False,
                interactive=False,
                buttons=[],
                elem_id="inspect-gallery",
            )

            with gr.Row():
                self.back = gr.Button("Back", size="sm", min_width=60, interactive=False)
                self.more = gr.Button("More", size="sm", min_width=60, interactive=False)
                self.own = gr.UploadButton(
                    "A picture of your own", file_types=["image"], size="sm", min_width=180
                )

    def _build_one(self) -> None:
        self.player = Player({"message": NO_MODEL}, accepts="image", elem_id="inspect-player")

        with gr.Accordion("Nearest sentences and pictures", open=False) as self.near:
            self.nearest = Listing(elem_id="inspect-nearest", css_template=static("atlas.css"))

        with gr.Accordion("Save as a figure", open=False):
            with gr.Row(elem_classes="studio-line"):
                self.words = gr.Textbox(
                    label="Words",
                    placeholder="2,5,6; left empty: those that name something",
                    max_lines=1,
                    scale=3,
                    min_width=220,
                    elem_id="figure-words",
                )

                self.columns = gr.Number(
                    4,
                    label="Panels beside each other",
                    precision=0,
                    minimum=1,
                    maximum=12,
                    min_width=120,
                )
                self.dpi = gr.Number(
                    300, label="Dots per inch", precision=0, minimum=50, maximum=1200, min_width=120
                )

            with gr.Row(elem_classes="studio-line"):
                self.figures = [gr.Button(name, size="sm", min_width=90) for name in FIGURES]
            self.saver = Saver()

    def _wire(self) -> None:
        """Whatever is chosen, what is in view follows."""
        self.look_step = (
            self._look,
            [self.view, self.checkpoint, self.rivals, self.item, self.caption],
            [self.player, self.comparison],
        )

        self.near_step = (
            self._near,
            [self.view, self.checkpoint, self.source, self.item, self.caption],
            [self.nearest],
        )

        self.atlas_step = (
            self._atlas,
            [self.view, self.checkpoint, self.source, self.atlas.selection, self.atlas.list_start],
            self.atlas.outputs,
        )

        self._wire_choices()
        self._wire_views()

    def _wire_choices(self) -> None:
        picked = [self.item, self.caption]
        page = (
            partial(turn, self.workspace),
            [self.source, self.starts],
            [self.gallery, self.items, self.back, self.more, self.end],
        )

        for event in (self.row.parent.select, self.source.input):
            step = _on(
                event,
                partial(_offer, self.workspace, event == self.source.input),
                [self.checkpoint, self.source, self.rivals, self.item, self.starts],
                [
                    self.checkpoint,
                    self.source,
                    self.rivals,
                    self.row,
                    self.guide,
                    self.item,
                    self.starts,
                ],
            )
            step = _on(_on(step.then, *page).then, _first, [self.items, *picked], picked)
            _on(self._follow(step.then).then, *self.atlas_step)

        for button, move in (
            (self.back, lambda starts, end: starts[:-1] or [0]),
            (self.more, lambda starts, end: [*starts, end]),
        ):
            _on(_on(button.click, move, [self.starts, self.end], [self.starts]).then, *page)

        for event, pick, inputs in (
            (self.gallery.select, _pick, [self.items]),
            (self.own.upload, _own, [self.own]),
            (self.player.dropped, _dropped, []),
            (self.nearest.pick, self._nearer, [*picked, self.source, self.checkpoint]),
        ):
            self._follow(_on(event, pick, inputs, picked).then)

        for event in (self.caption.submit, self.checkpoint.input, self.rivals.input):
            _on(self._follow(event).then, *self.atlas_step)

    def _wire_views(self) -> None:
        _on(self.near.expand, *self.near_step)
        for tab, name in ((self.one, "one"), (self.compared, "compare"), (self.atlas_tab, "atlas")):
            turned = _on(
                tab.select, partial(_turn_to, name), [], [self.view, self.browse, self.caption]
            )
            _on(_on(turned.then, *self.look_step).then, *self.atlas_step)

        opened = _on(
            self.atlas.page.pick,
            self._open,
            [self.source, self.checkpoint],
            [self.item, self.views, self.view, self.browse, self.caption],
        )
        self._follow(opened.then)

        for button, kind in zip(self.figures, FIGURES.values(), strict=True):
            _on(
                button.click,
                partial(self._figure, kind),
                [self.checkpoint, self.item, self.caption, self.words, self.columns, self.dpi],
                [self.saver],
            )

    def _follow(self, event: Callable) -> Any:
        """The player, or the comparison, and what is nearest."""
        return _on(_on(event, *self.look_step).then, *self.near_step)

    def open_run(self, event: Callable, selected: gr.State) -> None:
        """event: asks for the tab with the model of the run that is selected there."""
        step = _on(event, self._model_of, [selected], [self.checkpoint])
        step.then(None, js="() => openTab('Inspect')", api_visibility="private")

    def _model_of(self, run: str | None) -> Any:
        """The best checkpoint of a run, chosen before the tab opens; it keeps what is chosen."""
        if not run:
            return gr.skip()
        folder = self.workspace.run(run).path
        choices = checkpoints(self.workspace)
        own = [value for _, value in choices if Path(value).is_relative_to(folder)]
        return gr.Dropdown(choices, value=own[0]) if own else gr.skip()

    # --- what is shown

    def _look(
        self,
        view: str,
        checkpoint: str | None,
        rivals: list[str],
        item: PictureRef | None,
        caption: str,
    ) -> tuple:
        """The player or the comparison; what is not in view waits until it is."""
        if view == "atlas":
            return gr.skip(), gr.skip()
        if view == "compare":
            return gr.skip(), compare(self.workspace, self.models, rivals or [], item, caption)
        return player_value(self.workspace, self.models, checkpoint, item, caption)[0], gr.skip()

    def _near(
        self,
        view: str,
        checkpoint: str | None,
        source: str | None,
        item: PictureRef | None,
        caption: str,
    ) -> str:
        """Nearest sentences and pictures, over the pictures that are chosen."""
        if view != "one" or not (checkpoint and source and item and caption.strip()):
            return ""

        try:
            scored = survey(making(self.workspace, checkpoint, source))
            if scored is None:
                return NOT_SCORED
            image = load_item(self.workspace, item)[0]
            answer = self.models.look(checkpoint, image, caption, None, has_layers=False)
        except (ValueError, FileNotFoundError):
            return NOT_SCORED
        return nearest.html(self.workspace, scored, source, answer, caption)

    def _atlas(self, view: str, *atlas_values: Any) -> Any:
        return (
            self.atlas.show(*atlas_values)
            if view == "atlas"
            else [gr.skip()] * len(self.atlas.outputs)
        )

    def _open(self, source: str, checkpoint: str, event: gr.EventData) -> tuple:
        """A sentence of the atlas, in the player."""
        item = self.atlas.opened(source, checkpoint, event)
        if item is None:
            return (gr.skip(),) * 5
        caption = gr.Textbox(item.caption, visible=True)
        return item, gr.Tabs(selected="one"), "one", gr.Column(visible=True), caption

    def _nearer(
        self, item: PictureRef, caption: str, source: str, checkpoint: str, event: gr.EventData
    ) -> tuple:
        """A near sentence asked of this picture, or a near picture opened with its own."""
        scored = survey(making(self.workspace, checkpoint, source))
        act, _, row = field(event, "id", str).partition(" ")
        if scored is None or not row.isdecimal():
            raise ValueError("This list is gone; reload the page.")
        near = nearest.listed(scored, source, int(row[:18]))
        return (item, near.caption) if act == "say" else (near, near.caption)

    def _figure(
        self,
        kind: str,
        checkpoint: str | None,
        item: PictureRef | None,
        caption: str,
        words: str,
        columns: float,
        dpi: float,
    ) -> dict[str, str]:
        """A figure of what is shown, for the browser to save. gr.Error says what is wrong."""
        from ui import figure

        try:
            inspection = look(self.workspace, self.models, checkpoint, item, caption)
            word_indices = [int(k) - 1 for k in words.split(",")] if words.strip() else None
            content = figure.content(
                [inspection], kind, dpi=int(dpi), word_indices=word_indices, columns=int(columns)
            )
        except (ValueError, FileNotFoundError, IndexError) as error:
            raise gr.Error(str(error), print_exception=False) from error
        name = re.sub(r"[^A-Za-z0-9]+", "-", caption)[:48].strip("-").lower() or "figure"
        kind_of = mimetypes.guess_type(f"x.{kind}")[0] or "application/octet-stream"
        return {
            "name": f"{name}.{kind}",
            "type": kind_of,
            "base64": base64.b64encode(content).decode(),
        }


def _on(event: Callable, action: Callable, inputs: list, outputs: list) -> Any:
    return event(action, inputs, outputs, api_visibility="private")


def turn(workspace: Workspace, source: str | None, starts: list[int]) -> tuple:
    """A page of the gallery."""
    items, end = list_items(workspace, source, starts[-1]) if source else ([], None)
    images = [thumbnail(load_item(workspace, item)[0]) for item in items]
    buttons = gr.Button(interactive=len(starts) > 1), gr.Button(interactive=end is not None)
    return gr.Gallery(images, selected_index=None), items, *buttons, end


def _offer(
    workspace: Workspace,
    is_new: bool,
    checkpoint: str | None,
    source: str | None,
    rivals: Sequence[str] | None,
    item: PictureRef | None,
    starts: list[int],
) -> tuple:
    """What can be chosen now; the person's choice stays where it still exists."""
    trained, places = checkpoints(workspace), sources(workspace)

    dropdowns = [
        gr.Dropdown(
            choices, value=old if old in [value for _, value in choices] else _value(choices)
        )
        for choices, old in ((trained, checkpoint), (places, source))
    ]

    folders = {str(folder_at(folder).resolve()): folder for _, folder in reversed(trained)}
    still = [rival for rival in rivals or [] if rival in {value for _, value in trained}]
    some = still or list(reversed(folders.values()))[:2]

    again = (None, [0]) if is_new else (item, starts)
    ready = bool(trained)
    views = gr.Row(visible=ready), gr.HTML(visible=not ready)

    return *dropdowns, gr.Dropdown(trained, value=some), *views, *again


def _turn_to(view: str) -> tuple:
    is_one_picture = view != "atlas"
    return view, gr.Column(visible=is_one_picture), gr.Textbox(visible=is_one_picture)


def _value(choices: Sequence[tuple[str, str]]) -> str | None:
    return choices[0][1] if choices else None


def _first(
    items: list[PictureRef], item: PictureRef | None, caption: str
) -> tuple[PictureRef | None, str]:
    """Something to look at from the start."""
    if item is not None or not items:
        return item, caption
    return items[0], items[0].caption


def _pick(items: list[PictureRef], event: gr.EventData) -> tuple[PictureRef, str]:
    index = field(event, "index", int)
    if not 0 <= index < len(items or ()):
        raise ValueError("This picture is not in the list any more; choose another one.")
    return items[index], items[index].caption


def _own(file: str | None) -> tuple[PictureRef, str]:
    if not isinstance(file, str):
        raise ValueError("There is no picture here; choose one.")
    return PictureRef("", path=Path(file)), ""


def _dropped(event: gr.EventData) -> tuple[PictureRef, str]:
    """A file let fall on the player; its path comes from the browser, so it is checked."""
    try:
        return _own(str(uploaded(field(event, "path", str))))
    except ValueError as error:
        raise gr.Error(str(error), print_exception=False) from error
