"""How well the maps of one narrative's words fit its trace and its known regions (METHOD 3)."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from loctex.records import trace, words
from loctex.records.items import Region
from loctex.records.narrative import Narrative
from loctex.scoring import metrics
from loctex.scoring.predictor import word_maps

Columns = dict[str, list[np.ndarray]]  # measure -> the words' scores, narrative by narrative


@dataclass
class Pair:
    """One narrative on its image, and the maps of its tokens.

    maps: by what the names of their measures end in; "" is the one that is shown, on the grid of
    the last stage.
    """

    narrative: Narrative
    regions: tuple[Region, ...]
    offsets: np.ndarray  # (T, 2) caption characters
    maps: dict[str, np.ndarray]  # (T, h, w)
    word_box: Sequence[float] | None = None  # width and height, as `trace.word_boxes` takes them


def score_words(pair: Pair, margin: float, columns: Columns, rows: list[dict]) -> None:
    """Adds the measures of one pair's words to `columns`, and one row per word to `rows`.

    Maps of a finer grid have their own chance and center: pointing_region_14x14_chance. Every
    measure has a `_center` twin, what a constant answer in the middle scores (METHOD 3).
    """
    last_grid = pair.maps[""].shape[1:]
    for grid in sorted({maps.shape[1:] for maps in pair.maps.values()}):
        maps = {
            name: token_maps
            for name, token_maps in pair.maps.items()
            if token_maps.shape[1:] == grid
        }

        tag = "" if grid == last_grid else "_{}x{}".format(*grid)

        word_rows = []
        if pair.narrative.strokes:
            word_rows += score_trace(pair, maps, tag, margin, columns)
        if pair.regions:
            word_rows += score_regions(pair, maps, tag, columns)

        rows += word_rows if grid == last_grid else []


def score_trace(
    pair: Pair, maps: Mapping[str, np.ndarray], tag: str, margin: float, columns: Columns
) -> list[dict]:
    """The measures against the recorded trace; a row for each grounded word."""
    narrative, grid = pair.narrative, next(iter(maps.values())).shape[1:]

    spans = words.spans(narrative.caption, narrative.words)
    windows = words.windows(narrative.words, margin)
    target = trace.rasterize(narrative.strokes, windows, grid)
    truth = trace.boxes(narrative.strokes, windows)

    has_tokens = words.overlaps(spans, pair.offsets).any(axis=1)
    grounded = has_tokens & target.any(axis=(1, 2))
    cells = metrics.trace_cells(target[grounded])

    columns[f"pointing_trace{tag}_chance"].append(metrics.pointing_chance(cells))
    columns[f"pointing_trace{tag}_center"].append(metrics.pointing_center(cells))

    middle = metrics.middle_gaussian(cells.shape)
    columns[f"auc{tag}_center"].append(metrics.auc(middle, cells))
    columns[f"iou{tag}_center"].append(metrics.best_iou(middle, cells))

    for window in (0, 1):
        cost = metrics.lbm_center(len(spans), truth, window)
        columns[f"lbm_{window}{tag}_center"].append(np.array([cost]))

    for name, token_maps in maps.items():
        token_maps = word_maps(token_maps, pair.offsets, spans)
        boxes = trace.word_boxes(token_maps, pair.word_box)
        token_maps = token_maps[grounded]
        columns[f"pointing_trace{name}"].append(metrics.pointing(token_maps, cells))
        columns[f"auc{name}"].append(metrics.auc(token_maps, cells))
        columns[f"iou{name}"].append(metrics.best_iou(token_maps, cells))
        for window in (0, 1):
            cost = metrics.lbm(boxes, truth, window)
            columns[f"lbm_{window}{name}"].append(np.array([cost]))

    hits = columns[f"pointing_trace{next(iter(maps))}"][-1]
    centers = columns[f"pointing_trace{tag}_center"][-1]
    chances = columns[f"pointing_trace{tag}_chance"][-1]

    return [
        _row(
            narrative.words[i].text,
            spans[i],
            (truth[i, :2] + truth[i, 2:]) / 2,
            pointing_trace=hits[k],
            center=centers[k],
            chance=chances[k],
        )
        for k, i in enumerate(np.flatnonzero(grounded))
    ]


def score_regions(
    pair: Pair, maps: Mapping[str, np.ndarray], tag: str, columns: Columns
) -> list[dict]:
    """The measures against known masks and boxes; a row for each region that has tokens."""
    grid = next(iter(maps.values())).shape[1:]

    spans = [(region.start, region.end) for region in pair.regions]
    near, cover = zip(*(_in_cells(region, grid) for region in pair.regions), strict=True)
    near, cover = np.stack(near), np.stack(cover)

    has_tokens = words.overlaps(spans, pair.offsets).any(axis=1) & near.any(axis=(1, 2))
    near, cover = near[has_tokens], cover[has_tokens]

    columns[f"pointing_region{tag}_chance"].append(metrics.pointing_chance(near))
    columns[f"pointing_region{tag}_center"].append(metrics.pointing_center(near))

    middle = metrics.middle_gaussian(cover.shape)
    columns[f"energy{tag}_center"].append(metrics.energy(middle, cover))

    for name, token_maps in maps.items():
        token_maps = word_maps(token_maps, pair.offsets, spans)[has_tokens]
        columns[f"pointing_region{name}"].append(metrics.pointing(token_maps, near))
        columns[f"energy{name}"].append(metrics.energy(token_maps, cover))

    hits = columns[f"pointing_region{next(iter(maps))}"][-1]
    centers = columns[f"pointing_region{tag}_center"][-1]
    chances = columns[f"pointing_region{tag}_chance"][-1]

    return [
        _row(
            pair.narrative.caption[slice(*spans[i])],
            spans[i],
            trace.centroid(cover[k]),
            pointing_region=hits[k],
            center=centers[k],
            chance=chances[k],
        )
        for k, i in enumerate(np.flatnonzero(has_tokens))
    ]


def _row(word: str, span: words.Span, place: np.ndarray, **score: float) -> dict:
    row = {"word": word, "start": span[0], "end": span[1], "x": place[0], "y": place[1]} | score
    return {k: v if isinstance(v, str | int) else float(v) for k, v in row.items()}


def _in_cells(region: Region, grid: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """The cells whose choice is a hit, and the share of each that is covered."""
    if region.rle is None:
        assert region.box is not None  # a region has one or the other
        return metrics.box_cells(region.box, grid), metrics.box_cover(region.box, grid)
    mask = region.mask(*region.rle["size"])
    return metrics.mask_cells(mask, grid), metrics.mask_cover(mask, grid)


def by_word(rows: Sequence[dict], least: int = 5) -> dict[str, dict[str, float]]:
    """Words seen `least` times or more, the most frequent first: their counts and pointing, and
    what the middle and a cell by chance would score for them.

    {"dog": {"count": 9, "pointing_trace": .5, "num_regions": 7, "pointing_region": .6,
    "pointing_region_center": .4, "pointing_region_chance": .2, ...}}; what was seen less often is
    left out.
    """
    by_measure: dict[str, dict[str, list[dict]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        measure = "pointing_trace" if "pointing_trace" in row else "pointing_region"
        by_measure[row["word"].lower().strip(".,;:!?")][measure].append(row)

    counted = {"pointing_trace": "count", "pointing_region": "num_regions"}
    num_seen = {word: sum(map(len, rows.values())) for word, rows in by_measure.items()}
    scores: dict[str, dict[str, float]] = {}
    for word in sorted(by_measure, key=lambda word: -num_seen[word]):
        for measure, seen in sorted(by_measure[word].items(), reverse=True):
            if len(seen) < least:
                continue
            scores.setdefault(word, {})[counted[measure]] = len(seen)
            for name, key in ((measure, measure), ("_center", "center"), ("_chance", "chance")):
                values = [row[key] for row in seen if key in row]
                if values:
                    full_name = name if name == measure else measure + name
                    scores[word][full_name] = round(float(np.mean(values)), 4)
    return scores
