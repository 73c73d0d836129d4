"""What a collection is like: words, pace, traces, where people pointed, what they said, and who.

Narratives are summed up in blocks of 1,000 ids. A block is kept in a file and counted again only
when something in it was added, changed or deleted: the charts of a million narratives cost what is
new. Summaries add up, so they hold sums and histograms, no lists.
"""

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from sqlalchemy import func, select

from data_tools.store import tables as db
from data_tools.store.database import Database
from loctex.records.files import write_whole
from loctex.records.narrative import Narrative
from loctex.records.word_classes import word_class

BLOCK = 1000  # narratives
GRID = 24  # cells of the heat map, each way
VERSION = 1  # of what is kept
EDGES = {  # of each histogram; what lies beyond counts in the last bin
    "words": np.linspace(0, 120, 25),
    "seconds": np.linspace(0, 120, 25),
    "words a second": np.linspace(0, 5, 26),
    "trace length": np.linspace(0, 30, 31),  # image sides
    "trace speed": np.linspace(0, 2, 21),  # image sides a second, while it moves
    "words pointed at": np.linspace(0, 1, 21),  # share that has a point in its time
    "lag": np.linspace(-2, 2, 21),  # seconds from the beginning of a word to that of its stroke
}
_SUMS = ("narratives", "words", "seconds", "points", "length", "moving", "grounded", "timed")


@dataclass
class Summary:
    """Sums and histograms of some narratives."""

    histograms: dict[str, np.ndarray] = field(
        default_factory=lambda: {name: np.zeros(len(e) - 1, np.int64) for name, e in EDGES.items()}
    )
    heat: np.ndarray = field(default_factory=lambda: np.zeros((GRID, GRID), np.int64))
    vocabulary: Counter[str] = field(default_factory=Counter)
    classes: Counter[str] = field(default_factory=Counter)
    annotators: dict[int, Counter[str]] = field(default_factory=dict)  # sums of each

    @property
    def total(self) -> Counter[str]:
        """The sums of all: narratives, words, seconds, points, length, moving, grounded, timed."""
        return sum(self.annotators.values(), Counter())

    def add(self, other: "Summary") -> None:
        for name, counts in other.histograms.items():
            self.histograms[name] += counts
        self.heat += other.heat
        self.vocabulary.update(other.vocabulary)
        self.classes.update(other.classes)
        for annotator, sums in other.annotators.items():
            self.annotators.setdefault(annotator, Counter()).update(sums)

    def count(self, narrative: Narrative) -> None:
        """Add one narrative."""
        facts = _facts(narrative)
        for name, values in facts.items():
            edges = EDGES[name]
            clipped = np.clip(values, edges[0], edges[-1])
            self.histograms[name] += np.histogram(clipped, edges)[0]

        sums = self.annotators.setdefault(narrative.annotator_id, Counter())
        sums.update(_sums(narrative, facts))

        points = np.concatenate([np.empty((0, 3)), *narrative.strokes])
        inside = points[(points[:, :2] >= 0).all(1) & (points[:, :2] <= 1).all(1)]
        x, y = np.minimum(inside[:, :2] * GRID, GRID - 1).astype(int).T
        np.add.at(self.heat, (y, x), 1)

        words = [word.strip(".,;:!?\"'()").lower() for word in narrative.caption.split()]
        self.vocabulary.update(word for word in words if word)
        self.classes.update(word_class(word) for word in words if word)

    def to_json(self) -> dict[str, Any]:
        return {
            "histograms": {name: counts.tolist() for name, counts in self.histograms.items()},
            "heat": self.heat.tolist(),
            "vocabulary": self.vocabulary,
            "classes": self.classes,
            "annotators": self.annotators,
        }

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> "Summary":
        return cls(
            {name: np.array(counts) for name, counts in record["histograms"].items()},
            np.array(record["heat"]),
            Counter(record["vocabulary"]),
            Counter(record["classes"]),
            {int(key): Counter(sums) for key, sums in record["annotators"].items()},
        )


def _facts(narrative: Narrative) -> dict[str, np.ndarray]:
    """The values that each histogram counts; none where the narrative cannot tell."""
    words, strokes = narrative.words, narrative.strokes
    times = np.concatenate([np.empty(0), *(stroke[:, 2] for stroke in strokes)])
    spoken = max((word.end for word in words), default=0.0)
    none = np.empty(0)

    lengths, seconds = _moves(strokes)
    moves = lengths > 0
    speed = lengths[moves].sum() / max(seconds[moves].sum(), 1e-3) if moves.any() else none

    starts, ends = (np.array([getattr(w, name) for w in words]) for name in ("start", "end"))
    times = np.sort(times)
    is_pointed = np.searchsorted(times, starts, "left") < np.searchsorted(times, ends, "right")
    begun = np.array([stroke[0, 2] for stroke in strokes])

    lags = none
    if len(words) and len(begun):
        lags = begun - starts[np.abs(begun[:, None] - starts).argmin(1)]
        lags = lags[np.abs(lags) <= 2]

    return {
        "words": np.array([len(narrative.caption.split())]),
        "seconds": np.array([narrative.duration]) if narrative.duration else none,
        "words a second": np.array([len(words) / spoken]) if spoken else none,
        "trace length": np.array([lengths.sum()]) if strokes else none,
        "trace speed": np.atleast_1d(speed),
        "words pointed at": np.array([is_pointed.mean()]) if len(words) and strokes else none,
        "lag": lags,
    }


def _moves(strokes: tuple[np.ndarray, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Length (image sides) and seconds of each step from point to point."""
    steps = [np.empty((0, 3)), *(np.diff(stroke, axis=0) for stroke in strokes)]
    x, y, t = np.concatenate(steps).T
    return np.hypot(x, y), t


def _sums(narrative: Narrative, facts: dict[str, np.ndarray]) -> dict[str, float]:
    lengths, seconds = _moves(narrative.strokes)
    grounded = facts["words pointed at"]
    values = (
        1,
        len(narrative.caption.split()),
        narrative.duration,
        narrative.num_points,
        float(lengths.sum()),
        float(seconds[lengths > 0].sum()),
        float(grounded.sum()) * len(narrative.words),
        len(narrative.words),
    )
    return dict(zip(_SUMS, values, strict=True))


class Statistics:
    """The summaries of a database's collections, kept in a folder."""

    def __init__(self, database: Database, folder: Path) -> None:
        self._database, self._folder = database, folder

    def summary(self, collection_id: int) -> Iterator[tuple[Summary, int, int]]:
        """The summary so far, blocks counted, and blocks in all: kept ones first and at once,
        then block by block."""
        blocks = self._blocks(collection_id)
        summary, waiting = Summary(), []

        for block, state in blocks.items():
            cached = self._kept(collection_id, block, state)
            if cached is None:
                waiting.append(block)
            else:
                summary.add(cached)

        num_kept = len(blocks) - len(waiting)
        yield summary, num_kept, len(blocks)

        for num_counted, block in enumerate(waiting, num_kept + 1):
            counted = self._counted(collection_id, block)
            record = {"version": VERSION, "state": blocks[block], "summary": counted.to_json()}
            write_whole(self._file(collection_id, block), json.dumps(record))
            summary.add(counted)
            yield summary, num_counted, len(blocks)

    def _blocks(self, collection_id: int) -> dict[int, list[float]]:
        """Of each block, what changes when a narrative in it does."""
        n = db.narratives.c

        block = ((n.id - n.id % BLOCK) / BLOCK).label("block")
        query = (
            select(
                block,
                func.count(),
                func.sum(n.id),
                func.sum(n.num_words),
                func.sum(n.num_points),
                func.sum(n.duration),
            )
            .where(n.collection_id == collection_id)
            .group_by(block)
            .order_by(block)
        )
        return {int(row[0]): [float(x) for x in row[1:]] for row in self._database.all(query)}

    def _counted(self, collection_id: int, block: int) -> Summary:
        n, b = db.narratives.c, db.bodies.c
        query = select(b.record).select_from(db.narratives.join(db.bodies))
        mine = (n.collection_id == collection_id, n.id >= block * BLOCK, n.id < (block + 1) * BLOCK)
        summary = Summary()
        for row in self._database.all(query.where(*mine)):
            summary.count(Narrative.from_json(row.record))
        return summary

    def _file(self, collection_id: int, block: int) -> Path:
        return self._folder / str(collection_id) / f"{block}.json"

    def _kept(self, collection_id: int, block: int, state: list[float]) -> Summary | None:
        try:
            record = json.loads(self._file(collection_id, block).read_bytes())
            if record["version"] != VERSION or record["state"] != state:
                return None
            return Summary.from_json(record["summary"])
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return None  # not there yet, or torn: it is counted anew


def middle(counts: np.ndarray, edges: np.ndarray) -> float | None:
    """The median, as far as a histogram tells it; None of nothing."""
    if not counts.sum():
        return None
    sums = np.concatenate(([0], np.cumsum(counts)))
    half = sums[-1] / 2
    for (low, high), (a, b) in zip(pairwise(edges), pairwise(sums), strict=True):
        if b >= half:
            return float(low + (high - low) * (half - a) / (b - a))
    raise AssertionError("half of all lies beyond all")
