"""What comes into the workspace and goes out, and how it is listed."""

import json
from html import escape
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data_tools.store.search import NarrativeFilter
from loctex.records.images import decode_image
from loctex.records.narrative import read_jsonl
from tests.data_tools.samples import items, narrative, picture
from ui.data import exchange, listing
from ui.data import tab as data
from ui.data.exchange import Outcome
from ui.workspace import Workspace


@pytest.fixture
def workspace(tmp_path):
    result = Workspace(tmp_path / "workspace")
    yield result
    result.store.close()


@pytest.fixture
def own(workspace):
    return workspace.store.add_collection("own")


def write(folder: Path, **files: bytes) -> list[Path]:
    folder.mkdir(exist_ok=True)
    paths = [folder / name.replace("_", ".") for name in files]
    for path, content in zip(paths, files.values(), strict=True):
        path.write_bytes(content)
    return paths


def told(workspace, collection, count: int) -> list[int]:
    """So many narratives of one image; their ids."""
    row = workspace.store.add_image(collection, picture(), dataset_id="album", image_id="1")
    return [
        workspace.store.add(collection, narrative(row.image_id, annotator_id=n))
        for n in range(count)
    ]


# --- in


def test_what_is_no_picture_is_left_out_with_its_name_and_the_rest_comes_in(
    workspace, own, tmp_path
):
    Image.new("1", (20_000, 20_000)).save(tmp_path / "huge.png")
    files = write(
        tmp_path / "drop",
        text_jpg=b"hello",
        whole_jpg=picture(1),
        torn_jpg=picture(2)[:300],
        empty_png=b"",
    )
    *_, last = exchange.add_images(workspace, own, [*files, tmp_path / "huge.png"])
    assert last.text == "1 image added" and last.share == 1
    said = [problem.split(":")[0] for problem in last.problems]
    assert said == ["text.jpg", "torn.jpg", "empty.png", "huge.png"]
    for problem, why in zip(
        last.problems, ("not an image", "damaged", "not an image", "100 megapixels"), strict=True
    ):
        assert why in problem
    (image,) = workspace.store.images(own)
    assert (image.name, image.dataset_id, image.image_id) == ("whole.jpg", "studio", image.sha256)


def test_the_same_picture_is_kept_once(workspace, own, tmp_path):
    files = write(tmp_path / "drop", a_jpg=picture(1), b_jpg=picture(1), c_jpg=picture(2))
    outcomes = list(exchange.add_images(workspace, own, files))
    assert outcomes[-1].text == "2 images added, 1 already there"
    assert [round(outcome.share, 2) for outcome in outcomes] == [0.33, 0.67, 1.0]
    assert "1 to go" in outcomes[1].text
    assert len(list(workspace.images_dir.iterdir())) == 2


def test_a_folder_gives_its_files_by_name_and_says_when_it_cannot(tmp_path):
    write(tmp_path / "drop", b_jpg=b"", a_jpg=b"", _hidden=b"")
    assert [path.name for path in exchange.files_of(f" {tmp_path / 'drop'} ")] == ["a.jpg", "b.jpg"]
    for wrong in ("", "  ", str(tmp_path / "nowhere"), str(tmp_path / "drop" / "a.jpg")):
        with pytest.raises(ValueError, match="There is no folder"):
            exchange.files_of(wrong)
    (tmp_path / "bare").mkdir()
    with pytest.raises(ValueError, match="holds no files"):
        exchange.files_of(str(tmp_path / "bare"))


def test_import_export_import_gives_the_same_narratives(workspace, own, scenes, tmp_path):
    source = scenes / "narratives.jsonl"
    first, preview, *steps, last = exchange.import_narratives(
        workspace, "own", str(source), str(scenes / "images")
    )
    assert preview.text.startswith("Localized Narratives: 40 narratives of 40 images, of which 40")
    assert last.text == "40 narratives imported" and not last.problems
    assert (first.text, first.share) == ("Reading narratives.jsonl", 0)
    assert all(0 < step.share <= 1 for step in steps)
    chosen = data.find(workspace, own)
    *steps, outcome = exchange.export(
        workspace, chosen, str(tmp_path / "out"), "CC BY 4.0", has_parquet=True
    )
    assert outcome.text.startswith("40 narratives and 40 images in ")
    assert all(0 < step.share <= 1 and "160 steps" in step.text for step in steps)
    assert data.find(workspace, own).license == "CC BY 4.0"
    assert sum(map(len, items(tmp_path / "out").values())) == 40  # it opens as a snapshot
    records = [n.to_json() for n in read_jsonl(tmp_path / "out" / "narratives.jsonl")]
    assert records == [n.to_json() for n in read_jsonl(source)]
    *_, again = exchange.import_narratives(
        workspace, "own", str(tmp_path / "out" / "narratives.jsonl"), str(tmp_path / "out/images")
    )
    assert again.text == "0 narratives imported, 40 already there"


def test_an_export_that_is_stopped_leaves_nothing(workspace, own, tmp_path):
    for color in range(60):
        data_of = picture(color)
        workspace.store.add_image(own, data_of, dataset_id="album", image_id=str(color))
    steps = exchange.export(workspace, data.find(workspace, own), str(tmp_path / "out/it"))
    next(steps)
    steps.close()
    assert list((tmp_path / "out").iterdir()) == []


def test_an_import_that_is_stopped_keeps_what_is_in_and_can_go_on(workspace, own, scenes):
    begin = lambda: exchange.import_narratives(  # noqa: E731
        workspace, "own", str(scenes / "narratives.jsonl"), str(scenes / "images")
    )
    steps = begin()
    while next(steps).share == 0:
        continue
    steps.close()
    assert 1 <= exchange.num_images(workspace, own) < 40
    *_, last = begin()
    assert exchange.num_images(workspace, own) == 40 and "already there" in last.text


def test_lines_that_are_no_narratives_are_named_and_the_rest_comes_in(workspace, own, tmp_path):
    lines = [json.dumps(narrative().to_json()), "{}", json.dumps(narrative("2").to_json())]
    file = tmp_path / "some.jsonl"
    file.write_text("\n".join(lines))
    write(tmp_path / "images", **{"1_jpg": picture(1)})
    *_, last = exchange.import_narratives(workspace, "own", str(file), str(tmp_path / "images"))
    assert last.text.startswith("1 narrative imported, 1 picture not found in ")
    assert any("some.jsonl:2: dataset_id: is missing" in problem for problem in last.problems)
    with pytest.raises(ValueError, match="There is no file or folder"):
        next(exchange.import_narratives(workspace, "own", "nowhere.jsonl", str(tmp_path)))


def test_genuine_narratives_import_and_replay(workspace, shared_data):
    folder = shared_data / "vidln"
    file = folder / "vidln_as_ln.jsonl"
    *_, last = exchange.import_narratives(workspace, "vidln", str(file), str(folder / "images"))
    assert last.text == "46 narratives imported" and not last.problems
    collection = data.find(workspace, None)
    assert (collection.num_images, collection.num_with_trace, collection.num_words) == (32, 46, 482)
    seen, after = [], 0
    while after is not None:
        rows, after = data.page(workspace, collection, after)
        seen += rows
    assert len(seen) == 46
    points = 0
    for row in seen:
        item = data.replay(workspace, row)
        assert len(item["words"]) == row.num_words and item["image"].startswith("data:image/jpeg")
        points += sum(len(stroke) // 3 for stroke in item["strokes"])
    assert points == 8709


def test_the_demo_is_made_once_and_continued_where_it_was_left(workspace, monkeypatch):
    monkeypatch.setattr(exchange, "SCENES_A_PART", 2)
    assert exchange.add_demo_part(workspace) == 1 / exchange.NUM_PARTS
    shares = [outcome.share for outcome in exchange.add_demo(workspace)]
    assert len(shares) == exchange.NUM_PARTS - 1 and shares[-1] == 1
    assert [outcome.share for outcome in exchange.add_demo(workspace)] == [1]
    (demo,) = workspace.store.collections()
    assert demo.num_images == demo.num_with_trace == 2 * exchange.NUM_PARTS


# --- what is shown


def test_pages_hold_every_narrative_once(workspace, own):
    ids = told(workspace, own, 2 * data.PAGE)
    collection = data.find(workspace, own)
    first, after = data.page(workspace, collection, 0)
    second, end = data.page(workspace, collection, after)
    assert [row.id for row in [*first, *second]] == ids and end is None


def test_the_chosen_collection_is_shown_or_else_the_first(workspace, own):
    assert data.find(workspace, own).name == data.find(workspace, None).name == "own"
    assert data.find(workspace, 99).name == "own"


def test_a_deleted_narrative_is_gone_and_its_image_stays(workspace, own):
    first, second = told(workspace, own, 2)
    workspace.store.delete(first)
    rows, _ = data.page(workspace, data.find(workspace, own), 0)
    assert [row.id for row in rows] == [second] and exchange.num_images(workspace, own) == 1
    assert data.replay(workspace, None)["message"].startswith("Choose")


def test_lists_escape_what_people_typed(workspace):
    evil = "<img src=x onerror=alert(1)>${alert(2)}`"
    collection = workspace.store.add_collection(evil)
    row = workspace.store.add_image(collection, picture(), dataset_id="album", image_id="1")
    workspace.store.add(collection, narrative(row.image_id, caption=evil))
    chosen = data.find(workspace, collection)
    rows, _ = data.page(workspace, chosen, 0)
    for html in (
        listing.collection_cards([chosen], chosen),
        listing.narrative_rows(workspace, rows, None),
        listing.outcome_html(Outcome(evil, [evil])),
        listing.problem_html(ValueError(evil)),
    ):
        assert escape(evil) in html and "<img src=x" not in html


def test_counts_are_shown_with_the_right_nouns(workspace, own):
    told(workspace, own, 1)
    collection = data.find(workspace, own)
    html = listing.collection_cards([collection], collection)
    assert "1 image<" in html and "1 narrative, 1 with trace" in html and "2 words" in html
    assert 'aria-pressed="true"' in html


def test_what_is_odd_is_told_beside_it_and_filtered_by(workspace, own):
    told(workspace, own, 1)
    image = workspace.store.images(own)[0]
    odd = workspace.store.add(own, narrative(image.image_id, traces=[]))
    rows, _ = data.page(workspace, data.find(workspace, own), 0, NarrativeFilter(flag="any"))
    assert [row.id for row in rows] == [odd]
    assert "<i class='flag'>no trace</i>" in listing.narrative_rows(workspace, rows, None)


def test_many_problems_are_cut_short():
    html = listing.outcome_html(Outcome("done", [f"line {n}" for n in range(50)], 0.5))
    assert html.count("<li>") == 21 and "and 30 more" in html and 'value="0.500"' in html


def test_whoever_is_filtered_by_stays_a_choice_when_their_last_narrative_is_gone(workspace, own):
    (only,) = told(workspace, own, 1)
    workspace.store.trash.put_narrative(only, 7)
    choices = data.people(workspace, data.find(workspace, own), 0)
    assert [value for _, value in choices] == ["", "0"]


def test_a_tiff_comes_in_by_the_page_and_what_was_left_out_of_it_is_said(workspace, own, tmp_path):
    gray = np.linspace(0, 4095, 96 * 64).astype(np.uint16).reshape(64, 96)
    page = Image.fromarray(gray)
    page.save(tmp_path / "cells.tif", save_all=True, append_images=[page])
    (tmp_path / "phone.heic").write_bytes(b"\0\0\0\x18ftypheic" + bytes(99))
    (tmp_path / "page.jpg").write_bytes(b"<!DOCTYPE html>")
    *_, outcome = exchange.add_images(workspace, own, exchange.files_of(str(tmp_path)))
    assert "1 image added; 1 TIFF kept with only the first of its 2 pages" in outcome.text
    assert "the upper 8 of the 12 bits" in outcome.text
    assert [sentence.split(":")[0] for sentence in outcome.problems] == ["page.jpg", "phone.heic"]
    assert "is a web page" in outcome.problems[0]
    (row,) = [row for row in workspace.store.images(own) if row.name == "cells.tif"]
    assert np.array_equal(decode_image(row.path)[..., 0], gray >> 4)
