"""What a collection is like, in numbers that are known beforehand; counted once."""

import numpy as np
import pytest

from data_tools.store import statistics
from data_tools.store.statistics import EDGES, Summary, middle
from loctex.records.narrative import read_jsonl
from tests.data_tools.samples import narrative, picture


def test_one_narrative_is_counted_as_it_is():
    summary = Summary()
    summary.count(narrative(caption="A red dog."))
    total = summary.total
    assert (total["narratives"], total["words"], total["points"]) == (1, 3, 3)
    assert total["seconds"] == 1.5 and total["length"] == pytest.approx(np.hypot(0.2, 0.2))
    assert summary.vocabulary == {"a": 1, "red": 1, "dog": 1}
    assert summary.classes == {"other": 1, "color": 1, "noun": 1}
    assert summary.heat.sum() == 2 and summary.heat[4, 2] == 1  # x .1, y .2; one lies outside
    assert summary.histograms["words pointed at"][-1] == 1  # both words
    assert summary.histograms["lag"].sum() == 2
    speed = np.hypot(0.2, 0.2) / 0.5
    assert summary.histograms["trace speed"][int(speed / 0.1)] == 1


def test_a_collection_is_counted_once_and_what_changes_again(store, monkeypatch):
    monkeypatch.setattr(statistics, "BLOCK", 4)
    collection = store.add_collection("mine")
    store.add_image(collection, picture(), dataset_id="album", image_id="1")
    ids = [
        store.add(collection, narrative(caption=f"dog {i}", annotator_id=i % 2)) for i in range(20)
    ]

    def counted() -> tuple[Summary, int]:
        steps = list(store.statistics.summary(collection))
        assert steps[-1][1] == steps[-1][2]
        return steps[-1][0], len(steps) - 1

    first, num_blocks = counted()
    assert num_blocks in (5, 6) and first.total["narratives"] == 20
    assert first.annotators[0]["narratives"] == 10 and first.vocabulary["dog"] == 20
    again, num_blocks = counted()
    assert num_blocks == 0 and again.to_json() == first.to_json()
    store.delete(ids[9])
    store.add(collection, narrative(caption="a cat"))
    last, num_blocks = counted()
    assert num_blocks in (1, 2) and last.total["narratives"] == 20
    assert last.vocabulary["dog"] == 19 and last.vocabulary["cat"] == 1


def test_the_middle_is_the_median_up_to_a_bin():
    random = np.random.default_rng(0)
    for name, edges in EDGES.items():
        values = random.uniform(edges[0], edges[-1], 501)
        counts = np.histogram(values, edges)[0]
        assert abs(middle(counts, edges) - np.median(values)) < edges[1] - edges[0], name
    assert middle(np.zeros(3), np.arange(4)) is None


def test_people_are_as_they_were_measured_elsewhere(shared_data):
    summary = Summary()
    for said in read_jsonl(shared_data / "vidln/vidln_as_ln.jsonl"):
        summary.count(said)
    assert summary.total["points"] == 8709 and summary.total["timed"] == 482
    grounded = summary.total["grounded"] / summary.total["timed"]
    assert grounded == pytest.approx(0.66, abs=0.02)  # docs/RESULTS.md, simulated narrators
