"""Saves of many annotators at once: how long each takes, and what the server's memory does.

    python -m tests.benchmarks.saves --against CHECKOUT [--people 20 50 100] [--seconds 20]
        [--turns 2] [--databases sqlite postgresql]

In each turn `python app.py` of both checkouts runs, one after the other, over a new workspace; that
many people log in, open an image and save their take each second, as the recorder of that checkout
does. CHECKOUT may be of a version whose recorder asks by Gradio's events. Last line: `ratio X`, the
95th percentile there over the one here, at the most people and the first database.
"""

import argparse
import asyncio
import json
import re
import ssl
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import argon2
import httpx
import numpy as np

from tests.browser.conftest import ROOT, Studio
from tests.data_tools import postgres

PASSWORD = "correct horse"
PACE = 1.0  # seconds between two saves of a take
RATE = 125  # points a second
LONGEST = 60  # seconds of a take; then it is submitted and another one begins
SEED = """
import sys
from data_tools.store import Store
from tests.data_tools.samples import picture
store = Store.of_workspace(sys.argv[1], sys.argv[2] or None, is_new=True)
own = store.add_collection("own")
for k in range(int(sys.argv[3])):
    data = picture(k % 256, (16 + k // 256, 16), ".png")
    store.add_image(own, data, dataset_id="album", image_id=str(k))
store.close()
"""  # run in the checkout that will serve it: each has tables of its own version


@contextmanager
def serving(
    folder: Path, people: int, checkout: Path = ROOT, database: str | None = None, images: int = 0
) -> Iterator[Studio]:
    """A studio over a new workspace of so many people and images (of people: four each)."""
    names = [f"person{k}" for k in range(people)]
    hashed = argon2.PasswordHasher(1, 8, 1).hash(PASSWORD)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "users").write_text("".join(f"{name} annotator {hashed}\n" for name in names))
    root = folder / "workspace"
    seed = [sys.executable, "-c", SEED, root, database or "", str(images or 4 * people)]
    subprocess.run(seed, cwd=checkout, check=True)
    options = [f"--users={folder / 'users'}"]
    options += [f"--database={database}"] if database else []
    studio = Studio(root, *options, checkout=checkout)
    try:
        yield studio
    finally:
        studio.stop()


def resident(studio: Studio) -> float:
    """Megabytes of memory that the server holds."""
    status = Path(f"/proc/{studio.process.pid}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+) kB", status)[1]) / 1024


def points(start: float, end: float) -> list[list[float]]:
    """(x, y, t) of a pointer that goes round, from second to second."""
    t = np.arange(round(start * RATE), round(end * RATE)) / RATE
    x, y = 0.5 + 0.4 * np.cos(t), 0.5 + 0.4 * np.sin(1.3 * t)
    return np.stack((x, y, t), axis=1).round(5).tolist()


def words(start: int, end: int) -> list[dict[str, Any]]:
    """Two a second."""
    spans = [(k / 2, k / 2 + 0.4) for k in range(2 * start, 2 * end)]
    return [{"utterance": "word", "start_time": a, "end_time": b} for a, b in spans]


def record(seconds: int) -> dict[str, Any]:
    """A take so far."""
    stroke = [{"x": x, "y": y, "t": t} for x, y, t in points(0, seconds)]
    return {
        "dataset_id": "album",
        "image_id": "1",
        "annotator_id": 0,
        "caption": " ".join(["word"] * 2 * seconds),
        "timed_caption": words(0, seconds),
        "traces": [stroke],
        "studio": {"mode": "type"},
    }


def change(seconds: int) -> dict[str, Any]:
    """What is new in a take since the second before, as ui/static/changes.js says it."""
    before = seconds - 1
    return {
        "caption": [10 * before - 1, 0, " word word"],
        "words": [2 * before, 0, words(before, seconds)],
        "traces": [1, RATE * before, [points(before, seconds)]],
    }


class Annotator:
    """A recorder without a browser, of the version that the studio serves."""

    def __init__(self, url: str, name: str, certificates: ssl.SSLContext) -> None:
        self.name = name
        self.client = httpx.AsyncClient(base_url=url, timeout=120, verify=certificates)
        self.event: int | None = None  # where the recorder asks by an event of the page
        self.session = uuid.uuid4().hex

    async def enter(self) -> None:
        form = {"username": self.name, "password": PASSWORD}
        (await self.client.post("/login", data=form)).raise_for_status()

    async def look(self) -> None:
        """Find out how this studio is asked."""
        config = (await self.client.get("/config")).raise_for_status().json()
        for event in config["dependencies"]:
            if any(kind == "ask" for _, kind in event["targets"]):
                self.event = event["id"]

    async def ask(self, action: str, **fields: Any) -> dict[str, Any]:
        if self.event is None:
            reply = await self.client.post(f"/recorder/{action}", json=fields)
            return reply.raise_for_status().json()
        question = json.dumps(fields | {"action": action, "serial": 1})
        body = {"fn_index": self.event, "data": [question], "session_hash": self.session}
        (await self.client.post("/gradio_api/queue/join", json=body)).raise_for_status()
        stream = f"/gradio_api/queue/data?session_hash={self.session}"
        async with self.client.stream("GET", stream) as lines:
            async for line in lines.aiter_lines():
                message = json.loads(line.removeprefix("data:")) if line else {}
                if message.get("msg") == "process_completed":
                    return json.loads(message["output"]["data"][0]["props"]["answer"])
        raise AssertionError("the studio did not answer")


@dataclass
class Saves:
    """What happened: seconds of each save, takes submitted, bytes of what is to be kept: the line
    of a submitted take, the changes of an open one."""

    seconds: list[float] = field(default_factory=list)
    num_submitted: int = 0
    num_bytes: int = 0

    def milliseconds(self, percent: float) -> float:
        return 1000 * float(np.percentile(self.seconds, percent))


async def record_takes(person: Annotator, saves: Saves, num: int, pace: float) -> None:
    """So many saves, of takes one after the other."""
    task = await person.ask("open")
    seconds, take_id, revision, num_open = 0, uuid.uuid4().hex, "", 0
    for _ in range(num):
        began, seconds = time.perf_counter(), seconds + 1
        about = {"take_id": take_id, "image": task["image"]["id"]}
        about["collection"] = task["collection"]
        body: dict[str, Any] = {"record": record(seconds)}
        if person.event is None:
            base, revision = revision, uuid.uuid4().hex
            if seconds > 1:
                body = {"change": change(seconds), "base": base}
            body["revision"] = revision
        answer = await person.ask("save", **about, **body)
        if answer.get("saved") is not True:
            raise AssertionError(answer)
        saves.seconds.append(time.perf_counter() - began)
        num_open += len(json.dumps(body))
        if seconds == LONGEST:
            task = await person.ask("submit", **about, record=None)
            assert task.get("image"), task
            saves.num_submitted += 1
            saves.num_bytes += len(json.dumps(record(LONGEST)))
            seconds, take_id, revision, num_open = 0, uuid.uuid4().hex, "", 0
        await asyncio.sleep(max(0.0, began + pace - time.perf_counter()))
    saves.num_bytes += num_open


async def crowd(url: str, people: int, num: int, pace: float = PACE) -> Saves:
    """`num` saves of each of so many people, who begin spread over one pace."""
    certificates, saves = ssl.create_default_context(), Saves()
    persons = [Annotator(url, f"person{k}", certificates) for k in range(people)]
    for person in persons:
        await person.enter()
    await persons[0].look()

    async def work(k: int, person: Annotator) -> None:
        person.event = persons[0].event
        await asyncio.sleep(pace * k / people)
        await record_takes(person, saves, num, pace)
        await person.client.aclose()

    await asyncio.gather(*(work(k, person) for k, person in enumerate(persons)))
    return saves


def compare(
    checkouts: Sequence[Path], people: int, seconds: int, turns: int, database: str
) -> list[float]:
    """The 95th percentile of a save in each checkout, in milliseconds, over interleaved turns."""
    together = [Saves() for _ in checkouts]
    memory: list[list[float]] = [[] for _ in checkouts]
    with tempfile.TemporaryDirectory() as folder:
        for turn in range(turns):
            for k, checkout in enumerate(checkouts):
                place = Path(folder) / f"{turn}-{k}"
                url = postgres.new_database(database) if database != "sqlite" else None
                with serving(place, people, checkout, url) as studio:
                    before = resident(studio)
                    saves = asyncio.run(crowd(studio.url, people, seconds))
                    memory[k].append(resident(studio) - before)
                together[k].seconds += saves.seconds
    for k, saves in enumerate(together):
        half, most, worst = (saves.milliseconds(percent) for percent in (50, 95, 100))
        print(
            f"{database.split(':')[0]}, {people} people, {'here' if k == 0 else 'there'}: "
            f"{len(saves.seconds):,} saves; 50, 95, 100 %: {half:.0f}, {most:.0f}, {worst:.0f} ms; "
            f"memory + {np.mean(memory[k]):.0f} MB a turn",
            flush=True,
        )
    return [saves.milliseconds(95) for saves in together]


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.saves", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--against", type=Path, help="another checkout; default: this one again")
    parser.add_argument("--people", type=int, nargs="+", default=[20, 50, 100])
    parser.add_argument("--seconds", type=int, default=20)
    parser.add_argument("--turns", type=int, default=2)
    parser.add_argument("--databases", nargs="+", default=["sqlite", "postgresql"])
    options = parser.parse_args(arguments)
    checkouts = [ROOT, (options.against or ROOT).resolve()]

    ratios = {}
    for kind in options.databases:
        folder = postgres.programs()
        if kind == "postgresql" and folder is None:
            sys.exit("PostgreSQL is not installed (Debian: apt-get install postgresql)")
        with postgres.server(folder) if kind == "postgresql" and folder else _no_server() as url:
            for people in options.people:
                here, there = compare(checkouts, people, options.seconds, options.turns, url)
                ratios[kind, people] = there / here
                print(f"{kind}, {people} people: {there / here:.1f} times as fast", flush=True)
    print(f"ratio {ratios[options.databases[0], max(options.people)]:.1f}")


@contextmanager
def _no_server() -> Iterator[str]:
    yield "sqlite"


if __name__ == "__main__":
    main()
