"""A step on a device that has no numbers: what would fail, or wait, on a GPU fails here.

PyTorch's "meta" device refuses an operation of tensors on two devices, as CUDA does, and cannot
answer `.item()`, `.numpy()`, `if tensor:` or an index by a mask, each of which would make a GPU's
step wait for the GPU. What it lacks is stood in for: autocast, and the fused optimizers' kernels.
"""

from contextlib import nullcontext
from functools import partial

import pytest
import torch

from loctex.model import build, losses
from loctex.model.momentum import MomentumEncoders
from loctex.training import optimizer as optimizers
from loctex.training import prepare, step
from loctex.training.meter import Meter
from tests.loctex.small import small
from tests.loctex.test_matching import ALL, batch

DEVICE = torch.device("meta")
PLAIN = {"loss__localization_weight": 1.0}


@pytest.fixture(autouse=True)
def stand_ins(monkeypatch: pytest.MonkeyPatch) -> None:
    real = torch.autocast

    def autocast(kind: str, *arguments: object, **options: object) -> object:
        return nullcontext() if kind == "meta" else real(kind, *arguments, **options)

    monkeypatch.setattr(torch, "autocast", autocast)
    for name in ("SGD", "AdamW"):
        monkeypatch.setattr(torch.optim, name, without_fusing(getattr(torch.optim, name)))


def without_fusing(kind: type[torch.optim.Optimizer]) -> type[torch.optim.Optimizer]:
    class Plain(kind):
        def __init__(self, *arguments: object, fused: bool, **options: object) -> None:
            assert fused, "a step would wait for the flag that leaves an update out"
            super().__init__(*arguments, **options)

        def step(self, closure: object = None) -> None:
            assert self.found_inf.device == DEVICE
            self.grad_scale = self.found_inf = None
            super().step()

    return Plain


def take_step(**values: object) -> dict[str, torch.Tensor]:
    """All that the loop does in one, but for reading what it logs; the losses."""
    chosen = small("none", **values)
    model = prepare.place(build.build(chosen, 300, 0), chosen.train, DEVICE)
    optimizer = optimizers.make(model, chosen.train)
    averaged = prepare.average(model, 0.9)
    momentum = None
    if chosen.loss.queue or chosen.loss.distillation:
        momentum = MomentumEncoders(model, size=chosen.loss.queue, decay=0.99)
    meter = Meter(DEVICE)

    made = batch()  # on the host, as the loader hands it over
    here = made.to(DEVICE)
    optimizers.set_learning_rates(optimizer, chosen.train, 1)
    optimizer.zero_grad(set_to_none=True)
    terms = step.backward(model, here, chosen, seed=(0, 1, 0), momentum=momentum, softness=0.2)
    norm = optimizers.update(model, optimizer, chosen.train.clip)
    meter.add(terms, norm, len(here.key), 1)
    averaged.update_parameters(model)
    if momentum:
        momentum.follow(model)
    return terms


@pytest.mark.parametrize(
    "values",
    [
        PLAIN,
        PLAIN | {"loss__localization": "l2", "train__optimizer": "sgd"},
        PLAIN | {"train__accumulate": 2},
        PLAIN | {"loss__queue": 16, "loss__distillation": 0.4},
        PLAIN | {"train__checkpoint_activations": True},
        PLAIN | {"loss__focal": 2.0, "train__clip": 0.0},
        ALL,
        ALL | {"loss__mask_source": "attention"},
        ALL | {"loss__mask_source": "trace", "train__accumulate": 2},
    ],
    ids=str,
)
def test_a_step_keeps_to_its_device_and_waits_for_nothing(values):
    terms = take_step(**values)
    assert {tensor.device for tensor in terms.values()} == {DEVICE}
    assert "loss_localization" in terms and terms["loss"].shape == ()


def host_tensor(loss: torch.Tensor) -> torch.Tensor:
    return loss * torch.ones(1)  # made on the host; of one dimension, as numbers alone may be mixed


def waits(loss: torch.Tensor) -> torch.Tensor:
    return loss * loss.item()


def waits_by_mask(loss: torch.Tensor) -> torch.Tensor:
    return loss.expand(3)[torch.zeros(3, dtype=torch.bool, device=loss.device)].sum()


@pytest.mark.parametrize("mistake", [host_tensor, waits, waits_by_mask])
def test_the_stand_in_catches_what_a_gpu_would(mistake, monkeypatch):
    plain = losses.contrastive

    def wrong(mistake, *arguments: object, **options: object) -> torch.Tensor:
        return mistake(plain(*arguments, **options))

    monkeypatch.setattr(losses, "contrastive", partial(wrong, mistake))
    with pytest.raises((RuntimeError, NotImplementedError)):
        take_step(**PLAIN)
