"""The parts of the second system one by one, from one LocTex run a seed.

Rendered scenes:

    python -m data_tools.scenes --count 3000 --to D
    python -m data_tools.snapshot --narratives D/narratives.jsonl --images D/images \
        --regions D/regions.jsonl --to S
    python -m loctex.train --data S --preset tiny --run PLAIN-0 --train.seed 0
    python -m tests.benchmarks.ablation --data S --init PLAIN-{seed} --to DIR [--runs NAME ...]

Photographs, frozen (snapshots as tests.benchmarks.trial freezes them):

    python -m loctex.train --data C=3 --data A=2 --data F --preset photos --run PLAIN-0
    python -m tests.benchmarks.ablation --data C=3 A=2 F --preset photos --init PLAIN-{seed} \
        --score C:val A:test F:test --seeds 0 1 2 --to DIR

Each run goes on from PLAIN-SEED for as many steps, with the loss terms of its name; what is there
already is not trained again, so the command can be stopped and repeated. Prints the table: means
over the seeds, with their sample standard deviation.
"""

import argparse
import json
import statistics
from collections.abc import Sequence
from pathlib import Path

from data_tools import scene_foils
from loctex import settings
from loctex.jobs import checkpoint_files
from loctex.jobs.run import Run
from loctex.loading import tokenization
from loctex.model import build
from loctex.records.files import write_whole
from loctex.records.snapshot import Snapshot
from loctex.scoring import false_captions, score
from loctex.settings import presets
from loctex.training import loop

EXCLUSIVE = {"exclusive_words": scene_foils.EXCLUSIVE}
MATCH = {"matching_weight": 1.0, "fusion_localization_weight": 1.0}
MASK = MATCH | {"soft_mask_weight": 1.0}
RUNS = {
    "plain": {},
    "focal": {"loss": {"focal": 2.0}},
    "augmented": {"data": {"distort": 2}},
    "matching": {"loss": MATCH},
    "changed": {"loss": MATCH | {"changed_captions": True}},
    "exclusive": {"loss": MATCH | {"changed_captions": True}, "data": EXCLUSIVE},
    "word": {
        "loss": MATCH | {"changed_captions": True, "changed_word_weight": 1.0},
        "data": EXCLUSIVE,
    },
    "gradcam": {"loss": MASK},
    "attention": {"loss": MASK | {"mask_source": "attention"}},
    "trace": {"loss": MASK | {"mask_source": "trace"}},
    "random": {"loss": MASK | {"mask_kind": "random"}},
    "all": {
        "loss": MASK | {"focal": 2.0, "masked_words_weight": 1.0, "changed_captions": True},
        "data": {"distort": 2},
    },
}
ROWS = (
    "pointing_region",
    "pointing_region_gradcam",
    "pointing_region_center",
    "energy",
    "energy_gradcam",
    "energy_center",
    "auc",
    "auc_center",
    "image_to_text_r1",
    "image_to_text_r1_reranked",
    "text_to_image_r1",
    "text_to_image_r1_reranked",
    "attribute_choice_contrastive",
    "attribute_choice_both",
    "attribute_accuracy",
    "relation_choice_contrastive",
    "relation_choice_both",
    "relation_accuracy",
)


def run_settings(name: str, seed: int, options: argparse.Namespace) -> settings.Settings:
    """The settings of the run NAME of a seed."""
    base = {
        "data": {"snapshots": options.data},
        "model": {"init": options.init.format(seed=seed), "fusion_init": "text"},
        "train": {
            "steps": options.steps,
            "batch_size": options.batch,
            "seed": seed,
            "evaluate_every": 0,
            "film_every": 0,
        },
    }
    preset = presets.PRESETS[options.preset]
    return settings.with_values(settings.with_values(preset, base), RUNS[name])


def train(name: str, seed: int, options: argparse.Namespace) -> Run:
    """The finished run; trained, or gone on with, where it is not there."""
    run = Run(options.to / f"{name}-{seed}")
    if not run.result_file.exists():
        run_options = run_settings(name, seed, options)
        with run.hold():
            write_whole(run.settings_file, settings.dump(run_options))
            resumed = "last" if checkpoint_files.folders(run.path) else None
            outcome = loop.train(run_options, run, resumed)
        run.finish(outcome)
    return run


def score_run(run: Run, folder: str, split_name: str) -> dict[str, float]:
    """All measures of a finished run on a split, computed once; of scenes those of changed
    captions too."""
    file = run.path / f"ablation-{Path(folder).name}-{split_name}.json"
    if not file.exists():
        split = Snapshot.open(folder).split(split_name)
        checkpoint = checkpoint_files.find(run.path, "last")
        model, tokenizer = build.load(checkpoint), tokenization.load(checkpoint)
        values = score.score(model, tokenizer, split).metrics
        if changed := list(scene_foils.foils(split)):
            values |= false_captions.score(model, tokenizer, split, changed)
        write_whole(file, json.dumps(values, indent=1))
    return json.loads(file.read_text())


def cell(values: Sequence[float]) -> str:
    """Mean and sample standard deviation over the seeds."""
    if not values:
        return ""
    mean = statistics.mean(values)
    return f"{mean:.3f}" if len(values) == 1 else f"{mean:.3f} ± {statistics.stdev(values):.3f}"


def table(columns: dict[str, list[dict[str, float]]]) -> str:
    """Markdown: a row for each measure, a column for each run; a dictionary for each seed."""
    lines = [f"| | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
    for name in ROWS:
        cells = []
        for scores in columns.values():
            cells.append(cell([values[name] for values in scores if name in values]))
        if any(cells):
            lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.ablation",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--data", nargs="+", required=True, help="snapshots to train on, FOLDER or FOLDER=weight")
    add("--score", nargs="+", help="FOLDER:SPLIT to score on; default: val of the first snapshot")
    add("--preset", choices=presets.PRESETS, default="tiny")
    add("--init", required=True, help="the run that all go on from; {seed} in it is the seed")
    add("--to", type=Path, required=True, help="a folder for the runs")
    add("--runs", nargs="*", choices=RUNS, default=list(RUNS))
    add("--steps", type=int, default=500)
    add("--batch", type=int, default=32)
    add("--seeds", type=int, nargs="+", default=[0])
    options = parser.parse_args(arguments)

    first = options.data[0].partition("=")[0]
    trained: dict[str, list[Run]] = {name: [] for name in options.runs}
    for seed in options.seeds:
        for name in options.runs:
            trained[name].append(train(name, seed, options))

    for place in options.score or [f"{first}:val"]:
        folder, _, split = place.rpartition(":")
        columns = {}
        for name, runs in trained.items():
            columns[name] = [score_run(run, folder, split) for run in runs]
        print(f"{Path(folder).name}, {split}\n\n{table(columns)}\n")


if __name__ == "__main__":
    main()
