"""Trace in a real browser: a written caption whose phrases advance; and a closer look."""

import numpy as np
from playwright.sync_api import expect

from loctex.records.narrative import Narrative
from tests.browser.test_annotate import circle, only, open_collection, saved, start, wait_for
from tests.browser.test_voice import choose
from tests.ui.test_annotate import RECORD
from ui.assets import static

CAPTION = "a small dog, near the red ball and there is a tree"
PHRASES = ["a small dog,", "near the red ball", "and there is a tree"]


def test_phrases_are_cut_behind_commas_and_before_what_opens_them(page):
    page.goto("about:blank")
    page.add_script_tag(content=static("typing.js"))
    cut = "(text) => phrasesOf(text).map(([from, to]) => text.slice(from, to))"
    assert page.evaluate(cut, CAPTION) == PHRASES
    assert page.evaluate(cut, "there are two men on the left") == [
        "there are two men",
        "on the left",
    ]
    assert page.evaluate(cut, "") == []


def test_each_phrase_has_the_time_it_was_held_or_tapped(page, studio):
    store, collection = open_collection(page, studio, "traced")
    choose(page, "Trace")
    page.locator(".start").click()
    expect(page.locator(".note")).to_contain_text("Type the caption first")
    page.keyboard.type(CAPTION)
    page.keyboard.press("Enter")
    box = start(page)
    expect(page.locator(".phrase b")).to_have_text(PHRASES[0])
    page.keyboard.down("Space")  # held
    circle(page, box, 60)
    page.keyboard.up("Space")
    expect(page.locator(".phrase b")).to_have_text(PHRASES[1])
    circle(page, box, 30)
    page.keyboard.press("Space")  # tapped behind it
    expect(page.locator(".phrase b")).to_have_text(PHRASES[2])
    page.keyboard.press("Backspace")
    expect(page.locator(".phrase b")).to_have_text(PHRASES[1])
    circle(page, box, 30)
    page.keyboard.press("Space")
    circle(page, box, 30)
    page.keyboard.press("Space")
    wait_for(page, "review")  # behind the last phrase
    page.keyboard.press("Control+Enter")
    saved(page, "done")
    told = only(store, collection)
    assert told.caption == CAPTION and [word.text for word in told.words] == PHRASES
    first, second, third = told.words
    assert 0 < first.start and first.end - first.start > 0.3
    assert first.end <= second.start < second.end <= third.start < third.end <= told.duration
    times = np.concatenate(told.strokes)[:, 2]
    for word in told.words:
        assert ((times >= word.start) & (times <= word.end)).sum() > 10


def test_a_caption_without_trace_is_given(page, studio):
    store, collection = open_collection(page, studio, "given")
    first = store.images(collection)[0]
    record = RECORD | {"dataset_id": first.dataset_id, "image_id": first.image_id, "traces": []}
    store.add(collection, Narrative.from_json(record))
    page.reload()
    page.wait_for_selector("[data-state=idle], [data-state=review]")  # of any collection
    page.select_option(".collection", label="given")
    page.wait_for_selector(f"[data-state=idle] .photo[src*='{first.sha256}']")
    choose(page, "Trace")
    expect(page.locator(".caption")).to_have_value("a ball")


def test_zoom_and_pan_leave_coordinates_right(page, studio):
    store, collection = open_collection(page, studio, "zoomed")
    box = page.locator(".frame").bounding_box()
    target = (box["x"] + 0.3 * box["width"], box["y"] + 0.6 * box["height"])
    page.mouse.move(*target)
    page.mouse.wheel(0, -400)
    page.wait_for_function("document.querySelector('.frame').style.transform.includes('scale')")
    page.keyboard.press("+")
    page.keyboard.press("ArrowLeft")
    shown = page.locator(".frame").bounding_box()
    assert shown["width"] > 2.5 * box["width"]
    page.keyboard.press("Space")
    wait_for(page, "recording")
    stage = page.locator(".stage").bounding_box()
    places = [
        (stage["x"] + stage["width"] * (0.3 + 0.4 * i / 9), stage["y"] + stage["height"] * 0.5)
        for i in range(10)
    ]
    for x, y in places:
        page.mouse.move(x, y)
    page.keyboard.type("closer ")
    page.keyboard.press("Control+Enter")
    saved(page, "done")
    points = np.concatenate(only(store, collection).strokes)[:, :2]
    for x, y in places:
        wanted = ((x - shown["x"]) / shown["width"], (y - shown["y"]) / shown["height"])
        assert np.abs(points - wanted).max(axis=1).min() < 2e-3
    assert page.locator(".frame").evaluate("frame => frame.style.transform") == ""


def test_a_finger_and_a_pen_trace_too(page, studio):
    store, collection = open_collection(page, studio, "touched")
    box = start(page)
    page.mouse.move(box["x"] - 20, box["y"] - 5)
    fingers = page.context.new_cdp_session(page)
    spots = [
        {"x": box["x"] + box["width"] * (0.2 + 0.05 * i), "y": box["y"] + box["height"] * 0.4}
        for i in range(10)
    ]
    for kind, touched in [
        ("touchStart", spots[:1]),
        *(("touchMove", [s]) for s in spots[1:]),
        ("touchEnd", []),
    ]:
        fingers.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": touched})
    for kind, spot in zip(("mousePressed", "mouseMoved", "mouseReleased"), spots[:3], strict=True):
        fingers.send(
            "Input.dispatchMouseEvent",
            {
                "type": kind,
                "pointerType": "pen",
                "button": "left",
                "clickCount": 1,
                **spot,
            },
        )
    page.keyboard.type("by hand ")
    page.keyboard.press("Control+Enter")
    saved(page, "done")
    points = np.concatenate(only(store, collection).strokes)
    for i in range(10):
        assert np.abs(points[:, :2] - (0.2 + 0.05 * i, 0.4)).max(axis=1).min() < 2e-3
