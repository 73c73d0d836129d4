"""Two runs on the same words: their difference in pointing, and how sure it is.

    python -m tests.benchmarks.paired RUN OTHER --data SNAPSHOT [--split val] [--checkpoint last]

The images are drawn again with replacement, 2,000 times (paired bootstrap): the interval says what
other images of this kind would have given. It does not say what other seeds of the training would.
"""

import argparse
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from loctex.jobs import checkpoint_files
from loctex.loading import tokenization
from loctex.model import build
from loctex.records.items import Split
from loctex.records.snapshot import Snapshot
from loctex.scoring import score
from loctex.scoring.word_scores import score_words

MEASURES = ("pointing_region", "pointing_trace", "energy", "auc", "lbm_0", "lbm_1")


@torch.inference_mode()
def by_image(run: Path, name: str, split: Split) -> dict[str, list[np.ndarray]]:
    """Measure -> for each image the scores of its words (of its narratives for LBM)."""
    folder = checkpoint_files.find(run, name)
    model, words_of = build.load(folder).eval(), tokenization.load(folder)
    scores: dict[str, list[np.ndarray]] = {measure: [] for measure in MEASURES}
    for item in split:
        columns: dict[str, list[np.ndarray]] = defaultdict(list)
        for pair in score.encode(model, words_of, [item], defaultdict(list)):
            score_words(pair, model.config.word_margin, columns, [])
        for measure, parts in scores.items():
            parts.append(np.concatenate(columns[measure] or [np.empty(0)]))
    return scores


def interval(one: Sequence[np.ndarray], two: Sequence[np.ndarray]) -> tuple[float, float, float]:
    """Difference of the means over words, and its 95 % interval over images."""
    totals = np.array(
        [(np.nansum(a), np.nansum(b), (~np.isnan(a)).sum()) for a, b in zip(one, two, strict=True)]
    )
    drawn = np.random.default_rng(0).integers(len(totals), size=(2000, len(totals)))
    sums = totals[drawn].sum(axis=1)
    differences = (sums[:, 0] - sums[:, 1]) / sums[:, 2]
    whole = totals.sum(axis=0)
    low, high = np.nanquantile(differences, (0.025, 0.975))
    return (whole[0] - whole[1]) / whole[2], low, high


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.paired", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("runs", type=Path, nargs=2, metavar="RUN")
    parser.add_argument("--data", type=Path, required=True, help="a snapshot")
    parser.add_argument("--split", default="val")
    parser.add_argument("--checkpoint", default="last")
    given = parser.parse_args(arguments)
    split = Snapshot.open(given.data).split(given.split)
    one, two = (by_image(run, given.checkpoint, split) for run in given.runs)
    for measure in MEASURES:
        if any(part.size for part in one[measure]):
            difference, low, high = interval(one[measure], two[measure])
            print(f"{measure:16s} {difference:+.3f}  [{low:+.3f}, {high:+.3f}]")


if __name__ == "__main__":
    main()
