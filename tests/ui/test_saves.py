"""What saves cost a running studio: neither memory nor disk beyond what is saved; and what of them
survives when it is killed.

pytest -m slow -s tests/ui/test_saves.py      10,000 saves by 20 people, 20 kills; ten minutes
"""

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import select

from data_tools.store import Store
from data_tools.store.tables import narratives
from tests.benchmarks.saves import (
    LONGEST,
    PASSWORD,
    Saves,
    change,
    crowd,
    points,
    record,
    resident,
    serving,
)
from tests.browser.conftest import ROOT, Studio


def on_disk(studio: Studio) -> int:
    """Bytes of the files of the workspace, and of what pages uploaded."""
    uploads = studio.root.with_name(studio.root.name + "-uploads")
    folders = (studio.root, uploads)
    return sum(file.stat().st_size for f in folders for file in f.rglob("*") if file.is_file())


def save_and_watch(
    folder: Path, people: int, num_before: int, num: int, pace: float
) -> tuple[Saves, float, int]:
    """The saves after a warm-up, the megabytes and the bytes on disk that they added."""
    takes_of_each = num_before // LONGEST + num // LONGEST + 2
    with serving(folder, people, images=people * takes_of_each) as studio:
        asyncio.run(crowd(studio.url, people, num_before, pace))
        memory, size = resident(studio), on_disk(studio)
        saves = asyncio.run(crowd(studio.url, people, num, pace))
        return saves, resident(studio) - memory, on_disk(studio) - size


def test_three_hundred_saves_leave_the_memory_and_the_disk_as_they_are(tmp_path):
    """An event of the page for each cost 60 MB."""
    saves, megabytes, added = save_and_watch(tmp_path, 20, num_before=5, num=15, pace=0.1)
    print(f"300 saves: {megabytes:.1f} MB of memory, {added / 1e6:.2f} MB on disk")
    assert len(saves.seconds) == 300
    assert megabytes < 12
    assert added < saves.num_bytes + 6e6  # and SQLite's log of what it writes, of 4 MB


@pytest.mark.slow
def test_ten_thousand_saves_by_twenty_people_leave_the_memory_flat(tmp_path):
    # what the first submission loads is no growth: the warm-up has one of each person
    num_before = LONGEST + 10
    saves, megabytes, added = save_and_watch(tmp_path, 20, num_before, num=500, pace=0.5)
    print(
        f"10,000 saves: {megabytes:.1f} MB of memory, {added / 1e6:.2f} MB on disk, "
        f"95 % within {saves.milliseconds(95):.0f} ms"
    )
    assert len(saves.seconds) == 10_000 and saves.num_submitted == 20 * (500 // 60)
    assert megabytes < 50
    assert added < saves.num_bytes + 6e6


SESSION = """
import app, asyncio, sys; app.stay_local()
import gradio as gr
from gradio.state_holder import SessionState
from ui.guard.access import Page
from ui.workspace import Workspace

with Page(Workspace(sys.argv[1]), analytics_enabled=False) as page:
    html, text = gr.HTML("", js_on_load="trigger('ask')"), gr.Textbox()
    html.ask(lambda value: gr.update(html_template=f"<p>{value}</p>"), html, html)
    text.change(lambda *values: gr.update(label="y"), [text, html], text)
state = SessionState(page)

async def answer(count):
    for k in range(count):
        for event, inputs in zip(list(page.fns.values()), (["x"], ["x", "y"])):
            output = (await page.process_api(event, inputs, state=state))["data"][0]
            assert output["__type__"] == "update", output

sizes = []
for count in (5, 40):
    asyncio.run(answer(count))
    sizes.append((len(state.blocks_config.blocks), len(state.config_values)))
print(sizes[0] == sizes[1], state.blocks_config.blocks[html._id].html_template, *sizes)
"""  # in a process of its own: Gradio leaves an event loop open


def test_a_session_keeps_no_copy_of_what_an_event_updates_and_another_reads(tmp_path):
    words = [sys.executable, "-W", "ignore", "-c", SESSION, tmp_path]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("True <p>x</p>"), done.stdout


@dataclass
class SentTake:
    """What a person knows of a take: seconds of it that were sent, and acknowledged."""

    take_id: str
    image: int
    num_sent: int = 0
    num_acknowledged: int = 0
    is_submit_sent: bool = False
    is_submitted: bool = False


class Person:
    """Records, saves and submits take after take until the studio is gone."""

    def __init__(self, studio: Studio, name: str, pause: float) -> None:
        self.studio, self.name, self.pause = studio, name, pause
        self.takes: list[SentTake] = []
        self.refusals: list[object] = []

    def work(self) -> None:
        try:
            with httpx.Client(base_url=self.studio.url, timeout=60) as client:
                self._work(client)
        except httpx.TransportError:
            return  # killed

    def _work(self, client: httpx.Client) -> None:
        client.post("/login", data={"username": self.name, "password": PASSWORD})

        def ask(action: str, **fields: Any) -> dict[str, Any]:
            answer = client.post(f"/recorder/{action}", json=fields).raise_for_status().json()
            if "problem" in answer or "isBehind" in answer or "isMissing" in answer:
                self.refusals.append(answer)
            return answer

        task = ask("open")
        if task["draft"]:  # of before the kill: go on with it, as a page does, and submit it
            take = next(each for each in self.takes if each.take_id == task["draft"]["take_id"])
            task = self._submit(ask, task, take)
        while not self.refusals:
            take = SentTake(uuid.uuid4().hex, task["image"]["id"])
            self.takes.append(take)
            for seconds in (1, 2, 3):
                body = {"record": record(1)} if seconds == 1 else {"change": change(seconds)}
                about = {"take_id": take.take_id, "image": take.image, "base": str(seconds - 1)}
                take.num_sent = seconds
                ask("save", **about, revision=str(seconds), **body)
                take.num_acknowledged = seconds
                time.sleep(self.pause)
            task = self._submit(ask, task, take)

    def _submit(
        self, ask: Callable[..., dict], task: dict[str, Any], take: SentTake
    ) -> dict[str, Any]:
        take.is_submit_sent = True
        where = {"collection": task["collection"], "image": take.image}
        next_task = ask("submit", take_id=take.take_id, **where)
        take.is_submitted = True
        return next_task


def check(store: Store, person: Person) -> None:
    """Each take is a narrative or a draft, once, with what was acknowledged and no half save."""
    drafts = {draft.take_id: draft.body for draft in store.drafts(store.annotator(person.name))}
    for take in person.takes:
        which = select(narratives.c.id).where(narratives.c.take_id == take.take_id)
        rows = store._database.all(which)
        assert len(rows) + (take.take_id in drafts) <= 1, "doubled"
        if rows:
            assert take.is_submit_sent
            traces = store.narrative(rows[0].id).to_json()["traces"]
        elif take.take_id in drafts:
            assert not take.is_submitted, "submitted, and a draft"
            traces = json.loads(drafts[take.take_id])["traces"]
        else:
            assert take.num_acknowledged == 0, "lost"
            continue
        times = [point["t"] for stroke in traces for point in stroke]
        possible = [points(0, n) for n in (take.num_acknowledged, take.num_sent) if n]
        assert times in [[t for _, _, t in whole] for whole in possible], "half"


@pytest.mark.parametrize("num", [1, pytest.param(20, marks=pytest.mark.slow)])
@pytest.mark.parametrize("pause", [0.02, 0.0], ids=["saving", "submitting"])
def test_a_studio_killed_while_it_saves_loses_doubles_and_halves_nothing(tmp_path, num, pause):
    chance = random.Random(int(os.environ.get("LOCTEX_SEED", 17)))
    with serving(tmp_path, 4, images=4_000 if num > 1 else 400) as studio:
        persons = [Person(studio, f"person{k}", pause) for k in range(4)]
        for _ in range(num):
            threads = [threading.Thread(target=person.work) for person in persons]
            for thread in threads:
                thread.start()
            num_before = sum(len(person.takes) for person in persons)
            deadline = time.monotonic() + 120
            while sum(len(person.takes) for person in persons) < num_before + 6:
                assert time.monotonic() < deadline, [person.refusals for person in persons]
                time.sleep(0.01)
            time.sleep(chance.uniform(0, 0.7))
            studio.stop(signal.SIGKILL)
            for thread in threads:
                thread.join()
            studio.start()
            store = studio.store()
            for person in persons:
                assert person.refusals == []
                check(store, person)
            store.close()
        num_takes = sum(len(person.takes) for person in persons)
        num_submitted = sum(take.is_submitted for person in persons for take in person.takes)
    print(f"{num} kills: {num_takes} takes, {num_submitted} submitted, each there once")
    assert num_submitted > num
