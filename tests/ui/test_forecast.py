"""What is said before a start: counts, memory, and time from earlier runs."""

import json
import time

import pytest

from loctex import settings
from loctex.jobs import provenance
from loctex.jobs.run import Run
from loctex.settings import with_values
from loctex.settings.presets import PRESETS
from ui import heavy
from ui.train import forecast
from ui.train.forecast import Amount, amounts, say


def logged(path, chosen: settings.Settings, pairs_per_second: float, gpus=()) -> Run:
    run = Run(path)
    run.path.mkdir(parents=True)
    run.settings_file.write_text(settings.dump(chosen))
    provenance.record(run, [])
    (start,) = provenance.starts(run)
    start["environment"]["gpus"] = list(gpus)
    run.starts_file.write_text(json.dumps(start) + "\n")
    for step in range(6):
        run.log(step, pairs_per_second=pairs_per_second if step else 1.0)
    return run


def test_a_snapshot_is_counted_by_its_manifest(snapshot, tmp_path):
    assert forecast.of_snapshot(snapshot) == Amount(40, 40, 40)
    assert forecast.of_snapshot(snapshot, "train") == Amount(32, 32, 32)
    assert forecast.of_snapshot(tmp_path) == Amount(0, 0, 0)


def test_how_often_an_image_is_seen_counts_no_more_pairs_than_there_are():
    tiny = PRESETS["tiny"]  # 550 steps of 64
    assert "550 steps show each image about 352 times." in amounts(Amount(100, 100, 40), tiny)
    assert "40 with traces" in amounts(Amount(100, 100, 40), tiny)
    assert "show each image about 550 times" in amounts(Amount(10, 10, 10), tiny)
    assert "about 0.4 times" in amounts(Amount(100_000, 100_000, 0), tiny)


def test_a_run_like_it_gives_the_time(tmp_path):
    run = logged(tmp_path / "before", PRESETS["tiny"], 352.0)
    other = logged(tmp_path / "gpu", PRESETS["tiny"], 9999.0, ["H200"])
    said = say(Amount(100, 100, 100), PRESETS["tiny"], [other, run], 0)
    assert "About 2 min, if it is as fast as before." in said  # 550 * 64 / 352 = 100 s
    assert "GB of memory at most" in said
    assert "as fast as gpu" in say(Amount(9, 9, 9), PRESETS["tiny"], [other, run], 1)


def test_a_run_of_another_model_gives_a_guess_by_its_arithmetic(tmp_path):
    run = logged(tmp_path / "before", PRESETS["tiny"], 300.0)
    wider = with_values(PRESETS["tiny"], {"data": {"image_size": 192}})
    pace = forecast.pace(wider, [run], False)
    assert not pace.is_same and 300 / 4.5 < pace.pairs_per_second < 300 / 2
    assert "a rough guess from before" in say(Amount(9, 9, 9), wider, [run], 0)


def spin() -> None:
    while True:
        pass


def test_what_would_take_minutes_ends_in_a_sentence_and_the_next_is_counted():
    assert heavy.bounded(len, "abc") == 3  # torch is imported by now
    began = time.monotonic()
    with pytest.raises(RuntimeError, match="more than 1 seconds to count; make the model smaller"):
        heavy.bounded(spin, seconds=1)
    assert time.monotonic() - began < 8
    assert heavy.bounded(len, "abcd") == 4


def test_a_backbone_of_many_thousand_layers_is_not_forecast_for_hours(monkeypatch):
    options = {"layers": [60_000, 60_000, 60_000, 60_000]}
    absurd = with_values(PRESETS["r50"], {"model": {"backbone_options": options}})
    monkeypatch.setattr(heavy.bounded, "__kwdefaults__", {"seconds": 3.0})
    began = time.monotonic()
    with pytest.raises(RuntimeError, match="make the model smaller"):
        say(Amount(9, 9, 9), absurd, [], 0)
    assert time.monotonic() - began < 40


def test_without_an_earlier_run_the_time_is_not_made_up(tmp_path):
    said = say(Amount(9, 9, 9), PRESETS["tiny"], [Run(tmp_path / "empty")], 0)
    assert "How long it takes shows after its first steps" in said and "min" not in said


@pytest.mark.parametrize("text", ["", "{"])
def test_a_run_without_facts_gives_no_pace(tmp_path, text):
    run = Run(tmp_path)
    run.starts_file.write_text(text)
    assert provenance.starts(run) == []
    assert forecast.pace(PRESETS["tiny"], [run], False) is None
