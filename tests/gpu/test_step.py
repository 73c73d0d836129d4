"""What only a GPU can show. Run with `-m gpu`; each test says which lines it guards."""

import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch

from loctex import settings
from loctex.jobs.run import Run
from loctex.loading import tokenization
from loctex.loading.batches import batches
from loctex.loading.collate import Collate
from loctex.loading.mixture import Mixture
from loctex.records.snapshot import Snapshot
from loctex.settings import presets
from loctex.training import step
from loctex.training.loop import train
from tests.benchmarks.step import Trainer, made_batch
from tests.loctex.small import small

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]


def test_bf16_channels_last_gives_the_gradients_of_float32_on_the_cpu():
    """prepare.place and step.autocast: layout and arithmetic change speed, not what is learned."""
    chosen = settings.with_values(presets.TINY, {"train": {"precision": "bf16"}})
    device = torch.device("cuda")
    fast = Trainer(chosen, device)
    slow = Trainer(
        settings.with_values(chosen, {"train": {"precision": "fp32"}}),
        torch.device("cpu"),
        is_plain=True,
    )
    batch = made_batch(16, chosen, *fast.model.grids())
    losses = [
        step.backward(t.model, b, t.wanted, seed=(0, 1, 0))["loss"].item()
        for t, b in ((fast, batch.to(device)), (slow, batch))
    ]
    assert losses[0] == pytest.approx(losses[1], rel=0.02)
    theirs = dict(slow.model.named_parameters())
    for name, parameter in fast.model.named_parameters():
        if parameter.grad is not None and theirs[name].grad.norm() > 1e-4:
            ours, other = parameter.grad.float().cpu().flatten(), theirs[name].grad.flatten()
            assert torch.cosine_similarity(ours, other, dim=0) > 0.95, name


@pytest.mark.parametrize("processes", [0, 2])
def test_a_batch_is_pinned_as_a_whole_and_copied_without_waiting(snapshot, processes):
    """Collate.is_pinned, and DataLoader's pinning where processes make the batches."""
    chosen = small(snapshot, data__processes=processes)
    split = Snapshot.open(snapshot).split("train")
    words = tokenization.train(split.captions(), 300, 64)
    collate = Collate(tokenizer=words, settings=chosen.data, grid=(4, 4), is_pinned=True)
    source = batches(Mixture([split], [1.0], 0), collate, chosen.data, batch_size=8, start=0)
    batch = next(source)
    source.close()
    tensors = [part for part in vars(batch).values() if isinstance(part, torch.Tensor)]
    assert len(tensors) >= 8 and all(tensor.is_pinned() for tensor in tensors)
    torch.cuda._sleep(2_000_000_000)  # about a second
    start = time.monotonic()
    batch.to("cuda")
    assert time.monotonic() - start < 0.2
    torch.cuda.synchronize()


def test_no_step_waits_for_the_gpu():
    """step.backward and optimizers.update: no .item(), no tensor made on the host."""
    chosen, device = presets.PRESETS["tiny"], torch.device("cuda")
    trainer = Trainer(chosen, device)
    batch = made_batch(16, chosen, *trainer.model.grids()).to(device)
    trainer.step(batch)  # the first one plans its kernels
    with synchronizing_is_an_error():
        trainer.step(batch)


@contextmanager
def synchronizing_is_an_error() -> Iterator[None]:
    """Whatever happens inside, the process's debug mode is as it was afterwards."""
    with warnings.catch_warnings():
        # "a prototype feature and does not yet detect all synchronizing operations"
        warnings.filterwarnings("ignore", "Synchronization debug mode", UserWarning)
        torch.cuda.set_sync_debug_mode("error")
        try:
            yield
        finally:
            torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("values", [{}, {"train__compile": True}, {"train__accumulate": 2}])
def test_a_run_on_the_gpu_learns_and_is_resumed(snapshot, tmp_path, values):
    """The whole loop with film and validation, and checkpoint.restore's maps to the device."""
    chosen = small(snapshot, train__device="cuda", train__steps=30, **values)
    run = Run(tmp_path / "run")
    run.request_stop()
    train(chosen, run)
    run.clear_stop()
    outcome = train(chosen, run, resumed="last")
    rows = [row["loss"] for row in run.metrics() if "loss" in row]
    assert outcome["step"] == 30 and rows[-1] < rows[0]
