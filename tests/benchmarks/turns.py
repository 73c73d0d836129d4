"""Timing in turns: on a machine that others use too, only what ran side by side compares."""

import gc
import time
from collections.abc import Callable, Sequence

import numpy as np


def seconds(calls: Sequence[Callable[[], object]], turns: int) -> list[float]:
    """The median seconds of each call, all called in each of `turns` turns, after one unmeasured.

    The garbage collector waits meanwhile. A call may return what is to be called after it,
    unmeasured: to end work that goes on behind it.
    """
    for call in calls:
        _end(call())
    taken = np.empty((turns, len(calls)))
    gc.disable()
    try:
        for turn in range(turns):
            for k, call in enumerate(calls):
                start = time.perf_counter()
                rest = call()
                taken[turn, k] = time.perf_counter() - start
                _end(rest)
    finally:
        gc.enable()
    return np.median(taken, axis=0).tolist()


def _end(rest: object) -> None:
    if callable(rest):
        rest()
