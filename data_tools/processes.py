"""Worker processes that end when the process that asked for them ends, however it ends."""

import os
import signal
import sys
import threading
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context, parent_process


def process_pool(workers: int) -> ProcessPoolExecutor:
    """Processes that share nothing with this one. Killed, it leaves none of them behind."""
    return ProcessPoolExecutor(
        workers, mp_context=get_context("spawn"), initializer=_end_with_parent
    )


def _end_with_parent() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C reaches them too: no traceback of each

    def watch() -> None:
        parent = parent_process()
        assert parent is not None  # this runs in a child
        parent.join()
        os._exit(0)

    threading.Thread(target=watch, daemon=True).start()


def stop_tidily() -> None:
    """From now on Ctrl-C and SIGTERM end this program as `sys.exit` does: no half folder stays."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, frame: sys.exit(128 + number))
