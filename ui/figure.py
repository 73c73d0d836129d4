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
from loctex.records import checkpoint_files, trace, words
from loctex.records.files import write_whole
from loctex.records.word_classes import word_class
from ui.assets import PLAYER_SCRIPTS, static
from ui.viewing.colors import VIRIDIS, word_color
from ui.viewing.look import Looked

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH = 7.0  # inches: two columns of a paper
MOST_WORDS = 12  # panels of a row, where no words were chosen
FONTS = ("DejaVu Sans", "Noto Sans CJK JP", "Noto Sans Arabic", "Noto Sans Hebrew", "Noto Emoji")


def chosen_words(looked: Looked) -> list[int]:
    """Words worth a panel: those that name something and were read, at most MOST_WORDS."""
    said, maps = looked.seen.attention.words, looked.seen.attention.maps
    read = [i for i in range(len(said)) if maps[i].any()]
    telling = [i for i in read if word_class(said[i].text) != "other"]
    return (telling or read)[:MOST_WORDS]


@lru_cache(maxsize=1)
def _fonts() -> list[str]:
    """Those of FONTS that this machine has; matplotlib brings the first."""
    from matplotlib import font_manager

    return [name for name in FONTS if name in font_manager.get_font_names()]


def draw(
    items: Sequence[Looked],
    chosen: Sequence[int] | None = None,
    *,
    columns: int = 4,
    dpi: int = 300,
    is_smooth: bool = True,
    has_person: bool = True,
) -> Figure:
    """A matplotlib figure, WIDTH inches wide: the sentence of each item over panels of its words.

    chosen: words of every item, counted from 0; None: the telling ones. IndexError lists what
    there is.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = [_chosen(looked, chosen) for looked in items]
    panel = WIDTH / columns
    tall = [panel * _aspect(looked) + 0.24 for looked in items]
    lines = [-(-len(row) // columns) for row in rows]
    heads = [_lines_of(looked) * 0.24 + 0.08 for looked in items]
    height = sum(h + n * t for h, n, t in zip(heads, lines, tall, strict=True)) + 0.06
    figure = Figure(figsize=(WIDTH, height))
    FigureCanvasAgg(figure)
    photos = {id(looked): _shrunk(looked.image, round(panel * dpi)) for looked in items}
    top = height - 0.04
    for looked, row, head, one in zip(items, rows, heads, tall, strict=True):
        _sentence(figure, looked, row, top)
        top -= head
        for k, word in enumerate(row):
            x, y = (k % columns) * panel, top - (k // columns + 1) * one
            box = [
                (x + 0.03) / WIDTH,
                (y + 0.22) / height,
                (panel - 0.06) / WIDTH,
                (one - 0.26) / height,
            ]
            axes = figure.add_axes(box)
            photo = photos[id(looked)]
            axes.imshow(photo, extent=(0, 1, 1, 0), aspect="auto", interpolation="none")
            _panel(axes, looked, word, is_smooth, has_person)
        top -= -(-len(row) // columns) * one
    return figure


def _chosen(looked: Looked, chosen: Sequence[int] | None) -> list[int]:
    if chosen is None:
        return chosen_words(looked)
    count = len(looked.seen.attention.words)
    if wrong := [i + 1 for i in chosen if not 0 <= i < count]:
        raise IndexError(f"there is no word {wrong[0]}; {looked.caption!r:.60} has {count} words")
    return list(chosen)


def _aspect(looked: Looked) -> float:
    """Height by width, within what the page shows too."""
    return float(np.clip(looked.image.shape[0] / looked.image.shape[1], 1 / 6, 6))


LETTERS = 96  # of a sentence's line


def _lines_of(looked: Looked) -> int:
    return len(_broken([word.text for word in looked.seen.attention.words]))


def _broken(texts: Sequence[str]) -> list[list[int]]:
    """Word numbers by line."""
    lines, length = [[]], 0
    for i, text in enumerate(texts):
        if lines[-1] and length + len(text) > LETTERS:
            lines.append([])
            length = 0
        lines[-1].append(i)
        length += len(text) + 1
    return lines


def _sentence(figure: Figure, looked: Looked, chosen: Sequence[int], top: float) -> None:
    """The words, those with a panel in their color; top: inches."""
    texts = [word.text for word in looked.seen.attention.words]
    width, height = figure.get_size_inches()
    renderer = figure.canvas.get_renderer()
    for line, numbers in enumerate(_broken(texts)):
        x = 0.04
        for i in numbers:
            drawn = figure.text(
                x / width,
                (top - 0.17 - 0.24 * line) / height,
                texts[i],
                fontsize=9.5,
                family=_fonts(),
                color=word_color(i, len(texts)) if i in chosen else "#3c4250",
                weight="bold" if i in chosen else "normal",
                parse_math=False,
            )
            x += drawn.get_window_extent(renderer).width / figure.dpi + 0.055


def _panel(axes: Axes, looked: Looked, word: int, is_smooth: bool, has_person: bool) -> None:
    """The word's attention, its name and strongest cell, the person's trace of the word."""
    seen = looked.seen
    said, maps = seen.attention.words, seen.attention.maps
    color = word_color(word, len(said))
    axes.imshow(
        overlay(maps[word], is_smooth), extent=(0, 1, 1, 0), aspect="auto", interpolation="none"
    )
    if has_person and looked.recorded is not None:
        window = words.windows(looked.recorded.words, seen.margin)[word]
        for part in trace.cut(looked.recorded.strokes, *window):
            for line_color, line_width in (("white", 3.2), (color, 1.9)):
                axes.plot(
                    part[:, 0],
                    part[:, 1],
                    color=line_color,
                    linewidth=line_width,
                    solid_capstyle="round",
                    solid_joinstyle="round",
                )
    axes.set(xlim=(0, 1), ylim=(1, 0), xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
    name = f"{said[word].text}  {maps[word].max():.0%}"
    axes.set_xlabel(name, fontsize=8, family=_fonts(), color=color, labelpad=3, parse_math=False)


def overlay(map_: np.ndarray, is_smooth: bool = True) -> np.ndarray:
    """(h, w) mass -> (H, W, 4) RGBA in 0..1: viridis, more opaque where there is more."""
    scaled = (map_ / max(float(map_.max()), 1e-12)).astype(np.float32)
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


def content(items: Sequence[Looked], kind: str, *, dpi: int = 300, **options: Any) -> bytes:
    """A file's bytes. kind: svg, png, pdf, html or json; html and json hold the first item only.

    ValueError: another kind, or no model looked at the item.
    """
    if any(looked.seen is None for looked in items):
        raise ValueError("a figure shows where a model looks; choose a model")
    if kind == "html":
        return player(items[0].payload(), items[0].caption).encode()
    if kind == "json":
        return json.dumps(numbers(items[0])).encode()
    if kind not in ("svg", "png", "pdf"):
        raise ValueError(f"the extension must be .svg, .png, .pdf, .html or .json, got {kind!r}")
    import matplotlib

    out = io.BytesIO()
    settings = {"svg.fonttype": "none", "svg.hashsalt": "loctex"}
    stamp = {"svg": {"metadata": {"Date": None}}, "pdf": {"metadata": {"CreationDate": None}}}
    with matplotlib.rc_context(settings), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")  # an SVG's viewer has fonts
        figure = draw(items, dpi=dpi, **options)
        figure.savefig(out, format=kind, dpi=dpi, **stamp.get(kind, {}))
    return out.getvalue()


def numbers(looked: Looked) -> dict[str, Any]:
    """All numbers of an item as JSON: predictor.record, scores, layers, the recording."""
    from loctex.predictor import record

    shown = looked.payload()
    return record(looked.seen.attention) | {
        "scores": shown["scores"],
        "hits": shown["hits"],
        "layers": {name: maps.tolist() for name, maps in looked.seen.layers.items()},
        "narrative": looked.recorded.to_json() if looked.recorded else None,
    }


def player(payload: dict[str, Any], title: str) -> str:
    """The page's player in one HTML file: it works from the disk and asks nothing of a network."""
    parts = {
        "TITLE": escape(title),
        "CSS": static("player.css"),
        "BODY": static("player.html"),
        "DATA": json.dumps(payload).replace("</", "<\\/"),
        "SCRIPT": static(*PLAYER_SCRIPTS),
    }
    return re.sub(r"@(\w+)@", lambda found: parts[found[1]], static("file.html"))


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
    given = parser.parse_args(arguments)
    if len(given.image) != len(given.caption) or bool(given.image) == bool(given.item):
        parser.error("give --image with --caption, as often as you like, or --data with --item")
    try:
        items = _looked(given)
        chosen = [int(k) - 1 for k in given.words.split(",")] if given.words else None
        found = content(
            items,
            given.to.suffix[1:],
            dpi=given.dpi,
            chosen=chosen,
            columns=given.columns,
            is_smooth=not given.cells,
            has_person=not given.no_trace,
        )
        write_whole(given.to, found)
    except (ValueError, FileNotFoundError, IndexError) as error:
        sys.exit(f"error: {error}")


def _looked(given: argparse.Namespace) -> list[Looked]:
    from loctex.records.images import decode_image
    from loctex.records.snapshot import Snapshot
    from ui.viewing.models import Models

    folder, models = str(checkpoint_files.find(given.run, given.checkpoint)), Models(given.device)
    if not given.item:
        pairs = zip(given.image, given.caption, strict=True)
        told = [(decode_image(image), caption, None) for image, caption in pairs]
    else:
        split = Snapshot.open(given.data).split(given.split)
        rows = [split[k] for k in given.item]
        told = [(decode_image(r.image), r.narratives[0].caption, r.narratives[0]) for r in rows]
    return [
        Looked(
            image,
            caption,
            models.look(folder, image, caption, said.words if said and said.words else None),
            said if said and said.words else None,
        )
        for image, caption, said in told
    ]


if __name__ == "__main__":
    main()
