"""Data in a real browser: images and narratives come in, are looked at, and go out."""

import uuid

import pytest
from PIL import Image
from playwright.sync_api import Page, expect

from data_tools import scenes as rendered
from tests.browser.conftest import Studio
from tests.data_tools.samples import narrative, picture


def open_data(page: Page, studio: Studio, collection: str) -> None:
    """The tab Data, with a new collection chosen in it."""
    page.goto(studio.url)
    page.get_by_role("tab", name="Data").click()
    page.wait_for_selector("#data-collections .cards, #data-collections .hello")
    page.locator("#data-name").get_by_role("textbox").fill(collection)
    page.keyboard.press("Enter")
    expect(page.locator(".card[aria-pressed=true] b")).to_have_text(collection)


def said(page: Page, text: str) -> None:
    expect(page.locator("#data-outcome")).to_contain_text(text, timeout=60_000)


def import_file(page: Page, narratives, images) -> None:
    page.get_by_role("tab", name="Import").click()
    page.get_by_label("Narratives, captions or boxes").fill(str(narratives))
    page.get_by_label("Folder of pictures").fill(str(images))
    page.get_by_role("button", name="Import").click()


def test_dropped_files_come_in_and_bad_ones_are_named(page, studio, tmp_path):
    Image.new("1", (20_000, 20_000)).save(tmp_path / "huge.png")
    for name, content in (
        ("text.jpg", b"hello"),
        ("torn.jpg", picture(3, (300, 200))[:900]),
        ("whole.jpg", picture(4)),
    ):
        (tmp_path / name).write_bytes(content)
    open_data(page, studio, "dropped")
    page.get_by_role("tab", name="Add images").click()
    names = ("text.jpg", "torn.jpg", "huge.png", "whole.jpg")
    page.locator("#data-images input").set_input_files([tmp_path / name for name in names])
    said(page, "1 image added")
    for text in ("text.jpg: is not an image", "torn.jpg: is a damaged", "huge.png: is larger than"):
        said(page, text)
    expect(page.locator(".card[aria-pressed=true]")).to_contain_text("1 image")
    store = studio.store()
    (image,) = store.images(store.collection("dropped"))
    assert image.name == "whole.jpg" and image.path.read_bytes() == picture(4)


def test_a_folder_on_this_machine_comes_in(page, studio, tmp_path):
    (tmp_path / "album").mkdir()
    for color in range(3):
        (tmp_path / "album" / f"{color}.jpg").write_bytes(picture(color))
    open_data(page, studio, "folder")
    page.get_by_role("tab", name="Add images").click()
    folder = page.locator("#data-folder").get_by_role("textbox")
    folder.fill(str(tmp_path / "nowhere"))
    page.get_by_role("button", name="Add its images").click()
    said(page, "There is no folder")
    folder.fill(str(tmp_path / "album"))
    folder.press("Enter")
    said(page, "3 images added")


def test_genuine_narratives_are_listed_by_pages_and_replay(page, studio, shared_data):
    open_data(page, studio, "vidln")
    import_file(page, shared_data / "vidln/vidln_as_ln.jsonl", shared_data / "vidln/images")
    said(page, "46 narratives imported")
    page.get_by_role("tab", name="Narratives").click()
    rows, seen = page.locator("#data-narratives .row"), []
    expect(rows).to_have_count(12)
    while True:
        seen += rows.locator(".said").all_inner_texts()
        more = page.get_by_role("button", name="More", exact=True)
        if not more.is_visible():
            break
        first = rows.first.get_attribute("data-id")
        more.click()
        expect(rows.first).not_to_have_attribute("data-id", first)
    assert len(seen) == 46
    rows.last.click()
    expect(page.locator(".player .word").first).to_be_visible()
    words = page.locator(".player .word").all_inner_texts()
    assert " ".join(words).split() == seen[-1].split()
    page.locator("#data-flag input").click()
    page.get_by_role("option", name="pace", exact=True).click()
    expect(rows).to_have_count(5)
    for row in rows.all():
        expect(row.locator(".flag", has_text="pace")).to_have_count(1)
    page.locator("#data-words").get_by_role("textbox").fill("nowhere")
    expect(rows).to_have_count(0)


def test_a_narrative_or_its_image_is_deleted_only_after_a_second_question(page, studio, scenes):
    open_data(page, studio, "deleted")
    import_file(page, scenes / "narratives.jsonl", scenes / "images")
    said(page, "40 narratives imported")
    page.get_by_role("tab", name="Narratives").click()
    page.locator("#data-narratives .row").nth(1).click()
    page.get_by_role("button", name="Delete this narrative").click()
    page.get_by_role("button", name="Keep it").click()
    page.get_by_role("button", name="Delete this narrative").click()
    page.get_by_role("button", name="Delete the narrative").click()
    said(page, "The narrative was deleted")
    card = page.locator(".card[aria-pressed=true]")
    expect(card).to_contain_text("39 narratives")
    store = studio.store()
    files = {image.path for image in store.images(store.collection("deleted"))}
    page.locator("#data-narratives .row").first.click()
    page.get_by_role("button", name="Delete this narrative").click()
    page.get_by_role("button", name="Delete its image too").click()
    page.get_by_role("button", name="Delete image and 1 narrative").click()
    said(page, "The image was deleted, with all that was told of it (1 narrative)")
    expect(card).to_contain_text("38 narratives")
    left = {image.path for image in store.images(store.collection("deleted"))}
    assert len(left) == 39 and left < files
    page.get_by_role("tab", name="Export data").click()
    page.get_by_role("button", name="Export").click()
    said(page, "38 narratives and 39 images in")


def click_again_without_moving(page: Page, times: int = 2) -> None:
    for _ in range(times):
        page.mouse.down()
        page.mouse.up()
        page.wait_for_timeout(400)  # whatever the click leads to has come by then


@pytest.mark.parametrize("width", [1440, 800])
def test_clicks_without_moving_delete_nothing_and_undo_brings_all_back(page, studio, width):
    page.set_viewport_size({"width": width, "height": 900})
    name = f"clicked {width} {uuid.uuid4().hex[:4]}"
    open_data(page, studio, name)
    store = studio.store()
    collection = store.collection(name)
    row = store.add_image(collection, picture(1), dataset_id="d", image_id="1")
    said_of_it = [
        store.add(collection, narrative("1", dataset_id="d", annotator_id=n)) for n in range(5)
    ]
    store.reviews.accept(said_of_it[0], 7)
    page.locator(".card", has_text=name).click()
    page.locator("#data-narratives .row").first.click()
    delete = page.get_by_role("button", name="Delete this narrative")
    delete.click()
    click_again_without_moving(page, 3)
    assert len(store.narratives(collection)) == 5
    if delete.is_visible():
        delete.click()
    page.get_by_role("button", name="Delete its image too").click()
    click_again_without_moving(page)
    assert len(store.narratives(collection)) == 5
    expect(page.locator("#data-question")).to_contain_text(
        "Delete this image with 5 narratives by 5 people?"
    )
    page.get_by_role("button", name="Delete image and 5 narratives").click()
    said(page, "(5 narratives). It lies in the trash for 30 days.")
    assert store.narratives(collection) == [] and row.path.exists()
    page.get_by_role("button", name="Undo", exact=True).click()
    said(page, "The image is back, with 5 narratives.")
    assert [one.id for one in store.narratives(collection)] == said_of_it
    assert len(store.reviews.trail(said_of_it[0])) == 1


def test_the_trash_gives_back_and_is_emptied_only_after_a_question(page, studio):
    open_data(page, studio, "trash")
    store = studio.store()
    collection = store.collection("trash")
    store.add_image(collection, picture(2), dataset_id="d", image_id="1")
    first, second = (store.add(collection, narrative("1", dataset_id="d")) for _ in range(2))
    for one in (first, second):
        store.trash.put_narrative(one, 7)
    page.get_by_role("tab", name="Trash").click()
    entries = page.locator("#data-trash li")
    expect(entries).to_have_count(2)
    entries.last.get_by_role("button", name="Bring it back").click()
    said(page, "The narrative is back")
    expect(entries).to_have_count(1)
    assert [one.id for one in store.narratives(collection)] == [first]
    page.get_by_role("button", name="Empty the trash").click()
    click_again_without_moving(page)
    assert len(store.trash.entries(collection)) == 1
    page.get_by_role("button", name="Empty the trash").click()
    page.get_by_role("button", name="Delete for good").filter(visible=True).click()
    expect(page.locator("#data-trash")).to_contain_text("The trash is empty")
    assert store.trash.entries(collection) == []
    page.locator("#data-trash-days input").fill("0")
    page.get_by_role("button", name="Save", exact=True).filter(visible=True).click()
    said(page, "kept for 0 days")
    assert next(c.trash_days for c in store.collections() if c.id == collection) == 0


def test_a_long_import_shows_how_far_it_is_and_stops(page, studio, tmp_path):
    rendered.write(tmp_path, 600)
    open_data(page, studio, "long")
    import_file(page, tmp_path / "narratives.jsonl", tmp_path / "images")
    said(page, "of 600 images")
    stop = page.locator("button:visible", has_text="Stop")
    stop.click()
    expect(stop).to_have_count(0)
    store = studio.store()

    def count() -> int:
        return next(c.num_images for c in store.collections() if c.name == "long")

    page.wait_for_timeout(1500)  # long enough for a dozen more, if it went on
    stopped = count()
    page.wait_for_timeout(1500)
    assert 1 <= stopped == count() < 600


@pytest.mark.parametrize("width", [1440, 800])
def test_what_was_chosen_is_in_sight(page, studio, scenes, width):
    page.set_viewport_size({"width": width, "height": 900})
    open_data(page, studio, f"wide {width}")
    import_file(page, scenes / "narratives.jsonl", scenes / "images")
    said(page, "40 narratives imported")
    page.get_by_role("tab", name="Narratives").click()
    page.locator("#data-narratives .row").first.click()
    expect(page.locator(".player .word").first).to_be_in_viewport()
    assert page.evaluate("document.documentElement.scrollWidth") <= width
