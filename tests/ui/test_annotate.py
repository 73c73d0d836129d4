"""What the recorder asks and is told: the queue, drafts, and what may become a narrative."""

import base64
import json
import time
from dataclasses import replace

import numpy as np
import pytest
from sqlalchemy import text

from data_tools.speech.voices import read_voice
from data_tools.store import FIRST_ANNOTATOR, StoreError
from tests.data_tools.espeak import speak
from tests.data_tools.samples import picture
from tests.data_tools.whisper import tiny_whisper
from ui.annotate import tab as annotate
from ui.annotate.tab import answer
from ui.data.exchange import NUM_PARTS
from ui.workspace import Workspace

RECORD = {
    "dataset_id": "forged",
    "image_id": "forged",
    "annotator_id": 7,
    "caption": "a ball",
    "timed_caption": [
        {"utterance": "a", "start_time": 0.1, "end_time": 0.2},
        {"utterance": "ball", "start_time": 0.5, "end_time": 0.9},
    ],
    "traces": [[{"x": 0.25, "y": 0.5, "t": 0.1}, {"x": 0.5, "y": 0.5, "t": 0.9}]],
}
TAKE = "0123456789abcdef" * 2


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
        asked = {
            "collection": self.told.get("collection"),
            "image": image,
        } | more
        told = json.loads(answer(self.workspace, self.name, action, json.dumps(asked)))
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
    monkeypatch.setattr("ui.data.exchange.SCENES_A_PART", 2)
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
    expected = RECORD | {
        key: getattr(narrative, key) for key in ("dataset_id", "image_id", "annotator_id")
    }
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


# --- changes


def points(*times: float) -> list[list[float]]:
    return [[0.5, 0.5, time] for time in times]


def stored(workspace: Workspace) -> dict:
    (draft,) = workspace.store.drafts(workspace.store.annotator("ann"))
    return json.loads(draft.body)


def test_a_save_that_builds_on_the_last_one_adds_what_is_new(ann, workspace):
    ann.ask("save", take_id=TAKE, record=RECORD, revision="1")
    change = {
        "caption": [1, 0, " red"],
        "words": [1, 0, [{"utterance": "red", "start_time": 0.3, "end_time": 0.4}]],
        "traces": [1, 2, [points(1.0), points(2.0, 2.5)]],
        "studio": {"mode": "type"},
    }
    told = ann.ask("save", take_id=TAKE, change=change, base="1", revision="2")
    assert told == {"saved": True}
    record = stored(workspace)
    assert record["caption"] == "a red ball" and record["studio"] == {"mode": "type"}
    assert [word["utterance"] for word in record["timed_caption"]] == ["a", "red", "ball"]
    first, second = record["traces"]
    assert [point["t"] for point in first] == [0.1, 0.9, 1.0]
    assert [point["t"] for point in second] == [2.0, 2.5]

    undone = {"traces": [1, 1, [[]]]}
    assert ann.ask("save", take_id=TAKE, change=undone, base="2", revision="3")["saved"]
    assert stored(workspace)["traces"] == [RECORD["traces"][0][:1]]
    told = ann.ask("submit", take_id=TAKE, record=None)
    (row,) = workspace.store.narratives(told["collection"])
    assert workspace.store.narrative(row.id).caption == "a red ball"
    with workspace.store._database.reading() as connection:
        assert connection.execute(text("SELECT count(*) FROM draft_changes")).scalar() == 0


def test_a_save_that_builds_on_another_state_asks_for_the_whole_take(ann, workspace):
    """As after a lost answer, and where a second page records the same take."""
    more = {"traces": [1, 2, [points(1.0)]]}
    assert ann.ask("save", take_id=TAKE, change=more, base="1", revision="2") == {"isBehind": True}
    ann.ask("save", take_id=TAKE, record=RECORD, revision="1")
    assert ann.ask("save", take_id=TAKE, change=more, base="1", revision="2")["saved"]
    again = ann.ask("save", take_id=TAKE, change=more, base="1", revision="3")
    assert again == {"isBehind": True}  # the page was not told of revision 2
    assert len(stored(workspace)["traces"][0]) == 3

    other_page = ann.ask("save", take_id=TAKE, record=RECORD | {"caption": "b"}, revision="x")
    assert other_page == {"saved": True} and stored(workspace)["caption"] == "b"
    assert ann.ask("save", take_id=TAKE, change=more, base="2", revision="4") == {"isBehind": True}
    assert len(stored(workspace)["traces"][0]) == 2


def test_a_change_keeps_the_rules_of_a_whole_save(ann, workspace):
    """One's own draft of this very image, not submitted yet."""
    own, elsewhere = ann.told["image"]["id"], workspace.store.images(1)[-1].id
    ann.ask("save", take_id=TAKE, record=RECORD, revision="1")
    change = {"caption": [0, 1, "the"]}
    builds_on = {"take_id": TAKE, "change": change, "base": "1", "revision": "2"}
    bob = Person(workspace, "bob")
    bob.ask("open")
    for person, image in ((bob, own), (ann, elsewhere)):
        assert person.ask("save", image=image, **builds_on) == {"isBehind": True}
    assert stored(workspace) == RECORD

    ann.submit(TAKE, studio=None)
    assert ann.ask("save", image=own, **builds_on) == {"saved": True}  # late: it stays gone
    assert workspace.store.drafts(workspace.store.annotator("ann")) == []


def test_a_take_that_is_open_for_days_keeps_its_image(ann, workspace):
    ann.ask("save", take_id=TAKE, record=RECORD, revision="1")
    with workspace.store._database.writing() as connection:
        connection.execute(text("UPDATE claims SET expires = 1"))
    ann.ask("save", take_id=TAKE, change={"caption": [0, 0, ""]}, base="1", revision="2")
    with workspace.store._database.reading() as connection:
        expires = connection.execute(text("SELECT max(expires) FROM claims")).scalar()
    assert expires > time.time() + 23 * 3600


def test_a_draft_goes_through_the_trash_with_its_changes(ann, workspace):
    image = ann.told["image"]["id"]
    ann.ask("save", take_id=TAKE, record=RECORD, revision="1")
    ann.ask("save", take_id=TAKE, change={"caption": [0, 1, "the"]}, base="1", revision="2")
    entry = workspace.store.trash.put_image(image, workspace.store.annotator("ann"))
    assert workspace.store.drafts(workspace.store.annotator("ann")) == []
    workspace.store.trash.restore(entry)
    assert stored(workspace)["caption"] == "the ball"


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


# --- voices


def piece(samples: np.ndarray, at: int = 0) -> dict:
    return {"at": at, "pcm": base64.b64encode(samples.astype("<i2").tobytes()).decode()}


def test_a_voice_comes_in_pieces_and_is_stored_beside_the_record(ann, workspace):
    sound = np.arange(16000)
    voiced = RECORD | {"studio": {"isVoiced": True}}
    told = ann.ask("save", take_id=TAKE, record=voiced, voice=piece(sound[:9000]))
    assert told == {"saved": True, "heard": 9000}
    assert Person(workspace).ask("open")["draft"]["heard"] == 9000
    assert ann.ask("submit", take_id=TAKE, record=None, num_samples=16000) == {"heard": 9000}
    ann.ask("save", take_id=TAKE, record=voiced, voice=piece(sound[9000:], 9000))
    told = ann.ask("submit", take_id=TAKE, record=None, num_samples=16000)
    again = ann.ask("submit", take_id=TAKE, record=None, num_samples=16000)
    assert told["progress"] == again["progress"] == [1, 3]
    (row,) = workspace.store.narratives(told["collection"])
    narrative = workspace.store.narrative(row.id)
    assert narrative.voice == f"voices/{TAKE}.wav" and "studio" not in narrative.extra
    assert np.array_equal(read_voice(workspace.root / narrative.voice), sound)
    assert workspace.voices.heard(TAKE) == 0
    late = ann.ask("save", take_id=TAKE, image=row.image_row_id, record=voiced, voice=piece(sound))
    assert late == {"saved": True} and workspace.voices.heard(TAKE) == 0


def test_a_voice_is_heard_by_its_owner_alone(ann, workspace):
    ann.ask("save", take_id=TAKE, record=RECORD, voice=piece(np.arange(10)))
    bob = Person(workspace, "bob")
    bob.ask("open")
    for action in ("voice", "align", "propose"):
        told = bob.ask(action, take_id=TAKE, at=0, caption="a ball")
        assert set(told) == {"problem"}
    assert (
        "belongs to another"
        in bob.ask("save", take_id=TAKE, record=RECORD, voice=piece(np.arange(20)))["problem"]
    )
    assert workspace.voices.heard(TAKE) == 10
    told = ann.ask("voice", take_id=TAKE, at=4)
    assert np.array_equal(np.frombuffer(base64.b64decode(told["pcm"]), "<i2"), np.arange(4, 10))
    ann.ask("discard", take_id=TAKE)
    assert workspace.voices.heard(TAKE) == 0


@pytest.mark.parametrize("voice", [{"at": 0, "pcm": "no base64!"}, {"at": 5, "pcm": ""}, {"at": 0}])
def test_a_piece_that_is_no_voice_changes_nothing(ann, workspace, voice):
    ann.ask("save", take_id=TAKE, record=RECORD, voice=voice)
    assert workspace.voices.heard(TAKE) == 0
    assert (
        "no proper id"
        in ann.ask("save", take_id="../x", record=RECORD, voice=piece(np.arange(3)))["problem"]
    )


def test_words_are_timed_and_proposed_in_a_process_of_their_own(ann, workspace, tmp_path):
    tiny_whisper(tmp_path)
    voice, starts = speak("a small cat is sleeping on the sofa")
    ann.ask("save", take_id=TAKE, record=RECORD, voice=piece(voice))
    words = ann.ask("align", take_id=TAKE, caption="a small cat is sleeping on the sofa")["words"]
    assert abs(words[2]["start"] - starts[2]) < 0.1 and words[2]["text"] == "cat"
    assert "not English" in ann.ask("align", take_id=TAKE, caption="кошка спит")["problem"]
    assert "--whisper" in ann.ask("propose", take_id=TAKE)["problem"]
    workspace.whisper = tmp_path
    assert isinstance(ann.ask("propose", take_id=TAKE)["caption"], str)


def test_a_collection_asks_its_question_and_may_keep_no_voice(ann, workspace):
    assert (ann.told["question"], ann.told["keeps_voice"]) == ("", True)
    told = ann.ask("ask_for", question=" What grows here? ", keeps_voice=False)
    assert (told["question"], told["keeps_voice"]) == ("What grows here?", False)
    ann.ask("save", take_id=TAKE, record=RECORD, voice=piece(np.arange(100)))
    told = ann.ask("submit", take_id=TAKE, record=None, num_samples=100)
    (row,) = workspace.store.narratives(told["collection"])
    assert workspace.store.narrative(row.id).voice is None
    assert not list(workspace.voices_dir.rglob("*.*"))


def test_only_an_admin_says_what_a_collection_asks(ann, workspace, monkeypatch):
    monkeypatch.setattr(workspace, "allows", lambda role, name: role != "admin")
    assert "Only an admin" in ann.ask("ask_for", question="x", keeps_voice=True)["problem"]
    assert ann.ask("open")["is_admin"] is False


def test_a_take_of_another_picture_is_refused_and_stays(ann, workspace):
    shown = ann.told["image"]["id"]
    told = ann.submit("take", studio={"image": shown + 1})
    assert "drawn on another picture" in told["problem"]
    assert workspace.store.narratives(ann.told["collection"]) == []
    assert "problem" not in ann.submit("take", studio={"image": shown})
    assert len(workspace.store.narratives(ann.told["collection"])) == 1


def test_the_picture_that_comes_next_is_named_ahead_and_stays_unclaimed(ann, workspace):
    collection = ann.told["collection"]
    ahead = ann.told["next"]
    assert ahead and ahead != ann.told["image"]["path"]
    following = ann.ask("skip", reason="dark")
    assert following["image"]["path"] == ahead
    assert workspace.store.next_image(collection, workspace.store.annotator("bob"))


def test_all_skipped_says_so_and_every_image_can_be_reached_again(ann, workspace):
    ids = [image.id for image in workspace.store.images(ann.told["collection"])]
    for _ in ids:
        told = ann.ask("skip", image=ann.told["image"]["id"], reason="dark")
    assert told["counts"] == {"described": 0, "skipped": 3, "left": 0, "total": 3}
    assert told["empty"]["text"] == "You described 0 of 3 images and skipped 3."
    assert ann.ask("again")["image"]["id"] == ids[0]
    assert [ann.ask("next")["image"]["id"] for _ in ids[1:]] == ids[1:]
    assert "the last image" in ann.ask("next")["problem"]
    ann.ask("again")
    assert ann.submit("first")["image"]["id"] == ids[1]  # on through them, not "All done"
    assert ann.submit("second")["counts"] == {"described": 2, "skipped": 1, "left": 0, "total": 3}
    told = ann.ask("unskip")
    assert told["image"]["id"] == ids[2]
    assert told["counts"] == {"described": 2, "skipped": 0, "left": 1, "total": 3}


def test_not_now_comes_back_behind_the_others(ann, workspace):
    ids = [image.id for image in workspace.store.images(ann.told["collection"])]
    told = ann.ask("skip", reason="later")
    assert told["image"]["id"] == ids[1] and told["counts"]["left"] == 3
    assert Person(workspace).ask("open")["image"]["id"] == ids[1]  # a reload, too
    assert ann.submit("second")["image"]["id"] == ids[2]
    assert ann.submit("third")["image"]["id"] == ids[0]
    assert ann.submit("first")["counts"] == {"described": 3, "skipped": 0, "left": 0, "total": 3}


def test_next_looks_on_without_skipping(ann, workspace):
    ids = [image.id for image in workspace.store.images(ann.told["collection"])]
    told = ann.ask("next")
    assert told["image"]["id"] == ids[1] and told["counts"]["left"] == 3
    assert told["counts"]["skipped"] == 0
    assert ann.ask("next")["image"]["id"] == ids[2]
    assert ann.ask("next")["image"]["id"] == ids[0]  # what was passed is left, and comes again
