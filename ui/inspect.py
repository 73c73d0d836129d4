"""Inspect: where a trained model looks for each word, beside where a person pointed."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr
import numpy as np
from gradio.utils import get_upload_folder

from loctex import metrics, trace, words
from loctex.narrative import Narrative, Word
from ui.components import Player
from ui.payload import payload
from ui.pictures import Listed, list_items, load_item, sources, thumbnail
from ui.workspace import Workspace

if TYPE_CHECKING:
    from loctex.predictor import Attention, Predictor

NO_MODEL = "Train a model, then come back and see where it looks for each word."
NO_PICTURE = "Choose a picture on the left, or drop one of your own."
NO_CAPTION = "Type a sentence about the picture, then press Enter: every word gets its own place."


# --- what the model answers


def checkpoints(workspace: Workspace) -> list[tuple[str, str]]:
    """(label, folder) of each trained checkpoint: newest run first, best before last."""
    return [
        (f"{run.name} · {name}", str(run.path / name))
        for run in workspace.runs()
        for name in ("best", "last")
        if (run.path / name / "config.json").is_file()
    ]


class Models:
    """Predictors in memory, by checkpoint and when it was written; a picture is encoded once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._shown: tuple[Any, bytes] | None = None

    def attend(
        self, checkpoint: str, image: np.ndarray, caption: str, recorded: Sequence[Word] | None
    ) -> tuple[Attention, float]:
        """The attention, and the seconds by which this model widens each word's window."""
        folder = Path(checkpoint).resolve()
        key = folder, (folder / "config.json").stat().st_mtime_ns
        with self._lock:
            predictor = _predictor(*key)
            shown = key, hashlib.blake2b(np.ascontiguousarray(image)).digest()
            if shown != self._shown:
                self._shown = None
                predictor.set_image(image)
                self._shown = shown
            attention = predictor.attend(caption, recorded)
            return attention, predictor.model.config.word_margin


@lru_cache(maxsize=2)
def _predictor(folder: Path, written: int) -> Predictor:
    from loctex.predictor import Predictor  # torch: only once somebody looks

    return Predictor.load(folder)


def compare(
    attention: Attention, narrative: Narrative, margin: float
) -> tuple[list[bool | None], list[dict[str, str]]]:
    """Model against person, as loctex.evaluate does it: a hit or miss per word (None: no trace),
    and the scores of the sentence."""
    windows = words.windows(narrative.words, margin)
    target = trace.rasterize(narrative.strokes, windows, attention.maps.shape[1:])
    grounded = target.any(axis=(1, 2)) & attention.maps.any(axis=(1, 2))
    cells = metrics.trace_cells(target)
    hits = metrics.pointing(attention.maps, cells)
    truth = trace.boxes(narrative.strokes, windows)
    rows = general(attention)
    if grounded.any():
        chance = metrics.pointing_chance(cells[grounded]).sum()
        rows.append(_row(
            "Words that agree", f"{hits[grounded].sum():.0f} of {grounded.sum()}",
            "The model's strongest cell meets the person's trace of the word (pointing_trace); "
            f"a cell drawn at random would meet {chance:.1f}. Where they differ, the line under "
            "the word is dashed.",
        ))  # fmt: skip
        costs = [metrics.lbm(attention.boxes, truth, window) for window in (0, 1)]
        rows.append(_row(
            "Distance of the paths", f"{costs[0]:.3f} · {costs[1]:.3f}",
            "Local bipartite matching (LBM, k = 0 and k = 1) of the model's boxes with the "
            "person's: 0 is the same path, in fractions of the picture.",
        ))  # fmt: skip
    is_hit = [bool(hit > 0.5) if known else None for hit, known in zip(hits, grounded, strict=True)]
    return is_hit, rows


def general(attention: Attention) -> list[dict[str, str]]:
    """The scores that need no recording."""
    rows = [_row("Match", f"{attention.score:.2f}", "Cosine of picture and sentence, from -1 to 1: "
                 "try a wrong sentence and see it fall.")]  # fmt: skip
    num_read = int(attention.maps.any(axis=(1, 2)).sum())
    if num_read < len(attention.words):
        rows.append(_row(
            "Words read", f"{num_read} of {len(attention.words)}",
            "The model cuts long captions; the pale words came after the cut.",
        ))  # fmt: skip
    return rows


def _row(name: str, value: str, help: str) -> dict[str, str]:
    return {"name": name, "value": value, "help": help}


def look(
    workspace: Workspace, models: Models, checkpoint: str | None, item: Listed | None, caption: str
) -> dict[str, Any]:
    """What the player shows; where that is not possible, a message that says what to do."""
    try:
        if item is None:
            return {"message": NO_PICTURE if checkpoint else NO_MODEL}
        image, narrative = load_item(workspace, item)
        is_told = narrative is not None and caption.strip() == narrative.caption.strip()
        recorded = narrative if is_told and narrative.words else None
        if checkpoint is None:
            return payload(None, image, recorded) if recorded else {"message": NO_MODEL}
        if not caption.strip():
            return {"message": NO_CAPTION}
        said = recorded.words if recorded else None
        attention, margin = models.attend(checkpoint, image, caption, said)
        if recorded is None:
            return payload(attention, image, scores=general(attention))
        hits, scores = compare(attention, recorded, margin)
        return payload(
            attention, image, recorded, margin=margin, hits=hits, scores=scores,
            voice=_voice(workspace, recorded),
        )  # fmt: skip
    except (ValueError, FileNotFoundError) as error:
        return {"message": str(error)}


def _voice(workspace: Workspace, narrative: Narrative) -> Path | None:
    path = workspace.voices_dir / Path(narrative.voice).name if narrative.voice else None
    return path if path and path.is_file() else None


# --- the page


def build(workspace: Workspace) -> gr.Button:
    """The tab. Returns the button of the empty state, which leads to Train."""
    listed, item, starts, end = gr.State([]), gr.State(None), gr.State([0]), gr.State(None)
    with gr.Row(elem_classes="inspect") as row:
        with gr.Column(scale=1, min_width=250, visible=False) as side:
            with gr.Row():
                checkpoint = gr.Dropdown([], label="Model", min_width=130)
                source = gr.Dropdown([], label="Pictures", min_width=130)
            gallery = gr.Gallery(
                show_label=False, columns=2, height=520, object_fit="cover", allow_preview=False,
                interactive=False, buttons=[], elem_id="inspect-gallery",
            )  # fmt: skip
            with gr.Row():
                back = gr.Button("Back", size="sm", min_width=60, interactive=False)
                more = gr.Button("More", size="sm", min_width=60, interactive=False)
                own = gr.UploadButton(
                    "A picture of your own", file_types=["image"], size="sm", min_width=180
                )
        with gr.Column(scale=5, min_width=600):
            caption = gr.Textbox(
                show_label=False, container=False, placeholder="Say what is in the picture",
                submit_btn="Look", max_lines=3, visible=False, elem_id="inspect-caption",
            )  # fmt: skip
            player = Player({"message": NO_MODEL}, accepts="image", elem_id="inspect-player")
            to_train = gr.Button(
                "Go to Train", variant="primary", visible=False, scale=0, elem_id="inspect-to-train"
            )

    def on(event: Callable, action: Callable, inputs: list, outputs: list, **more: Any) -> Any:
        return event(action, inputs, outputs, api_visibility="private", **more)

    models = Models()
    shown = partial(look, workspace, models), [checkpoint, item, caption], [player]
    page = partial(turn, workspace), [source, starts], [gallery, listed, back, more, end]
    first = _first, [listed, item, caption], [item, caption]
    for event in (row.parent.select, source.input):
        is_new = event == source.input
        step = on(event, partial(_offer, workspace, is_new), [checkpoint, source, item, starts],
                  [checkpoint, source, side, caption, to_train, item, starts])  # fmt: skip
        on(on(on(step.then, *page).then, *first).then, *shown)
    for button, move in ((back, lambda starts, end: starts[:-1] or [0]),
                         (more, lambda starts, end: [*starts, end])):  # fmt: skip
        on(on(button.click, move, [starts, end], [starts]).then, *page)
    picked = [item, caption]
    on(on(gallery.select, _pick, [listed], picked).then, *shown)
    on(on(own.upload, _own, [own], picked).then, *shown)
    on(on(player.dropped, _dropped, [], picked).then, *shown)
    for event in (caption.submit, checkpoint.input):
        on(event, *shown)
    return to_train


def turn(workspace: Workspace, source: str | None, starts: list[int]) -> tuple:
    """A page of the gallery."""
    items, end = list_items(workspace, source, starts[-1]) if source else ([], None)
    images = [thumbnail(load_item(workspace, one)[0]) for one in items]
    buttons = gr.Button(interactive=len(starts) > 1), gr.Button(interactive=end is not None)
    return gr.Gallery(images, selected_index=None), items, *buttons, end


def _offer(
    workspace: Workspace,
    is_new: bool,
    checkpoint: str | None,
    source: str | None,
    item: Listed | None,
    starts: list[int],
) -> tuple:
    """What can be chosen now; the person's choice stays where it still exists."""
    trained, places = checkpoints(workspace), sources(workspace)
    chosen = [
        gr.Dropdown(
            known,
            value=old if old in dict(map(reversed, known)) else known[0][1] if known else None,
        )  # fmt: skip
        for known, old in ((trained, checkpoint), (places, source))
    ]
    again = (None, [0]) if is_new else (item, starts)
    ready = bool(trained)
    views = gr.Column(visible=ready), gr.Textbox(visible=ready), gr.Button(visible=not ready)
    return *chosen, *views, *again


def _first(listed: list[Listed], item: Listed | None, caption: str) -> tuple[Listed | None, str]:
    """Something to look at from the start."""
    if item is not None or not listed:
        return item, caption
    return listed[0], listed[0].caption


def _pick(listed: list[Listed], event: gr.SelectData) -> tuple[Listed, str]:
    return listed[event.index], listed[event.index].caption


def _own(file: str) -> tuple[Listed, str]:
    return Listed("", path=Path(file)), ""


def _dropped(event: gr.EventData) -> tuple[Listed, str]:
    """A file let fall on the player; its path comes from the browser, so it is checked."""
    path = Path(event.path).resolve()
    if not path.is_relative_to(Path(get_upload_folder()).resolve()):
        raise gr.Error("This file was not uploaded here.")
    return _own(str(path))
