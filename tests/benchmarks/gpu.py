"""One report for a card: what works there, how fast, and how much memory it takes.

    python -m tests.benchmarks.gpu --to DIR [--minutes 8]

In order of worth: tests/gpu, the step (eager, then compiled), the peer, whole trainings with film,
evaluation, checkpoints and resume by presets r50 and softmask, Mask R-CNN for a few steps, the
predictor's latency, and the memory that was counted before beside what was used. Each result is
written as it comes to DIR/report.json and DIR/report.md, each stage's output to DIR/NAME.log; what
failed or found no time says so. Called again with the same DIR it goes on where it was stopped. It
makes its own data and needs no network. --cpu runs all of it at a small size, to try the report.
"""

import argparse
import json
import platform
import re
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
FIGURES = {  # what is read from a stage's output: label -> pattern of its last occurrence
    "pairs_per_second": r"ours ([\d,.]+)",
    "peer_pairs_per_second": r"open_clip ([\d,.]+) pairs/s",
    "plain_pairs_per_second": r"plain ([\d,.]+) pairs/s",
    "share_of_product_rate": r"matrix-product rate ([\d.]+)",
    "loader_fed_over_cached": r"over cached ([\d.]+)",
    "peak_gib": r"peak memory ([\d.]+) GiB",
    "ratio": r"ratio ([\d.]+)",
    "passed": r"(\d+) passed",
    "failed": r"(\d+) failed",
    "box_ap": r"box\s+([\d.]+)",
    "milliseconds": r"milliseconds ([\d.]+)",
    "counted_gib": r"counted ([\d.]+) GiB",
    "used_gib": r"used ([\d.]+) GiB",
}


FED: list[object] = ["--processes=6", "--threads=2"]  # the feed by processes, on many cores


@dataclass(frozen=True)
class Stage:
    """A command line, as the words after `python`; needs: the stages whose results it works on."""

    name: str
    words: Sequence[object]
    needs: Sequence[str] = ()


def stages(to: Path, is_cpu: bool) -> list[Stage]:
    """All of them, in order of worth."""
    small: list[object] = ["--cpu", "--preset=tiny", "--batch=4", "--turns=1"] if is_cpu else []
    peer = ["--cpu", "--preset=tiny", "--batch=2", "--turns=1"] if is_cpu else []
    snapshot, shapes = to / "snapshot", to / "shapes"
    device = "cpu" if is_cpu else "cuda"
    rows = [
        Stage("tests", ["-m", "pytest", "-q", "-m", "gpu", ROOT / "tests/gpu"]),
        Stage("step", ["-m", "tests.benchmarks.step", *small]),
        Stage("step-compiled", ["-m", "tests.benchmarks.step", "--compile", *small]),
        Stage("peer", ["-m", "tests.benchmarks.peer", *(peer or ["--compile", "--tuned"])]),
        Stage("data", ["-c", DATA, snapshot, shapes, 40 if is_cpu else 600]),
    ]
    if not is_cpu:  # the feed matters where something waits for it
        rows.insert(3, Stage("step-processes", ["-m", "tests.benchmarks.step", *FED]))
    for preset in ("r50", "softmask"):
        run = to / "runs" / preset
        train = ["-m", "loctex.train", "--run", run, f"--train.device={device}"]
        options = [f"--data={snapshot}", f"--preset={preset}", *training(is_cpu)]
        again = ["--resume", f"--train.steps={4 if is_cpu else 60}"]
        rows.append(Stage(f"train-{preset}", [*train, *options], ["data"]))
        rows.append(Stage(f"resume-{preset}", [*train, *again], [f"train-{preset}"]))
    run = to / "runs" / "r50"
    detector = ["-m", "loctex.transfer.coco", "--to", to / "detector", "--init", run]
    files = [f"--train={shapes / 'labels.json'}", f"--val={shapes / 'labels.json'}"]
    sizes = ["--schedule=2", "--batch=2", "--size=64", "--rois=8", "--workers=0"]
    sizes = sizes if is_cpu else ["--schedule=20", "--batch=8"]
    images = [f"--images={shapes / 'images'}", f"--device={device}"]
    rows += [
        Stage("detector", [*detector, *files, *images, *sizes], ["data", "train-r50"]),
        Stage("latency", ["-c", LATENCY, run, device], ["train-r50"]),
        Stage("memory", ["-c", MEMORY, run, device], ["train-r50"]),
    ]
    return rows


def training(is_cpu: bool) -> list[str]:
    """Everything on: film, evaluation, checkpoints, accumulation's neighbors as they come."""
    always = ["--train.log_every=1", "--train.film_every=2", "--train.evaluate_images=16"]
    if not is_cpu:
        every = ["--train.evaluate_every=20", "--train.checkpoint_every=10"]
        return [*always, *every, "--train.steps=30", "--train.batch_size=128", "--data.threads=8"]
    return [
        *always,
        "--train.steps=2",
        "--train.batch_size=4",
        "--train.evaluate_every=2",
        "--train.checkpoint_every=1",
        "--data.image_size=64",
        "--model.backbone=resnet18",
        "--model.text_layers=1",
        "--model.text_width=32",
        "--model.text_heads=2",
        "--model.vocabulary=300",
        "--model.embedding=16",
        "--model.attention=16",
    ]


DATA = """
import sys
from pathlib import Path
from data_tools import scenes
from data_tools.snapshot import main as freeze
from tests.loctex.transfer import shapes
snapshot, folder, count = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
narrated = snapshot.with_name("scenes")
scenes.write(narrated, count)
freeze([f"--narratives={narrated / 'narratives.jsonl'}", f"--images={narrated / 'images'}",
        f"--regions={narrated / 'regions.jsonl'}", f"--to={snapshot}"])
shapes.write(folder, 8)
"""

LATENCY = """
import sys, time
import numpy as np
import torch
from loctex.scoring.predictor import Predictor
predictor = Predictor.load(sys.argv[1], "last", sys.argv[2])
image = np.random.default_rng(0).integers(0, 255, (480, 640, 3), dtype=np.uint8)
seconds = []
for turn in range(12):
    start = time.perf_counter()
    predictor.set_image(image)
    predictor.attend(f"a dog in front of a table, number {turn}")
    seconds.append(time.perf_counter() - start)
print(f"milliseconds {1000 * sorted(seconds)[6]:.1f} of an image and a caption, median of 12")
"""

MEMORY = """
import sys
from loctex import settings
from loctex.jobs.run import Run
from loctex.training import estimate
run, kind = Run(sys.argv[1]), sys.argv[2]
counted = estimate.memory(settings.load(run.settings_file), device=kind) / 2**30
rows = [row["gpu_memory_gib"] for row in run.metrics() if "gpu_memory_gib" in row]
print(f"counted {counted:.2f} GiB")
print(f"used {max(rows):.2f} GiB" if rows else "used: not measured on a processor")
"""


def perform(stage: Stage, to: Path, seconds: float) -> dict[str, Any]:
    """Runs a stage for at most so long; what it came to."""
    start = time.monotonic()
    log = to / f"{stage.name}.log"
    command = [sys.executable, *map(str, stage.words)]
    with open(log, "w") as output:
        try:
            code: int | None = subprocess.run(
                command, cwd=ROOT, stdout=output, stderr=subprocess.STDOUT, timeout=seconds
            ).returncode
        except subprocess.TimeoutExpired:
            code = None
    result: dict[str, Any] = {"seconds": round(time.monotonic() - start, 1), "code": code}
    text = log.read_text(errors="replace")
    result |= figures(text)
    if code != 0:
        lines = text.strip().splitlines() or ["nothing was printed"]
        why = f"no answer in {seconds:.0f} s" if code is None else lines[-1][-300:]
        result["problem"] = why
    return result


def figures(text: str) -> dict[str, float]:
    """The numbers that a stage printed, by FIGURES."""
    values = {}
    for name, pattern in FIGURES.items():
        matches = re.findall(pattern, text)
        if matches:
            values[name] = float(matches[-1].replace(",", ""))
    return values


def is_settled(result: Mapping[str, Any] | None) -> bool:
    return result is not None and result.get("code") == 0


def about() -> dict[str, str]:
    """The card, versions and commit, without which a number says nothing."""
    import torch

    card = torch.cuda.get_device_name() if torch.cuda.is_available() else "no card"
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True
    )
    return {
        "card": card,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "commit": commit.stdout.strip() or "unknown",
        "date": time.strftime("%Y-%m-%d"),
    }


def table(report: Mapping[str, Any]) -> str:
    """The report as people read it."""
    facts = ", ".join(f"{name} {value}" for name, value in report["about"].items())
    lines = ["# Report of a card", "", facts, "", "| stage | seconds | result |", "|---|---|---|"]
    for name, result in report["stages"].items():
        numbers = [
            f"{key} {value:g}"
            for key, value in result.items()
            if key not in ("seconds", "code", "problem")
        ]
        if "problem" in result:
            numbers.append(f"**{result['problem']}**")
        outcome = "; ".join(numbers)
        lines.append(f"| {name} | {result.get('seconds', '')} | {outcome or 'done'} |")
    return "\n".join(lines) + "\n"


def report_on(
    to: Path, minutes: float, is_cpu: bool, perform: Callable[..., dict[str, Any]] = perform
) -> dict[str, Any]:
    """Runs what is not settled yet, and writes the report after each stage."""
    to.mkdir(parents=True, exist_ok=True)
    file = to / "report.json"
    report: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {"stages": {}}
    report["about"] = about()
    results, deadline = report["stages"], time.monotonic() + 60 * minutes
    for stage in stages(to, is_cpu):
        if is_settled(results.get(stage.name)):
            continue
        missing = [name for name in stage.needs if not is_settled(results.get(name))]
        seconds = deadline - time.monotonic()
        if stage.name == "tests" and is_cpu:
            results[stage.name] = {"problem": "not run: they need a CUDA device"}
        elif missing:
            results[stage.name] = {"problem": f"not run: {', '.join(missing)} did not end well"}
        elif seconds < 5:
            results[stage.name] = {"problem": f"not run: the {minutes:g} minutes were over"}
        else:
            results[stage.name] = perform(stage, to, seconds)
        file.write_text(json.dumps(report, indent=1))
        (to / "report.md").write_text(table(report))
        print(f"{stage.name}: {results[stage.name]}", flush=True)
    return report


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.gpu",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--to", type=Path, required=True, help="the folder of the report")
    parser.add_argument("--minutes", type=float, default=8, help="at most so long [8]")
    parser.add_argument("--cpu", action="store_true", help="at a small size, on the processor")
    arguments = parser.parse_args(argv)
    import torch

    if not arguments.cpu and not torch.cuda.is_available():
        sys.exit("error: PyTorch sees no GPU here; add --cpu")
    report_on(arguments.to.resolve(), arguments.minutes, arguments.cpu)
    print(f"written to {arguments.to / 'report.md'}")


if __name__ == "__main__":
    main()
