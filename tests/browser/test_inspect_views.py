"""Compare, Atlas, layers, nearest and figures in the studio; an exported player on its own."""

import shutil
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from playwright.sync_api import Page, expect

from loctex.loading import tokenization
from loctex.model import build
from loctex.records.snapshot import Snapshot
from loctex.scoring.atlas_job import AtlasJob
from loctex.training import checkpoint
from tests.browser.conftest import Studio
from tests.browser.player_page import answer, photo, random_maps, told
from tests.loctex.small import small
from ui.figure import player
from ui.viewing.payload import payload


@pytest.fixture(scope="module")
def studio(snapshot, tmp_path_factory):
    """Two small untrained models of 40 scenes; the first has scored the split val."""
    root = tmp_path_factory.mktemp("views") / "workspace"
    shutil.copytree(snapshot, root / "snapshots" / "scenes")
    words = tokenization.train(Snapshot.open(snapshot).split("train").captions(), 300, 96)
    for seed, name in ((0, "first"), (1, "second")):
        torch.manual_seed(seed)
        built = build.build(
            small(snapshot, model__attention_scales=2), len(words), words.pad_token_id
        )
        checkpoint.save(
            root / "runs" / name, 1, model=built, tokenizer=words, state={}, is_best=True
        )
    AtlasJob(root / "runs" / "first" / "best", root / "snapshots" / "scenes", "val").make()
    running = Studio(root)
    yield running
    running.stop()


def open_view(page: Page, studio: Studio, name: str) -> None:
    page.goto(studio.url)
    page.get_by_role("tab", name="Inspect").click()
    page.wait_for_selector("#inspect-player .word", timeout=60_000)
    page.get_by_label("Model").first.click()
    page.get_by_role("option", name="first · best").click()
    if name != "One picture":
        page.get_by_role("tab", name=name).click()


DRAWN = """([selector, k]) => {
    const canvas = document.querySelectorAll(selector)[k];
    return canvas && canvas.width > 10 ? canvas.toDataURL() : '';
}"""


def test_two_models_look_at_one_word_and_their_difference_is_another_picture(page, studio):
    open_view(page, studio, "Compare")
    canvases = "#inspect-comparison canvas"
    page.wait_for_selector("#inspect-comparison .word")
    expect(page.locator(canvases)).to_have_count(2)
    page.wait_for_function(f"({DRAWN})(['{canvases}', 1]).length > 10000")
    first, second = (page.evaluate(DRAWN, [canvases, k]) for k in (0, 1))
    assert first != second
    page.get_by_role("button", name="Difference").click()
    page.wait_for_function(f"(old) => ({DRAWN})(['{canvases}', 1]) !== old", arg=second)
    assert page.evaluate(DRAWN, [canvases, 0]) == first
    words = page.locator("#inspect-comparison .word")
    expect(page.locator(".scoretable tr")).to_have_count(words.count() + 1)
    page.hover("#inspect-comparison .word >> nth=1")
    expect(page.locator(".scoretable tr.on th").first).to_have_text(words.nth(1).inner_text())
    assert page.evaluate("document.documentElement.scrollWidth - window.innerWidth") <= 0


def test_the_atlas_is_filtered_opened_and_queued(page, studio):
    open_view(page, studio, "Atlas")
    expect(page.locator("#atlas .found h3")).to_have_text("4 of 4 sentences")
    page.locator("#atlas [data-id='kind:noun']").click()
    expect(page.locator("#atlas .drops")).to_contain_text("nouns")
    page.locator("#atlas .drop").click()
    expect(page.locator("#atlas .drops")).to_have_count(0)
    page.get_by_role("button", name="Annotate the first of these").click()
    expect(page.locator("#atlas-outcome")).to_contain_text("waits under Annotate with 4 pictures")
    assert "Worst of scenes val" in [c.name for c in studio.store().collections()]
    row = page.locator("#atlas .one").nth(1)
    caption = row.locator(".said").inner_text()
    row.click()
    expect(page.locator("#inspect-caption textarea")).to_have_value(caption)
    expect(page.locator("#inspect-player .word").first).to_be_visible()


def test_a_split_is_scored_in_the_background_and_the_page_follows(page, studio):
    open_view(page, studio, "Atlas")
    page.get_by_label("Pictures").first.click()
    page.get_by_role("option", name="scenes · train").click()
    expect(page.locator("#atlas .hello")).to_contain_text("has 32 pictures")
    page.get_by_role("button", name="Score this split").click()
    expect(page.locator("#atlas .found h3")).to_have_text("32 of 32 sentences", timeout=90_000)
    begun = time.monotonic()
    page.get_by_role("tab", name="Compare").click()
    page.get_by_role("tab", name="Atlas").click()
    expect(page.locator("#atlas .found h3")).to_have_text("32 of 32 sentences")
    assert time.monotonic() - begun < 10


def test_nearest_sentences_are_asked_of_this_picture(page, studio):
    open_view(page, studio, "One picture")
    page.get_by_text("Nearest sentences and pictures").click()
    said = page.locator(".nearest .near:not(.picture)")
    expect(said).to_have_count(4)
    cosines = [float(text) for text in page.locator(".nearest .said-of b").all_inner_texts()]
    assert cosines == sorted(cosines, reverse=True)
    other = page.locator(".nearest .said-of .near:not([aria-current])").first
    text = other.locator("span").inner_text()
    other.click()
    expect(page.locator("#inspect-caption textarea")).to_have_value(text)
    expect(page.locator("#inspect-player .person")).to_be_hidden()  # nobody said it of this one


def test_layers_show_every_map_and_its_raw_numbers(page, studio):
    open_view(page, studio, "One picture")
    page.locator(".layers summary").click()
    names = page.locator(".layer b")
    expect(names).to_have_text(["Attention 4 × 4", "Attention 8 × 8", "Contrastive"])
    canvas = page.locator(".layer canvas").nth(1)
    box = canvas.bounding_box()
    canvas.hover(position={"x": box["width"] * 3.5 / 8, "y": box["height"] * 5.5 / 8})
    number = page.locator(".layer figcaption span").nth(1)
    expect(number).to_contain_text("% in this cell; even: 1.56%")
    shown = float(number.inner_text().split("%")[0])
    raw = page.evaluate("""() => {
        const { player } = document.querySelector('#inspect-player .player');
        return 100 * player.layers()[1].masses[player.state.pinned[0]][5 * 8 + 3];
    }""")
    assert shown == pytest.approx(raw, abs=0.006)


@pytest.mark.parametrize(
    "name, start",
    [
        ("SVG", b"<?xml"),
        ("PNG", b"\x89PNG"),
        ("PDF", b"%PDF"),
        ("Player (HTML)", b"<!doctype"),
        ("Numbers", b"{"),
    ],
)
def test_a_figure_is_saved_from_the_page(page, studio, name, start):
    open_view(page, studio, "One picture")
    page.get_by_text("Save as a figure").click()
    page.locator("#figure-words textarea, #figure-words input").fill("2,3")
    with page.expect_download(timeout=60_000) as found:
        page.get_by_role("button", name=name, exact=True).click()
    assert Path(found.value.path()).read_bytes().startswith(start)


# --- a player in one file


@pytest.fixture
def file(tmp_path):
    both = answer("word0 word1 word2 word3", random_maps(4))
    both.words = told().words
    layers = {"attention 14x14": both.maps, "contrastive": both.maps[:, ::2, ::2]}
    hits = [True, False, None, True]
    shown = payload(both, photo(640, 480), told(), hits=hits, layers=layers)
    (tmp_path / "player.html").write_text(player(shown, "word0 word1"), encoding="utf-8")
    return tmp_path / "player.html"


def test_the_exported_file_plays_and_hovers_from_disk_without_a_network(browser, file):
    # the file's own policy would forbid the test to wait for conditions; the next test keeps it
    context = browser.new_context(
        viewport={"width": 1200, "height": 900}, offline=True, bypass_csp=True
    )
    page = context.new_page()
    errors, asked = [], []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda line: errors.append(line.text) if line.type == "error" else None)
    page.on("request", lambda request: asked.append(request.url))
    page.goto(file.as_uri())
    page.wait_for_function("document.querySelector('.model canvas').toDataURL().length > 20000")
    drawn = []
    for index in (1, 2):
        page.hover(f".word >> nth={index}")
        page.wait_for_function(f"document.querySelectorAll('.word')[{index}].matches('.on')")
        drawn.append(page.evaluate("document.querySelector('.model canvas').toDataURL()"))
    assert drawn[0] != drawn[1]
    page.mouse.move(5, 5)
    page.locator(".player").press("Escape")
    page.locator(".player").press("Space")
    page.wait_for_function("document.querySelector('.player').player.state.time > 0.6")
    page.wait_for_selector(".player:not(.playing)")
    assert page.locator(".clock").inner_text() == "0:02.0 / 0:02.0"
    page.locator(".layers summary").click()
    page.wait_for_function("document.querySelectorAll('.layer canvas')[1].width > 100")
    assert not errors and {url.split(":")[0] for url in asked} <= {"file", "data", "blob"}
    context.close()


@pytest.mark.parametrize("width", [400, 800, 1440])
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_exported_file_fits_its_window_in_light_and_dark(browser, file, width, theme):
    context = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=theme)
    page = context.new_page()
    page.goto(file.as_uri())
    expect(page.locator(".word.on")).to_have_count(1)  # drawn, under the file's own policy
    assert page.evaluate("document.documentElement.scrollWidth - window.innerWidth") <= 0
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    values = np.array([int(v) for v in ground[4:-1].split(",")])
    assert (values.mean() > 200) == (theme == "light")
    context.close()
