"""A person with a login and no browser, who asks for the events of the page by their numbers."""

import json
import subprocess
import sys
import uuid
from dataclasses import dataclass
from pathlib import Path

import httpx

from tests.browser.conftest import ROOT, Studio

BUILD = """
import app, json, sys; app.stay_local()
from pathlib import Path
from ui import layout
from ui.workspace import Workspace
users = Path(sys.argv[2]) if len(sys.argv) > 2 else None
page = layout.build(Workspace(sys.argv[1], users=users))
events = [[e._id, getattr(e.fn, "__qualname__", ""), len(e.inputs), [kind for _, kind in e.targets],
           page._roles.get(e._id, "annotator")]
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
    role: str = "annotator"  # the least that its tab is for


def built(root: Path, has_users: bool = True) -> tuple[list[Event], list[bool]]:
    """The events of the page over this workspace, of a team or not, and whether each tab is open to
    everybody."""
    words = [sys.executable, "-c", BUILD, root, *([root / "users"] if has_users else [])]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True)
    events, is_open = json.loads(done.stdout.splitlines()[-1])
    return [Event(*event) for event in events], is_open


def named(events: list[Event], name: str) -> Event:
    """The event whose function is called so."""
    return next(event for event in events if event.name.endswith(name))


class Client:
    """A person with a login and no browser: asks for any event of the page by its number."""

    def __init__(self, studio: Studio, name: str, password: str) -> None:
        self.session = httpx.Client(base_url=studio.url, timeout=60)
        self.hash = uuid.uuid4().hex
        form = {"username": name, "password": password}
        self.answer = self.session.post("/login", data=form)

    def shown(self, event: Event) -> list:
        """The event's inputs as the page shows them first; None for a session's own states."""
        config = self.session.get("/config").raise_for_status().json()
        values = {part["id"]: part["props"].get("value") for part in config["components"]}
        inputs = next(each["inputs"] for each in config["dependencies"] if each["id"] == event.id)
        return [values.get(part) for part in inputs]

    def ask(self, event: Event, inputs: list) -> dict:
        """What the page would be told: {"success": ..., "output": ...}."""
        asked = {"fn_index": event.id, "data": inputs, "session_hash": self.hash}
        self.session.post("/gradio_api/queue/join", json=asked).raise_for_status()
        path = f"/gradio_api/queue/data?session_hash={self.hash}"
        with self.session.stream("GET", path) as lines:
            for line in lines.iter_lines():
                told = json.loads(line.removeprefix("data:")) if line else {}
                if told.get("msg") == "process_completed":
                    return told
        raise AssertionError("the page did not answer")

    def question(self, action: str, **ask: object) -> dict:
        """What the recorder would be answered."""
        return self.session.post(f"/recorder/{action}", json=ask).raise_for_status().json()
