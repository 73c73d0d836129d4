"""A checkpoint is one folder, whole or not there: RUN/checkpoints/step-00000200.

It is a `save_pretrained` folder (weights, config, tokenizer) with the trainer's state beside it
(training.pt). RUN/last and RUN/best are links that are moved in one step. torch is imported only
to write and read that state: whoever but looks for a checkpoint does not wait for it.
"""

from __future__ import annotations

import errno
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from loctex.jobs.checkpoint_files import folders, link, linked, linked_folders, step_of
from loctex.records.files import draft_folder, sync

if TYPE_CHECKING:
    from torch.optim import Optimizer
    from torch.optim.swa_utils import AveragedModel
    from transformers import PreTrainedTokenizerFast

    from loctex.model.model import LocTexModel
    from loctex.model.momentum import MomentumEncoders
    from loctex.training.meter import Meter

STATE = "training.pt"
NEARLY_FULL = 1 << 20  # bytes


@dataclass
class TrainingState:
    """All that a run must keep to go on to the same bits.

    The saved weights are the moving average where there is one; the trained ones are then part of
    the state.
    """

    model: LocTexModel
    optimizer: Optimizer
    averaged: AveragedModel | None = None
    momentum: MomentumEncoders | None = None
    meter: Meter | None = None

    def save(
        self,
        run: Path,
        step: int,
        *,
        tokenizer: PreTrainedTokenizerFast,
        best: float,
        is_best: bool,
        keep_every: int = 0,
    ) -> Path:
        """Writes the checkpoint of `step`, with the best score so far."""
        state = {"step": step, "best": best, "optimizer": self.optimizer.state_dict()}

        saved = self.model
        if self.averaged is not None:
            saved = cast("LocTexModel", self.averaged.module)
            state["model"] = self.model.state_dict()

        if self.momentum is not None:
            state["momentum"] = self.momentum.state_dict()
        if self.meter is not None:
            state["meter"] = self.meter.state_dict()

        return save(
            run,
            step,
            model=saved,
            tokenizer=tokenizer,
            state=state,
            is_best=is_best,
            keep_every=keep_every,
        )

    def restore(self, folder: Path) -> tuple[int, float]:
        """Takes up the state beside the weights, which the model holds already; step and best."""
        state = load_state(folder)
        try:
            self.optimizer.load_state_dict(state["optimizer"])
        except ValueError as error:
            raise ValueError(
                f"{folder}: the optimizer's state does not fit these settings ({error}); resume "
                f"with the run's own, or start a new run with --model.init {folder}"
            ) from error

        if self.averaged is not None and "model" in state:
            self.averaged.module.load_state_dict(self.model.state_dict())
            self.model.load_state_dict(state["model"])
        if self.momentum is not None and "momentum" in state:
            self.momentum.load_state_dict(state["momentum"])
        if self.meter is not None and "meter" in state:  # older versions kept none
            self.meter.load_state_dict(state["meter"])

        return state["step"], state["best"]


def save(
    run: Path,
    step: int,
    *,
    model: LocTexModel,
    tokenizer: PreTrainedTokenizerFast,
    state: dict[str, Any],
    is_best: bool,
    keep_every: int = 0,
) -> Path:
    """Writes the checkpoint of `step`, moves the links, and removes what none points to; those of
    every `keep_every` steps stay."""
    import torch
    from safetensors import SafetensorError

    folder = run / "checkpoints" / f"step-{step:08d}"
    for leftover in folder.parent.glob("step-*.tmp"):  # of an older version that was killed
        shutil.rmtree(leftover, ignore_errors=True)
    with draft_folder(folder) as draft:
        try:
            model.save_pretrained(draft)
            tokenizer.save_pretrained(draft)
            torch.save(state, draft / STATE)
            for path in [*draft.iterdir(), draft]:
                sync(path)
        except (OSError, RuntimeError, SafetensorError) as error:
            if not _is_full(error, draft):
                raise
            raise ValueError(
                f"the disk is full: the checkpoint of step {step:,} was not written into "
                f"{folder.parent}, those before it stay; make room, then start again with --resume"
            ) from error
        if folder.exists():  # the same step again, after a resume
            shutil.rmtree(folder)
    before = linked_folders(run)
    link(run, "last", folder)
    if is_best or linked(run, "best") is None:
        link(run, "best", folder)

    _remove_unlinked(run, before, keep_every)
    return folder


def mark_best(run: Path, step: int, keep_every: int = 0) -> None:
    """Makes the checkpoint of `step` the best one, and removes the one before as `save` does."""
    before = linked_folders(run)
    link(run, "best", run / "checkpoints" / f"step-{step:08d}")
    _remove_unlinked(run, before, keep_every)


def _remove_unlinked(run: Path, before: set[Path], keep_every: int) -> None:
    """Removes what a link pointed to before; where a link was lost, all stay."""
    for checkpoint in before - linked_folders(run):
        if keep_every <= 0 or step_of(checkpoint) % keep_every:
            shutil.rmtree(checkpoint)


def _is_full(error: Exception, draft: Path) -> bool:
    """Whether the disk was full; torch says only that it could not write, so what is free now,
    while the draft lies there, tells it."""
    has_code = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
    is_named = has_code or "No space left" in str(error)  # as safetensors says it
    return is_named or shutil.disk_usage(draft).free < NEARLY_FULL


def rewind(run: Path, folder: Path) -> None:
    """Makes a checkpoint the last one: what was learned after it is dropped."""
    link(run, "last", folder)
    best = linked(run, "best")
    if best not in linked_folders(run) or best is None or step_of(best) > step_of(folder):
        link(run, "best", folder)
    for checkpoint in folders(run):
        if step_of(checkpoint) > step_of(folder):
            shutil.rmtree(checkpoint)


def load_state(folder: Path) -> dict[str, Any]:
    """The trainer's state of a checkpoint; ValueError if the file is missing or damaged."""
    import torch

    try:
        return torch.load(folder / STATE, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise ValueError(
            f"{folder} holds weights but no {STATE}; use --model.init {folder}"
        ) from error
    except Exception as error:  # torch raises many kinds for a cut file
        raise ValueError(
            f"{folder / STATE} is damaged ({error}); resume from another folder of {folder.parent}"
        ) from error
