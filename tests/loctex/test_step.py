"""Whatever way a batch is split, over chunks or processes, its loss and gradients are the same."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from loctex import settings
from loctex.jobs.run import Run
from loctex.loading.collate import Batch
from loctex.model import build, losses
from loctex.model.momentum import MomentumEncoders
from loctex.records.files import locked
from loctex.training import optimizer as optimizers
from loctex.training import step
from tests.loctex.small import BACKBONE, small
from tests.loctex.test_train import assert_same_run

ROOT = Path(__file__).parents[2]


def batch(size=8, tokens=6, grid=4, image=64) -> Batch:
    """Random pairs with unequal numbers of grounded words, from none to all."""
    random = torch.Generator().manual_seed(0)
    target = torch.randint(0, 3, (size, tokens, grid, grid), generator=random).float()
    for row in range(size):
        target[row, row % tokens :] = 0
    return Batch(
        image=torch.randint(0, 256, (size, image, image, 3), dtype=torch.uint8, generator=random),
        tokens=torch.randint(4, 300, (size, tokens), generator=random),
        offsets=torch.zeros(size, tokens, 2, dtype=torch.int64),
        target=target,
        flip=torch.arange(size) % 2 == 0,
        color=torch.eye(3).repeat(size, 1, 1),
        contrast=torch.ones(size),
        key=torch.arange(size) % (size - 1),  # two pairs of one image
        caption_key=torch.arange(size).clamp_min(2),  # three of one caption
        lengths=[tokens] * size,
    )


def group_norm_model(wanted):
    torch.manual_seed(0)
    options = BACKBONE | {"norm_layer": "groupnorm1"}
    changed = small(
        "none", model__backbone_options=options, loss__localization=wanted.loss.localization
    )
    return build.build(changed, 300, 0).train()


def gradients(model) -> dict[str, torch.Tensor]:
    return {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


def assert_close(one: dict, two: dict, tolerance: float = 1e-5) -> None:
    assert one.keys() == two.keys()
    for name in one:
        torch.testing.assert_close(one[name], two[name], atol=tolerance, rtol=1e-3, msg=name)


def run_step(model, wanted, momentum=None, part=None):
    model.zero_grad()
    parts = step.backward(model, part or batch(), wanted, seed=(0, 1, 0), momentum=momentum)
    return parts, gradients(model)


@pytest.mark.parametrize("form", ["ce", "l2"])
def test_four_chunks_give_the_loss_and_gradients_of_one_batch(form):
    wanted = small("none", loss__localization=form, train__precision="fp32")
    chunked = small("none", loss__localization=form, train__precision="fp32", train__accumulate=4)
    model = group_norm_model(wanted)
    whole_parts, whole = run_step(model, wanted)
    parts, split = run_step(model, chunked)
    assert parts["grounded"] == whole_parts["grounded"] > 0
    for name in whole_parts:
        torch.testing.assert_close(parts[name], whole_parts[name], atol=1e-5, rtol=0)
    assert_close(whole, split)


@pytest.mark.slow
def test_four_chunks_equal_one_batch_for_r50_with_batch_norm_in_eval_mode():
    torch.manual_seed(0)
    values = {
        "model__backbone": "resnet50",
        "model__backbone_options": {},
        "train__precision": "fp32",
    }
    model = build.build(small("none", **values), 300, 0).train()
    model.backbone.eval()
    part = batch(grid=2)
    _, whole = run_step(model, small("none", **values), part=part)
    _, split = run_step(model, small("none", train__accumulate=4, **values), part=part)
    assert_close(whole, split)


class HostReads(TorchDispatchMode):
    """Names the operations that make the host wait for the device's answer."""

    WAITING = ("_local_scalar_dense", "nonzero", "equal", "masked_select", "unique")

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if any(func.__name__.startswith(name) for name in self.WAITING):
            self.seen.append(func.__name__)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("values", [{}, {"train__accumulate": 2, "loss__queue": 8}])
def test_no_step_reads_from_the_device(values):
    """On a GPU each such reading would wait for all that was launched before."""
    wanted = small("none", train__clip=1.0, **values)
    torch.manual_seed(0)
    model = build.build(wanted, 300, 0).train()  # with the fused attention of a GPU
    optimizer = optimizers.make(model, wanted.train)
    optimizers.set_learning_rates(optimizer, wanted.train, 1)
    momentum = MomentumEncoders(model, size=8, decay=0.9) if wanted.loss.queue else None
    with HostReads() as reads:
        step.backward(model, batch(), wanted, seed=(0, 1, 0), momentum=momentum)
        optimizers.update(model, optimizer, wanted.train.clip)
    assert reads.seen == []


def test_each_scale_has_its_weight_and_a_transformers_scales_share_a_grid():
    wanted = small("none", model__attention_scales=2, train__precision="fp32")
    torch.manual_seed(0)
    model = build.build(wanted, 300, 0).eval()
    part = batch(grid=8)
    part.coarser = [torch.nn.functional.avg_pool2d(part.target, 2, divisor_override=1)]
    with torch.no_grad():
        output = step.forward(model, part, wanted, (0, 1, 0, 0))
        fine, last = (
            losses.localization_ce(c, losses.at_grid(part.targets, c.shape[-1]), head.scale)[0]
            for c, head in zip(output.cosine, model.attention, strict=True)
        )
    for weight in (1.0, 3.0):
        wanted = small("none", loss__fine_weight=weight, train__precision="fp32")
        found = step.localize(output, part, model, wanted).item()
        wished = (weight * fine + last) / (weight + 1)
        assert found == pytest.approx(wished.item(), rel=1e-5)
    options = {"depth": 2, "img_size": 64}
    vit = small(
        "none",
        model__backbone="vit_tiny_patch16_224",
        model__attention_scales=2,
        model__backbone_options=options,
        train__precision="fp32",
    )
    model = build.build(vit, 300, 0)
    parts, _ = run_step(model, vit, part=batch(grid=4))
    assert model.grids() == [(4, 4), (4, 4)] and torch.isfinite(parts["loss"])


def test_dropout_is_replayed_in_the_second_pass():
    """With dropout, pass 2 must see what pass 1 saw: the carried gradient is that of the loss."""
    wanted = small("none", model__text_dropout=0.5, train__accumulate=2, train__precision="fp32")
    torch.manual_seed(0)
    model = build.build(wanted, 300, 0).train()
    chunk = batch().split(2)[0]
    first = step.forward(model, chunk, wanted, (0, 1, 0, 0))
    second = step.forward(model, chunk, wanted, (0, 1, 0, 0))
    other = step.forward(model, chunk, wanted, (0, 1, 0, 1))
    assert torch.equal(first.text, second.text)
    assert not torch.equal(first.text, other.text)


def test_running_statistics_advance_once_a_step_by_the_mean_of_the_chunks():
    wanted = small("none", train__accumulate=2, train__precision="fp32")
    torch.manual_seed(0)
    model = build.build(wanted, 300, 0).train()
    norm = next(m for m in model.modules() if isinstance(m, torch.nn.BatchNorm2d))
    seen = []
    handle = norm.register_forward_pre_hook(lambda m, x: seen.append(x[0].detach().mean((0, 2, 3))))
    run_step(model, wanted)
    handle.remove()
    assert len(seen) == 4  # two chunks, two passes
    torch.testing.assert_close(
        norm.running_mean, 0.1 * (seen[2] + seen[3]) / 2, atol=1e-6, rtol=1e-4
    )
    assert int(norm.num_batches_tracked) == 1


def test_the_queue_holds_the_last_pairs_in_order_and_never_the_first_step():
    wanted = small("none", loss__queue=12, loss__momentum=0.5, train__precision="fp32")
    model = group_norm_model(wanted)
    momentum = MomentumEncoders(model, size=12, decay=0.5)
    first = batch()
    slow = momentum.encode(step.pixels(first, model.config), first.tokens)
    found = momentum.candidates(*slow, first.keys)
    assert len(found.keys) == 8 and momentum.num_filled == 8
    found = momentum.candidates(*slow, first.keys + 100)
    assert found.keys.tolist() == [*(first.keys + 100).tolist(), *first.keys.tolist()]
    assert (
        momentum.keys.tolist()
        == (first.key + 100).tolist()[4:] + first.key.tolist()[4:] + (first.key + 100).tolist()[:4]
        or momentum.num_filled == 12
    )
    before = momentum.model.image_projection.weight.clone()
    with torch.no_grad():
        model.image_projection.weight += 1
    momentum.follow(model)
    torch.testing.assert_close(momentum.model.image_projection.weight, before + 0.5)


def test_chunks_equal_one_batch_with_momentum_encoders_too():
    wanted = small("none", loss__queue=16, train__precision="fp32")
    chunked = small("none", loss__queue=16, train__precision="fp32", train__accumulate=4)
    model = group_norm_model(wanted)
    results = []
    for each in (wanted, chunked):
        momentum = MomentumEncoders(model, size=16, decay=0.9)
        run_step(model, each, momentum)  # fills the queue
        results.append(run_step(model, each, momentum)[1])
    assert_close(*results)


WORKER = """
import json, sys, torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel
from loctex import distributed
from loctex.training import step
from tests.loctex import test_step as t
from tests.loctex.small import small
device = distributed.start("cpu")
rank = dist.get_rank()
values = {"train__accumulate": int(sys.argv[2]), "loss__queue": int(sys.argv[3])}
wanted = small("none", train__precision="fp32", **values)
model = t.group_norm_model(wanted)
momentum = t.MomentumEncoders(model, size=16, decay=0.9) if wanted.loss.queue else None
part = t.batch().split(2)[rank]
parallel = DistributedDataParallel(model)
for _ in range(2):
    parts, grads = t.run_step(parallel, wanted, momentum, part)
if rank == 0:
    grads = {n.removeprefix("module."): g for n, g in grads.items()}
    torch.save({"parts": parts, "grads": grads}, sys.argv[1])
distributed.stop()
distributed.leave()
"""


@pytest.mark.parametrize(("chunks", "queue"), [(1, 0), (2, 0), (1, 16)])
def test_two_processes_give_the_loss_and_gradients_of_one(tmp_path, chunks, queue):
    script = tmp_path / "worker.py"
    script.write_text(WORKER)
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--nproc-per-node",
        "2",
        "--standalone",
    ]
    done = subprocess.run(
        [*command, str(script), str(tmp_path / "out.pt"), str(chunks), str(queue)],
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    two = torch.load(tmp_path / "out.pt", weights_only=True)
    wanted = small("none", train__precision="fp32", loss__queue=queue)
    model = group_norm_model(wanted)
    momentum = MomentumEncoders(model, size=16, decay=0.9) if queue else None
    for _ in range(2):
        parts, whole = run_step(model, wanted, momentum)
    for name in parts:
        torch.testing.assert_close(two["parts"][name], parts[name], atol=1e-5, rtol=0)
    assert_close(whole, two["grads"])


def environment() -> dict[str, str]:
    return os.environ | {
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
        "GLOO_SOCKET_IFNAME": "lo",
    }


@pytest.mark.slow
def test_two_processes_stopped_and_resumed_equal_undisturbed(snapshot, tmp_path):
    wanted = small(snapshot, loss__queue=8, train__ema=0.9, train__accumulate=2)
    (tmp_path / "wanted.yaml").write_text(settings.dump(wanted))
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--nproc-per-node",
        "2",
        "--standalone",
        "-m",
        "--",
        "loctex.train",
    ]

    def launch(run: str, *more: str) -> None:
        line = [*command, "--run", str(tmp_path / run), *more]
        done = subprocess.run(
            line, cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, done.stderr[-3000:]

    launch("whole", "--settings", str(tmp_path / "wanted.yaml"))
    halved = Run(tmp_path / "halved")
    halved.path.mkdir()
    halved.stop_file.write_text("")  # asked before it starts: a watcher's run heeds it
    with locked(halved.job_lock):
        launch("halved", "--settings", str(tmp_path / "wanted.yaml"))
    assert not halved.result_file.exists() and halved.metrics()[-1]["step"] == 1
    launch("halved", "--resume")
    assert json.loads(halved.result_file.read_text())["step"] == 8
    assert_same_run(tmp_path / "whole", halved.path)
