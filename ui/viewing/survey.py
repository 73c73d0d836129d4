"""What the Atlas tells of a scored split: selections, distributions, words. Numpy, no gradio."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc

from loctex.records.word_classes import CLASSES
from loctex.scoring.atlas_job import AtlasJob
from loctex.scoring.atlas_table import Atlas
from ui.workspace import Workspace

BINS = 20  # of a histogram
CELLS = 5  # rows and columns of the picture's regions
LBM_END = 0.5  # where the histogram of path distances ends; the rest is in its last bin
LEAST = 5  # times a word must occur to be ranked
SORTS = {
    "worst": "Words missed first",
    "best": "Words found first",
    "far": "Paths far apart first",
    "close": "Paths close together first",
    "mismatch": "Sentences that fit their picture least first",
    "unsure": "Least certain first",
}


@dataclass(frozen=True)
class WordFilter:
    """What is chosen; None: everything. Marks are chosen by the first five, narratives by all."""

    is_region: bool = True  # the words of known regions, else all words with a trace
    kind: str | None = None
    word: str | None = None
    cell: tuple[int, int] | None = None  # row, column of CELLS x CELLS
    hit: int | None = None  # bin of the narrative's share of hits
    lbm: int | None = None  # bin of its path distance
    text: str = ""
    sort: str = "worst"

    def toggled(self, name: str, value: object) -> WordFilter:
        """With this choice, or without it where it was chosen already."""
        change: dict[str, Any] = {name: None if getattr(self, name) == value else value}
        return replace(self, **change)


@dataclass(frozen=True)
class Survey:
    """An atlas with what is asked of it again and again.

    words: (U,) texts, lower case without punctuation; word_of (M,) indices into them.
    """

    atlas: Atlas
    words: np.ndarray
    word_of: np.ndarray
    cell_of: np.ndarray  # (M, 2) row and column

    @classmethod
    def of(cls, atlas: Atlas) -> Survey:
        text = pc.utf8_trim(pc.utf8_lower(atlas.mark["word"]), characters=" .,;:!?\"'()")
        coded = text.dictionary_encode()
        place = np.stack((atlas.mark["y"], atlas.mark["x"]), axis=1)
        cells = np.clip(np.nan_to_num(place, nan=0.5) * CELLS, 0, CELLS - 1).astype(np.int8)
        return cls(
            atlas,
            np.array(coded.dictionary.to_pylist(), dtype=object),
            coded.indices.to_numpy(),
            cells,
        )

    @property
    def has_regions(self) -> bool:
        return bool(self.atlas.mark["is_region"].any())

    def of_measure(self, word_filter: WordFilter) -> np.ndarray:
        """(M,) bool: the words of regions or of traces; of traces where no region is known."""
        return self.atlas.mark["is_region"] == (word_filter.is_region and self.has_regions)

    def marks(self, word_filter: WordFilter) -> np.ndarray:
        """(M,) bool: the words that are chosen."""
        mark = self.atlas.mark
        is_in = self.of_measure(word_filter)
        if word_filter.kind is not None:
            is_in = is_in & (mark["kind"] == CLASSES.index(word_filter.kind))
        if word_filter.word is not None:
            is_in = is_in & (self.words == word_filter.word)[self.word_of]
        if word_filter.cell is not None:
            is_in = is_in & (self.cell_of == word_filter.cell).all(axis=1)
        return is_in

    def middle(self, marks: np.ndarray) -> float | None:
        """What always pointing at the middle scores on these (M,) bool marks; None where there is
        none, or the atlas was made before that was kept."""
        center = self.atlas.mark.get("center")
        return float(center[marks].mean()) if center is not None and marks.any() else None

    def share(self, marks: np.ndarray) -> np.ndarray:
        """(M,) bool -> (N,): the share of hits among each narrative's marks; NaN without any."""
        of = self.atlas.mark["narrative"][marks]
        count = np.bincount(of, minlength=len(self.atlas))
        hits = np.bincount(of, self.atlas.mark["hit"][marks], minlength=len(self.atlas))
        return np.divide(hits, count, out=np.full(len(count), np.nan), where=count > 0)

    def narratives(self, word_filter: WordFilter) -> np.ndarray:
        """Rows of the atlas, in the order asked for."""
        atlas = self.atlas
        share = self.share(self.marks(word_filter))
        is_in = np.ones(len(atlas), bool)

        if (
            word_filter.kind is not None
            or word_filter.word is not None
            or word_filter.cell is not None
        ):
            is_in &= ~np.isnan(share)

        if word_filter.hit is not None:
            overall = self.share(self.of_measure(word_filter))
            is_in &= bins(overall, 1.0) == word_filter.hit
        if word_filter.lbm is not None:
            is_in &= bins(atlas.numbers["lbm_0"], LBM_END) == word_filter.lbm

        if word_filter.text.strip():
            has_text = pc.match_substring(atlas.caption, word_filter.text.strip(), ignore_case=True)
            is_in &= has_text.to_numpy(zero_copy_only=False)

        lbm, cosine = atlas.numbers["lbm_0"], atlas.numbers["cosine"]
        keys = {
            "worst": (-lbm, share),
            "best": (lbm, -share),
            "far": (-lbm,),
            "close": (lbm,),
            "mismatch": (cosine,),
            "unsure": (atlas.numbers["certainty"],),
        }

        order = np.lexsort(tuple(np.nan_to_num(key, nan=np.inf) for key in keys[word_filter.sort]))
        return order[is_in[order]]

    def by_kind(self, word_filter: WordFilter) -> dict[str, tuple[float, int]]:
        """Class -> share of hits and count, of the classes that occur."""
        marks = self.marks(WordFilter(is_region=word_filter.is_region))
        kind, hit = self.atlas.mark["kind"][marks], self.atlas.mark["hit"][marks]
        return {
            name: (float(hit[kind == k].mean()), int((kind == k).sum()))
            for k, name in enumerate(CLASSES)
            if (kind == k).any()
        }

    def by_cell(self, word_filter: WordFilter) -> tuple[np.ndarray, np.ndarray]:
        """(CELLS, CELLS) share of hits, NaN without a word, and count, by where the word is."""
        marks = self.marks(replace(word_filter, cell=None))
        flat = self.cell_of[marks] @ np.array([CELLS, 1])
        count = np.bincount(flat, minlength=CELLS**2)
        hits = np.bincount(flat, self.atlas.mark["hit"][marks], minlength=CELLS**2)
        share = np.divide(hits, count, out=np.full(CELLS**2, np.nan), where=count > 0)
        return share.reshape(CELLS, CELLS), count.reshape(CELLS, CELLS)

    def ranked_words(
        self, word_filter: WordFilter, limit: int = 12
    ) -> tuple[list[tuple], list[tuple]]:
        """Worst and best: (text, share, count); by the end of Wilson's interval, so few
        occurrences prove little. Only words seen LEAST times."""
        marks = self.marks(replace(word_filter, word=None))
        count = np.bincount(self.word_of[marks], minlength=len(self.words))
        hits = np.bincount(
            self.word_of[marks], self.atlas.mark["hit"][marks], minlength=len(self.words)
        )

        frequent = np.flatnonzero((count >= LEAST) & (self.words != ""))
        share = hits[frequent] / count[frequent]
        low, high = wilson(share, count[frequent])

        rows = [
            (str(self.words[k]), float(s), int(count[k]))
            for k, s in zip(frequent, share, strict=True)
        ]

        worst, best = (np.argsort(key, kind="stable")[:limit] for key in (high, -low))
        top = {rows[i][0] for i in best}
        return [rows[i] for i in worst if rows[i][0] not in top or len(rows) > 2 * limit], [
            rows[i] for i in best
        ]


def wilson(share: np.ndarray, count: np.ndarray, z: float = 1.96) -> tuple[np.ndarray, np.ndarray]:
    """The ends of the 95 % interval of a share (Wilson, 1927)."""
    middle = share + z**2 / (2 * count)
    half = z * np.sqrt(share * (1 - share) / count + z**2 / (4 * count**2))
    return (middle - half) / (1 + z**2 / count), (middle + half) / (1 + z**2 / count)


def bins(values: np.ndarray, end: float) -> np.ndarray:
    """(N,) -> the bin of each in 0..end; -1 for NaN; what lies beyond is in the last."""
    scaled = np.floor(np.nan_to_num(values, nan=-1.0) / end * BINS).astype(int)
    return np.where(np.isnan(values), -1, np.clip(scaled, 0, BINS - 1))


def histogram(values: np.ndarray, end: float) -> np.ndarray:
    """(BINS,) counts."""
    bin_of = bins(values, end)
    return np.bincount(bin_of[bin_of >= 0], minlength=BINS)


def uncertainty(image: np.ndarray, texts: np.ndarray, scale: float = 20.0) -> float:
    """How unsure a model is what would be said of a picture (ours), from 0 to 1.

    The entropy of the softmax over (N, D) captions of their cosines with the picture (D,), by
    log N: 1 where all fit alike.
    """
    logits = scale * (texts @ image)
    share = np.exp(logits - logits.max())
    share /= share.sum()
    return float(-(share * np.log(np.maximum(share, 1e-30))).sum() / np.log(max(len(texts), 2)))


# --- where atlases are


def making(workspace: Workspace, checkpoint: str | None, source: str | None) -> AtlasJob:
    """Of pictures "snapshot/NAME/SPLIT". ValueError for a collection, which has
    no splits, and where there is no such checkpoint, snapshot or split."""
    kind, _, path = str(source).partition("/")
    if kind != "snapshot":
        raise ValueError(
            "The Atlas scores a snapshot. Choose one under Pictures; Train freezes a collection "
            "into one."
        )
    name, _, split = path.partition("/")
    job = AtlasJob(workspace.checkpoint(checkpoint), workspace.snapshot(name), split)
    if split not in job.snapshot.splits:
        raise ValueError(f"Snapshot {name} has no split {split[:20]!r}; choose another one.")
    return job


def survey(job: AtlasJob) -> Survey | None:
    """The finished one, kept in memory; None where it is not finished."""
    if not job.table.exists():
        return None
    return _survey(job.table, job.table.stat().st_mtime_ns)


@lru_cache(maxsize=4)
def _survey(table: Path, written: int) -> Survey:
    return Survey.of(Atlas.open(table))
