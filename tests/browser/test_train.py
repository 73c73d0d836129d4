"""The Train tab in a real browser, with real training behind it."""

import base64
import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from playwright.sync_api import Locator, Page, expect

from data_tools.exchange.importing import import_file
from data_tools.exchange.sources import CollectionSource
from data_tools.freezing.freeze import freeze
from loctex.jobs import queue as jobs
from loctex.jobs.command import Command
from loctex.jobs.run import Run
from loctex.records.files import is_locked
from loctex.settings import dump, with_values
from loctex.settings.presets import PRESETS

PATIENCE = 120_000  # milliseconds; importing torch on a busy machine takes its time
HOLD = "import sys\nfrom loctex.jobs.run import Run\nwith Run(sys.argv[1]).hold(): sys.stdin.read()"
RANGE = "(plot) => plot._fullLayout.xaxis.range.map(Math.round)"
SMALL = {"train-batch-size": 8, "data-image-size": 64, "train-log-every": 1}


@pytest.fixture
def studio(own_studio, scenes) -> Iterator:
    """A studio with 40 scenes; whatever it started has ended when the test ends."""
    store = own_studio.store()
    import_file(store, scenes / "narratives.jsonl", scenes / "images", "Demo scenes")
    store.close()
    yield own_studio
    for run in jobs.all_runs(own_studio.root):
        jobs.stop(own_studio.root, run)
    wait_for(lambda: not any(run.is_live() for run in jobs.all_runs(own_studio.root)))
    wait_for(lambda: not is_locked(own_studio.root / "watcher.lock"))


def wait_for(condition: Callable[[], object], seconds: float = PATIENCE / 1000) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come true"
        time.sleep(0.05)


def open_train(page: Page, url: str) -> None:
    page.set_default_timeout(30_000)
    page.goto(url)
    page.get_by_role("tab", name="Train").click()


def fill(page: Page, **settings: object) -> None:
    page.get_by_role("button", name="All settings").click()
    for name, value in settings.items():
        page.locator(f"#setting-{name.replace('_', '-')} input").fill(str(value))


def command(page: Page) -> Locator:
    return page.locator("#start-line textarea")


def logged(root: Path, name: str, num_steps: int) -> Run:
    """A run as a trainer leaves it after so many steps, logged every 20."""
    run = Run(root / "runs" / name)
    run.path.mkdir(parents=True)
    run.settings_file.write_text(dump(PRESETS["tiny"]))
    for step in range(20, num_steps + 1, 20):
        run.log(step, loss=8 / step**0.3, loss_contrastive=4 / step**0.3, learning_rate=1e-3)
    return run


def test_an_empty_studio_leads_to_the_data_on_a_phone_too(page: Page, own_studio) -> None:
    open_train(page, own_studio.url)
    expect(page.get_by_text("Nothing to learn from yet")).to_be_visible()
    page.set_viewport_size({"width": 200, "height": 844})  # a watch: a phone has room for Data
    expect(page.get_by_role("tab", name="Data")).to_have_count(0)  # it is in the menu now
    page.get_by_role("button", name="Go to Data").click()
    expect(page.get_by_role("tab", name="Data")).to_have_attribute("aria-selected", "true")
    page.get_by_role("button", name="More tabs").click()
    rest = page.locator(".overflow-dropdown button").filter(visible=True).all_inner_texts()
    shown = page.get_by_role("tab").filter(visible=True).all_inner_texts()
    assert len(shown) + len(rest) == 6 and not set(shown) & set(rest)


def test_only_changed_settings_are_in_the_command_and_highlighted(page: Page, studio) -> None:
    open_train(page, studio.url)
    expect(page.get_by_label("Demo scenes · 40 captions, 40 with traces")).to_be_checked()
    expect(command(page)).to_have_value(re.compile(r"--preset tiny$"))
    steps = page.locator("#setting-train-steps")
    expect(steps).to_have_css("box-shadow", "none")
    steps.locator("input").fill("7")
    expect(command(page)).to_have_value(re.compile(r"--train.steps 7$"))
    expect(steps).not_to_have_css("box-shadow", "none")
    steps.locator("input").fill("0")
    expect(page.get_by_text("train.steps must lie in 1")).to_be_visible()
    expect(page.get_by_role("button", name="Start", exact=True)).to_be_disabled()
    page.get_by_role("button", name="Undo changes").click()
    expect(steps.locator("input")).to_have_value(str(PRESETS["tiny"].train.steps))
    expect(command(page)).to_have_value(re.compile(r"--preset tiny$"))


def test_a_run_outlives_the_page_and_the_studio(page: Page, studio, context) -> None:
    open_train(page, studio.url)
    fill(page, train_steps=100_000, **SMALL)
    expect(command(page)).to_have_value(re.compile("image_size 64.*log_every 1$"))
    line = command(page).input_value().splitlines()[1]
    page.get_by_role("button", name="Start", exact=True).dblclick()
    expect(page.locator(".run .chip")).to_have_text("running", timeout=PATIENCE)
    assert [run.name for run in jobs.all_runs(studio.root)] == ["tiny-1"], "two clicks, one job"
    run = Run(studio.root / "runs" / "tiny-1")
    assert jobs.line(run) == line
    expect(page.locator(".chart h3").first).to_have_text("Loss", timeout=PATIENCE)

    studio.stop(signal.SIGKILL)
    seen = [row["step"] for row in run.metrics() if "loss" in row]
    wait_for(lambda: len(run.metrics()) > len(seen))
    studio.start()
    other = context.new_page()  # another browser tells the same
    open_train(other, studio.url)
    begin = time.monotonic()  # 5 s where the browser gets a processor: a busy machine takes longer
    expect(other.locator(".run .chip")).to_have_text("running", timeout=15_000)
    print(f"shown as running {time.monotonic() - begin:.1f} s after a look at the tab")
    expect(other.locator(".run .where")).to_have_text(re.compile(r"Step [\d,]+ of 100,000"))
    plot = other.locator(".plot").first
    wait_for(lambda: len(drawn(plot)) > len(seen))
    assert drawn(plot)[: len(seen)] == seen, "the curve is complete"
    other.get_by_role("button", name="Stop").click()
    expect(other.locator(".run .chip")).to_have_text("stopped", timeout=PATIENCE)
    stopped_at = run.metrics()[-1]["step"]
    other.get_by_role("button", name="Resume").click()
    wait_for(lambda: run.metrics()[-1]["step"] > stopped_at)
    expect(other.locator(".run .chip")).to_have_text("running")
    other.close()


def test_a_zoom_survives_new_points(page: Page, studio) -> None:
    run = logged(studio.root, "long", 200)
    words = [sys.executable, "-c", HOLD, str(run.path)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, cwd=jobs.ROOT):  # ends with its stdin
        wait_for(lambda: run.state == "running")
        open_train(page, studio.url)
        plot = page.locator(".plot").first
        zoomed = zoom(page, plot)
        assert plot.evaluate("(plot) => plot.data[0].x.length") == 10
        run.log(220, loss=1.25, loss_contrastive=1.0, learning_rate=1e-3)
        expect(page.locator(".chart").first.locator("li b").first).to_have_text("1.25")
        assert plot.evaluate("(plot) => plot.data[0].x.length") == 11
        assert plot.evaluate(RANGE) == zoomed
    expect(page.locator(".run .chip")).to_have_text("failed", timeout=5000)


def drawn(plot: Locator) -> list[int]:
    """The steps of the first line of a chart."""
    return plot.evaluate("(plot) => plot.data ? plot.data[0].x : []")


def zoom(page: Page, plot: Locator) -> list[int]:
    """Drag from .2 to .4 of the width; the steps then shown."""
    box = plot.locator(".nsewdrag").bounding_box()
    middle = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + 0.2 * box["width"], middle)
    page.mouse.down()
    page.mouse.move(box["x"] + 0.4 * box["width"], middle, steps=5)
    page.mouse.up()
    steps = PRESETS["tiny"].train.steps
    wait_for(lambda: plot.evaluate(RANGE) != [0, steps])
    zoomed = plot.evaluate(RANGE)
    assert zoomed == pytest.approx([0.2 * steps, 0.4 * steps], abs=0.02 * steps)
    return zoomed


def test_a_run_is_duplicated_after_a_reload_and_starts(page: Page, studio) -> None:
    store = studio.store()
    frozen = studio.root / "snapshots" / "Demo-scenes-1"
    freeze(frozen, [CollectionSource(store, "Demo scenes")])
    store.close()
    run = logged(studio.root, "first-1", 40)
    changes = {"data": {"snapshots": [str(frozen)]}, "train": {"steps": 77, "batch_size": 8}}
    run.settings_file.write_text(dump(with_values(PRESETS["tiny"], changes)))
    run.finish({})
    open_train(page, studio.url)
    expect(page.locator(".run .chip")).to_have_text("done")  # it is shown, and never the form
    page.get_by_role("button", name="Duplicate").click()
    expect(page.get_by_label("Demo-scenes-1 · frozen")).to_be_checked()
    expect(page.get_by_label("Demo scenes · 40 captions")).not_to_be_checked()
    expect(page.get_by_label("Name of the run")).to_have_value("first-2")
    expect(command(page)).to_have_value(re.compile(r"Demo-scenes-1 .*--train.steps 77"))
    page.get_by_role("button", name="New run").click()
    page.get_by_label("Demo-scenes-1 · frozen").uncheck()
    page.get_by_label("Demo scenes · 40 captions").check()
    expect(command(page)).to_have_value(re.compile("Demo-scenes-1 "))  # as the run will use it
    expect(command(page)).not_to_have_value(re.compile("Demo-scenes-2"))
    page.get_by_role("button", name="Start", exact=True).click()
    expect(page.locator("[data-run=first-2]")).to_be_visible()
    expect(page.locator(".toast-body")).to_have_count(0)
    assert jobs.read_command(Run(studio.root / "runs" / "first-2")) is not None


def test_a_failure_says_what_to_do(page: Page, studio) -> None:
    run = logged(studio.root, "large", 40)
    with run.hold():
        pass
    run.exit_file.write_text(json.dumps({"code": 1}))
    run.log_file.write_text("$ x\n10%\r40%\ntorch.OutOfMemoryError: CUDA out of memory.\n")
    open_train(page, studio.url)
    failure = page.get_by_role("alert")
    expect(failure).to_contain_text("The GPU ran out of memory.")
    expect(failure).to_contain_text("smaller batch size")
    expect(failure.locator("pre")).to_contain_text("40%")
    expect(failure.locator("pre")).not_to_contain_text("10%")


# --- the queue, comparing, the film, YAML


def waiting(root: Path, name: str, place: float) -> Run:
    """A run in the queue, behind whatever is at work."""
    run = logged(root, name, 0)
    words = (sys.executable, "-m", "loctex.train", "--run", str(run.path))
    run.command_file.write_text(Command(words).to_json())
    run.wait(place)
    return run


def test_waiting_runs_are_reordered_and_cancelled(page: Page, studio) -> None:
    busy = logged(studio.root, "busy", 40)
    words = [sys.executable, "-c", HOLD, str(busy.path)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, cwd=jobs.ROOT):  # ends with its stdin
        wait_for(lambda: busy.state == "running")
        for number, name in enumerate(("first", "second")):
            waiting(studio.root, name, number + 1)
        open_train(page, studio.url)
        page.locator("[data-run=second]").click()
        expect(page.locator(".run .where")).to_have_text("It starts after busy, first.")
        page.get_by_role("button", name="Start earlier").click()
        expect(page.locator(".run .where")).to_have_text("It starts after busy.")
        expect(page.locator("[data-run=second] small")).to_have_text("the next one")
        expect(page.locator("[data-run=first] small")).to_have_text("number 2 in the queue")
        page.get_by_role("button", name="Cancel").click()
        expect(page.locator(".run .chip")).to_have_text("stopped")
        page.get_by_role("button", name="Try again").click()
        expect(page.locator(".run .where")).to_have_text("It starts after busy, first.")
        for name in ("first", "second"):
            jobs.stop(studio.root, Run(studio.root / "runs" / name))


def test_runs_are_compared_starred_noted_and_deleted(page: Page, studio) -> None:
    for name, score in (("one", 0.25), ("two", 0.75)):
        run = logged(studio.root, name, 400)
        run.log(400, val_pointing_region=score)
        run.finish({})
    chosen = with_values(PRESETS["tiny"], {"train": {"learning_rate": 0.01}})
    Run(studio.root / "runs" / "two").settings_file.write_text(dump(chosen))
    open_train(page, studio.url)
    page.get_by_role("button", name="Compare").click()
    table = page.locator(".table table")
    expect(table.locator("th")).to_contain_text(
        ["", "", "Run", "State", "Steps", "Pointing", "Learning rate", "Note"]
    )
    names = table.locator("button.name")
    table.get_by_role("button", name="Pointing").click()
    expect(names).to_have_text(["two", "one"])
    table.get_by_role("button", name="Pointing").click()
    expect(names).to_have_text(["one", "two"])
    for name in ("one", "two"):
        page.get_by_label(f"compare {name}").check()
        expect(page.get_by_label(f"compare {name}")).to_be_checked()
    loss = page.locator(".chart", has_text="Loss").filter(visible=True).first
    expect(loss.locator("li")).to_have_count(2)
    expect(loss.locator("li").first).to_contain_text("one")
    page.get_by_label("star two").click()
    expect(page.get_by_label("star two")).to_have_attribute("aria-pressed", "true")
    page.get_by_label("Filter the runs").fill("0.01")
    expect(names).to_have_text(["two"])

    names.first.click()
    page.get_by_label("Note").fill("the faster <one>")
    page.get_by_label("Note").blur()
    file = studio.root / "runs" / "two" / "remarks.json"
    wait_for(lambda: json.loads(file.read_bytes())["note"])
    assert json.loads(file.read_bytes()) == {"star": True, "note": "the faster <one>"}
    page.get_by_role("button", name="Delete", exact=True).click()
    expect(page.get_by_text("This cannot be undone")).to_be_visible()
    page.get_by_role("button", name="Keep it").click()
    expect(page.get_by_text("This cannot be undone")).to_be_hidden()
    page.get_by_role("button", name="Delete", exact=True).click()
    page.get_by_role("button", name="Delete for good").click()
    expect(page.locator("[data-run=two]")).to_have_count(0)
    assert [path.name for path in (studio.root / "runs").iterdir()] == ["one"]


def test_the_film_shows_each_word_over_time(page: Page, studio) -> None:
    run = logged(studio.root, "filmed", 40)
    picture = {
        "image": base64.b64encode(cv2.imencode(".jpg", np.full((80, 120, 3), 90))[1]).decode(),
        "width": 120,
        "height": 80,
        "caption": "a red dog",
        "trace": _maps([[0, 255], [255, 0]]),
        "words": [{"text": "red", "span": [2, 5]}, {"text": "dog", "span": [6, 9]}],
    }
    lines: list[dict] = [{"pictures": [picture], "grid": [1, 2]}]
    for step in (0, 20):
        lines.append(
            {
                "step": step,
                "maps": [_maps([[255, 0], [step, 255 - step]])],
                "hits": [[step > 0, False]],
            }
        )
    run.film_file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    open_train(page, studio.url)
    shots = page.locator(".shot figcaption")
    expect(shots).to_have_text(["before", "step 20", "the person"])
    words = page.locator(".film .said button")
    expect(words).to_have_text(["red", "dog"])
    expect(words.first).to_have_attribute("aria-pressed", "true")  # it was found on the way
    expect(page.locator(".film .dot.hit")).to_have_count(1)
    words.nth(1).click()
    expect(words.nth(1)).to_have_attribute("aria-pressed", "true")
    expect(page.locator(".film .dot.hit")).to_have_count(0)
    lines.append(lines[-1] | {"step": 40, "hits": [[True, True]]})
    run.film_file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    expect(shots).to_have_text(["before", "step 20", "step 40", "the person"])
    expect(words.nth(1)).to_have_attribute("aria-pressed", "true")  # the choice stays


def _maps(maps: list[list[int]]) -> str:
    return base64.b64encode(bytes(sum(maps, []))).decode()


def test_settings_are_searched_and_read_from_yaml(page: Page, studio) -> None:
    open_train(page, studio.url)
    page.get_by_role("button", name="All settings").click()
    page.get_by_placeholder("Search the settings").fill("mirroring")
    expect(page.locator("#setting-data-color")).to_be_hidden()
    expect(page.locator("#setting-data-flip")).to_be_visible()
    page.get_by_role("button", name="As YAML").click()
    text = page.locator("#start-yaml textarea")
    expect(text).to_have_value(re.compile("steps: 550"))
    text.fill("train: {steps: 77}\ndata: {flip: 0.25}")
    page.get_by_role("button", name="Use this YAML").click()
    expect(page.locator("#setting-train-steps input")).to_have_value("77")
    expect(page.locator("#setting-data-flip input")).to_have_value("0.25")
    expect(command(page)).to_have_value(re.compile(r"--data.flip 0.25 --train.steps 77$"))
    expect(text).to_have_value(re.compile("steps: 77"))
    text.fill("train: {stepz: 1}")
    page.get_by_role("button", name="Use this YAML").click()
    expect(page.get_by_text("unknown setting").or_(page.get_by_text("stepz")).first).to_be_visible()
    expect(page.locator(".forecast")).to_contain_text("images with 40 captions, all with traces")


@pytest.mark.slow
def test_three_jobs_run_one_after_another_with_the_browser_closed(context, studio) -> None:
    page = context.new_page()
    open_train(page, studio.url)
    fill(page, train_steps=2, train_film_every=0, **SMALL)
    for number in range(1, 4):
        expect(page.get_by_label("Name of the run")).to_have_value(f"tiny-{number}")
        expect(command(page)).to_have_value(re.compile(f"tiny-{number} .*log_every 1"))
        page.get_by_role("button", name="Start", exact=True).click()
        expect(page.locator(".run h2")).to_have_text(f"tiny-{number}")
        page.get_by_role("button", name="New run").click()
    page.close()
    runs = jobs.all_runs(studio.root)
    wait_for(lambda: all(run.state == "done" for run in runs), 300)
    times = [[row["time"] for row in run.metrics()] for run in runs]
    assert len(times) == 3
    assert max(times[0]) < min(times[1]) and max(times[1]) < min(times[2])
