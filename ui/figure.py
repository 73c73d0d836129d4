"""Figures for papers and talks: where the model looks, as SVG, PNG, PDF or a player in one file.

    python -m ui.figure --run RUN --image FILE --caption TEXT --to OUT.(svg|png|pdf|html|json)
    python -m ui.figure --run RUN --data SNAPSHOT [--split val] --item 3 --item 7 --to OUT.png

A grid has a row for each item, with a panel for each word (--words 1,4,5 counts from 1). A
snapshot's items carry what the person recorded. HTML plays one item, offline, from the disk.
"""

from __future__ import annotations

import argparse
import io
import json
import re
import sys
import warnings
from collections.abc import Sequence
from functools import lru_cache
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from loctex import cli
from loctex.jobs import checkpoint_files
from loctex.records import trace, words
from loctex.records.files import write_whole
from loctex.records.word_classes import word_class
from ui.assets import PLAYER_SCRIPTS, static
from ui.viewing.colors import VIRIDIS, word_color
from ui.viewing.look import InspectedCaption
from ui.viewing.models import ModelAnswer

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH = 7.0  # inches: two columns of a paper
MOST_WORDS = 12  # panels of a row, where no words were chosen
FONTS = ("DejaVu Sans", "Noto Sans CJK JP", "Noto Sans Arabic", "Noto Sans Hebrew", "Noto Emoji")


def telling_words(item: InspectedCaption) -> list[int]:
    """Words worth a panel: those that name something and were read, at most MOST_WORDS."""
    caption_words, maps = _answer(item).attention.words, _answer(item).attention.maps
    indices = [i for i in range(len(caption_words)) if maps[i].any()]
    telling = [i for i in indices if word_class(caption_words[i].text) != "other"]
    return (telling or indices)[:MOST_WORDS]


def _answer(item: InspectedCaption) -> ModelAnswer:
    """What the model answered; ValueError where none looked."""
    if item.answer is None:
        raise ValueError("a figure shows where a model looks; choose a model")
    return item.answer


@lru_cache(maxsize=1)
def _fonts() -> list[str]:
    """Those of FONTS that this machine has; matplotlib brings the first."""
    from matplotlib import font_manager

    return [name for name in FONTS if name in font_manager.get_font_names()]


def draw(
    items: Sequence[InspectedCaption],
    word_indices: Sequence[int] | None = None,
    *,
    columns: int = 4,
    dpi: int = 300,
    is_smooth: bool = True,
    has_person: bool = True,
) -> Figure:
    """A matplotlib figure, WIDTH inches wide: the sentence of each item over panels of its words.

    word_indices: words of every item, counted from 0; None: the telling ones. IndexError lists what
    there is.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = [_panel_words(item, word_indices) for item in items]
    panel = WIDTH / columns
    panel_heights = [panel * _aspect(item) + 0.24 for item in items]
    lines = [-(-len(row) // columns) for row in rows]
    heads = [_lines_of(item) * 0.24 + 0.08 for item in items]
    height = sum(h + n * t for h, n, t in zip(heads, lines, panel_heights, strict=True)) + 0.06
    figure = Figure(figsize=(WIDTH, height))
    FigureCanvasAgg(figure)
    photos = {id(item): _shrunk(item.image, round(panel * dpi)) for item in items}
    top = height - 0.04
    for item, row, head, panel_height in zip(items, rows, heads, panel_heights, strict=True):
        _sentence(figure, item, row, top)
        top -= head
        for k, word in enumerate(row):
            x, y = (k % columns) * panel, top - (k // columns + 1) * panel_height
            box = (
                (x + 0.03) / WIDTH,
                (y + 0.22) / height,
                (panel - 0.06) / WIDTH,
                (panel_height - 0.26) / height,
            )
            axes = figure.add_axes(box)
            photo = photos[id(item)]
            axes.imshow(photo, extent=(0, 1, 1, 0), aspect="auto", interpolation="none")
            _panel(axes, item, word, is_smooth, has_person)
        top -= -(-len(row) // columns) * panel_height
    return figure


def _panel_words(item: InspectedCaption, word_indices: Sequence[int] | None) -> list[int]:
    if word_indices is None:
        return telling_words(item)
    count = len(_answer(item).attention.words)
    if wrong := [i + 1 for i in word_indices if not 0 <= i < count]:
        raise IndexError(f"there is no word {wrong[0]}; {item.caption!r:.60} has {count} words")
    return list(word_indices)


def _aspect(item: InspectedCaption) -> float:
    """Height by width, within what the page shows too."""
    return float(np.clip(item.image.shape[0] / item.image.shape[1], 1 / 6, 6))


LETTERS = 96  # of a sentence's line


def _lines_of(item: InspectedCaption) -> int:
    return len(_broken([word.text for word in _answer(item).attention.words]))


def _broken(texts: Sequence[str]) -> list[list[int]]:
    """Word numbers by line."""
    lines: list[list[int]] = [[]]
    length = 0
    for i, text in enumerate(texts):
        if lines[-1] and length + len(text) > LETTERS:
            lines.append([])
            length = 0
        lines[-1].append(i)
        length += len(text) + 1
    return lines


def _sentence(
    figure: Figure, item: InspectedCaption, word_indices: Sequence[int], top: float
) -> None:
    """The words, those with a panel in their color; top: inches."""
    texts = [word.text for word in _answer(item).attention.words]
    width, height = figure.get_size_inches()

    for line, numbers in enumerate(_broken(texts)):
        x = 0.04
        for i in numbers:
            label = figure.text(
                x / width,
                (top - 0.17 - 0.24 * line) / height,
                texts[i],
                fontsize=9.5,
                family=_fonts(),
                color=word_color(i, len(texts)) if i in word_indices else "#3c4250",
                weight="bold" if i in word_indices else "normal",
                parse_math=False,
            )
            x += label.get_window_extent().width / figure.dpi + 0.055


def _panel(
    axes: Axes, item: InspectedCaption, word: int, is_smooth: bool, has_person: bool
) -> None:
    """The word's attention, its name and strongest cell, the person's trace of the word."""
    answer = _answer(item)
    caption_words, maps = answer.attention.words, answer.attention.maps
    color = word_color(word, len(caption_words))

    axes.imshow(
        overlay(maps[word], is_smooth), extent=(0, 1, 1, 0), aspect="auto", interpolation="none"
    )

    if has_person and item.recorded is not None:
        window = words.windows(item.recorded.words, answer.margin)[word]
        for stroke in trace.cut(item.recorded.strokes, *window):
            for line_color, line_width in (("white", 3.2), (color, 1.9)):
                axes.plot(
                    stroke[:, 0],
                    stroke[:, 1],
                    color=line_color,
                    linewidth=line_width,
                    solid_capstyle="round",
                    solid_joinstyle="round",
                )

    axes.set(xlim=(0, 1), ylim=(1, 0), xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
    name = f"{caption_words[word].text}  {maps[word].max():.0%}"
    axes.set_xlabel(name, fontsize=8, family=_fonts(), color=color, labelpad=3, parse_math=False)


def overlay(map_: np.ndarray, is_smooth: bool = True) -> np.ndarray:
    """(h, w) mass -> (H, W, 4) RGBA in 0..1: viridis, more opaque where there is more."""
    scaled: np.ndarray = (map_ / max(float(map_.max()), 1e-12)).astype(np.float32)
    if is_smooth:
        h, w = scaled.shape
        times = max(1, round(128 / max(h, w)))
        scaled = cv2.resize(scaled, (w * times, h * times), interpolation=cv2.INTER_CUBIC)
    scaled = scaled.clip(0, 1)
    ramp = np.array([[int(c[i : i + 2], 16) for i in (1, 3, 5)] for c in VIRIDIS]) / 255
    at = np.linspace(0, 1, len(ramp))
    colors = [np.interp(scaled, at, ramp[:, k]) for k in range(3)]
    return np.stack([*colors, 0.8 * (0.15 + 0.75 * scaled)], axis=-1)


def _shrunk(image: np.ndarray, longest: int) -> np.ndarray:
    scale = min(1.0, longest / max(image.shape[:2]))
    size = max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale))
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA) if scale < 1 else image


def content(
    items: Sequence[InspectedCaption], kind: str, *, dpi: int = 300, **options: Any
) -> bytes:
    """A file's bytes. kind: svg, png, pdf, html or json; html and json hold the first item only.

    ValueError: another kind, or no model looked at the item.
    """
    for item in items:
        _answer(item)
    if kind == "html":
        return player(items[0].payload(), items[0].caption).encode()
    if kind == "json":
        return json.dumps(numbers(items[0])).encode()
    if kind not in ("svg", "png", "pdf"):
        raise ValueError(f"the extension must be .svg, .png, .pdf, .html or .json, got {kind!r}")
    import matplotlib

    out = io.BytesIO()
    settings: dict[Any, Any] = {"svg.fonttype": "none", "svg.hashsalt": "loctex"}
    stamp: dict[str, dict[str, Any]] = {
        "svg": {"metadata": {"Date": None}},
        "pdf": {"metadata": {"CreationDate": None}},
    }
    with matplotlib.rc_context(settings), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")  # an SVG's viewer has fonts
        figure = draw(items, dpi=dpi, **options)
        figure.savefig(out, format=kind, dpi=dpi, **stamp.get(kind, {}))
    return out.getvalue()


def numbers(item: InspectedCaption) -> dict[str, Any]:
    """All numbers of an item as JSON: predictor.record, scores, layers, the recording."""
    from loctex.predictor import record

    value = item.payload()
    return record(_answer(item).attention) | {
        "scores": value["scores"],
        "hits": value["hits"],
        "layers": {name: maps.tolist() for name, maps in _answer(item).layers.items()},
        "narrative": item.recorded.to_json() if item.recorded else None,
    }


def player(payload: dict[str, Any], title: str) -> str:
    """The page's player in one HTML file: it works from the disk and asks nothing of a network."""
    fields = {
        "TITLE": escape(title),
        "CSS": static("player.css"),
        "BODY": static("player.html"),
        "DATA": json.dumps(payload).replace("</", "<\\/"),
        "SCRIPT": static(*PLAYER_SCRIPTS),
    }
    return re.sub(r"@(\w+)@", lambda match: fields[match[1]], static("file.html"))


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m ui.figure",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )

    add = parser.add_argument
    add("--run", required=True, help="a run, or a folder of save_pretrained")
    add("--checkpoint", default="best", help="best, last, or a folder [best]")
    add("--image", type=Path, action="append", default=[], help="a picture; again for a grid")
    add("--caption", action="append", default=[], help="its sentence; again for each picture")
    add("--data", type=Path, help="a snapshot, instead of --image and --caption")
    add("--split", default="val", help="of the snapshot [val]")
    add("--item", type=int, action="append", default=[], help="number of an image in the split")
    add("--words", help="panels: numbers of words from 1, as 2,5,6 [those that name something]")
    add("--columns", type=int, default=4, help="panels beside each other [4]")
    add("--dpi", type=int, default=300, help="dots per inch of a PNG [300]")
    add("--cells", action="store_true", help="one square per cell instead of smooth")
    add("--no-trace", action="store_true", help="leave the person's trace out")
    add("--to", type=Path, required=True, help="OUT.svg, .png, .pdf, .html or .json")
    cli.add_device_option(parser)

    options = parser.parse_args(arguments)
    if len(options.image) != len(options.caption) or bool(options.image) == bool(options.item):
        parser.error("give --image with --caption, as often as you like, or --data with --item")

    try:
        items = _inspected(options)
        word_indices = [int(k) - 1 for k in options.words.split(",")] if options.words else None
        data = content(
            items,
            options.to.suffix[1:],
            dpi=options.dpi,
            word_indices=word_indices,
            columns=options.columns,
            is_smooth=not options.cells,
            has_person=not options.no_trace,
        )
        write_whole(options.to, data)
    except (ValueError, FileNotFoundError, IndexError) as error:
        sys.exit(f"error: {error}")


def _inspected(options: argparse.Namespace) -> list[InspectedCaption]:
    from loctex.records.images import decode_image
    from loctex.records.snapshot import Snapshot
    from ui.viewing.models import Models

    folder = str(checkpoint_files.find(options.run, options.checkpoint))
    models = Models(options.device)
    if not options.item:
        pairs = zip(options.image, options.caption, strict=True)
        examples = [(decode_image(image), caption, None) for image, caption in pairs]
    else:
        split = Snapshot.open(options.data).split(options.split)
        rows = [split[k] for k in options.item]
        examples = [(decode_image(r.image), r.narratives[0].caption, r.narratives[0]) for r in rows]
    return [
        InspectedCaption(
            image,
            caption,
            models.look(
                folder, image, caption, narrative.words if narrative and narrative.words else None
            ),
            narrative if narrative and narrative.words else None,
        )
        for image, caption, narrative in examples
    ]


if __name__ == "__main__":
    main()
