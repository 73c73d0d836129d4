"""What a constant answer scores, the usual box of a word, and how sure a measure is."""

import json

import numpy as np
import pytest
import torch

from loctex import evaluate
from loctex.jobs.run import Run
from loctex.loading.mixture import Mixture
from loctex.model import build
from loctex.model.config import LocTexConfig
from loctex.records import trace, words
from loctex.records.narrative import Narrative
from loctex.records.snapshot import Snapshot
from loctex.scoring import metrics
from loctex.scoring.predictor import Predictor
from loctex.scoring.word_scores import by_word
from loctex.training.loop import train
from tests.loctex.small import small


def test_the_middle_scores_on_peoples_traces_what_method_says(shared_data):
    """AUC .602 and LBM .217 on Video Localized Narratives' 46 narratives, a 7 x 7 grid, .2 s."""
    targets, costs = [], []
    for line in (shared_data / "vidln" / "vidln_as_ln.jsonl").read_text().splitlines():
        narrative = Narrative.from_json(line)
        windows = words.windows(narrative.words, 0.2)
        target = trace.rasterize(narrative.strokes, windows, (7, 7))
        targets.append(target[target.any(axis=(1, 2))] > 0)
        truth = trace.boxes(narrative.strokes, windows)
        costs.append([metrics.lbm_center(len(windows), truth, window) for window in (0, 1)])
    cells = np.concatenate(targets)
    assert len(costs) == 46
    auc = np.nanmean(metrics.auc(metrics.middle_gaussian(cells.shape), cells))
    assert auc == pytest.approx(0.602, abs=0.002)
    assert np.mean(costs, axis=0) == pytest.approx([0.217, 0.217], abs=0.002)


@pytest.mark.parametrize("grid", [(7, 7), (4, 6)])
def test_the_gaussian_is_in_the_middle_and_a_fifth_of_the_side_wide(grid):
    (gaussian,) = metrics.middle_gaussian((1, *grid))
    h, w = grid
    slow = np.zeros(grid)
    for i in range(h):
        for j in range(w):
            y, x = (i + 0.5) / h - 0.5, (j + 0.5) / w - 0.5
            slow[i, j] = np.exp(-(x * x + y * y) / (2 * 0.2**2))
    np.testing.assert_allclose(gaussian, slow / slow.sum(), rtol=1e-12)
    assert np.array_equal(gaussian, gaussian[::-1, ::-1])


def test_the_usual_box_is_the_median_of_the_training_traces_and_none_without_traces(snapshot):
    split = Snapshot.open(snapshot).split("train")
    widths, heights = [], []
    for item in split[:]:
        for narrative in item.narratives:
            for start, end in words.windows(narrative.words, 0.2):
                pieces = trace.cut(narrative.strokes, start, end)
                if pieces:
                    points = np.concatenate(pieces)
                    widths.append(np.ptp(points[:, 0]))
                    heights.append(np.ptp(points[:, 1]))
    box = Mixture([split], [1.0], seed=0).word_box(0.2)
    assert box == pytest.approx([np.median(widths), np.median(heights)], abs=1e-9)

    class Captions:
        def __len__(self):
            return 2

        def __getitem__(self, index):
            item = split[index]
            words_alone = Narrative(
                item.dataset_id, item.image_id, 0, "a dog", words=(), strokes=()
            )
            return type(item)(*[*vars(item).values()][:5], (words_alone,), ((),))

    assert Mixture([Captions()], [1.0], seed=0).word_box(0.2) is None


def test_a_words_box_has_the_usual_size_about_its_centroid_and_stays_in_the_image():
    maps = np.zeros((3, 4, 4))
    maps[0, 1, 1:3] = 0.5  # its center is (.5, .375)
    maps[1, 3, 0] = 1.0  # (.125, .875)
    boxes = trace.word_boxes(maps, [0.3, 0.5])
    expected = [[0.35, 0.125, 0.65, 0.625], [0.0, 0.625, 0.275, 1.0], [0.35, 0.25, 0.65, 0.75]]
    np.testing.assert_allclose(boxes, expected, atol=1e-12)
    assert np.array_equal(trace.word_boxes(maps, None), trace.mass_box(maps))


def test_a_run_learns_its_box_once_and_old_models_have_none(snapshot, tmp_path):
    run = Run(tmp_path / "run")
    settings = small(snapshot, train__steps=2)
    train(settings, run)
    split = Snapshot.open(snapshot).split("train")
    box = Mixture([split], [1.0], seed=0).word_box(settings.data.word_margin)
    config = json.loads((run.path / "last" / "config.json").read_text())
    assert config["word_box"] == box and LocTexConfig().word_box is None

    predictor = Predictor.load(run.path, "last", device="cpu")
    predictor.set_image(np.zeros((64, 64, 3), np.uint8))
    seen = predictor.attend("a red circle")
    assert np.array_equal(seen.boxes, trace.word_boxes(seen.maps, box))
    predictor.model.config.word_box = None  # as of a model that was trained before
    assert np.array_equal(predictor.attend("a red circle").boxes, trace.mass_box(seen.maps))

    # A run that goes on keeps the box that it was scored with: here none.
    old = build.load(run.path / "last", {"word_box": None})
    old.save_pretrained(run.path / "last")
    train(small(snapshot, train__steps=4), run, "last")
    assert json.loads((run.path / "last" / "config.json").read_text())["word_box"] is None


def test_an_interval_of_independent_images_is_the_normal_one_and_copies_make_none_surer():
    random = np.random.default_rng(0)
    hits = (random.random(400) < 0.3).astype(float)
    images = np.arange(400)
    copies, copied_images = np.repeat(hits, 50), np.repeat(images, 50)
    ends = metrics.intervals(
        {"hit": hits, "copied": copies, "nothing": np.full(400, np.nan)},
        {"hit": images, "copied": copied_images, "nothing": images},
        400,
    )
    mean, error = hits.mean(), hits.std(ddof=1) / 20
    expected = [mean - 1.96 * error, mean + 1.96 * error]
    assert ends["hit"] == pytest.approx(expected, abs=0.004)
    assert ends["copied"] == pytest.approx(ends["hit"], abs=1e-12)  # of images, not of words
    assert set(ends) == {"hit", "copied"}


def test_intervals_equal_means_drawn_one_by_one():
    random = np.random.default_rng(1)
    values, image_of = random.random(30), random.integers(0, 9, 30)
    values[::7] = np.nan
    (ends,) = metrics.intervals({"x": values}, {"x": image_of}, 9, draws=200).values()
    draws, means = np.random.default_rng(0), []
    for _ in range(200):
        chosen = draws.integers(0, 9, 9)
        drawn = np.concatenate([values[image_of == image] for image in chosen])
        means.append(np.nanmean(drawn))
    assert ends == pytest.approx(np.percentile(means, (2.5, 97.5)).tolist(), abs=1e-12)


def test_every_measure_of_maps_has_its_center_and_its_interval(snapshot, tmp_path, capsys):
    torch.manual_seed(0)
    train(small(snapshot, train__steps=1, model__attention_scales=2), Run(tmp_path / "run"))
    evaluate.main(
        ["--run", str(tmp_path / "run"), "--data", str(snapshot), "--to", str(tmp_path / "r.json")]
    )
    result = json.loads((tmp_path / "r.json").read_text())
    scores, intervals = result["metrics"], result["intervals"]
    for tag in ("", "_8x8"):
        for name in ("pointing_trace", "pointing_region", "energy", "auc", "iou", "lbm_0", "lbm_1"):
            assert 0 < scores[f"{name}{tag}_center"] < 1, name
            low, high = intervals[f"{name}{tag}"]
            assert low <= scores[f"{name}{tag}"] <= high
    assert scores["lbm_0_center"] == pytest.approx(scores["lbm_1_center"])  # one box for all words
    assert {"image_to_text_r1", "text_to_image_r10", "auc_contrastive"} <= set(intervals)
    low, high = intervals["auc"]
    (line,) = [row for row in capsys.readouterr().out.splitlines() if row.startswith("auc ")]
    assert line.endswith(f"[{low:.3f}, {high:.3f}]")


def test_each_word_stands_beside_its_own_middle_and_chance():
    rows = [
        {"word": word, "pointing_region": hit, "center": center, "chance": 0.25}
        for word, hit, center in [("Dog", 1.0, 0.0), ("dog,", 0.0, 1.0)] * 3
    ]
    rows += [{"word": "dog", "pointing_trace": 1.0, "center": 0.5}] * 5  # of an older table
    assert by_word(rows) == {
        "dog": {
            "num_regions": 6,
            "pointing_region": 0.5,
            "pointing_region_center": 0.5,
            "pointing_region_chance": 0.25,
            "count": 5,
            "pointing_trace": 1.0,
            "pointing_trace_center": 0.5,
        }
    }
    assert by_word(rows[:4]) == {}, "seen less than five times"
