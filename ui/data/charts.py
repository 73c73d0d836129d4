"""What a collection is like, as HTML: drawn by the server, in the page's own colors."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from html import escape

import cv2
import numpy as np

from data_tools.store.statistics import EDGES, Summary, middle
from loctex.records.word_classes import CLASSES
from ui.data.exchange import counted
from ui.workspace import Workspace

MOST_WORDS, MOST_PEOPLE = 24, 40
_TITLES = {  # of each histogram: what it shows, its unit, digits of its middle
    "words": ("Words a narrative", "words", 0),
    "seconds": ("Seconds a narrative", "s", 1),
    "words a second": ("Pace", "words a second, pauses included", 2),
    "trace length": ("Trace length", "image sides", 1),
    "trace speed": ("Trace speed", "image sides a second, while it moves", 2),
    "words pointed at": ("Words pointed at", "share of a narrative's words with a point", 2),
    "lag": ("Lag", "s from the beginning of a word to its stroke", 2),
}


def charts(workspace: Workspace, collection_id: int) -> Iterator[str]:
    """HTML of the collection's charts, again and again until all of it is counted."""
    names = workspace.store.people.names()
    for summary, num_counted, total in workspace.store.statistics.summary(collection_id):
        yield charts_html(summary, names, num_counted / max(total, 1))


def charts_html(summary: Summary, names: dict[int, str], share: float = 1.0) -> str:
    total = summary.total
    if not total["narratives"]:
        if share == 1:
            return '<p class="none">Charts appear with the first narrative.</p>'
        return _progress(share)

    timed = total["grounded"] / total["timed"] if total["timed"] else 0
    facts = [
        (f"{total['narratives']:,.0f}", "narratives"),
        (f"{total['words']:,.0f}", "words"),
        (f"{total['seconds'] / 3600:,.1f} h", "of telling"),
        (f"{timed:.0%}", "of timed words pointed at"),
        (f"{len(summary.vocabulary):,}", "different words"),
        (f"{len(summary.annotators):,}", "people" if len(summary.annotators) > 1 else "person"),
    ]

    numbers = "".join(f"<li><b>{value}</b>{escape(what)}</li>" for value, what in facts)
    panels = [_histogram(name, counts) for name, counts in summary.histograms.items()]
    panels += [_heat(summary.heat), _classes(summary), _vocabulary(summary)]

    return (
        f'{_progress(share)}<ul class="facts-line">{numbers}</ul>'
        f'<div class="charts">{"".join(panels)}</div>{_people(summary, names)}'
    )


def _progress(share: float) -> str:
    if share == 1:
        return ""
    return (
        f'<div class="outcome" role="status"><b>{share:.0%} counted</b>'
        f'<progress value="{share:.3f}"></progress></div>'
    )


def _panel(title: str, note: str, body: str) -> str:
    return (
        f'<figure class="panel"><figcaption><b>{escape(title)}</b><span>{escape(note)}</span>'
        f"</figcaption>{body}</figure>"
    )


def _histogram(name: str, counts: np.ndarray) -> str:
    title, unit, digits = _TITLES[name]

    edges, half = EDGES[name], middle(counts, EDGES[name])
    if half is None:
        return _panel(title, unit, '<p class="none">Nothing tells it.</p>')

    width, height = 240, 84
    step = width / len(counts)
    bars = "".join(
        f'<rect x="{i * step:.1f}" y="{height - bar:.1f}" width="{step - 1:.1f}" '
        f'height="{bar:.1f}"><title>{edges[i]:g} to {edges[i + 1]:g}: {count:,}</title></rect>'
        for i, count in enumerate(counts.tolist())
        if (bar := count / counts.max() * height) > 0
    )

    at = (half - edges[0]) / (edges[-1] - edges[0]) * width
    ends = f"<span>{edges[0]:g}</span><span>{edges[-1]:g}{'+' if name != 'lag' else ''}</span>"
    ends = ends.replace("1+", "1") if name == "words pointed at" else ends

    text = f"{title}: median {half:.{digits}f} {unit}"
    return _panel(
        title,
        f"median {half:.{digits}f} {unit}",
        f'<svg viewBox="0 0 {width} {height}" preserveAspectRatio="none" role="img" '
        f'aria-label="{escape(text)}">{bars}<line x1="{at:.1f}" x2="{at:.1f}" y1="0" '
        f'y2="{height}"/></svg><div class="ends">{ends}</div>',
    )


def _heat(heat: np.ndarray) -> str:
    """Where people pointed, dark to bright; the image plane is drawn square."""
    shares = heat / max(heat.max(), 1)
    pixels = cv2.applyColorMap((np.sqrt(shares) * 255).astype(np.uint8), cv2.COLORMAP_VIRIDIS)
    data = base64.b64encode(cv2.imencode(".png", pixels)[1].tobytes()).decode()
    picture = (
        f'<img class="heat" src="data:image/png;base64,{data}" '
        'alt="Where in the images people pointed">'
    )
    return _panel("Where people pointed", "all images as one square; bright: often", picture)


def _classes(summary: Summary) -> str:
    total = max(sum(summary.classes.values()), 1)
    rows = "".join(
        _bar(name, summary.classes[name] / total, f"{summary.classes[name] / total:.0%}")
        for name in CLASSES
    )
    bars = f'<ul class="bars">{rows}</ul>'
    return _panel("Parts of speech", "by a light rule, English only", bars)


def _vocabulary(summary: Summary) -> str:
    words = summary.vocabulary.most_common(MOST_WORDS)
    rows = "".join(_bar(word, count / words[0][1], f"{count:,}") for word, count in words)
    note = f"the {len(words)} most frequent of {len(summary.vocabulary):,}"
    return _panel("Vocabulary", note, f'<ul class="bars two">{rows}</ul>')


def _bar(name: str, share: float, text: str) -> str:
    spans = f"<span>{escape(name)}</span><span>{escape(text)}</span>"
    return f'<li style="--share: {share:.3f}">{spans}</li>'


def _people(summary: Summary, names: dict[int, str]) -> str:
    """A row for each annotator, who told most first."""
    rows = []

    annotators = sorted(summary.annotators.items(), key=lambda item: -item[1]["narratives"])
    for annotator, sums in annotators[:MOST_PEOPLE]:
        count = sums["narratives"]
        cells = [
            f"{count:,.0f}",
            f"{sums['words'] / count:.1f}",
            f"{sums['seconds'] / count:.1f} s",
            f"{sums['words'] / sums['seconds']:.2f}" if sums["seconds"] else "",
            f"{sums['length'] / count:.1f}",
            f"{sums['length'] / sums['moving']:.2f}" if sums["moving"] else "",
            f"{sums['grounded'] / sums['timed']:.0%}" if sums["timed"] else "",
        ]

        name = escape(names.get(annotator, f"annotator {annotator}"))
        rows.append(f"<tr><td>{name}</td>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>")

    heads = (
        "",
        "narratives",
        "words each",
        "seconds each",
        "words a second",
        "trace length",
        "trace speed",
        "pointed at",
    )

    more = len(annotators) - len(rows)
    more_html = f"<p class='none'>and {counted(more, 'more person')}</p>" if more > 0 else ""
    return (
        '<div class="people"><table><thead><tr>'
        + "".join(f"<th>{head}</th>" for head in heads)
        + f"</tr></thead><tbody>{''.join(rows)}</tbody></table></div>{more_html}"
    )
