"""The parts of loctex that bring torch: imported when somebody needs them, by one thread at a time.

transformers resolves its names when they are asked for; two threads that import it at once, say a
forecast under Train and a look under Inspect, can each see the other's half-made modules.
"""

import importlib
import os
import signal
import threading
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import cache
from types import ModuleType
from typing import Any, TypeVar

from data_tools.processes import process_pool

T = TypeVar("T")
PATIENCE = 20.0  # seconds that a count may take
WAITING = 60.0  # seconds beyond, in which torch is imported and others' counts end

_lock = threading.Lock()


def module(name: str) -> ModuleType:
    """loctex.`name`, as `import` gives it."""
    with _lock:
        return importlib.import_module(f"loctex.{name}")


def bounded(work: Callable[..., T], *arguments: Any, seconds: float = PATIENCE) -> T:
    """`work` of the arguments in a process of its own, which all share: what would take minutes
    ends after these seconds, and the studio's own process is not stalled meanwhile.

    Raises RuntimeError, a sentence, where it takes longer or was killed; else what `work` raises.
    """
    late = f"This would take more than {seconds:g} seconds to count; make the model smaller."
    try:
        return _counter().submit(_in_time, seconds, work, arguments).result(WAITING + seconds)
    except TimeoutError as error:
        raise RuntimeError(late) from error
    except BrokenProcessPool as error:  # ended by its alarm, or for want of memory
        _counter.cache_clear()
        raise RuntimeError(late) from error


@cache
def _counter() -> ProcessPoolExecutor:
    return process_pool(1)


def _in_time(seconds: float, work: Callable[..., T], arguments: tuple[Any, ...]) -> T:
    """In the process: the alarm interrupts Python; where that is not heard, it ends the process."""
    num_alarms = 0

    def alarm(*_: Any) -> None:
        nonlocal num_alarms
        num_alarms += 1
        if num_alarms > 1:
            os._exit(1)
        raise TimeoutError

    importlib.import_module("loctex.training.estimate")  # torch: seconds that are not the work's
    signal.signal(signal.SIGALRM, alarm)
    signal.setitimer(signal.ITIMER_REAL, seconds, 5.0)
    try:
        return work(*arguments)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
