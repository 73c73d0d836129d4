"""What a run logs, shown in other people's programs too: TensorBoard, trackio, wandb.

metrics.jsonl is the run's own record, whatever they do: one that is not installed, or fails, is
left out with a sentence, and training goes on. Nothing is sent anywhere by TensorBoard and trackio
unless their own variables (TRACKIO_SPACE_ID) say so; wandb sends to its server unless WANDB_MODE is
offline. None is used that was not asked for.
"""

import hashlib
import importlib
import logging
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

import numpy as np

from loctex import settings
from loctex.jobs.run import Run
from loctex.settings import Settings

PROJECT = "loctex"


class Tracker(Protocol):
    """What an adapter does; names are grouped, train/loss and val/auc."""

    def log(self, step: int, values: dict[str, float]) -> None: ...

    def show(self, step: int, name: str, pixels: np.ndarray, caption: str) -> None:
        """pixels: (H, W, 3) bytes."""

    def close(self) -> None: ...


class TensorBoard:
    """Event files in RUN/tensorboard."""

    def __init__(self, run: Run, values: dict[str, Any]) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.writer = SummaryWriter(run.path / "tensorboard")

    def log(self, step: int, values: dict[str, float]) -> None:
        for name, value in values.items():
            self.writer.add_scalar(name, value, step)

    def show(self, step: int, name: str, pixels: np.ndarray, caption: str) -> None:
        self.writer.add_image(name, pixels, step, dataformats="HWC")

    def close(self) -> None:
        self.writer.close()


class _LikeWandb:
    """Those with wandb's calls. A run that goes on is the same run there: by its folder."""

    def __init__(self, module: ModuleType, **options: Any) -> None:
        self.module = module
        module.init(**options)

    def log(self, step: int, values: dict[str, float]) -> None:
        self.module.log(values, step=step)

    def show(self, step: int, name: str, pixels: np.ndarray, caption: str) -> None:
        self.module.log({name: self.module.Image(pixels, caption=caption)}, step=step)

    def close(self) -> None:
        self.module.finish()


class Trackio(_LikeWandb):
    """On this machine, where trackio keeps it (TRACKIO_DIR); `trackio show` shows it."""

    def __init__(self, run: Run, values: dict[str, Any]) -> None:
        super().__init__(
            importlib.import_module("trackio"),
            project=PROJECT,
            name=f"{run.name}-{number_of(run.path)}",
            config=values,
            resume="allow",
            embed=False,
            auto_log_gpu=False,
            auto_log_cpu=False,
        )


class Wandb(_LikeWandb):
    """As WANDB_PROJECT, WANDB_MODE and its other variables say; its files lie in RUN/wandb."""

    def __init__(self, run: Run, values: dict[str, Any]) -> None:
        super().__init__(
            importlib.import_module("wandb"),
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            name=run.name,
            id=number_of(run.path),
            dir=run.path,
            config=values,
            resume="allow",
        )


ADAPTERS: dict[str, Callable[[Run, dict[str, Any]], Tracker]] = {
    "tensorboard": TensorBoard,
    "trackio": Trackio,
    "wandb": Wandb,
}


class Trackers:
    """Those that a run's settings name, by name; one that fails is left out from then on."""

    def __init__(self, run: Run, run_settings: Settings) -> None:
        self.trackers: dict[str, Tracker] = {}
        for name in settings.trackers(run_settings.train):
            self._attempt(name, partial(self._open, name, run, run_settings))

    def _open(self, name: str, run: Run, run_settings: Settings) -> None:
        self.trackers[name] = ADAPTERS[name](run, settings.to_dict(run_settings))

    def __bool__(self) -> bool:
        return bool(self.trackers)

    def log(self, step: int, values: dict[str, float]) -> None:
        grouped = {_grouped(name): value for name, value in values.items()}
        self._each(lambda tracker: tracker.log(step, grouped))

    def show(self, step: int, name: str, pixels: np.ndarray, caption: str) -> None:
        self._each(lambda tracker: tracker.show(step, name, pixels, caption))

    def close(self) -> None:
        self._each(lambda tracker: tracker.close())

    def _each(self, act: Callable[[Tracker], None]) -> None:
        for name, tracker in [*self.trackers.items()]:
            self._attempt(name, partial(act, tracker))

    def _attempt(self, name: str, act: Callable[[], None]) -> None:
        try:
            act()
        except ImportError as error:
            self._leave_out(name, f"it is not installed ({error}): pip install {name}")
        except Exception as error:  # another program's; a training of days does not end for it
            self._leave_out(name, f"{type(error).__name__}: {' '.join(str(error).split())[:300]}")

    def _leave_out(self, name: str, why: str) -> None:
        self.trackers.pop(name, None)
        logging.warning("train.report_to %s is left out, training goes on: %s", name, why)


def _grouped(name: str) -> str:
    return f"val/{name[4:]}" if name.startswith("val_") else f"train/{name}"


def number_of(folder: Path) -> str:
    """Of a run's folder: the same each time it goes on, another one for each run."""
    return hashlib.sha256(os.path.abspath(folder).encode()).hexdigest()[:8]
