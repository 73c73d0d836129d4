"""The record goes in and comes out equal; what is wrong is named by file, line and field."""

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loctex.records.narrative import Narrative, NarrativeError, Word, read_jsonl, write_jsonl


def record(**changes):
    return {
        "dataset_id": "mscoco_val2017",
        "image_id": "42",
        "annotator_id": 7,
        "caption": "In this picture",
        "timed_caption": [
            {"utterance": "In this", "start_time": 0.0, "end_time": 0.5},
            {"utterance": "picture", "start_time": 0.5, "end_time": 0.5},
        ],
        "traces": [
            [{"x": -0.04, "y": 0.25, "t": 0.1}, {"x": 1.07, "y": 0.5, "t": 0.1}],
            [{"x": 0.3, "y": 1.0, "t": 0.9}],
        ],
        "voice_recording": "val/42_7.ogg",
    } | changes


def test_words_and_strokes_are_those_of_the_record():
    narrative = Narrative.from_json(record())
    assert narrative.words == (Word("In this", 0.0, 0.5), Word("picture", 0.5, 0.5))
    assert [stroke.shape for stroke in narrative.strokes] == [(2, 3), (1, 3)]
    assert all(stroke.dtype == np.float64 for stroke in narrative.strokes)
    assert narrative.strokes[0].tolist() == [[-0.04, 0.25, 0.1], [1.07, 0.5, 0.1]]
    assert (narrative.duration, narrative.num_points) == (0.9, 3)


@pytest.mark.parametrize("name, count", [("ln_sample", 1), ("vidln", 46)])
def test_every_public_record_at_hand_comes_back_equal(shared_data, name, count):
    files = {"ln_sample": "coco_val_212166_49.jsonl", "vidln": "vidln_as_ln.jsonl"}
    lines = (shared_data / name / files[name]).read_bytes().splitlines()
    assert len(lines) == count
    for line in lines:
        assert Narrative.from_json(line).to_json() == json.loads(line)


numbers = st.floats(-10, 10) | st.integers(-10, 10)
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1)
texts = texts.filter(str.strip)


@st.composite
def records(draw):
    def times():
        return sorted(draw(st.lists(st.floats(0, 1e6) | st.integers(0, 10**6), min_size=2)))

    whole = record(
        caption=draw(texts),
        annotator_id=draw(st.integers(-(2**63) + 1, 2**63 - 1)),
        timed_caption=[
            {"utterance": draw(texts), "start_time": start, "end_time": end}
            for start, end in [times()[:2] for _ in range(draw(st.integers(0, 3)))]
        ],
        traces=[
            [{"x": draw(numbers), "y": draw(numbers), "t": t} for t in times()]
            for _ in range(draw(st.integers(0, 3)))
        ],
    )
    left_out = draw(st.sets(st.sampled_from(["timed_caption", "traces", "voice_recording"])))
    nulls = draw(st.sets(st.sampled_from(["timed_caption", "traces", "voice_recording"])))
    whole |= {key: None for key in nulls}
    extra = draw(st.dictionaries(st.text(), values, max_size=3))
    return extra | {key: value for key, value in whole.items() if key not in left_out}


@settings(deadline=None)
@given(records())
def test_any_record_comes_back_equal_as_json_values(one):
    assert Narrative.from_json(one).to_json() == one
    line = json.dumps(Narrative.from_json(json.dumps(one)).to_json())
    assert json.loads(line) == json.loads(json.dumps(one))


def test_an_integer_image_id_is_the_one_thing_rewritten():
    assert Narrative.from_json(record(image_id=42)).to_json() == record(image_id="42")


def test_a_record_without_a_trace_is_accepted_in_all_three_spellings():
    absent = {key: value for key, value in record().items() if key != "traces"}
    for one in (record(traces=[]), record(traces=None), absent):
        assert Narrative.from_json(one).strokes == ()
        assert Narrative.from_json(one).to_json() == one


def test_a_voice_of_no_name_is_no_voice_as_google_s_files_need_the_key():
    named = record(voice_recording="")
    assert Narrative.from_json(named).voice is None
    del named["voice_recording"]
    assert Narrative.from_json(record(voice_recording="")).to_json() == named


def point(**changes):
    return {"x": 0.5, "y": 0.5, "t": 1.0} | changes


def utterance(**changes):
    return {"utterance": "a", "start_time": 1.0, "end_time": 2.0} | changes


WRONG = [
    ("dataset_id", {"dataset_id": 3}),
    ("image_id", {"image_id": True}),
    ("image_id", {"image_id": 4.0}),
    ("image_id", {"image_id": ""}),
    ("annotator_id", {"annotator_id": "7"}),
    ("annotator_id", {"annotator_id": 2**63}),
    ("caption", {"caption": " "}),
    ("caption", {"caption": None}),
    ("caption", {"caption": "a\0b"}),
    ("caption", {"caption": "\ud800"}),
    ("voice_recording", {"voice_recording": 3}),
    ("timed_caption", {"timed_caption": {}}),
    ("timed_caption[0]", {"timed_caption": ["a"]}),
    ("timed_caption[0].utterance", {"timed_caption": [utterance(utterance="")]}),
    ("timed_caption[1].start_time", {"timed_caption": [utterance(), utterance(start_time="1")]}),
    ("timed_caption[0].start_time", {"timed_caption": [utterance(start_time=-1.0)]}),
    ("timed_caption[0].end_time", {"timed_caption": [utterance(end_time=0.9)]}),
    ("timed_caption[0].end_time", {"timed_caption": [utterance(end_time=math.inf)]}),
    ("timed_caption[0].end_time", {"timed_caption": [{"utterance": "a", "start_time": 1}]}),
    ("timed_caption[0].confidence", {"timed_caption": [utterance(confidence=1)]}),
    ("traces", {"traces": "none"}),
    ("traces[0]", {"traces": [[]]}),
    ("traces[0]", {"traces": [{}]}),
    ("traces[0][0]", {"traces": [[[0.5, 0.5, 1.0]]]}),
    ("traces[0][1].x", {"traces": [[point(), point(x=math.nan)]]}),
    ("traces[1][0].y", {"traces": [[point()], [point(y=-math.inf)]]}),
    ("traces[0][0].x", {"traces": [[point(x=True)]]}),
    ("traces[0][0].x", {"traces": [[point(x=320.0)]]}),
    ("traces[0][0].t", {"traces": [[point(t=None)]]}),
    ("traces[0][0].t", {"traces": [[point(t=-0.1)]]}),
    ("traces[0][0].t", {"traces": [[point(t=1.6e12)]]}),
    ("traces[0][1].t", {"traces": [[point(), point(t=0.5)]]}),
    ("traces[0][0].pressure", {"traces": [[point(pressure=1)]]}),
    ("pose", {"pose": [1.0, math.nan]}),
]


@pytest.mark.parametrize("field, change", WRONG, ids=[f"{i}:{w[0]}" for i, w in enumerate(WRONG)])
def test_anything_else_wrong_is_refused_by_its_field(field, change):
    with pytest.raises(NarrativeError) as error:
        Narrative.from_json(record(**change))
    assert str(error.value).startswith(f"{field}: ")


@pytest.mark.parametrize("key", ["dataset_id", "image_id", "annotator_id", "caption"])
def test_a_missing_key_is_named(key):
    with pytest.raises(NarrativeError, match=f"^{key}: is missing$"):
        Narrative.from_json({k: v for k, v in record().items() if k != key})


@pytest.mark.parametrize("text", [b"", "{", "[]", "3", b"\xff{}", "[" * 100_000, '"a"'])
def test_text_that_is_no_json_object_is_refused(text):
    with pytest.raises(NarrativeError, match="^record: "):
        Narrative.from_json(text)


def test_a_file_is_read_back_equal_blank_lines_and_byte_order_mark_aside(tmp_path):
    path = tmp_path / "narratives.jsonl"
    narratives = [Narrative.from_json(record(image_id=str(i), note="\u2028é")) for i in range(3)]
    assert write_jsonl(path, narratives) == 3
    assert [path.name for path in tmp_path.iterdir()] == ["narratives.jsonl"]
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\n\n"))
    assert [n.to_json() for n in read_jsonl(path)] == [n.to_json() for n in narratives]


def test_an_error_names_file_line_and_field(tmp_path):
    path = tmp_path / "bad.jsonl"
    bad = record(traces=[[point(x="0.5")]])
    path.write_text(json.dumps(record()) + "\n\n" + json.dumps(bad) + "\n")
    with pytest.raises(ValueError, match=r"bad\.jsonl:3: traces\[0\]\[0\]\.x: must be a finite"):
        list(read_jsonl(path))


def test_a_write_that_fails_leaves_the_old_file(tmp_path):
    path = tmp_path / "narratives.jsonl"
    write_jsonl(path, [Narrative.from_json(record())])
    before = path.read_bytes()
    bad = Narrative("d", "1", 1, "a", extra={"x": math.nan})  # made by hand, past the door
    with pytest.raises(ValueError, match="Out of range float"):
        write_jsonl(path, [bad])
    assert path.read_bytes() == before
