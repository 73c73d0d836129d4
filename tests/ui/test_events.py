"""Made-up payloads for every event of the page: each ends in an answer or a sentence, none in an
uncaught exception, and none runs above its role.
"""

import json
import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from data_tools.store import Store
from tests.browser.conftest import Studio
from tests.data_tools.samples import narrative, picture
from tests.ui.client import Client, Event, built
from ui import users
from ui.annotate.asking import FIELDS
from ui.annotate.tab import ACTIONS

PASSWORD = "correct horse"
ROLES = {"ann": "annotator", "rob": "reviewer", "eve": "admin"}
VALUES: list[Any] = [
    None,
    True,
    False,
    0,
    -1,
    1,
    1.5,
    2**31,
    2**63,
    10**400,
    -(10**18),
    "",
    "x",
    "\0",
    "../../victim",
    "/etc/passwd",
    "<script>alert(1)</script>",
    "{",
    "[" * 5_000,
    "ä\u202e😀",
    "w" * 200_000,
    "1e999",
    "NaN",
    [],
    [None],
    [[]],
    ["x", 1, None],
    {},
    {"path": "/etc/passwd", "meta": {"_type": "gradio.FileData"}},
    {"id": {}},
    '{"action": "open", "serial": 1}',
    '{"action": "save", "take_id": "a", "image": 1, "record": {"caption": 5, "traces": [[1]]}}',
    '{"action": "submit", "take_id": "b", "image": 1, "collection": 1, "record": {}}',
    '{"action": [], "serial": {}}',
    "null",
    "[1]",
]
KEYS = ("id", "run", "runs", "star", "index", "path", "value", "selected")


@dataclass(frozen=True)
class Page:
    studio: Studio
    events: list[Event]
    clients: dict[str, Client]
    shown: dict[int, list]

    def log(self) -> str:
        return self.studio.log.read_text()


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    root = tmp_path_factory.mktemp("events")
    for name, role in ROLES.items():
        users.add(root / "users", name, role, PASSWORD)
    store = Store.of_workspace(root / "workspace", is_new=True)
    own = store.add_collection("own")
    for k in range(2):
        row = store.add_image(own, picture(k), dataset_id="studio", image_id=str(k))
        store.add(own, narrative(row.image_id, dataset_id="studio"))
    store.close()
    events, _ = built(tmp_path_factory.mktemp("built"))
    running = Studio(root / "workspace", f"--users={root / 'users'}")
    clients = {name: Client(running, name, PASSWORD) for name in ROLES}
    shown = shown_inputs(clients["eve"], events)
    yield Page(running, events, clients, shown)
    for client in clients.values():
        client.session.close()
    running.stop()


def shown_inputs(client: Client, events: list[Event]) -> dict[int, list]:
    """event id -> its inputs as the page shows them first."""
    config = client.session.get("/config").raise_for_status().json()
    values = {part["id"]: part["props"].get("value") for part in config["components"]}
    inputs = {each["id"]: each["inputs"] for each in config["dependencies"]}
    return {event.id: [values.get(part) for part in inputs[event.id]] for event in events}


def payload(chance: random.Random, shown: list) -> tuple[list, Any]:
    """Inputs of an event, and what is said of it: some as the page has them, some made up."""
    share = chance.choice((0.2, 0.6, 1.0))
    inputs = [chance.choice(VALUES) if chance.random() < share else value for value in shown]
    if chance.random() < 0.1:
        inputs = inputs[: chance.randrange(len(inputs) + 1)] + [None] * chance.randrange(2)
    keys = chance.sample(KEYS, chance.randrange(4))
    event_data = {key: chance.choice(VALUES) for key in keys}
    return inputs, chance.choice((event_data, event_data, None, [], "x"))


def ask(client: Client, event: Event, inputs: list, event_data: Any) -> str:
    """How it ended: "done", the sentence, or the status of a refusal."""
    question = {"fn_index": event.id, "data": inputs, "session_hash": client.hash}
    question |= {"event_data": event_data}
    body, kind = json.dumps(question).encode(), {"content-type": "application/json"}
    joined = client.session.post("/gradio_api/queue/join", content=body, headers=kind)
    if joined.status_code != 200:
        return f"status {joined.status_code}"
    path = f"/gradio_api/queue/data?session_hash={client.hash}"
    with client.session.stream("GET", path, timeout=120) as lines:
        for line in lines.iter_lines():
            message = json.loads(line.removeprefix("data:")) if line else {}
            if message.get("msg") == "process_completed":
                error = (message.get("output") or {}).get("error")
                return "done" if message["success"] else f"sentence {error}"
    raise AssertionError(f"{event.name} did not answer")


def attack(page: Page, count: int, seed: int) -> Counter[str]:
    chance, ends = random.Random(seed), Counter[str]()
    order = [event for event in page.events if event.name]
    chance.shuffle(order)
    for k in range(count):
        event, name = order[k % len(order)], chance.choice(("ann", "rob", *["eve"] * 4))
        inputs, event_data = payload(chance, page.shown[event.id])
        num_tracebacks = page.log().count("Traceback")
        end = ask(page.clients[name], event, inputs, event_data)
        about = f"{event.name} {event.kinds} by {name}: {str(inputs)[:600]} {event_data!r:.300}"
        new = page.log().split("Traceback")[1 + num_tracebacks :]
        assert not new, f"{about}\n{new[-1][-3000:]}"
        assert end.split(" ")[0] in ("done", "sentence") or end in ("status 413", "status 422"), end
        assert end != "sentence None", about
        is_below = users.ROLES.index(ROLES[name]) < users.ROLES.index(event.role)
        if is_below and not set(event.kinds) <= {"load", "tick", "then"}:  # these are left silent
            assert end.startswith("sentence Only"), f"{end}: {about}"
        ends[end.split(" ")[0]] += 1
    return ends


def attack_recorder(page: Page, count: int, seed: int) -> Counter[str]:
    """Made-up questions of the recorder, which go by a route of their own."""
    chance, ends = random.Random(seed), Counter[str]()
    for _ in range(count):
        action = chance.choice([*ACTIONS, "fly", "%00", "a" * 3000])
        names = chance.sample(sorted(FIELDS), chance.randrange(len(FIELDS)))
        usual = {"collection": 1, "image": 1, "take_id": "a" * 32, "change": {}, "record": {}}
        question = usual | {name: chance.choice(VALUES) for name in names}
        body = json.dumps(chance.choice((question, question, question, chance.choice(VALUES))))
        name = chance.choice(list(ROLES))
        answer = page.clients[name].session.post(f"/recorder/{action}", content=body.encode())
        about = f"{action[:20]} by {name}: {body[:600]}: {answer.text[:300]}"
        assert answer.status_code == 200 and isinstance(answer.json(), dict), about
        assert "Traceback" not in page.log(), f"{about}\n{page.log()[-3000:]}"
        ends["sentence" if "problem" in answer.json() else "done"] += 1
    return ends


@pytest.mark.parametrize("num", [100, pytest.param(1000, marks=pytest.mark.slow)])
def test_made_up_questions_of_the_recorder_end_in_an_answer_or_a_sentence(page, num):
    ends = attack_recorder(page, num, seed=19)
    assert ends.total() == num and ends["sentence"] > num / 4


def test_sixty_made_up_payloads_end_in_an_answer_or_a_sentence(page):
    ends = attack(page, 60, seed=17)
    assert ends.total() == 60 and ends["sentence"] > 20


@pytest.mark.slow
def test_a_thousand_made_up_payloads_end_in_an_answer_or_a_sentence(page):
    ends = attack(page, 1000, seed=18)
    assert ends.total() == 1000 and ends["sentence"] > 300
