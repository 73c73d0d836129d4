"""Rules that the page keeps are kept by the server too, when a request is written by hand."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from tests.data_tools.samples import narrative, picture
from ui import users
from ui.annotate.tab import answer
from ui.guard.payloads import MOST_CHARACTERS
from ui.review import mine
from ui.review import tab as review
from ui.workspace import Workspace

RECORD = narrative().to_json()
PLACES = "Enough others describe this image"


@pytest.fixture
def team(tmp_path: Path) -> Iterator[Workspace]:
    """A collection of two images that one person each describes."""
    for name, role in (("ann", "annotator"), ("bob", "annotator"), ("rob", "reviewer")):
        users.add(tmp_path / "users", name, role, "correct horse")
    workspace = Workspace(tmp_path / "workspace", users=tmp_path / "users")
    own = workspace.store.add_collection("own")
    for k in range(2):
        workspace.store.add_image(own, picture(k), dataset_id="studio", image_id=str(k))
    workspace.store.set_rules(own, overlap=1, needs_review=False)
    yield workspace
    workspace.store.close()


def ask(workspace: Workspace, name: str, action: str, **fields: Any) -> dict[str, Any]:
    return json.loads(answer(workspace, name, action, json.dumps(fields)))


def take(workspace: Workspace, image: int, take_id: str, **fields: Any) -> dict[str, Any]:
    (collection,) = workspace.store.collections()
    about = {"collection": collection.id, "image": image, "take_id": take_id * 32}
    return about | {"record": RECORD} | fields


def narratives(workspace: Workspace, name: str) -> list[Any]:
    return workspace.store.people.narratives(workspace.store.annotator(name))


def test_who_never_opened_an_image_describes_it_only_where_there_is_a_place(team):
    image = ask(team, "ann", "open")["image"]["id"]
    forged = take(team, image, "b")
    assert PLACES in ask(team, "bob", "save", **forged)["problem"]
    assert PLACES in ask(team, "bob", "submit", **forged)["problem"]
    ask(team, "bob", "skip", **forged, reason="x")  # what he skipped is not his by that
    assert PLACES in ask(team, "bob", "submit", **forged)["problem"]
    assert narratives(team, "bob") == []

    assert "problem" not in ask(team, "ann", "submit", **take(team, image, "a"))
    assert PLACES in ask(team, "bob", "submit", **forged)["problem"]  # nor afterwards
    assert len(narratives(team, "ann")) == 1 and narratives(team, "bob") == []
    other = take(team, 3 - image, "c")
    assert "problem" not in ask(team, "bob", "submit", **other)  # nobody has this one


def test_a_draft_moved_to_another_image_takes_no_place_there(team):
    image = ask(team, "ann", "open")["image"]["id"]
    own = take(team, 3 - image, "b")
    assert ask(team, "bob", "save", **own)["saved"]
    moved = own | {"image": image}
    assert PLACES in ask(team, "bob", "save", **moved)["problem"]
    assert PLACES in ask(team, "bob", "submit", **moved)["problem"]


def test_who_opened_an_image_may_finish_however_long_it_took(team):
    image = ask(team, "ann", "open")["image"]["id"]
    with team.store._database.writing() as connection:
        connection.execute(text("UPDATE claims SET expires = 1"))
    late = take(team, image, "b")
    assert "problem" not in ask(team, "bob", "submit", **late)  # free by now
    assert "problem" not in ask(team, "ann", "submit", **take(team, image, "a"))  # not lost


def test_nobody_reviews_what_they_told_themselves(team):
    image = ask(team, "rob", "open")["image"]["id"]
    ask(team, "rob", "submit", **take(team, image, "r"))
    (own,) = narratives(team, "rob")
    for act, words in (
        (review.accept, own.caption),
        (review.accept, "mended"),
        (review.reject, "no"),
    ):
        with pytest.raises(ValueError, match="your own narrative: another reviewer judges it"):
            act(team, "rob", own.id, words)
    assert narratives(team, "rob")[0].status == "unreviewed"
    assert review.accept(team, "sue", own.id, own.caption) == "Accepted."
    team.users = None  # alone, without logins, everybody is one
    assert review.accept(team, "rob", own.id, own.caption) == "Accepted."


def test_no_text_is_longer_than_a_person_writes(team):
    image = ask(team, "ann", "open")["image"]["id"]
    long = "word " * (MOST_CHARACTERS // 5 + 1)
    told_long = take(team, image, "a", record=RECORD | {"caption": long})
    assert "characters; 50,000 are the most" in ask(team, "ann", "submit", **told_long)["problem"]
    ask(team, "ann", "submit", **take(team, image, "a"))
    (row,) = narratives(team, "ann")
    for act, name, words in (
        (mine.mend, "ann", long),
        (review.accept, "rob", long),
        (review.reject, "rob", "x" * 1001),
    ):
        with pytest.raises(ValueError, match="are the most"):
            act(team, name, row.id, words)


@pytest.mark.parametrize(
    "action, question",
    [
        ("save", ""),
        ("open", "null"),
        ("open", "[]"),
        ("open", "{"),
        ("open", "[" * 100_000),
        ("", "{}"),
        ("fly", "{}"),
        ("save", "{}"),
        ("save", '{"take_id": 5, "image": 1, "record": {}}'),
        ("save", '{"take_id": "a", "image": 1e400, "record": {}}'),
        ("save", '{"take_id": "a", "image": 99999999999999999999, "record": {}}'),
        ("save", '{"take_id": "a", "image": true, "record": {}}'),
        ("save", '{"take_id": "a", "image": 1, "record": []}'),
        ("save", '{"take_id": "a", "image": 1, "record": {}, "voice": {"at": -1}}'),
        ("save", '{"take_id": "a", "image": 1, "record": {}, "voice": {"pcm": 5}}'),
        ("save", '{"take_id": "a", "image": 1, "change": []}'),
        ("save", '{"take_id": "a", "image": 1, "change": {"title": 1}}'),
        ("save", '{"take_id": "a", "image": 1, "change": {"caption": [0, -1, ""]}}'),
        ("save", '{"take_id": "a", "image": 1, "change": {"words": [0, 1]}}'),
        ("save", '{"take_id": "a", "image": 1, "change": {"traces": [0, 0, [[[1, 2]]]]}}'),
        ("save", '{"take_id": "a", "image": 1, "change": {"traces": [0, 0, [[[1, 2, NaN]]]]}}'),
        ("save", '{"take_id": "a", "image": 1, "change": {"studio": 5}}'),
        ("save", json.dumps({"take_id": "a", "image": 1, "record": {}, "revision": "r" * 65})),
        ("open", '{"drafts": [5]}'),
        ("open", '{"drafts": [{"annotator": "ann"}]}'),
        ("choose", '{"collection": "1"}'),
        ("voice", '{"take_id": "a", "at": -1}'),
        ("submit", '{"take_id": "a", "collection": 77, "image": 1, "record": {}}'),
        ("submit", '{"take_id": "a", "collection": 1, "image": 1, "record": {"x": 5}}'),
    ],
)
def test_a_question_of_another_shape_is_answered_with_a_sentence(team, action, question):
    problem = json.loads(answer(team, "ann", action, question))["problem"]
    assert len(problem) > 10 and "Error" not in problem
    assert narratives(team, "ann") == []
