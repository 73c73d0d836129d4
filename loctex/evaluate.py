"""Scores a checkpoint on a split of a snapshot: retrieval, pointing, traces.

    python -m loctex.evaluate --run RUN --data SNAPSHOT [--split val] [--checkpoint best]

prints a table and writes RUN/evaluations/<snapshot>-<split>-<checkpoint>/result.json. The measures
are those of METHOD section 3; fractions, not percent. A `_center` twin is what a constant answer in
the middle scores; in brackets and under "intervals" stand 95 % intervals, of a bootstrap over the
images. The trainer and the app call `score` too.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from loctex import cli, distributed
from loctex.jobs import checkpoint_files
from loctex.loading import tokenization
from loctex.model import build
from loctex.records.files import write_result
from loctex.records.snapshot import Snapshot
from loctex.scoring.score import RERANK, score, table
from loctex.scoring.word_scores import by_word


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m loctex.evaluate",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--run", type=Path, required=True, help="a run, or a save_pretrained folder"
    )

    parser.add_argument("--data", type=Path, required=True, help="a snapshot")
    parser.add_argument("--split", default="val", help="train, val or test [val]")
    parser.add_argument("--checkpoint", default="best", help="best, last, or a folder [best]")
    parser.add_argument(
        "--rerank",
        type=int,
        default=RERANK,
        metavar="K",
        help=f"candidates that a matching head orders anew; 0: none [{RERANK}]",
    )

    parser.add_argument("--to", type=Path, help="where to write result.json")
    cli.add_device_option(parser)

    arguments = parser.parse_args(argv)

    try:
        device = distributed.choose_device(arguments.device)
        folder = checkpoint_files.find(arguments.run, arguments.checkpoint)
        snapshot = Snapshot.open(arguments.data)
        model, tokenizer = build.load(folder, device=device), tokenization.load(folder)
        split = snapshot.split(arguments.split)
        scores = score(
            model, tokenizer, split, rerank=arguments.rerank, has_progress=True, has_intervals=True
        )
    except (ValueError, FileNotFoundError) as error:
        sys.exit(f"error: {error}")

    name = f"{arguments.data.resolve().name}-{arguments.split}-{Path(arguments.checkpoint).name}"
    to = arguments.to or arguments.run / "evaluations" / name / "result.json"

    result = {
        "metrics": scores.metrics,
        "intervals": scores.intervals,
        "num_images": scores.num_images,
        "num_narratives": scores.num_narratives,
        "num_words": scores.num_words,
        "run": arguments.run.resolve().name,
        "checkpoint": folder.name,
        "snapshot": snapshot.hash,
        "split": arguments.split,
        "words": by_word(scores.words),
    }

    print(table(scores), flush=True)
    print(write_result(to, json.dumps(result, indent=1)))


if __name__ == "__main__":
    cli.keep_freed_memory()
    main()
