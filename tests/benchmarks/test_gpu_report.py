"""The report for a card: whole at a small size on a processor, and honest about what is missing."""

import json

import pytest

from tests.benchmarks import gpu

CHEAP = ("data", "train-r50", "resume-r50", "latency")


def test_trainings_with_everything_on_are_resumed_and_measured(tmp_path, monkeypatch):
    """The stages that take seconds, really run; the slow test below runs them all."""
    plan = [stage for stage in gpu.stages(tmp_path, True) if stage.name in CHEAP]
    monkeypatch.setattr(gpu, "stages", lambda to, is_cpu: plan)
    report = gpu.report_on(tmp_path, minutes=5, is_cpu=True)
    assert [report["stages"][name]["code"] for name in CHEAP] == [0, 0, 0, 0]
    assert report["stages"]["latency"]["milliseconds"] > 0
    assert json.loads((tmp_path / "report.json").read_text()) == report
    assert "| resume-r50 |" in (tmp_path / "report.md").read_text()


@pytest.mark.slow
def test_the_whole_report_runs_at_a_small_size_on_a_processor(tmp_path):
    report = gpu.report_on(tmp_path, minutes=20, is_cpu=True)["stages"]
    problems = {name: result["problem"] for name, result in report.items() if "problem" in result}
    assert problems == {"tests": "not run: they need a CUDA device"}
    assert report["memory"]["counted_gib"] > 0 and report["peer"]["ratio"] > 0


def test_a_report_goes_on_where_it_was_stopped_and_leaves_nothing_out_in_silence(tmp_path):
    asked = []

    def perform(stage, to, seconds):
        asked.append(stage.name)
        if stage.name == "train-r50" and asked.count("train-r50") == 1:
            return {"seconds": 1.0, "code": 1, "problem": "it broke"}
        return {"seconds": 1.0, "code": 0}

    first = gpu.report_on(tmp_path, minutes=1, is_cpu=False, perform=perform)["stages"]
    names = [stage.name for stage in gpu.stages(tmp_path, False)]
    assert [*first] == names
    assert first["detector"]["problem"] == "not run: train-r50 did not end well"
    assert "**it broke**" in (tmp_path / "report.md").read_text()
    num_asked = len(asked)
    second = gpu.report_on(tmp_path, minutes=1, is_cpu=False, perform=perform)["stages"]
    assert asked[num_asked:] == ["train-r50", "resume-r50", "detector", "latency", "memory"]
    assert all(result["code"] == 0 for result in second.values())


def test_time_that_is_over_and_a_stage_without_an_answer_are_said(tmp_path):
    over = gpu.report_on(tmp_path / "a", minutes=0, is_cpu=False, perform=lambda *_: {"code": 0})
    assert over["stages"]["step"] == {"problem": "not run: the 0 minutes were over"}
    (tmp_path / "b").mkdir()
    hangs = gpu.Stage(
        "hangs", ["-c", "import time; print('ratio 1.5', flush=True); time.sleep(60)"]
    )
    result = gpu.perform(hangs, tmp_path / "b", seconds=3)
    assert result["problem"] == "no answer in 3 s" and result["ratio"] == 1.5
