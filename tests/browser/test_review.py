"""A reviewer's keys, and what an annotator then reads, in a real browser."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Studio
from tests.data_tools.samples import narrative, picture
from ui import users

PASSWORD = "correct horse"


def enter(page: Page, studio: Studio, name: str) -> None:
    page.goto(studio.url)
    page.get_by_label("username").fill(name)
    page.get_by_label("password").fill(PASSWORD)
    page.get_by_role("button", name="Login").click()
    expect(page.locator(".studio-brand").first).to_contain_text(f"{name} Log out")


@pytest.fixture
def team(tmp_path: Path) -> Iterator[Studio]:
    """A studio where ann told of three things, and rob reviews."""
    for name, role in (("ann", "annotator"), ("rob", "reviewer")):
        users.add(tmp_path / "users", name, role, PASSWORD)
    running = Studio(tmp_path / "workspace", f"--users={tmp_path / 'users'}")
    store = running.store()
    own, ann = store.add_collection("own"), store.annotator("ann")
    for k, thing in enumerate(("dog", "cat", "cow")):
        word = {"utterance": thing, "start_time": 0.25, "end_time": 1.5}
        store.add_image(own, picture(k), dataset_id="d", image_id=str(k))
        store.add(
            own,
            narrative(
                str(k), dataset_id="d", annotator_id=ann, caption=thing, timed_caption=[word]
            ),
        )
    store.close()
    yield running
    running.stop()


def test_a_reviewer_judges_by_key_and_the_annotator_reads_why(page, team):
    enter(page, team, "rob")
    for closed in ("Evaluate", "Export"):
        expect(page.get_by_role("tab", name=closed)).to_be_hidden()
    page.get_by_role("tab", name="Review").click()
    status, said = page.locator("#review-status"), page.locator("#review-said")
    words = page.locator("#review-words textarea")
    expect(status).to_contain_text("To review (3)")
    expect(words).to_have_value("dog")
    said.click()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("a")  # the dog is still shown, with its words
    expect(said).to_contain_text("Not judged")
    expect(words).to_have_value("cat")
    page.keyboard.press("a")
    expect(status).to_contain_text("To review (2)")
    expect(said).to_contain_text("Accepted.")
    expect(words).to_have_value("cow")
    page.keyboard.press("x")
    expect(page.locator("#review-reason :is(input, textarea)")).to_be_focused()
    page.keyboard.press("Enter")
    expect(said).to_contain_text("Say why")
    page.keyboard.type("points beside the cow")
    page.keyboard.press("Enter")
    expect(status).to_contain_text("To review (1)")
    expect(words).to_have_value("dog")
    page.keyboard.press("Escape")
    page.keyboard.press("e")
    page.keyboard.press("End")
    page.keyboard.type(" runs")
    page.keyboard.press("Escape")
    page.keyboard.press("a")
    expect(status).to_contain_text("To review (0)")
    store = team.store()
    rows = store.narratives(store.collection("own"))
    assert [(row.caption, row.status) for row in rows] == [
        ("dog runs", "accepted"),
        ("cat", "accepted"),
        ("cow", "rejected"),
    ]

    page.get_by_role("link", name="Log out").click()
    enter(page, team, "ann")
    expect(page.get_by_role("tab", name="Review")).to_be_hidden()
    page.get_by_role("tab", name="Mine").click()
    mine = page.locator("#mine-rows [data-id]")
    expect(mine).to_have_count(3)
    for thing, says in (("dog", "before: dog"), ("cow", "points beside the cow")):
        mine.filter(has_text=thing).click()
        expect(page.locator("#mine-said")).to_contain_text(says)
    page.get_by_role("button", name="Delete this narrative").click()
    page.get_by_role("button", name="Delete the narrative", exact=True).click()
    expect(mine).to_have_count(2)
    page.get_by_role("button", name="Undo").locator("visible=true").click()
    expect(mine).to_have_count(3)
    mine.filter(has_text="cow").click()
    page.get_by_role("button", name="Delete this narrative").click()
    page.get_by_role("button", name="Delete the narrative", exact=True).click()
    expect(mine).to_have_count(2)
    assert sorted(row.caption for row in store.narratives(store.collection("own"))) == [
        "cat",
        "dog runs",
    ]
    expect(page.locator(".toast-body")).to_have_count(0)  # no error was shown
    store.close()
