"""The training loop, from the settings to the last step; train.py is its command."""

import gc
import math
from collections.abc import Generator
from contextlib import closing
from typing import cast

import torch
from tqdm import tqdm

from loctex import distributed
from loctex.jobs import checkpoint_files
from loctex.jobs.run import Run
from loctex.loading.batches import batches
from loctex.loading.collate import Batch, Collate
from loctex.loading.frozen_features import FeatureMaps
from loctex.loading.mixture import Mixture
from loctex.model.model import LocTexModel
from loctex.model.momentum import MomentumEncoders
from loctex.scoring import score
from loctex.settings import Settings
from loctex.training import checkpoint, compiling, prepare, step
from loctex.training import optimizer as optimizers
from loctex.training.film import Film
from loctex.training.meter import Meter
from loctex.training.stopping import StopCheck
from loctex.training.trackers import Trackers


def train(settings: Settings, run: Run, resumed: str | None = None) -> dict:
    """Trains by `settings` in the directory `run`; returns the last validation's scores.

    resumed: the checkpoint to go on from ("last", "best", "step-00000200"); None: from the start.

    Raises ValueError for what a person can mend, FloatingPointError for a loss that is not finite.
    """
    return Training(settings, run, resumed).go()


class Training:
    """One process of a run at work: what it trains, what it measures, what it writes down."""

    def __init__(self, settings: Settings, run: Run, resumed: str | None) -> None:
        self.settings, self.run = settings, run
        options = settings.train
        self.device = distributed.start(options.device)
        self.is_first = distributed.rank() == 0
        torch.manual_seed(options.seed)
        snapshots, weights = prepare.open_snapshots(settings.data.snapshots)
        self.mixture = Mixture([s.split("train") for s in snapshots], weights, options.seed)
        self.validation = next((s.split("val") for s in snapshots if "val" in s.splits), None)
        self.batch_size = prepare.check_sizes(options.batch_size, self.mixture.num_places())

        folder = checkpoint_files.find(run.path, resumed) if resumed else None
        model, self.tokenizer = prepare.start_model(settings, self.mixture, folder)
        if folder is None:  # what is resumed keeps the box that its earlier scores were made with
            box = self.mixture.word_box(settings.data.word_margin)
            model.config.word_box = box or model.config.word_box
        self.model = model = prepare.place(model, options, self.device)
        self.features: list[FeatureMaps] | None = None
        self.validation_features: FeatureMaps | None = None
        if settings.model.freeze:
            self.features, self.validation_features = prepare.frozen_features(
                model, snapshots, run, self.validation, has_progress=self.is_first
            )
        self.optimizer = optimizers.make(model, options)
        self.averaged = prepare.average(model, options.ema) if options.ema else None
        self.momentum = None
        if settings.loss.queue or settings.loss.distillation:
            self.momentum = MomentumEncoders(
                model, size=settings.loss.queue, decay=settings.loss.momentum
            )
        self.meter = Meter(self.device)
        self.state = checkpoint.TrainingState(
            model, self.optimizer, self.averaged, self.momentum, self.meter
        )
        self.done, self.best = self.state.restore(folder) if folder else (0, -math.inf)
        if folder and self.is_first:
            checkpoint.rewind(run.path, folder)
        run.cut_back(self.done)

        self.saved_model = model  # saved, scored and filmed
        if self.averaged:
            self.saved_model = cast(LocTexModel, self.averaged.module)
        self.trackers = Trackers(run, settings) if self.is_first else None
        self.film = None
        if self.validation is not None and options.film_every and self.is_first:
            self.film = Film(
                run,
                self.validation,
                self.tokenizer,
                options.film_pictures,
                self.saved_model,
                self.done,
                self.trackers.show if self.trackers else None,
            )
        num_pairs = self.batch_size // distributed.num_ranks()
        compiling.compile_encoders(model, settings, self.device, num_pairs, run.path)
        self.trained = prepare.wrap(model, self.device)
        self.stop_check = StopCheck(run, self.device)
        self.scores = logged_scores(run, self.done)

    def go(self) -> dict:
        """Takes the steps that are left, or those until it is asked to stop."""
        steps = self.settings.train.steps
        gc.freeze()  # else the collector walks through all of torch each time words were read
        if self.done:
            self.catch_up()

        with closing(self.source()) as source:
            progress = tqdm(
                range(self.done + 1, steps + 1),
                initial=self.done,
                total=steps,
                unit="step",
                mininterval=1.0,
                disable=not self.is_first,
            )

            for number in progress:
                with self.meter.waiting():
                    batch = next(source).to(self.device)
                self.update(batch, number)
                is_stopped = self.look(number)
                self.done = number
                if is_stopped:
                    break

        if self.trackers:
            self.trackers.close()
        # Who started them ends all processes when the first ends by itself: only after the
        # checkpoint is whole.
        distributed.wait(self.device)
        distributed.stop()
        return {
            "step": self.done,
            "is_done": self.done >= steps,
            "metrics": self.scores,
            "signal": next(iter(self.stop_check.received), None),
        }

    def catch_up(self) -> None:
        """What was due after the last checkpoint's step, where it ended before that was done."""
        if self.is_scored(self.done):
            if self.scores:  # the link may not have been moved any more
                self.keep_best(self.done)
            else:
                self.score(self.done)
        if self.is_filmed(self.done):
            self.shoot(self.done)

    def source(self) -> Generator[Batch]:
        """This process's parts of the batches of the steps to come."""
        loss, data = self.settings.loss, self.settings.data

        collate = Collate(
            tokenizer=self.tokenizer,
            settings=data,
            grid=self.model.grids()[0],
            coarser_grids=self.model.grids()[1:],
            is_pinned=self.device.type == "cuda",
            numbers_words=loss.soft_mask_weight > 0,
            hides_words=loss.masked_words_weight > 0 or data.mask_captions,
            exchange=prepare.exchange(self.settings, self.mixture),
            features=prepare.by_key(self.features, self.mixture) if self.features else None,
        )

        return batches(
            self.mixture,
            collate,
            data,
            batch_size=self.batch_size,
            start=self.done,
            rank=distributed.rank(),
            num_ranks=distributed.num_ranks(),
        )

    def update(self, batch: Batch, number: int) -> None:
        """One step of the optimizer, and of all that follows the weights."""
        options = self.settings.train
        optimizers.set_learning_rates(self.optimizer, options, number)
        self.optimizer.zero_grad(set_to_none=True)

        losses = step.backward(
            self.trained,
            batch,
            self.settings,
            seed=(options.seed, number, distributed.rank()),
            momentum=self.momentum,
            softness=self.settings.loss.distillation * min(1.0, self.epoch(number)),
        )

        norm = optimizers.update(self.model, self.optimizer, options.clip)
        self.meter.add(losses, norm, len(batch.key), number)

        if self.averaged:
            self.averaged.update_parameters(self.model)
        if self.momentum:
            self.momentum.follow(self.model)

    def look(self, number: int) -> bool:
        """Logs, keeps, scores and films what is due after this step; whether to stop now."""
        options = self.settings.train
        is_last = number == options.steps

        is_logged = is_last or number == 1 or is_turn(number, options.log_every)
        if is_logged:
            values = self.meter.read() | {"epoch": self.epoch(number)}
            write(self.run, number, values | rates(self.model, self.optimizer), self.trackers)
            self.check_finite()
        is_stopped = self.stop_check.is_asked(number, is_logged)

        # First the checkpoint: who asks to stop waits for seconds, and a validation may take
        # minutes. What is left out here is done when the run goes on.
        is_kept = is_last or is_stopped or self.is_scored(number)
        is_kept |= is_turn(number, options.checkpoint_every) or is_turn(number, options.keep_every)
        if is_kept:
            self.check_finite()
            self.keep(number)
        if is_stopped and not is_last:
            return True

        if self.is_scored(number):
            self.score(number)
        if self.is_filmed(number):
            self.shoot(number)
        return is_stopped

    def is_scored(self, number: int) -> bool:
        """Whether the validation split is scored after this step."""
        options = self.settings.train
        is_due = number == options.steps or is_turn(number, options.evaluate_every)
        return self.validation is not None and is_due

    def is_filmed(self, number: int) -> bool:
        options = self.settings.train
        is_due = number == options.steps or is_turn(number, options.film_every)
        return self.film is not None and is_due

    def shoot(self, number: int) -> None:
        assert self.film is not None
        with compiling.as_it_is():
            self.film.shoot(self.saved_model, number)

    def score(self, number: int) -> None:
        """Scores the validation split, writes it down, and keeps the best checkpoint."""
        assert self.validation is not None
        limit = self.settings.train.evaluate_images
        with compiling.as_it_is():
            self.scores = score.score(
                self.saved_model,
                self.tokenizer,
                self.validation,
                limit=limit,
                features=self.validation_features,
            ).metrics
        values = {f"val_{name}": value for name, value in self.scores.items()}
        write(self.run, number, values, self.trackers)
        self.keep_best(number)

    def keep_best(self, number: int) -> None:
        """Makes the checkpoint of this step the best one where no score was higher."""
        summary = score.summary(self.scores)
        if summary >= self.best:
            self.best = summary
            if self.is_first:
                checkpoint.mark_best(self.run.path, number, self.settings.train.keep_every)

    def keep(self, number: int) -> None:
        """A checkpoint, by the first process; the best one as long as nothing was scored."""
        if self.is_first:
            self.state.save(
                self.run.path,
                number,
                tokenizer=self.tokenizer,
                best=self.best,
                is_best=self.best == -math.inf,
                keep_every=self.settings.train.keep_every,
            )

    def epoch(self, number: int) -> float:
        """How often each image was seen after so many steps."""
        return number * self.batch_size / self.mixture.num_places()

    def check_finite(self) -> None:
        """FloatingPointError, with the batch's images, where a loss or gradient was not finite."""
        bad = self.meter.bad_step()
        if bad is None:
            return
        names = self.mixture.images(bad - 1, self.batch_size)
        more = f" and {len(names) - 6} more" if len(names) > 6 else ""
        raise FloatingPointError(
            f"the loss or its gradient was not finite at step {bad}, of the images "
            f"{', '.join(names[:6])}{more}; that update was left out. "
            "Lower train.learning_rate, raise train.warmup_steps, or set --train.precision fp32, "
            "then start again with --resume"
        )


def is_turn(step: int, every: int) -> bool:
    return every > 0 and step % every == 0


def write(run: Run, step: int, values: dict[str, float], trackers: Trackers | None) -> None:
    """One line of metrics.jsonl, by the first process; to the trackers where asked for."""
    if distributed.rank() == 0:
        run.log(step, **values)
        if trackers:
            trackers.log(step, values)


def logged_scores(run: Run, step: int) -> dict[str, float]:
    """What the validation at this step said; a number that was not finite is NaN again."""
    values: dict[str, float] = {}
    for row in run.metrics(after=step - 1):
        if row["step"] == step:
            values |= {name: math.nan if value is None else value for name, value in row.items()}
    return {name[4:]: value for name, value in values.items() if name.startswith("val_")}


def rates(model: LocTexModel, optimizer: torch.optim.Optimizer) -> dict[str, float]:
    """What the step was taken with."""
    highest = max(group["lr"] for group in optimizer.param_groups)
    return {"temperature": 1 / model.scale.item(), "learning_rate": highest}
