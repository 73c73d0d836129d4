from itertools import pairwise

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loctex.loading import augment
from loctex.loading.augment import Augmentation
from loctex.records import trace
from loctex.records.narrative import read_jsonl
from loctex.records.words import windows

FLIP = augment.affine(Augmentation(is_flipped=True))


def random_trace(random: np.random.Generator, num_strokes: int = 3) -> tuple[np.ndarray, ...]:
    strokes, t = [], 0.0
    for _ in range(num_strokes):
        length = random.integers(1, 40)
        xy = random.uniform(-0.1, 1.1, 2) + np.cumsum(random.normal(0, 0.03, (length, 2)), axis=0)
        times = t + np.cumsum(random.uniform(0, 0.05, length))
        t = times[-1] + 0.5
        strokes.append(np.column_stack((xy, times)))
    return tuple(strokes)


def slow_raster(strokes, windows, grid) -> np.ndarray:
    """One sample at a time, as the docstring of `rasterize` says it."""
    h, w = grid
    maps = np.zeros((len(windows), h, w), dtype=np.float32)
    last = [None] * len(windows)  # the cell in which the pointer rests where the window begins
    for stroke in strokes:
        samples = []
        for i in range(len(stroke)):
            x0, y0, t0 = stroke[i]
            x1, y1, t1 = stroke[min(i + 1, len(stroke) - 1)]
            num = int(np.hypot((x1 - x0) * 2 * w, (y1 - y0) * 2 * h)) + 1
            for k in range(num):
                x, y = x0 + (x1 - x0) * k / num, y0 + (y1 - y0) * k / num
                t = int(round(t0 * 1e6) + (round(t1 * 1e6) - round(t0 * 1e6)) * k / num)
                samples.append((x, y, t))
                if 0 <= x <= 1 and 0 <= y <= 1:
                    for number, (start, end) in enumerate(windows):
                        if round(start * 1e6) <= t <= round(end * 1e6):
                            maps[number, min(int(y * h), h - 1), min(int(x * w), w - 1)] += 1
        for (x, y, t), (_, _, later) in pairwise(samples):
            for number, (start, _) in enumerate(windows):
                if t < round(start * 1e6) < later and 0 <= x <= 1 and 0 <= y <= 1:
                    last[number] = min(int(y * h), h - 1), min(int(x * w), w - 1)
    for number, cell in enumerate(last):
        if cell is not None and not maps[number].any():
            maps[number][cell] = 1
    return maps


@pytest.mark.parametrize("grid", [(7, 7), (14, 14), (3, 5)])
def test_raster_equals_the_slow_reference_on_random_traces(grid):
    random = np.random.default_rng(0)
    for _ in range(10):
        strokes = random_trace(random)
        bounds = np.sort(random.uniform(0, 4, (6, 2)), axis=1)
        fast = trace.rasterize(strokes, bounds, grid)
        slow = slow_raster(strokes, bounds, grid)
        assert np.abs(fast - slow).sum() <= 1e-3 * slow.sum() + 1  # rounding at a cell's edge


def test_a_pointer_that_rests_in_a_stroke_fills_the_cell_it_was_at_last():
    strokes = [
        np.array([[0.1, 0.1, 0.0], [0.3, 0.1, 1.0], [0.9, 0.9, 3.0]]),  # rests at (.3, .1)
        np.array([[0.6, 0.6, 5.0], [1.2, 0.6, 8.0], [0.6, 0.9, 10.0]]),  # leaves the image
    ]
    still = [strokes[0].copy(), strokes[1]]
    still[0][2, :2] = 0.3, 0.1
    bounds = np.array([[1.5, 2.5], [0.2, 2.5], [3.5, 4.5], [5.5, 5.6], [9.9, 9.95], [2.5, 1.5]])
    maps = trace.rasterize(still, bounds, (2, 2))
    assert maps[0].tolist() == [[1, 0], [0, 0]]  # said while it rested
    assert maps[1].sum() == 1  # its own point alone: what has points is as it was
    assert maps[2].sum() == 0  # between two strokes it was outside
    assert maps[3].tolist() == [[0, 0], [0, 1]]
    assert maps[4].sum() == 1 and maps[5].sum() == 0
    boxes = trace.boxes(still, bounds)
    np.testing.assert_array_equal(boxes[[0, 3]], [[0.3, 0.1] * 2, [0.6, 0.6] * 2])
    assert np.isnan(boxes[[2, 5]]).all() and not np.isnan(boxes[[0, 1, 3, 4]]).any()
    assert trace.rasterize(still, bounds[2:3] + 3.0, (2, 2)).sum() > 0
    # One that left the image from its last place is not held there after it came to be outside.
    leaving = [np.array([[0.5, 0.5, 0.0], [3.0, 0.5, 1.0], [3.0, 0.5, 4.0], [0.5, 0.5, 5.0]])]
    assert trace.rasterize(leaving, np.array([[2.0, 3.0]]), (2, 2)).sum() == 0


def test_many_traces_at_once_equal_one_by_one():
    random = np.random.default_rng(1)
    traces = [random_trace(random, n) for n in (0, 1, 5, 2)]
    bounds = [np.sort(random.uniform(0, 4, (n, 2)), axis=1) for n in (3, 0, 4, 2)]
    together = trace.rasterize_batch(traces, bounds, (14, 14))
    for strokes, part, maps in zip(traces, bounds, together, strict=True):
        np.testing.assert_array_equal(maps, trace.rasterize(strokes, part, (14, 14)))
    crops = [
        Augmentation(box=(0.1 * k, 0.0, 0.9, 0.7 + 0.1 * k), is_flipped=k > 1) for k in range(4)
    ]
    affines = np.stack([augment.affine(crop) for crop in crops])
    together = trace.rasterize_batch(traces, bounds, (14, 14), affines)
    for strokes, part, maps, crop in zip(traces, bounds, together, crops, strict=True):
        moved = augment.apply_to_trace(strokes, crop)
        np.testing.assert_array_equal(maps, trace.rasterize(moved, part, (14, 14)))


def test_one_point_counts_once_and_the_last_edge_belongs_to_the_last_cell():
    maps = trace.rasterize([np.array([[1.0, 1.0, 0.5]])], np.array([[0.0, 1.0]]), (4, 4))
    assert maps[0, 3, 3] == 1 and maps.sum() == 1


def test_points_outside_the_image_and_outside_the_window_are_dropped():
    stroke = np.array([[-0.05, 0.5, 0.1], [-0.02, 0.5, 0.2]])
    assert trace.rasterize([stroke], np.array([[0.0, 1.0]]), (4, 4)).sum() == 0
    inside = np.array([[0.5, 0.5, 2.0]])
    empty = np.array([[0.0, 1.0], [3.0, 1.0], [np.nan, np.nan]])
    assert trace.rasterize([inside], empty, (4, 4)).sum() == 0


def test_a_wild_point_costs_no_memory_and_hits_no_cell():
    stroke = np.array([[0.5, 0.5, 0.0], [1e308, -1e308, 0.1]])
    maps = trace.rasterize([stroke], np.array([[0.0, 0.0]]), (4, 4))
    assert maps.sum() == 1


@settings(deadline=None)
@given(st.integers(0, 10_000))
def test_the_raster_of_the_flipped_trace_is_the_flipped_raster(seed):
    random = np.random.default_rng(seed)
    strokes = [s * (1, 1, 1) for s in random_trace(random)]
    # On a dyadic lattice 1 - x is exact; cells' edges are avoided by an odd offset.
    strokes = [
        np.column_stack((np.round(s[:, :2] * 1024) / 1024 + 1 / 4096, s[:, 2])) for s in strokes
    ]
    points = [s[:1] for s in strokes]
    bounds = np.array([[0.0, 5.0], [0.5, 1.0]])
    flipped = trace.rasterize(trace.move(points, FLIP), bounds, (8, 8))
    np.testing.assert_array_equal(flipped, trace.rasterize(points, bounds, (8, 8))[:, :, ::-1])


def test_flipping_twice_is_the_identity():
    strokes = random_trace(np.random.default_rng(2))
    for before, after in zip(strokes, trace.move(trace.move(strokes, FLIP), FLIP), strict=True):
        np.testing.assert_allclose(after, before, atol=1e-15)


def test_boxes_hold_the_points_of_each_window_over_all_strokes():
    strokes = [np.array([[0.2, 0.3, 0.0], [0.4, 0.1, 1.0]]), np.array([[0.9, 0.8, 1.5]])]
    bounds = np.array([[0.0, 0.5], [0.5, 2.0], [3.0, 4.0]])
    found = trace.boxes(strokes, bounds)
    np.testing.assert_array_equal(found[:2], [[0.2, 0.3, 0.2, 0.3], [0.4, 0.1, 0.9, 0.8]])
    assert np.isnan(found[2]).all() and trace.boxes([], bounds[:0]).shape == (0, 4)


def test_cropping_a_quarter_doubles_what_is_inside():
    stroke = np.array([[0.5, 0.25, 0.0], [0.25, 0.5, 1.0], [0.9, 0.9, 2.0]])
    cropped = augment.apply_to_trace([stroke], Augmentation(box=(0.0, 0.0, 0.5, 0.5)))[0]
    np.testing.assert_allclose(cropped[:2, :2], [[1.0, 0.5], [0.5, 1.0]])
    assert (cropped[2, :2] > 1).all()


def test_mass_box_holds_half_of_two_peaks():
    maps = np.zeros((1, 4, 4))
    maps[0, 1, 2], maps[0, 3, 3] = 0.6, 0.4
    np.testing.assert_allclose(trace.mass_box(maps)[0], [0.5, 0.25, 0.75, 0.5])
    np.testing.assert_allclose(trace.mass_box(maps, 0.7)[0], [0.5, 0.25, 1.0, 1.0])


def test_centroid_of_one_cell_is_its_center_and_of_nothing_the_middle():
    maps = np.zeros((2, 4, 4))
    maps[0, 0, 3] = 2.0
    np.testing.assert_allclose(trace.centroid(maps), [[0.875, 0.125], [0.5, 0.5]])


def naive_map(strokes, window, grid, scale=32) -> np.ndarray:
    """The polyline of the window drawn at image resolution, then reduced."""
    h, w = grid
    canvas = np.zeros((h * scale, w * scale), dtype=np.uint8)
    for part in trace.cut(strokes, *window):
        points = np.round(part[:, :2] * (w * scale, h * scale)).astype(np.int32)
        cv2.polylines(canvas, [points.reshape(-1, 1, 2)], False, 1)
        for x, y in points:
            cv2.circle(canvas, (int(x), int(y)), 0, 1)
    return canvas.reshape(h, scale, w, scale).sum(axis=(1, 3)).astype(np.float64)


def test_on_real_traces_the_map_is_close_to_the_drawn_polyline(shared_data):
    cosines = []
    for narrative in read_jsonl(shared_data / "vidln" / "vidln_as_ln.jsonl"):
        bounds = windows(narrative.words, 0.2)
        for window, fast in zip(
            bounds, trace.rasterize(narrative.strokes, bounds, (14, 14)), strict=True
        ):
            naive = naive_map(narrative.strokes, window, (14, 14))
            if naive.any() and fast.any():
                cosines.append((naive * fast).sum() / np.linalg.norm(naive) / np.linalg.norm(fast))
    assert len(cosines) > 200
    assert np.mean(cosines) > 0.9


def test_a_smoothed_path_leans_on_the_words_that_are_sure():
    path = np.array([[0.0, 0.0, 0.0], [1.0, 1.0, 0.35], [0.0, 0.0, 0.7]])
    even = trace.smooth(path, np.ones(3))
    near = np.exp(-0.5)
    np.testing.assert_allclose(even[1], 1 / (1 + 2 * near))
    unsure = trace.smooth(path, np.array([1, 0, 1]))
    np.testing.assert_allclose(unsure, 0, atol=1e-5)
    np.testing.assert_allclose(trace.smooth(path * (1, 1, 100), np.ones(3)), path[:, :2], atol=1e-9)
