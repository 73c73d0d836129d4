"""The trial on real photographs: what does the localization loss buy?

    python -m tests.benchmarks.trial --data SHARED/data --to DIR [--size photos|cpu|r50]

Simulated narratives of COCO and VOC photographs and the captions of Flickr8k are frozen; for each
seed two runs are trained that differ only in the localization weight, and scored beside a model
that was never trained: pointing on COCO val (known masks) and on people's own traces (Video
Localized Narratives), retrieval on Flickr8k test, a linear SVM on VOC. The last checkpoint is
scored, so nothing was chosen on what is scored. `photos` is the preset of that name: a frozen,
pre-trained backbone, minutes a run on two cores. What DIR holds already is not made again, so
several of these may share the work (--runs), and the last one prints the whole table. `cpu` is a
reduced size, for two cores; `r50` wants a GPU (--processes N of them).
"""

import argparse
import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

ARMS = {  # what differs between the runs, and nothing else
    "loctex": [],
    "contrastive": ["--loss.localization_weight=0"],
    "untrained": ["--train.steps=1", "--train.learning_rate=0", "--train.text_learning_rate=0"],
}
SIZES = {
    "cpu": [
        "--preset=tiny",
        "--train.steps=2000",
        "--train.warmup_steps=100",
        "--data.image_size=112",
        "--data.min_scale=0.35",
        "--model.vocabulary=4000",
        "--data.threads=1",
    ],
    "photos": ["--preset=photos"],
    "r50": [
        "--preset=r50",
        "--train.steps=7200",
        "--train.warmup_steps=500",
        "--data.threads=8",
        "--model.attention_scales=2",
        "--model.vocabulary=8000",
    ],
}
WEIGHTS = {"coco": 3, "animals": 2, "flickr8k": 1}  # how often an epoch shows each image
SCORED = {
    "coco": "val",
    "animals": "test",
    "vidln": "train",
    "flickr8k": "test",
}  # vidln: its only split, not seen
ROWS = {  # what the table shows: measure -> (snapshot, name in result.json)
    "pointing, COCO val": ("coco", "pointing_region"),
    "  contrastive head": ("coco", "pointing_region_contrastive"),
    "  chance": ("coco", "pointing_region_chance"),
    "  center cell": ("coco", "pointing_region_center"),
    "energy, COCO val": ("coco", "energy"),
    "  Gaussian in the middle": ("coco", "energy_center"),
    "AUC, COCO val": ("coco", "auc"),
    "  Gaussian in the middle of it": ("coco", "auc_center"),
    "LBM k=0, COCO val": ("coco", "lbm_0"),
    "  the usual box in the middle": ("coco", "lbm_0_center"),
    "LBM k=1, COCO val": ("coco", "lbm_1"),
    "pointing at the trace, COCO val": ("coco", "pointing_trace"),
    "  contrastive head, COCO val": ("coco", "pointing_trace_contrastive"),
    "  chance, COCO val": ("coco", "pointing_trace_chance"),
    "  center cell, COCO val": ("coco", "pointing_trace_center"),
    "pointing, animals test": ("animals", "pointing_region"),
    "  center cell, animals": ("animals", "pointing_region_center"),
    "AUC, animals test": ("animals", "auc"),
    "  Gaussian, animals": ("animals", "auc_center"),
    "COCO val, text of image, R@1": ("coco", "image_to_text_r1"),
    "COCO val, image of text, R@1": ("coco", "text_to_image_r1"),
    "pointing at people's traces": ("vidln", "pointing_trace"),
    "  contrastive head, people": ("vidln", "pointing_trace_contrastive"),
    "  chance, people": ("vidln", "pointing_trace_chance"),
    "  center cell, people": ("vidln", "pointing_trace_center"),
    "AUC, people": ("vidln", "auc"),
    "  Gaussian, people": ("vidln", "auc_center"),
    "LBM k=0, people": ("vidln", "lbm_0"),
    "LBM k=1, people": ("vidln", "lbm_1"),
    **{
        f"Flickr8k test, {a} of {b}, R@{k}": ("flickr8k", f"{way}_r{k}")
        for way, a, b in (("image_to_text", "text", "image"), ("text_to_image", "image", "text"))
        for k in (1, 5, 10)
    },
    "VOC linear SVM, mAP": ("voc07", "map"),
}


def run(module: str, *arguments: object, processes: int = 1) -> None:
    """python -m MODULE ARGUMENTS, shown; by torchrun for several processes."""
    launcher = ["-m"]
    if processes > 1:
        launcher = ["-m", "torch.distributed.run", f"--nproc-per-node={processes}", "-m", "--"]
    command = [sys.executable, *launcher, module, *map(str, arguments)]
    print("$ python", *command[1:], flush=True)
    subprocess.run(command, check=True)


def freeze(data: Path, to: Path) -> None:
    """The four snapshots."""
    coco, animals, flickr = data / "coco", data / "animalpose_voc", data / "flickr8k"
    told = {
        "coco": (
            coco / "images",
            [
                "simulate",
                *sorted(coco.glob("instances_*.json")),
                "--captions",
                *sorted(coco.glob("captions_*.json")),
            ],
        ),
        "animals": (animals / "images", ["simulate", animals / "labels.json"]),
        "flickr8k": (
            flickr / "images",
            ["captions", *(flickr / f"captions_{s}.jsonl" for s in ("train", "val", "test"))],
        ),
    }
    for name, (images, arguments) in told.items():
        folder = to / f"{name}-narratives"
        if not folder.exists():
            run("data_tools.coco", *arguments, "--images", images, "--to", folder)
        regions = folder / "regions.jsonl"
        freeze_one(to / name, folder / "narratives.jsonl", images, regions)
    vidln = data / "vidln"
    freeze_one(to / "vidln", vidln / "vidln_as_ln.jsonl", vidln / "images")


def freeze_one(to: Path, narratives: Path, images: Path, regions: Path | None = None) -> None:
    """A snapshot of a narratives file, where it is not there yet."""
    if not to.exists():
        known = ["--regions", regions] if regions and regions.exists() else []
        run(
            "data_tools.snapshot",
            "--narratives",
            narratives,
            "--images",
            images,
            *known,
            "--to",
            to,
        )


def train(to: Path, name: str, size: str, processes: int) -> None:
    """One run, ARM-SEED; goes on where it was stopped."""
    arm, seed = name.rsplit("-", 1)
    folder = to / "runs" / name
    if (folder / "result.json").exists():
        return
    if (folder / "last").exists():
        run("loctex.train", "--run", folder, "--resume", processes=processes)
        return
    shutil.rmtree(folder, ignore_errors=True)  # stopped before its first checkpoint
    mixed = [f"--data={to / snapshot}={weight}" for snapshot, weight in WEIGHTS.items()]
    run(
        "loctex.train",
        "--run",
        folder,
        *mixed,
        *SIZES[size],
        "--train.evaluate_every=0",
        f"--train.seed={seed}",
        *ARMS[arm],
        processes=processes,
    )


def score(to: Path, name: str, data: Path) -> None:
    """All evaluations of one run."""
    folder = to / "runs" / name
    for snapshot, split in SCORED.items():
        result = _result(folder, snapshot)
        if not result.exists():
            run(
                "loctex.evaluate",
                "--run",
                folder,
                "--data",
                to / snapshot,
                "--split",
                split,
                "--checkpoint=last",
            )
    if not _result(folder, "voc07").exists():
        run(
            "loctex.transfer.voc07",
            "--run",
            folder,
            "--voc",
            data / "voc",
            "--checkpoint=last",
            "--protocols",
            "svm",
            "--jobs=1",
        )


def _result(run: Path, measure: str) -> Path:
    if measure == "voc07":
        return run / "transfer" / "voc07-last" / "result.json"
    return run / "evaluations" / f"{measure}-{SCORED[measure]}-last" / "result.json"


def value(run: Path, measure: str, name: str) -> float:
    """One number of a run; NaN where it has none, or is not scored yet."""
    file = _result(run, measure)
    if not file.exists():
        return np.nan
    result = json.loads(file.read_text())
    values = result["rows"][1] if measure == "voc07" else result["metrics"]
    return values.get(name, np.nan)


def table(to: Path) -> str:
    """Mean and sample standard deviation over the seeds of each arm, as Markdown."""
    runs = {arm: sorted((to / "runs").glob(f"{arm}-*")) for arm in ARMS}
    runs = {arm: [r for r in rows if _result(r, "voc07").exists()] for arm, rows in runs.items()}
    heads = [f"{arm} ({len(rows)})" for arm, rows in runs.items() if rows]
    lines = [f"| | {' | '.join(heads)} |", "|---" * (len(heads) + 1) + "|"]
    for title, place in ROWS.items():
        cells = []
        for rows in filter(None, runs.values()):
            values = np.array([value(row, *place) for row in rows])
            spread = f" ± {values.std(ddof=1):.3f}" if len(values) > 1 else ""
            cells.append("" if np.isnan(values).any() else f"{values.mean():.3f}{spread}")
        lines.append(f"| {title} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.trial",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--data", type=Path, required=True, help="the folder shared/data")
    parser.add_argument("--to", type=Path, required=True, help="snapshots, runs and results")
    parser.add_argument("--size", choices=SIZES, default="cpu")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--runs", nargs="+", help="only these, as loctex-0 contrastive-0")
    parser.add_argument("--processes", type=int, default=1, help="GPUs of one run")
    options = parser.parse_args(arguments)
    freeze(options.data, options.to)
    names = options.runs or [f"{arm}-{seed}" for seed in options.seeds for arm in ARMS]
    for name in names:
        train(options.to, name, options.size, options.processes)
        score(options.to, name, options.data)
    print(table(options.to))


if __name__ == "__main__":
    main()
