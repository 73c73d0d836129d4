"""Before a start: how much there is to learn from, how long it may take, and how much memory."""

import statistics
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from loctex.jobs import gpus, provenance
from loctex.jobs.run import Run
from loctex.records.frozen import manifest
from loctex.settings import Settings
from ui import heavy
from ui.train import run_facts

STEADY = 5  # logged lines from which a run's speed is taken


@dataclass(frozen=True)
class Amount:
    """What there is to train on; captions count once, however often a weight shows them."""

    images: int
    captions: int
    traced: int

    def __add__(self, other: "Amount") -> "Amount":
        return Amount(
            self.images + other.images, self.captions + other.captions, self.traced + other.traced
        )


def of_snapshot(folder: Path, split: str = "") -> Amount:
    """All splits of a snapshot, or one; nothing where the folder is none."""
    try:
        splits = manifest.read(folder)["splits"]
        counts = [count for name, count in splits.items() if split in ("", name)]
        keys = ("images", "narratives", "with_trace")
        return Amount(*(sum(count.get(key, 0) for count in counts) for key in keys))
    except (OSError, ValueError):
        return Amount(0, 0, 0)


@dataclass(frozen=True)
class Pace:
    """Pairs a second of an earlier run. is_same: its model is the one that is asked for."""

    run: str
    pairs_per_second: float
    is_same: bool


def pace(run_settings: Settings, runs: Sequence[Run], has_gpu: bool) -> Pace | None:
    """From the newest run on the same kind of device; of another model's, by its arithmetic."""
    similar = None
    for run in runs:
        settings, speed = run_facts.settings_of(run), _speed(run)
        starts = provenance.starts(run)
        if settings is None or speed is None or not starts:
            continue
        if bool(starts[-1]["environment"]["gpus"]) != has_gpu:
            continue

        if _cost(settings) == _cost(run_settings):
            return Pace(run.name, speed, True)

        if similar is None:
            with suppress(ValueError, RuntimeError):  # of a backbone that this timm does not know
                cost = heavy.bounded(_flops, settings)
                share = cost / heavy.bounded(_flops, run_settings)
                similar = Pace(run.name, speed * share, False)

    return similar


def _flops(settings: Settings) -> float:
    return heavy.module("training.estimate").count(settings).flops


def _memory(settings: Settings, num_processes: int, device: str) -> float:
    return heavy.module("training.estimate").memory(settings, num_processes, device)


def _cost(settings: Settings) -> tuple:
    """What decides how long a pair takes, its start aside."""
    model = settings.model
    return (
        model.backbone,
        str(model.backbone_options),
        model.attention_scales,
        model.text_layers,
        model.text_width,
        settings.data.image_size,
        settings.train.precision,
    )


def _speed(run: Run) -> float | None:
    rows = [
        row["pairs_per_second"] for row in run_facts.last_rows(run) if "pairs_per_second" in row
    ]
    return statistics.median(rows) if len(rows) >= STEADY else None


def say(
    amount: Amount,
    run_settings: Settings,
    runs: Sequence[Run],
    num_gpus: int,
    is_elsewhere: bool = False,
) -> str:
    """What a start of this would be, in one or two sentences."""
    sentences = [amounts(amount, run_settings)]

    num_processes, device = max(1, num_gpus), "cuda" if num_gpus else "cpu"
    needed = heavy.bounded(_memory, run_settings, num_processes, device) / 1e9
    where = "on each GPU" if num_gpus > 1 else "on the GPU" if num_gpus else "of memory"
    sentences.append(f"About {needed:.1f} GB {where} at most, counted for the longest captions.")

    earlier = None if is_elsewhere else pace(run_settings, runs, bool(num_gpus))
    num_pairs = run_settings.train.steps * run_settings.train.batch_size
    if earlier is not None:
        duration = run_facts.duration(num_pairs / earlier.pairs_per_second)
        if earlier.is_same:
            sentences.append(f"About {duration}, if it is as fast as {earlier.run}.")
        else:
            hint = f"a rough guess from {earlier.run}, which is another model"
            sentences.append(f"About {duration}, if it is {hint}.")
    elif num_gpus and not is_elsewhere:
        sentences.append(guess_for_card(run_settings, num_gpus))
    else:
        sentences.append(
            "How long it takes shows after its first steps: no run like it was made here."
        )

    return " ".join(sentences)


def guess_for_card(run_settings: Settings, num_gpus: int) -> str:
    """A sentence about GPUs that no run here has used: from the one that was measured, by the
    bandwidth of the slowest card's memory."""
    known = [card for card in gpus.found()[0] if card.bandwidth]
    slowest = min(known, key=lambda card: card.bandwidth or 0.0, default=None)
    bandwidth = slowest.bandwidth if slowest else None

    rate = num_gpus * heavy.bounded(_rate, run_settings, bandwidth)
    seconds = run_settings.train.steps * run_settings.train.batch_size / rate
    card = f"the memory of this {slowest.name}" if slowest else "an H100, for this card is unknown"
    return (
        f"About {run_facts.duration(seconds)}: a rough guess from {card}; no run was made on it "
        "yet, the first one measures it."
    )


def _rate(settings: Settings, bandwidth: float | None) -> float:
    return heavy.module("training.estimate").pairs_per_second(settings, bandwidth)


def amounts(amount: Amount, run_settings: Settings) -> str:
    """What is learned from, and how often it is seen."""
    if not amount.images:
        return f"{run_settings.train.steps:,} steps."
    traced = "all" if amount.traced == amount.captions else f"{amount.traced:,}"
    num_shown = (
        run_settings.train.steps * min(run_settings.train.batch_size, amount.images) / amount.images
    )
    times = f"{num_shown:,.0f} times" if num_shown >= 2 else f"{num_shown:.1f} times"
    return (
        f"{amount.images:,} images with {amount.captions:,} captions, {traced} with traces; "
        f"{run_settings.train.steps:,} steps show each image about {times}."
    )
