"""The simulated narrator: its clock, its hand, and how it compares with people."""

import json

import numpy as np
import pytest

from data_tools.scenes import scene
from data_tools.simulation.narrator import (
    NarratorSettings,
    Phrase,
    Visit,
    box_region,
    mask_region,
    narrate,
    point,
    speak,
)

SENTENCE = "In this image I can see a red circle to the left of a big blue square.".split()
STILL = NarratorSettings(radius=0, offset=0, drift=0, lead_spread=0)


def intervals_and_speeds(strokes):
    """Seconds between neighbouring points, and speeds in fractions of the image per second."""
    steps = np.concatenate([np.diff(stroke, axis=0) for stroke in strokes])
    return steps[:, 2], np.hypot(steps[:, 0], steps[:, 1]) / np.maximum(steps[:, 2], 1e-3)


def told(seed, count=40):
    """Narratives of two boxes: words and strokes of each."""
    rng = np.random.default_rng(seed)
    phrases = [
        Phrase("In this image I can see a"),
        Phrase("red circle,", box_region((0.1, 0.2, 0.4, 0.5))),
        Phrase("and on its right there is a"),
        Phrase("blue square.", box_region((0.6, 0.5, 0.9, 0.8))),
    ]
    return [narrate(phrases, rng) for _ in range(count)]


def test_the_same_generator_state_tells_the_same_and_another_one_does_not():
    (words, strokes), (again, same), (_, other) = (told(seed, 1)[0] for seed in (1, 1, 2))
    assert words == again
    assert all(np.array_equal(a, b) for a, b in zip(strokes, same, strict=True))
    assert not np.array_equal(strokes[0][:50], other[0][:50])


def test_words_follow_one_another_and_long_ones_take_longer():
    rng = np.random.default_rng(0)
    words = speak(SENTENCE * 200, rng)
    assert [word.text for word in words] == SENTENCE * 200
    times = np.array([[word.start, word.end] for word in words])
    assert (np.diff(times.ravel()) >= 0).all()
    said = {text: [w.end - w.start for w in words if w.text == text] for text in SENTENCE}
    seconds = {text: np.mean(durations) for text, durations in said.items()}
    assert seconds["circle"] == pytest.approx(0.44 * np.exp(0.3**2 / 2), rel=0.1)
    assert seconds["circle"] > 2.5 * seconds["I"]


def test_a_stop_is_followed_by_a_pause_and_other_words_seldom_are():
    words = speak(["one,", "two", "three."] * 300, np.random.default_rng(1))
    gaps = np.array([b.start - a.end for a, b in zip(words, words[1:], strict=False)])
    is_stop = np.array([word.text[-1] in ",." for word in words[:-1]])
    assert (gaps[is_stop] > 0.02).mean() > 0.97
    assert 0.04 < (gaps[~is_stop] > 0.02).mean() < 0.13


def test_a_steady_hand_arrives_in_the_middle_of_what_is_named():
    region = box_region((0.6, 0.2, 0.8, 0.5))
    (stroke,) = point([Visit(1.0, 3.0, region)], 3.0, np.random.default_rng(0), STILL)
    assert np.abs(stroke[-1, :2] - (0.7, 0.35)).max() <= 0.5 / 400
    assert stroke[stroke[:, 2] < 0.95, 2].size <= 2  # it rests before, and a rest sends no event
    assert 1.2 < stroke[-1, 2] < 2  # and again after some .5 s of travel


def test_lead_moves_the_hand_before_the_word():
    region = box_region((0.6, 0.2, 0.8, 0.5))
    starts = []
    for lead in (0.0, 0.5):
        settings = NarratorSettings(radius=0, offset=0, drift=0, lead_spread=0, lead_seconds=lead)
        (stroke,) = point([Visit(2.0, 3.0, region)], 3.0, np.random.default_rng(0), settings)
        starts.append(stroke[stroke[:, 2] > 0.5][0, 2])
    assert starts[0] - starts[1] == pytest.approx(0.5, abs=0.05)


def test_points_beyond_the_border_are_not_recorded_and_end_the_stroke():
    visits = [
        Visit(k, k + 0.9, box_region(b))
        for k, b in enumerate([(0.4, 0.4, 0.6, 0.6), (1.6, 0.4, 1.8, 0.6), (0.4, 0.4, 0.6, 0.6)])
    ]
    strokes = point(visits, 3.0, np.random.default_rng(0), STILL)
    assert len(strokes) == 2
    points = np.concatenate(strokes)
    assert points[:, 0].max() < 1.1
    assert (np.diff(points[:, 2]) > 0).all()


def test_regions_are_points_of_the_box_and_of_the_mask():
    points = box_region((0.2, 0.4, 0.4, 1.0))
    assert points.mean(axis=0) == pytest.approx((0.3, 0.7))
    assert (points.min(axis=0) > (0.2, 0.4)).all() and (points.max(axis=0) < (0.4, 1)).all()
    mask = np.random.default_rng(0).random((30, 40)) < 0.5
    points = mask_region(mask)
    assert len(points) == 256
    assert mask[(points[:, 1] * 30).astype(int), (points[:, 0] * 40).astype(int)].all()
    assert len(mask_region(np.eye(3, dtype=bool))) == 3


def test_the_numbers_in_the_docstring():
    narratives = [scene(seed).narrative for seed in range(150)]
    spoken = [word.end - word.start for n in narratives for word in n.words]
    pauses = [
        b.start - a.end for n in narratives for a, b in zip(n.words, n.words[1:], strict=False)
    ]
    paces = [len(n.words) / (n.words[-1].end - n.words[0].start) for n in narratives]
    assert np.median(spoken) == pytest.approx(0.30, abs=0.02)
    assert np.median(paces) == pytest.approx(2.7, abs=0.15)
    assert (np.array(pauses) > 0.2).mean() == pytest.approx(0.11, abs=0.02)
    seconds, speed = intervals_and_speeds([s for n in narratives for s in n.strokes])
    assert np.median(seconds) == pytest.approx(0.017, abs=0.001)
    assert 1 / seconds[seconds <= 0.1].mean() == pytest.approx(48, abs=2)
    quartiles = np.percentile(speed[seconds <= 0.1], (25, 50, 75, 90))
    assert quartiles == pytest.approx([0.15, 0.31, 0.64, 1.34], rel=0.1)


def test_people_move_about_as_the_narrator_does(shared_data):
    lines = (shared_data / "vidln" / "vidln_as_ln.jsonl").read_text().splitlines()
    strokes = [
        np.array([[p["x"], p["y"], p["t"]] for p in stroke])
        for line in lines
        for stroke in json.loads(line)["traces"]
    ]
    seconds, speed = intervals_and_speeds(strokes)
    simulated = intervals_and_speeds(
        [s for seed in range(60) for s in scene(seed).narrative.strokes]
    )
    is_moving, moves = seconds <= 0.1, simulated[0] <= 0.1
    assert np.median(seconds) == pytest.approx(np.median(simulated[0]), abs=0.002)
    rates = [1 / seconds[is_moving].mean(), 1 / simulated[0][moves].mean()]
    assert rates[1] == pytest.approx(rates[0], rel=0.15)
    for percent in (50, 75, 90):  # within a third of people's
        people = np.percentile(speed[is_moving], percent)
        assert np.percentile(simulated[1][moves], percent) == pytest.approx(people, rel=0.34)
