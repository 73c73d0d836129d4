"""Fuses what the step spends its time on: torch.compile, ahead of the first step.

The backbone is compiled, and on a GPU the text encoder, whose captions are then padded to one
length. Both meet the same shapes at each step, so they are compiled once; what meets others
(validation, film) runs as it is, by `as_it_is`. What was compiled is kept on disk: a second run of
the same model starts at once. Ours.
"""

import hashlib
import json
import logging
import os
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from loctex.jobs import gpus
from loctex.loading import augment
from loctex.model.model import LocTexModel
from loctex.records.files import cache_place, write_whole
from loctex.settings import Settings
from loctex.training import estimate

# What `train.compile auto` reckons with. Neither is measured on a GPU: of an eager step on an H100
# more than half was memory traffic that fusing can take away (docs/RESULTS.md); an H100 gave no
# answer in 110 s while the text encoder was compiled for all lengths.
GAIN = 0.25  # of a step's time
SECONDS = 120.0  # of compiling; once it was done here, what it took

log = logging.getLogger("loctex")


def compile_encoders(
    model: LocTexModel, settings: Settings, device: torch.device, num_pairs: int, folder: Path
) -> bool:
    """Compiles what each step of this process runs; whether that was done.

    num_pairs: of this process in a step. folder: the run's; what is compiled is kept beside it.
    Where something cannot be compiled, a sentence says so and training goes on without.
    """
    cache = cache_place(folder.parent / ".cache" / "compiled", "compiled")
    times = cache / f"{_key(settings, device, num_pairs)}.json"  # seconds that it took last time
    expected = _seconds(times)
    if not _is_asked_for(settings, device, num_pairs, expected):
        return False

    os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(cache)
    log.info("compiling, about %.0f s, once; it is kept in %s", expected or SECONDS, cache)
    start = time.monotonic()

    has_backbone = not settings.model.freeze
    if has_backbone:
        model.backbone.compile(dynamic=False)
    if compiles_text(device):
        model.padded_length = settings.data.max_tokens
        model.text_encoder.compile(dynamic=False)

    try:
        _run_once(model, settings, device, num_pairs, has_backbone)
    except Exception as error:  # of the tracer, the C++ compiler, Triton ...: no base class
        reason = str(error).strip().splitlines() or [type(error).__name__]
        log.warning(
            "train.compile: the model cannot be compiled here (%s); training goes on without it, "
            "only slower. To leave it out at once: --train.compile false",
            reason[0][:300],
        )
        model.padded_length = None
        torch.compiler.set_stance("force_eager")
        return False

    seconds = time.monotonic() - start
    log.info("compiled in %.0f s", seconds)
    with suppress(OSError):  # a full disk: it is compiled again next time
        write_whole(times, json.dumps({"seconds": seconds}))
    return True


def compiles_text(device: torch.device) -> bool:
    """On a processor captions are read in groups of similar length, which is faster."""
    return device.type == "cuda"


def as_it_is() -> AbstractContextManager[None]:
    """Inside it nothing is compiled: other batch sizes would each take minutes."""
    stance: AbstractContextManager[None] = torch.compiler.set_stance("force_eager")
    return stance


def _is_asked_for(
    settings: Settings, device: torch.device, num_pairs: int, expected: float | None
) -> bool:
    if settings.train.compile != "auto":
        return bool(settings.train.compile)
    if device.type != "cuda":
        return False

    card = f"GPU-{torch.cuda.get_device_properties(device).uuid}"
    rate = estimate.pairs_per_second(settings, gpus.bandwidth(card))
    saved = GAIN * settings.train.steps * num_pairs / rate
    return saved > 2 * (expected or SECONDS)


def _key(settings: Settings, device: torch.device, num_pairs: int) -> str:
    """Of what is compiled: another card, version, model or shape is another one."""
    card = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    parts = (
        torch.__version__,
        card,
        settings.model,
        settings.data.image_size,
        settings.data.max_tokens,
        settings.train.precision,
        num_pairs,
        settings.train.accumulate,
    )
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


def _seconds(times: Path) -> float | None:
    try:
        return float(json.loads(times.read_bytes())["seconds"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _run_once(
    model: LocTexModel,
    settings: Settings,
    device: torch.device,
    num_pairs: int,
    has_backbone: bool,
) -> None:
    """Forward and backward in each shape that comes; weights, statistics and random numbers stay
    as they were."""
    from loctex.training.step import autocast  # which needs what is compiled here

    num_chunks = min(settings.train.accumulate, num_pairs)
    edges = np.linspace(0, num_pairs, num_chunks + 1).astype(int)  # as Batch.split
    with _unchanged(model, device):
        for size in sorted(set(np.diff(edges).tolist())):
            with autocast(device, settings.train.precision):
                outputs: list[Tensor] = []
                if has_backbone:
                    outputs += model.backbone(_pixels(model, size, device))
                if model.padded_length is not None:
                    tokens = torch.ones(size, model.padded_length, dtype=torch.long, device=device)
                    outputs.append(model.read(tokens))
                total = torch.stack([output.float().mean() for output in outputs]).sum()
            if total.requires_grad:
                total.backward()
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _pixels(model: LocTexModel, size: int, device: torch.device) -> Tensor:
    """As the step makes them: same type, same order in memory."""
    side = model.config.image_size
    return augment.apply_to_pixels(
        torch.zeros(size, side, side, 3, dtype=torch.uint8, device=device),
        torch.zeros(size, dtype=torch.bool, device=device),
        torch.eye(3, device=device).repeat(size, 1, 1),
        torch.ones(size, device=device),
        mean=model.config.pixel_mean,
        std=model.config.pixel_std,
    )


@contextmanager
def _unchanged(model: nn.Module, device: torch.device) -> Iterator[None]:
    """What a trial leaves behind is taken back."""
    buffers = [(buffer, buffer.clone()) for buffer in model.buffers()]
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices):
        yield
    model.zero_grad(set_to_none=True)
    with torch.no_grad():
        for buffer, before in buffers:
            buffer.copy_(before)
