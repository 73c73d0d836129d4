"""The GPUs of this machine, by UUID: their memory, how busy they are, and who uses them.

Asked of the driver (NVML, by nvidia-ml-py), so that nothing here imports torch or takes a GPU.
"""

from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

NONE = "No GPU was found: training runs on the processor."


@dataclass(frozen=True)
class User:
    """A process that computes on a GPU. num_bytes: None where the driver does not say."""

    pid: int
    name: str
    num_bytes: int | None


@dataclass(frozen=True)
class Gpu:
    """uuid names it for CUDA_VISIBLE_DEVICES, whatever order the GPUs are numbered in.

    total, free: bytes. use: share of the last second in which it computed; None where unknown.
    bandwidth: bytes a second that its memory moves at most; None where unknown.
    """

    uuid: str
    name: str
    total: int
    free: int
    use: float | None
    users: tuple[User, ...]
    bandwidth: float | None = None


def found() -> tuple[list[Gpu], str]:
    """The GPUs, and one sentence that says why there are none or what is wrong with one."""
    try:
        import pynvml
    except ImportError:
        return [], f"{NONE} (To look for one, nvidia-ml-py must be installed.)"

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        is_none = error.value in (
            pynvml.NVML_ERROR_LIBRARY_NOT_FOUND,
            pynvml.NVML_ERROR_DRIVER_NOT_LOADED,
        )
        return [], NONE if is_none else f"{NONE} (The NVIDIA driver says: {error}.)"

    gpus, problem = [], ""
    try:
        for number in range(pynvml.nvmlDeviceGetCount()):
            try:
                gpus.append(_gpu(pynvml, pynvml.nvmlDeviceGetHandleByIndex(number)))
            except pynvml.NVMLError as error:  # one that fell off the bus hides no other
                problem = f"GPU {number} does not answer: {error}."
    finally:
        pynvml.nvmlShutdown()
    return gpus, problem if gpus or problem else NONE


def use(uuid: str) -> float | None:
    """Share of the last second in which this GPU computed; None where it cannot be known."""
    try:
        return _rates(uuid)
    except Exception:  # without NVML, or without its package, a run goes on all the same
        return None


def bandwidth(uuid: str) -> float | None:
    """Bytes a second that the memory of this GPU moves at most; None where it cannot be known."""
    try:
        import pynvml

        return _bandwidth(pynvml, _handle(uuid))
    except Exception:  # as in `use`
        return None


def _bandwidth(pynvml: Any, handle: Any) -> float:
    """Two transfers a clock over the whole bus: 3.35e12 of an H100 (5,120 bits, 2,619 MHz)."""
    clock = 1e6 * pynvml.nvmlDeviceGetMaxClockInfo(handle, pynvml.NVML_CLOCK_MEM)
    return 2 * clock * pynvml.nvmlDeviceGetMemoryBusWidth(handle) / 8


def _rates(uuid: str) -> float:
    import pynvml

    return pynvml.nvmlDeviceGetUtilizationRates(_handle(uuid)).gpu / 100


@cache
def _handle(uuid: str) -> Any:
    import pynvml

    pynvml.nvmlInit()
    return pynvml.nvmlDeviceGetHandleByUUID(uuid)


def _gpu(pynvml, handle) -> Gpu:
    memory, use, users = pynvml.nvmlDeviceGetMemoryInfo(handle), None, []
    bandwidth = None
    with suppress(pynvml.NVMLError):  # not every kind of GPU tells these
        use = pynvml.nvmlDeviceGetUtilizationRates(handle).gpu / 100
    with suppress(pynvml.NVMLError):
        users = pynvml.nvmlDeviceGetComputeRunningProcesses(handle)
    with suppress(pynvml.NVMLError, AttributeError):
        bandwidth = _bandwidth(pynvml, handle)
    return Gpu(
        uuid=_text(pynvml.nvmlDeviceGetUUID(handle)),
        name=_text(pynvml.nvmlDeviceGetName(handle)),
        total=memory.total,
        free=memory.free,
        use=use,
        users=tuple(User(user.pid, _program(user.pid), user.usedGpuMemory) for user in users),
        bandwidth=bandwidth,
    )


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value  # as older versions say it


def _program(pid: int) -> str:
    """The name of a process; of another machine's or a hidden one, nothing is known."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/comm").read_text().strip()
    return "a process"
