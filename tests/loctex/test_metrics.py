"""Measures against slow references, known answers, and (LBM) linear programming."""

import math
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog
from sklearn.metrics import roc_auc_score

from loctex.scoring import metrics

sizes = st.tuples(st.integers(1, 12), st.integers(1, 12))


def random_maps(rng, words=40, grid=(6, 7), levels=None):
    """Maps (W, h, w) and cells (W, h, w); few levels make ties."""
    maps = rng.random((words, *grid)) if levels is None else rng.integers(0, levels, (words, *grid))
    return maps.astype(float), rng.random((words, *grid)) < 0.3


# --- regions


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6), size=sizes, grid=sizes)
def test_mask_cells_are_those_whose_center_is_within_half_a_cell_of_a_pixel(seed, size, grid):
    mask = np.random.default_rng(seed).random(size) < 0.15
    expected = np.zeros(grid, bool)
    for i, j in np.ndindex(grid):
        for y, x in np.argwhere(mask):
            down = max(y / size[0] * grid[0] - i - 0.5, i + 0.5 - (y + 1) / size[0] * grid[0], 0)
            over = max(x / size[1] * grid[1] - j - 0.5, j + 0.5 - (x + 1) / size[1] * grid[1], 0)
            expected[i, j] |= math.hypot(down, over) <= 0.5 + 1e-9
    assert np.array_equal(metrics.mask_cells(mask, grid), expected)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6), size=sizes, grid=sizes)
def test_a_box_and_its_mask_have_the_same_cells_and_cover(seed, size, grid):
    rng = np.random.default_rng(seed)
    (y0, y1), (x0, x1) = (np.sort(rng.choice(side + 1, 2, replace=False)) for side in size)
    mask = np.zeros(size, bool)
    mask[y0:y1, x0:x1] = True
    box = np.array([x0 / size[1], y0 / size[0], x1 / size[1], y1 / size[0]])
    assert np.array_equal(metrics.box_cells(box, grid), metrics.mask_cells(mask, grid))
    cover = metrics.box_cover(box, grid)
    assert np.allclose(cover, metrics.mask_cover(mask, grid), atol=1e-12)
    assert math.isclose(cover.mean(), mask.mean(), abs_tol=1e-12)


def test_cover_equals_the_mean_over_subpixels_that_divide_both_grids():
    mask = np.random.default_rng(0).random((4, 6)) < 0.5
    fine = mask.repeat(3, axis=0).repeat(2, axis=1)  # 12 x 12 -> 3 x 4 cells of 4 x 3
    expected = fine.reshape(3, 4, 4, 3).mean(axis=(1, 3))
    assert np.allclose(metrics.mask_cover(mask, (3, 4)), expected, atol=1e-12)


def test_a_cell_half_a_cell_away_is_a_hit_and_one_a_little_further_is_not():
    # the center of the cell at column 1 of 4 lies at x = .375; half a cell is .125
    assert metrics.box_cells([0.5, 0, 1, 1], (1, 4)).tolist() == [[False, True, True, True]]
    assert metrics.box_cells([0.501, 0, 1, 1], (1, 4)).tolist() == [[False, False, True, True]]
    # diagonally the distance is Euclidean: .34 cells each way is .48, .36 is .51
    assert metrics.box_cells([0.42, 0.42, 0.46, 0.46], (2, 2))[0, 0]
    assert not metrics.box_cells([0.43, 0.43, 0.46, 0.46], (2, 2))[0, 0]


def test_an_empty_mask_hits_nothing_and_covers_nothing():
    empty = np.zeros((5, 5), bool)
    assert metrics.mask_cells(empty, (3, 3)).sum() == 0
    assert metrics.mask_cover(empty, (3, 3)).sum() == 0


# --- maps


def test_pointing_asks_for_the_strongest_cell_and_shares_ties():
    maps = np.zeros((3, 2, 2))
    maps[0, 1, 0] = maps[1, 0, 1] = 1  # word 2 is constant
    cells = np.zeros((3, 2, 2), bool)
    cells[:, 1, 0] = True
    assert metrics.pointing(maps, cells).tolist() == [1, 0, 0.25]
    assert metrics.pointing_chance(cells).tolist() == [0.25, 0.25, 0.25]


def test_chance_is_what_random_maps_score():
    rng = np.random.default_rng(1)
    maps, cells = random_maps(rng, words=20_000)
    error = metrics.pointing(maps, cells).mean() - metrics.pointing_chance(cells).mean()
    assert abs(error) < 0.015  # 4 standard errors


@pytest.mark.parametrize("grid, middle", [((3, 5), [(1, 2)]), ((2, 3), [(0, 1), (1, 1)])])
def test_the_center_is_one_cell_of_odd_grids_and_the_middle_ones_of_even_grids(grid, middle):
    for i, j in np.ndindex(grid):
        cells = np.zeros((1, *grid), bool)
        cells[0, i, j] = True
        assert metrics.pointing_center(cells)[0] == ((i, j) in middle) / len(middle)


def test_energy_is_the_share_of_the_mass_inside():
    maps = np.array([[[1.0, 3], [0, 4]], [[0, 0], [0, 0]]])
    cover = np.array([[[1.0, 0.5], [1, 0]]] * 2)
    scores = metrics.energy(maps, cover)
    assert scores[0] == 2.5 / 8
    assert np.isnan(scores[1])


@pytest.mark.parametrize("levels", [None, 4])
def test_auc_equals_scikit_learn(levels):
    maps, cells = random_maps(np.random.default_rng(2), levels=levels)
    expected = [roc_auc_score(c.ravel(), m.ravel()) for m, c in zip(maps, cells, strict=True)]
    assert np.allclose(metrics.auc(maps, cells), expected, atol=1e-12)


def test_auc_of_all_or_no_cells_is_nan():
    cells = np.stack([np.ones((2, 2), bool), np.zeros((2, 2), bool)])
    assert np.isnan(metrics.auc(np.random.default_rng(0).random((2, 2, 2)), cells)).all()


@pytest.mark.parametrize("measure", [metrics.pointing, metrics.auc, metrics.best_iou])
def test_no_words_have_no_scores(measure):
    maps = np.zeros((0, 3, 4))
    assert measure(maps, maps > 0).shape == (0,)


@pytest.mark.parametrize("levels", [None, 4])
def test_best_iou_equals_trying_every_threshold(levels):
    maps, cells = random_maps(np.random.default_rng(3), levels=levels)
    for map_, cell, score in zip(maps, cells, metrics.best_iou(maps, cells), strict=True):
        chosen = [map_ >= threshold for threshold in np.unique(map_)]
        assert score == max((c & cell).sum() / (c | cell).sum() for c in chosen)


@pytest.mark.timed
def test_ten_thousand_words_are_scored_within_ten_seconds():
    rng = np.random.default_rng(4)
    mask = np.zeros((192, 256), bool)
    mask[60:130, 90:170] = True
    started = time.perf_counter()
    cells = np.stack([metrics.mask_cells(mask, (8, 8)) for _ in range(10_000)])
    cover = np.stack([metrics.mask_cover(mask, (8, 8)) for _ in range(10_000)])
    maps = rng.random((10_000, 8, 8))
    for measure in (metrics.pointing, metrics.auc, metrics.best_iou):
        assert len(measure(maps, cells)) == 10_000
    assert len(metrics.energy(maps, cover)) == 10_000
    assert time.perf_counter() - started < 10


# --- LBM


def slow_lbm(prediction, truth, k):
    """METHOD section 3 word by word, each segment solved as a linear program."""
    a, b = (prediction, truth) if len(prediction) <= len(truth) else (truth, prediction)
    c = 20 * len(b) / len(a)
    costs = []
    for s in range(math.ceil(len(a) / 20)):
        rows, columns = a[20 * s : 20 * (s + 1)], b[math.floor(s * c) : math.ceil((s + 1) * c)]
        p, m = len(rows), len(columns)
        pairs = [
            (i, j) for i in range(p) for j in range(m) if (i - k) * m / p <= j < (i + 1 + k) * m / p
        ]
        cost = [sum(abs(rows[i][q] - columns[j][q]) for q in range(4)) / 4 for i, j in pairs]
        takes = np.array([[i == row for i, _ in pairs] for row in range(p)], float)
        taken = np.array([[j == column for _, j in pairs] for column in range(m)], float)
        found = linprog(cost, A_ub=taken, b_ub=np.ones(m), A_eq=takes, b_eq=np.ones(p))
        assert found.status == 0
        costs.append(found.fun / p)
    return sum(costs) / len(costs)


@pytest.mark.parametrize("k", range(4))
def test_lbm_equals_linear_programming_on_200_random_traces(k):
    rng = np.random.default_rng(5)
    for _ in range(200):
        n, m = rng.integers(1, 50, 2)
        prediction, truth = rng.random((n, 4)), rng.random((m, 4))
        assert abs(metrics.lbm(prediction, truth, k) - slow_lbm(prediction, truth, k)) < 1e-9


def test_lbm_of_window_0_is_each_rows_best_in_its_own_block():
    rng = np.random.default_rng(6)
    short, long = rng.random((10, 4)), rng.random((30, 4))
    blocks = long.reshape(10, 3, 4)
    expected = np.abs(short[:, None] - blocks).mean(axis=2).min(axis=1).mean()
    assert math.isclose(metrics.lbm(short, long), expected, rel_tol=1e-12)
    assert metrics.lbm(long, short) == metrics.lbm(short, long)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6), n=st.integers(1, 70), m=st.integers(1, 70))
def test_lbm_never_rises_with_the_window_and_a_trace_equals_itself(seed, n, m):
    rng = np.random.default_rng(seed)
    prediction, truth = rng.random((n, 4)), rng.random((m, 4))
    costs = [metrics.lbm(prediction, truth, k) for k in range(5)]
    assert all(after <= before + 1e-12 for before, after in zip(costs, costs[1:], strict=False))
    assert metrics.lbm(truth, truth) == 0


def test_lbm_drops_true_rows_without_trace_and_keeps_predicted_ones():
    rng = np.random.default_rng(7)
    prediction, truth = rng.random((9, 4)), rng.random((9, 4))
    truth[[2, 5]] = np.nan
    kept = truth[[0, 1, 3, 4, 6, 7, 8]]
    assert metrics.lbm(prediction, truth, 1) == metrics.lbm(prediction, kept, 1)
    assert math.isnan(metrics.lbm(prediction, np.full((3, 4), np.nan)))
    assert math.isnan(metrics.lbm(np.empty((0, 4)), kept))


# --- retrieval


@pytest.mark.parametrize("levels", [None, 6])
def test_retrieval_equals_counting_rivals_one_by_one(levels):
    rng = np.random.default_rng(8)
    image_of = np.array([0, 0, 1, 2, 2, 2, 3, 5, 5, 6, 7, 7])  # image 4 has no caption
    similarity = rng.normal(size=(8, 12)) if levels is None else rng.integers(0, levels, (8, 12))
    image_ranks, text_ranks = [], []
    for image in set(image_of.tolist()):
        best = max(similarity[image, c] for c in range(12) if image_of[c] == image)
        rivals = [similarity[image, c] for c in range(12) if image_of[c] != image]
        image_ranks.append(1 + sum(r > best for r in rivals) + sum(r == best for r in rivals) / 2)
    for caption, image in enumerate(image_of):
        rivals = [similarity[i, caption] for i in range(8) if i != image]
        own = similarity[image, caption]
        text_ranks.append(1 + sum(r > own for r in rivals) + sum(r == own for r in rivals) / 2)
    scores = metrics.retrieval(similarity, image_of)
    for name, ranks in (("image_to_text", image_ranks), ("text_to_image", text_ranks)):
        for k in (1, 5, 10):
            expected = sum(rank <= k for rank in ranks) / len(ranks)
            assert math.isclose(scores[f"{name}_r{k}"], expected)
        assert scores[f"{name}_median_rank"] == np.median(ranks)


def test_retrieval_knows_the_perfect_the_constant_and_the_shifted():
    perfect = metrics.retrieval(np.eye(20))
    assert perfect["image_to_text_r1"] == perfect["text_to_image_r1"] == 1
    constant = metrics.retrieval(np.ones((21, 21)))
    assert constant["text_to_image_median_rank"] == constant["image_to_text_median_rank"] == 11
    assert constant["image_to_text_r1"] == 0
    shifted = metrics.retrieval(np.eye(20) + 2 * np.roll(np.eye(20), 1, axis=1))
    assert shifted["image_to_text_r1"] == 0
    assert shifted["image_to_text_r5"] == shifted["text_to_image_r5"] == 1
    assert shifted["text_to_image_median_rank"] == 2


def test_certainty_is_0_for_an_even_spread_1_for_one_cell_0_for_a_word_cut_off():
    maps = np.stack([np.full(49, 1 / 49), np.eye(49)[3], np.zeros(49)]).reshape(3, 7, 7)
    assert np.allclose(metrics.certainty(maps), [0, 1, 0], atol=1e-9)
