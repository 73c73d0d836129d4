"""The training loop, from the settings to the last step; train.py is its command."""

import gc
import math
import signal
import threading
from contextlib import closing
from typing import TYPE_CHECKING

import torch
from tqdm import tqdm

from loctex import checkpoint, distributed, evaluate, step
from loctex import optimizer as optimizers
from loctex import setup as setups
from loctex.dataset import Collate, Mixture, batches
from loctex.film import Film
from loctex.meter import Meter
from loctex.model import LocTexModel
from loctex.momentum import MomentumEncoders
from loctex.runs import Run
from loctex.settings import Settings

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


def train(wanted: Settings, run: Run, resumed: str | None = None) -> dict:
    """Trains by `wanted` in the directory `run`; returns the last validation's scores.

    resumed: the checkpoint to go on from ("last", "best", "step-00000200"); None: from the start.

    Raises ValueError for what a person can mend, FloatingPointError for a loss that is not finite.
    """
    options = wanted.train
    device = distributed.start(options.device)
    torch.manual_seed(options.seed)
    snapshots, weights = setups.open_snapshots(wanted.data.snapshots)
    mixture = Mixture([s.split("train") for s in snapshots], weights, options.seed)
    validation = next((s.split("val") for s in snapshots if "val" in s.splits), None)
    batch_size = setups.check_sizes(options.batch_size, mixture.num_places())

    folder = checkpoint.find(run.path, resumed) if resumed else None
    model, words = setups.start_model(wanted, mixture, folder)
    model = setups.place(model, options, device)
    optimizer = optimizers.make(model, options)
    averaged = setups.average(model, options.ema) if options.ema else None
    momentum = None
    if wanted.loss.queue or wanted.loss.distillation:
        momentum = MomentumEncoders(model, size=wanted.loss.queue, decay=wanted.loss.momentum)
    kept = checkpoint.Kept(model, optimizer, averaged, momentum)
    done, best = kept.restore(folder) if folder else (0, -math.inf)
    is_first = distributed.rank() == 0
    if folder and is_first:
        checkpoint.rewind(run.path, folder)
    run.cut_back(done)
    shown = averaged.module if averaged else model  # what is saved, scored and filmed
    film = None
    if validation is not None and options.film_every and is_first:
        film = Film(run, validation, words, options.film_pictures, shown, done)
    trained = setups.wrap(model, options, device)
    received = stop_on_signal()
    board = setups.board(run.path) if options.tensorboard and is_first else None
    meter, scores, is_stopped = Meter(device), logged_scores(run, done), False
    number, is_last = done, done >= options.steps

    collate = Collate(
        tokenizer=words, settings=wanted.data, grid=model.grids()[0],
        is_pinned=device.type == "cuda", numbers_words=wanted.loss.soft_mask_weight > 0,
        hides_words=wanted.loss.masked_words_weight > 0 or wanted.data.mask_captions,
        exchange=setups.exchange(wanted, mixture),
    )  # fmt: skip
    made = batches(
        mixture, collate, wanted.data, batch_size=batch_size, start=done,
        rank=distributed.rank(), num_ranks=distributed.num_ranks(),
    )  # fmt: skip
    gc.freeze()  # else the collector walks through all of torch each time that words were read
    with closing(made) as source:
        numbers = range(done + 1, options.steps + 1)
        progress = tqdm(numbers, initial=done, total=options.steps, unit="step", mininterval=1.0,
                        disable=distributed.rank() > 0)  # fmt: skip
        for number in progress:
            with meter.waiting():
                batch = next(source).to(device)
            optimizers.set_learning_rates(optimizer, options, number)
            optimizer.zero_grad(set_to_none=True)
            seed = (options.seed, number, distributed.rank())
            epoch = number * batch_size / mixture.num_places()
            parts = step.backward(
                trained, batch, wanted, seed=seed, momentum=momentum,
                softness=wanted.loss.distillation * min(1.0, epoch),
            )  # fmt: skip
            norm = optimizers.update(model, optimizer, options.clip)
            meter.add(parts, norm, len(batch.key), number)
            if averaged:
                averaged.update_parameters(model)
            if momentum:
                momentum.follow(model)

            is_last = number == options.steps
            if is_turn(number, options.log_every) or is_last or number == 1:
                values = meter.read() | {"epoch": epoch} | rates(model, optimizer)
                write(run, number, values, board)
                check_finite(meter, mixture, batch_size)
                is_stopped = should_stop(run, received, device)
            is_scored = validation is not None and (
                is_last or is_turn(number, options.evaluate_every)
            )
            is_kept = (
                is_last
                or is_stopped
                or is_scored
                or any(
                    is_turn(number, every)
                    for every in (options.checkpoint_every, options.keep_every)
                )
            )
            if is_kept:
                check_finite(meter, mixture, batch_size)
            if is_scored:
                scored = evaluate.score(shown, words, validation, limit=options.evaluate_images)
                scores = scored.metrics
                write(run, number, {f"val_{name}": value for name, value in scores.items()}, board)
            if film and (is_last or is_turn(number, options.film_every)):
                film.shoot(shown, number)
            if is_kept:
                score = evaluate.summary(scores) if is_scored else -math.inf
                is_best, best = score >= best, max(best, score)
                if is_first:
                    kept.save(
                        run.path, number, tokenizer=words, best=best, is_best=is_best,
                        keep_every=options.keep_every,
                    )  # fmt: skip
            if is_stopped:
                break
    if board:
        board.close()
    distributed.stop()
    return {"step": number, "is_done": is_last, "metrics": scores}


def is_turn(step: int, every: int) -> bool:
    return every > 0 and step % every == 0


def write(run: Run, step: int, values: dict[str, float], board: "SummaryWriter | None") -> None:
    """One line of metrics.jsonl, by the first process; to TensorBoard too where asked for."""
    if distributed.rank() == 0:
        run.log(step, **values)
        for name, value in values.items() if board else ():
            board.add_scalar(name, value, step)


def logged_scores(run: Run, step: int) -> dict[str, float]:
    """What the validation at this step said."""
    rows = [row for row in run.metrics(after=step - 1) if row["step"] == step]
    found = {name: value for row in rows for name, value in row.items()}
    return {name[4:]: value for name, value in found.items() if name.startswith("val_")}


def rates(model: LocTexModel, optimizer: torch.optim.Optimizer) -> dict[str, float]:
    """What the step was taken with."""
    highest = max(group["lr"] for group in optimizer.param_groups)
    return {"temperature": 1 / model.scale.item(), "learning_rate": highest}


def check_finite(meter: Meter, mixture: Mixture, batch_size: int) -> None:
    """FloatingPointError, with what was in the batch, where a loss or gradient was not finite."""
    bad = meter.bad_step()
    if bad is not None:
        names = mixture.images(bad - 1, batch_size)
        rest = f" and {len(names) - 6} more" if len(names) > 6 else ""
        raise FloatingPointError(
            f"the loss or its gradient was not finite at step {bad}, of the images "
            f"{', '.join(names[:6])}{rest}; that update was left out. "
            "Lower train.learning_rate, raise train.warmup_steps, or set --train.precision fp32, "
            "then start again with --resume"
        )


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
