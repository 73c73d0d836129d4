"""Shards: of the size asked for, written by several, linked where nothing has changed."""

import json
from pathlib import Path

import pytest

from data_tools.exchange.sources import Files
from data_tools.freezing.freeze import freeze
from loctex.records.images import decode_image
from loctex.records.narrative import read_jsonl, write_jsonl
from loctex.records.snapshot import Snapshot
from tests.data_tools.samples import album, items, narrative, picture


def told_of(path: Path) -> dict[str, set]:
    """The captions of each image, and its split."""
    return {
        item.image_id: {name, *(n.caption for n in item.narratives)}
        for name, found in items(path).items()
        for item in found
    }


def files_of(path: Path) -> dict[int, str]:
    """The shards by their place on the disk."""
    return {file.stat().st_ino: file.name for file in (path / "data").iterdir()}


def test_shards_have_the_size_that_was_asked_for_and_hold_what_one_holds(tmp_path):
    files = album(tmp_path / "a", 200)
    one = freeze(tmp_path / "1", [files])
    many = freeze(tmp_path / "2", [files], shard_bytes=20_000)
    again = freeze(tmp_path / "3", [files], shard_bytes=20_000, workers=1)
    assert one["hash"] == many["hash"] and len(one["shards"]["train"]) == 1
    sizes = [shard["rows"] for shard in many["shards"]["train"]]
    assert len(sizes) > 3 and sum(sizes) == 160 and max(sizes) - min(sizes[:-1]) < 5
    assert many["shards"] == again["shards"] and told_of(tmp_path / "1") == told_of(tmp_path / "2")


def test_processes_write_what_threads_write(tmp_path, monkeypatch):
    files = album(tmp_path / "a", 150)
    alone = freeze(tmp_path / "1", [files], workers=1)
    monkeypatch.setattr("data_tools.freezing.freeze.FEW", 0)
    assert freeze(tmp_path / "2", [files], workers=2)["shards"] == alone["shards"]


def test_what_has_not_changed_is_linked_not_written_again(tmp_path):
    folder = tmp_path / "a"
    album(folder, 300)
    files = Files(folder / "narratives.jsonl", folder / "images", folder / "regions.jsonl")
    first = freeze(tmp_path / "1", [files], shard_bytes=20_000)
    assert Snapshot.open(tmp_path / "1").split("train")
    said = [narrative(str(i)) for i in range(300, 310)]
    for one in said:
        (folder / f"images/{one.image_id}.jpg").write_bytes(picture(int(one.image_id) % 256))
    with open(folder / "narratives.jsonl", "a") as file:
        file.writelines(json.dumps(one.to_json()) + "\n" for one in said)
    grown = freeze(tmp_path / "2", [files], shard_bytes=20_000, previous=tmp_path / "1")
    assert grown["splits"]["val"]["images"] == grown["splits"]["test"]["images"] == 31
    before, after = files_of(tmp_path / "1"), files_of(tmp_path / "2")
    assert set(before) < set(after) and len(after) - len(before) == 3  # one new of each split
    assert grown["previous"] == {"name": "1", "reused": len(before)}
    caches = [{p.stat().st_ino for p in (tmp_path / n / ".cache").glob("*.arrow")} for n in "12"]
    assert caches[0] == caches[1]
    old, new = told_of(tmp_path / "1"), told_of(tmp_path / "2")
    assert old.items() <= new.items() and len(new) == 310  # and each stayed in its split
    same = freeze(tmp_path / "3", [files], shard_bytes=20_000, previous=tmp_path / "2")
    assert same["hash"] == grown["hash"] != first["hash"]
    assert files_of(tmp_path / "3").keys() == after.keys()


def test_what_has_changed_is_made_again_and_what_is_gone_is_gone(tmp_path):
    folder = tmp_path / "a"
    files = album(folder, 40)
    freeze(tmp_path / "1", [files])
    said = [one for one in read_jsonl(folder / "narratives.jsonl") if one.image_id != "3"]
    said[5] = narrative(said[5].image_id, caption="a cat")
    write_jsonl(folder / "narratives.jsonl", said)
    (folder / "images/20.jpg").write_bytes(picture(200, (96, 64)))
    freeze(tmp_path / "2", [files], previous=tmp_path / "1")
    new = told_of(tmp_path / "2")
    assert "3" not in new and len(new) == 39 and "a cat" in new[said[5].image_id]
    colors = {
        i.image_id: decode_image(i.image).mean() for s in items(tmp_path / "2").values() for i in s
    }
    assert colors["20"] == pytest.approx(200, abs=1) and colors["21"] == pytest.approx(21, abs=1)
    (tmp_path / "1/rows.parquet").unlink()
    with pytest.raises(ValueError, match="1 cannot be gone on from .*: freeze without --previous"):
        freeze(tmp_path / "3", [files], previous=tmp_path / "1")


def test_other_tools_open_it_as_a_data_set(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_DATASETS_OFFLINE", "1")
    from datasets import load_dataset

    freeze(tmp_path / "s", [album(tmp_path / "a", 60)], shard_bytes=10_000)
    found = load_dataset(str(tmp_path / "s"), cache_dir=str(tmp_path / "cache"))
    assert {name: len(rows) for name, rows in found.items()} == {"train": 48, "val": 6, "test": 6}
    assert found["train"][0]["narratives"][0]["caption"] == "a dog"
