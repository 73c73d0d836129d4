"""Timing in turns: on a machine that others use too, only what ran side by side compares."""

import gc
import time
from collections.abc import Callable, Sequence

import numpy as np


def seconds(calls: Sequence[Callable[[], object]], turns: int) -> list[float]:
    """The median seconds of each call, all called in each of `turns` turns, after one unmeasured.

    The garbage collector waits meanwhile.
    """
    for call in calls:
        call()
    taken = np.empty((turns, len(calls)))
    gc.disable()
    try:
        for turn in range(turns):
            for k, call in enumerate(calls):
                start = time.perf_counter()
                call()
                taken[turn, k] = time.perf_counter() - start
    finally:
        gc.enable()
    return np.median(taken, axis=0).tolist()
