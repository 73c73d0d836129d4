"""The parts of loctex that bring torch: imported when somebody needs them, by one thread at a time.

transformers resolves its names when they are asked for; two threads that import it at once, say a
forecast under Train and a look under Inspect, can each see the other's half-made modules.
"""

import importlib
import threading
from types import ModuleType

_lock = threading.Lock()


def module(name: str) -> ModuleType:
    """loctex.`name`, as `import` gives it."""
    with _lock:
        return importlib.import_module(f"loctex.{name}")
