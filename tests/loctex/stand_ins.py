"""A trainer that takes no time, a driver that has any GPUs, and waiting for what must come."""

import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace

TRAINER = """
import os, sys, time
from pathlib import Path
from loctex.jobs.run import Run
words = sys.orig_argv
run, steps = Run(words[words.index("--run") + 1]), 100000  # the default
if "--train.steps" in words:
    steps = int(words[words.index("--train.steps") + 1])
with run.hold():
    start = int((run.path / "last").read_text()) if "--resume" in words else 0
    if words[-1].startswith("step-"):
        start = int(words[-1][5:])
    run.cut_back(start)
    print("GPUs", os.environ.get("CUDA_VISIBLE_DEVICES"), flush=True)
    for step in range(start + 1, steps + 1):
        run.log(step, loss=1 / step)
        print("step", step)
        (run.path / ".last.tmp").write_text(str(step))  # whole: the run may be copied meanwhile
        os.replace(run.path / ".last.tmp", run.path / "last")
        if run.stop_requested():
            sys.exit()
        time.sleep(0.01)
run.finish({"step": steps})
"""


# Of a job `python -m loctex.train --run .../NAME`, NAME.py beside this file is executed instead.
SITE = """
import importlib.abc, importlib.util, sys
from pathlib import Path

class Finder(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        words = sys.orig_argv
        if name != "loctex.train" or "--run" not in words:
            return None
        script = Path(__file__).parent / (Path(words[words.index("--run") + 1]).name + ".py")
        return importlib.util.spec_from_file_location(name, script) if script.is_file() else None

sys.meta_path.insert(0, Finder())
"""
_HEAD = """
import sys
_words = sys.argv[1:]
sys.argv = [sys.argv[0], _words[_words.index("--run") + 1], *{extra!r}]
sys.argv += _words[_words.index("--resume") :] if "--resume" in _words else []
"""


def stand_in(folder: Path, name: str, script: str, *extra: str) -> None:
    """The run of this name executes `script`, with its directory and `extra` as arguments, where
    PYTHONPATH names `folder`; the product's own command line leads there."""
    folder.mkdir(exist_ok=True)
    (folder / "sitecustomize.py").write_text(SITE)
    (folder / f"{name}.py").write_text(_HEAD.replace("{extra!r}", repr(extra)) + script)


def wait_for(condition: Callable[[], object], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come true"
        time.sleep(0.01)


def nvml(*gpus: dict, failure: int | None = None) -> ModuleType:
    """A stand-in for pynvml. gpus: uuid, name, total, free, use, users {pid: bytes}; one without a
    uuid does not answer. failure: the code with which the driver refuses to start."""

    class NVMLError(Exception):
        def __init__(self, value: int) -> None:
            self.value = value
            super().__init__(f"code {value}")

    def start() -> None:
        if failure is not None:
            raise NVMLError(failure)

    def handle(number: int) -> dict:
        if "uuid" not in gpus[number]:
            raise NVMLError(15)
        return gpus[number]

    def rates(gpu: dict) -> SimpleNamespace:
        if "use" not in gpu:
            raise NVMLError(3)  # not supported
        return SimpleNamespace(gpu=gpu["use"])

    module = ModuleType("pynvml")
    module.NVMLError = NVMLError
    module.NVML_ERROR_LIBRARY_NOT_FOUND, module.NVML_ERROR_DRIVER_NOT_LOADED = 12, 9
    module.nvmlInit, module.nvmlShutdown = start, lambda: None
    module.nvmlDeviceGetCount = lambda: len(gpus)
    module.nvmlDeviceGetHandleByIndex = handle
    module.nvmlDeviceGetUUID = lambda gpu: gpu["uuid"]
    module.nvmlDeviceGetName = lambda gpu: gpu["name"].encode()  # as older versions say it
    module.nvmlDeviceGetMemoryInfo = lambda gpu: SimpleNamespace(
        total=gpu["total"], free=gpu["free"]
    )
    module.nvmlDeviceGetUtilizationRates = rates
    module.nvmlDeviceGetComputeRunningProcesses = lambda gpu: [
        SimpleNamespace(pid=pid, usedGpuMemory=size) for pid, size in gpu.get("users", {}).items()
    ]
    return module
