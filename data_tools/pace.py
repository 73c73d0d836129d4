"""How people and simulated narrators speak and point, in numbers.

    python -m data_tools.pace FILE.jsonl [FILE.jsonl ...]

prints one column for each file of narratives. With a regions.jsonl beside the file, also the share
of points inside the box of what is being named. Ours; people's figures are in narrator.py.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from data_tools.exchange import regions as region_lines
from loctex.records.narrative import Narrative, read_jsonl
from loctex.records.words import overlaps, spans

PAUSE = 0.2  # seconds between two words; a longer one is a pause
REST = 0.1  # seconds between two points; after a longer one the pointer had stood still


def measure(narratives: Sequence[Narrative]) -> dict[str, float]:
    """Medians, percentiles and shares over all words and points; NaN where there are none."""
    durations = [word.end - word.start for n in narratives for word in n.words]
    gaps = np.array([b.start - a.end for n in narratives for a, b in pairwise(n.words)])
    pauses = gaps[gaps > PAUSE]

    strokes = [stroke for n in narratives for stroke in n.strokes]
    steps = np.concatenate([np.empty((0, 3)), *(np.diff(stroke, axis=0) for stroke in strokes)])

    seconds = steps[:, 2]
    moves = (seconds > 0) & (seconds <= REST)
    speed = np.hypot(steps[moves, 0], steps[moves, 1]) / seconds[moves]

    return {
        "narratives": len(narratives),
        "words": len(durations),
        "points": sum(map(len, strokes)),
        "seconds a word, 25 %": _percentile(durations, 25),
        "seconds a word, 50 %": _percentile(durations, 50),
        "seconds a word, 75 %": _percentile(durations, 75),
        "words a second, pauses included": _ratio(len(durations), sum(map(_talk, narratives))),
        "share of gaps that are pauses": _ratio(len(pauses), len(gaps)),
        "seconds a pause, 25 %": _percentile(pauses, 25),
        "seconds a pause, 50 %": _percentile(pauses, 50),
        "seconds a pause, 75 %": _percentile(pauses, 75),
        "points a second, whole narrative": _ratio(
            sum(map(len, strokes)), sum(n.duration for n in narratives if n.strokes)
        ),
        "points a second while moving": _ratio(moves.sum(), seconds[moves].sum()),
        "seconds between points, 50 %": _percentile(seconds, 50),
        "seconds between points, 90 %": _percentile(seconds, 90),
        "share of words with a point": _grounded(narratives),
        "speed (image sides a second), 25 %": _percentile(speed, 25),
        "speed, 50 %": _percentile(speed, 50),
        "speed, 75 %": _percentile(speed, 75),
        "speed, 90 %": _percentile(speed, 90),
    }


def inside(narrative: Narrative, regions: Sequence[dict[str, Any]]) -> np.ndarray:
    """(N,) bool for each point recorded while something known is named: does its box hold it?

    regions: of this narrative, lines of regions.jsonl; those without a box say nothing.
    """
    boxed = [region for region in regions if region.get("box")]
    namings = [(region["start"], region["end"]) for region in boxed]

    covers = overlaps(namings, spans(narrative.caption, narrative.words))  # (regions, words)
    points = np.concatenate([np.empty((0, 3)), *narrative.strokes])
    times = np.array([(word.start, word.end) for word in narrative.words]).reshape(-1, 2)
    result = [np.zeros(0, dtype=bool)]

    for region, is_said in zip(boxed, covers, strict=True):
        if is_said.any():
            t, box = points[:, 2], np.array(region["box"])
            pointed = points[(t >= times[is_said, 0].min()) & (t <= times[is_said, 1].max()), :2]
            is_inside = (pointed >= box[:2]) & (pointed <= box[2:])
            result.append(np.asarray(is_inside.all(axis=1)))

    return np.concatenate(result)


def _grounded(narratives: Iterable[Narrative]) -> float:
    """The share of words during which a point was recorded, where there is a trace."""
    num_words = num_grounded = 0
    for narrative in narratives:
        if narrative.strokes and narrative.words:
            t = np.sort(np.concatenate([stroke[:, 2] for stroke in narrative.strokes]))
            start, end = np.array([(word.start, word.end) for word in narrative.words]).T
            num_points = np.searchsorted(t, end, "right") - np.searchsorted(t, start, "left")
            num_words += len(start)
            num_grounded += int((num_points > 0).sum())
    return _ratio(num_grounded, num_words)


def _talk(narrative: Narrative) -> float:
    """Seconds from the first word to the last."""
    return narrative.words[-1].end - narrative.words[0].start if narrative.words else 0.0


def _percentile(values: Sequence[float] | np.ndarray, percent: float) -> float:
    return float(np.percentile(values, percent)) if len(values) else math.nan


def _ratio(amount: float, total: float) -> float:
    return float(amount / total) if total else math.nan


def of_file(path: Path) -> dict[str, float]:
    """All measures of a file of narratives; with the regions.jsonl beside it, if there is one.

    ValueError names the line that is wrong.
    """
    narratives = list(read_jsonl(path))
    result = measure(narratives)

    beside = path.with_name("regions.jsonl")
    if beside.exists():
        of_image = defaultdict(list)
        for narrative in narratives:
            of_image[narrative.dataset_id, narrative.image_id].append(narrative)
        regions_of = region_lines.read_regions(beside)

        hits = [np.zeros(0, dtype=bool)]
        for key, members in of_image.items():
            regions = region_lines.assign(regions_of.get(key, ()), members)
            hits += map(inside, members, regions)

        held = np.concatenate(hits)
        result["points while something known is named"] = len(held)
        result["share of them inside its box"] = _ratio(held.sum(), len(held))
    return result


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m data_tools.pace", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter

    parser.add_argument("files", type=Path, nargs="+", metavar="FILE.jsonl")
    options = parser.parse_args(arguments)
    try:
        columns = [of_file(path) for path in options.files]
    except (ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 1

    for number, path in enumerate(options.files, 1):
        print(f"({number}) {path}")
    for name in dict.fromkeys(name for column in columns for name in column):
        values = (_show(column.get(name, math.nan)) for column in columns)
        print(f"{name:40}" + "".join(f"{value:>10}" for value in values))
    return 0


def _show(value: float) -> str:
    if math.isnan(value):
        return "-"
    return f"{value:,}" if isinstance(value, int) else f"{value:.3f}"


if __name__ == "__main__":
    sys.exit(main())
