"""The player in a real browser: where it draws, how soon, and what it does when asked."""

import base64
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.browser.player_page import random_maps
from ui.viewing.colors import VIRIDIS, word_color

ROOT = Path(__file__).parents[2]


# --- page


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    """The address of tests/browser/player_page.py, served by a process of its own."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    folder = tmp_path_factory.mktemp("page")
    command = [sys.executable, "-m", "tests.browser.player_page", str(port), str(folder)]
    quiet = {
        "GRADIO_ANALYTICS_ENABLED": "False",
        "NO_PROXY": "127.0.0.1,localhost",
        "GRADIO_TEMP_DIR": str(folder),
    }
    with open(folder / "log.txt", "w") as log:
        server = subprocess.Popen(command, env=os.environ | quiet, stdout=log, stderr=log, cwd=ROOT)
    deadline = time.monotonic() + 60
    while True:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                break
        if server.poll() is not None or time.monotonic() > deadline:
            server.kill()
            pytest.fail((folder / "log.txt").read_text())
        time.sleep(0.05)
    yield f"http://127.0.0.1:{port}/"
    server.terminate()
    server.wait(10)


@pytest.fixture
def show(browser, address):
    """show(item, width=, height=, scale=, is_touch=) -> the page, with the picture loaded."""
    contexts, errors = [], []

    def open_(item, width=1200, height=900, scale=1, is_touch=False, theme="light"):
        contexts.append(
            browser.new_context(
                viewport={"width": width, "height": height},
                device_scale_factor=scale,
                has_touch=is_touch,
            )
        )
        page = contexts[-1].new_page()
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on(
            "request",
            lambda request: (
                errors.append(request.url)
                if not request.url.startswith((address, "data:", "blob:"))
                else None
            ),
        )
        page.goto(f"{address}?item={item}&__theme={theme}")
        page.wait_for_selector(".player")
        if item != "nothing":
            page.wait_for_selector(".word")
            page.wait_for_function(
                "[...document.querySelectorAll('.stage canvas')]"
                ".some((c) => c.clientWidth && c.width > 1)"
            )
        return page

    yield open_
    for context in contexts:
        context.close()
    assert errors == []


PIXELS = """([selector, options]) => new Promise((done) => {
    const { player } = document.querySelector('.player');
    Object.assign(player.options, options);
    document.querySelector('.player').addEventListener('drawn', () => {
        const canvas = document.querySelector(selector);
        done({ width: canvas.width, css: canvas.clientWidth, url: canvas.toDataURL() });
    }, { once: true });
    player.redraw();
})"""


def pixels(page, selector=".model canvas", **options) -> tuple[np.ndarray, dict]:
    """What is drawn, (H, W, 3) RGB, and the canvas's width in device and CSS pixels."""
    found = page.evaluate(PIXELS, [selector, options])
    content = np.frombuffer(base64.b64decode(found["url"].split(",")[1]), np.uint8)
    return cv2.imdecode(content, cv2.IMREAD_COLOR)[..., ::-1].astype(int), found


# --- where it draws


@pytest.mark.parametrize("scale", [1, 2])
@pytest.mark.parametrize("size", ["900x300", "300x900", "40x30"])
@pytest.mark.parametrize("cell", [(1, 5), (6, 0)])
def test_attention_lies_on_its_cell(show, size, cell, scale):
    page = show(f"spot-{size}-{cell[0]}-{cell[1]}", scale=scale)
    row, column = cell
    drawn, found = pixels(page, isSmooth=False, hasPath=False)
    assert found["width"] == pytest.approx(scale * found["css"], abs=1)
    height, width = drawn.shape[:2]
    rows, columns = np.nonzero(drawn[..., 0] > 150)  # yellow: the strongest, on a black picture
    edges = (
        np.array(
            [
                columns.min() / width,
                (columns.max() + 1) / width,
                rows.min() / height,
                (rows.max() + 1) / height,
            ]
        )
        * 7
    )
    assert np.abs(edges - [column, column + 1, row, row + 1]).max() <= 7 * 1.5 / min(height, width)
    drawn, _ = pixels(page, isSmooth=True)
    weight = np.clip(drawn[..., 0] - 100, 0, None).astype(float)
    x = weight.sum(0) @ (np.arange(width) + 0.5) / weight.sum() / width
    y = weight.sum(1) @ (np.arange(height) + 0.5) / weight.sum() / height
    assert abs(7 * x - column - 0.5) <= 0.5 and abs(7 * y - row - 0.5) <= 0.5


@pytest.mark.parametrize("scale", [1, 2])
@pytest.mark.parametrize("zoom", [0.67, 1.5])
@pytest.mark.parametrize("size", ["900x300", "300x900", "40x30"])
def test_what_the_eye_sees_of_a_zoomed_page_lies_on_its_cell(show, size, zoom, scale):
    page = show(f"spot-{size}-1-5", scale=scale)
    page.evaluate("(zoom) => { document.documentElement.style.zoom = zoom; }", zoom)
    pixels(page, isSmooth=True, hasPath=False)
    canvas = page.locator(".model canvas")
    canvas.scroll_into_view_if_needed()
    content = np.frombuffer(canvas.screenshot(), np.uint8)
    blue, _, red = np.moveaxis(cv2.imdecode(content, cv2.IMREAD_COLOR).astype(float), -1, 0)
    weight = np.clip(red - blue - 60, 0, None)  # yellow, the strongest; the page's corners are not
    height, width = weight.shape
    x = weight.sum(0) @ (np.arange(width) + 0.5) / weight.sum() / width
    y = weight.sum(1) @ (np.arange(height) + 0.5) / weight.sum() / height
    assert abs(7 * x - 5.5) <= 0.5 and abs(7 * y - 1.5) <= 0.5
    box = canvas.bounding_box()
    page.mouse.move(box["x"] + box["width"] * 5.5 / 7, box["y"] + box["height"] * 1.5 / 7)
    page.wait_for_function("String(document.querySelector('.player').player.state.cell) === '1,5'")


def test_the_persons_trace_of_a_word_lies_where_it_was_recorded(show):
    page = show("replay")
    page.hover(".word >> nth=1")
    faint, _ = pixels(page, ".stage.person canvas")
    page.hover(".word >> nth=3")
    other, _ = pixels(page, ".stage.person canvas")
    changed = np.abs(faint - other).max(axis=2) > 60
    rows, columns = np.nonzero(changed)
    height, width = changed.shape
    assert np.abs(rows / height - 0.5).max() < 0.02  # recorded at y = .5
    # x is .1 + .4 t; word1 with its margin lasts from .3 to 1.2 s, word3 from 1.3 to 2 s
    assert abs(columns.min() / width - 0.22) < 0.02 and abs(columns.max() / width - 0.9) < 0.02
    between = columns[(columns / width > 0.595) & (columns / width < 0.605)]
    assert len(between) == 0  # 1.25 s belongs to neither


def test_hovering_another_word_changes_the_picture(show):
    page = show("both")
    page.hover(".word >> nth=1")
    first, _ = pixels(page)
    page.hover(".word >> nth=2")
    second, _ = pixels(page)
    assert (np.abs(first - second).max(axis=2) > 30).mean() > 0.05
    assert page.locator(".word.on").all_inner_texts() == ["word2"]
    assert page.locator(".model .says").inner_text() == "looks here for “word2”"


# --- how soon


def test_hover_to_drawn_within_a_frame_for_60_words_of_196_cells(show):
    page = show("sixty")
    times = page.evaluate("""async () => {
        const root = document.querySelector('.player'), times = [];
        const chips = [...document.querySelectorAll('.word')];
        for (let i = 0; i < 60; i++) {
            await new Promise((next) => setTimeout(next, 20 + 7 * (i % 5)));
            const start = performance.now();
            const drawn = new Promise((done) =>
                root.addEventListener('drawn', () => done(performance.now()), { once: true }));
            chips[(17 * i) % 60].dispatchEvent(new PointerEvent('pointerenter'));
            times.push(await drawn - start);
        }
        return times;
    }""")
    print(f"hover to drawn: median {np.median(times):.1f} ms, worst {max(times):.1f} ms")
    assert np.median(times) <= 17


# --- time


def test_it_plays_at_the_recordings_pace_and_stops_at_the_end(show):
    page = show("both")
    elapsed = page.evaluate("""() => new Promise((done) => {
        const root = document.querySelector('.player'), seen = [];
        const start = performance.now();
        root.addEventListener('drawn', () => {
            const { state } = root.player;
            seen.push([performance.now() - start, state.time]);
            if (state.time >= 2) done(seen);
        });
        document.querySelector('.play').click();
    })""")
    apart = [abs(real / 1000 - time) for real, time in elapsed[2:]]
    assert np.median(apart) < 0.1 and len(elapsed) > 20
    page.wait_for_selector(".player:not(.playing)")
    assert page.locator(".clock").inner_text() == "0:02.0 / 0:02.0"
    assert page.locator(".word.on").all_inner_texts() == ["word3"]


def test_the_voice_is_the_clock_where_there_is_one(show):
    page = show("voice")
    page.click(".play")
    page.wait_for_function("document.querySelector('.player').player.state.time > 0.5")
    apart = page.evaluate("""() => {
        const { player } = document.querySelector('.player');
        return Math.abs(player.audio.currentTime - player.state.time);
    }""")
    assert apart < 0.1
    page.wait_for_selector(".player:not(.playing)")


def test_the_slider_moves_the_person_and_the_word(show):
    page = show("replay")
    page.locator(".time").evaluate("(e) => { e.value = 1.2; e.dispatchEvent(new Event('input')); }")
    pixels(page, ".stage.person canvas")
    assert page.locator(".word.on").all_inner_texts() == ["word2"]
    assert page.locator(".clock").inner_text() == "0:01.2 / 0:02.0"


# --- hands


def test_keys_walk_through_the_words_play_and_explain_themselves(show):
    page = show("both")
    page.locator(".word").first.focus()
    for key, word in (("ArrowRight", "word1"), ("ArrowRight", "word2"), ("ArrowLeft", "word1")):
        page.keyboard.press(key)
        page.wait_for_function(f"document.querySelector('.word.on')?.innerText === '{word}'")
    page.keyboard.press("?")
    assert page.locator(".help").is_visible()
    page.keyboard.press("Escape")
    assert page.locator(".help").is_hidden()
    page.keyboard.press("Space")
    page.wait_for_selector(".player.playing")
    page.keyboard.press("Space")
    page.wait_for_selector(".player:not(.playing)")
    page.keyboard.press("v")
    assert page.locator(".stage.person").is_hidden()


def test_right_to_left_text_runs_right_to_left_and_arrows_follow(show):
    page = show("arabic")
    left = [page.locator(".word").nth(i).bounding_box()["x"] for i in range(4)]
    assert left == sorted(left, reverse=True)
    page.locator(".word").first.focus()
    page.keyboard.press("ArrowLeft")
    page.wait_for_function("document.querySelectorAll('.word')[1].classList.contains('on')")


def test_several_words_share_one_map_and_a_cell_tells_its_value(show):
    page = show("both")
    page.click(".word >> nth=0")
    page.click(".word >> nth=2", modifiers=["Shift"])
    canvas = page.locator(".model canvas")
    box = canvas.bounding_box()
    canvas.hover(position={"x": box["width"] * 5.5 / 14, "y": box["height"] * 3.5 / 14})
    maps = random_maps(4)
    maps /= maps.sum(axis=(1, 2), keepdims=True)
    expected = 100 * maps[[0, 2], 3, 5].mean()
    says = page.locator(".reading").inner_text()
    assert says.startswith("word0 + word2: ")
    assert float(says.split(": ")[1].split("%")[0]) == pytest.approx(expected, abs=0.06)


def test_a_finger_keeps_a_word_and_the_phone_gets_one_picture(show):
    page = show("both", width=390, height=844, is_touch=True)
    page.locator(".word").nth(1).tap()
    page.wait_for_function("document.querySelector('.word.on')?.innerText === 'word1'")
    assert page.locator(".stage.person").is_hidden()
    assert "person" in page.locator(".model figcaption").inner_text()


# --- what must not break the page


@pytest.mark.parametrize("width", [390, 800, 1440])
@pytest.mark.parametrize("item", ["many", "thin", "flat", "arabic", "both"])
def test_nothing_is_wider_than_the_page(show, item, width):
    page = show(item, width=width)
    assert page.evaluate("document.documentElement.scrollWidth - window.innerWidth") <= 0
    for stage in page.locator(".stage").all():
        if stage.is_visible():
            box = stage.locator("canvas").bounding_box()
            assert 40 <= box["width"] <= width and 20 <= box["height"] <= 900


def test_400_words_leave_room_for_the_picture(show):
    page = show("many", width=1440)
    assert page.locator(".word").count() == 400
    assert page.locator(".model canvas").bounding_box()["y"] < 450
    page.locator(".word").nth(399).scroll_into_view_if_needed()
    page.hover(".word >> nth=399")
    page.wait_for_function("document.querySelectorAll('.word')[399].classList.contains('on')")


def test_a_replay_shows_the_person_only(show):
    page = show("replay")
    assert page.locator(".stage.model").is_hidden() and page.locator(".tools").is_hidden()
    assert page.locator(".stage.person").is_visible()


def test_words_are_text_and_never_markup(show):
    page = show("markup")
    assert page.locator(".word").first.inner_text() == "<img"
    assert page.locator(".sentence img").count() == 0


def test_nothing_to_show_says_what_to_do(show):
    page = show("nothing")
    page.wait_for_function("document.querySelector('.empty').innerText === 'Choose a picture.'")
    assert page.locator(".player .shown").is_hidden()


# --- colors


def luminance(color: str) -> float:
    rgb = np.array([int(color[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


def test_word_colors_keep_a_contrast_of_3_on_light_and_dark(show):
    page = show("nothing")
    page.wait_for_function("document.querySelector('.player').player")
    for total in (1, 2, 7, 60, 400):
        colors = page.evaluate(
            "(n) => [...Array(n).keys()].map((i) => "
            "document.querySelector('.player').player.wordColor(i, n))",
            total,
        )
        for color in colors:
            assert 1.05 / (luminance(color) + 0.05) >= 3
            assert (luminance(color) + 0.05) / (luminance("#0b0f19") + 0.05) >= 3


def test_figures_have_the_pages_colors(show):
    page = show("nothing")
    page.wait_for_function("document.querySelector('.player').player")
    found = page.evaluate("""() => {
        const { wordColor, VIRIDIS } = document.querySelector('.player').player;
        const of = (n) => Array.from({ length: n }, (_, i) => wordColor(i, n));
        return [[1, 2, 7, 60].map(of), VIRIDIS];
    }""")
    assert found == [[[word_color(i, n) for i in range(n)] for n in (1, 2, 7, 60)], list(VIRIDIS)]


def test_color_maps_rise_in_lightness_so_that_color_blind_people_read_them_alike(show):
    page = show("nothing")
    page.wait_for_function("document.querySelector('.player').player")
    ramps = page.evaluate("""() => {
        const { VIRIDIS, wordRamp, wordColor } = document.querySelector('.player').player;
        return [VIRIDIS, ...Array.from({ length: 9 }, (_, i) => wordRamp(wordColor(i, 9)))];
    }""")
    assert all((np.diff([luminance(color) for color in ramp]) > 0).all() for ramp in ramps)
