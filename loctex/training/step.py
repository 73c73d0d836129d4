"""One step: the losses of a batch and their gradients, at once or in chunks.

In chunks (GradCache, Gao et al., 2021) the contrastive loss still sees the whole batch: all
embeddings first, without graph; their gradients from the loss of the whole; then each chunk again,
with the same random states, carrying its share back. Batch-norm statistics are per chunk and per
process; the running ones advance once a step, by the chunks' mean. The losses of the fusion
encoder are computed in the second pass, and draw their hard negatives inside a chunk.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from loctex import distributed
from loctex.loading import augment
from loctex.loading.collate import Batch
from loctex.loading.frozen_features import crop
from loctex.model import losses
from loctex.model.config import LocTexConfig
from loctex.model.fusion_losses import fused_losses
from loctex.model.losses import Candidates
from loctex.model.model import LocTexModel, Output
from loctex.model.momentum import MomentumEncoders
from loctex.settings import Settings


def backward(
    model: nn.Module,
    batch: Batch,
    settings: Settings,
    *,
    seed: tuple[int, ...],
    momentum: MomentumEncoders | None = None,
    softness: float = 0.0,
) -> dict[str, Tensor]:
    """Adds the gradients of one batch to the parameters; returns its loss terms, detached.

    model: bare, compiled or parallel. seed: of dropout and of what is drawn, in this step and
    process. softness: share of the contrastive target that the momentum encoders make.
    """
    counts = totals(batch)
    chunks = batch.split(settings.train.accumulate)

    candidates = None
    if momentum:
        slow = [
            encode_slowly(momentum, chunk, settings, (*seed, i)) for i, chunk in enumerate(chunks)
        ]
        slow_image = torch.cat([image for image, _ in slow])
        slow_text = torch.cat([text for _, text in slow])
        candidates = momentum.candidates(slow_image, slow_text, batch.keys)

    context = BatchContext(batch.keys, counts, candidates, softness)
    if len(chunks) == 1:
        contrastive, sums = at_once(model, batch, settings, seed, context)
    else:
        contrastive, sums = in_chunks(model, chunks, settings, seed, context)

    terms = {"loss_contrastive": contrastive.detach()}
    loss = settings.loss.contrastive_weight * contrastive.detach()
    for name, value in sums.items():
        terms[f"loss_{name}"] = distributed.total(value) / counts[COUNTED[name]].clamp_min(1)
        loss = loss + getattr(settings.loss, f"{name}_weight") * terms[f"loss_{name}"]

    if "localization" in sums:
        terms["grounded"] = counts["grounded"].float()
    return {"loss": loss, **terms}


COUNTED = {  # what the sum of each loss is divided by, over the whole batch
    "localization": "grounded",
    "fusion_localization": "grounded",
    "matching": "pairs",
    "soft_mask": "pairs",
    "changed_word": "pairs",
    "masked_words": "hidden",
}


@dataclass
class BatchContext:
    """What a chunk must know of the batch of all processes."""

    keys: Tensor  # (B, 2) of this process, as `Batch.keys`
    counts: dict[str, Tensor]
    candidates: Candidates | None
    softness: float


def totals(batch: Batch) -> dict[str, Tensor]:
    """Grounded tokens, pairs and tokens of hidden words, over all processes."""
    grounded = (batch.target.flatten(2).sum(-1) > 0).sum()
    hidden = torch.zeros_like(grounded) if batch.hidden_at is None else (batch.hidden_at > 0).sum()
    counted = torch.stack((grounded, torch.full_like(grounded, len(batch.key)), hidden))
    return dict(zip(("grounded", "pairs", "hidden"), distributed.total(counted), strict=True))


def at_once(
    model: nn.Module, batch: Batch, settings: Settings, seed: tuple[int, ...], context: BatchContext
) -> tuple[Tensor, dict[str, Tensor]]:
    """`backward` of an undivided batch; returns the contrastive loss and the others' sums."""
    bare = unwrap(model)
    output = forward(model, batch, settings, (*seed, 0))
    contrastive = match(output.image, output.text, bare, settings, context)
    sums = local_losses(output, batch, bare, settings)
    weighted = settings.loss.contrastive_weight * contrastive + total(sums, settings, context)
    weighted.backward()
    return contrastive, {name: value.detach() for name, value in sums.items()}


def in_chunks(
    model: nn.Module,
    chunks: list[Batch],
    settings: Settings,
    seed: tuple[int, ...],
    context: BatchContext,
) -> tuple[Tensor, dict[str, Tensor]]:
    """`backward` chunk by chunk; returns as `at_once`."""
    bare = unwrap(model)
    with torch.no_grad(), frozen_statistics(bare):
        outputs = [forward(bare, chunk, settings, (*seed, i)) for i, chunk in enumerate(chunks)]

    image = torch.cat([output.image for output in outputs]).requires_grad_()
    text = torch.cat([output.text for output in outputs]).requires_grad_()
    contrastive = match(image, text, bare, settings, context)
    (settings.loss.contrastive_weight * contrastive).backward()  # also to the temperature

    # The loss of the whole has reached the embeddings; now each chunk carries its share back.
    assert image.grad is not None and text.grad is not None

    sizes = [len(chunk.key) for chunk in chunks]
    summed: dict[str, Tensor] = {}
    with mean_statistics(bare) as turn:
        for i, (chunk, image_gradient, text_gradient) in enumerate(
            zip(chunks, image.grad.split(sizes), text.grad.split(sizes), strict=True)
        ):
            turn(i)
            is_parallel = isinstance(model, DistributedDataParallel)
            waits = is_parallel and i < len(chunks) - 1
            with cast(DistributedDataParallel, model).no_sync() if waits else nullcontext():
                output = forward(model, chunk, settings, (*seed, i))
                sums = local_losses(output, chunk, bare, settings)
                carried = (output.image * image_gradient).sum()
                carried = carried + (output.text * text_gradient).sum()
                carried = carried + 0 * bare.scale  # DistributedDataParallel waits for each one
                (carried + total(sums, settings, context)).backward()

            for name, value in sums.items():
                summed[name] = summed.get(name, 0.0) + value.detach()
    return contrastive, summed


def total(sums: dict[str, Tensor], settings: Settings, context: BatchContext) -> Tensor | float:
    """The weighted losses of a chunk, so that those of all chunks and processes make the whole."""
    ranks = distributed.num_ranks()  # DistributedDataParallel averages, we want sums
    result = 0.0
    for name, value in sums.items():
        count = context.counts[COUNTED[name]].clamp_min(1)
        result = result + getattr(settings.loss, f"{name}_weight") * value * ranks / count
    return result


def forward(model: nn.Module, batch: Batch, settings: Settings, seed: tuple[int, ...]) -> Output:
    """The model's answer to a batch or chunk, with the dropout of `seed`."""
    start_random(seed)
    tokens, guessing = batch.tokens, None
    if settings.data.mask_captions:
        assert batch.hidden is not None  # the collate hides words where this is set
        tokens = batch.hidden
    elif settings.loss.masked_words_weight > 0:
        guessing = batch.hidden

    device, config = batch.image.device, unwrap(model).config
    with autocast(device, settings.train.precision):
        if batch.maps is not None:
            seen = seen_maps(batch)
            return model(batch.image, tokens, batch.lengths, guessing, batch.changed, seen)
        return model(pixels(batch, config), tokens, batch.lengths, guessing, batch.changed)


def start_random(seed: tuple[int, ...]) -> None:
    """What is drawn on the device from here on depends on `seed` alone."""
    torch.manual_seed(int(np.random.SeedSequence(seed).generate_state(1, np.uint64)[0]))


def local_losses(
    output: Output, batch: Batch, bare: LocTexModel, settings: Settings
) -> dict[str, Tensor]:
    """The sums of the losses that need this chunk alone, by name; those of weight 0 are left out.

    The contrastive loss needs the others too: `match`.
    """
    sums = {}
    if settings.loss.localization_weight > 0:
        sums["localization"] = localize(output, batch, bare, settings)
    if bare.fusion is not None:
        with autocast(batch.image.device, settings.train.precision):
            sums |= fused_losses(bare, output, batch, settings)
    return sums


def encode_slowly(
    momentum: MomentumEncoders, batch: Batch, settings: Settings, seed: tuple[int, ...]
) -> tuple[Tensor, Tensor]:
    """The momentum encoders' embeddings of a batch or chunk, with the dropout of `seed`."""
    start_random(seed)
    with autocast(batch.image.device, settings.train.precision):
        if batch.maps is not None:
            return momentum.encode(batch.image, batch.tokens, batch.lengths, seen_maps(batch))
        images = pixels(batch, momentum.model.config)
        return momentum.encode(images, batch.tokens, batch.lengths)


def pixels(batch: Batch, config: LocTexConfig) -> Tensor:
    """(B, 3, H, W) as the backbone wants them, distorted as drawn."""
    return augment.apply_to_pixels(
        batch.image,
        batch.flip,
        batch.color,
        batch.contrast,
        batch.distortion,
        mean=config.pixel_mean,
        std=config.pixel_std,
    )


def seen_maps(batch: Batch) -> list[Tensor]:
    """The frozen backbone's maps of the batch's images, cropped and mirrored as drawn."""
    assert batch.maps is not None and batch.crop is not None
    return [crop(scale.float(), batch.crop, batch.flip) for scale in batch.maps]


def match(
    image: Tensor, text: Tensor, bare: LocTexModel, settings: Settings, context: BatchContext
) -> Tensor:
    """The contrastive loss over the batches of all processes; the same value in each."""
    image, text, keys = (distributed.gather(tensor) for tensor in (image, text, context.keys))
    return losses.contrastive(
        image,
        text,
        bare.scale,
        keys,
        context.candidates,
        focal=settings.loss.focal,
        softness=context.softness,
    )


def localize(output: Output, batch: Batch, bare: LocTexModel, settings: Settings) -> Tensor:
    """The localization loss summed over this batch's grounded tokens, the mean over scales.

    The last stage counts 1, those before it `fine_weight`.
    """
    loss = losses.LOCALIZATION[settings.loss.localization]
    weights = [settings.loss.fine_weight] * (len(output.cosine) - 1) + [1.0]
    scales = zip(weights, output.cosine, bare.attention_heads(), strict=True)
    values = [
        weight * loss(cosine, losses.at_grid(batch.targets, cosine.shape[-1]), head.scale)[0]
        for weight, cosine, head in scales
    ]
    return cast(Tensor, sum(values)) / sum(weights)


def unwrap(model: nn.Module) -> LocTexModel:
    """The model below DistributedDataParallel and torch.compile."""
    bare: nn.Module = model.module if isinstance(model, DistributedDataParallel) else model
    return cast(LocTexModel, getattr(bare, "_orig_mod", bare))


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """bf16 where the device has it in hardware; everything else computes in float32."""
    if device.type == "cuda":
        has_bf16 = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        has_bf16 = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16" and has_bf16)


def _norms(model: nn.Module) -> list[Any]:  # _BatchNorm, whose buffers are declared optional
    """The batch norms that keep running statistics in this mode."""
    kind = nn.modules.batchnorm._BatchNorm
    norms = [module for module in model.modules() if isinstance(module, kind)]
    return [norm for norm in norms if norm.track_running_stats and norm.training]


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
def mean_statistics(model: nn.Module) -> Iterator[Callable[[int], None]]:
    """The running statistics take one step, towards the mean over all chunks seen inside.

    Gives a function to be called with the number of each chunk, from 0, before it is seen.
    """
    norms = _norms(model)
    before = [(n.momentum, n.running_mean.clone(), n.running_var.clone()) for n in norms]
    steps = [n.num_batches_tracked.clone() for n in norms]

    def turn(number: int) -> None:
        for norm in norms:  # momentum None means the same, but waits for the device
            norm.momentum = 1 / (number + 1)

    yield turn
    for norm, (momentum, mean, variance), step in zip(norms, before, steps, strict=True):
        norm.momentum = momentum
        norm.running_mean.copy_(mean.lerp(norm.running_mean, momentum))
        norm.running_var.copy_(variance.lerp(norm.running_var, momentum))
        norm.num_batches_tracked.copy_(step + 1)
