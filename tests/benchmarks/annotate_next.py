"""Is what the Atlas proposes to describe next worth more than what chance proposes?

    python -m tests.benchmarks.annotate_next --data SHARED/data --to DIR [--seeds 0 1 2 3 4]

Of the photographs of animals to train on, 200 drawn by chance are narrated (by simulated
narrators). A frozen `photos` run learns from them; then 200 more are narrated: those of which the
run is least certain, as the Atlas's "annotate next" ranks them, and 200 by chance. Each time a new
run learns from the 400, from the same pre-trained start in as many steps, and points at the animals
of the test split, which nobody chose by. Prints mean and sample standard deviation over the seeds,
beside the center of the picture. What DIR holds already is not made again.
"""

import argparse
import json
import statistics
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from loctex import cli
from loctex.jobs import checkpoint_files
from loctex.jobs.run import Run
from loctex.loading import tokenization
from loctex.model import build
from loctex.records.files import write_whole
from loctex.records.images import decode_image
from loctex.records.snapshot import Snapshot
from loctex.scoring import score
from loctex.scoring.predictor import Predictor
from loctex.training import prepare
from tests.benchmarks import trial
from ui.viewing.survey import uncertainty

COUNT = 200  # pictures narrated at first, and as many again
ARMS = ("first", "chosen", "random")
MEASURES = ("pointing_region", "pointing_region_center", "auc", "auc_center")


def narratives_by_image(file: Path, dataset: str) -> dict[str, list[str]]:
    """Image id -> its lines of a narratives file, of one dataset."""
    lines_of: dict[str, list[str]] = {}
    for line in file.read_text().splitlines():
        record = json.loads(line)
        if record["dataset_id"] == dataset:
            lines_of.setdefault(record["image_id"], []).append(line)
    return lines_of


def train(
    to: Path,
    lines_of: dict[str, list[str]],
    ids: Sequence[str],
    seed: int,
    options: argparse.Namespace,
) -> Run:
    """A run on the narratives of these images."""
    run = Run(to / "run")
    if not run.result_file.exists():
        lines = [line for image in ids for line in lines_of[image]]
        write_whole(to / "narratives.jsonl", "\n".join(lines) + "\n")
        images = options.data / "animalpose_voc" / "images"
        if not (to / "snapshot").exists():
            trial.freeze_one(to / "snapshot", to / "narratives.jsonl", images)
        trial.run(
            "loctex.train",
            f"--run={run.path}",
            f"--data={to / 'snapshot'}",
            "--preset=photos",
            f"--train.steps={options.steps}",
            f"--train.seed={seed}",
            "--train.evaluate_every=0",
            "--train.film_every=0",
        )
    return run


def least_certain(run: Run, ids: Sequence[str], texts: Sequence[str], images: Path) -> list[str]:
    """The images in the order in which the Atlas proposes them."""
    predictor = Predictor.load(run.path, "last", "cpu")
    embedded = predictor.embed(texts)
    doubts = []
    for image in ids:
        predictor.set_image(decode_image(images / f"{image}.jpg"))
        doubts.append(uncertainty(predictor.attend("a").image, embedded))
    order = np.argsort(-np.array(doubts), kind="stable")
    return [ids[number] for number in order]


def score_run(run: Run, test: Snapshot) -> dict[str, float]:
    """The measures of the last checkpoint on the test split, computed once."""
    file = run.path / "annotate_next.json"
    if not file.exists():
        folder = checkpoint_files.find(run.path, "last")
        model, tokenizer = build.load(folder), tokenization.load(folder)
        split = test.split("test")
        features = prepare.extract(model, split, test.path / ".cache", test.hash, run, False)
        values = score.score(model, tokenizer, split, features=features).metrics
        write_whole(file, json.dumps(values, indent=1))
    return json.loads(file.read_text())


def one_seed(seed: int, options: argparse.Namespace) -> dict[str, dict[str, float]]:
    """The measures of the three runs of a seed."""
    narratives = options.to / "animals-narratives" / "narratives.jsonl"
    lines_of = narratives_by_image(narratives, "animalpose_voc_train_simulated")
    ids = np.random.default_rng(seed).permutation(sorted(lines_of)).tolist()
    first, pool = ids[: options.count], ids[options.count :]

    folder = options.to / "annotate-next" / str(seed)
    runs = {"first": train(folder / "first", lines_of, first, seed, options)}

    ranking_file = folder / "ranking.json"
    if not ranking_file.exists():
        texts = [json.loads(line)["caption"] for image in first for line in lines_of[image]]
        images = options.data / "animalpose_voc" / "images"
        write_whole(ranking_file, json.dumps(least_certain(runs["first"], pool, texts, images)))
    ranking = json.loads(ranking_file.read_text())
    for arm, more in (("chosen", ranking), ("random", pool)):
        described = [*first, *more[: options.count]]
        runs[arm] = train(folder / arm, lines_of, described, seed, options)

    test = Snapshot.open(options.to / "animals")
    return {arm: score_run(run, test) for arm, run in runs.items()}


def cell(values: Sequence[float]) -> str:
    spread = f" ± {statistics.stdev(values):.3f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.3f}{spread}"


def table(results: Sequence[dict[str, dict[str, float]]]) -> str:
    """Markdown: a row for each measure, a column for each choice, and their paired difference."""
    lines = ["| | " + " | ".join((*ARMS, "chosen less random")) + " |", "|---" * 5 + "|"]
    for name in MEASURES:
        cells = [cell([result[arm][name] for result in results]) for arm in ARMS]
        gains = [result["chosen"][name] - result["random"][name] for result in results]
        lines.append(f"| {name} | {' | '.join(cells)} | {cell(gains)} |")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.annotate_next",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--data", type=Path, required=True, help="the folder shared/data")
    add("--to", type=Path, required=True, help="snapshots, runs and results")
    add("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    add("--steps", type=int, default=150)
    add("--count", type=int, default=COUNT, help="pictures at first, and as many again")
    options = parser.parse_args(arguments)
    trial.freeze(options.data, options.to)
    print(table([one_seed(seed, options) for seed in options.seeds]))


if __name__ == "__main__":
    cli.keep_freed_memory()
    main()
