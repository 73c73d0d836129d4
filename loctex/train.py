"""Trains LocTex on one or more snapshots.

    python -m loctex.train --data SNAPSHOT --preset tiny --run RUN
    python -m loctex.train --data MINE=4 --data LN_COCO --preset r50 --run RUN --model.init timm
    python -m loctex.train --run RUN --resume
    torchrun --nproc-per-node 2 -m loctex.train --data SNAPSHOT --run RUN

A run is a directory: settings.yaml, metrics.jsonl, checkpoints/, best and last, result.json.
To stop it with a checkpoint, send SIGTERM or create the file RUN/stop; --resume goes on from
RUN/last to the same bits as if it had never stopped.
"""

import argparse
import logging
import math
import os
import signal
import sys
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel
from tqdm import tqdm
from transformers import PreTrainedTokenizerFast

from loctex import augment, checkpoint, distributed, evaluate, losses, settings, tokenizer
from loctex import model as models
from loctex import optimizer as optimizers
from loctex.dataset import Batch, Collate, Mixture, batches
from loctex.meter import Meter
from loctex.model import LocTexModel
from loctex.runs import Run, write_whole
from loctex.settings import Settings
from loctex.snapshot import Snapshot, Split

log = logging.getLogger("loctex")


def train(wanted: Settings, run: Run, is_resumed: bool = False) -> dict:
    """Trains by `wanted` in the directory `run`; returns the last validation's scores.

    Raises ValueError for what a person can mend, FloatingPointError for a loss that is not finite.
    """
    options = wanted.train
    device = distributed.start(options.device)
    torch.manual_seed(options.seed)
    snapshots, weights = open_snapshots(wanted.data.snapshots)
    mixture = Mixture([s.split("train") for s in snapshots], weights, options.seed)
    validation = next((s.split("val") for s in snapshots if "val" in s.splits), None)
    batch_size = check_sizes(options.batch_size, mixture.num_places())

    folder = checkpoint.find(run.path, "last") if is_resumed else None
    model, words = start_model(wanted, mixture, folder)
    model = model.to(device).train()
    if options.channels_last:
        model.backbone.to(memory_format=torch.channels_last)
    optimizer = optimizers.make(model, options)
    step, best = 0, -math.inf
    if folder is not None:
        state = checkpoint.load_state(folder)
        optimizer.load_state_dict(state["optimizer"])
        step, best = state["step"], state["best"]
        run.cut_back(step)
    trained = wrap(model, options, device)
    received = stop_on_signal()

    with ThreadPoolExecutor(wanted.data.threads, thread_name_prefix="decode") as pool:
        collate = Collate(
            tokenizer=words,
            image_size=wanted.data.image_size,
            max_tokens=wanted.data.max_tokens,
            word_margin=wanted.data.word_margin,
            grid=model.grids()[0],
            pool=pool,
            is_pinned=device.type == "cuda",
        )
        source = batches(
            mixture, collate, wanted.data, batch_size=batch_size, start=step,
            rank=distributed.rank(), num_ranks=distributed.num_ranks(),
        )  # fmt: skip
        meter = Meter(device)
        scores: dict[str, float] = {}
        is_stopped = False
        steps = tqdm(
            range(step + 1, options.steps + 1), initial=step, total=options.steps, unit="step",
            disable=distributed.rank() > 0, mininterval=1.0,
        )  # fmt: skip
        for step in steps:
            torch.manual_seed((options.seed << 32) + (step << 8) + distributed.rank())  # dropout
            with meter.waiting():
                batch = next(source).to(device)
            optimizers.set_learning_rates(optimizer, options, step)
            parts = losses_of(trained, batch, wanted)
            optimizer.zero_grad(set_to_none=True)
            parts["loss"].backward()
            norm = optimizers.update(model, optimizer, options.clip)
            meter.add(parts, norm, len(batch.key), step)

            is_last = step == options.steps
            if step % options.log_every == 0 or is_last or step == 1:
                epoch = step * batch_size / mixture.num_places()
                write_metrics(run, step, meter, epoch=epoch, model=model, optimizer=optimizer)
                is_stopped = should_stop(run, received, device)
            is_evaluated = is_last or is_turn(step, options.evaluate_every)
            if is_evaluated and validation is not None:
                scores = validate(model, words, validation, options, run, step)
            if is_last or is_stopped or is_evaluated or is_turn(step, options.checkpoint_every):
                score = evaluate.summary(scores) if is_evaluated and scores else -math.inf
                is_best, best = score >= best, max(best, score)
                if distributed.rank() == 0:
                    state = {"step": step, "best": best, "optimizer": optimizer.state_dict()}
                    checkpoint.save(
                        run.path, step, model=model, tokenizer=words, state=state, is_best=is_best
                    )
            if is_stopped:
                break
        source.close()
    distributed.stop()
    return {"step": step, "is_done": step >= options.steps, "metrics": scores}


def losses_of(model: torch.nn.Module, batch: Batch, wanted: Settings) -> dict[str, Tensor]:
    """All loss terms of this process's batch, and their weighted sum "loss".

    The localization sum is divided by the grounded tokens of all processes, then multiplied by
    their number, because DistributedDataParallel averages.
    """
    bare = model.module if isinstance(model, DistributedDataParallel) else model
    images = augment.apply_to_pixels(batch.image, batch.flip, batch.color, batch.contrast)
    with autocast(images.device, wanted.train.precision):
        output = model(images, batch.tokens)
    parts = {
        "loss_contrastive": losses.contrastive(
            distributed.gather(output.image),
            distributed.gather(output.text),
            bare.scale,
            distributed.gather(batch.key),
        )
    }
    total = wanted.loss.contrastive_weight * parts["loss_contrastive"]
    if wanted.loss.localization_weight > 0:
        localization = losses.LOCALIZATION[wanted.loss.localization]
        sums = []
        for number, (cosine, head) in enumerate(zip(output.cosine, bare.attention, strict=True)):
            rendered = coarser(batch.target, number).flatten(2)
            value, grounded = localization(cosine, rendered, head.scale)
            sums.append(value)
        count = distributed.total(grounded)
        value = sum(sums) / len(sums) / count.clamp_min(1) * distributed.num_ranks()
        parts |= {"loss_localization": value, "grounded": count.float()}
        total = total + wanted.loss.localization_weight * value
    return {"loss": total, **parts}


def coarser(target: Tensor, times: int) -> Tensor:
    """(B, T, h, w) counts, summed over 2 x 2 cells `times` times: the next stage's grid."""
    for _ in range(times):
        target = 4 * torch.nn.functional.avg_pool2d(target, 2, ceil_mode=True)
    return target


def is_turn(step: int, every: int) -> bool:
    return every > 0 and step % every == 0


def write_metrics(
    run: Run, step: int, meter: Meter, *, epoch: float, model: LocTexModel, optimizer
) -> None:
    """One line of metrics.jsonl; FloatingPointError where a loss since the last was not finite."""
    values = meter.read()
    if distributed.rank() == 0:
        rates = [group["lr"] for group in optimizer.param_groups]
        extra = {"temperature": 1 / model.scale.item(), "learning_rate": max(rates)}
        run.log(step, epoch=round(epoch, 4), **values, **extra)
    bad = meter.bad_step()
    if bad is not None:
        raise FloatingPointError(
            f"the loss or its gradient was not finite at step {bad}; that update was left out. "
            "Lower train.learning_rate, raise train.warmup_steps, or set --train.precision fp32, "
            "then start again with --resume"
        )


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """bf16 where the device has it in hardware; everything else computes in float32."""
    if device.type == "cuda":
        has_bf16 = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        has_bf16 = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16" and has_bf16)


def open_snapshots(names: Sequence[str]) -> tuple[list[Snapshot], list[float]]:
    """FOLDER or FOLDER=weight each -> the snapshots and their weights."""
    if not names:
        raise ValueError(
            "name at least one snapshot with --data FOLDER (data_tools.snapshot makes one)"
        )
    snapshots, weights = [], []
    for name in names:
        folder, equals, weight = name.rpartition("=")
        try:
            weights.append(float(weight) if equals else 1.0)
        except ValueError as error:
            raise ValueError(f"--data {name}: the weight {weight!r} is not a number") from error
        if not 0 < weights[-1] < 1e6:
            raise ValueError(f"--data {name}: the weight must be above 0")
        snapshots.append(Snapshot.open(folder if equals else name))
        if "train" not in snapshots[-1].splits:
            raise ValueError(f"{name} has no train split, only {', '.join(snapshots[-1].splits)}")
    return snapshots, weights


def check_sizes(batch_size: int, num_images: int) -> int:
    """The batch size, cut to the data and divisible by the processes; ValueError if too small."""
    ranks = distributed.num_ranks()
    size = min(batch_size, num_images) // ranks * ranks
    if size < 2:
        raise ValueError(
            f"{num_images} training image(s) for {ranks} process(es): matching images with "
            "captions needs at least two in a batch; record more, or raise train.batch_size"
        )
    if size < min(batch_size, num_images):
        log.warning(
            "batch size %d is cut to %d, a multiple of %d processes", batch_size, size, ranks
        )
    elif size < batch_size:
        log.warning("batch size %d is cut to the %d training images there are", batch_size, size)
    return size


def start_model(
    wanted: Settings, mixture: Mixture, resumed: Path | None
) -> tuple[LocTexModel, PreTrainedTokenizerFast]:
    """The model and tokenizer a run starts from: a checkpoint to resume, or `model.init`."""
    init = wanted.model.init
    if resumed is None and init in ("random", "timm"):
        captions = (caption for split in mixture.splits for caption in split.captions())
        words = tokenizer.train(captions, wanted.model.vocabulary, wanted.data.max_tokens)
        return models.build(wanted, len(words), words.pad_token_id), words
    folder = resumed or checkpoint.find(init)
    model = models.load(folder, models.overrides(wanted))
    return model, tokenizer.load(folder)


def wrap(
    model: LocTexModel, options: settings.TrainSettings, device: torch.device
) -> torch.nn.Module:
    """The model as it is trained: compiled by setting, parallel under torchrun."""
    trained: torch.nn.Module = model
    if options.compile:
        trained = torch.compile(trained)
    if distributed.num_ranks() > 1:
        devices = [device.index] if device.type == "cuda" else None
        trained = DistributedDataParallel(trained, device_ids=devices)
    return trained


def stop_on_signal() -> list[int]:
    """A list that a SIGTERM fills; the loop then writes a checkpoint and ends."""
    received: list[int] = []
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, lambda number, frame: received.append(number))
    return received


def should_stop(run: Run, received: list[int], device: torch.device) -> bool:
    """Whether any process was asked to stop; all processes get the same answer."""
    asked = torch.tensor(float(bool(received) or run.stop_requested()), device=device)
    return bool(distributed.total(asked))


def validate(
    model: LocTexModel,
    words: PreTrainedTokenizerFast,
    split: Split,
    options: settings.TrainSettings,
    run: Run,
    step: int,
) -> dict[str, float]:
    """Scores of a validation split, logged as val_*."""
    scores = evaluate.score(model, words, split, limit=options.evaluate_images).metrics
    if distributed.rank() == 0:
        run.log(step, **{f"val_{name}": value for name, value in scores.items()})
    return scores


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m loctex.train",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--run", type=Path, required=True, help="the directory of the run")
    parser.add_argument(
        "--data", action="append", metavar="SNAPSHOT[=WEIGHT]", help="a snapshot; several mix"
    )
    parser.add_argument("--preset", choices=sorted(settings.PRESETS), help="settings to start from")
    parser.add_argument("--settings", type=Path, help="a YAML file of settings")
    parser.add_argument("--resume", action="store_true", help="go on from RUN/last")
    settings.add_arguments(parser)
    given = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    run = Run(given.run)
    try:
        wanted = wanted_settings(given, run)
        is_first = int(os.environ.get("RANK", 0)) == 0
        with run.hold() if is_first else nullcontext():
            if is_first:
                write_whole(run.settings_file, settings.dump(wanted))
            outcome = train(wanted, run, given.resume)
    except (ValueError, FileNotFoundError, FloatingPointError) as error:
        sys.exit(f"error: {error}")
    if is_first and outcome.pop("is_done"):
        run.finish(outcome)


def wanted_settings(given: argparse.Namespace, run: Run) -> Settings:
    """Preset, then file, then command line; a resumed run starts from its own settings."""
    base = settings.PRESETS[given.preset] if given.preset else Settings()
    if given.resume:
        base = settings.load(run.settings_file)
    elif run.result_file.exists() or (run.path / "last").exists():
        raise ValueError(f"{run.path} holds a run already; name another, or add --resume")
    if given.settings:
        base = settings.load(given.settings, base)
    wanted = settings.from_arguments(vars(given), base)
    return (
        settings.with_values(wanted, {"data": {"snapshots": given.data}}) if given.data else wanted
    )


if __name__ == "__main__":
    main()
