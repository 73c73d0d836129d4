"""The store: pages of 200,000 narratives by key against OFFSET, and twenty people at once.

    python -m tests.benchmarks.store [--rows 200000] [--people 20] [--claims 40]

Twenty processes claim an image and submit a narrative of it, forty times each: every image goes to
one of them, and none gets an error. Last line: `ratio X`, the time of a page by OFFSET over that
of a page by key, medians of interleaved turns; at least 4.
"""

import argparse
import multiprocessing
import statistics
import tempfile
import time
from pathlib import Path

from data_tools.store import Store
from data_tools.store.search import NarrativeFilter, matching
from tests.data_tools.samples import narrative, picture
from tests.data_tools.test_search import fill

PAGE = 13


def ratio(store: Store, collection: int, rows: int) -> float:
    """Seconds of a page by OFFSET over those of the same page by key, at places all over."""
    keyed, offset = [], []
    first = store.narratives(collection, limit=1)[0].id
    for place in range(0, rows - PAGE, rows // 40):
        began = time.perf_counter()
        page = store.narratives(collection, after=first + place, limit=PAGE)
        middle = time.perf_counter()
        everything = matching(collection, NarrativeFilter(), 0, "sqlite").limit(PAGE)
        other = store._database.all(everything.offset(place + 1))
        offset.append(time.perf_counter() - middle)
        keyed.append(middle - began)
        assert [row.id for row in page] == [row.id for row in other]
    by_key, by_offset = statistics.median(keyed), statistics.median(offset)
    print(f"a page of {PAGE}: {by_key * 1000:.2f} ms by key, {by_offset * 1000:.2f} by OFFSET")
    return by_offset / by_key


def work(root: str, name: str, claims: int) -> list[int]:
    """Claim and submit; the images that this person got."""
    store = Store.of_workspace(root)
    collection, person, got = store.collection("claims"), store.annotator(name), []
    for _ in range(claims):
        image = store.next_image(collection, person)
        got.append(image.id)
        told = narrative(image.image_id, annotator_id=person)
        store.add(collection, told, take_id=f"{name}-{image.id}")
    store.close()
    return got


def crowd(root: Path, people: int, claims: int) -> None:
    """AssertionError where somebody got an error, or two got one image."""
    store = Store.of_workspace(root)
    collection = store.add_collection("claims")
    for number in range(people * claims):
        data = picture(number % 256, (16 + number // 256, 16), ".png")
        store.add_image(collection, data, dataset_id="album", image_id=str(number))
    began = time.perf_counter()
    with multiprocessing.get_context("spawn").Pool(people) as pool:
        tasks = [(str(root), f"person {i}", claims) for i in range(people)]
        got = [image for part in pool.starmap(work, tasks) for image in part]
    assert len(got) == len(set(got)) == people * claims
    assert len(store.narratives(collection, limit=len(got) + 1)) == len(got)
    seconds = time.perf_counter() - began
    print(
        f"{people} processes, {claims} claims and narratives each: no error, each image once, "
        f"{seconds:.1f} s"
    )
    store.close()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.store", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--people", type=int, default=20)
    parser.add_argument("--claims", type=int, default=40)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        store = Store.of_workspace(folder, is_new=True)
        collection = store.add_collection("many")
        store.add_image(collection, picture(), dataset_id="album", image_id="1")
        fill(store, collection, given.rows)
        found = ratio(store, collection, given.rows)
        store.close()
        crowd(Path(folder), given.people, given.claims)
    print(f"ratio {found:.1f}")


if __name__ == "__main__":
    main()
