"""How people speak and point, measured at points where the answer is known."""

import json
import math

import numpy as np
import pytest

from data_tools import pace
from loctex.records.narrative import Narrative, Word, write_jsonl

CAPTION = "a dog and a red ball"
WORDS = tuple(
    Word(text, 0.5 * i, 0.5 * i + (0.2 if text == "and" else 0.5))  # .3 s of silence after "and"
    for i, text in enumerate(CAPTION.split())
)


def told(stroke, dataset_id="made"):
    return Narrative(dataset_id, "1", 0, CAPTION, WORDS, (np.array(stroke, dtype=float),))


def test_known_narrative_gives_known_numbers():
    still = [[0.1, 0.1, 0.0], [0.1, 0.1, 0.05], [0.4, 0.5, 0.1], [0.4, 0.5, 2.1]]
    measured = pace.measure([told(still)])
    assert (measured["narratives"], measured["words"], measured["points"]) == (1, 6, 4)
    assert measured["seconds a word, 50 %"] == 0.5
    assert measured["words a second, pauses included"] == 2
    assert measured["share of gaps that are pauses"] == 1 / 5
    assert measured["seconds a pause, 50 %"] == pytest.approx(0.3)
    assert measured["points a second, whole narrative"] == pytest.approx(4 / 3)
    assert measured["points a second while moving"] == pytest.approx(2 / 0.1)  # not the last one
    assert measured["speed, 90 %"] == pytest.approx(0.9 * 0.5 / 0.05)  # between 0 and 10
    assert measured["share of words with a point"] == 2 / 6  # "a" at 0, "red" at 2.1


def test_without_words_or_points_there_is_no_number():
    silent = Narrative("made", "1", 0, CAPTION)
    measured = pace.measure([silent])
    assert measured["words"] == measured["points"] == 0
    for name in ("seconds a word, 50 %", "speed, 50 %", "share of words with a point"):
        assert math.isnan(measured[name])


def test_points_count_while_their_name_is_said_and_are_inside_the_box_or_not():
    dog, ball = {"start": 2, "end": 5}, {"start": 12, "end": 20}
    stroke = [[0.2, 0.2, t] for t in (0.4, 0.5, 0.9)] + [[0.8, 0.2, t] for t in (1.0, 1.2, 2.5, 3)]
    regions = [dog | {"box": [0, 0, 0.5, 0.5]}, ball | {"box": [0.5, 0.5, 1, 1]}]
    # while "dog" is said, .5 to 1 s, two points are inside and one is not; "red ball" has two
    assert pace.inside(told(stroke), regions).tolist() == [True, True, False, False, False]
    assert len(pace.inside(told(stroke), [dog | {"box": None}])) == 0


def test_command_prints_a_column_for_each_file_and_names_a_bad_line(tmp_path, capsys):
    write_jsonl(tmp_path / "one.jsonl", [told([[0.2, 0.2, 0.6], [0.3, 0.2, 0.7]])])
    (tmp_path / "two").mkdir()
    write_jsonl(tmp_path / "two" / "narratives.jsonl", [told([[0.2, 0.2, 0.6], [0.9, 0.2, 0.7]])])
    region = {"dataset_id": "made", "image_id": "1", "start": 2, "end": 5, "box": [0, 0, 0.5, 0.5]}
    (tmp_path / "two" / "regions.jsonl").write_text(json.dumps(region))
    one, two = tmp_path / "one.jsonl", tmp_path / "two" / "narratives.jsonl"
    (tmp_path / "regions.jsonl").write_text("")
    assert pace.main([str(one), str(two)]) == 0
    lines = {line[:40].strip(): line[40:].split() for line in capsys.readouterr().out.splitlines()}
    assert lines["points"] == ["2", "2"]
    assert lines["share of them inside its box"] == ["-", "0.500"]
    one.write_text('{"dataset_id": "made"}\n')
    assert pace.main([str(one)]) == 1
    assert f"{one}:1: image_id: is missing" in capsys.readouterr().err
