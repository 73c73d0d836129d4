"""How many labels do you need? A linear probe on your own labels, with few of them and with all.

    python -m loctex.transfer.efficiency --run RUN --labels FOLDER [--also OTHER ...]

--labels is a folder of class folders (or train/ and test/ of such), a CSV with the columns image,
label and optionally split, COCO JSON, a dataset that `datasets` saved to disk, a VOCdevkit, or
a folder as another tool unzips it: YOLO, CVAT, Roboflow, Label Studio, imagefolder, Open Images (a
picture shows the classes of its boxes). Where it does not say what to test on, one image of five of
each kind is held out, by the images' names.

Prints the score over the number of labels for random initialization, the run and each --also
(another run, timm:MODEL, or timm:MODEL=FILE), with the standard deviation over the draws, and a
sentence for each: "RUN with 40 labels equals OTHER with 200". Writes result.json, chart.svg, and
subsets.json with the images of every draw: the first N of a draw are its N labels, so that subsets
are nested. The score is accuracy where each image shows one class, else mean AP.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from loctex import cli, distributed
from loctex.jobs import checkpoint_files
from loctex.records.files import cache_place, write_result, write_whole
from loctex.transfer import chart, encoders, label_files, labels, linear
from loctex.transfer.encoders import Encoder
from loctex.transfer.labels import Labels, Task

SHARES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
SEEDS = 5
MEASURES = {"accuracy": linear.accuracy, "map": linear.mean_ap}


def draw(labels: Labels, seed: int) -> np.ndarray:
    """(N,) rows in the order in which a draw takes them: its first n are n labels.

    An image counts for its rarest class. The first image of each class comes first, then all
    classes grow in proportion; within a class the order is random.
    """
    random = np.random.default_rng(seed)
    is_shown = labels.values > 0
    rarity = np.where(is_shown, is_shown.sum(axis=0), len(labels) + 1)
    kind = np.where(is_shown.any(axis=1), rarity.argmin(axis=1), -1)

    place = np.empty(len(labels))
    for combination in np.unique(kind):
        rows = random.permutation(np.flatnonzero(kind == combination))
        place[rows] = np.arange(len(rows)) / len(rows)

    return np.lexsort((random.random(len(labels)), place))


def counts_of(labels: Labels, chosen_counts: Sequence[int] | None = None) -> list[int]:
    """The numbers of labels to try: those wanted, else shares of all; at least one per class."""
    total, least = len(labels), max(2, len(labels.classes))
    if chosen_counts:
        wrong = [count for count in chosen_counts if not 2 <= count <= total]
        if wrong:
            raise ValueError(f"--counts {wrong[0]}: there are {total} images to train on")
        return sorted(set(chosen_counts))
    return sorted({min(total, max(least, round(share * total))) for share in SHARES})


def curve(
    train: np.ndarray,
    test: np.ndarray,
    task: Task,
    counts: Sequence[int],
    draws: Sequence[np.ndarray],
    measure: str,
) -> np.ndarray:
    """(seeds, counts) scores of one encoder's features. All labels are the same in every draw."""
    score = MEASURES[measure]
    scores = np.empty((len(draws), len(counts)))

    for column, count in enumerate(counts):
        for seed, order in enumerate(draws):
            if count == len(train) and seed > 0:
                scores[seed, column] = scores[0, column]
                continue

            rows = np.sort(order[:count])
            predictions = linear.ridge(train[rows], task.train.values[rows], test)
            scores[seed, column] = score(predictions, task.test.values)

    return scores


def labels_needed(scores: np.ndarray, counts: Sequence[int], goal: float) -> float | None:
    """Where a curve of (counts,) scores first reaches the goal, between counts on a log scale.

    The smallest count where it starts above; None where it stays below.
    """
    reached = np.flatnonzero(np.asarray(scores) >= goal)
    if not len(reached):
        return None
    k = int(reached[0])
    if k == 0:
        return float(counts[0])
    share = (goal - scores[k - 1]) / (scores[k] - scores[k - 1])
    low, high = np.log(counts[k - 1]), np.log(counts[k])
    return float(np.exp(low + share * (high - low)))


def sentence(
    ours: np.ndarray, name: str, theirs: np.ndarray, other_name: str, counts: Sequence[int]
) -> str:
    """What the (seeds, counts) scores of two rows say of each other, in labels."""
    most, goal = counts[-1], theirs.mean(axis=0)[-1]
    needed = labels_needed(ours.mean(axis=0), counts, goal)
    if needed is None:
        best = ours.mean(axis=0)[-1]
        return f"{name} stays below {other_name}: {best:.3f} against {goal:.3f} with {most} labels."
    if needed <= counts[0]:
        return (
            f"{name} with {counts[0]} labels, the fewest tried, reaches {other_name} with {most}."
        )

    needed_by_draw = [labels_needed(row, counts, goal) for row in ours]
    reached = [value for value in needed_by_draw if value is not None]
    high = f"{max(reached):.0f}" if len(reached) == len(needed_by_draw) else "more than all"
    spread = "" if len(ours) == 1 else f" ({min(reached):.0f} to {high} over {len(ours)} draws)"

    return f"{name} with {needed:.0f} labels{spread} equals {other_name} with {most}."


def evaluate(
    encoders: Sequence[Encoder],
    task: Task,
    cache: Path,
    measure: str,
    *,
    counts: Sequence[int] | None = None,
    num_seeds: int = SEEDS,
    skip_damaged: bool = False,
    device: torch.device | str = "cpu",
    has_progress: bool = False,
) -> dict:
    """The result, and under "subsets" the images of each draw. The second encoder is ours.

    measure: "accuracy", where each image shows one class, or "map".
    ValueError names unreadable images, unless `skip_damaged` takes them out of the task.
    """
    rows_of_encoders = []

    for encoder in encoders:
        train, test, task = labels.encode(
            encoder,
            task,
            cache,
            least=1,
            skip_damaged=skip_damaged,
            device=device,
            has_progress=has_progress,
        )
        rows_of_encoders.append((train, test))

    counts = counts_of(task.train, counts)
    draws = [draw(task.train, seed) for seed in range(num_seeds)]
    scores = [curve(*pair, task, counts, draws, measure) for pair in rows_of_encoders]

    names = [encoder.name for encoder in encoders]
    rows = [
        {
            "name": encoder.name,
            "weights": encoder.key,
            "mean": encoder_scores.mean(axis=0).tolist(),
            "std": linear.sample_deviation(encoder_scores).tolist(),
            "scores": encoder_scores.tolist(),
        }
        for encoder, encoder_scores in zip(encoders, scores, strict=True)
    ]

    return {
        "protocol": "efficiency",
        "measure": measure,
        "counts": counts,
        "rows": rows,
        "sentences": [
            sentence(scores[1], names[1], encoder_scores, name, counts)
            for i, (name, encoder_scores) in enumerate(zip(names, scores, strict=True))
            if i != 1
        ],
        "classes": task.train.classes,
        "num_train": len(task.train),
        "num_test": len(task.test),
        "left_out": task.left_out,
        "subsets": {
            seed: [task.train.images[i] for i in order] for seed, order in enumerate(draws)
        },
    }


def table(result: dict) -> str:
    """The curve as people read it: mean and standard deviation, in percent."""
    width = max(len(row["name"]) for row in result["rows"])
    name = {"accuracy": "accuracy", "map": "mean AP"}[result["measure"]]
    lines = [
        f"{name} (%) over {len(result['classes'])} classes; {result['num_test']} images to test on",
        f"{'labels':{width}}" + "".join(f"{count:>13}" for count in result["counts"]),
    ]
    for row in result["rows"]:
        cells = zip(row["mean"], row["std"], strict=True)
        texts = "".join(f"{100 * mean:8.1f} ±{100 * std:3.1f}" for mean, std in cells)
        lines.append(f"{row['name']:{width}}{texts}")
    return "\n".join([*lines, *result["sentences"]])


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m loctex.transfer.efficiency",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )

    parser.add_argument("--run", type=Path, required=True, help="a run, or a saved model's folder")
    parser.add_argument("--checkpoint", default="best", help="best, last, or a folder [best]")
    parser.add_argument("--labels", type=Path, required=True, help="what shows which class")
    parser.add_argument("--images", type=Path, help="the images that a CSV or JSON names")
    parser.add_argument("--test", type=Path, help="labels to test on, if --labels has none")

    parser.add_argument(
        "--also",
        action="append",
        default=[],
        metavar="OTHER",
        help="one more row: a run (one trained without traces, say), timm:MODEL, timm:MODEL=FILE",
    )

    parser.add_argument(
        "--counts", type=int, nargs="+", help="numbers of labels [1 2 5 10 20 50 100 %% of all]"
    )
    parser.add_argument("--seeds", type=int, default=SEEDS, help=f"draws of each number [{SEEDS}]")
    parser.add_argument(
        "--skip-damaged",
        action="store_true",
        help="leave unreadable images out, named, instead of refusing",
    )

    cli.add_device_option(parser)
    parser.add_argument("--to", type=Path, help="where to write result.json")
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    arguments = parser().parse_args(argv)
    try:
        device = distributed.choose_device(arguments.device)
        folder = checkpoint_files.find(arguments.run, arguments.checkpoint)

        not_read: dict[str, str] = {}
        sets = label_files.read(arguments.labels, arguments.images, arguments.test, not_read)
        task = labels.make(*sets, least=1)
        task = replace(task, left_out=not_read | task.left_out)

        if arguments.seeds < 1:
            raise ValueError("--seeds must be 1 or more")
        result = evaluate(
            [
                encoders.from_random(arguments.run, arguments.checkpoint),
                encoders.from_run(arguments.run, arguments.checkpoint),
                *(encoders.from_name(name) for name in arguments.also),
            ],
            task,
            cache_place(arguments.run / "transfer" / "features", "transfer-features"),
            "accuracy" if all(label_files.is_single(labels) for labels in sets) else "map",
            counts=arguments.counts,
            num_seeds=arguments.seeds,
            skip_damaged=arguments.skip_damaged,
            device=device,
            has_progress=True,
        )
    except (ValueError, FileNotFoundError) as error:
        sys.exit(f"error: {error}")

    name = f"efficiency-{arguments.labels.resolve().stem}-{Path(arguments.checkpoint).name}"
    to = arguments.to or arguments.run / "transfer" / name / "result.json"
    result |= {"run": arguments.run.resolve().name, "checkpoint": folder.name}

    problems = Task(task.train, task.test, result["left_out"]).problems()
    print("\n".join([table(result), *problems]), flush=True)

    subsets = json.dumps(result.pop("subsets"), indent=1)
    where = write_result(to, json.dumps(result, indent=1))
    if to.is_file():
        write_whole(to.with_name("subsets.json"), subsets)
        write_whole(to.with_name("chart.svg"), chart.svg(result))
    print(where)


if __name__ == "__main__":
    cli.keep_freed_memory()
    main()
