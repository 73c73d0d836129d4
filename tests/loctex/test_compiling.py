"""torch.compile ahead of the first step: the same losses, and a sentence where it fails."""

import dataclasses
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from loctex import settings
from loctex.jobs import gpus
from loctex.jobs.run import Run
from loctex.model import build
from loctex.settings import presets
from loctex.training import compiling, prepare, step
from loctex.training import optimizer as optimizers
from loctex.training.loop import train
from tests.benchmarks.step import made_batch
from tests.loctex.small import small

CPU = torch.device("cpu")
VALUES = {
    "data": {"image_size": 64, "max_tokens": 24},
    "model": {
        "backbone": "resnet18",
        "backbone_options": {"layers": [1, 1], "channels": [32, 64]},
        "text_layers": 1,
        "text_width": 64,
        "text_heads": 2,
        "embedding": 64,
        "attention": 64,
        "text_dropout": 0.0,
    },
    # slow enough that a rounding does not become another way down: fusing rounds bf16 less often
    "train": {"learning_rate": 3e-4, "text_learning_rate": 1e-5, "warmup_steps": 0},
}


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    """Each test compiles for itself, and leaves the process as it was."""
    torch._dynamo.reset()
    yield
    torch.compiler.set_stance("default")
    torch._dynamo.reset()


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Path:
    """What one test compiled need not be compiled by the next."""
    return tmp_path_factory.mktemp("studio") / "runs"


def losses_of(chosen: settings.Settings, folder: Path, num_steps: int) -> list[float]:
    """Of so many steps on one batch of eight, with text of one length where it is compiled."""
    torch.manual_seed(0)
    model = prepare.place(build.build(chosen, 10_000, 0), chosen.train, CPU)
    batch = made_batch(8, chosen, *model.grids())
    compiling.compile_encoders(model, chosen, CPU, 8, folder)
    optimizer = optimizers.make(model, chosen.train)
    losses = []
    for number in range(1, num_steps + 1):
        optimizers.set_learning_rates(optimizer, chosen.train, number)
        optimizer.zero_grad(set_to_none=True)
        terms = step.backward(model, batch, chosen, seed=(0, number, 0))
        optimizers.update(model, optimizer, chosen.train.clip)
        losses.append(float(terms["loss"].detach()))
    return losses


@pytest.mark.parametrize("precision", ["bf16", pytest.param("fp32", marks=pytest.mark.slow)])
def test_compiled_and_eager_losses_agree_over_twenty_steps(runs, monkeypatch, precision):
    """Backbone and text encoder, as on a GPU."""
    monkeypatch.setattr(compiling, "compiles_text", lambda device: True)
    chosen = settings.with_values(presets.TINY, VALUES)
    chosen = settings.with_values(chosen, {"train": {"precision": precision}})
    monkeypatch.setattr(step, "autocast", lambda device, kind: autocast(kind))  # any processor
    eager = losses_of(chosen, runs / "a", 20)
    compiled = settings.with_values(chosen, {"train": {"compile": True}})
    torch._dynamo.utils.counters.clear()
    fused = losses_of(compiled, runs / "b", 20)
    counted = torch._dynamo.utils.counters
    assert counted["stats"]["unique_graphs"] >= 1, "nothing was compiled"
    assert eager[0] - min(eager) > 0.05, "it learns"
    assert fused == pytest.approx(eager, rel=1e-2)
    assert len(list((runs / ".cache" / "compiled").iterdir())) > 1, "kept on disk"


def autocast(precision: str) -> torch.autocast:
    return torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16")


def test_captions_padded_to_one_length_are_read_as_before():
    chosen = settings.with_values(presets.TINY, VALUES)
    model = build.build(chosen, 10_000, 0).train()
    tokens = made_batch(8, chosen, *model.grids()).tokens[:, :11]
    with torch.no_grad():
        plain = model.read(tokens)
        model.padded_length = 24
        padded = model.read(tokens)
    assert padded.shape == plain.shape == (8, 11, 64)
    real = tokens != model.config.pad_token_id
    torch.testing.assert_close(padded[real], plain[real], atol=1e-5, rtol=0)


def test_a_trial_leaves_weights_statistics_and_random_numbers_as_they_were(runs):
    chosen = settings.with_values(presets.TINY, VALUES)
    chosen = settings.with_values(chosen, {"train": {"compile": True, "accumulate": 2}})
    model = prepare.place(build.build(chosen, 10_000, 0), chosen.train, CPU)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    torch.manual_seed(5)
    state = torch.get_rng_state()
    assert compiling.compile_encoders(model, chosen, CPU, 16, runs / "c")
    assert torch.equal(torch.get_rng_state(), state)
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name]), name
    assert all(parameter.grad is None for parameter in model.parameters())


def test_what_cannot_be_compiled_is_a_sentence_and_trains(tmp_path, snapshot, monkeypatch, caplog):
    from torch._inductor import exc

    def fail(*_: object, **__: object) -> None:
        raise exc.InvalidCxxCompiler()

    monkeypatch.setattr(compiling, "_run_once", fail)
    run = Run(tmp_path / "runs" / "one")
    with caplog.at_level(logging.WARNING, "loctex"):
        outcome = train(small(snapshot, train__compile=True, train__steps=2), run)
    assert outcome["is_done"]
    (message,) = [m for m in caplog.messages if "cannot be compiled" in m]
    assert "C++ compiler" in message and "--train.compile false" in message


def test_auto_compiles_on_a_gpu_where_the_run_is_long_enough(monkeypatch):
    class Properties:
        uuid = "1234"

    asked_for = []

    def bandwidth(uuid: str) -> float:
        asked_for.append(uuid)
        return 3.35e12

    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: Properties)
    monkeypatch.setattr(gpus, "bandwidth", bandwidth)
    card = torch.device("cuda", 0)

    def decide(steps: int, device: torch.device = card, expected: float | None = None) -> bool:
        values = {"train": {"compile": "auto", "steps": steps}}
        chosen = settings.with_values(presets.PRESETS["r50"], values)
        return compiling._is_asked_for(chosen, device, 256, expected)

    # 256 pairs in .092 s, of which a quarter is won: 240 s after 10,500 steps
    assert not decide(9_000) and decide(12_000)
    assert decide(9_000, expected=30.0), "what it took here counts, once it is known"
    assert not decide(10_000_000, CPU)
    assert set(asked_for) == {"GPU-1234"}


def test_a_cards_speed_is_guessed_by_its_memory(monkeypatch):
    from loctex.training import estimate

    r50 = presets.PRESETS["r50"]
    assert estimate.pairs_per_second(r50, None) == pytest.approx(2796, rel=1e-3)
    assert estimate.pairs_per_second(r50, 4.8e12) == pytest.approx(4006, rel=1e-3)
    larger = dataclasses.replace(r50, data=dataclasses.replace(r50.data, image_size=448))
    assert estimate.pairs_per_second(larger, None) < 2796 / 2.5
