"""A reviewer's keys, and what an annotator then reads, in a real browser."""

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


def test_a_reviewer_judges_by_key_and_the_annotator_reads_why(page, tmp_path):
    for name, role in (("ann", "annotator"), ("rob", "reviewer")):
        users.add(tmp_path / "users", name, role, PASSWORD)
    studio = Studio(tmp_path / "workspace", f"--users={tmp_path / 'users'}")
    store = studio.store()
    own, ann = store.add_collection("own"), store.annotator("ann")
    for k in range(3):
        store.add_image(own, picture(k), dataset_id="d", image_id=str(k))
        store.add(own, narrative(str(k), dataset_id="d", annotator_id=ann))

    enter(page, studio, "rob")
    for closed in ("Evaluate", "Export"):
        expect(page.get_by_role("tab", name=closed)).to_be_hidden()
    page.get_by_role("tab", name="Review").click()
    status = page.locator("#review-status")
    expect(status).to_contain_text("To review (3)")
    page.locator("#review-said").click()
    page.keyboard.press("a")
    expect(status).to_contain_text("To review (2)")
    expect(page.locator("#review-said")).to_contain_text("Accepted.")
    page.keyboard.press("x")
    expect(page.locator("#review-reason :is(input, textarea)")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("#review-said")).to_contain_text("Say why")
    page.keyboard.type("points beside the dog")
    page.keyboard.press("Enter")
    expect(status).to_contain_text("To review (1)")
    page.keyboard.press("Escape")
    page.keyboard.press("e")
    page.keyboard.press("End")
    page.keyboard.type(" runs")
    page.keyboard.press("Escape")
    page.keyboard.press("a")
    expect(status).to_contain_text("To review (0)")
    assert [row.status for row in store.narratives(own)] == ["accepted", "rejected", "accepted"]
    assert [row.caption for row in store.narratives(own)] == ["a dog", "a dog", "a dog runs"]

    page.get_by_role("link", name="Log out").click()
    enter(page, studio, "ann")
    expect(page.get_by_role("tab", name="Review")).to_be_hidden()
    page.get_by_role("tab", name="Mine").click()
    rows = page.locator("#mine-rows [data-id]")
    expect(rows).to_have_count(3)
    rows.nth(1).click()
    expect(page.locator("#mine-said")).to_contain_text("points beside the dog")
    expect(page.locator(".toast-wrap, .toast-body")).to_have_count(0)
    page.get_by_role("button", name="Delete this narrative").click()
    page.get_by_role("button", name="Delete it for good").click()
    expect(rows).to_have_count(2)
    store.close()
    studio.stop()
