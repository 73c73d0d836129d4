"""One training step: ours, and the same model as it comes, eager and in float32.

    python -m tests.benchmarks.step [--cpu] [--compile] [--batch 256]

Forward, both losses, backward, clipping and SGD on the preset r50, 224 px, captions of up to 64
tokens. The plain one is the model as its libraries give it: float32 (TF32 on a GPU), NCHW, fused
attention, each caption padded to the longest.
On a GPU two more figures: the share of the bf16 matrix-product rate of the same run, and the time
with batches from the loader over the time with one batch kept on the device.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch.utils.flop_counter import FlopCounterMode

from loctex import settings
from loctex.loading import tokenization
from loctex.loading.batches import batches
from loctex.loading.collate import Batch, Collate
from loctex.loading.mixture import Mixture
from loctex.model import build
from loctex.records.snapshot import Snapshot
from loctex.settings import Settings, presets
from loctex.training import compiling, prepare, step
from loctex.training import optimizer as optimizers
from tests.benchmarks import made, turns

VOCABULARY = 10_000


def made_batch(
    size: int, wanted: Settings, grid: tuple[int, int], *coarser_grids: tuple[int, int]
) -> Batch:
    """Random pairs: captions as long as those of Localized Narratives, 42 tokens in the mean."""
    random = np.random.default_rng(0)
    longest, pixels = wanted.data.max_tokens, wanted.data.image_size
    lengths = np.sort(np.clip(random.normal(42, 14, size).astype(int), 8, longest))
    lengths[-1] = longest
    is_said = torch.from_numpy(np.arange(longest)[None] < lengths[:, None])
    tokens = torch.from_numpy(random.integers(4, VOCABULARY, (size, longest)))
    counts = torch.from_numpy(random.poisson(0.1, (size, longest, *grid)).astype(np.float32))
    target = counts * is_said[..., None, None]
    return Batch(
        image=torch.from_numpy(random.integers(0, 256, (size, pixels, pixels, 3), dtype=np.uint8)),
        tokens=torch.where(is_said, tokens, 0),
        offsets=torch.zeros(size, longest, 2, dtype=torch.int64),
        target=target,
        coarser=[F.adaptive_avg_pool2d(target, coarser) for coarser in coarser_grids],
        flip=torch.arange(size) % 2 == 0,
        color=torch.eye(3).repeat(size, 1, 1),
        contrast=torch.ones(size),
        key=torch.arange(size),
        caption_key=torch.arange(size),
        lengths=lengths.tolist(),
    )


class Trainer:
    """A model, its optimizer, and the step that takes a batch; plain: the model as it comes."""

    def __init__(
        self,
        wanted: Settings,
        device: torch.device,
        is_plain: bool = False,
        compile_pairs: int = 0,  # of a step, where it is to be compiled by setting
    ) -> None:
        torch.manual_seed(0)
        self.wanted = wanted
        self.model = build.build(wanted, VOCABULARY, 0).to(device).train()
        if not is_plain:
            self.model = prepare.place(self.model, wanted.train, device)
        if compile_pairs:
            folder = Path(tempfile.gettempdir()) / "loctex-benchmarks" / "step"
            compiling.compile_encoders(self.model, wanted, device, compile_pairs, folder)
        self.trained = prepare.wrap(self.model, device)
        self.optimizer = optimizers.make(self.model, wanted.train)
        optimizers.set_learning_rates(self.optimizer, wanted.train, 1)

    def step(self, batch: Batch) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        step.backward(self.trained, batch, self.wanted, seed=(0, 1, 0))
        optimizers.update(self.model, self.optimizer, self.wanted.train.clip)


def finished(call: Callable[[], object], device: torch.device) -> Callable[[], object]:
    """`call`, which then waits for the device."""

    def run() -> None:
        call()
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    return run


def product_rate(device: torch.device, size: int = 8192) -> float:
    """Operations a second of a large bf16 matrix product."""
    a = torch.randn(size, size, device=device, dtype=torch.bfloat16)
    (seconds,) = turns.seconds([finished(lambda: a @ a, device)], 20)
    return 2 * size**3 / seconds


def loader_fed(trainer: Trainer, cached: Batch, device: torch.device, steps: int) -> float:
    """Seconds of `steps` steps on batches from the loader, over those on one cached batch."""
    data, size = trainer.wanted.data, len(cached.key)
    grid, *coarser = trainer.model.grids()
    with tempfile.TemporaryDirectory() as folder:
        split = Snapshot.open(made.snapshot(Path(folder), 4 * size)).split("train")
        words = tokenization.train(split.captions(), VOCABULARY, data.max_tokens)
        collate = Collate(
            tokenizer=words, settings=data, grid=grid, coarser_grids=coarser, is_pinned=True
        )
        source = batches(Mixture([split], [1.0], 0), collate, data, batch_size=size, start=0)
        said = next(source).to(device)  # as long captions in both

        def fed() -> None:
            for _ in range(steps):
                trainer.step(next(source).to(device))

        def kept() -> None:
            for _ in range(steps):
                trainer.step(said)

        from_loader, from_device = turns.seconds(
            [finished(fed, device), finished(kept, device)], turns=5
        )
        source.close()
    return from_loader / from_device


def operations(trainer: Trainer, batch: Batch) -> int:
    """Multiplications and additions of one step, counted by torch (of the uncompiled model)."""
    with FlopCounterMode(display=False) as counter:
        step.backward(trainer.model, batch, trainer.wanted, seed=(0, 1, 0))
    return counter.get_total_flops()


def pair_of_trainers(given: argparse.Namespace, device: torch.device) -> tuple[Trainer, Trainer]:
    """Plain and ours."""
    base = presets.PRESETS[given.preset]
    plain = settings.with_values(base, {"train": {"precision": "fp32"}})
    feed = {"threads": given.threads, "processes": given.processes}
    more = {"train": {"compile": given.compile}, "data": feed}
    ours = settings.with_values(base, more)
    num_compiled = size_of(given) if given.compile else 0
    return Trainer(plain, device, is_plain=True), Trainer(ours, device, compile_pairs=num_compiled)


def size_of(given: argparse.Namespace) -> int:
    """Pairs of a step."""
    return given.batch or (16 if given.cpu else 256)


def parser(name: str, description: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=f"python -m tests.benchmarks.{name}",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--cpu", action="store_true", help="on the processor, batches of 16")
    parser.add_argument("--compile", action="store_true", help="ours by torch.compile")
    parser.add_argument("--batch", type=int, help="pairs [256; 16 on the processor]")
    parser.add_argument("--preset", choices=sorted(presets.PRESETS), default="r50")
    parser.add_argument("--turns", type=int, help="[20; 3 on the processor]")
    parser.add_argument("--threads", type=int, default=8, help="decoding threads [8]")
    parser.add_argument("--processes", type=int, default=0, help="of the loader, with threads each")
    return parser


def device_of(given: argparse.Namespace) -> torch.device:
    if not given.cpu and not torch.cuda.is_available():
        sys.exit("error: PyTorch sees no GPU here; add --cpu")
    return torch.device("cpu" if given.cpu else "cuda")


def main(arguments: Sequence[str] | None = None) -> None:
    given = parser("step", __doc__).parse_args(arguments)
    device = device_of(given)
    size, count = size_of(given), given.turns or (3 if given.cpu else 20)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    plain, ours = pair_of_trainers(given, device)
    batch = made_batch(size, ours.wanted, *ours.model.grids()).to(device)
    longest = [batch.tokens.shape[1]] * size
    padded = Batch(**(vars(batch) | {"lengths": longest}))  # one group
    slow, fast = turns.seconds(
        [finished(lambda: plain.step(padded), device), finished(lambda: ours.step(batch), device)],
        count,
    )
    print(f"{size} pairs a step; plain {size / slow:,.1f} pairs/s, ours {size / fast:,.1f}")
    if device.type == "cuda":
        rate = operations(ours, batch) / fast
        print(
            f"{torch.cuda.get_device_name(device)}, {time.strftime('%Y-%m-%d')}; "
            f"peak memory {torch.cuda.max_memory_allocated(device) / 2**30:.1f} GiB"
        )
        print(f"share of the bf16 matrix-product rate {rate / product_rate(device):.3f}")
        print(f"loader-fed over cached {loader_fed(ours, batch, device, steps=10):.3f}")
    print(f"ratio {slow / fast:.2f}")


if __name__ == "__main__":
    main()
