"""Never lose a take: whatever is interrupted, it is submitted once or offered again, whole up to
its last two seconds.

    pytest -m slow -s tests/browser/test_interruptions.py      50 of them; LOCTEX_SEED=N repeats one
"""

import os
import random
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Browser, Error, Page, Playwright

from data_tools.speech.voices import RATE
from data_tools.store import Store
from tests.browser.conftest import CHROMIUM, Studio
from tests.browser.test_annotate import picture, wait_for
from tests.browser.test_voice import choose, voice_of

KINDS = ("page closed", "network cut", "studio killed", "browser killed")
AT_STAKE = 2.0  # seconds
STEP = 0.05  # seconds between movements of the pointer


class Person:
    """A browser of its own with a fake microphone, a profile that outlives it, and one page."""

    def __init__(self, playwright: Playwright, profile: Path, address: str) -> None:
        self.playwright, self.profile, self.address = playwright, profile, address
        self.open()

    def open(self) -> None:
        port_file = self.profile / "DevToolsActivePort"
        port_file.unlink(missing_ok=True)
        self.process = subprocess.Popen(
            [
                CHROMIUM,
                "--headless=new",
                "--no-sandbox",
                "--disable-gpu",
                "--no-first-run",
                "--disable-background-networking",
                "--disable-component-update",
                "--disable-sync",
                "--use-fake-device-for-media-stream",
                "--use-fake-ui-for-media-stream",
                f"--user-data-dir={self.profile}",
                "--remote-debugging-port=0",
                "about:blank",
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        deadline = time.monotonic() + 60
        while not port_file.exists() or len(port_file.read_text().split("\n")) < 2:
            assert time.monotonic() < deadline, "Chromium did not open"
            time.sleep(0.05)
        port = port_file.read_text().split("\n")[0]
        self.browser: Browser = self.playwright.chromium.connect_over_cdp(
            f"http://127.0.0.1:{port}"
        )
        self.page: Page = self.browser.contexts[0].pages[0]
        self.load()

    def load(self) -> None:
        self.page.set_viewport_size({"width": 1000, "height": 700})
        for _ in range(5):
            try:
                self.page.goto(self.address)
                break
            except Error:  # Gradio loads its page anew, too, when the studio is back
                time.sleep(0.2)
        try:
            self.page.wait_for_selector("[data-state=idle], [data-state=review]", timeout=60_000)
        except Error as error:
            shown = self.page.locator("body").inner_text()
            raise AssertionError(f"the recorder did not come; the page says: {shown}") from error

    def close(self) -> None:
        self.process.kill()
        self.process.wait()

    def interrupt(self, kind: str, studio: Studio) -> None:
        """What a bad day does; then everything is there again, and the page is loaded anew."""
        if kind == "page closed":
            self.page.close()
            self.page = self.browser.contexts[0].new_page()
        elif kind == "network cut":
            self.page.context.set_offline(True)
            time.sleep(1.5)
            self.page.close()
            self.page = self.browser.contexts[0].new_page()
            self.page.context.set_offline(False)
        elif kind == "studio killed":
            studio.stop(signal.SIGKILL)
            if self.page.locator("[data-state=recording]").count():
                self.page.keyboard.press("Enter")  # who sees "not saved" stops
            studio.start()
        else:
            self.close()
            return self.open()
        self.load()


def take(person: Person, number: int, seconds: float, is_sent: bool) -> tuple[float, float]:
    """Record for some seconds, at a height that tells the take; sent or not, it is not awaited.

    Returns time.monotonic() of its start, and of its last movement.
    """
    page = person.page
    box = page.locator(".frame").bounding_box()
    height = box["y"] + box["height"] * (number + 1) / 60
    page.mouse.move(box["x"] + 5, height)
    page.keyboard.press("Space")
    wait_for(page, "recording")
    began = now = time.monotonic()
    while (now := time.monotonic()) < began + seconds:
        page.mouse.move(box["x"] + box["width"] * (0.1 + 0.08 * (now - began)), height)
        time.sleep(STEP)
    if is_sent:
        page.keyboard.press("Enter")
        wait_for(page, "review")
        page.keyboard.type("a red ball")
        page.keyboard.press("Control+Enter")
    return began, now


def finish(page: Page) -> None:
    """Submit the take that is offered."""
    page.locator(".caption").fill("a red ball")
    page.keyboard.press("Control+Enter")
    page.wait_for_selector(".saved[data-kind=done]:has-text('submitted')", timeout=60_000)


def number_of(store: Store, narrative_id: int) -> int:
    points = np.concatenate(store.narrative(narrative_id).strokes)
    return round(float(np.median(points[:, 1])) * 60) - 1


@pytest.fixture
def person(playwright: Playwright, own_studio: Studio, tmp_path: Path) -> Iterator[Person]:
    if CHROMIUM is None:
        pytest.skip("no chromium on this machine: apt-get install chromium")
    store = own_studio.store()
    collection = store.add_collection("interrupted")
    for seed in range(60):
        store.add_image(collection, picture(seed=seed), dataset_id="studio")
    (tmp_path / "profile").mkdir()
    found = Person(playwright, tmp_path / "profile", own_studio.url)
    yield found
    found.close()


@pytest.mark.parametrize("num", [4, pytest.param(50, marks=pytest.mark.slow)])
def test_interrupted_takes_are_neither_lost_nor_doubled(person, own_studio, num):
    seed = int(os.environ.get("LOCTEX_SEED", random.randrange(10**6)))
    print(f"\nLOCTEX_SEED={seed}")
    store, draw = own_studio.store(), random.Random(seed)
    collection = store.collection("interrupted")
    num_sent, kinds = 0, [KINDS[number % 4] for number in range(num)]
    draw.shuffle(kinds)
    for number, kind in enumerate(kinds):
        is_sent = draw.random() < 0.4
        wait_for(person.page, "idle")
        choose(person.page, "Speak")  # a browser that was killed may have forgotten it
        began, moved = take(person, number, draw.uniform(2.5, 5), is_sent)
        time.sleep(draw.uniform(0, 1.5) if is_sent else 0)
        interrupted = time.monotonic()
        person.interrupt(kind, own_studio)
        rows = store.narratives(collection, limit=100)
        if number not in {number_of(store, row.id) for row in rows}:
            wait_for(person.page, "review")
            finish(person.page)
        else:
            num_sent += 1
        (row,) = [
            row
            for row in store.narratives(collection, limit=100)
            if number_of(store, row.id) == number
        ]
        told = store.narrative(row.id)
        reached = max(point for stroke in told.strokes for point in stroke[:, 2])
        heard = len(voice_of(own_studio, told.voice)) / RATE
        end = moved - began if is_sent else interrupted - began
        print(
            f"{number} {kind}: {end:.1f} s, trace to {reached:.1f} s, voice {heard:.1f} s, "
            f"settled after {time.monotonic() - interrupted:.1f} s",
            flush=True,
        )
        assert reached >= moved - began - AT_STAKE and heard >= end - AT_STAKE
    rows = store.narratives(collection, limit=100)
    assert sorted(number_of(store, row.id) for row in rows) == list(range(num))
    me = store.annotator("annotator")
    assert not [d for d in store.drafts(me) if '"traces": [[' in d.body]
    print(f"{num} takes: {num_sent} were submitted before the interruption, the others recovered")
