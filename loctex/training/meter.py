"""What a run logs between two lines of metrics.jsonl, summed on the device."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from loctex import distributed
from loctex.jobs import gpus


class Meter:
    """Sums of loss terms and of the time spent waiting for data; read only when it is written."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.first_bad_step = torch.full((), -1, dtype=torch.int64, device=device)
        self.clear()

    def clear(self) -> None:
        self.sums: dict[str, Tensor] = {}
        self.num_steps = 0
        self.num_pairs = 0
        self.seconds_waiting = 0.0
        self.start = time.monotonic()

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Times the wait for the next batch."""
        start = time.monotonic()
        yield
        self.seconds_waiting += time.monotonic() - start

    def add(self, losses: dict[str, Tensor], norm: Tensor, num_pairs: int, step: int) -> None:
        """The terms of one step; remembers the first step whose loss or gradient is not finite."""
        for name, value in (losses | {"gradient_norm": norm}).items():
            value = value.detach()
            self.sums[name] = self.sums[name] + value if name in self.sums else value.clone()
        is_bad = ~(torch.isfinite(norm) & torch.isfinite(losses["loss"].detach()))
        is_first = is_bad & (self.first_bad_step < 0)
        self.first_bad_step = torch.where(is_first, step, self.first_bad_step)
        self.num_steps += 1
        self.num_pairs += num_pairs

    def read(self) -> dict[str, float]:
        """Means over the steps since the last reading, and rates; waits for the device."""
        values = {name: float(total) / self.num_steps for name, total in self.sums.items()}
        seconds = time.monotonic() - self.start
        values["pairs_per_second"] = self.num_pairs * distributed.num_ranks() / seconds
        values["data_wait"] = self.seconds_waiting / seconds
        if self.device.type == "cuda":
            values["gpu_memory_gib"] = torch.cuda.max_memory_reserved(self.device) / 2**30
            use = gpus.use(f"GPU-{torch.cuda.get_device_properties(self.device).uuid}")
            values |= {} if use is None else {"gpu_use": use}
        self.clear()
        return values

    def state_dict(self) -> dict[str, Any]:
        """What the next reading must know of the steps until now; rates begin anew."""
        sums = {name: total.clone() for name, total in self.sums.items()}
        return {"sums": sums, "num_steps": self.num_steps}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.sums = {name: total.to(self.device) for name, total in state["sums"].items()}
        self.num_steps = state["num_steps"]

    def bad_step(self) -> int | None:
        """The first step that was not finite, if any; waits for the device."""
        step = int(self.first_bad_step)
        return step if step >= 0 else None
