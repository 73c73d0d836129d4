"""The optimizer, its learning rates, and an update that leaves out what is not finite."""

import math
from typing import Any

import torch
from torch import Tensor

from loctex.model.model import LocTexModel
from loctex.settings import TrainSettings


def make(model: LocTexModel, options: TrainSettings) -> torch.optim.Optimizer:
    """Four groups: image and text side, each with and without weight decay (norms, biases); the
    backbone has groups of its own where its rate or its start differs from the heads', and the
    attention's scales have one where their rate differs.

    Temperatures go with the text side: at the rate that suits convolutions they would leap.
    """
    has_own_rate = options.backbone_rate != 1 or options.backbone_wait > 0
    groups: dict[tuple[str, bool], list[torch.nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        side = "image"
        if name.startswith("attention.") and parameter.ndim == 0 and options.scale_rate != 1:
            side = "scale"
        elif name.startswith(("text_", "fusion.")) or ".token." in name or parameter.ndim == 0:
            side = "text"
        elif has_own_rate and name.startswith(("backbone.", "backbone_head.")):
            side = "backbone"
        groups.setdefault((side, parameter.ndim > 1), []).append(parameter)

    rate = options.learning_rate
    highest = {"image": rate, "text": options.text_learning_rate}
    highest["backbone"] = rate * options.backbone_rate
    highest["scale"] = options.text_learning_rate * options.scale_rate
    rows = []
    for (side, is_decayed), parameters in groups.items():
        row = {
            "params": parameters,
            "highest": highest[side],
            "weight_decay": options.weight_decay if is_decayed else 0.0,
        }
        if side == "backbone":
            row["wait"] = options.backbone_wait
        rows.append(row)
    if options.optimizer == "sgd":
        return torch.optim.SGD(rows, lr=0.1, momentum=options.momentum, fused=True)
    return torch.optim.AdamW(rows, lr=0.1, betas=(options.momentum, 0.98), fused=True)


def set_learning_rates(optimizer: torch.optim.Optimizer, options: TrainSettings, step: int) -> None:
    """Linear warm-up, then a cosine to 0 at the last step."""
    if step <= options.warmup_steps:
        share = step / options.warmup_steps
    else:
        progress = (step - options.warmup_steps) / max(1, options.steps - options.warmup_steps)
        share = 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
    for group in optimizer.param_groups:
        is_waiting = step <= group.get("wait", 0)
        group["lr"] = 0.0 if is_waiting else group["highest"] * share


def update(model: LocTexModel, optimizer: torch.optim.Optimizer, clip: float) -> Tensor:
    """Clips and applies the gradients, unless their norm is not finite; returns the norm.

    Nothing waits for the device: the fused optimizers read the flag there.
    """
    norm = torch.nn.utils.clip_grad_norm_(model.parameters(), clip if clip > 0 else math.inf)
    fused: Any = optimizer  # its kernels read these two, which no base class declares
    fused.grad_scale = None
    fused.found_inf = (~torch.isfinite(norm)).float()
    optimizer.step()
    model.clamp_scales()
    return norm
