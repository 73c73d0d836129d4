"""Who describes which image, what reviewers said, and taking back; on SQLite and PostgreSQL."""

import json
import random
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from data_tools.exchange.sources import CollectionSource as Frozen
from data_tools.store import Store, StoreError, assignment
from tests.data_tools.samples import narrative, picture


def album(store: Store, count: int, overlap: int = 1) -> tuple[int, list[int]]:
    """A collection with images "1", "2", ...; its id and the rows' ids."""
    collection = store.add_collection("album")
    store.set_rules(collection, overlap=overlap, needs_review=False)
    data = picture()
    rows = [
        store.add_image(collection, data, dataset_id="album", image_id=str(i + 1)).id
        for i in range(count)
    ]
    return collection, rows


def people(store: Store, *names: str) -> list[int]:
    return [store.annotator(name) for name in names]


# --- assignment


def test_a_new_collection_wants_one_person_for_each_image_and_open_images_are_in_one_hand(store):
    collection, rows = album(store, 3)
    ann, bob, cid = people(store, "ann", "bob", "cid")
    assert store.collections()[0].overlap == 1
    assert store.next_image(collection, ann).id == rows[0]
    assert store.next_image(collection, bob).id == rows[1]
    assert store.next_image(collection, ann).id == rows[0]  # a reload gives the same again
    store.add(collection, narrative("1", annotator_id=ann))
    assert store.next_image(collection, cid).id == rows[2]
    assert store.next_image(collection, ann) is None  # 1 is hers, 2 and 3 are in other hands
    assert [store.num_left(collection, who) for who in (ann, bob, cid)] == [2, 2, 2]
    assert not store.claim(rows[1], ann) and store.claim(rows[0], ann) and store.claim(rows[1], bob)


def test_opening_another_image_lets_go_of_the_one_before_but_not_of_an_unsent_draft(store):
    collection, rows = album(store, 3)
    ann, bob = people(store, "ann", "bob")
    assert store.claim(rows[0], ann) and store.claim(rows[1], ann)
    assert store.next_image(collection, bob).id == rows[0]
    store.save_draft("take", ann, rows[1], "{}")
    assert store.claim(rows[2], ann)
    assert store.next_image(collection, bob, after=rows[0]) is None
    store.drop_draft("take")
    assert store.claim(rows[2], ann)
    assert store.next_image(collection, bob, after=rows[0]).id == rows[1]


def test_a_claim_expires_and_a_draft_keeps_it_for_a_day(store, monkeypatch):
    collection, rows = album(store, 1)
    ann, bob = people(store, "ann", "bob")
    now = time.time()

    def later(seconds: float) -> None:
        monkeypatch.setattr(assignment.time, "time", lambda: now + seconds)

    assert store.claim(rows[0], ann)
    later(assignment.HOLD - 1)
    assert store.next_image(collection, bob) is None
    store.save_draft("take", ann, rows[0], "{}")
    later(assignment.HOLD + assignment.HOLD_DRAFT - 2)
    assert store.next_image(collection, bob) is None
    later(assignment.HOLD + assignment.HOLD_DRAFT)
    assert store.next_image(collection, bob).id == rows[0]
    assert store.claim(rows[0], ann)  # her take is not lost: she may finish it


def test_overlap_counts_people_of_this_studio_and_neither_imported_nor_rejected_narratives(store):
    collection, rows = album(store, 1, overlap=2)
    ann, bob, cid = people(store, "ann", "bob", "cid")
    store.add(collection, narrative("1", annotator_id=7))  # of a public file
    for take in range(2):  # the same person twice is one person
        store.add(collection, narrative("1", annotator_id=ann), take_id=str(take))
    assert store.num_left(collection, bob) == 1
    second = store.add(collection, narrative("1", annotator_id=bob))
    assert store.next_image(collection, cid) is None and store.num_left(collection, cid) == 0
    store.reviews.reject(second, ann, "points at the wrong dog")
    assert store.next_image(collection, bob) is None  # never the same person again
    assert store.next_image(collection, cid).id == rows[0]
    store.reviews.accept(second, ann)
    assert store.next_image(collection, cid) is None
    store.delete(second)
    assert store.next_image(collection, cid).id == rows[0]
    for overlap, left in ((1, 0), (3, 1), (0, 1)):
        store.set_rules(collection, overlap=overlap, needs_review=False)
        assert store.num_left(collection, cid) == left
    with pytest.raises(StoreError, match="overlap: must be 0"):
        store.set_rules(collection, overlap=-1, needs_review=False)


@pytest.mark.parametrize("overlap", [1, 3])
def test_a_crowd_gets_no_image_too_often_and_leaves_none(url, tmp_path, overlap):
    """12 people at once, each with a connection of their own, over 25 images."""
    store = Store(url, tmp_path / "images")
    collection, rows = album(store, 25, overlap)
    store.close()
    given: list[tuple[int, str]] = []

    def annotate(name: str) -> None:
        own = Store(url, tmp_path / "images")
        me, draw = own.annotator(name), random.Random(name)
        while image := own.next_image(collection, me):
            if draw.random() < 0.2:  # looked at it, then reloaded
                assert own.next_image(collection, me, after=image.id - 1) is not None
                image = own.next_image(collection, me, after=image.id - 1)
            given.append((image.id, name))
            own.add(collection, narrative(image.image_id, annotator_id=me))
        own.close()

    with ThreadPoolExecutor(12) as pool:
        list(pool.map(annotate, [f"p{k}" for k in range(12)]))
    assert len(set(given)) == len(given)  # nobody twice
    assert Counter(image for image, _ in given) == dict.fromkeys(rows, overlap)


@pytest.mark.timed
def test_the_next_of_a_hundred_thousand_images_is_found_by_an_index(tmp_path):
    store = Store(f"sqlite:///{tmp_path / 'studio.db'}", tmp_path / "images")
    collection, rows = album(store, 1)
    ann, bob = people(store, "ann", "bob")
    with store._database.writing() as connection:
        connection.exec_driver_sql(
            "WITH RECURSIVE k(i) AS (SELECT 2 UNION ALL SELECT i + 1 FROM k WHERE i < 100000) "
            "INSERT INTO images (collection_id, dataset_id, image_id, sha256, file, name, width, "
            "height, is_wanted) SELECT collection_id, dataset_id, i, sha256, file, name, width, "
            "height, i > 99000 FROM k, images WHERE images.id = 1"
        )
    store.add(collection, narrative("1", annotator_id=ann))
    seconds = []
    for _ in range(5):
        began = time.perf_counter()
        image = store.next_image(collection, bob)
        seconds.append(time.perf_counter() - began)
    assert image.image_id == "99001" and min(seconds) < 0.06
    store.close()


# --- reviews


def test_verdicts_keep_a_trail_and_decide_what_leaves_the_studio(store):
    collection, rows = album(store, 4, overlap=0)
    ann, rob = people(store, "ann", "rob")
    told = [store.add(collection, narrative(str(k + 1), annotator_id=ann)) for k in range(4)]
    store.reviews.accept(told[0], rob)
    store.reviews.reject(told[1], rob, "  another image ")
    with pytest.raises(StoreError, match="Say why"):
        store.reviews.reject(told[2], rob, " ")
    mended = narrative("3", annotator_id=ann, caption="a cat")
    store.reviews.fix(told[2], rob, mended)
    assert store.reviews.counts(collection) == {"unreviewed": 1, "accepted": 2, "rejected": 1}
    assert [row.id for row in store.reviews.queue(collection)] == told[3:]
    assert store.narratives(collection)[2].caption == "a cat"
    (entry,) = store.reviews.trail(told[2])
    assert (entry.reviewer_id, entry.verdict) == (rob, "fixed")
    assert json.loads(entry.before) == narrative("3", annotator_id=ann).to_json()
    assert store.reviews.trail(told[1])[0].reason == "another image"

    def leaving() -> list[str]:
        exported = [image.image_id for image, _ in store.each_narrative(collection)]
        assert [entry.image_id for entry in Frozen(store, "album")] == exported
        return exported

    assert leaving() == ["1", "3", "4"]
    store.set_rules(collection, overlap=0, needs_review=True)
    assert leaving() == ["1", "3"]


def test_one_may_edit_and_take_back_ones_own_narrative_only(store):
    collection, rows = album(store, 1)
    ann, bob = people(store, "ann", "bob")
    told = store.add(collection, narrative("1", annotator_id=ann))
    store.reviews.accept(told, bob)
    mended = narrative("1", annotator_id=ann, caption="the dog")
    for action in (
        lambda: store.reviews.edit(told, bob, mended),
        lambda: store.reviews.take_back(told, bob),
    ):
        with pytest.raises(StoreError, match="is not yours"):
            action()
    store.reviews.edit(told, ann, mended)
    (row,) = store.people.narratives(ann)
    assert (row.caption, row.status) == ("the dog", "unreviewed")
    assert [entry.verdict for entry in store.reviews.trail(told)] == ["accepted", "edited"]
    store.reviews.take_back(told, ann)
    assert store.people.narratives(ann) == [] and store.next_image(collection, bob).id == rows[0]


# --- people


def test_work_is_counted_by_person(store):
    collection, rows = album(store, 3, overlap=0)
    ann, bob = people(store, "ann", "bob")
    told = [store.add(collection, narrative(str(k), annotator_id=ann)) for k in (1, 2)]
    store.add(collection, narrative("1", annotator_id=7))
    store.skip(rows[0], bob, "dark")
    store.reviews.accept(told[0], bob)
    work = {one.name: one for one in store.people.work(collection)}
    assert list(work) == ["ann", "annotator 7", "bob"]
    assert (work["ann"].num_narratives, work["ann"].num_words, work["ann"].seconds) == (2, 4, 3.0)
    assert work["ann"].median_pace == 80 and work["ann"].statuses["accepted"] == 1
    assert [len(day) for day in work["ann"].days.values()] == [2] and work["bob"].num_skips == 1
    shared = store.people.shared(collection)
    assert {image: len(several) for image, several in shared.items()} == {rows[0]: 2}


SECRET = "zanzibarian marmalade"


def test_withdrawn_consent_leaves_nothing_of_a_person(store, tmp_path):
    collection, rows = album(store, 2)
    ann, bob = people(store, "ann", "bob")
    voiced = narrative("1", annotator_id=ann, caption=SECRET, voice_recording="take.wav")
    told = store.add(collection, voiced)
    kept = store.add(collection, narrative("2", annotator_id=bob))
    store.reviews.accept(kept, ann)
    store.save_draft("take", ann, rows[1], json.dumps({"caption": SECRET}))
    store.skip(rows[1], ann, SECRET)
    held = store.people.erase(store.people.annotator_id("ann"))
    assert (held.narratives, held.voices, held.drafts) == ([told], ["take.wav"], ["take"])
    assert [row.id for row in store.narratives(collection)] == [kept]
    assert store.drafts(ann) == [] and store.people.holdings(ann).num_skips == 0
    assert store.people.names() == {ann: f"withdrawn {ann}", bob: "bob"}
    assert store.reviews.trail(kept)[0].reviewer_id == ann
    assert store.next_image(collection, bob).id == rows[0]
    with pytest.raises(StoreError, match="nobody named 'ann'"):
        store.people.annotator_id("ann")
    for file in Path(tmp_path).glob("studio.db*"):
        assert SECRET.encode() not in file.read_bytes()
