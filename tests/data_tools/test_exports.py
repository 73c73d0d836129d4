"""What was recorded leaves as files that an independent reader accepts, and comes back equal."""

import base64
import json

import numpy as np
import pytest

from data_tools.localized_narratives import export_collection, import_file
from data_tools.quality.wording import reworded
from data_tools.speech.voices import RATE
from data_tools.store import Store
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
    assert len(read) == 60 and sum("voice_recording" in one for one in read) == 30
    stored = [told.to_json() for _, told in workspace.store.each_narrative(collection)]
    for exported, was in zip(read, stored, strict=True):
        assert exported | {"voice_recording": None} == was | {"voice_recording": None}
    again = Store.of_workspace(tmp_path / "again", is_new=True)
    report = import_file(again, to / "narratives.jsonl", to / "images", "hour")
    assert (report.num_imported, report.problems) == (60, [])
    back = [told.to_json() for _, told in again.each_narrative(again.collection("hour"))]
    key = lambda one: (one["image_id"], one["annotator_id"])  # noqa: E731
    assert sorted(back, key=key) == sorted(read, key=key)
    again.close()
    workspace.store.close()


def test_the_reader_is_strict(tmp_path):
    file = tmp_path / "narratives.jsonl"

    def refused(says: str, **changes) -> None:
        file.write_text(json.dumps(narrative().to_json() | changes) + "\n")
        with pytest.raises(ValueError, match=says):
            independent.read(file)

    file.write_text(json.dumps(narrative().to_json()) + "\n")
    assert len(independent.read(file)) == 1
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
