"""What people bring is recognised and counted before anything is written, and comes in whole."""

import io
import json
import shutil
import tarfile
import zipfile
from pathlib import Path

import pytest

from data_tools import archives, arriving
from data_tools.arriving import bring, main, opened, recognise
from data_tools.exchange.importing import import_file
from data_tools.freezing.exporting import export_collection
from data_tools.store import Store
from loctex.records.narrative import Narrative
from tests.loctex import test_layouts as layouts


@pytest.fixture
def store(tmp_path):
    store = Store.of_workspace(tmp_path / "workspace", is_new=True)
    yield store
    store.close()


def stored(store: Store, name: str) -> list[Narrative]:
    return [one for _, one in store.each_narrative(store.collection(name))]


def texts(narratives: list[Narrative]) -> list[str]:
    return sorted(json.dumps(one.to_json(), sort_keys=True) for one in narratives)


def test_an_export_of_the_studio_comes_back_from_its_folder_or_its_archive(
    store, tmp_path, shared_data
):
    vidln = shared_data / "vidln"
    import_file(store, vidln / "vidln_as_ln.jsonl", vidln / "images", "first")
    export_collection(store, store.collection("first"), tmp_path / "out", has_parquet=True)
    arrival = recognise(tmp_path / "out")
    assert arrival.sentence == (
        "Localized Narratives: 46 narratives of 32 images, of which 32 have a picture in images"
    )
    assert bring(store, arrival, "second").num_imported == 46
    shutil.make_archive(str(tmp_path / "export"), "zip", tmp_path, "out")
    with opened(tmp_path / "export.zip") as place:
        assert bring(store, recognise(place), "third").num_imported == 46
    assert not place.exists()
    assert texts(stored(store, "first")) == texts(stored(store, "second"))
    assert texts(stored(store, "first")) == texts(stored(store, "third"))


def test_the_parquet_alone_comes_in_with_its_regions(store, tmp_path):
    folder = tmp_path / "labels"
    layouts.roboflow_coco(folder)
    bring(store, recognise(folder), "pets")
    collection = store.collection("pets")
    export_collection(store, collection, tmp_path / "out", has_parquet=True)
    (tmp_path / "out" / "narratives.jsonl").unlink()
    arrival = recognise(tmp_path / "out")
    assert arrival.sentence == "parquet of LocTex Studio: 3 narratives of 3 images"
    assert bring(store, arrival, "again").num_imported == 3
    captions = [sorted(one.caption for one in stored(store, name)) for name in ("pets", "again")]
    assert captions[0] == captions[1]
    counts = [len(list(store.each_region(store.collection(n)))) for n in ("pets", "again")]
    assert counts[0] == counts[1] > 3


def test_video_localized_narratives_come_in_as_their_files_are(store, shared_data):
    """The same 46 pieces as another program made of the same file, times and traces included."""
    vidln = shared_data / "vidln"
    arrival = recognise(vidln / "vidln_sample_combined.jsonl", vidln / "images")
    assert arrival.sentence == (
        "Video Localized Narratives: 46 pieces of narratives on 32 key frames; 0 of frames that "
        "are not in images"
    )
    assert bring(store, arrival, "video").num_imported == 46
    import_file(store, vidln / "vidln_as_ln.jsonl", vidln / "images", "public")
    keys = ("image_id", "caption", "timed_caption", "traces", "dataset_id", "annotator_id")

    def public(name: str) -> list[str]:
        records = [one.to_json() for one in stored(store, name)]
        return sorted(json.dumps({key: record[key] for key in keys}) for record in records)

    assert public("video") == public("public")


@pytest.mark.parametrize("name", ["Roboflow YOLO", "CVAT COCO", "Label Studio JSON", "Open Images"])
def test_boxes_of_other_tools_are_told_by_the_simulated_narrator(name, store, tmp_path):
    layouts.LAYOUTS[name][1](tmp_path / "pets")
    arrival = recognise(tmp_path / "pets")
    assert arrival.becomes == arriving.NARRATED and "6 boxes" in arrival.sentence
    assert len(arrival.examples) == 3 and "cat, traffic light" in arrival.examples[0]
    assert store.collections() == []  # nothing was written so far
    report = bring(store, arrival, "pets")
    assert (report.num_imported, report.problems) == (3, [])
    told = stored(store, "pets")
    assert all(one.strokes and "simulated" in one.dataset_id for one in told)
    assert len(list(store.each_region(store.collection("pets")))) >= 3
    assert bring(store, arrival, "pets").num_known == 3


def test_captions_come_without_a_trace_for_annotate_to_trace(store, tmp_path):
    for k in range(2):
        layouts.write_picture(tmp_path / f"set/images/{k}.jpg")
    lines = "image,caption\n0.jpg,a cat\n0.jpg,a  dog\n1.jpg,a cat\n2.jpg,nobody\n"
    layouts.write(tmp_path / "set/captions.txt", lines)
    arrival = recognise(tmp_path / "set")
    assert arrival.becomes == arriving.TRACED
    assert arrival.sentence.endswith("3 captions; 1 named pictures are not there")
    assert bring(store, arrival, "captions").num_imported == 3
    narratives = stored(store, "captions")
    assert sorted(one.caption for one in narratives) == ["a cat", "a cat", "a dog"]
    assert not any(one.strokes or one.words for one in narratives)


def test_what_makes_no_narratives_is_refused_by_name_with_the_way_out(tmp_path):
    layouts.write_picture(tmp_path / "rob/train/a.jpg")
    layouts.write(tmp_path / "rob/train/_classes.csv", "filename, cat\na.jpg, 1\n")
    with pytest.raises(ValueError, match="Classes of whole pictures make no narratives: name them"):
        recognise(tmp_path / "rob")
    layouts.write_picture(tmp_path / "bare/a.jpg")
    with pytest.raises(ValueError, match="holds nothing that is known.*taken by Add images"):
        recognise(tmp_path / "bare")
    layouts.roboflow_yolo(tmp_path / "both")
    layouts.roboflow_coco(tmp_path / "both")
    with pytest.raises(ValueError, match=r"two kinds of labels: YOLO \(data.yaml\) and COCO"):
        recognise(tmp_path / "both")


def test_an_archive_bomb_is_refused_before_it_is_unpacked(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "SOME_BYTES", 1 << 20)
    zeros = bytes(8 << 20)
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("labels.csv", zeros)
    with tarfile.open(tmp_path / "bomb.tar.gz", "w:gz") as archive:
        member = tarfile.TarInfo("labels.csv")
        member.size = len(zeros)
        archive.addfile(member, io.BytesIO(zeros))
    monkeypatch.setattr(archives, "unpack", lambda *_, **__: pytest.fail("it was unpacked"))
    for name in ("bomb.zip", "bomb.tar.gz"):
        with pytest.raises(ValueError, match=f"{name} unpacks to more than 0.0 GB in 1 files"):
            with opened(tmp_path / name):
                pass
    (tmp_path / "no.zip").write_bytes(b"PK\x03\x04 and no more")
    with pytest.raises(ValueError, match="no.zip is no archive that can be read"):
        with opened(tmp_path / "no.zip"):
            pass


def test_an_archive_of_many_files_or_more_than_the_disk_is_refused(tmp_path, monkeypatch):
    shutil.make_archive(str(tmp_path / "some"), "zip", Path(__file__).parent)
    monkeypatch.setattr(archives, "MOST_MEMBERS", 3)
    with pytest.raises(ValueError, match="in 4 files"):
        with opened(tmp_path / "some.zip"):
            pass
    monkeypatch.setattr(archives, "MOST_MEMBERS", 10_000)
    monkeypatch.setattr(archives, "RESERVE", 1 << 60)
    with pytest.raises(ValueError, match="more than the 0.0 GB that are free"):
        with opened(tmp_path / "some.zip"):
            pass


def test_the_command_says_what_it_is_and_writes_only_with_a_collection(tmp_path, capsys):
    layouts.label_studio_csv(tmp_path / "pets")
    workspace = tmp_path / "new"
    place = [str(tmp_path / "pets"), "--workspace", str(workspace)]
    assert main(place) == 0 and not workspace.exists()
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "Label Studio: 3 pictures; 6 boxes; 2 classes: cat 3, traffic light 3"
    assert lines[-1] == f"  an import: {arriving.NARRATED}"
    assert main([*place, "--collection", "pets"]) == 0
    assert capsys.readouterr().out.endswith("3 narratives imported, 0 were there already\n")
    assert main([str(tmp_path / "nowhere")]) == 1
