"""A checkpoint is one folder, whole or not there: RUN/checkpoints/step-00000200.

It is a `save_pretrained` folder (weights, config, tokenizer) with the trainer's state beside it
(training.pt). RUN/last and RUN/best are links that are moved in one step.
"""

import os
import shutil
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedTokenizerFast

from loctex.model import LocTexModel

STATE = "training.pt"


def save(
    run: Path,
    step: int,
    *,
    model: LocTexModel,
    tokenizer: PreTrainedTokenizerFast,
    state: dict[str, Any],
    is_best: bool,
) -> Path:
    """Writes the checkpoint of `step`, moves the links, and removes what none points to."""
    folder = run / "checkpoints" / f"step-{step:08d}"
    draft = folder.with_name(folder.name + ".tmp")
    shutil.rmtree(draft, ignore_errors=True)
    model.save_pretrained(draft)
    tokenizer.save_pretrained(draft)
    torch.save(state, draft / STATE)
    for path in [*draft.iterdir(), draft]:
        _sync(path)
    if folder.exists():  # the same step again, after a resume
        shutil.rmtree(folder)
    os.rename(draft, folder)
    _sync(folder.parent)
    link(run, "last", folder)
    if is_best or not (run / "best").exists():
        link(run, "best", folder)
    kept = {(run / name).resolve() for name in ("last", "best")}
    for other in folder.parent.glob("step-*"):
        if other.resolve() not in kept:
            shutil.rmtree(other)
    return folder


def link(run: Path, name: str, folder: Path) -> None:
    """Points RUN/`name` at a checkpoint folder, in one step."""
    draft = run / f"{name}.tmp"
    draft.unlink(missing_ok=True)
    draft.symlink_to(folder.relative_to(run))
    os.replace(draft, run / name)


def find(path: Path | str, checkpoint: str = "best") -> Path:
    """The model folder of a run ("best", "last", or a folder's name) or of save_pretrained.

    ValueError says the way out where there is none.
    """
    path = Path(path)
    known = (path / checkpoint, path / "checkpoints" / checkpoint, Path(checkpoint), path)
    for folder in known:
        if (folder / "config.json").is_file():
            return folder.resolve()
    raise ValueError(
        f"{path} has no checkpoint {checkpoint!r}; train first, or name a folder that holds a "
        "config.json"
    )


def load_state(folder: Path) -> dict[str, Any]:
    """The trainer's state of a checkpoint; ValueError if the file is missing or damaged."""
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


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
