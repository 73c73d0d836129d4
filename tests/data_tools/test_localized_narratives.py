"""The public files: checked line by line, imported once, exported as they came."""

import json
import re

import pytest

from data_tools.exchange import importing
from data_tools.exchange.checking import check
from data_tools.exchange.importing import ImportReport, import_file
from data_tools.freezing import exporting
from data_tools.localized_narratives import export_collection, main
from data_tools.store import Store, StoreError
from loctex.records.narrative import write_jsonl
from loctex.records.snapshot import Snapshot
from tests.data_tools.samples import narrative, picture


@pytest.fixture
def folder(tmp_path):
    """narratives.jsonl of images 1, 2, 3 (two of 3), regions.jsonl, images/."""
    folder = tmp_path / "public"
    (folder / "images").mkdir(parents=True)
    said = [narrative(i, annotator_id=8 + n) for n, i in enumerate(["1", "2", "3", "3"])]
    write_jsonl(folder / "narratives.jsonl", said)
    for i in (1, 2, 3):
        (folder / f"images/{i}.jpg").write_bytes(picture(i))
    line = {"dataset_id": "album", "image_id": "3", "start": 2, "end": 5, "box": [0, 0, 1, 1]}
    (folder / "regions.jsonl").write_text(json.dumps(line | {"annotator_id": 10}) + "\n")
    return folder


@pytest.fixture
def workspace(tmp_path):
    store = Store.of_workspace(tmp_path / "workspace", is_new=True)
    yield store
    store.close()


def taken(store, folder, **options):
    return import_file(store, folder / "narratives.jsonl", folder / "images", "mine", **options)


def test_an_import_adds_each_narrative_once_however_often_it_is_run(workspace, folder, monkeypatch):
    monkeypatch.setattr(importing, "TOGETHER", 1)
    steps = []
    report = taken(workspace, folder, progress=lambda done, total: steps.append((done, total)))
    assert report == ImportReport(num_imported=4) and steps == [(1, 3), (2, 3), (3, 3)]
    assert taken(workspace, folder) == ImportReport(num_known=4)
    (collection,) = workspace.collections()
    assert (collection.num_images, collection.num_narratives) == (3, 4)


def test_an_interrupted_import_is_completed_by_the_next(workspace, folder, monkeypatch):
    monkeypatch.setattr(importing, "TOGETHER", 1)

    def interrupt(done, total):
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        taken(workspace, folder, progress=interrupt)
    assert workspace.collections()[0].num_narratives == 2
    assert taken(workspace, folder) == ImportReport(num_imported=2, num_known=2)


def test_what_is_wrong_is_reported_and_the_rest_imported(workspace, folder):
    path = folder / "narratives.jsonl"
    bad = narrative("1").to_json() | {"traces": [[{"x": "0", "y": 0, "t": 0}]]}
    lines = [json.dumps(bad), "not json", json.dumps(narrative("../1").to_json())]
    lines += [json.dumps(narrative("4").to_json())]
    path.write_text(path.read_text() + "\n".join(lines))
    (folder / "images/2.jpg").write_text("no picture")
    report = taken(workspace, folder)
    assert (report.num_imported, report.num_known, report.num_missing_images) == (3, 0, 1)
    assert report.reasons == {
        "the line is no narrative": 2,
        "the image's name leads out of the folder": 1,
        f"no picture in {folder / 'images'}": 1,
        "the picture cannot be used": 1,
    }
    assert [problem.split(":")[0] for problem in report.problems] == [
        str(path),
        str(path),
        "image_id",
        "2.jpg",
    ]
    assert report.problems[0] == f"{path}:5: traces[0][0].x: must be a finite number, got '0'"
    assert report.problems[1].startswith(f"{path}:6: record: is not JSON")


def test_an_export_is_the_file_that_was_imported(workspace, folder, tmp_path, capsys):
    taken(workspace, folder)
    arguments = ["--collection", "mine", "--workspace", str(tmp_path / "workspace"), "--to"]
    assert main(["export", *arguments, str(tmp_path / "out")]) == 0
    lines = (folder / "narratives.jsonl").read_text().splitlines()
    strict = [json.dumps(json.loads(line) | {"voice_recording": ""}) for line in lines]
    assert (tmp_path / "out/narratives.jsonl").read_text().splitlines() == strict
    for name in ("regions.jsonl", *(f"images/{i}.jpg" for i in (1, 2, 3))):
        assert (tmp_path / "out" / name).read_bytes() == (folder / name).read_bytes()
    assert len(list((tmp_path / "out/images").iterdir())) == 3
    assert main(["export", *arguments, str(tmp_path / "out")]) == 1  # never overwritten
    arguments[3] = str(tmp_path / "wrok")
    assert main(["export", *arguments, str(tmp_path / "other")]) == 1
    assert capsys.readouterr().err.endswith(f"there is no workspace {tmp_path / 'wrok'}\n")
    assert not (tmp_path / "wrok").exists()
    again = Store.of_workspace(tmp_path / "again", is_new=True)
    assert taken(again, tmp_path / "out") == ImportReport(num_imported=4)
    again.close()


def test_coco_pictures_are_exported_by_the_names_coco_gives(workspace, tmp_path):
    collection = workspace.add_collection("mine")
    workspace.add_image(collection, picture(1), dataset_id="mscoco_val2017", image_id="42")
    workspace.add(collection, narrative("42", dataset_id="mscoco_val2017"))
    assert export_collection(workspace, collection, tmp_path / "out") == 1
    assert [path.name for path in (tmp_path / "out/images").iterdir()] == ["000000000042.jpg"]
    workspace.add_image(collection, picture(2), dataset_id="coco", image_id="42")
    with pytest.raises(StoreError, match="two images are named 000000000042.jpg"):
        export_collection(workspace, collection, tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_the_vidln_records_import_and_export_equal(workspace, shared_data, tmp_path):
    vidln = shared_data / "vidln"
    path = vidln / "vidln_as_ln.jsonl"
    report = import_file(workspace, path, vidln / "images", "vidln")
    assert report == ImportReport(num_imported=46)
    (collection,) = workspace.collections()
    assert (collection.num_images, collection.num_narratives) == (32, 46)
    assert export_collection(workspace, collection.id, tmp_path / "out") == 46

    again = Store.of_workspace(tmp_path / "again", is_new=True)
    import_file(again, tmp_path / "out/narratives.jsonl", vidln / "images", "vidln")
    back = [one.to_json() for _, one in again.each_narrative(again.collection("vidln"))]
    again.close()

    def texts(records):
        return sorted(json.dumps(record, sort_keys=True) for record in records)

    came = [json.loads(line) for line in path.read_text().splitlines()]
    assert all("vidln" in record for record in came)  # a key that Google's loader does not know
    assert texts(back) == texts(came)


def test_many_narratives_are_exported_in_shards_that_import_again(
    workspace, folder, tmp_path, monkeypatch
):
    taken(workspace, folder)
    collection = workspace.collection("mine")
    again = Store.of_workspace(tmp_path / "again", is_new=True)
    for size, names in ((3, ["0-of-00002", "1-of-00002"]), (2, ["0-of-00002", "1-of-00002"])):
        monkeypatch.setattr(exporting, "SHARD", size)
        out = tmp_path / f"out{size}"
        assert export_collection(workspace, collection, out) == 4
        shards = sorted(out.glob("narratives*"))
        assert [p.name for p in shards] == [f"narratives-0000{name}.jsonl" for name in names]
        lines = b"".join(path.read_bytes() for path in shards)
        assert lines.count(b"\n") == 4
        for path in shards:
            import_file(again, path, out / "images", f"mine {size}")
    assert [c.num_narratives for c in again.collections()] == [4, 4]
    again.close()


def test_an_export_as_parquet_is_a_data_set_and_a_snapshot_and_its_card_says_the_terms(
    workspace, folder, tmp_path, monkeypatch
):
    monkeypatch.setenv("HF_DATASETS_OFFLINE", "1")
    from datasets import load_dataset

    taken(workspace, folder)
    workspace.set_license(workspace.collection("mine"), "mine alone")
    out = tmp_path / "out"
    export_collection(workspace, workspace.collection("mine"), out, has_parquet=True)
    card = (out / "README.md").read_text()
    assert "| album | 4 | 8 | 12 | 4 | mine alone |" in card
    snapshot = Snapshot.open(out)
    assert snapshot.manifest["sources"]["album"]["license"] == "mine alone"
    assert len(snapshot.split("train")) == 3
    found = load_dataset(str(out), cache_dir=str(tmp_path / "cache"))
    assert {name: rows.num_rows for name, rows in found.items()} == {"train": 3}


# --- the commands


def test_check_names_each_bad_line_and_exits_1(folder, capsys):
    path = folder / "narratives.jsonl"
    assert main(["check", str(path), "--images", str(folder / "images")]) == 0
    out, err = capsys.readouterr()
    assert out == "" and re.fullmatch(r"4 of 4 narratives are right \([\d,]+ a second\)\n", err)
    (folder / "images/1.jpg").unlink()
    (folder / "images/3.jpg").write_bytes(picture(3, (300, 200))[:600])
    path.write_text(path.read_text() + '{"dataset_id": 5}\n')
    assert main(["check", str(path), "--images", str(folder / "images")]) == 1
    lines = capsys.readouterr().out.splitlines()
    starts = ("1: image_id: no picture", "3: 3.jpg: is a damaged", "4: 3.jpg", "5: image_id: is")
    assert len(lines) == 4
    for line, start in zip(lines, starts, strict=True):
        assert line.startswith(f"{path}:{start}")
    assert len(list(check(path))) == 1


def test_check_accepts_every_real_record(shared_data):
    vidln = shared_data / "vidln"
    assert list(check(vidln / "vidln_as_ln.jsonl", vidln / "images")) == []
    assert list(check(shared_data / "ln_sample/coco_val_212166_49.jsonl")) == []


def test_import_says_what_it_did_in_a_line_or_two(folder, tmp_path, capsys):
    arguments = ["import", str(folder / "narratives.jsonl"), "--images", str(folder / "images")]
    arguments += ["--collection", "mine", "--workspace", str(tmp_path / "workspace")]
    assert main(arguments) == 0
    printed = capsys.readouterr().out
    assert re.fullmatch(r"4 narratives imported into 'mine' \([\d,]+ a second\)\n", printed)
    assert main(arguments) == 0
    printed = capsys.readouterr().out
    assert printed == "0 narratives imported into 'mine'\n4 were there already\n"
    assert main([*arguments[:1], str(folder / "none.jsonl"), *arguments[2:]]) == 1
    assert capsys.readouterr().err.endswith("none.jsonl does not exist\n")
