"""A trainer that takes no time, a driver that has any GPUs, and waiting for what must come."""

import time
from collections.abc import Callable
from types import ModuleType, SimpleNamespace

TRAINER = """
import os, sys, time
from pathlib import Path
from loctex.jobs.run import Run
words = sys.argv[1:]
run, steps = Run(words[words.index("--run") + 1]), int(words[words.index("--train.steps") + 1])
with run.hold():
    start = int((run.path / "last").read_text()) if "--resume" in words else 0
    if words[-1].startswith("step-"):
        start = int(words[-1][5:])
    run.cut_back(start)
    print("GPUs", os.environ.get("CUDA_VISIBLE_DEVICES"), flush=True)
    for step in range(start + 1, steps + 1):
        run.log(step, loss=1 / step)
        print("step", step)
        (run.path / "last").write_text(str(step))
        if run.stop_requested():
            sys.exit()
        time.sleep(0.01)
run.finish({"step": steps})
"""


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
