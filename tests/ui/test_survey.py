"""What the Atlas tells, on a small atlas whose numbers are known; and what is queued from it."""

import json
import time

import cv2
import numpy as np
import pyarrow as pa
import pytest
from pyarrow import feather

from loctex.records.snapshot import Snapshot
from loctex.records.word_classes import CLASSES
from loctex.scoring.atlas_table import Atlas, _schema
from ui.inspect import annotate_next
from ui.inspect.atlas_page import applied, atlas_html, progress_html
from ui.viewing.survey import CELLS, Survey, WordFilter, bins, histogram, uncertainty, wilson
from ui.workspace import Workspace


def mark(word: str, kind: str, hit: float, x: float, y: float, is_region: bool = False) -> dict:
    return {
        "word": word,
        "start": 0,
        "end": len(word),
        "kind": CLASSES.index(kind),
        "hit": hit,
        "is_region": is_region,
        "certainty": 0.5,
        "x": x,
        "y": y,
    }


def atlas(rows: list[dict]) -> Survey:
    """Rows: {"caption", "marks"} and, where they matter, the numbers."""
    plain = {
        "number": 0,
        "dataset_id": "d",
        "image_id": "i",
        "annotator_id": 0,
        "cosine": 0.1,
        "pointing_trace": 0.0,
        "pointing_region": 0.0,
        "lbm_0": 0.2,
        "lbm_1": 0.1,
        "certainty": 0.5,
    }
    full = [
        plain | {"row": k, "image": np.eye(8)[k % 8], "text": np.eye(8)[k % 8]} | row
        for k, row in enumerate(rows)
    ]
    table = pa.Table.from_pylist(full, schema=_schema(8))
    ranks = pa.array(np.ones(len(rows)), pa.float32())
    about = {"about": json.dumps({"split": "val"})}
    return Survey.of(Atlas(table.append_column("rank", ranks).replace_schema_metadata(about)))


def three() -> Survey:
    return atlas(
        [
            {
                "caption": "a red cat",
                "lbm_0": 0.3,
                "cosine": 0.9,
                "certainty": 0.1,
                "marks": [mark("red", "color", 1, 0.1, 0.1), mark("cat.", "noun", 0, 0.9, 0.9)],
            },
            {
                "caption": "a blue dog",
                "lbm_0": 0.1,
                "cosine": 0.2,
                "certainty": 0.3,
                "marks": [mark("blue", "color", 1, 0.1, 0.1), mark("dog", "noun", 1, 0.5, 0.5)],
            },
            {"caption": "no trace", "lbm_0": np.nan, "cosine": 0.5, "certainty": 0.2, "marks": []},
        ]
    )


def test_sentences_come_in_the_order_asked_for_and_unknown_ones_last():
    survey = three()
    orders = {
        "worst": [0, 1, 2],
        "best": [1, 0, 2],
        "far": [0, 1, 2],
        "close": [1, 0, 2],
        "mismatch": [1, 2, 0],
        "unsure": [0, 2, 1],
    }
    for sort, expected in orders.items():
        assert survey.narratives(WordFilter(sort=sort)).tolist() == expected, sort


@pytest.mark.parametrize(
    "chosen, expected",
    [
        ({"kind": "noun"}, [0, 1]),
        ({"word": "cat"}, [0]),
        ({"cell": (4, 4)}, [0]),
        ({"cell": (2, 2)}, [1]),
        ({"text": "DOG"}, [1]),
        ({"hit": 10}, [0]),
        ({"lbm": 4}, [1]),
        ({"kind": "verb"}, []),
        ({"text": "(a"}, []),
    ],
)
def test_a_filter_leaves_what_it_says(chosen, expected):
    assert three().narratives(WordFilter(**chosen)).tolist() == expected


def test_shares_by_class_by_place_and_by_word():
    survey = three()
    assert survey.by_kind(WordFilter()) == {"noun": (0.5, 2), "color": (1.0, 2)}
    share, count = survey.by_cell(WordFilter())
    assert (share[0, 0], count[0, 0], share[4, 4], count[2, 2]) == (1.0, 2, 0.0, 1)
    assert np.isnan(share[3, 0]) and share.shape == (CELLS, CELLS)
    rows = [
        {"caption": "x", "marks": [mark(w, "noun", h, 0.5, 0.5)]}
        for w, h, n in (("Bad,", 0, 40), ("good", 1, 40), ("rare", 0, 2), ("few", 0, 5))
        for _ in range(n)
    ]
    worst, best = atlas(rows).ranked_words(WordFilter(), limit=2)
    assert best[0] == ("good", 1.0, 40)
    worst, _ = atlas(rows).ranked_words(WordFilter(), limit=1)
    assert worst == [("bad", 0.0, 40)]  # 40 of 40 proves more than 5 of 5; "rare" is too rare


def test_wilsons_interval_is_known():
    low, high = wilson(np.array([0.5, 0.0]), np.array([10, 10]))
    np.testing.assert_allclose(low, [0.2366, 0.0], atol=1e-4)
    np.testing.assert_allclose(high, [0.7634, 0.2775], atol=1e-4)


def test_the_last_bin_takes_what_lies_beyond_and_unknown_is_in_none():
    values = np.array([0.0, 0.49, 0.5, 3.0, np.nan])
    assert bins(values, 0.5).tolist() == [0, 19, 19, 19, -1]
    assert histogram(values, 0.5).sum() == 4


def test_uncertainty_is_1_where_all_captions_fit_alike():
    assert uncertainty(np.array([1.0, 0.0]), np.array([[0.0, 1.0]] * 7)) == pytest.approx(1.0)
    sure = uncertainty(np.array([1.0, 0.0]), np.array([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0]]), 100)
    assert sure == pytest.approx(0.0, abs=1e-6)


def test_a_click_chooses_and_another_lets_go():
    chosen = applied(WordFilter(), "kind:noun")
    assert chosen.kind == "noun" and applied(chosen, "kind:noun").kind is None
    assert applied(WordFilter(), "cell:2,3").cell == (2, 3)
    assert applied(applied(WordFilter(), "cell:2,3"), "cell:2,3") == WordFilter()
    assert (
        applied(WordFilter(), "hit:0").hit == 0 and applied(WordFilter(hit=0), "hit:0").hit is None
    )
    assert applied(WordFilter(text="x", word="y"), "drop:text") == WordFilter(word="y")
    assert applied(WordFilter(word="y"), "region:0") == WordFilter(is_region=False)


# --- on the pictures of a snapshot


@pytest.fixture
def workspace(snapshot, tmp_path):
    import shutil

    result = Workspace(tmp_path)
    shutil.copytree(snapshot, result.snapshots_dir / "scenes")
    yield result
    result.store.close()


def test_the_page_escapes_what_people_wrote(workspace):
    said = "<img src=x onerror=alert(1)>"
    survey = atlas([{"caption": said, "marks": [mark("<img", "noun", 1, 0.5, 0.5)] * 6}])
    html = atlas_html(workspace, survey, "snapshot/scenes/val", WordFilter(text="<b>"))
    assert "<b>&" not in html and "contains “&lt;b&gt;”" in html
    html = atlas_html(workspace, survey, "snapshot/scenes/val", WordFilter())
    assert said not in html and "&lt;img" in html


def test_the_worst_pictures_become_a_collection_with_their_originals(workspace):
    split = Snapshot.open(workspace.snapshots_dir / "scenes").split("train")
    survey = atlas([{"caption": str(k), "lbm_0": k / 100, "marks": []} for k in range(len(split))])
    store, item = workspace.store, split[31]
    original = cv2.imencode(".png", np.full((500, 400, 3), 90, np.uint8))[1].tobytes()
    mine = store.add_collection("mine")
    store.add_image(mine, original, dataset_id=item.dataset_id, image_id=item.image_id)
    found = survey.narratives(WordFilter(sort="far"))
    items = annotate_next.worst_items(survey, split, found, 3)
    assert [one.image_id for one in items] == [split[k].image_id for k in (31, 30, 29)]
    assert annotate_next.queue_items(workspace, "Worst of scenes train", items) == (
        "Worst of scenes train",
        3,
    )
    rows = store.images(store.collection("Worst of scenes train"), status="open")
    assert [row.image_id for row in rows] == [one.image_id for one in items]
    assert rows[0].path.read_bytes() == original and rows[1].path.read_bytes() == items[1].image
    again = annotate_next.queue_items(workspace, "Worst of scenes train", items[:1])
    assert again == ("Worst of scenes train 2", 1)
    with pytest.raises(ValueError, match="no picture to queue"):
        annotate_next.queue_items(workspace, "Nothing", [])


def test_pictures_without_narratives_are_queued_by_how_unsure_the_model_is(workspace):
    split = Snapshot.open(workspace.snapshots_dir / "scenes").split("val")
    store = workspace.store
    mine = store.add_collection("mine")
    for item in (split[k] for k in range(3)):
        store.add_image(mine, item.image, dataset_id=item.dataset_id, image_id=item.image_id)
    store.add(mine, split[0].narratives[0])

    class Models:  # sure of the second picture, unsure of the third
        def embed_image(self, checkpoint, image):
            is_third = image.shape == annotate_next.decode_image(split[2].image).shape
            return np.full(8, 8**-0.5) if is_third else np.eye(8)[0]

    survey = atlas([{"caption": str(k), "marks": []} for k in range(8)])
    rows = annotate_next.without_narratives(workspace)
    assert {row.image_id for row in rows} == {split[1].image_id, split[2].image_id}
    ranked = annotate_next.least_certain(Models(), "", survey, rows)
    assert [row.image_id for row, _ in ranked] == [split[2].image_id, split[1].image_id]
    assert ranked[0][1] == pytest.approx(1) and ranked[1][1] < 0.1


def test_progress_says_how_long_it_takes_and_what_went_wrong():
    from loctex.scoring.atlas_job import AtlasProgress

    html = progress_html(AtlasProgress("running", 640, 8000, 75.0), "scenes · val")
    assert "640 of 8,000 pictures, about 75 s left" in html and 'value="0.080"' in html
    html = progress_html(AtlasProgress("failed", 64, 300, None, "ValueError: <damaged>"), "x")
    assert "&lt;damaged&gt;" in html and "64 of 300" in html


@pytest.mark.timed
@pytest.mark.slow
def test_8000_narratives_are_opened_within_a_second(tmp_path):
    """The fastest of 3: reading the table, the columns, and every number of the page."""
    rng = np.random.default_rng(0)
    rows = [
        {
            "caption": f"sentence {k} " * 12,
            "marks": [
                mark(f"word{rng.integers(500)}", "noun", float(rng.integers(2)), *rng.random(2))
                for _ in range(28)
            ],
        }
        for k in range(8000)
    ]
    feather.write_feather(atlas(rows).atlas.table, str(tmp_path / "a.arrow"), "uncompressed")
    took = []
    for _ in range(3):
        begun = time.perf_counter()
        survey = Survey.of(Atlas.open(tmp_path / "a.arrow"))
        assert len(survey.narratives(WordFilter())) == 8000
        (
            survey.by_kind(WordFilter()),
            survey.by_cell(WordFilter()),
            survey.ranked_words(WordFilter()),
        )
        took.append(time.perf_counter() - begun)
    print(f"opened in {min(took):.3f} s")
    assert min(took) < 1
