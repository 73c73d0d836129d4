"""The whole journey through the page: drop images, narrate, train, and see where words are."""

from playwright.sync_api import Page, expect

from tests.browser.test_annotate import circle, start
from tests.browser.test_data import open_data, said
from tests.browser.test_inspect import DRAWN

CAPTIONS = ("a red circle on sand", "the blue square below", "two green rings near a star")
SETTINGS = {"train-steps": 6, "train-batch-size": 2, "train-log-every": 2, "data-image-size": 64}


def test_from_dropped_images_to_attention_word_by_word(page: Page, own_studio, scenes) -> None:
    page.set_default_timeout(60_000)
    open_data(page, own_studio, "mine")
    page.get_by_role("tab", name="Add images").click()
    pictures = sorted((scenes / "images").iterdir())[:3]
    page.locator("#data-images input").set_input_files(pictures)
    said(page, "3 images added")

    printed = own_studio.log.read_text()
    assert f"LocTex Studio is at {own_studio.url}/ (Ctrl+C ends it)" in printed
    assert "share" not in printed
    page.get_by_role("tab", name="Annotate").click()
    for number, caption in enumerate(CAPTIONS):
        page.wait_for_selector("[data-state=idle]")
        expect(page.locator(".count")).to_have_text(f"{number} described, {3 - number} left")
        box = start(page)
        circle(page, box)
        page.keyboard.type(caption, delay=10)
        page.keyboard.press("Control+Enter")
        page.wait_for_selector(".saved[data-kind=done]")
    expect(page.locator(".empty h2")).to_have_text("All done here")
    store = own_studio.store()
    (collection,) = store.collections()
    assert (collection.num_narratives, collection.num_with_trace) == (3, 3)

    page.get_by_role("tab", name="Train").click()
    expect(page.get_by_label("mine · 3 captions, 3 with traces")).to_be_checked()
    page.get_by_role("button", name="All settings").click()
    for name, value in SETTINGS.items():
        page.locator(f"#setting-{name} input").fill(str(value))
    page.get_by_role("button", name="Start", exact=True).click()
    expect(page.locator(".run .chip")).to_have_text("done", timeout=240_000)

    page.get_by_role("tab", name="Inspect").click()
    page.wait_for_selector("#inspect-player .word", timeout=120_000)
    page.wait_for_function(f"{DRAWN}.length > 20000")
    drawn = []
    for index in (0, 3):
        word = page.locator("#inspect-player .word").nth(index)
        word.hover()
        page.wait_for_function(
            f"document.querySelectorAll('#inspect-player .word')[{index}].matches('.on')"
        )
        drawn.append(page.evaluate(DRAWN))
    assert drawn[0] != drawn[1]
    assert page.locator("#inspect-player .person canvas").is_visible()
    shown = page.locator("#inspect-player .word").all_inner_texts()
    assert " ".join(shown) in CAPTIONS
