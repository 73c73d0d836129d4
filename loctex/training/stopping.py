"""When a run is asked to stop: by a signal, or by the file RUN/stop.

Whoever ends a machine or a job says so shortly before: SIGTERM (Kubernetes, spot machines,
preemption, `scancel`), SIGUSR1 (as `sbatch --signal` is set to before a time limit). The loop then
writes a checkpoint and ends.
"""

import signal
import threading
import time
from typing import TYPE_CHECKING

import torch

from loctex import distributed

if TYPE_CHECKING:
    from loctex.jobs.run import Run

SECONDS = 2.0  # between two looks, about
SIGNALS = (signal.SIGTERM, signal.SIGUSR1)


class StopCheck:
    """Looks whether to stop, every few seconds by the clock.

    Under torchrun all processes must stop after the same step, and asking the others costs an
    exchange that waits for the GPU. So it is not asked at each step: the first process tells the
    others, with each answer, after how many steps it is asked again.
    """

    def __init__(self, run: "Run", device: torch.device) -> None:
        self.run, self.device = run, device
        self.received = stop_on_signal()
        self.looked_at, self.looked_after = time.monotonic(), 0
        self.num_steps = 1  # until the next look, under torchrun

    def is_asked(self, step: int, is_waiting: bool) -> bool:
        """Whether to stop after this step; all processes get the same answer.

        is_waiting: the device was waited for just now, as when something is logged, so that a look
        costs nothing.
        """
        if distributed.num_ranks() > 1:
            return self._ask_all(step) if is_waiting or self._is_due(step) else False
        if self.received:
            return True
        if not is_waiting and time.monotonic() - self.looked_at < SECONDS:
            return False
        self.looked_at = time.monotonic()
        return self.run.stop_requested()

    def _is_due(self, step: int) -> bool:
        return step >= self.looked_after + self.num_steps

    def _ask_all(self, step: int) -> bool:
        is_asked = bool(self.received) or self.run.stop_requested()
        num_steps = self._steps_to_next_look(step) if distributed.rank() == 0 else 0

        numbers = torch.tensor([int(is_asked), num_steps], device=self.device)
        num_asked, self.num_steps = distributed.total(numbers).tolist()

        self.looked_at, self.looked_after = time.monotonic(), step
        return num_asked > 0

    def _steps_to_next_look(self, step: int) -> int:
        """By the pace since the last look; at most twice as many, for steps may become slower."""
        pace = (time.monotonic() - self.looked_at) / max(1, step - self.looked_after)
        return max(1, min(int(SECONDS / max(pace, 1e-6)), 2 * self.num_steps))


def stop_on_signal() -> list[int]:
    """A list that a signal to stop fills with its number."""
    received: list[int] = []
    if threading.current_thread() is threading.main_thread():
        for number in SIGNALS:
            signal.signal(number, lambda number, frame: received.append(number))
    return received


def should_stop(run: "Run", received: list[int], device: torch.device) -> bool:
    """Whether any process was asked to stop; all processes get the same answer."""
    is_asked = torch.tensor(float(bool(received) or run.stop_requested()), device=device)
    return bool(distributed.total(is_asked))
