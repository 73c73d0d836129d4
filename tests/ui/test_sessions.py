"""A session ends with its time, its password, its role and its person; everywhere at once."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from data_tools.store import Store
from tests.browser.conftest import Studio
from tests.data_tools.samples import picture
from ui import users
from ui.guard.sessions import Sessions

PASSWORD = "correct horse"


def remove(file: Path, name: str) -> None:
    lines = file.read_text().splitlines(keepends=True)
    file.write_text("".join(line for line in lines if not line.startswith(name + " ")))


@pytest.fixture
def logins(tmp_path: Path) -> Path:
    for name, role in (("ann", "annotator"), ("eve", "admin")):
        users.add(tmp_path / "users", name, role, PASSWORD)
    return tmp_path / "users"


ENDS: dict[str, Callable[[Path], None]] = {
    "password": lambda file: users.add(file, "eve", "admin", "another password"),
    "same password anew": lambda file: users.add(file, "eve", "admin", PASSWORD),
    "role": lambda file: users.add(file, "eve", "reviewer", PASSWORD),
    "removal": lambda file: remove(file, "eve"),
}


@pytest.mark.parametrize("end", ENDS)
def test_a_session_ends_when_its_persons_line_changes_and_no_other_does(logins, end):
    sessions = Sessions(logins)
    sessions["a"], sessions["b"], sessions["c"] = "eve", "eve", "ann"
    assert sessions.get("a") == "eve" and len(sessions) == 3
    ENDS[end](logins)
    assert sessions.get("a") is None and "b" not in sessions
    assert dict(sessions) == {"c": "ann"} and sessions.get(None) is None


def test_a_session_lasts_its_hours(logins):
    now = 1000.0
    sessions = Sessions(logins, hours=2, clock=lambda: now)
    sessions["a"] = "eve"
    now += 7199
    assert sessions["a"] == "eve"
    now += 1
    assert sessions.get("a") is None and list(sessions) == []


def test_who_is_not_in_the_file_has_no_session(logins):
    sessions = Sessions(logins)
    sessions["a"] = "mallory"
    assert sessions.get("a") is None
    users.add(logins, "mallory", "admin", PASSWORD)
    assert sessions.get("a") is None


def test_a_file_that_is_broken_for_a_moment_ends_no_session_and_lets_nobody_in(logins):
    sessions, text = Sessions(logins), logins.read_text()
    sessions["a"] = "eve"
    for broken in (text[: text.rindex("$argon2") + 3], "eve admin", "\xff", ""):
        logins.write_text(broken, encoding="latin-1")
        with pytest.raises(users.UnreadableUsersError, match="Try again in a moment"):
            sessions.get("a")
    logins.unlink()
    with pytest.raises(users.UnreadableUsersError):
        sessions.get("a")
    logins.write_text(text)
    assert sessions["a"] == "eve"


# --- in a running studio


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Studio]:
    root = tmp_path_factory.mktemp("sessions")
    users.add(root / "users", "boss", "admin", PASSWORD)
    store = Store.of_workspace(root / "workspace", is_new=True)
    own = store.add_collection("own")
    store.add_image(own, picture(), dataset_id="studio", image_id="1")
    store.close()
    running = Studio(root / "workspace", f"--users={root / 'users'}")
    yield running
    running.stop()


def entered(studio: Studio, name: str) -> httpx.Client:
    client = httpx.Client(base_url=studio.url, timeout=60)
    answer = client.post("/login", data={"username": name, "password": PASSWORD})
    assert answer.status_code == 200
    return client


def statuses(studio: Studio, client: httpx.Client) -> dict[str, int]:
    """What each kind of request is answered: page, picture, upload, event, stream, recorder."""
    (image,) = (studio.root / "images").rglob("*.*")
    event = {"fn_index": 0, "data": [], "session_hash": "s"}
    requests = {
        "config": client.build_request("GET", "/config"),
        "picture": client.build_request("GET", f"/gradio_api/file={image}"),
        "upload": client.build_request("POST", "/gradio_api/upload", files={"files": b"x"}),
        "event": client.build_request("POST", "/gradio_api/queue/join", json=event),
        "info": client.build_request("GET", "/gradio_api/info"),
        "recorder": client.build_request("POST", "/recorder/open", json={}),
    }
    return {name: client.send(request).status_code for name, request in requests.items()}


@pytest.mark.parametrize("end", [*ENDS, "logout"])
def test_pages_pictures_uploads_and_events_end_together(studio, end):
    file = studio.root.parent / "users"
    users.add(file, "eve", "admin", PASSWORD)
    first, second, boss = entered(studio, "eve"), entered(studio, "eve"), entered(studio, "boss")
    for client in (first, second):
        assert set(statuses(studio, client).values()) == {200}
    if end == "logout":
        assert first.get("/logout").status_code == 302  # of one browser: it ends both
    else:
        ENDS[end](file)
    for client in (first, second):
        refusals = statuses(studio, client)
        assert set(refusals.values()) <= {401, 403}, refusals
    assert boss.get("/config").status_code == 200
    for client in (first, second, boss):
        client.close()


def test_a_session_of_a_running_studio_lasts_its_hours(tmp_path, logins):
    store = Store.of_workspace(tmp_path / "workspace", is_new=True)
    store.add_image(store.add_collection("own"), picture(), dataset_id="studio", image_id="1")
    store.close()
    brief = Studio(tmp_path / "workspace", f"--users={logins}", "--session-hours=0.002")
    began = time.monotonic()
    client = entered(brief, "eve")
    while client.get("/config").status_code == 200 and time.monotonic() < began + 60:
        time.sleep(0.1)
    assert 7 < time.monotonic() - began < 60
    assert set(statuses(brief, client).values()) <= {401, 403}
    client.close()
    brief.stop()


def test_a_broken_users_file_is_a_sentence_and_nobody_has_to_log_in_again(studio):
    file = studio.root.parent / "users"
    boss, text = entered(studio, "boss"), file.read_text()
    file.write_text("boss admin\n")
    refusals = [
        boss.get("/"),
        boss.get("/config"),
        boss.post("/gradio_api/upload", files={"files": b"x"}),
        boss.post("/login", data={"username": "boss", "password": PASSWORD}),
    ]
    file.write_text(text)
    for refusal in refusals:
        assert refusal.status_code == 503, refusal.text
        assert "list of logins cannot be read just now" in refusal.json()["detail"]
        assert str(file) not in refusal.text
    assert boss.get("/config").status_code == 200
    assert "users:1: must be `name" in (studio.root / "studio.log").read_text()
    boss.close()
