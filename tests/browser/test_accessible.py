"""Every tab of a studio with everything, light and dark: no violation of WCAG's level A or AA."""

import time
from collections.abc import Iterator

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from tests.browser.conftest import Studio
from tests.data_tools import everything

LEVELS = {"runOnly": {"type": "tag", "values": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"]}}


@pytest.fixture(scope="module")
def full_studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Studio]:
    folder = tmp_path_factory.mktemp("everything")
    with pytest.MonkeyPatch.context() as patch:
        everything.unwatched(patch)
        everything.make(folder / "workspace", folder / "sources")
    (folder / "workspace" / "runs" / "queued" / "waiting").unlink()  # nothing trains meanwhile
    running = Studio(folder / "workspace")
    yield running
    running.stop()


def violations(page: Page) -> list[str]:
    """rule: HTML of each element that breaks it."""
    lines = []
    for rule in Axe().run(page, options=LEVELS).response["violations"]:
        lines += [f"{rule['id']}: {node['html'][:200]}" for node in rule["nodes"]]
    return lines


def lasting_violations(page: Page, patience: float = 30) -> list[str]:
    """What fades in is too pale for a moment."""
    deadline = time.monotonic() + patience
    lines = violations(page)
    while lines and time.monotonic() < deadline:
        page.wait_for_timeout(500)
        lines = violations(page)
    return lines


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_no_tab_violates_level_a_or_aa(page: Page, full_studio: Studio, theme: str) -> None:
    page.goto(f"{full_studio.url}/?__theme={theme}")
    tabs = page.get_by_role("tab")
    expect(tabs.first).to_be_visible()
    for tab in tabs.all():
        tab.click()
        assert lasting_violations(page) == [], tab.inner_text()


def test_a_pale_word_is_found(page: Page, full_studio: Studio) -> None:
    page.goto(full_studio.url)
    expect(page.get_by_role("tab").first).to_be_visible()
    page.evaluate(
        "document.body.insertAdjacentHTML('beforeend', '<p style=\"color: #999\">pale</p>')"
    )
    assert any("pale" in line for line in violations(page))
