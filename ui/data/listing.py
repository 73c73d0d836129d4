"""Data's lists as HTML: collections, narratives, outcomes. All that people typed is escaped."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from html import escape
from pathlib import Path

from data_tools.store import Collection, ImageRow, NarrativeRow
from loctex.records.images import decode_image
from ui.data.exchange import Outcome, counted
from ui.viewing import pictures
from ui.viewing.payload import data_url
from ui.workspace import Workspace

MOST_PROBLEMS = 20  # shown of an outcome
WELCOME = (
    '<p class="hello"><b>Bring in images</b>A collection is a set of images that are described '
    "together. Make one and drop images into it, import narratives that exist already, or look "
    "around in a collection of rendered scenes.</p>"
)


def collection_cards(collections: Sequence[Collection], current: Collection | None) -> str:
    """HTML: a button for each collection, with its counts."""
    cards = [
        f'<button type="button" class="card" data-id="{c.id}" '
        f'aria-pressed="{pressed(c == current)}">'
        f"<b>{escape(c.name)}</b><span>{counted(c.num_images, 'image')}</span>"
        f"<span>{counted(c.num_narratives, 'narrative')}, {c.num_with_trace:,} with trace</span>"
        f"<span>{counted(c.num_words, 'word')}</span></button>"
        for c in collections
    ]
    return f'<div class="cards">{"".join(cards)}</div>'


def narrative_rows(
    workspace: Workspace,
    rows: Sequence[NarrativeRow],
    chosen_id: int | None,
    *,
    is_filtered: bool = False,
) -> str:
    """HTML: a button for each narrative, with its picture."""
    if not rows and is_filtered:
        return '<p class="none">No narrative is like that. Search for less.</p>'
    if not rows:
        return (
            '<p class="none">Nobody has described an image here yet. Do it under Annotate, or '
            "import narratives.</p>"
        )

    buttons = []
    for row in rows:
        image = workspace.store.image(row.image_row_id)
        buttons.append(
            f'<button type="button" class="row" data-id="{row.id}" '
            f'aria-pressed="{pressed(row.id == chosen_id)}">'
            f'<img src="{thumbnail(image)}" alt="" loading="lazy">'
            f'<span class="said" dir="auto">{escape(row.caption)}</span>'
            f'<span class="facts">{counted(row.num_words, "word")} · '
            f"{counted(row.num_points, 'point') if row.num_points else 'no trace'} · "
            f"{row.duration:.0f} s · {row.created.astimezone():%d %b %Y, %H:%M}{chips(row.flags)}"
            "</span></button>"
        )

    return f'<div class="rows">{"".join(buttons)}</div>'


def chips(flags: Sequence[str]) -> str:
    """HTML: the names of what is odd."""
    return "".join(f" <i class='flag'>{escape(name)}</i>" for name in flags)


def pressed(is_chosen: bool) -> str:
    return "true" if is_chosen else "false"


def outcome_html(outcome: Outcome) -> str:
    """HTML: what was done, a bar while it is not whole, and what could not be done."""
    bar = f'<progress value="{outcome.share:.3f}"></progress>' if outcome.share < 1 else ""

    lines = "".join(f"<li>{escape(line)}</li>" for line in outcome.problems[:MOST_PROBLEMS])
    more = len(outcome.problems) - MOST_PROBLEMS
    lines += f"<li>and {more:,} more</li>" if more > 0 else ""
    problems = f"<p>Left out:</p><ul>{lines}</ul>" if lines else ""

    lead = ""
    if outcome.collection is not None and outcome.share == 1:
        lead = (
            f'<button type="button" class="lead" data-go="Annotate" '
            f'data-collection="{outcome.collection}">Describe them</button>'
        )

    text = f"<b>{escape(outcome.text)}</b>"
    return f'<div class="outcome" role="status">{text}{lead}{bar}{problems}</div>'


def problem_html(error: Exception) -> str:
    return f'<div class="outcome bad" role="alert">{escape(str(error))}</div>'


def thumbnail(image: ImageRow) -> str:
    """A data URL; empty where the picture cannot be read, as the player will say."""
    return _thumbnail(image.path)


@lru_cache(maxsize=1000)  # the files never change
def _thumbnail(path: Path) -> str:
    image = decode_image(path, at_least=pictures.THUMBNAIL)
    return data_url(pictures.thumbnail(image))
