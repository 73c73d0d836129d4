"""Hostile input to a running studio: refused with a message, logged, and nothing leaked."""

import base64
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from data_tools.store import Store
from tests.browser.conftest import Studio
from tests.data_tools.samples import narrative, picture
from tests.ui.client import Client, Event, built, named
from ui import users
from ui.annotate.takes import MOST_POINTS, checked
from ui.guard.limits import LARGEST
from ui.review import tab as review
from ui.workspace import Workspace

PASSWORD = "correct horse"
TAKE = "a" * 32
RECORD = narrative().to_json()


@pytest.fixture(scope="module")
def studio(tmp_path_factory) -> Iterator[Studio]:
    root = tmp_path_factory.mktemp("hostile")
    for name, role in (("ann", "annotator"), ("bob", "annotator"), ("eve", "admin")):
        users.add(root / "users", name, role, PASSWORD)
    store = Store.of_workspace(root / "workspace", is_new=True)
    own = store.add_collection("own")
    for k in range(6):
        store.add_image(own, picture(k), dataset_id="studio", image_id=str(k))
    store.close()
    running = Studio(root / "workspace", f"--users={root / 'users'}")
    yield running
    running.stop()


@pytest.fixture(scope="module")
def events(studio, tmp_path_factory) -> list[Event]:
    return built(tmp_path_factory.mktemp("built"))[0]


@pytest.fixture
def enter(studio) -> Iterator[Callable[[str], Client]]:
    clients: list[Client] = []

    def log_in(name: str) -> Client:
        clients.append(Client(studio, name, PASSWORD))
        return clients[-1]

    yield log_in
    for client in clients:
        client.session.close()


def log_of(studio: Studio) -> str:
    return (studio.root / "studio.log").read_text()


def test_another_annotators_draft_is_neither_read_nor_changed(studio, enter):
    ann, bob = enter("ann"), enter("bob")
    hers = ann.question("open")
    at = {"image": hers["image"]["id"], "collection": hers["collection"], "take_id": TAKE}
    pcm = base64.b64encode(b"\1\0" * 160).decode()
    hers = RECORD | {"studio": {"isVoiced": True}}
    kept = ann.question("save", record=hers, voice={"at": 0, "pcm": pcm}, **at)
    assert kept == {"saved": True, "heard": 160}
    bob.question("open")
    for forged in (
        {"action": "save", "record": {}, "voice": {"at": 160, "pcm": pcm}},
        {"action": "voice", "at": 0},
        {"action": "align", "caption": "a dog"},
    ):
        told = bob.question(**forged, **at)
        refusals = ("Enough others describe", "another annotator", "not one of your drafts")
        assert any(refusal in told["problem"] for refusal in refusals)
        assert pcm not in json.dumps(told) and "a dog" not in json.dumps(told)
    assert bob.question("submit", record=None, **at)["isMissing"] is True
    bob.question("discard", **at)
    again = ann.question("open")
    assert again["draft"]["record"] == hers and again["draft"]["heard"] == 160
    assert "refused: 'bob' asked to 'save'" in log_of(studio)


def test_a_forged_annotator_name_changes_nothing(studio, enter):
    bob, store = enter("bob"), studio.store()
    told = bob.question("open", annotator="eve")
    at = {"image": told["image"]["id"], "collection": told["collection"], "take_id": "b" * 32}
    forged = RECORD | {"annotator_id": store.annotator("ann"), "voice_recording": "../studio.db"}
    bob.question("submit", annotator="ann", record=forged, **at)
    (row,) = store.people.narratives(store.annotator("bob"))
    assert store.people.narratives(store.annotator("ann")) == []
    assert store.narrative(row.id).voice is None
    store.close()


@pytest.mark.parametrize("take_id", ["../../studio", "a/b", "", "x" * 5000])
def test_a_path_in_place_of_a_take_is_refused(studio, enter, take_id):
    bob = enter("bob")
    told = bob.question("open")
    pcm = base64.b64encode(b"\1\0" * 160).decode()
    ask = {"image": told["image"]["id"], "collection": told["collection"], "take_id": take_id}
    said = bob.question("save", record=RECORD, voice={"at": 0, "pcm": pcm}, **ask)
    assert "no proper id" in said["problem"]
    drafts = studio.root / "voices" / "drafts"
    assert {path.name for path in drafts.iterdir()} <= {f"{TAKE}.pcm"}
    bob.question("discard", **ask)


def test_a_path_in_place_of_an_upload_is_refused_and_not_read(studio, enter, events):
    eve, drop = enter("eve"), named(events, "ExchangePage._step_by_step.<locals>.steps")
    drops = [event for event in events if event.name == drop.name and event.kinds == ["upload"]]
    for path in (studio.root / "studio.db", Path("/etc/passwd"), studio.root.parent / "users"):
        file = {"path": str(path), "meta": {"_type": "gradio.FileData"}}
        told = eve.ask(drops[0], [1, [file]])
        said = json.dumps(told)
        assert told["success"] is False and "root:" not in said and "$argon2" not in said


def test_neither_database_nor_users_nor_voices_are_served(studio, enter):
    eve = enter("eve")
    for path in (
        "studio.db",
        "studio.log",
        "../users",
        f"voices/drafts/{TAKE}.pcm",
        "images/../studio.db",
    ):
        answer = eve.session.get(f"/gradio_api/file={studio.root / path}")
        assert answer.status_code in (403, 404), path
        assert b"SQLite" not in answer.content and b"$argon2" not in answer.content


def test_a_voice_of_500_mb_is_refused_before_it_is_read(studio, enter):
    ann = enter("ann")
    for path, most in (("/gradio_api/queue/join", LARGEST), ("/gradio_api/upload", 200 * 2**20)):
        assert most < 500 * 2**20

        def half_a_gigabyte() -> Iterator[bytes]:
            for _ in range(500):
                yield bytes(2**20)

        headers = {"content-length": str(500 * 2**20), "content-type": "application/json"}
        if path.endswith("upload"):
            headers["content-type"] = "multipart/form-data; boundary=x"
        try:
            answer = ann.session.post(path, content=half_a_gigabyte(), headers=headers)
            assert 400 <= answer.status_code < 500
        except (httpx.WriteError, httpx.ReadError, httpx.RemoteProtocolError):
            assert path.endswith("join")  # it hung up on us, which is an answer too
    assert "/gradio_api/queue/join from 127.0.0.1: This is larger than 32 MB" in log_of(studio)
    assert ann.session.post("/gradio_api/queue/join", content=iter([b"{}"])).status_code == 411


def test_a_million_points_are_refused(tmp_path):
    workspace = Workspace(tmp_path)
    own = workspace.store.add_collection("own")
    image = workspace.store.add_image(own, picture(), dataset_id="d", image_id="1")
    record = RECORD | {"traces": [[{"x": 0.5, "y": 0.5, "t": 1}] * 1_000_000]}
    with pytest.raises(ValueError, match="has 1,000,000 points; a take has 250,000 at most"):
        checked(record, image, 5)
    half = RECORD | {"traces": [[{"x": 0.5, "y": 0.5, "t": 1}] * (MOST_POINTS // 50)]}
    assert checked(half, image, 5).num_points == 5_000
    workspace.store.close()


MARKUP = "<img src=x onerror=alert(1)> & <script>alert(2)</script>"


def test_markup_in_a_caption_a_name_or_a_reason_is_text(tmp_path):
    workspace = Workspace(tmp_path)
    store = workspace.store
    own, ann = store.add_collection(MARKUP), store.annotator(MARKUP)
    store.add_image(own, picture(), dataset_id="d", image_id="1")
    told = store.add(own, narrative("1", dataset_id="d", annotator_id=ann, caption=MARKUP))
    review.reject(workspace, MARKUP, told, MARKUP)
    rows = store.reviews.queue(own, "rejected")
    shown = review.rows_html(workspace, rows, None, "rejected")
    shown += review.trail_html(workspace, store.reviews.trail(told))
    assert shown.count("&lt;script&gt;") == 4
    assert "<script" not in shown and "<img src=x" not in shown
    store.close()
