"""What each role may do, also when the request is written by hand."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from tests.browser.conftest import ROOT, Studio
from tests.data_tools.samples import narrative, picture
from ui import users
from ui.workspace import Workspace

PASSWORD = "correct horse"


@pytest.fixture(scope="module")
def workspace(tmp_path_factory) -> Iterator[Workspace]:
    folder = tmp_path_factory.mktemp("access")
    for name, role in (("ann", "annotator"), ("rob", "reviewer"), ("eve", "admin")):
        users.add(folder / "users", name, role, PASSWORD)
    result = Workspace(folder / "workspace", users=folder / "users")
    own = result.store.add_collection("own")
    row = result.store.add_image(own, picture(), dataset_id="studio", image_id="1")
    result.store.add(own, narrative(row.image_id, dataset_id="studio"))
    yield result
    result.store.close()


BUILD = """
import app, json, sys; app.stay_local()
from ui import layout
from ui.workspace import Workspace
page = layout.build(Workspace(sys.argv[1]))
events = [[e._id, getattr(e.fn, "__qualname__", ""), len(e.inputs), [kind for _, kind in e.targets]]
          for e in page.fns.values()]
print(json.dumps([events, [tab.visible for tab, _ in page.tabs]]))
"""  # in a process of its own: Gradio leaves an event loop open


@dataclass(frozen=True)
class Event:
    """What a forger finds out of the page: the number of an event."""

    id: int
    name: str
    num_inputs: int
    kinds: list[str]


def built(root: Path) -> tuple[list[Event], list[bool]]:
    """The events of the page over this workspace, and whether each tab is open to everybody."""
    done = subprocess.run(
        [sys.executable, "-c", BUILD, root], cwd=ROOT, capture_output=True, text=True, check=True
    )
    events, is_open = json.loads(done.stdout.splitlines()[-1])
    return [Event(*event) for event in events], is_open


@pytest.fixture(scope="module")
def events(workspace) -> list[Event]:
    return built(workspace.root)[0]


@pytest.fixture(scope="module")
def studio(workspace) -> Iterator[Studio]:
    running = Studio(workspace.root, f"--users={workspace.users}")
    yield running
    running.stop()


class Client:
    """A person with a login and no browser: asks for any event of the page by its number."""

    def __init__(self, studio: Studio, name: str, password: str) -> None:
        self.session = httpx.Client(base_url=studio.url, timeout=60)
        form = {"username": name, "password": password}
        self.answer = self.session.post("/login", data=form)

    def ask(self, event: Event, inputs: list) -> dict:
        """What the page would be told: {"success": ..., "output": ...}."""
        asked = {"fn_index": event.id, "data": inputs, "session_hash": "forged"}
        self.session.post("/gradio_api/queue/join", json=asked).raise_for_status()
        with self.session.stream("GET", "/gradio_api/queue/data?session_hash=forged") as lines:
            for line in lines.iter_lines():
                told = json.loads(line.removeprefix("data:")) if line else {}
                if told.get("msg") == "process_completed":
                    return told
        raise AssertionError("the page did not answer")


@pytest.fixture
def enter(studio) -> Iterator[Callable[..., Client]]:
    """enter(name): a client who logged in."""
    clients: list[Client] = []

    def log_in(name: str, password: str = PASSWORD) -> Client:
        clients.append(Client(studio, name, password))
        return clients[-1]

    yield log_in
    for client in clients:
        client.session.close()


def named(events: list[Event], name: str) -> Event:
    """The event whose function is called so."""
    return next(event for event in events if event.name.endswith(name))


def test_each_role_may_do_what_those_before_it_may(workspace):
    may = {
        name: [workspace.allows(role, name) for role in users.ROLES]
        for name in ("ann", "rob", "eve", "nobody", None)
    }
    assert may == {
        "ann": [True, False, False], "rob": [True, True, False], "eve": [True, True, True],
        "nobody": [False] * 3, None: [False] * 3,
    }  # fmt: skip
    with pytest.raises(ValueError, match="Only a reviewer or an admin may do this"):
        workspace.demand("reviewer", "ann")
    with pytest.raises(ValueError, match="Only an admin may do this"):
        workspace.demand("admin", "rob")


def test_without_logins_whoever_reaches_the_page_is_its_admin(tmp_path):
    workspace = Workspace(tmp_path)
    workspace.demand("admin", None)
    workspace.store.close()
    assert built(tmp_path)[1] == [True] * 4


def test_nobody_looks_behind_a_closed_tab_with_a_forged_request(enter, events):
    show = named(events, "DataTab._show")
    refused = enter("ann").ask(show, [1, [0], None])
    assert refused["success"] is False
    assert "Only a reviewer or an admin" in refused["output"]["error"]
    seen = enter("rob").ask(show, [1, [0], None])
    assert seen["success"] and "a dog" in json.dumps(seen["output"])


def test_what_loads_by_itself_stays_silent_for_those_who_may_not_see_it(enter, events):
    (look,) = [event for event in events if event.kinds == ["tick"]]
    told = enter("ann").ask(look, ["", {}])
    assert told["success"] and "nav class='runs'" not in json.dumps(told)


def test_only_an_admin_starts_a_run(enter, events, workspace):
    start = named(events, "TrainTab._start")
    inputs = ["token", [], "", "tiny", "mine", *[None] * (start.num_inputs - 5)]
    told = enter("rob").ask(start, inputs)
    assert "Only an admin may do this" in json.dumps(told["output"])
    assert workspace.runs() == []
    assert "Only an admin" not in json.dumps(enter("eve").ask(start, inputs))


def test_without_a_login_nothing_is_told(enter):
    stranger = enter("ann", "wrong password")
    assert stranger.answer.status_code == 400
    asked = {"fn_index": 0, "data": [], "session_hash": "forged"}
    for answer in (stranger.session.post("/gradio_api/queue/join", json=asked),
                   stranger.session.get("/config")):  # fmt: skip
        assert answer.status_code == 401 and "own" not in answer.text
