"""What the recorder asks and is told: the queue, drafts, and what may become a narrative."""

import json
from dataclasses import replace

import pytest

from data_tools.store import FIRST_ANNOTATOR, StoreError
from tests.data_tools.samples import picture
from ui import annotate
from ui.annotate import answer
from ui.exchange import NUM_PARTS
from ui.workspace import Workspace

RECORD = {
    "dataset_id": "forged", "image_id": "forged", "annotator_id": 7, "caption": "a ball",
    "timed_caption": [
        {"utterance": "a", "start_time": 0.1, "end_time": 0.2},
        {"utterance": "ball", "start_time": 0.5, "end_time": 0.9},
    ],
    "traces": [[{"x": 0.25, "y": 0.5, "t": 0.1}, {"x": 0.5, "y": 0.5, "t": 0.9}]],
}  # fmt: skip


@pytest.fixture
def workspace(tmp_path):
    """Three images in the collection "own"."""
    result = Workspace(tmp_path)
    collection = result.store.add_collection("own")
    for seed in range(3):
        result.store.add_image(collection, picture(seed), dataset_id="studio", name=f"{seed}.jpg")
    yield result
    result.store.close()


class Person:
    """A recorder without a browser."""

    def __init__(self, workspace: Workspace, name: str = "ann") -> None:
        self.workspace, self.name, self.told = workspace, name, {}

    def ask(self, action: str, **more) -> dict:
        image = (self.told.get("image") or {}).get("id")
        asked = {"action": action, "serial": 5, "collection": self.told.get("collection"),
                 "image": image} | more  # fmt: skip
        told = json.loads(answer(self.workspace, self.name, json.dumps(asked)))
        assert told.pop("serial") == 5
        self.told = told if "collections" in told else self.told
        return told

    def submit(self, take_id: str, **changed) -> dict:
        return self.ask("submit", take_id=take_id, record=RECORD | changed)


@pytest.fixture
def ann(workspace):
    person = Person(workspace)
    person.ask("open")
    return person


def test_an_empty_workspace_is_told_how_to_begin(tmp_path):
    person = Person(Workspace(tmp_path))
    told = person.ask("open")
    assert told["image"] is None and told["collections"] == []
    assert [choice["action"] for choice in told["empty"]["choices"]] == ["demo", "data"]
    person.workspace.store.add_collection("bare")
    assert person.ask("open")["empty"]["title"] == "No images yet"


def test_the_demo_comes_in_parts_and_is_then_open(tmp_path, monkeypatch):
    monkeypatch.setattr("ui.exchange.SCENES_A_PART", 2)
    person = Person(Workspace(tmp_path))
    shares = []
    while (told := person.ask("demo")).get("share"):
        shares.append(told["share"])
    assert shares == [part / NUM_PARTS for part in range(1, NUM_PARTS)]
    assert told["progress"] == [0, 2 * NUM_PARTS] and told["image"]["dataset_id"] == "scenes"
    assert person.ask("demo")["progress"] == [0, 2 * NUM_PARTS]  # made once


def test_a_take_becomes_a_narrative_of_this_image_by_this_person(ann, workspace):
    shown = ann.told["image"]
    told = ann.submit("take")
    (row,) = workspace.store.narratives(told["collection"])
    narrative = workspace.store.narrative(row.id)
    assert (narrative.dataset_id, narrative.image_id) == ("studio", shown["image_id"])
    assert narrative.annotator_id == workspace.store.annotator("ann") > FIRST_ANNOTATOR
    expected = RECORD | {key: getattr(narrative, key) for key in
                         ("dataset_id", "image_id", "annotator_id")}  # fmt: skip
    assert narrative.to_json() == expected
    assert told["progress"] == [1, 3] and told["image"]["id"] != shown["id"]


def test_the_same_take_twice_is_one_narrative(ann, workspace):
    image = ann.told["image"]["id"]
    first = ann.submit("take")
    second = ann.ask("submit", take_id="take", record=RECORD, image=image)
    assert first == second
    assert len(workspace.store.narratives(first["collection"])) == 1


def test_a_take_whose_draft_is_saved_need_not_be_sent_again(ann, workspace):
    assert ann.ask("submit", take_id="take", record=None) == {"isMissing": True}
    ann.ask("save", take_id="take", record=RECORD)
    assert Person(workspace, "bob").ask("open")["draft"] is None
    bob = Person(workspace, "bob")
    bob.ask("open")
    assert bob.ask("submit", take_id="take", record=None) == {"isMissing": True}
    told = ann.ask("submit", take_id="take", record=None)
    (row,) = workspace.store.narratives(told["collection"])
    assert workspace.store.narrative(row.id).to_json()["traces"] == RECORD["traces"]


@pytest.mark.parametrize(
    "changed, says",
    [
        ({"caption": "  "}, "has no words"),
        ({"traces": []}, "has no trace"),
        ({"timed_caption": [{"utterance": "a"}]}, "timed_caption[0].start_time: is missing"),
        ({"traces": [[{"x": 1, "y": "no", "t": 0}]]}, "traces[0][0].y: must be a finite number"),
    ],
)
def test_a_take_that_is_no_narrative_is_refused_and_its_draft_stays(ann, workspace, changed, says):
    ann.ask("save", take_id="take", record=RECORD | changed)
    told = ann.submit("take", **changed)
    assert says in told["problem"]
    assert workspace.store.narratives(ann.told["collection"]) == []
    (draft,) = workspace.store.drafts(workspace.store.annotator("ann"))
    assert draft.take_id == "take"


@pytest.mark.parametrize("record", ["no json", ["list"], 7, {"caption": "no"}])
def test_what_is_not_a_record_is_refused(ann, record):
    assert "problem" in ann.ask("submit", take_id="take", record=record)


def test_a_store_that_cannot_save_is_told_and_the_draft_stays(ann, workspace, monkeypatch):
    def full(*_, **__):
        raise StoreError("not saved: database or disk is full")

    ann.ask("save", take_id="take", record=RECORD)
    monkeypatch.setattr(workspace.store, "add", full)
    assert ann.submit("take")["problem"] == "not saved: database or disk is full"
    monkeypatch.undo()
    assert Person(workspace).ask("open")["draft"]["take_id"] == "take"
    assert ann.submit("take")["progress"] == [1, 3]


def test_a_draft_is_what_the_person_sees_first_next_time(ann, workspace):
    last = workspace.store.images(ann.told["collection"])[-1]
    ann.ask("save", take_id="take", image=last.id, record=RECORD)
    told = Person(workspace).ask("open")
    assert told["image"]["id"] == last.id and told["draft"]["record"] == RECORD
    assert Person(workspace, "bob").ask("open")["draft"] is None


def test_a_draft_that_only_the_browser_has_is_asked_back_unless_it_was_submitted(ann, workspace):
    image = ann.told["image"]["id"]
    there = {"take_id": "take", "image": image, "annotator": "ann"}
    assert ann.ask("open", drafts=[there])["draft"] == {"take_id": "take", "image": image}
    assert Person(workspace, "bob").ask("open", drafts=[there])["draft"] is None
    ann.submit("take")
    assert ann.ask("open", drafts=[there])["draft"] is None


def test_a_late_autosave_does_not_bring_a_submitted_take_back(ann, workspace):
    image = ann.told["image"]["id"]
    ann.submit("take")
    ann.ask("save", take_id="take", image=image, record=RECORD)
    assert workspace.store.drafts(workspace.store.annotator("ann")) == []


def test_another_persons_draft_is_neither_overwritten_nor_dropped(ann, workspace):
    ann.ask("save", take_id="take", record=RECORD)
    bob = Person(workspace, "bob")
    bob.ask("open")
    assert "belongs to another" in bob.ask("save", take_id="take", record={})["problem"]
    bob.ask("discard", take_id="take")
    assert len(workspace.store.drafts(workspace.store.annotator("ann"))) == 1


def test_skipped_and_narrated_images_do_not_come_again_and_previous_finds_them(ann, workspace):
    ids = [image.id for image in workspace.store.images(ann.told["collection"])]
    assert ann.ask("skip", reason="poor quality")["image"]["id"] == ids[1]
    assert ann.submit("take")["image"]["id"] == ids[2]
    assert ann.ask("previous")["image"]["id"] == ids[1]
    assert ann.ask("previous")["image"]["id"] == ids[0]
    assert "no image before" in ann.ask("previous")["problem"]
    assert ann.ask("skip")["image"]["id"] == ids[2]
    told = ann.ask("skip")
    assert told["image"] is None and told["empty"]["title"] == "All done here"
    assert ann.ask("again")["image"]["id"] == ids[0]


def test_behind_the_last_image_come_those_left_open(ann, workspace):
    ids = [image.id for image in workspace.store.images(ann.told["collection"])]
    assert ann.ask("skip", image=ids[2])["image"]["id"] == ids[0]


def test_an_image_of_another_collection_is_refused(ann, workspace):
    other = workspace.store.add_collection("other")
    row = workspace.store.add_image(other, picture(9), dataset_id="studio")
    told = ann.ask("submit", image=row.id, take_id="take", record=RECORD)
    assert "taken out of the collection" in told["problem"]


def test_an_unknown_question_is_refused(ann):
    assert "no question 'drop'" in ann.ask("drop")["problem"]


def test_the_chosen_collection_opens_although_a_draft_waits_elsewhere(ann, workspace):
    other = workspace.store.add_collection("other")
    row = workspace.store.add_image(other, picture(9), dataset_id="studio")
    ann.ask("save", take_id="take", record=RECORD)
    assert ann.ask("choose", collection=other)["image"]["id"] == row.id


def test_a_narrative_is_checked_once_at_the_door(workspace):
    image = workspace.store.images(workspace.store.collection("own"))[0]
    narrative = annotate.checked(RECORD, image, 12)
    assert replace(narrative, annotator_id=7).annotator_id == 7
    assert narrative.duration == 0.9 and narrative.num_points == 2
