"""Data > Import: what is brought is named, counted and previewed before anything is written."""

import shutil
from pathlib import Path

import pytest

from data_tools.arriving import bring, recognise
from tests.loctex import test_layouts as layouts
from ui.data import exchange, listing
from ui.data import tab as data
from ui.export import exports
from ui.workspace import Workspace


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    workspace = Workspace(tmp_path / "workspace")
    workspace.store.add_collection("own")
    return workspace


def counts(workspace: Workspace) -> tuple[int, int]:
    (collection,) = workspace.store.collections()
    return collection.num_images, collection.num_narratives


def test_look_says_what_it_is_and_writes_nothing(workspace, tmp_path):
    layouts.roboflow_yolo(tmp_path / "pets")
    first, last = exchange.look(f" {tmp_path / 'pets'} ", "")
    assert (first.text, first.share, last.share) == ("Looking at pets", 0, 1)
    assert last.text.startswith(
        "YOLO: 4 pictures (train 3, val 1); 6 boxes; 2 classes: cat 3, traffic light 3. "
        "train/images/a.jpg: cat, traffic light."
    )
    assert last.text.endswith(
        "Import: each picture is told by the simulated narrator, from its boxes."
    )
    assert counts(workspace) == (0, 0)
    assert "YOLO: 4 pictures" in listing.outcome_html(last)


@pytest.mark.parametrize("form", ["folder", "zip", "gztar"])
def test_boxes_come_in_from_a_folder_or_an_archive_and_can_be_replayed(form, workspace, tmp_path):
    layouts.cvat_coco(tmp_path / "pets")
    place = str(tmp_path / "pets")
    if form != "folder":
        place = shutil.make_archive(str(tmp_path / "my.export"), form, tmp_path / "pets")
    *_, last = exchange.import_narratives(workspace, "own", place, "")
    assert last.text == "3 narratives imported" and last.problems == []
    assert counts(workspace) == (3, 3)
    rows, _ = data.page(workspace, data.find(workspace, None), 0)
    item = data.replay(workspace, rows[0])
    assert item["image"].startswith("data:image/jpeg") and len(item["words"]) == rows[0].num_words
    *_, again = exchange.import_narratives(workspace, "own", place, "")
    assert counts(workspace) == (3, 3) and again.text == "0 narratives imported, 3 already there"
    name = "pets" if form == "folder" else "my"
    (narrative, *_) = [one for _, one in workspace.store.each_narrative(1)]
    assert narrative.dataset_id == f"{name}_train_simulated"


def test_an_import_of_boxes_is_stopped_while_they_are_told(workspace, tmp_path):
    layouts.cvat_coco(tmp_path / "pets")
    steps = exchange.import_narratives(workspace, "own", str(tmp_path / "pets"), "")
    preview = [next(steps), next(steps)][1]
    assert preview.text.startswith("COCO: 4 pictures") and counts(workspace) == (0, 0)
    steps.close()
    assert counts(workspace) == (0, 0)
    shares = []

    def progress(num_done: int, total: int) -> None:
        shares.append((num_done, total))
        if num_done == 2:
            raise InterruptedError("stopped")

    with pytest.raises(InterruptedError):
        bring(workspace.store, recognise(tmp_path / "pets"), "own", progress)
    assert shares == [(1, 8), (2, 8)] and counts(workspace) == (0, 0)


def test_captions_wait_for_their_trace_under_annotate(workspace, tmp_path):
    layouts.write_picture(tmp_path / "set/a.jpg")
    layouts.write(tmp_path / "set/metadata.jsonl", '{"file_name": "a.jpg", "text": "a red cat"}\n')
    *_, last = exchange.import_narratives(workspace, "own", str(tmp_path / "set"), "")
    assert last.text == "1 narrative imported"
    from ui.annotate.tab import untraced_caption

    (image,) = workspace.store.images(1)
    assert untraced_caption(workspace, 1, image) == "a red cat"


def test_what_cannot_be_read_is_refused_with_the_way_out_and_nothing_comes_in(workspace, tmp_path):
    layouts.roboflow_yolo(tmp_path / "both")
    layouts.label_studio_json(tmp_path / "both")
    layouts.write_picture(tmp_path / "bare/images/a.jpg")
    for place, message in (
        (str(tmp_path / "both"), r"two kinds of labels: YOLO \(data.yaml\) and Label Studio"),
        (str(tmp_path / "bare"), "holds nothing that is known"),
        (str(tmp_path / "gone"), "There is no file or folder"),
        ("  ", "There is no file or folder"),
    ):
        for steps in (
            exchange.look(place, ""),
            exchange.import_narratives(workspace, "own", place, ""),
        ):
            with pytest.raises(ValueError, match=message):
                list(steps)
    assert counts(workspace) == (0, 0)


def test_the_license_of_exported_weights_is_written_as_the_hub_names_it(workspace) -> None:
    model = str(workspace.runs_dir / "mine" / "best")
    for typed, words in (
        ("", ()),
        ("CC BY 4.0", ("--license", "cc-by-4.0")),
        (" openrail ", ("--license", "openrail")),
    ):
        _, command = exports.command(workspace, model, "timm", typed)
        assert command.words[11:] == words
    for typed in ("ask me first", "--push=me/mine"):
        with pytest.raises(ValueError, match="The hub knows no license"):
            exports.command(workspace, model, "timm", typed)
