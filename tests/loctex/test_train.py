import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch

from loctex import settings
from loctex.jobs import checkpoint_files
from loctex.jobs.run import Run
from loctex.loading.mixture import Mixture
from loctex.model import build, losses
from loctex.records.snapshot import Snapshot
from loctex.train import main
from loctex.training import checkpoint
from loctex.training import optimizer as optimizers
from loctex.training.loop import train
from loctex.training.prepare import check_sizes, open_snapshots
from tests.loctex.small import small

ROOT = Path(__file__).parents[2]


def weights(run: Path) -> dict[str, torch.Tensor]:
    return build.load(run / "last").state_dict()


def assert_same_run(one: Path, two: Path) -> None:
    """Weights, optimizer and metrics are equal bit for bit."""
    first, second = weights(one), weights(two)
    for name in first:
        assert torch.equal(first[name], second[name]), name
    states = [checkpoint.load_state((run / "last").resolve()) for run in (one, two)]
    assert_equal(*states)
    rows = [
        [(r["step"], r.get("loss"), r.get("val_auc")) for r in Run(run).metrics()]
        for run in (one, two)
    ]
    assert rows[0] == rows[1]
    assert len(rows[0]) == len(set(rows[0]))


def assert_equal(one: object, two: object, where: str = "state") -> None:
    """Nested states are equal: optimizer, trained weights, momentum encoders, queue, step."""
    if isinstance(one, dict):
        assert one.keys() == two.keys(), where
        for key in one:
            assert_equal(one[key], two[key], f"{where}.{key}")
    elif isinstance(one, list | tuple):
        for place, parts in enumerate(zip(one, two, strict=True)):
            assert_equal(*parts, f"{where}.{place}")
    elif isinstance(one, torch.Tensor):
        assert torch.equal(one, two), where
    else:
        assert one == two, where


@contextmanager
def started(run: Path, wanted: settings.Settings, *more: str) -> Iterator[subprocess.Popen]:
    file = run.parent / "wanted.yaml"
    file.write_text(settings.dump(wanted))
    command = [sys.executable, "-m", "loctex.train", "--run", str(run), "--settings", str(file)]
    with open(run.parent / "printed.txt", "w") as printed:
        process = subprocess.Popen([*command, *more], cwd=ROOT, stderr=printed)
        try:
            yield process
        finally:
            process.kill()
            process.wait()


def wait_for(condition: Callable[[], object], process: subprocess.Popen) -> None:
    end = time.monotonic() + 120
    while not condition():
        assert process.poll() is None, "it ended early"
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.02)


def test_two_identical_runs_give_bitwise_identical_parameters_with_other_thread_counts(
    snapshot, tmp_path
):
    train(small(snapshot), Run(tmp_path / "one"))
    train(small(snapshot, data__threads=3), Run(tmp_path / "two"))
    assert_same_run(tmp_path / "one", tmp_path / "two")


EVERYTHING = {
    "model__text_dropout": 0.1,
    "model__attention_scales": 2,
    "loss__queue": 8,
    "train__ema": 0.9,
    "train__accumulate": 2,
}


CONTRASTIVE = {"loss__localization_weight": 0.0, "loss__learn_temperature": False}


@pytest.mark.parametrize("values", [{"model__text_dropout": 0.1}, EVERYTHING, CONTRASTIVE])
def test_stopped_by_file_and_resumed_equals_undisturbed(snapshot, tmp_path, values):
    wanted = small(snapshot, **values)
    train(wanted, Run(tmp_path / "whole"))
    run = Run(tmp_path / "halved")
    run.request_stop()
    outcome = train(wanted, run)
    assert outcome["step"] == 1 and not outcome["is_done"]
    run.clear_stop()
    outcome = train(wanted, run, "last")
    assert outcome["step"] == 8 and outcome["is_done"]
    assert_same_run(tmp_path / "whole", tmp_path / "halved")


@pytest.mark.slow
def test_killed_between_checkpoints_and_resumed_equals_undisturbed(snapshot, tmp_path):
    wanted = small(snapshot, train__steps=60, train__evaluate_every=0)
    train(wanted, Run(tmp_path / "whole"))
    run = Run(tmp_path / "killed")
    with started(run.path, wanted) as process:
        wait_for(lambda: any(r["step"] >= 6 for r in run.metrics()), process)
        process.kill()
        process.wait()
    assert not run.result_file.exists()
    with started(run.path, wanted, "--resume") as process:
        assert process.wait(300) == 0, (tmp_path / "printed.txt").read_text()
    assert_same_run(tmp_path / "whole", run.path)
    assert json.loads(run.result_file.read_text())["step"] == 60


@pytest.mark.slow
def test_sigterm_writes_a_checkpoint_and_ends_well(snapshot, tmp_path):
    run = Run(tmp_path / "run")
    wanted = small(snapshot, train__steps=5000, train__checkpoint_every=5000)
    with started(run.path, wanted) as process:
        wait_for(run.metrics, process)
        process.send_signal(signal.SIGTERM)
        assert process.wait(120) == 0, (tmp_path / "printed.txt").read_text()
    state = checkpoint.load_state(checkpoint_files.find(run.path, "last"))
    assert 0 < state["step"] < 5000
    assert not run.result_file.exists()


def test_a_run_is_not_overwritten_and_resume_needs_one(snapshot, tmp_path, capsys):
    run = tmp_path / "run"
    train(small(snapshot, train__steps=2), Run(run))
    with pytest.raises(SystemExit, match="holds a run already.*--resume"):
        main(["--run", str(run), "--data", str(snapshot)])
    with pytest.raises(SystemExit, match="has no checkpoint 'last'; train first"):
        main(["--run", str(tmp_path / "none"), "--resume"])


def test_a_run_typed_in_a_second_terminal_is_refused_at_once(snapshot, tmp_path):
    """The first holds it before it imports torch, so the second never does."""
    with started(tmp_path / "run", small(snapshot)) as first:
        run = Run(tmp_path / "run")
        wait_for(run.is_live, first)
        assert not run.metrics(), "it is still loading"
        words = [sys.executable, "-m", "loctex.train", f"--run={run.path}", f"--data={snapshot}"]
        done = subprocess.run(
            [*words[:1], "-X", "importtime", *words[1:]], cwd=ROOT, capture_output=True, text=True
        )
        assert done.returncode == 1 and " torch\n" not in done.stderr
        assert f"error: {run.path} is at work already, in process {first.pid}" in done.stderr


def test_torchrun_starting_it_again_after_a_crash_goes_on_from_the_last_checkpoint(
    snapshot, tmp_path, monkeypatch
):
    wanted, run = small(snapshot), Run(tmp_path / "run")
    (tmp_path / "wanted.yaml").write_text(settings.dump(wanted))
    run.request_stop()
    train(wanted, run)
    run.clear_stop()
    run.settings_file.write_text(settings.dump(wanted))
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "1")
    main(["--run", str(run.path), "--settings", str(tmp_path / "wanted.yaml")])
    assert json.loads(run.result_file.read_text())["step"] == 8
    assert [row["step"] for row in run.metrics() if "loss" in row] == [1, 2, 4, 6, 8]


def test_it_starts_from_an_earlier_run_with_its_tokenizer(snapshot, tmp_path):
    train(small(snapshot), Run(tmp_path / "first"))
    wanted = small(
        snapshot,
        model__init=str(tmp_path / "first"),
        train__steps=1,
        train__learning_rate=0,
        train__text_learning_rate=0,
    )
    train(wanted, Run(tmp_path / "second"))
    before, after = build.load(tmp_path / "first/best"), build.load(tmp_path / "second/last")
    for name, value in before.named_parameters():
        assert torch.equal(value, dict(after.named_parameters())[name]), name
    texts = [
        (tmp_path / name / "tokenizer.json").read_text() for name in ("first/best", "second/best")
    ]
    assert texts[0] == texts[1]


def test_both_forms_of_the_localization_loss_learn(snapshot, tmp_path):
    for form in ("ce", "l2"):
        wanted = small(
            snapshot, loss__localization=form, train__steps=30, train__learning_rate=5e-3
        )
        train(wanted, Run(tmp_path / form))
        rows = [row for row in Run(tmp_path / form).metrics() if "loss_localization" in row]
        assert rows[-1]["loss_localization"] < 0.97 * rows[0]["loss_localization"], form


def test_without_localization_nothing_is_logged_of_it_and_the_maps_do_not_move(snapshot, tmp_path):
    train(small(snapshot, loss__localization_weight=0), Run(tmp_path / "run"))
    assert all("loss_localization" not in row for row in Run(tmp_path / "run").metrics())
    saved = build.load(tmp_path / "run/last")
    assert not saved.config.localized
    torch.manual_seed(small(snapshot).train.seed)
    fresh = build.build(small(snapshot), saved.config.vocab_size, saved.config.pad_token_id)
    assert torch.equal(saved.attention[0].cell.weight, fresh.attention[0].cell.weight)


def test_captions_without_traces_train_with_the_contrastive_part_alone(scenes, tmp_path):
    from data_tools.snapshot import main as freeze

    lines = (scenes / "narratives.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in lines]
    for record in records:
        record["traces"], record["timed_caption"] = [], []
    (tmp_path / "n.jsonl").write_text("".join(json.dumps(r) + "\n" for r in records))
    freeze(
        [
            f"--narratives={tmp_path / 'n.jsonl'}",
            f"--images={scenes / 'images'}",
            f"--to={tmp_path / 'bare'}",
        ]
    )
    train(small(tmp_path / "bare"), Run(tmp_path / "run"))
    rows = [row for row in Run(tmp_path / "run").metrics() if "loss" in row]
    assert all(row["grounded"] == 0 and row["loss_localization"] == 0 for row in rows)
    assert all(np.isfinite(row["loss_contrastive"]) for row in rows)


def test_one_training_image_is_refused_with_the_way_out(snapshot):
    split = Snapshot.open(snapshot).split("train")
    mixture = Mixture([split], [1 / 32], 0)
    assert mixture.num_places() == 1

    with pytest.raises(ValueError, match="at least two"):
        check_sizes(8, mixture.num_places())


def test_a_loss_that_is_not_finite_leaves_the_weights_and_stops_at_the_next_log(
    snapshot, tmp_path, monkeypatch
):
    calls = []

    def broken(*parts, **more):
        calls.append(1)
        return contrastive(*parts, **more) * (float("nan") if len(calls) == 3 else 1)

    contrastive = losses.contrastive
    monkeypatch.setattr(losses, "contrastive", broken)
    with pytest.raises(FloatingPointError, match="at step 3, .*train.learning_rate"):
        train(small(snapshot), Run(tmp_path / "run"))
    assert len(calls) == 4  # steps are logged in twos


def test_an_update_that_is_not_finite_is_left_out(snapshot):
    model = build.build(small(snapshot), 300, 0)
    optimizer = optimizers.make(model, small(snapshot).train)
    optimizers.set_learning_rates(optimizer, small(snapshot).train, 1)
    before = {name: value.clone() for name, value in model.named_parameters()}
    for parameter in model.parameters():
        parameter.grad = torch.full_like(parameter, float("nan"))
    optimizers.update(model, optimizer, 1.0)
    assert all(torch.equal(value, before[name]) for name, value in model.named_parameters())
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizers.update(model, optimizer, 1.0)
    assert not torch.equal(model.text_projection.weight, before["text_projection.weight"])


def test_a_scale_beyond_its_limits_is_taken_back_and_learns_again(snapshot):
    model = build.build(small(snapshot), 300, 0)
    optimizer = optimizers.make(model, small(snapshot, train__optimizer="sgd").train)
    optimizers.set_learning_rates(optimizer, small(snapshot).train, 1)
    with torch.no_grad():
        model.log_scale += 50
        model.attention[0].log_scale -= 50
    optimizers.update(model, optimizer, 1.0)
    assert model.scale.item() == pytest.approx(100) and model.attention[0].scale.item() == 1
    for scale in (model.scale, model.attention[0].scale):
        scale.backward()
    assert model.log_scale.grad > 0 and model.attention[0].log_scale.grad > 0


def test_temperatures_learn_at_the_rate_of_the_text_side(snapshot):
    model = build.build(small(snapshot), 300, 0)
    options = small(snapshot, train__learning_rate=0.2, train__text_learning_rate=1e-3).train
    rates = {
        p: g["highest"] for g in optimizers.make(model, options).param_groups for p in g["params"]
    }
    assert rates[model.log_scale] == rates[model.attention[0].log_scale] == 1e-3
    assert rates[model.image_projection.weight] == 0.2


def test_a_weight_shows_a_snapshot_so_many_times_an_epoch(snapshot):
    opened, weights = open_snapshots([f"{snapshot}=2", f"{snapshot}=0.5"])
    mixture = Mixture([s.split("train") for s in opened], weights, seed=3)
    order = mixture.order(0)
    first, second = order[order[:, 0] == 0], order[order[:, 0] == 1]
    assert len(order) == mixture.num_places() == 64 + 16
    np.testing.assert_array_equal(np.bincount(first[:, 1]), np.full(32, 2))
    assert len(np.unique(second[:, 1])) == 16
    assert not np.array_equal(order, mixture.order(1))
    np.testing.assert_array_equal(order, mixture.order(0))


@pytest.mark.parametrize(
    ("name", "words"),
    [("{s}=many", "not a number"), ("{s}=-1", "above 0"), ("/nowhere", "data_tools.snapshot")],
)
def test_a_wrong_data_argument_is_refused(snapshot, name, words):
    with pytest.raises((ValueError, FileNotFoundError), match=words):
        open_snapshots([name.format(s=snapshot)])


def test_the_checkpoints_of_every_so_many_steps_stay_where_asked_for(snapshot, tmp_path):
    settings = small(snapshot, train__keep_every=3, train__checkpoint_every=2)
    train(settings, Run(tmp_path / "run"))
    folders = {path.name[-1]: path for path in (tmp_path / "run" / "checkpoints").iterdir()}
    ends = {(tmp_path / "run" / name).resolve().name[-1] for name in ("best", "last")}
    assert set(folders) == {"3", "6"} | ends
    for number in {"3", "6"} - ends:
        assert (folders[number] / "model.safetensors").exists()
        assert (folders[number] / "training.pt").exists(), "to resume from"
