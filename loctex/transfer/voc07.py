"""VOC07 classification: are the frozen features good for finding twenty kinds of things?

    python -m loctex.transfer.voc07 --run RUN --voc VOCDEVKIT [--also OTHER ...] [--to FILE]

One linear SVM per class on the global average pool of the last stage (METHOD section 4, after
VirTex's public code), the same from a few images per class (low-shot), and a vote of the nearest
images (k-NN, the quick number). Prints a table with a row for random initialization, one for the
run and one for each --also (another run, timm:MODEL, or timm:MODEL=FILE), and writes
RUN/transfer/voc07-CHECKPOINT/result.json. Features stay in RUN/transfer/features.

An image that only shows difficult objects of a class takes no part for that class. VirTex's code
leaves it out of testing but trains on it as negative: --difficult negative does that.
"""

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from loctex import cli, distributed
from loctex.jobs import checkpoint_files
from loctex.records.files import cache_place, write_result
from loctex.transfer import encoders, labels, linear, voc
from loctex.transfer.encoders import Encoder
from loctex.transfer.labels import Task

PROTOCOLS = ("svm", "knn", "low-shot")


def read(devkit: Path, train: str | None, test: str | None, difficult: str = "ignored") -> Task:
    """The task of a devkit; classes that cannot be scored are named in its `left_out`.

    ValueError where sets or annotations are missing, sets overlap, or no class is left.
    """
    folder = voc.find(devkit)
    if train is None or test is None:
        usual = voc.splits(folder)
        train, test = train or usual[0], test or usual[1]

    train_labels, second = voc.read(folder, train, test)
    if difficult == "negative":
        train_labels = replace(
            train_labels, values=np.where(train_labels.values == 0, -1, train_labels.values)
        )
    return labels.make(train_labels, second, linear.FOLDS)


def score(
    train: np.ndarray, test: np.ndarray, task: Task, protocols: Sequence[str], num_jobs: int = -1
) -> dict:
    """The numbers of one row; fractions, not percent."""
    data = (train, task.train.values, test, task.test.values)
    result: dict = {}

    if "svm" in protocols:
        classes = linear.score(*data, num_jobs=num_jobs)
        result["map"] = float(np.mean([row["ap"] for row in classes]))
        result["classes"] = dict(zip(task.train.classes, classes, strict=True))
    if "knn" in protocols:
        result["knn"] = linear.neighbors(*data)
    if "low-shot" in protocols:
        result["low_shot"] = linear.low_shot(*data, num_jobs=num_jobs)
    return result


def evaluate(
    encoders: Sequence[Encoder],
    task: Task,
    cache: Path,
    *,
    protocols: Sequence[str] = PROTOCOLS,
    skip_damaged: bool = False,
    device: torch.device | str = "cpu",
    num_jobs: int = -1,
    has_progress: bool = False,
) -> tuple[list[dict], Task]:
    """A row of numbers per encoder, all on the same images, and the task they were scored on.

    ValueError names unreadable images, unless `skip_damaged` takes them out of the task.
    """
    rows = []
    for encoder in encoders:
        start = time.monotonic()
        train, test, task = labels.encode(
            encoder,
            task,
            cache,
            least=linear.FOLDS,
            skip_damaged=skip_damaged,
            device=device,
            has_progress=has_progress,
        )

        encoded = time.monotonic()
        numbers = score(train, test, task, protocols, num_jobs)
        seconds = {"features": encoded - start, "scores": time.monotonic() - encoded}
        rows.append({"name": encoder.name, "weights": encoder.key, **numbers, "seconds": seconds})
    return rows, task


def table(rows: Sequence[dict], task: Task) -> str:
    """The numbers as people read them, in percent."""
    shots = sorted({k for row in rows for k in row.get("low_shot", {})})

    width = max(len(row["name"]) for row in rows)
    lines = [
        f"mean AP (%) over {len(task.train.classes)} classes; {len(task.train)} images to train "
        f"on, {len(task.test)} to test on",
        " " * width + "    SVM   k-NN" + "".join(f"{f'k={k}':>12}" for k in shots),
    ]

    for row in rows:
        cells = "".join(_few(row.get("low_shot", {}).get(k)) for k in shots)
        lines.append(
            f"{row['name']:{width}} {_percent(row.get('map'))} {_percent(row.get('knn'))}{cells}"
        )

        slow = [
            name
            for name, class_row in row.get("classes", {}).items()
            if not class_row["is_converged"]
        ]
        if slow:
            lines.append(f"{'':{width}}   the solver stopped early on {', '.join(slow)}")

    return "\n".join([*lines, *task.problems()])


def _percent(value: float | None) -> str:
    return f"{'-':>6}" if value is None else f"{100 * value:6.2f}"


def _few(scores: dict | None) -> str:
    return (
        f"{'-':>12}"
        if scores is None
        else f"{100 * scores['mean']:6.1f} ±{100 * scores['std']:4.1f}"
    )


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m loctex.transfer.voc07",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )

    parser.add_argument("--run", type=Path, required=True, help="a run, or a saved model's folder")
    parser.add_argument("--checkpoint", default="best", help="best, last, or a folder [best]")
    parser.add_argument("--voc", type=Path, required=True, help="VOCdevkit, or its VOC2007")
    parser.add_argument(
        "--also",
        action="append",
        default=[],
        metavar="OTHER",
        help="one more row: a run (one trained without traces, say), timm:MODEL, timm:MODEL=FILE",
    )

    parser.add_argument("--train", help="the set to train on [trainval, else train]")
    parser.add_argument("--test", help="the set to test on [test, else val]")
    parser.add_argument(
        "--difficult",
        choices=("ignored", "negative"),
        default="ignored",
        help="difficult objects in training [ignored]",
    )

    parser.add_argument("--protocols", nargs="+", choices=PROTOCOLS, default=PROTOCOLS)
    parser.add_argument(
        "--skip-damaged",
        action="store_true",
        help="leave unreadable images out, named, instead of refusing",
    )
    parser.add_argument("--seed", type=int, default=0, help="of the random initialization [0]")

    parser.add_argument("--jobs", type=int, default=-1, help="processes [all cores]")
    cli.add_device_option(parser)
    parser.add_argument("--to", type=Path, help="where to write result.json")
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    arguments = parser().parse_args(argv)
    try:
        device = distributed.choose_device(arguments.device)
        folder = checkpoint_files.find(arguments.run, arguments.checkpoint)
        task = read(arguments.voc, arguments.train, arguments.test, arguments.difficult)
        rows, task = evaluate(
            [
                encoders.from_random(arguments.run, arguments.checkpoint, arguments.seed),
                encoders.from_run(arguments.run, arguments.checkpoint),
                *(encoders.from_name(name) for name in arguments.also),
            ],
            task,
            cache_place(arguments.run / "transfer" / "features", "transfer-features"),
            protocols=arguments.protocols,
            skip_damaged=arguments.skip_damaged,
            device=device,
            num_jobs=arguments.jobs,
            has_progress=True,
        )
    except (ValueError, FileNotFoundError) as error:
        sys.exit(f"error: {error}")

    to = (
        arguments.to
        or arguments.run / "transfer" / f"voc07-{Path(arguments.checkpoint).name}" / "result.json"
    )

    result = {
        "protocol": "voc07",
        "run": arguments.run.resolve().name,
        "checkpoint": folder.name,
        "rows": rows,
        "classes": task.train.classes,
        "num_train": len(task.train),
        "num_test": len(task.test),
        "difficult": arguments.difficult,
        "left_out": task.left_out,
    }

    print(table(rows, task), flush=True)
    print(write_result(to, json.dumps(result, indent=1)))


if __name__ == "__main__":
    cli.keep_freed_memory()
    main()
