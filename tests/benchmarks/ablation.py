"""The parts of the second system one by one on rendered scenes, from one LocTex run.

    python -m data_tools.scenes --count 3000 --to D
    python -m data_tools.snapshot --narratives D/narratives.jsonl --images D/images \
        --regions D/regions.jsonl --to S
    python -m loctex.train --data S --preset tiny --run PLAIN
    python -m tests.benchmarks.ablation --data S --init PLAIN --to DIR [--runs NAME ...] [--seed N]

Each run goes on from PLAIN for as many steps, with the loss terms of its name; what is there
already is not trained again, so the command can be stopped and repeated. Prints the table.
"""

import argparse
import json
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
    "energy",
    "energy_gradcam",
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


def wanted(name: str, given: argparse.Namespace) -> settings.Settings:
    """The settings of a run."""
    base = {
        "data": {"snapshots": [str(given.data)]},
        "model": {"init": str(given.init), "fusion_init": "text"},
        "train": {
            "steps": given.steps,
            "batch_size": given.batch,
            "seed": given.seed,
            "evaluate_every": 0,
        },
    }
    return settings.with_values(settings.with_values(presets.TINY, base), RUNS[name])


def scored(run: Run, data: Path) -> dict[str, float]:
    """All measures of a finished run on the unseen scenes, computed once."""
    file = run.path / "ablation.json"
    if not file.exists():
        folder, split = checkpoint_files.find(run.path, "last"), Snapshot.open(data).split("val")
        model, words = build.load(folder), tokenization.load(folder)
        values = score.score(model, words, split).metrics
        values |= false_captions.score(model, words, split, scene_foils.foils(split))
        write_whole(file, json.dumps(values, indent=1))
    return json.loads(file.read_text())


def table(columns: dict[str, dict[str, float]]) -> str:
    """Markdown: a row for each measure, a column for each run."""
    lines = [f"| | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
    for name in ROWS:
        cells = [f"{c[name]:.3f}" if name in c else "" for c in columns.values()]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.ablation",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--data", type=Path, required=True, help="a snapshot of rendered scenes")
    parser.add_argument("--init", type=Path, required=True, help="the run that all go on from")
    parser.add_argument("--to", type=Path, required=True, help="a folder for the runs")
    parser.add_argument("--runs", nargs="*", choices=RUNS, default=list(RUNS))
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args(arguments)
    columns = {}
    for name in given.runs:
        run = Run(given.to / f"{name}-{given.seed}")
        if not run.result_file.exists():
            with run.hold():
                write_whole(run.settings_file, settings.dump(wanted(name, given)))
                resumed = "last" if (run.path / "last").exists() else None
                outcome = loop.train(wanted(name, given), run, resumed)
            run.finish(outcome)
        columns[name] = scored(run, given.data)
    print(table(columns))


if __name__ == "__main__":
    main()
