"""Freezing: nothing is lost on the way, the same input has the same hash, splits are exact."""

import json
import os
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_tools.exchange import regions as region_lines
from data_tools.exchange.importing import import_file
from data_tools.exchange.sources import CollectionSource, Files
from data_tools.freezing import splits
from data_tools.freezing.freeze import freeze
from data_tools.pictures import find_picture, shrink
from data_tools.snapshot import main
from data_tools.store import Store
from loctex.records import annotations
from loctex.records.images import decode_image
from loctex.records.narrative import read_jsonl, write_jsonl
from loctex.records.snapshot import Snapshot
from tests.data_tools.samples import album, items, narrative, picture


def test_what_is_frozen_is_what_was_said(tmp_path):
    manifest = freeze(tmp_path / "s", [album(tmp_path / "a", 20)])
    one = {"images": 1, "narratives": 1, "with_trace": 1, "words": 2}
    assert manifest["splits"] == {
        split: {key: count * times for key, count in one.items()}
        for split, times in (("train", 16), ("val", 2), ("test", 2))
    }
    assert manifest == json.loads((tmp_path / "s/snapshot.json").read_text())
    assert manifest["sources"]["album"]["images"] == 20 and manifest["left_out"]["count"] == 0
    found = [item for split in items(tmp_path / "s").values() for item in split]
    assert sorted(int(item.image_id) for item in found) == list(range(20))
    for item in found:
        assert (item.width, item.height) == (96, 64)
        assert decode_image(item.image).mean() == pytest.approx(int(item.image_id), abs=1)
        (again,), said = item.narratives, narrative(item.image_id)
        assert (again.caption, again.words, again.annotator_id) == ("a dog", said.words, 7)
        for stroke, expected in zip(again.strokes, said.strokes, strict=True):
            np.testing.assert_allclose(stroke, expected, rtol=0, atol=1e-7)
        ((region,),) = item.regions
        assert (region.start, region.end, region.rle) == (2, 5, None)
        assert region.box.tolist() == [0.25, 0, 0.5, 1]


def test_the_hash_is_of_the_content_and_nothing_else(tmp_path):
    first = freeze(tmp_path / "1", [album(tmp_path / "a", 12)])
    lines = (tmp_path / "a/narratives.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "a/narratives.jsonl").write_text("".join(reversed(lines)))
    files = Files(*(tmp_path / "a" / n for n in ("narratives.jsonl", "images", "regions.jsonl")))
    again = freeze(tmp_path / "2", [files])
    assert again["hash"] == first["hash"] and len(first["hash"]) == 64
    parquet = [sorted((tmp_path / n / "data").iterdir()) for n in "12"]
    assert [p.read_bytes() for p in parquet[0]] == [p.read_bytes() for p in parquet[1]]
    others = [
        freeze(tmp_path / "3", [album(tmp_path / "b", 12, caption="a cat")]),
        freeze(tmp_path / "4", [Files(tmp_path / "a/narratives.jsonl", tmp_path / "a/images")]),
        freeze(tmp_path / "5", [album(tmp_path / "c", 11)]),
    ]
    assert len({first["hash"], *(other["hash"] for other in others)}) == 4


def test_a_collection_freezes_to_the_same_hash_as_its_file(tmp_path):
    first = freeze(tmp_path / "1", [album(tmp_path / "a", 10)])
    store = Store.of_workspace(tmp_path / "w", is_new=True)
    import_file(store, tmp_path / "a/narratives.jsonl", tmp_path / "a/images", "mine")
    store.add_image(store.collection("mine"), picture(99), dataset_id="studio")  # not narrated
    assert freeze(tmp_path / "2", [CollectionSource(store, "mine")])["hash"] == first["hash"]
    store.close()
    arguments = ["--workspace", str(tmp_path / "w"), "--collection", "mine", "--to"]
    assert main([*arguments, str(tmp_path / "3")]) == 0
    assert Snapshot.open(tmp_path / "3").hash == first["hash"]


def test_sources_are_joined_image_by_image(tmp_path):
    files = [album(tmp_path / "a", 4), album(tmp_path / "b", 6, caption="a cat", annotator_id=8)]
    manifest = freeze(tmp_path / "s", files)
    assert manifest["sources"]["album"] == {
        "images": 6,
        "narratives": 10,
        "with_trace": 10,
        "words": 20,
        "annotators": {"7": 4, "8": 6},
        "license": None,
    }
    (item,) = [i for split in items(tmp_path / "s").values() for i in split if i.image_id == "3"]
    assert [n.caption for n in item.narratives] == ["a dog", "a cat"] and len(item.regions) == 2


def test_every_vidln_record_freezes_and_opens(tmp_path, shared_data):
    folder = shared_data / "vidln"
    files = Files(folder / "vidln_as_ln.jsonl", folder / "images")
    manifest = freeze(tmp_path / "s", [files])
    assert manifest["splits"] == {
        "train": {"images": 32, "narratives": 46, "with_trace": 46, "words": 482}
    }
    found = {
        (n.caption, n.num_points): n
        for item in items(tmp_path / "s")["train"]
        for n in item.narratives
    }
    for said in read_jsonl(folder / "vidln_as_ln.jsonl"):
        again = found[said.caption, said.num_points]
        assert (again.words, again.image_id) == (said.words, said.image_id)
        for stroke, expected in zip(again.strokes, said.strokes, strict=True):
            np.testing.assert_allclose(stroke, expected, rtol=0, atol=1e-6)


def test_a_freeze_that_fails_leaves_nothing(tmp_path):
    files = album(tmp_path / "a", 10)

    def fail(done: int, total: int) -> None:
        if done == 15:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        freeze(tmp_path / "s", [files], fail)
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    steps = []
    freeze(tmp_path / "s", [files], lambda done, total: steps.append((done, total)))
    assert steps == [(i + 1, 20) for i in range(20)]
    with pytest.raises(ValueError, match="exists already and is never overwritten"):
        freeze(tmp_path / "s", [files])


def test_what_cannot_be_used_is_left_out_and_counted(tmp_path):
    files = album(tmp_path / "a", 6)
    (tmp_path / "a/images/1.jpg").unlink()
    (tmp_path / "a/images/2.jpg").write_text("no picture")
    os.symlink("/etc/hostname", tmp_path / "a/images/9.jpg")
    said = [*read_jsonl(tmp_path / "a/narratives.jsonl"), narrative("../0"), narrative("9")]
    write_jsonl(tmp_path / "a/narratives.jsonl", said)
    manifest = freeze(tmp_path / "s", [files])
    assert manifest["left_out"]["count"] == 4 and manifest["sources"]["album"]["images"] == 4
    reasons = "\n".join(manifest["left_out"]["first"])
    for reason in ("'1' of album: no picture", "2.jpg: is not an image", "'../0'", "link out of"):
        assert reason in reasons


def test_a_wrong_line_or_region_stops_the_freeze_by_file_and_line(tmp_path, capsys):
    album(tmp_path / "a", 3)
    path = tmp_path / "a/narratives.jsonl"
    good = path.read_text()
    path.write_text(good + '{"dataset_id": "album"}\n')
    arguments = ["--narratives", str(path), "--images", str(tmp_path / "a/images"), "--to"]
    assert main([*arguments, str(tmp_path / "s")]) == 1
    assert f"{path}:4: image_id: is missing\n" in capsys.readouterr().err
    path.write_text(good)
    regions = tmp_path / "a/regions.jsonl"
    line = {"dataset_id": "album", "image_id": "1", "start": 2, "end": 9, "box": [0, 0, 1, 1]}
    for change, message in [
        ({"end": 1}, f"{regions}:1: end: must lie after start"),
        ({"box": [0, 0, 1]}, f"{regions}:1: box: must be four fractions"),
        ({"box": None}, f"{regions}:1: box: is missing, and so is rle"),
        ({"rle": {"size": [2], "counts": ""}}, f"{regions}:1: rle: must hold size"),
        ({}, "region of image '1': end 9 lies beyond its caption"),
    ]:
        regions.write_text(json.dumps(line | change))
        assert main([*arguments, str(tmp_path / "s"), "--regions", str(regions)]) == 1
        assert message in capsys.readouterr().err
    assert not (tmp_path / "s").exists()


def test_a_region_goes_to_the_narrative_it_names():
    said = [narrative(annotator_id=7), narrative(annotator_id=8, caption="a cat")]
    line = {"dataset_id": "album", "image_id": "1", "start": 2, "end": 5, "box": [0, 0, 1, 1]}
    by_annotator, by_caption = line | {"annotator_id": 8}, line | {"caption": "a dog"}
    nobody = line | {"annotator_id": 9}
    both = region_lines.assign([by_annotator, by_caption, nobody], said)
    assert both == [[by_caption], [by_annotator]]
    with pytest.raises(ValueError, match="fits 2 narratives: add annotator_id or caption"):
        region_lines.assign([line], said)


# --- splits


@pytest.mark.parametrize(
    "dataset_id, split",
    [
        ("mscoco_val2017", "val"),
        ("mscoco_train2017", "train"),
        ("Flickr30k_test", "test"),
        ("open_images_train_v6", "train"),
        ("ADE20k_validation", "val"),
        ("vidln_oops_train", "train"),
        ("scenes", None),
        ("medieval_portraits", None),
        ("latest", None),
        ("coco_train_val", None),
    ],
)
def test_a_dataset_may_name_its_split(dataset_id, split):
    assert annotations.official(dataset_id) == split


@settings(deadline=None)
@given(st.sets(st.text(), max_size=400), st.integers(0, 30))
def test_the_hash_split_is_exact_to_one_image(ids, num_official):
    keys = [("mine", i) for i in ids] + [("x_val", str(i)) for i in range(num_official)]
    assigned = splits.assign(keys)
    count = Counter(assigned[key] for key in keys if key[0] == "mine")
    for split in ("val", "test"):
        assert abs(count[split] - len(ids) / 10) <= 1 and (count[split] > 0 or len(ids) < 5)
    assert sum(count.values()) == len(ids) and (count["train"] > 0 or not ids)
    assert all(assigned[key] == "val" for key in keys if key[0] == "x_val")
    assert splits.assign(reversed(keys)) == assigned
    more = [*keys, *(("mine", f"new {i}") for i in range(num_official))]
    grown = splits.assign(more, assigned)
    count = Counter(grown[key] for key in more if key[0] == "mine")
    assert grown.items() >= assigned.items() and sum(count.values()) == len(more) - num_official
    if len(ids) >= 5:
        assert all(abs(count[s] - sum(count.values()) / 10) <= 1 for s in ("val", "test"))


# --- pictures


def test_pictures_are_found_by_the_names_the_datasets_use(tmp_path):
    names = ("000000000042.jpg", "42.png", "a.b.JPG", "whole.webp", "42")
    for name in names:
        (tmp_path / name).write_bytes(b"")
    found = {
        key: find_picture(tmp_path, *key)
        for key in [
            ("mscoco_val2017", "42"),
            ("album", "42"),
            ("album", "a.b"),
            ("album", "whole.webp"),
            ("album", "43"),
            ("mscoco_val2017", "x"),
            ("album", "x" * 200),
            ("album", "²"),
        ]
    }
    assert [path and path.name for path in found.values()] == [*names[:4], None, None, None, None]


@pytest.mark.parametrize(
    "image_id", ["../42", "/etc/passwd", "a/../b", ".", "..", "..\\42", "", "x" * 300]
)
def test_an_id_that_leads_elsewhere_is_refused(tmp_path, image_id):
    (tmp_path / "42.jpg").write_bytes(b"")
    (tmp_path / "inside").mkdir()
    with pytest.raises(ValueError, match="image_id: "):
        find_picture(tmp_path / "inside", "album", image_id)


def test_a_link_out_of_the_folder_is_refused_and_one_within_is_not(tmp_path):
    inside = tmp_path / "inside"
    inside.mkdir()
    (tmp_path / "secret.jpg").write_bytes(b"")
    (inside / "2.jpg").write_bytes(b"")
    (inside / "1.jpg").symlink_to(tmp_path / "secret.jpg")
    (inside / "3.jpg").symlink_to(inside / "2.jpg")
    with pytest.raises(ValueError, match="image_id: '1' is a link out of"):
        find_picture(inside, "album", "1")
    assert find_picture(inside, "album", "3").name == "3.jpg"


@pytest.mark.parametrize(
    "size, expected",
    [((600, 900), (288, 432)), ((4000, 300), (3840, 288)), ((100, 50), (100, 50))],
)
def test_a_picture_is_shrunk_to_288_on_its_short_side_and_never_enlarged(size, expected):
    image = np.zeros((size[1], size[0], 3), np.uint8)
    image[:, : size[0] // 2] = (0, 0, 255)  # BGR: the left half is red
    jpeg = shrink(image[..., ::-1], 288, 90)
    small = decode_image(jpeg)
    assert small.shape == (expected[1], expected[0], 3)
    assert np.abs(small[:, : expected[0] // 2 - 8] - [254.0, 0, 0]).max() <= 3
    assert jpeg[:2] == b"\xff\xd8"
