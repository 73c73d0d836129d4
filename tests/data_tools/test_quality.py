"""Gates, agreement and mended words, against cases whose answer is known."""

from dataclasses import replace

import numpy as np
import pytest

from data_tools.quality import agreement
from data_tools.quality.flags import OF_RECORDS, flags, voice_flags
from data_tools.quality.wording import reworded
from loctex.records.narrative import Narrative, Word, read_jsonl


def told(num_words: int = 10, seconds: float = 5.0, pointed: float = 1.0, **changes) -> Narrative:
    """Words evenly spoken while the pointer crosses the picture for a share of the time."""
    step = seconds / num_words
    words = [(f"w{k}", step * k, step * (k + 1)) for k in range(num_words)]
    t = np.linspace(0, seconds * pointed, 100)
    record = {
        "dataset_id": "d",
        "image_id": "1",
        "annotator_id": 1,
        "caption": " ".join(word for word, *_ in words),
        "timed_caption": [
            {"utterance": word, "start_time": start, "end_time": end} for word, start, end in words
        ],
        "traces": [
            [
                {"x": float(x), "y": 0.5, "t": float(s)}
                for x, s in zip(np.linspace(0, 0.99, 100), t, strict=True)
            ]
        ],
    }
    return Narrative.from_json(record | changes)


def names(narrative: Narrative) -> list[str]:
    return [flag.name for flag in flags(narrative)]


@pytest.mark.parametrize(
    "narrative, expected",
    [
        (told(), []),
        (told(traces=[]), ["no trace"]),
        (told(pointed=0.25), ["words without trace", "trace coverage"]),
        (told(pointed=0.8), []),
        (told(seconds=1.0), ["pace"]),
        (told(seconds=60.0), ["pace"]),
        (
            told(traces=[[{"x": 0.5, "y": 0.5, "t": 0}, {"x": 0.5, "y": 0.5, "t": 5}]]),
            ["stands still"],
        ),
        (told(num_words=1, traces=[[{"x": 0.5, "y": 0.5, "t": 1}]]), []),
    ],
)
def test_each_gate_flags_what_it_is_for_and_nothing_else(narrative, expected):
    assert names(narrative) == expected
    assert set(expected) <= set(OF_RECORDS)


def test_a_flag_carries_its_number():
    (flag, _) = flags(told(pointed=0.25))
    assert flag.says == "The pointer was off the picture for 70% of the words."


def test_silence_and_clipping_are_heard():
    rng = np.random.default_rng(0)
    speech = 3000 * rng.standard_normal(16_000) * (np.arange(16_000) % 8000 < 4000)
    assert voice_flags(speech.astype(np.int16)) == []
    hiss = (20 * rng.standard_normal(16_000)).astype(np.int16)
    assert [flag.name for flag in voice_flags(hiss)] == ["silence"]
    loud = np.clip(speech * 12, -32768, 32767).astype(np.int16)
    assert [flag.name for flag in voice_flags(loud)] == ["clipping"]
    assert [flag.name for flag in voice_flags(np.zeros(0, np.int16))] == ["silence"]


def test_what_people_really_recorded_passes(shared_data):
    (genuine,) = read_jsonl(next((shared_data / "ln_sample").glob("*.jsonl")))
    assert flags(genuine) == []
    video = read_jsonl(shared_data / "vidln" / "vidln_as_ln.jsonl")  # they point now and then
    whole = [one for one in video if one.extra["vidln"]["actor_name"] == "background"]
    assert [len(flags(one)) for one in whole].count(0) >= 3 and len(whole) == 6


# --- agreement


def test_two_who_say_and_point_the_same_agree_wholly_and_the_order_does_not_matter():
    first, second = told(), replace(told(), annotator_id=2)
    same = agreement.compare(first, second)
    assert (same.trace_iou, same.lbm, same.word_error_rate) == (1, 0, 0)
    below = told(traces=[[{"x": k / 100, "y": 0.9, "t": k / 20} for k in range(100)]])
    other = replace(below, caption="W0 w1 w2, w3 w4 w5 w6 w7 w8 x.")
    there, back = agreement.compare(first, other), agreement.compare(other, first)
    assert there.trace_iou == back.trace_iou == 0
    assert there.lbm == pytest.approx(back.lbm) == pytest.approx(0.2, abs=0.01)  # .4 in y alone
    assert there.word_error_rate == back.word_error_rate == pytest.approx(0.1)


def test_half_a_path_shared_is_a_known_iou():
    left, right = (
        told(traces=[[{"x": x, "y": 0.5, "t": t} for x, t in zip(xs, (0, 5), strict=True)]])
        for xs in ((0.0, 0.7), (0.3, 0.999))
    )
    assert agreement.compare(left, right).trace_iou == pytest.approx(6 / 14, abs=0.08)


def test_the_mean_is_over_pairs_of_different_people_and_over_what_can_be_compared():
    ann, bob = told(), replace(told(), annotator_id=2)
    mute = replace(told(traces=[]), annotator_id=3)
    assert np.isnan(agreement.mean([ann, ann]).trace_iou)
    mean = agreement.mean([ann, bob, mute])
    assert (mean.trace_iou, mean.word_error_rate) == (1, 0)  # of one pair, of three


# --- words


def test_words_that_stay_keep_their_times_and_others_take_the_places_between():
    was = told(num_words=4, seconds=4.0)
    said = reworded(was, "W0, big new w2 w3 end")
    assert said.words == (
        Word("W0,", 0.0, 1.0),
        Word("big", 1.0, 1.5),
        Word("new", 1.5, 2.0),
        Word("w2", 2.0, 3.0),
        Word("w3", 3.0, 4.0),
        Word("end", 4.0, 4.0),
    )
    assert said.caption == "W0, big new w2 w3 end" and said.strokes is was.strokes
    assert [word.text for word in reworded(was, "w1 w3").words] == ["w1", "w3"]
    assert reworded(was, "w1 w3").words[1].start == 3.0
    with pytest.raises(ValueError, match="needs words"):
        reworded(was, "  ")


def test_an_utterance_of_two_words_is_mended_word_by_word():
    was = replace(
        told(),
        caption="In this picture",
        words=(Word("In this", 0.0, 1.2), Word("picture", 1.5, 2.0)),
    )
    said = reworded(was, "In that picture")
    assert [word.text for word in said.words] == ["In", "that", "picture"]
    assert said.words[1].start == pytest.approx(0.4) and said.words[1].end == 1.2
