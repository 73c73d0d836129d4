"""A newcomer's clock: from an empty workspace to one's own photographs with an overlay.

    python -m tests.benchmarks.newcomer --data SHARED/data --to DIR [--count 30] [--held-out 10]

Chromium opens the studio as a person would: drops photographs, narrates each of them in the
recorder (a script moves the mouse along a simulated trace and types the sentence, so the minutes a
person needs are theirs to add), presses Start with the form as it stands, and looks at what was
learned. Prints the seconds of each part; then asks the trained model for the nouns of photographs
that it has not seen, and says how many of them are inside their masks, beside always pointing at
the middle. DIR holds the workspace and `result.json`.
"""

import argparse
import hashlib
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from playwright.sync_api import Page, expect, sync_playwright

from loctex.jobs import checkpoint_files
from loctex.loading import tokenization
from loctex.model import build
from loctex.records.files import write_whole
from loctex.records.narrative import Narrative
from loctex.records.snapshot import Snapshot
from loctex.records.words import windows
from loctex.scoring import score
from tests.benchmarks import trial

ROOT = Path(__file__).parents[2]
STEPS_A_WORD = 3  # places of the pointer
PATIENCE = 30 * 60 * 1000  # milliseconds


class Clock:
    """Seconds of each part, printed as it ends."""

    def __init__(self) -> None:
        self.parts: dict[str, float] = {}
        self._began = time.monotonic()

    def note(self, part: str) -> None:
        now = time.monotonic()
        self.parts[part] = round(now - self._began, 1)
        self._began = now
        print(f"{part:28s} {self.parts[part]:8.1f} s", flush=True)


def start_studio(workspace: Path) -> tuple[subprocess.Popen, str]:
    """The app over a workspace, on a free port, and its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "app.py", f"--workspace={workspace}", f"--port={port}"]
    log = open(workspace.with_suffix(".log"), "wb")
    process = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log, env=os.environ.copy())
    return process, f"http://127.0.0.1:{port}"


def add_photographs(page: Page, url: str, files: Sequence[Path]) -> None:
    page.goto(url)
    page.get_by_role("tab", name="Data").click()
    page.wait_for_selector("#data-collections .cards, #data-collections .hello")
    page.locator("#data-name").get_by_role("textbox").fill("mine")
    page.keyboard.press("Enter")
    expect(page.locator(".card[aria-pressed=true] b")).to_have_text("mine")
    page.get_by_role("tab", name="Add images").click()
    page.locator("#data-images input").set_input_files(files)
    added = page.locator("#data-outcome")
    expect(added).to_contain_text(f"{len(files)} images added", timeout=PATIENCE)


def narrate(page: Page, narrative: Narrative) -> None:
    """Points along the simulated trace while its words are typed."""
    page.wait_for_selector("[data-state=idle]")
    box = page.locator(".frame").bounding_box()
    assert box is not None  # the photograph is there
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.keyboard.press("Space")
    page.wait_for_selector("[data-state=recording]")
    box = page.locator(".frame").bounding_box()
    assert box is not None

    points = [point for stroke in narrative.strokes for point in stroke.tolist()]
    for word, (start, end) in zip(narrative.words, windows(narrative.words, 0.0), strict=True):
        now = [point for point in points if start <= point[2] <= end]
        for x, y, _ in now[:: max(1, len(now) // STEPS_A_WORD)]:
            page.mouse.move(box["x"] + x * box["width"], box["y"] + y * box["height"])
        page.keyboard.type(word.text + " ")
    page.keyboard.press("Control+Enter")
    page.wait_for_selector(".saved[data-kind=done]")


def narrate_all(page: Page, narrative_of: dict[str, Narrative]) -> None:
    """Whatever picture comes next, by its name below the photograph."""
    page.get_by_role("tab", name="Annotate").click()
    for count in range(len(narrative_of)):
        expect(page.locator(".count")).to_contain_text(f"{count} described", timeout=PATIENCE)
        page.wait_for_selector("[data-state=idle]")
        source = page.locator(".photo").get_attribute("src") or ""
        narrate(page, next(value for key, value in narrative_of.items() if key in source))


def train(page: Page) -> None:
    """Start, with the form as it stands."""
    page.get_by_role("tab", name="Train").click()
    page.get_by_role("button", name="Start", exact=True).click(timeout=PATIENCE)
    expect(page.locator(".run .chip")).to_have_text("done", timeout=PATIENCE)


def look(page: Page) -> None:
    page.get_by_role("button", name="See what it learned").click()
    page.wait_for_selector("#inspect-player .word", timeout=PATIENCE)
    drawn = "document.querySelector('#inspect-player .model canvas').toDataURL().length > 20000"
    page.wait_for_function(drawn, timeout=PATIENCE)


def journey(workspace: Path, narrative_of: dict[Path, Narrative], picture: Path) -> Clock:
    """All of it in Chromium; picture: where a screenshot of the end is written."""
    clock = Clock()
    studio, url = start_studio(workspace)
    try:
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(
                executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-gpu"]
            )
            page = browser.new_page(viewport={"width": 1440, "height": 900})
            while studio.poll() is None:  # until it answers
                try:
                    page.goto(url)
                    break
                except Exception as error:
                    if "ERR_CONNECTION_REFUSED" not in str(error):
                        raise
                    time.sleep(0.1)
            clock.note("the studio starts")
            add_photographs(page, url, list(narrative_of))
            clock.note("photographs are dropped")
            by_hash = {content_hash(file): text for file, text in narrative_of.items()}
            narrate_all(page, by_hash)
            clock.note("a script narrates them")
            train(page)
            clock.note("it trains")
            look(page)
            clock.note("the overlay is there")
            page.screenshot(path=picture)
            browser.close()
    finally:
        studio.terminate()
        studio.wait(30)
    return clock


def content_hash(file: Path) -> str:
    """As the store names the picture."""
    return hashlib.sha256(file.read_bytes()).hexdigest()


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.newcomer",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--data", type=Path, required=True, help="the folder shared/data")
    add("--to", type=Path, required=True, help="snapshots of the benchmarks, and the workspace")
    add("--count", type=int, default=30, help="photographs to describe")
    add("--held-out", type=int, default=10, help="photographs to ask about")
    options = parser.parse_args(arguments)

    trial.freeze(options.data, options.to)
    snapshot = Snapshot.open(options.to / "coco")
    workspace = options.to / "newcomer"
    shutil.rmtree(workspace, ignore_errors=True)
    workspace.mkdir(parents=True)

    narrative_of = {}
    images = options.data / "coco" / "images"
    for item in snapshot.split("train")[: options.count]:
        file = next(images.rglob(f"{int(item.image_id):012d}.*"))
        narrative_of[file] = item.narratives[0]
    clock = journey(workspace, narrative_of, options.to / "newcomer.png")

    run = next((workspace / "runs").iterdir())
    folder = checkpoint_files.find(run, "best")
    model, tokenizer = build.load(folder), tokenization.load(folder)
    held_out = snapshot.split("val")
    values = score.score(model, tokenizer, held_out, limit=options.held_out).metrics
    names = ("pointing_region", "pointing_region_center", "pointing_region_chance")
    result = {"seconds": clock.parts, "minutes": round(sum(clock.parts.values()) / 60, 2)}
    result |= {name: round(values[name], 4) for name in names}
    print(json.dumps(result, indent=1))
    write_whole(options.to / "newcomer.json", json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
