"""Inspect in the whole studio: from a checkpoint to the place under each word."""

import io
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from playwright.sync_api import Page, expect

from loctex.loading import tokenization
from loctex.model import build
from loctex.records.snapshot import Snapshot
from loctex.training import checkpoint
from tests.browser.conftest import Studio
from tests.loctex.small import small

DRAWN = "document.querySelector('#inspect-player .model canvas').toDataURL()"


@pytest.fixture(scope="module")
def trained(snapshot, tmp_path_factory):
    """A studio whose workspace holds a snapshot of 40 scenes and a small model, untrained."""
    root = tmp_path_factory.mktemp("inspect") / "workspace"
    shutil.copytree(snapshot, root / "snapshots" / "scenes")
    settings = small(snapshot)
    words = tokenization.train(Snapshot.open(snapshot).split("train").captions(), 300, 96)
    torch.manual_seed(0)
    built = build.build(settings, len(words), words.pad_token_id)
    run = root / "runs" / "small"
    checkpoint.save(run, 1, model=built, tokenizer=words, state={}, is_best=True)
    running = Studio(root)
    yield running
    running.stop()


def open_inspect(page: Page, studio: Studio) -> None:
    page.goto(studio.url)
    page.get_by_role("tab", name="Inspect").click()


def look_at_first(page: Page, studio: Studio) -> None:
    open_inspect(page, studio)
    page.wait_for_selector("#inspect-player .word", timeout=60_000)
    page.wait_for_function(f"{DRAWN}.length > 20000")


def test_the_first_unseen_picture_is_shown_and_another_word_changes_it(page, trained):
    look_at_first(page, trained)
    expect(page.get_by_role("combobox", name="Model")).to_have_value("small · best")
    expect(page.get_by_role("combobox", name="Pictures")).to_have_value("scenes · val")
    drawn = []
    for index in (0, 4):
        page.hover(f"#inspect-player .word >> nth={index}")
        page.wait_for_function(
            f"document.querySelectorAll('#inspect-player .word')[{index}].matches('.on')"
        )
        drawn.append(page.evaluate(DRAWN))
    assert drawn[0] != drawn[1]
    assert page.locator("#inspect-player .person canvas").is_visible()
    names = page.locator("#inspect-player .scores dt").all_inner_texts()
    assert {"Match", "Words that agree", "Distance of the paths"} <= set(names)


def test_another_sentence_is_answered_on_one_picture(page, trained):
    look_at_first(page, trained)
    page.fill("#inspect-caption textarea", "a purple giraffe 🦒")
    page.keyboard.press("Enter")
    words = page.locator("#inspect-player .word")
    expect(words).to_have_text(["a", "purple", "giraffe", "🦒"])
    assert page.locator("#inspect-player .person canvas").is_hidden()
    page.fill("#inspect-caption textarea", "   ")
    page.keyboard.press("Enter")
    expect(page.locator("#inspect-player .empty")).to_contain_text("Type a sentence")


def test_a_picture_of_ones_own_is_opened_or_let_fall_and_a_text_file_is_refused(page, trained):
    look_at_first(page, trained)
    content = io.BytesIO()
    Image.fromarray(np.full((30, 90, 3), 120, np.uint8)).save(content, "PNG")
    png = {"name": "own.png", "mimeType": "image/png", "buffer": content.getvalue()}
    page.locator("input[type=file][accept*=image]").last.set_input_files(png)
    expect(page.locator("#inspect-player .empty")).to_contain_text("Type a sentence")
    page.fill("#inspect-caption textarea", "a gray wall")
    page.keyboard.press("Enter")
    expect(page.locator("#inspect-player .word")).to_have_count(3)
    box = page.locator("#inspect-player .model canvas").bounding_box()
    assert box["width"] / box["height"] == pytest.approx(3, abs=0.02)
    page.evaluate("""() => {
        const files = new DataTransfer();
        files.items.add(new File(['no picture at all'], 'text.jpg', { type: 'image/jpeg' }));
        document.querySelector('#inspect-player .player').dispatchEvent(
            new DragEvent('drop', { dataTransfer: files, bubbles: true, cancelable: true }));
    }""")
    expect(page.locator("#inspect-player .empty")).to_contain_text("text.jpg")
    expect(page.locator("#inspect-player .word").first).to_be_hidden()


def test_what_a_run_learned_is_shown_of_the_run_on_the_screen(page, trained):
    runs = trained.root / "runs"
    for name in ("older", "newer"):
        shutil.copytree(runs / "small", runs / name, symlinks=True)
    try:
        page.goto(trained.url)
        page.get_by_role("tab", name="Train").click()
        for name in ("older", "small", "newer"):
            page.locator(f"[data-run={name}]").click()
            expect(page.locator(".run h2")).to_have_text(name)
            page.get_by_role("button", name="See what it learned").click()
            expect(page.get_by_role("combobox", name="Model")).to_have_value(f"{name} · best")
            page.wait_for_selector("#inspect-player .word", timeout=60_000)
            expect(page.get_by_role("combobox", name="Model")).to_have_value(f"{name} · best")
            page.get_by_role("tab", name="Train").click()
    finally:
        for name in ("older", "newer"):
            shutil.rmtree(runs / name)


def test_without_a_model_the_way_leads_to_train(page, own_studio):
    open_inspect(page, own_studio)
    expect(page.get_by_text("Nothing to look at yet")).to_be_visible()
    expect(page.locator("#inspect-player")).to_be_hidden()
    page.get_by_role("button", name="Go to Train").click()
    expect(page.get_by_role("tab", name="Train")).to_have_attribute("aria-selected", "true")


@pytest.mark.parametrize("width", [390, 800, 1440])
def test_the_tab_is_never_wider_than_the_window(page, trained, width):
    look_at_first(page, trained)  # before it is narrow: on a phone the tab is in the menu
    page.set_viewport_size({"width": width, "height": 900})
    page.wait_for_timeout(500)  # the player lays itself out anew
    assert page.evaluate("document.documentElement.scrollWidth - window.innerWidth") <= 0
