"""The Atlas as HTML: distributions, classes of words, regions of the picture, narratives.

Each part can be clicked; its data-id says what it chooses ("kind:noun", "open:12"). What people
wrote is escaped.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from html import escape
from typing import Any

import numpy as np

from loctex.scoring.atlas_job import AtlasProgress
from ui.inspect.nearest import picture
from ui.train.run_facts import duration
from ui.viewing.survey import BINS, LBM_END, Survey, WordFilter, histogram
from ui.workspace import Workspace

PAGE = 10  # narratives
KINDS = {
    "noun": "Nouns",
    "color": "Colors",
    "verb": "Verbs",
    "relation": "Relations",
    "other": "Other words",
}


def applied(selection: WordFilter, act: str) -> WordFilter:
    """The filter after a click on the part with this data-id."""
    name, _, value = act.partition(":")
    if name == "clear":
        return WordFilter(is_region=selection.is_region, sort=selection.sort)

    if name == "region":
        return WordFilter(is_region=value == "1", sort=selection.sort)
    if name == "cell":
        row, column = value.split(",")
        return selection.toggled("cell", (int(row), int(column)))
    if name == "drop":
        if value not in asdict(selection):
            return selection
        nothing: Any = "" if value == "text" else None
        return replace(selection, **{value: nothing})

    if name in ("hit", "lbm"):
        return selection.toggled(name, int(value))
    if name in ("kind", "word"):
        return selection.toggled(name, value)
    return selection


def atlas_html(
    workspace: Workspace, survey: Survey, source: str, selection: WordFilter, start: int = 0
) -> str:
    """HTML of a scored split; `start`: the narrative the list begins with."""
    matches = survey.narratives(selection)

    return (
        '<div class="atlas">'
        + _tiles(survey, selection)
        + '<div class="charts">'
        + _histogram("Words that agree, per sentence", "hit", survey, selection)
        + _histogram("Path distance, per sentence", "lbm", survey, selection)
        + _kinds(survey, selection)
        + _cells(survey, selection)
        + _words(survey, selection)
        + "</div>"
        + _list(workspace, survey, source, selection, matches, start)
        + "</div>"
    )


def _tiles(survey: Survey, selection: WordFilter) -> str:
    atlas, marks = survey.atlas, survey.marks(selection)
    hit = atlas.mark["hit"]

    tiles, names = [], {True: "Pointing at the thing named", False: "Pointing at the trace"}
    for is_region, name in names.items():
        of = atlas.mark["is_region"] == is_region
        if of.any():
            pressed = str(bool((of == survey.of_measure(selection)).all())).lower()
            middle = survey.middle(of)
            beside = f"; always the middle: {middle:.3f}" if middle is not None else ""
            tiles.append(
                f'<button type="button" class="tile" data-id="region:{int(is_region)}" '
                f'aria-pressed="{pressed}"><b>{hit[of].mean():.3f}</b><span>{name}</span>'
                f"<small>{of.sum():,} words{beside}</small></button>"
            )

    lbm = [atlas.numbers[f"lbm_{k}"] for k in (0, 1)]
    if not np.isnan(lbm[0]).all():
        near, wide = (np.nanmean(values) for values in lbm)
        tiles.append(
            f'<div class="tile"><b>{near:.3f}</b><span>Distance of the paths</span>'
            f"<small>k = 0; {wide:.3f} for k = 1</small></div>"
        )

    recall = (atlas.numbers["rank"] <= 1).mean()
    tiles.append(
        f'<div class="tile"><b>{recall:.3f}</b><span>Sentences that find their picture '
        f"first</span><small>of {len(atlas.images):,} pictures</small></div>"
    )

    if marks.sum() < survey.of_measure(selection).sum():
        share = f"{hit[marks].mean():.3f}" if marks.any() else "–"
        middle = survey.middle(marks)
        beside = f"; always the middle: {middle:.3f}" if middle is not None else ""
        tiles.append(
            f'<div class="tile now"><b>{share}</b><span>Pointing, of what is chosen</span>'
            f"<small>{marks.sum():,} words{beside}</small></div>"
        )

    return f'<div class="tiles">{"".join(tiles)}</div>'


def _histogram(title: str, name: str, survey: Survey, selection: WordFilter) -> str:
    of_measure = survey.of_measure(selection)
    values, end = (
        (survey.share(of_measure), 1.0)
        if name == "hit"
        else (survey.atlas.numbers["lbm_0"], LBM_END)
    )

    counts, most = histogram(values, end), 1
    most = max(1, counts.max())
    now = getattr(selection, name)

    bars = "".join(
        f'<button type="button" data-id="{name}:{k}" aria-pressed="{str(now == k).lower()}" '
        f'title="{k / BINS * end:.3g} to {(k + 1) / BINS * end:.3g}: {count:,}" '
        f'aria-label="{k / BINS * end:.3g} to {(k + 1) / BINS * end:.3g}: {count:,} sentences">'
        f'<i style="height:{100 * count / most:.1f}%"></i></button>'
        for k, count in enumerate(counts)
    )

    top_label = f"{end:g}{' and more' if name == 'lbm' else ''}"
    return (
        f'<section class="chart"><h3>{title}</h3><div class="bars">{bars}</div>'
        f'<p class="axis"><span>0</span><span>{end / 2:g}</span><span>{top_label}</span></p>'
        "</section>"
    )


def _kinds(survey: Survey, selection: WordFilter) -> str:
    rows = "".join(
        f'<button type="button" class="kind" data-id="kind:{name}" '
        f'aria-pressed="{str(selection.kind == name).lower()}"><span>{KINDS[name]}</span>'
        f'<i><u style="width:{100 * share:.1f}%"></u></i><b>{share:.2f}</b>'
        f"<small>{count:,}</small></button>"
        for name, (share, count) in survey.by_kind(selection).items()
    )
    return f'<section class="chart"><h3>By kind of word</h3>{rows}</section>'


def _cells(survey: Survey, selection: WordFilter) -> str:
    share, count = survey.by_cell(selection)
    cells = "".join(
        f'<button type="button" data-id="cell:{r},{c}" style="--share:{_known(share[r, c]):.3f}" '
        f'aria-pressed="{str(selection.cell == (r, c)).lower()}" '
        f'title="{count[r, c]:,} words">{"" if np.isnan(share[r, c]) else f"{share[r, c]:.2f}"}'
        "</button>"
        for r in range(len(share))
        for c in range(len(share))
    )
    return (
        '<section class="chart"><h3>By place in the picture</h3>'
        f'<div class="cells">{cells}</div></section>'
    )


def _known(value: float) -> float:
    return 0.0 if np.isnan(value) else value


def _words(survey: Survey, selection: WordFilter) -> str:
    def column(title: str, rows: Sequence[tuple[str, float, int]]) -> str:
        buttons = "".join(
            f'<button type="button" class="chip" data-id="word:{escape(text, quote=True)}" '
            f'aria-pressed="{str(selection.word == text).lower()}" title="{count:,} times">'
            f'<span dir="auto">{escape(text)}</span><b>{share:.2f}</b></button>'
            for text, share, count in rows
        )
        return f"<div><h4>{title}</h4>{buttons or '<p>None occurs often enough.</p>'}</div>"

    worst, best = survey.ranked_words(selection)
    return (
        '<section class="chart words"><h3>By word</h3>'
        f"{column('Worst', worst)}{column('Best', best)}</section>"
    )


def _list(
    workspace: Workspace,
    survey: Survey,
    source: str,
    selection: WordFilter,
    matches: np.ndarray,
    start: int,
) -> str:
    page = matches[start : start + PAGE].tolist()
    rows = "".join(_row(workspace, survey, source, selection, n) for n in page)

    more = [
        f'<button type="button" data-id="page:{position}">{name}</button>'
        for name, position, is_there in (
            ("Back", start - PAGE, start > 0),
            ("More", start + PAGE, start + PAGE < len(matches)),
        )
        if is_there
    ]

    nothing = '<p class="none">Nothing is left: drop a filter.</p>' if not len(matches) else ""
    return (
        f'<section class="found"><h3>{len(matches):,} of {len(survey.atlas):,} sentences</h3>'
        f"{_chips(selection)}{rows}{nothing}<nav>{''.join(more)}</nav></section>"
    )


def _chips(selection: WordFilter) -> str:
    named = {
        "kind": selection.kind and KINDS[selection.kind].lower(),
        "word": selection.word and f"“{selection.word}”",
        "cell": selection.cell and f"row {selection.cell[0] + 1}, column {selection.cell[1] + 1}",
        "hit": _range("agree", selection.hit, 1.0),
        "lbm": _range("LBM", selection.lbm, LBM_END),
        "text": selection.text and f"contains “{selection.text}”",
    }

    chips = [
        f'<button type="button" class="drop" data-id="drop:{name}" title="Drop this filter">'
        f"{escape(label)} ×</button>"
        for name, label in named.items()
        if label
    ]

    return f'<p class="drops">{"".join(chips)}</p>' if chips else ""


def _range(name: str, bin_: int | None, end: float) -> str:
    low, high = ((bin_ or 0) + k for k in (0, 1))
    return "" if bin_ is None else f"{name} {low / BINS * end:.3g} to {high / BINS * end:.3g}"


def _row(workspace: Workspace, survey: Survey, source: str, selection: WordFilter, n: int) -> str:
    atlas = survey.atlas
    caption, mark = atlas.caption[n].as_py(), atlas.mark
    own = np.flatnonzero((mark["narrative"] == n) & survey.of_measure(selection))

    text, end = [], 0
    for i in own[np.argsort(mark["start"][own], kind="stable")]:
        a, b = int(mark["start"][i]), int(mark["end"][i])
        if a < end:
            continue
        kind = "hit" if mark["hit"][i] > 0.5 else "miss"
        text += [escape(caption[end:a]), f'<mark class="{kind}">{escape(caption[a:b])}</mark>']
        end = b

    text.append(escape(caption[end:]))

    lbm = atlas.numbers["lbm_0"][n]
    agreed = f"{(mark['hit'][own] > 0.5).sum()} of {len(own)} words · " if len(own) else ""
    facts = (
        agreed
        + ("" if np.isnan(lbm) else f"LBM {lbm:.3f} · ")
        + (
            f"match {atlas.numbers['cosine'][n]:.2f}, rank {atlas.numbers['rank'][n]:.0f} · "
            f"certainty {atlas.numbers['certainty'][n]:.2f}"
        )
    )

    return (
        f'<button type="button" class="one" data-id="open:{n}">'
        f'<img src="{picture(workspace, survey, source, n)}" alt="" loading="lazy">'
        f'<span class="said" dir="auto">{"".join(text)}</span><small>{facts}</small></button>'
    )


def progress_html(progress: AtlasProgress, what: str) -> str:
    """HTML: what is to be done, or how far it is."""
    if progress.state in ("new", "stopped"):
        begun = (
            f"{progress.done:,} of {progress.total:,} pictures are scored; it goes on from there."
            if progress.done
            else f"{what} has {progress.total:,} pictures, which this model has not been asked "
            "about yet."
        )
        return (
            '<div class="atlas"><p class="hello"><b>Where is this model right, and where wrong?</b>'
            f"Score every word of a whole split once. {begun}</p></div>"
        )

    if progress.state == "failed":
        return (
            '<div class="atlas"><p class="hello bad" role="alert"><b>Scoring ended.</b>'
            f"{escape(progress.problem)}<br>{progress.done:,} of {progress.total:,} pictures are "
            "kept.</p></div>"
        )

    share, time_left = progress.done / max(1, progress.total), ""
    if progress.seconds_left is not None:
        time_left = f", about {duration(progress.seconds_left)} left"

    return (
        '<div class="atlas"><div class="going" role="status">'
        f"<b>Scoring {escape(what)}: {progress.done:,} of {progress.total:,} pictures"
        f"{time_left}</b>"
        f'<progress value="{share:.3f}"></progress>'
        "<small>It goes on when you leave the page.</small></div></div>"
    )
