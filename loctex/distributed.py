"""torchrun's processes: rank, device, sums and gathers. Everything works with one process too."""

import os
import sys

import torch
import torch.distributed as dist
from torch import Tensor


def start(device: str) -> torch.device:
    """Joins the process group if torchrun started us; returns this process's device.

    device: as in `usable`, from train.device.
    """
    device = usable(device, "--train.device")
    if "LOCAL_RANK" in os.environ:
        if device == "cuda":
            device = f"cuda:{os.environ['LOCAL_RANK']}"
        dist.init_process_group("nccl" if device.startswith("cuda") else "gloo")
    result = torch.device(device)
    if result.type == "cuda":
        torch.cuda.set_device(result)
    return result


def usable(device: str, option: str) -> str:
    """auto, cpu, cuda or cuda:N, as `option` gave it -> the same, auto decided.

    ValueError where a GPU is asked for and there is none.
    """
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise ValueError(
            f"the device is {device!r}, but PyTorch sees no GPU here; use {option} cpu, "
            "or check the driver with nvidia-smi"
        )
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return device


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


def gather(tensor: Tensor) -> Tensor:
    """(b, ...) of each process -> (B, ...) of all, in rank order, with gradient.

    Every process must then compute the same loss of the whole: the gradients of all of them are
    added on the way back, which the average of DistributedDataParallel takes back.
    """
    return _Gather.apply(tensor) if dist.is_initialized() else tensor


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx, tensor: Tensor) -> Tensor:
        parts = [torch.empty_like(tensor) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, tensor.contiguous())
        ctx.size = len(tensor)
        return torch.cat(parts)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:
        gradient = gradient.contiguous().clone()
        dist.all_reduce(gradient)
        return gradient[dist.get_rank() * ctx.size :][: ctx.size]
