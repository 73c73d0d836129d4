"""What a training will need before it is started: counted on a model that holds no numbers.

The forward pass is taken with fake tensors (shapes only: no memory, no time), which tells what a
pair of image and caption leaves for the backward pass and how much arithmetic it is. Ours.
"""

import math
from dataclasses import dataclass, replace
from functools import lru_cache

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.flop_counter import FlopCounterMode

from loctex import distributed
from loctex.model import build
from loctex.model import model as models
from loctex.settings import DataSettings, ModelSettings, Settings, TrainSettings, presets
from loctex.training import prepare

PROGRAM = {  # bytes before the first parameter
    "cpu": 1250 * 2**20,  # Python and its libraries; measured, see tests/loctex/test_estimate.py
    "cuda": 600 * 2**20,  # what a CUDA context takes of the GPU; not run on a GPU
}
# What one card did, from which others are guessed: an H100 (torch 2.11, docs/RESULTS.md), preset
# r50, a step whose time is mostly memory traffic.
MEASURED_RATE = 2796.0  # pairs a second
MEASURED_BANDWIDTH = 3.35e12  # bytes a second
SPARE = 1.1  # what the backward pass holds for a moment, and gaps between blocks


@dataclass(frozen=True)
class Count:
    """parameters: numbers to learn. constant: bytes beside them, whatever the batch. pair: bytes
    that one pair leaves for the backward pass. flops: of one pair, forward and backward."""

    parameters: int
    constant: float
    pair: float
    flops: float


def count(settings: Settings) -> Count:
    """For captions of the greatest length, so that it is the most a batch can take."""
    return _count(
        replace(settings.model, init="random", backbone_options=_Options(settings.model)),
        DataSettings(image_size=settings.data.image_size, max_tokens=settings.data.max_tokens),
        TrainSettings(
            precision=settings.train.precision,
            checkpoint_activations=settings.train.checkpoint_activations,
        ),
    )


class _Options(dict):
    """The backbone's options, as something a cache can keep."""

    def __init__(self, model: ModelSettings) -> None:
        super().__init__(model.backbone_options)

    def __hash__(self) -> int:  # type: ignore[override]  # a dict has none; that is the point
        return hash(repr(sorted(self.items())))


@lru_cache(maxsize=64)
def _count(model: ModelSettings, data: DataSettings, train: TrainSettings) -> Count:
    settings = Settings(data=data, model=model, train=train)
    with FakeTensorMode():
        built = build.build(settings, model.vocabulary, 0).train()
        built.text_encoder.set_attn_implementation("eager")
        if train.checkpoint_activations:
            prepare.recompute_activations(built)
        (two, flops), (three, _) = (_forward(built, settings, size) for size in (2, 3))
    parameters = sum(parameter.numel() for parameter in built.parameters())
    return Count(parameters, max(0, 3 * two - 2 * three), three - two, 3 * flops / 2)


def _forward(built: models.LocTexModel, settings: Settings, size: int) -> tuple[int, int]:
    """Bytes kept for the backward pass, and the arithmetic of the forward pass."""
    own = {id(parameter) for parameter in built.parameters()}
    storages: dict[int, torch.Tensor] = {}  # by storage; holding them keeps the keys unique

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        if id(tensor) not in own:
            storages[tensor.untyped_storage()._cdata] = tensor
        return tensor

    images = torch.zeros(size, 3, settings.data.image_size, settings.data.image_size)
    tokens = torch.ones(size, settings.data.max_tokens, dtype=torch.long)
    has_bf16 = settings.train.precision == "bf16"
    flops = FlopCounterMode(display=False)
    with (
        saved_tensors_hooks(keep, lambda tensor: tensor),
        torch.autocast("cpu", torch.bfloat16, enabled=has_bf16),
        flops,
    ):
        built(images, tokens)
    num_bytes = sum(tensor.untyped_storage().nbytes() for tensor in storages.values())
    return num_bytes, flops.get_total_flops()


def memory(settings: Settings, num_processes: int = 1, device: str = "cpu") -> float:
    """Bytes that one process will take at most, about: on its GPU, or of the computer."""
    counted = count(settings)
    pairs = settings.train.batch_size / num_processes / settings.train.accumulate
    return PROGRAM[device] + SPARE * (
        _weights(settings, counted) + counted.constant + pairs * counted.pair
    )


def _weights(settings: Settings, counted: Count) -> float:
    """Bytes of the weights, their gradients and all that is kept for each of them."""
    numbers = 2 + (2 if settings.train.optimizer == "adamw" else 1)
    numbers += (settings.train.ema > 0) + (settings.loss.queue > 0)
    return 4 * numbers * counted.parameters + 8 * settings.loss.queue * settings.model.embedding


def largest_batch(
    settings: Settings, capacity: float, num_processes: int = 1, device: str = "cpu"
) -> int:
    """The most pairs a step, in one chunk, that this many bytes have room for; 0: none."""
    counted = count(settings)
    room = (capacity - PROGRAM[device]) / SPARE - _weights(settings, counted) - counted.constant
    return max(0, int(room / counted.pair)) * num_processes


def pairs_per_second(settings: Settings, bandwidth: float | None) -> float:
    """A guess for a GPU on which nothing was run yet: by arithmetic for another model, by the
    bandwidth of its memory (bytes a second) for another card; None: as the one that was measured.
    """
    share = count(presets.PRESETS["r50"]).flops / count(settings).flops
    return MEASURED_RATE * share * (bandwidth or MEASURED_BANDWIDTH) / MEASURED_BANDWIDTH


def what_fits(settings: Settings) -> str:
    """What to do about too little memory: by what is counted, and by what this device has."""
    ranks = distributed.num_ranks()
    share = settings.train.batch_size // ranks
    at_once = math.ceil(share / settings.train.accumulate)
    fits = at_once // 2

    if torch.cuda.is_available():
        free, _ = torch.cuda.mem_get_info()
        room = free + torch.cuda.memory_reserved() + PROGRAM["cuda"]
        fits = largest_batch(settings, room, device="cuda")

    fits = max(2, min(fits, at_once - 1))
    return (
        f"{at_once} pairs at once do not fit, about {fits} would. Set train.accumulate "
        f"{math.ceil(share / fits)} (the same batch, in smaller chunks) or train.batch_size "
        f"{fits * ranks}"
    )
