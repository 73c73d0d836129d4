"""What was recorded leaves as files that an independent reader accepts, and comes back equal."""

import base64
import json
from pathlib import Path

import numpy as np
import pytest

from data_tools.exchange.strict_lines import SIDE_FILE, SideFile, strict_record
from data_tools.localized_narratives import export_collection, import_file
from data_tools.quality.wording import reworded
from data_tools.speech.voices import RATE
from data_tools.store import Store
from loctex.records.narrative import Narrative
from tests.data_tools import localized_narratives_reader as independent
from tests.data_tools.samples import narrative, picture
from ui.annotate.tab import answer
from ui.review import mine
from ui.workspace import Workspace

WORDS = "Ein  kleiner “Hund” läuft — naïve 犬 rechts, 7 m weit.".split()


def an_hour(workspace: Workspace, num_takes: int) -> int:
    """Takes as the recorder submits them, with and without voice, some mended; the collection."""
    rng, store = np.random.default_rng(0), workspace.store
    collection = store.add_collection("hour")
    for k in range(num_takes):
        store.add_image(collection, picture(k), dataset_id="studio", name=f"{k}.jpg")
    for k in range(num_takes):
        who, take_id = f"person{k % 3}", f"{k:032x}"
        told = json.loads(answer(workspace, who, "open", "{}"))
        said = [WORDS[i] for i in rng.integers(0, len(WORDS), rng.integers(1, 40))]
        starts = np.sort(rng.uniform(0, 60, len(said)))
        strokes = [np.sort(rng.uniform(0, 60, rng.integers(1, 200))) for _ in range(3)]
        record = {
            "dataset_id": "?",
            "image_id": "?",
            "annotator_id": 0,
            "caption": " ".join(said),
            "timed_caption": [
                {"utterance": word, "start_time": float(start), "end_time": float(start)}
                for word, start in zip(said, starts, strict=True)
            ],
            "traces": [
                [
                    {"x": float(x), "y": float(y), "t": float(t)}
                    for x, y, t in zip(
                        *rng.uniform(-0.05, 1.05, (2, len(times))), times, strict=True
                    )
                ]
                for times in strokes
            ],
        }
        ask = {
            "serial": 2,
            "take_id": take_id,
            "record": record,
            "image": told["image"]["id"],
            "collection": told["collection"],
        }
        if k % 2:
            pcm = (3000 * rng.standard_normal(RATE)).astype("<i2").tobytes()
            voice = {"at": 0, "pcm": base64.b64encode(pcm).decode()}
            answer(workspace, who, "save", json.dumps(ask | {"voice": voice}))
            ask["num_samples"] = RATE
        assert "problem" not in json.loads(answer(workspace, who, "submit", json.dumps(ask)))
        if k % 5 == 0:
            row = store.people.narratives(store.annotator(who), limit=1)[0]
            mine.mend(workspace, who, row.id, row.caption + " noch ein Wort")
    return collection


def test_an_hour_of_annotation_is_accepted_by_another_reader_and_comes_back_equal(tmp_path):
    workspace = Workspace(tmp_path / "workspace")
    collection = an_hour(workspace, 60)  # takes of a minute
    to = tmp_path / "export"
    assert export_collection(workspace.store, collection, to) == 60
    read = independent.read(to / "narratives.jsonl", to / "images")
    assert len(read) == 60 and sum(one["voice_recording"] != "" for one in read) == 30
    stored = [told.to_json() for _, told in workspace.store.each_narrative(collection)]
    for exported, was in zip(read, stored, strict=True):
        assert exported | {"voice_recording": None} == was | {"voice_recording": None}
    again = Store.of_workspace(tmp_path / "again", is_new=True)
    report = import_file(again, to / "narratives.jsonl", to / "images", "hour")
    assert (report.num_imported, report.problems) == (60, [])
    back = [told.to_json() for _, told in again.each_narrative(again.collection("hour"))]
    key = lambda one: (one["image_id"], one["annotator_id"])  # noqa: E731
    spoken = [{k: v for k, v in one.items() if v != ""} for one in read]
    assert sorted(back, key=key) == sorted(spoken, key=key)
    again.close()
    workspace.store.close()


def test_the_reader_is_strict(tmp_path):
    file = tmp_path / "narratives.jsonl"

    def refused(says: str, **changes) -> None:
        file.write_text(json.dumps(strict_record(narrative()) | changes) + "\n")
        with pytest.raises(ValueError, match=says):
            independent.read(file)

    file.write_text(json.dumps(strict_record(narrative())) + "\n")
    assert len(independent.read(file)) == 1
    refused("unknown keys .'mood'", mood=3)
    refused("voice_recording is NoneType", voice_recording=None)
    refused("image_id is int", image_id=1)
    refused("utterances are not the caption", caption="a cat")
    refused("far outside", traces=[[{"x": 9, "y": 0, "t": 0}]])
    refused("backwards", traces=[[{"x": 0, "y": 0, "t": 1}, {"x": 0, "y": 0, "t": 0}]])
    refused("FileNotFoundError|No such file", voice_recording="voices/none.ogg")
    file.write_text('{"dataset_id": NaN}\n')
    with pytest.raises(ValueError, match="NaN is no JSON"):
        independent.read(file)


def test_mended_words_stay_in_the_caption():
    said = reworded(narrative(), "the old dog")
    assert "".join(word.text for word in said.words) == "theolddog"


ODD = [
    {},
    {"voice_recording": "val/1.ogg"},
    {"mood": {"is_happy": True}, "source": [1, None, "ä"]},
    {"mood": "another on the very same line"},
    {"traces": None, "voice_recording": None},
    {"traces": [], "timed_caption": []},
    {"timed_caption": [], "": 0},
]


def odd_narratives() -> list[Narrative]:
    """Of images 1 to 7 and of image 3 three, as files have them that others made."""
    narratives = [
        Narrative.from_json(narrative(str(k)).to_json() | change) for k, change in enumerate(ODD)
    ]
    bare = narrative("3").to_json()
    del bare["traces"], bare["timed_caption"]
    return [*narratives, Narrative.from_json(bare), narrative("3")]


def written(folder: Path) -> list[dict]:
    lines = (folder / "narratives.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def test_keys_that_google_s_loader_refuses_lie_beside_the_lines_and_come_back(tmp_path):
    store = Store.of_workspace(tmp_path / "workspace", is_new=True)
    collection = store.add_collection("odd")
    for k in range(len(ODD)):
        store.add_image(collection, picture(k), dataset_id="album", image_id=str(k))
    for one in odd_narratives():
        store.add(collection, one)
    stored = [one.to_json() for _, one in store.each_narrative(collection)]
    assert len(stored) == 9

    export_collection(store, collection, tmp_path / "out")
    lines = written(tmp_path / "out")
    assert all(list(line) == list(independent.Record.__annotations__) for line in lines)
    assert len((tmp_path / "out" / SIDE_FILE).read_text().splitlines()) == 5

    again = Store.of_workspace(tmp_path / "again", is_new=True)
    report = import_file(again, tmp_path / "out/narratives.jsonl", tmp_path / "out/images", "odd")
    assert (report.num_imported, report.problems) == (9, [])
    back = [one.to_json() for _, one in again.each_narrative(again.collection("odd"))]
    texts = [sorted(json.dumps(one, sort_keys=True) for one in some) for some in (back, stored)]
    assert texts[0] == texts[1]

    export_collection(store, collection, tmp_path / "whole", has_all_keys=True)
    whole = written(tmp_path / "whole")
    assert [line.get("mood") for line in whole] == [one.get("mood") for one in stored]
    assert all(isinstance(line.get("voice_recording", 0), (str, type(None))) for line in whole)
    assert not (tmp_path / "whole" / SIDE_FILE).exists()
    store.close()
    again.close()


@pytest.mark.parametrize(
    "record, says",
    [
        ({"keys": {}, "absent": []}, "line: is missing"),
        (
            {"line": "0", "keys": {"caption": "other"}, "absent": []},
            "keys: caption belongs into the line",
        ),
        ({"line": "0", "keys": {}, "absent": ["image_id"]}, "absent: only timed_caption"),
        ({"line": "0", "keys": []}, "keys or absent: is missing"),
    ],
)
def test_a_side_file_that_was_changed_by_hand_is_refused_by_its_line(tmp_path, record, says):
    (tmp_path / SIDE_FILE).write_text(json.dumps(record) + "\n")
    with pytest.raises(ValueError, match=f"{SIDE_FILE}:1: {says}"):
        SideFile(tmp_path / SIDE_FILE)
