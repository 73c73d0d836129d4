"""What each role may do, also when the request is written by hand."""

import json
from collections.abc import Callable, Iterator

import pytest

from tests.browser.conftest import Studio
from tests.data_tools.samples import narrative, picture
from tests.ui.client import Client, Event, built, named
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


@pytest.fixture(scope="module")
def events(workspace) -> list[Event]:
    return built(workspace.root)[0]


@pytest.fixture(scope="module")
def studio(workspace) -> Iterator[Studio]:
    running = Studio(workspace.root, f"--users={workspace.users}")
    yield running
    running.stop()


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


def test_each_role_may_do_what_those_before_it_may(workspace):
    may = {
        name: [workspace.allows(role, name) for role in users.ROLES]
        for name in ("ann", "rob", "eve", "nobody", None)
    }
    assert may == {
        "ann": [True, False, False],
        "rob": [True, True, False],
        "eve": [True, True, True],
        "nobody": [False] * 3,
        None: [False] * 3,
    }
    with pytest.raises(ValueError, match="Only a reviewer or an admin may do this"):
        workspace.demand("reviewer", "ann")
    with pytest.raises(ValueError, match="Only an admin may do this"):
        workspace.demand("admin", "rob")


def test_without_logins_whoever_reaches_the_page_is_its_admin(tmp_path):
    workspace = Workspace(tmp_path)
    workspace.demand("admin", None)
    workspace.store.close()
    assert built(tmp_path, has_users=False)[1] == [True] * 6  # Mine, Review and Team are of teams


def test_nobody_looks_behind_a_closed_tab_with_a_forged_request(enter, events):
    show = named(events, "DataTab._show")
    inputs = [None] * show.num_inputs  # a session's own states
    refused = enter("ann").ask(show, inputs)
    assert refused["success"] is False
    assert "Only a reviewer or an admin" in refused["output"]["error"]
    seen = enter("rob").ask(show, inputs)
    assert seen["success"] and "a dog" in json.dumps(seen["output"])


def test_what_loads_by_itself_stays_silent_for_those_who_may_not_see_it(enter, events):
    ticks = [event for event in events if event.kinds == ["tick"]]
    assert ticks
    for look in ticks:
        told = enter("ann").ask(look, [None] * look.num_inputs)
        assert told["success"]
        assert "value" not in json.dumps(told["output"]["data"])  # nothing is shown


def test_only_an_admin_starts_a_run(enter, events, workspace):
    start = named(events, "TrainTab._start")
    inputs = enter("rob").shown(start)
    told = enter("rob").ask(start, inputs)
    assert "Only an admin may do this" in json.dumps(told["output"])
    assert workspace.runs() == []
    assert "Only an admin" not in json.dumps(enter("eve").ask(start, inputs))


def test_without_a_login_nothing_is_told(enter):
    stranger = enter("ann", "wrong password")
    assert stranger.answer.status_code == 400
    asked = {"fn_index": 0, "data": [], "session_hash": "forged"}
    for answer in (
        stranger.session.post("/gradio_api/queue/join", json=asked),
        stranger.session.get("/config"),
        stranger.session.post("/recorder/open", json={}),
    ):
        assert answer.status_code == 401 and "own" not in answer.text


def test_the_recorders_route_is_inside_the_borders(enter):
    ann = enter("ann").session
    other_origin = {"origin": "http://evil.example"}
    assert ann.post("/recorder/open", json={}).json()["annotator"] == "ann"
    assert ann.post("/recorder/open", json={}, headers=other_origin).status_code == 403
    assert ann.post("/recorder/save", content=iter([b"{}"])).status_code == 411
    assert ann.get("/recorder/open").status_code in (404, 405)
    refused = ann.post("/recorder/demo", json={}).json()
    assert "Only an admin may do this" in refused["problem"]
