"""Trains a detector: SGD by a schedule, one process a GPU, from checkpoint to checkpoint."""

import argparse
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from timm.layers import convert_sync_batchnorm
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torchvision.models.detection import FasterRCNN
from tqdm import tqdm

from loctex import distributed
from loctex.loop import is_turn, should_stop, stop_on_signal
from loctex.meter import Meter
from loctex.runs import Run, write_whole
from loctex.transfer import detector
from loctex.transfer.examples import Example, Order, batches
from loctex.transfer.features import Encoder
from loctex.transfer.instances import Instances
from loctex.transfer.schedule import Schedule

MOMENTUM, WEIGHT_DECAY = 0.9, 1e-4  # detectron2's; norms and biases do not decay
PRECISE, PASSES = 200, 8  # at the end, batch norms are measured over so many batches, or epochs
STATE = "checkpoint.pt"


def train(
    given: argparse.Namespace, run: Run, encoder: Encoder, part: Instances, device: torch.device
) -> FasterRCNN | None:
    """The trained detector; None where it was stopped before the end."""
    ranks, rank = distributed.num_ranks(), distributed.rank()
    if given.batch % ranks:
        raise ValueError(f"--batch {given.batch} must be a multiple of the {ranks} processes")
    schedule = Schedule.scaled(given.schedule, len(part.photos), given.batch, given.learning_rate)
    torch.manual_seed(given.seed)
    model = detector.build(
        encoder,
        len(part.categories),
        has_masks=part.has_masks,
        size=given.size,
        num_rois=given.rois,
    )
    model = place(model, device)
    sgd = make_optimizer(model)
    done = restore(run.path / STATE, model, sgd) if given.resume else 0
    run.cut_back(done)
    trained = parallel(model, device)
    order = Order(
        len(part.photos),
        given.batch,
        schedule.steps,
        given.seed,
        start=done,
        rank=rank,
        num_ranks=ranks,
    )
    source = batches(part, order, given.workers)
    meter, received, is_stopped = Meter(device), stop_on_signal(), False
    progress = tqdm(
        range(done + 1, schedule.steps + 1),
        initial=done,
        total=schedule.steps,
        unit="step",
        mininterval=1.0,
        disable=rank > 0,
    )
    for number in progress:
        with meter.waiting():
            images, targets = on_device(next(source), device)
        for group in sgd.param_groups:
            group["lr"] = schedule.rate(number)
        sgd.zero_grad(set_to_none=True)
        torch.manual_seed(seed_of(given.seed, number, rank))
        with autocast(given, device):
            losses = trained(images, targets)
        total = torch.stack(list(losses.values())).sum()
        total.backward()
        norm = update(model, sgd)
        meter.add({"loss": total} | losses, norm, len(images), number)
        is_last = number == schedule.steps
        if is_turn(number, given.log_every) or is_last or number == 1:
            log(run, meter, number, schedule.rate(number))
            is_stopped = should_stop(run, received, device) and not is_last
        if rank == 0 and (is_stopped or is_turn(number, given.checkpoint_every)) and not is_last:
            write_whole(run.path / STATE, state_of(number, model, sgd))
        if is_stopped:
            return None
    measure_norms(given, model, part, device)
    return model


def measure_norms(
    given: argparse.Namespace,
    model: FasterRCNN,
    part: Instances,
    device: torch.device,
) -> None:
    """Precise batch norm, over the first batches of the training."""
    ranks, rank = distributed.num_ranks(), distributed.rank()
    steps = min(PRECISE, -(-PASSES * len(part.photos) // given.batch))
    order = Order(len(part.photos), given.batch, steps, given.seed, rank=rank, num_ranks=ranks)
    source = batches(part, order, given.workers)
    torch.manual_seed(seed_of(given.seed, 0, rank))
    with autocast(given, device):
        detector.measure_statistics(model, (on_device(batch, device)[0] for batch in source))


def place(model: FasterRCNN, device: torch.device) -> FasterRCNN:
    """On its device, in training mode; batch norms see all GPUs under torchrun."""
    if device.type == "cuda" and distributed.num_ranks() > 1:
        model = convert_sync_batchnorm(model)
    model.backbone.body.to(memory_format=torch.channels_last)
    return model.to(device).train()


def parallel(model: FasterRCNN, device: torch.device) -> nn.Module:
    if distributed.num_ranks() == 1:
        return model
    return DistributedDataParallel(model, [device.index] if device.type == "cuda" else None)


def make_optimizer(model: FasterRCNN) -> torch.optim.Optimizer:
    """SGD; one-dimensional parameters, the norms and biases, do not decay."""
    groups = [
        {
            "params": [p for p in model.parameters() if (p.ndim > 1) == decays],
            "weight_decay": WEIGHT_DECAY if decays else 0.0,
        }
        for decays in (True, False)
    ]
    return torch.optim.SGD(groups, lr=0.1, momentum=MOMENTUM, fused=True)


def update(model: FasterRCNN, sgd: torch.optim.Optimizer) -> Tensor:
    """Applies the gradients, unless their norm is not finite, without waiting for the device;
    returns the norm."""
    norm = nn.utils.get_total_norm([p.grad for p in model.parameters() if p.grad is not None])
    fused: Any = sgd  # its kernels read these two, which no base class declares
    fused.grad_scale = None
    fused.found_inf = (~torch.isfinite(norm)).float()
    sgd.step()
    return norm


def autocast(given: argparse.Namespace, device: torch.device) -> torch.autocast:
    is_bf16 = given.precision == "bf16" or (given.precision == "auto" and device.type == "cuda")
    return torch.autocast(device.type, torch.bfloat16, enabled=is_bf16)


def on_device(
    examples: Sequence[Example], device: torch.device
) -> tuple[list[Tensor], list[dict[str, Tensor]]]:
    images = [image.to(device, non_blocking=True) for image, _ in examples]
    targets = [
        {k: v.to(device, non_blocking=True) for k, v in target.items()} for _, target in examples
    ]
    return images, targets


def seed_of(seed: int, step: int, rank: int) -> int:
    """One number for all that is drawn in a step: scales, and regions to learn from."""
    return ((seed * 1_000_003 + step) * 4099 + rank) % 2**63


def log(run: Run, meter: Meter, number: int, rate: float) -> None:
    """One line of metrics.jsonl. FloatingPointError where a loss was not finite."""
    values = meter.read()
    values["images_per_second"] = values.pop("pairs_per_second")
    if distributed.rank() == 0:
        run.log(number, **values, learning_rate=rate)
    if (bad := meter.bad_step()) is not None:
        raise FloatingPointError(
            f"the loss or its gradient was not finite at step {bad}; start again with a lower "
            "--learning-rate, or with --precision fp32"
        )


def state_of(step: int, model: nn.Module, sgd: torch.optim.Optimizer) -> bytes:
    content = io.BytesIO()
    state = {"step": step, "model": model.state_dict(), "optimizer": sgd.state_dict()}
    torch.save(state, content)
    return content.getvalue()


def restore(file: Path, model: nn.Module, sgd: torch.optim.Optimizer) -> int:
    """Takes up a checkpoint; its step. 0 where there is none yet; ValueError if damaged."""
    if not file.exists():
        return 0
    try:
        state = torch.load(file, map_location="cpu", weights_only=True)
        model.load_state_dict(state["model"])
        sgd.load_state_dict(state["optimizer"])
    except Exception as error:  # torch raises many kinds for a cut file
        raise ValueError(f"{file} is damaged ({error}); remove it to start anew") from error
    return state["step"]
