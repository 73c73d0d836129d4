"""One step: the losses of a batch and their gradients, at once or in chunks.

In chunks (GradCache, Gao et al., 2021) the contrastive loss still sees the whole batch: all
embeddings first, without graph; their gradients from the loss of the whole; then each chunk again,
with the same random states, carrying its share back. Batch-norm statistics are per chunk and per
process; the running ones advance once a step, by the chunks' mean.
"""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from loctex import augment, distributed, losses
from loctex.dataset import Batch
from loctex.losses import Candidates
from loctex.model import LocTexModel, Output
from loctex.momentum import MomentumEncoders
from loctex.settings import Settings


def backward(
    model: nn.Module,
    batch: Batch,
    wanted: Settings,
    *,
    seed: tuple[int, ...],
    momentum: MomentumEncoders | None = None,
) -> dict[str, Tensor]:
    """Adds the gradients of one batch to the parameters; returns its loss terms, detached.

    model: bare, compiled or parallel. seed: of dropout, in this step and process.
    """
    bare = unwrap(model)
    scale = 1.0 * distributed.num_ranks()  # DistributedDataParallel averages, we want sums
    grounded = distributed.total((batch.target.flatten(2).sum(-1) > 0).sum())
    count = grounded.clamp_min(1)
    chunks = batch.split(wanted.train.accumulate)
    slow = [encode_slowly(momentum, chunk, wanted) for chunk in chunks] if momentum else []
    candidates = None
    if momentum:
        candidates = momentum.candidates(
            *(torch.cat(part) for part in zip(*slow, strict=True)), batch.key
        )
    if len(chunks) == 1:
        output = forward(model, batch, wanted, (*seed, 0))
        contrastive = match(output.image, output.text, bare, batch.key, candidates)
        located = localize(output, batch, bare, wanted)
        total = wanted.loss.contrastive_weight * contrastive
        (total + wanted.loss.localization_weight * located * scale / count).backward()
    else:
        contrastive, located = in_chunks(
            model, chunks, batch.key, wanted, seed, candidates, scale / count
        )
    located = distributed.total(located) / count
    loss = wanted.loss.contrastive_weight * contrastive.detach()
    parts = {"loss_contrastive": contrastive.detach()}
    if wanted.loss.localization_weight > 0:
        loss = loss + wanted.loss.localization_weight * located
        parts |= {"loss_localization": located, "grounded": grounded.float()}
    return {"loss": loss, **parts}


def in_chunks(
    model: nn.Module,
    chunks: list[Batch],
    keys: Tensor,
    wanted: Settings,
    seed: tuple[int, ...],
    candidates: Candidates | None,
    share: Tensor,
) -> tuple[Tensor, Tensor]:
    """`backward` chunk by chunk; returns the contrastive loss and the localization sum."""
    bare = unwrap(model)
    with torch.no_grad(), frozen_statistics(bare):
        outputs = [forward(bare, part, wanted, (*seed, i)) for i, part in enumerate(chunks)]
    image = torch.cat([output.image for output in outputs]).requires_grad_()
    text = torch.cat([output.text for output in outputs]).requires_grad_()
    contrastive = match(image, text, bare, keys, candidates)
    (wanted.loss.contrastive_weight * contrastive).backward()  # also to the temperature
    sizes = [len(part.key) for part in chunks]
    located = contrastive.new_zeros(())
    with mean_statistics(bare):
        for i, (part, image_gradient, text_gradient) in enumerate(
            zip(chunks, image.grad.split(sizes), text.grad.split(sizes), strict=True)
        ):
            is_parallel = isinstance(model, DistributedDataParallel)
            waits = is_parallel and i < len(chunks) - 1
            with model.no_sync() if waits else nullcontext():
                output = forward(model, part, wanted, (*seed, i))
                value = localize(output, part, bare, wanted)
                carried = (output.image * image_gradient).sum()
                carried = carried + (output.text * text_gradient).sum()
                carried = carried + 0 * bare.scale  # DistributedDataParallel waits for each one
                (carried + wanted.loss.localization_weight * value * share).backward()
            located += value.detach()
    return contrastive, located


def forward(model: nn.Module, batch: Batch, wanted: Settings, seed: tuple[int, ...]) -> Output:
    """The model's answer to a batch or chunk, with the dropout of `seed`."""
    torch.manual_seed(int(np.random.SeedSequence(seed).generate_state(1, np.uint64)[0]))
    with autocast(batch.image.device, wanted.train.precision):
        return model(pixels(batch), batch.tokens, batch.lengths)


def encode_slowly(
    momentum: MomentumEncoders, batch: Batch, wanted: Settings
) -> tuple[Tensor, Tensor]:
    """The momentum encoders' embeddings of a batch or chunk."""
    with autocast(batch.image.device, wanted.train.precision):
        return momentum.encode(pixels(batch), batch.tokens, batch.lengths)


def pixels(batch: Batch) -> Tensor:
    return augment.apply_to_pixels(batch.image, batch.flip, batch.color, batch.contrast)


def match(
    image: Tensor, text: Tensor, bare: LocTexModel, keys: Tensor, candidates: Candidates | None
) -> Tensor:
    """The contrastive loss over the batches of all processes; the same value in each."""
    image, text, keys = (distributed.gather(part) for part in (image, text, keys))
    return losses.contrastive(image, text, bare.scale, keys, candidates)


def localize(output: Output, batch: Batch, bare: LocTexModel, wanted: Settings) -> Tensor:
    """The localization loss summed over this batch's grounded tokens, the mean over scales."""
    if wanted.loss.localization_weight == 0:
        return output.image.new_zeros(())
    loss = losses.LOCALIZATION[wanted.loss.localization]
    values = []
    for number, (cosine, head) in enumerate(zip(output.cosine, bare.attention, strict=True)):
        rendered = coarser(batch.target, number).flatten(2)
        values.append(loss(cosine, rendered, head.scale)[0])
    return sum(values) / len(values)


def coarser(target: Tensor, times: int) -> Tensor:
    """(B, T, h, w) counts, summed over 2 x 2 cells `times` times: the next stage's grid."""
    for _ in range(times):
        target = nn.functional.avg_pool2d(target, 2, ceil_mode=True, divisor_override=1)
    return target


def unwrap(model: nn.Module) -> LocTexModel:
    """The model below DistributedDataParallel and torch.compile."""
    model = model.module if isinstance(model, DistributedDataParallel) else model
    return getattr(model, "_orig_mod", model)


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """bf16 where the device has it in hardware; everything else computes in float32."""
    if device.type == "cuda":
        has_bf16 = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        has_bf16 = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16" and has_bf16)


def _norms(model: nn.Module) -> list[nn.modules.batchnorm._BatchNorm]:
    kind = nn.modules.batchnorm._BatchNorm
    return [
        m for m in model.modules() if isinstance(m, kind) and m.track_running_stats and m.training
    ]


@contextmanager
def frozen_statistics(model: nn.Module) -> Iterator[None]:
    """Batch norms use their batch's statistics, and leave the running ones alone."""
    norms = _norms(model)
    for norm in norms:
        norm.track_running_stats = False
    yield
    for norm in norms:
        norm.track_running_stats = True


@contextmanager
def mean_statistics(model: nn.Module) -> Iterator[None]:
    """The running statistics take one step, towards the mean over all batches seen inside."""
    norms = _norms(model)
    before = [(n.momentum, n.running_mean.clone(), n.running_var.clone()) for n in norms]
    steps = [n.num_batches_tracked.clone() for n in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the mean of all
    yield
    for norm, (momentum, mean, variance), step in zip(norms, before, steps, strict=True):
        norm.momentum = momentum
        norm.running_mean.copy_(mean.lerp(norm.running_mean, momentum))
        norm.running_var.copy_(variance.lerp(norm.running_var, momentum))
        norm.num_batches_tracked.copy_(step + 1)
