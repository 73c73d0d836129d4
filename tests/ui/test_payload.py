"""What the player draws."""

import base64
import json
from dataclasses import replace

import numpy as np
import pytest

from data_tools.store import FIRST_ANNOTATOR
from loctex.records import trace
from loctex.records.narrative import Narrative, Word
from loctex.records.words import estimate
from ui.viewing.payload import LONGEST_SIDE, payload


def decoded(item: dict) -> np.ndarray:
    """The maps as the browser computes them: byte / 255 * peak."""
    values = np.frombuffer(base64.b64decode(item["maps"]), np.uint8)
    return values.reshape(len(item["words"]), *item["grid"]) / 255 * np.c_[item["peaks"]][..., None]


def told() -> Narrative:
    stroke = np.array([[0.1, 0.2, 0.0], [0.5, 0.25, 0.7], [1.02, -0.01, 1.5]])
    return Narrative(
        "scenes",
        "1",
        0,
        "In this a cat",
        (Word("In this", 0, 0.5), Word("a cat", 0.5, 1.5)),
        (stroke, stroke[:1] + [0, 0, 2]),
    )


def test_maps_cross_within_half_a_byte_of_each_words_peak(attention):
    item = json.loads(json.dumps(payload(attention, np.zeros((20, 30, 3), np.uint8))))
    peaks = attention.maps.max(axis=(1, 2), keepdims=True)
    assert np.abs(decoded(item) - attention.maps).max() <= (peaks / 255 / 2).max() * 1.001
    assert np.allclose(item["peaks"], peaks.ravel(), rtol=1e-6)
    assert (item["width"], item["height"], item["grid"]) == (30, 20, [7, 7])
    assert [word["text"] for word in item["words"]] == ["a", "red", "ball"]
    assert [word["span"] for word in item["words"]] == [[0, 1], [2, 5], [6, 10]]


def test_a_replay_carries_the_persons_trace_and_no_maps():
    narrative = told()
    item = payload(None, np.zeros((20, 30, 3), np.uint8), narrative)
    assert item["maps"] is None and "trace" not in item
    assert np.allclose(np.reshape(item["strokes"][0], (-1, 3)), narrative.strokes[0], atol=5e-5)
    assert [word["span"] for word in item["words"]] == [[0, 7], [8, 13]]
    assert np.allclose(item["windows"], [[-0.2, 0.7], [0.3, 1.7]])
    assert (item["begin"], item["duration"]) == (0.0, 2.0)


def test_a_program_that_pointed_is_not_called_a_person():
    image = np.zeros((2, 2, 3), np.uint8)
    assert payload(None, image, told())["isSimulated"] is True
    for dataset, expected in (("coco_train_simulated", True), ("mscoco_val2017", False)):
        assert payload(None, image, replace(told(), dataset_id=dataset))["isSimulated"] is expected
    by_hand = replace(told(), annotator_id=FIRST_ANNOTATOR + 1)  # of a rendered scene
    assert payload(None, image, by_hand)["isSimulated"] is False


def test_a_fragment_of_a_longer_recording_begins_at_its_first_word_or_point():
    words = (Word("late", 40.0, 41.0),)
    late = Narrative("a", "1", 0, "late", words, (np.array([[0.1, 0.1, 39.5], [0.2, 0.2, 42.0]]),))
    item = payload(None, np.zeros((2, 2, 3), np.uint8), late)
    assert (item["begin"], item["duration"]) == (39.5, 42.0)


@pytest.mark.parametrize(
    "shape, sent",
    [
        ((3000, 1500), (1280, 640)),
        ((5000, 1), (1280, 1)),
        ((1, 5000), (1, 1280)),
        ((40, 30), (40, 30)),
    ],
)
def test_the_picture_sent_is_at_most_1280_pixels_long(attention, shape, sent):
    import cv2

    item = payload(attention, np.full((*shape, 3), 90, np.uint8))
    jpeg = base64.b64decode(item["image"].split(",")[1])
    assert cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR).shape[:2] == sent
    assert max(sent) <= LONGEST_SIDE and (item["height"], item["width"]) == shape


def test_nothing_to_show_is_an_error_that_says_so():
    with pytest.raises(ValueError, match="neither attention nor narrative"):
        payload(None, np.zeros((2, 2, 3), np.uint8))


def test_every_recorded_narrative_of_vidln_can_be_replayed(shared_data):
    lines = (shared_data / "vidln" / "vidln_as_ln.jsonl").read_text().splitlines()
    for line in lines:
        narrative = Narrative.from_json(line)
        item = payload(None, np.zeros((2, 2, 3), np.uint8), narrative)
        sizes = [len(stroke) // 3 for stroke in item["strokes"]]
        assert sum(sizes) == narrative.num_points
        assert item["begin"] <= narrative.words[0].start <= item["duration"]


@pytest.fixture
def attention():
    from loctex.scoring.predictor import Attention

    maps = np.random.default_rng(0).random((3, 7, 7)).astype(np.float32) ** 4
    maps /= maps.sum(axis=(1, 2), keepdims=True)
    words = estimate("a red ball")
    return Attention(
        caption="a red ball",
        words=words,
        spans=((0, 1), (2, 5), (6, 10)),
        maps=maps,
        trace=np.column_stack((trace.centroid(maps), [word.start for word in words])),
        boxes=trace.mass_box(maps),
        score=0.5,
        image=np.eye(4)[0],
        text=np.eye(4)[0],
    )
