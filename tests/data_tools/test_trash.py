"""The trash: what was deleted is nowhere to be seen, and comes back as it was."""

import json

import numpy as np
import pytest

from data_tools import withdrawal
from data_tools.exchange.sources import CollectionSource
from data_tools.snapshot import freeze
from data_tools.speech.voices import RATE, Voices
from data_tools.store import Store, StoreError, trash
from data_tools.store.search import NarrativeFilter
from tests.data_tools.samples import narrative, picture


def everything(store: Store) -> dict[str, list[dict]]:
    """All rows of all tables but the trash itself and the claims, which expire anyway."""
    from sqlalchemy import select

    from data_tools.store import tables as db

    with store._database.reading() as connection:
        return {
            table.name: [
                dict(row)
                for row in connection.execute(select(table).order_by(*table.primary_key)).mappings()
            ]
            for table in db.metadata.sorted_tables
            if table.name not in ("trash", "claims")
        }


def described(store: Store) -> tuple[int, list[int], list[int]]:
    """A collection of two images, three narratives of the first, one of the second, a review, a
    skip and a draft; the ids of the images and of the narratives."""
    collection = store.add_collection("mine")
    images = [
        store.add_image(collection, picture(i), dataset_id="album", image_id=str(i + 1)).id
        for i in range(2)
    ]
    ann, bob = store.annotator("ann"), store.annotator("bob")
    told = [
        store.add(collection, narrative("1", annotator_id=ann), take_id="a"),
        store.add(collection, narrative("1", annotator_id=bob), take_id="b"),
        store.add(collection, narrative("1", annotator_id=7)),
        store.add(collection, narrative("2", annotator_id=ann)),
    ]
    store.reviews.accept(told[0], bob)
    store.skip(images[0], bob, "dark")
    store.save_draft("draft", bob, images[0], "{}")
    return collection, images, told


def test_an_image_comes_back_with_its_three_narratives_and_their_reviews(store):
    collection, images, told = described(store)
    before = everything(store)
    file = store.image(images[0]).path
    entry = store.trash.put_image(images[0], store.annotator("ann"))

    (here,) = store.collections()
    assert (here.num_images, here.num_narratives) == (1, 1)
    assert [row.id for row in store.narratives(collection)] == told[3:]
    assert (
        store.narratives(collection, narrative_filter=NarrativeFilter(words="dog"))[0].id == told[3]
    )
    assert [image.id for image, _ in store.each_narrative(collection)] == images[1:]
    assert store.people.work(collection)[0].num_narratives == 1
    (listed,) = store.trash.entries(collection)
    assert (listed.kind, listed.title, listed.num_narratives) == ("image", "1", 3)

    assert file.exists()
    store.trash.restore(entry)
    assert everything(store) == before
    assert len(store.reviews.trail(told[0])) == 1 and store.trash.entries(collection) == []
    assert len(store.narratives(collection, narrative_filter=NarrativeFilter(words="dog"))) == 4
    with pytest.raises(StoreError, match="not in the trash any more"):
        store.trash.restore(entry)


def test_a_narrative_comes_back_and_meanwhile_its_image_wants_people(store):
    collection, images, told = described(store)
    before = everything(store)
    cid = store.annotator("cid")
    assert store.num_left(collection, cid) == 0
    entry = store.trash.put_narrative(told[3], cid)
    assert store.num_left(collection, cid) == 1
    store.trash.restore(entry)
    before["annotators"] = everything(store)["annotators"]
    assert everything(store) == before and store.num_left(collection, cid) == 0


def test_what_came_in_again_meanwhile_is_joined_or_named(store):
    collection, images, told = described(store)
    first, second = (store.trash.put_image(image, 7) for image in images)
    again = store.add_image(collection, picture(0), dataset_id="album", image_id="1")
    store.trash.restore(first)
    assert {row.image_row_id for row in store.narratives(collection)} == {again.id}
    assert [row.id for row in store.narratives(collection)] == told[:3]
    store.add_image(collection, picture(5), dataset_id="album", image_id="2")
    with pytest.raises(StoreError, match="image '2' of album is another picture"):
        store.trash.restore(second)
    assert len(store.trash.entries(collection)) == 1


def test_a_narrative_waits_for_its_image(store):
    collection, images, told = described(store)
    one, all_ = store.trash.put_narrative(told[0], 7), store.trash.put_image(images[0], 7)
    with pytest.raises(StoreError, match="bring the image back first"):
        store.trash.restore(one)
    store.trash.restore(all_)
    store.trash.restore(one)
    assert [row.id for row in store.narratives(collection)] == told


def test_the_trash_is_emptied_by_age_and_by_hand_with_its_files(store, monkeypatch):
    collection, images, told = described(store)
    files = [store.image(image).path for image in images]
    store.trash.put_image(images[0], 7)
    monkeypatch.setattr(trash.time, "time", lambda: 30 * trash.DAY + 1e9)
    with store._database.writing() as connection:
        connection.exec_driver_sql("UPDATE trash SET deleted = 1000000000 + 60")
    assert store.trash.expire() == 0 and files[0].exists()
    with store._database.writing() as connection:
        connection.exec_driver_sql("UPDATE trash SET deleted = 1000000000 - 60")
    assert store.trash.expire() == 1 and not files[0].exists()

    store.trash.put_image(images[1], 7)
    assert store.trash.empty(collection) == 1 and not files[1].exists()
    store.trash.set_days(collection, 0)
    again = store.add_image(collection, picture(3), dataset_id="album")
    store.trash.put_image(again.id, 7)
    assert store.trash.entries(collection) == [] and not again.path.exists()
    with pytest.raises(StoreError, match="trash_days: must be 0"):
        store.trash.set_days(collection, -1)


def test_a_file_stays_while_an_image_in_the_trash_needs_it(store):
    first, second = store.add_collection("first"), store.add_collection("second")
    here = store.add_image(first, picture(), dataset_id="d", image_id="1")
    there = store.add_image(second, picture(), dataset_id="d", image_id="1")
    entry = store.trash.put_image(here.id, 7)
    store.delete_image(there.id)
    assert here.path.exists()
    store.trash.restore(entry)
    assert store.image(here.id).path.read_bytes() == picture()


def test_what_is_deleted_is_not_frozen_and_comes_into_the_next_snapshot(tmp_path):
    store = Store.of_workspace(tmp_path, is_new=True)
    _, _, told = described(store)
    entry = store.trash.put_narrative(told[0], 7)
    counts = []
    for name in ("without", "with"):
        manifest = freeze(tmp_path / name, [CollectionSource(store, "mine")])
        counts.append(sum(split["narratives"] for split in manifest["splits"].values()))
        if name == "without":
            store.trash.restore(entry)
    assert counts == [3, 4]
    store.close()


def test_an_erased_person_leaves_the_trash_too_and_others_stay_in_it(tmp_path, capsys):
    store = Store.of_workspace(tmp_path, is_new=True)
    voices = Voices(tmp_path / "voices")
    collection, images, told = described(store)
    ann, take = store.annotator("ann"), "a" * 32
    voices.append(take, 0, np.zeros(RATE, np.int16).tobytes())
    said = narrative("2", annotator_id=ann, voice_recording=voices.keep(take, RATE))
    store.trash.put_narrative(store.add(collection, said, take_id=take), ann)
    entry = store.trash.put_image(images[0], 7)
    assert voices.find(f"voices/{take}.wav")

    asked = ["ann", "--workspace", str(tmp_path)]
    assert withdrawal.main(asked) == 0
    assert withdrawal.main([*asked, "--erase"]) == 0
    line = "in the trash, and erased with the rest: 2 narratives"
    assert capsys.readouterr().out.count(line) == 2
    assert voices.find(f"voices/{take}.wav") is None
    assert [one.num_narratives for one in store.trash.entries(collection)] == [2]
    store.trash.restore(entry)
    rows = store.narratives(collection)
    assert [row.id for row in rows] == told[1:3] and ann not in {row.annotator_id for row in rows}
    assert json.loads(json.dumps(str(everything(store)))).count("voice_recording") == 0
    store.close()
