"""Each benchmark runs, here at toy size, and ends in its ratio. Figures: docs/RESULTS.md."""

import importlib
import json
import re
import warnings

import numpy as np
import pytest
import torch

from loctex.jobs.run import Run
from loctex.settings import presets
from loctex.training import loop
from tests.benchmarks import ablation, paired, trial

TOYS = {
    "images": ["--count=2", "--turns=1"],
    "loader": ["--count=8", "--batch=4", "--turns=1"],
    "targets": ["--count=2", "--turns=1"],
    "records": ["--count=8", "--turns=1"],
    "step": ["--cpu", "--preset=tiny", "--batch=4", "--turns=1"],
    "parts": ["--cpu", "--preset=tiny", "--batch=4", "--turns=1", "--parts", "mask by gradcam"],
    "saves": ["--people=2", "--seconds=2", "--turns=1", "--databases", "sqlite"],
    "peer": ["--cpu", "--preset=tiny", "--batch=2", "--turns=1"],
}


@pytest.mark.parametrize("name", TOYS)
def test_a_benchmark_ends_in_its_ratio(name, capsys):
    threads = torch.get_num_threads()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # other people's packages: open_clip's, a DataLoader's
        importlib.import_module(f"tests.benchmarks.{name}").main(TOYS[name])
    torch.set_num_threads(threads)
    last = capsys.readouterr().out.splitlines()[-1]
    assert re.fullmatch(r"ratio \d+(\.\d+)?", last) and float(last.split()[1]) > 0


def test_the_ablation_goes_on_from_one_run_a_seed_and_trains_nothing_twice(
    snapshot, tmp_path, capsys
):
    settings = presets.with_values(presets.TINY, {"data": {"snapshots": [str(snapshot)]}})
    for seed in (0, 1):
        few = {"train": {"steps": 1, "batch_size": 4, "evaluate_every": 0, "seed": seed}}
        run = Run(tmp_path / f"plain-{seed}")
        loop.train(presets.with_values(settings, few), run)
    arguments = [
        f"--data={snapshot}",
        f"--init={tmp_path}/plain-{{seed}}",
        f"--to={tmp_path / 'runs'}",
        "--seeds=0",
        "1",
        "--steps=1",
        "--batch=4",
        "--runs=plain",
        "matching",
    ]
    arguments = [word for argument in arguments for word in argument.split("=", 1)]
    ablation.main(arguments)
    printed = capsys.readouterr().out
    assert "| | plain | matching |" in printed
    reranked = next(line for line in printed.splitlines() if "text_r1_reranked" in line)
    assert re.fullmatch(r"\| image_to_text_r1_reranked \|  \| [.\d]+ ± [.\d]+ \|", reranked)

    files = sorted((tmp_path / "runs").rglob("result.json"))
    assert len(files) == 4
    times = [file.stat().st_mtime_ns for file in files]
    ablation.main(arguments)
    assert [file.stat().st_mtime_ns for file in files] == times


def test_without_a_gpu_the_step_says_the_way_out(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    step = importlib.import_module("tests.benchmarks.step")
    with pytest.raises(SystemExit, match="no GPU here; add --cpu"):
        step.main([])


def test_the_trials_table_gives_mean_and_spread_over_seeds(tmp_path):
    for seed, (pointing, ap) in enumerate([(0.5, 0.2), (0.7, 0.4)]):
        run = tmp_path / "runs" / f"loctex-{seed}"
        files = {
            "evaluations/coco-val-last": {"metrics": {"pointing_region": pointing}},
            "transfer/voc07-last": {"rows": [{"map": 0.1}, {"map": ap}]},
        }
        for place, result in files.items():
            (run / place).mkdir(parents=True)
            (run / place / "result.json").write_text(json.dumps(result))
    rows = trial.table(tmp_path).splitlines()
    assert rows[0] == "| | loctex (2) |"
    assert "| pointing, COCO val | 0.600 ± 0.141 |" in rows
    assert "| VOC linear SVM, mAP | 0.300 ± 0.141 |" in rows
    assert "| energy, COCO val |  |" in rows


def test_the_interval_holds_the_difference_and_is_zero_for_equal_runs():
    random = np.random.default_rng(0)
    one = [random.random(5) for _ in range(200)]
    two = [part - 0.1 + 0.2 * random.random(5) - 0.1 for part in one]
    difference, low, high = paired.interval(one, two)
    assert low < difference < high and high - low < 0.01
    assert difference == pytest.approx(0.1, abs=0.01)
    assert paired.interval(one, one) == (0, 0, 0)
