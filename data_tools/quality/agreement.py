"""How far two people who describe one image agree: in what they say, and where they point."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from data_tools.quality.flags import MARGIN, visited
from loctex.records import trace, words
from loctex.records.narrative import Narrative
from loctex.scoring import metrics


@dataclass(frozen=True)
class Agreement:
    """trace_iou: of the cells (14 x 14) that a trace visits, the share that both do, 0 to 1.
    lbm: local bipartite matching (METHOD 3), k = 1, of the boxes of their words; 0 is the same
    path. word_error_rate: edits that turn one caption into the other, by word; the mean of both
    directions, 0 is the same caption. NaN where one has no trace, or no words."""

    trace_iou: float
    lbm: float
    word_error_rate: float


def compare(first: Narrative, second: Narrative) -> Agreement:
    """Two narratives of one image; the order does not matter."""
    return Agreement(
        _trace_iou(first, second),
        _lbm(first, second),
        word_error_rate(first.caption, second.caption),
    )


def mean(narratives: Sequence[Narrative]) -> Agreement:
    """Over all pairs of different people; NaN where there is none."""
    pairs = [
        compare(a, b) for a, b in combinations(narratives, 2) if a.annotator_id != b.annotator_id
    ]
    return average(pairs)


def average(agreements: Sequence[Agreement]) -> Agreement:
    """The mean of each measure, over those that have it."""
    columns = zip(*((a.trace_iou, a.lbm, a.word_error_rate) for a in agreements), strict=True)
    finite = [[value for value in column if not np.isnan(value)] for column in columns] or [[]] * 3
    return Agreement(*(float(np.mean(column)) if column else float("nan") for column in finite))


def word_error_rate(first: str, second: str) -> float:
    """Case and punctuation apart; NaN where a caption has no words."""
    import jiwer  # rapidfuzz's libraries need not be loaded by all who import this

    first, second = _plain(first), _plain(second)
    if not (first and second):
        return float("nan")
    return (jiwer.wer(first, second) + jiwer.wer(second, first)) / 2


def _plain(caption: str) -> str:
    return " ".join(re.findall(r"[\w'-]+", caption.lower()))


def _trace_iou(first: Narrative, second: Narrative) -> float:
    a, b = visited(first), visited(second)
    return float((a & b).sum() / (a | b).sum()) if a.any() and b.any() else float("nan")


def _lbm(first: Narrative, second: Narrative) -> float:
    a, b = (
        trace.boxes(narrative.strokes, words.windows(narrative.words, MARGIN))
        for narrative in (first, second)
    )
    a = a[~np.isnan(a).any(axis=1)]
    return metrics.lbm(a, b, window=1)
