"""Evaluate and Export in a real browser: asked once, answered whoever looks, and taken home."""

import zipfile
from pathlib import Path

from playwright.sync_api import Page, expect

from tests.loctex.transfer.test_sources import write_folders
from tests.loctex.weights import write_run

PATIENCE = 180_000  # milliseconds; torch on a busy machine


def open_tab(page: Page, url: str, name: str) -> None:
    page.set_default_timeout(60_000)
    page.goto(url)
    page.get_by_role("tab", name=name).click()


def test_an_empty_studio_leads_to_training(page: Page, own_studio) -> None:
    open_tab(page, own_studio.url, "Evaluate")
    expect(page.get_by_text("Nothing to evaluate yet")).to_be_visible()
    page.get_by_role("tab", name="Export", exact=True).click()
    expect(page.get_by_text("Nothing to hand over yet")).to_be_visible()


def test_labels_are_evaluated_in_the_background_and_weights_taken_home(
    page: Page, own_studio, tmp_path: Path
) -> None:
    write_run(own_studio.root / "runs" / "garden")
    folder = write_folders(tmp_path / "insects")
    open_tab(page, own_studio.url, "Evaluate")
    start = page.get_by_role("button", name="Start", exact=True).locator("visible=true")
    expect(start).to_be_disabled()
    labels = page.locator("#evaluation-labels").get_by_role("textbox")
    labels.fill("/nowhere")
    expect(page.get_by_text("There is nothing at /nowhere")).to_be_visible()
    labels.fill(str(folder))
    expect(page.locator("#evaluation-line textarea")).to_have_value(
        f".venv/bin/python -m loctex.transfer.efficiency --run {own_studio.root}/runs/garden "
        f"--checkpoint best --to {own_studio.root}/evaluations/runs/garden-on-insects-1/result.json"
        f" --labels {folder} --seeds 5 --skip-damaged"
    )
    start.click()
    expect(page.locator(".run h2").locator("visible=true")).to_have_text("garden-on-insects-1")

    open_tab(page, own_studio.url, "Evaluate")  # another visit finds it where it is
    sentence = page.locator(".says .first")
    expect(sentence).to_contain_text("garden with", timeout=PATIENCE)
    expect(sentence).to_contain_text("random initialization with 16.")
    expect(page.locator(".report td").first).to_be_visible()
    plot = page.locator(".chart.wide .plot").locator("visible=true")
    expect(plot).to_be_visible()
    bars = plot.evaluate("(plot) => plot.data.map((line) => line.error_y.array.length)")
    assert bars == [4, 4]
    with page.expect_download() as waiting:
        page.get_by_role("button", name="Download the table").click()
    assert Path(waiting.value.path()).read_text().startswith("encoder,labels,measure,mean")

    page.get_by_role("tab", name="Export", exact=True).click()
    page.get_by_label("timm: create_model").check()
    page.get_by_role("button", name="Export and check").click()
    card = page.locator(".prose.studio-card").locator("visible=true")
    expect(card).to_contain_text("Intended use", timeout=PATIENCE)
    expect(card).to_contain_text("garden-on-insects-1, garden")
    with page.expect_download() as waiting:
        page.get_by_role("button", name="Download", exact=True).locator("visible=true").click()
    with zipfile.ZipFile(waiting.value.path()) as archive:
        assert {Path(name).name for name in archive.namelist()} == {
            "README.md",
            "config.json",
            "model.safetensors",
        }
