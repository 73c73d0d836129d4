"""Snapshots and exports open in `datasets` as pictures and voices, with terms; old ones too."""

import hashlib
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import soundfile
import yaml
from PIL import Image

from data_tools.exchange.sources import CollectionSource
from data_tools.freezing.exporting import export_collection
from data_tools.freezing.freeze import freeze
from data_tools.speech.voices import RATE, Voices
from data_tools.store import Store
from loctex.records import terms
from loctex.records.items import PICTURE, ROW, Item
from loctex.records.narrative import Narrative
from loctex.records.snapshot import Snapshot, open_streamed
from tests.data_tools.samples import album, narrative, picture

TAKE = "0123456789abcdef" * 2


@pytest.fixture
def load_dataset(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_DATASETS_OFFLINE", "1")
    from datasets import load_dataset

    cache = str(tmp_path / "cache")
    return lambda *place, **options: load_dataset(*map(str, place), cache_dir=cache, **options)


def head_of(folder: Path) -> dict[str, Any]:
    return yaml.safe_load((folder / "README.md").read_text().split("---\n")[1])


def colors(items: list[Item]) -> list[tuple[str, bytes]]:
    return [(item.image_id, item.image) for item in items]


def as_before(snapshot: Path) -> None:
    """The same snapshot as earlier versions froze it: the bytes of pictures alone, and no card."""
    content = json.loads((snapshot / "snapshot.json").read_text())
    for shards in content["shards"].values():
        for shard in shards:
            file = snapshot / "data" / shard["file"]
            table = pq.read_table(file)
            place = table.schema.get_field_index("image")
            images = table.column(place).combine_chunks().field("bytes")
            file.unlink()  # it may be a link
            pq.write_table(table.set_column(place, "image", images).cast(ROW), file)
            shard["bytes"] = file.stat().st_size
            shard["sha256"] = hashlib.sha256(file.read_bytes()).hexdigest()
    (snapshot / "snapshot.json").write_text(json.dumps(content))
    (snapshot / "README.md").unlink()


def test_a_snapshot_opens_as_pictures_in_datasets_by_its_folder_and_by_its_files(
    tmp_path, load_dataset
):
    frozen = freeze(tmp_path / "s", [album(tmp_path / "a", 20)])
    of_folder = load_dataset(tmp_path / "s")
    assert {split: rows.num_rows for split, rows in of_folder.items()} == {
        split: counts["images"] for split, counts in frozen["splits"].items()
    }
    ours = Snapshot.open(tmp_path / "s").split("train")
    files = sorted(map(str, (tmp_path / "s/data").glob("train-*.parquet")))
    for rows in (of_folder["train"], load_dataset("parquet", data_files=files)["train"]):
        assert type(rows.features["image"]).__name__ == "Image"
        for row, item in zip(rows, ours, strict=True):
            assert isinstance(row["image"], Image.Image) and row["image"].size == (96, 64)
            shade = np.asarray(row["image"]).mean()
            assert shade == pytest.approx(int(row["image_id"]), abs=1)
            assert row["image_id"] == item.image_id
            assert row["narratives"][0]["caption"] == "a dog"


def test_the_card_of_a_snapshot_names_its_splits_and_terms(tmp_path):
    store = Store.of_workspace(tmp_path / "workspace", is_new=True)
    collection = store.add_collection("mine")
    for k in range(3):
        store.add_image(collection, picture(k), dataset_id="album", image_id=str(k))
        store.add(collection, narrative(str(k)))
    store.set_license(collection, "CC BY 4.0")
    frozen = freeze(tmp_path / "s", [CollectionSource(store, "mine")])
    store.close()
    head = head_of(tmp_path / "s")
    assert head["license"] == "cc-by-4.0" and head["pretty_name"] == "s"
    assert head["configs"][0]["data_files"] == [
        {"split": split, "path": f"data/{split}-*.parquet"} for split in frozen["splits"]
    ]
    assert "| album | 3 | 3 | 6 | 1 | CC BY 4.0 |" in (tmp_path / "s/README.md").read_text()


def test_a_snapshot_of_an_earlier_version_opens_with_the_same_hash_and_items(tmp_path):
    frozen = freeze(tmp_path / "new", [album(tmp_path / "a", 20)])
    again = freeze(tmp_path / "old", [album(tmp_path / "b", 20)])
    as_before(tmp_path / "old")
    assert frozen["hash"] == again["hash"] == Snapshot.open(tmp_path / "old").hash
    for split in frozen["splits"]:
        kinds = {
            pq.read_schema(file).field("image").type == PICTURE
            for file in (tmp_path / "old/data").glob(f"{split}-*")
        }
        assert kinds == {False}
        mapped = [Snapshot.open(tmp_path / name).split(split)[:] for name in ("new", "old")]
        assert colors(mapped[0]) == colors(mapped[1])
        streamed = open_streamed(f"file://{tmp_path / 'old'}").split(split)[:]
        assert colors(streamed) == colors(mapped[0])
        streamed = open_streamed(f"file://{tmp_path / 'new'}").split(split)[:]
        assert colors(streamed) == colors(mapped[0])


def test_going_on_from_an_earlier_version_writes_shards_that_show_pictures(tmp_path, load_dataset):
    first = freeze(tmp_path / "one", [album(tmp_path / "a", 20)])
    as_before(tmp_path / "one")
    source = [album(tmp_path / "a2", 20)]
    second = freeze(tmp_path / "two", source, previous=tmp_path / "one")
    assert second["hash"] == first["hash"] and second["previous"]["reused"] == 0
    third = freeze(tmp_path / "three", source, previous=tmp_path / "two")
    assert third["previous"]["reused"] == len(first["splits"])
    rows = load_dataset(tmp_path / "three", split="train")
    assert isinstance(rows[0]["image"], Image.Image)


def test_an_export_s_parquet_has_its_voices_as_sound(tmp_path, load_dataset):
    store = Store.of_workspace(tmp_path / "workspace", is_new=True)
    voices = Voices(tmp_path / "workspace" / "voices")
    sound = (8000 * np.sin(np.arange(RATE) / 9)).astype("<i2")
    voices.append(TAKE, 0, sound.tobytes())
    collection = store.add_collection("voiced")
    store.set_license(collection, "ours alone")
    for k in range(2):
        store.add_image(collection, picture(k), dataset_id="album", image_id=str(k))
    spoken = narrative("1").to_json() | {"voice_recording": voices.keep(TAKE, RATE)}
    store.add(collection, narrative("0"))
    store.add(collection, Narrative.from_json(spoken))
    export_collection(store, collection, tmp_path / "out", has_parquet=True)
    store.close()

    from datasets import Audio

    rows = load_dataset(tmp_path / "out", "voices", split="train")
    assert isinstance(rows.features["audio"], Audio) and len(rows) == 1
    (row,) = rows.cast_column("audio", Audio(decode=False))  # else it wants torchcodec
    heard, rate = soundfile.read(io.BytesIO(row["audio"]["bytes"]))
    assert (len(heard), rate) == (RATE, RATE) and row["caption"] == "a dog"
    assert row["audio"]["path"] == f"{TAKE}.ogg"
    pictures = load_dataset(tmp_path / "out")
    assert isinstance(pictures["train"][0]["image"], Image.Image)
    head = head_of(tmp_path / "out")
    assert (head["license"], head["license_name"]) == ("other", "terms-in-the-card")
    assert "| ours alone |" in (tmp_path / "out/README.md").read_text()


@pytest.mark.parametrize(
    "stated, license, name",
    [
        ("CC BY 4.0", "cc-by-4.0", None),
        ("cc-by-nc-sa-4.0", "cc-by-nc-sa-4.0", None),
        ("MIT License", "mit", None),
        ("ask Ann", "other", "terms-in-the-card"),
        ("", "other", "not-stated"),
        (None, "other", "not-stated"),
    ],
)
def test_terms_are_named_as_the_hub_knows_them(stated, license, name):
    head = terms.hub_license(stated)
    assert (head["license"], head.get("license_name")) == (license, name)
