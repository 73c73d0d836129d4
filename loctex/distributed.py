"""torchrun's processes: rank, device, sums and gathers. Everything works with one process too."""

import os
import re
import sys

import torch
import torch.distributed as dist
from torch import Tensor


def start(name: str) -> torch.device:
    """Joins the process group if torchrun started us; returns this process's device.

    name: as `choose_device` takes it, from train.device. Under torchrun "cuda" is the GPU of the
    process's local rank.
    """
    device = choose_device(name, "--train.device")
    if "LOCAL_RANK" in os.environ:
        if device.type == "cuda" and ":" not in name:
            device = choose_device(f"cuda:{os.environ['LOCAL_RANK']}", "--train.device")
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    if device.type == "cuda":
        torch.cuda.set_device(device)
    return device


def choose_device(name: str, option: str = "--device") -> torch.device:
    """The device that auto, cpu, cuda, cuda:N or mps means here.

    A CUDA device always carries its index: `torch.cuda.set_device` refuses one without, and
    "cuda" and "cuda:0" do not compare equal. auto is the GPU where there is one, else the CPU;
    mps (Apple's GPUs) is taken only where it is named.

    Raises ValueError, which names `option`, for another word and for a device that is not here.
    """
    if not re.fullmatch(r"auto|cpu|mps|cuda(:\d+)?", name):
        raise ValueError(f"{option} {name}: a device is auto, cpu, cuda, cuda:1 ... or mps")
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "mps" and not torch.backends.mps.is_available():
        raise ValueError(f"the device is 'mps', but this is no Mac with one; use {option} cpu")
    if not name.startswith("cuda"):
        return torch.device(name)

    if not torch.cuda.is_available():
        raise ValueError(
            f"the device is {name!r}, but PyTorch sees no GPU here; use {option} cpu, "
            "or check the driver with nvidia-smi"
        )
    count = torch.cuda.device_count()
    index = int(name.partition(":")[2] or torch.cuda.current_device())
    if index >= count:
        raise ValueError(f"{option} {name}: PyTorch sees {count} GPU(s) here, cuda:0 is the first")
    return torch.device("cuda", index)


def stop() -> None:
    """Leaves the process group."""
    if dist.is_initialized():
        dist.destroy_process_group()


def leave() -> None:
    """Ends a process of torchrun's whose work is done; does nothing in another.

    Threads of gloo may outlive their group and abort a Python that shuts down ("terminate called
    without an active exception", 1 of 80 processes with PyTorch 2.15), which fails the whole run.
    """
    if "LOCAL_RANK" in os.environ:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)


def rank() -> int:
    return dist.get_rank() if dist.is_initialized() else 0


def num_ranks() -> int:
    return dist.get_world_size() if dist.is_initialized() else 1


def total(tensor: Tensor) -> Tensor:
    """The sum over processes, without gradient."""
    result = tensor.detach().clone()
    if dist.is_initialized():
        dist.all_reduce(result)
    return result


def wait(device: torch.device) -> None:
    """Returns when all processes are here."""
    if dist.is_initialized():
        total(torch.zeros(1, device=device)).item()


def gather(tensor: Tensor) -> Tensor:
    """(b, ...) of each process -> (B, ...) of all, in rank order, with gradient.

    Every process must then compute the same loss of the whole: the gradients of all of them are
    added on the way back, which the average of DistributedDataParallel takes back.
    """
    return _Gather.apply(tensor) if dist.is_initialized() else tensor


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx, tensor: Tensor) -> Tensor:
        gathered = [torch.empty_like(tensor) for _ in range(dist.get_world_size())]
        dist.all_gather(gathered, tensor.contiguous())
        ctx.size = len(tensor)
        return torch.cat(gathered)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:
        gradient = gradient.contiguous().clone()
        dist.all_reduce(gradient)
        return gradient[dist.get_rank() * ctx.size :][: ctx.size]
