"""How far a person is, in a real browser: counts that are true, and every image within reach."""

import re

from playwright.sync_api import Page, expect

from tests.browser.test_annotate import (
    circle,
    only,
    open_collection,
    picture,
    saved,
    start,
    wait_for,
)


def shown(page: Page, sha256: str) -> None:
    page.wait_for_selector(f"[data-state=idle] .photo[src*='{sha256}']")


def test_all_skipped_is_not_called_narrated_and_all_can_be_reached(page, studio):
    store, collection = open_collection(page, studio, "all skipped", count=4)
    rows = store.images(collection)
    count = page.locator(".count")
    expect(count).to_have_text("0 described, 4 left")
    for number, row in enumerate(rows, 1):
        shown(page, row.sha256)
        page.keyboard.press("s")
        page.keyboard.press("1")
        if number < 4:
            expect(count).to_have_text(f"0 described, {number} skipped, {4 - number} left")
    wait_for(page, "empty")
    expect(page.locator(".empty p")).to_have_text("You described 0 of 4 images and skipped 4.")
    page.get_by_role("button", name="Begin again from the first").click()
    for row in rows:
        shown(page, row.sha256)
        page.get_by_role("button", name="Next", exact=False).click()
    expect(page.locator(".note")).to_contain_text("This is the last image")
    page.locator(".recorder").focus()  # Space would press "Next" once more
    circle(page, start(page))
    page.keyboard.type("the fourth after all ")
    page.keyboard.press("Control+Enter")
    saved(page, "done")
    assert only(store, collection).image_id == rows[3].image_id
    wait_for(page, "empty")
    page.get_by_role("button", name="Bring back what I skipped").click()
    shown(page, rows[0].sha256)
    expect(count).to_have_text("1 described, 3 left")


def test_not_now_comes_back_and_next_skips_nothing(page, studio):
    store, collection = open_collection(page, studio, "not now", count=3)
    rows = store.images(collection)
    page.keyboard.press("s")
    page.get_by_role("menuitem", name="Not now").click()
    shown(page, rows[1].sha256)
    expect(page.locator(".count")).to_have_text("0 described, 3 left")
    page.keyboard.press("n")
    shown(page, rows[2].sha256)
    page.keyboard.press("n")
    shown(page, rows[1].sha256)
    for row in (rows[1], rows[2], rows[0]):
        shown(page, row.sha256)
        circle(page, start(page))
        page.keyboard.type("seen ")
        page.keyboard.press("Control+Enter")
        saved(page, "done")
    wait_for(page, "empty")
    assert len(store.narratives(collection)) == 3


def test_next_and_not_now_keep_an_open_take(page, studio):
    store, collection = open_collection(page, studio, "open take", count=3)
    rows = store.images(collection)
    circle(page, start(page))
    page.keyboard.type("half of it ")
    page.keyboard.press("Alt+n")
    shown(page, rows[1].sha256)
    expect(page.locator(".photo")).to_have_attribute("src", re.compile(rows[1].sha256))
    page.keyboard.press("s")
    page.keyboard.press("4")
    shown(page, rows[2].sha256)
    page.reload()
    wait_for(page, "review")  # the unsent take is offered first
    assert page.locator(".caption").input_value().strip() == "half of it"
    page.get_by_role("button", name="Discard").click()  # the studio is shared with other tests
    wait_for(page, "idle")


def test_new_images_lead_to_describing_them_while_a_take_is_open(page, studio, tmp_path):
    store, _ = open_collection(page, studio, "taken", count=2)
    circle(page, start(page))
    page.keyboard.type("unsent ")
    page.keyboard.press("Enter")
    wait_for(page, "review")
    for color in range(3):
        (tmp_path / f"{color}.jpg").write_bytes(picture(seed=(77, color)))
    page.get_by_role("tab", name="Data").click()
    page.locator("#data-name").get_by_role("textbox").fill("brand new")
    page.keyboard.press("Enter")
    expect(page.locator(".card[aria-pressed=true] b")).to_have_text("brand new")
    page.get_by_role("tab", name="Annotate").click()
    names = page.locator(".collection option")
    expect(names.filter(has_text="brand new")).to_have_count(1)
    assert page.locator(".recorder").get_attribute("data-state") == "review"

    page.get_by_role("tab", name="Data").click()
    page.get_by_role("tab", name="Add images").click()
    page.locator("#data-folder").get_by_role("textbox").fill(str(tmp_path))
    page.keyboard.press("Enter")
    expect(page.locator("#data-outcome")).to_contain_text("3 images added")
    page.get_by_role("button", name="Describe them").click()
    first = store.images(store.collection("brand new"))[0].sha256
    shown(page, first)
    expect(page.locator(".count")).to_have_text("0 described, 3 left")
    drafts = store.drafts(store.annotator("annotator"))
    assert sum("unsent" in draft.body for draft in drafts) == 1  # the open take waits
    for draft in drafts:
        if "unsent" not in draft.body:  # another test of this studio left it
            store.drop_draft(draft.take_id)
    page.reload()
    wait_for(page, "review")
    page.get_by_role("button", name="Discard").click()
    wait_for(page, "idle")
