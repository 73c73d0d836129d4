"""Mouse traces: strokes in, cut, mirrored, cropped and counted on a grid. Numpy only.

A stroke is a (P, 3) float64 array of x, y (fractions of the image, origin top left) and t
(seconds from the start of the recording). A trace is a sequence of strokes; a new one starts
each time the pointer re-enters the image. Points may lie outside 0..1 (a border is recorded).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

Strokes = Sequence[np.ndarray]


def microseconds(seconds: np.ndarray) -> np.ndarray:
    """Times as int64 microseconds: equal times stay equal in every array type."""
    return np.rint(np.asarray(seconds, dtype=np.float64) * 1e6).astype(np.int64)


def cut(strokes: Strokes, start: float, end: float) -> tuple[np.ndarray, ...]:
    """The parts of each stroke recorded in [start, end] seconds; empty parts are left out."""
    first, last = microseconds(np.array([start, end]))
    pieces = []
    for stroke in strokes:
        t = microseconds(stroke[:, 2])
        piece = stroke[(t >= first) & (t <= last)]
        if len(piece):
            pieces.append(piece)
    return tuple(pieces)


def move(strokes: Strokes, affine: np.ndarray) -> tuple[np.ndarray, ...]:
    """The trace with its places moved by a (2, 3) map; what falls outside stays, beyond 0..1."""
    return tuple(
        np.column_stack((s[:, :2] @ affine[:, :2].T + affine[:, 2], s[:, 2])) for s in strokes
    )


def box(points: np.ndarray) -> np.ndarray:
    """(P, 2 or 3) points -> (4,) smallest box x0, y0, x1, y1."""
    return np.concatenate((points[:, :2].min(axis=0), points[:, :2].max(axis=0)))


def boxes(strokes: Strokes, windows: np.ndarray) -> np.ndarray:
    """(T, 2) seconds -> (T, 4): the box of the points of each window; NaN where there is none.

    A window without points in which the pointer rests has the box of that place alone (`resting`).
    """
    result = np.full((len(windows), 4), np.nan)
    for i, (start, end) in enumerate(windows):
        points = cut(strokes, start, end)
        if not points and end >= start:
            points = resting(strokes, start)
        if points:
            result[i] = box(np.concatenate(points))
    return result


def resting(strokes: Strokes, time: float) -> tuple[np.ndarray, ...]:
    """The (1, 3) last point before `time` in seconds, of each stroke that has a later one too.

    A browser tells of a pointer when it moves: in a gap inside a stroke it rests where it was last.
    """
    moment = microseconds(np.array(time))
    points = []
    for stroke in strokes:
        t = microseconds(stroke[:, 2])
        before = np.flatnonzero(t < moment)
        if len(before) and before[-1] + 1 < len(t):
            points.append(stroke[before[-1]][None])
    return tuple(points)


def centroid(maps: np.ndarray) -> np.ndarray:
    """(..., h, w) maps -> (..., 2) center of mass x, y in fractions; (.5, .5) for an empty map."""
    h, w = maps.shape[-2:]
    mass = maps.sum(axis=(-2, -1))
    x = (maps.sum(axis=-2) * ((np.arange(w) + 0.5) / w)).sum(axis=-1)
    y = (maps.sum(axis=-1) * ((np.arange(h) + 0.5) / h)).sum(axis=-1)
    center = np.stack((x, y), axis=-1) / np.where(mass > 0, mass, 1.0)[..., None]
    return np.where(mass[..., None] > 0, center, 0.5)


def smooth(path: np.ndarray, weight: np.ndarray, seconds: float = 0.35) -> np.ndarray:
    """(W, 3) x, y, t and how much each counts (W,) -> (W, 2): each a mean of its neighbors in time.

    A Gaussian of `seconds`, about a word; who counts little leans on who counts much. (Ours.)
    """
    apart = (path[:, None, 2] - path[None, :, 2]) / seconds
    near = np.exp(-0.5 * apart**2) * np.maximum(weight, 1e-6)
    return near @ path[:, :2] / near.sum(axis=1, keepdims=True)


def mass_box(maps: np.ndarray, share: float = 0.5) -> np.ndarray:
    """(..., h, w) maps -> (..., 4) box around the strongest cells that together hold `share`.

    Cells are taken from the strongest down until their mass reaches `share` of the map's.
    """
    h, w = maps.shape[-2:]
    flat = maps.reshape(-1, h * w)
    order = np.argsort(-flat, axis=1, kind="stable")
    held = np.cumsum(np.take_along_axis(flat, order, axis=1), axis=1)
    needed = (held < share * held[:, -1:]).sum(axis=1, keepdims=True)
    is_chosen = np.zeros(flat.shape, dtype=bool)
    np.put_along_axis(is_chosen, order, np.arange(h * w) <= needed, axis=1)
    cells = is_chosen.reshape(-1, h, w)
    columns = np.asarray(cells.any(axis=1))
    rows = np.asarray(cells.any(axis=2))
    boxes = np.stack(
        (
            columns.argmax(axis=1) / w,
            rows.argmax(axis=1) / h,
            1 - columns[:, ::-1].argmax(axis=1) / w,
            1 - rows[:, ::-1].argmax(axis=1) / h,
        ),
        axis=1,
    )
    return boxes.reshape(*maps.shape[:-2], 4)


def word_boxes(maps: np.ndarray, size: Sequence[float] | None) -> np.ndarray:
    """(..., h, w) maps -> (..., 4), the box of each word: of the usual size (width, height) about
    the map's centroid, cut at the image's edges (METHOD 3). size None: `mass_box` of half the mass.
    """
    if size is None:
        return mass_box(maps)
    center, half = centroid(maps), np.asarray(size) / 2
    return np.clip(np.concatenate((center - half, center + half), axis=-1), 0.0, 1.0)


def rasterize(strokes: Strokes, windows: np.ndarray, grid: tuple[int, int]) -> np.ndarray:
    """Trace points counted on a grid, one map per time window.

    Each stroke is resampled at a step below half a cell, so the counts follow its polyline and
    dwell on a place counts too. A window without a point, in which the pointer rests in a gap of
    its stroke, holds the place it was at last, once. windows: (T, 2) start and end in seconds, both
    included; a window with end < start, or NaN, is empty. grid: (h, w). Returns (T, h, w) float32
    counts. Points outside the image are dropped; x = 1.0 belongs to the last cell. (Ours; METHOD 1,
    and 6 for the pointer that rests.)
    """
    return rasterize_batch([strokes], [np.asarray(windows)], grid)[0]


def rasterize_batch(
    traces: Sequence[Strokes],
    windows: Sequence[np.ndarray],
    grid: tuple[int, int],
    affines: np.ndarray | None = None,
) -> list[np.ndarray]:
    """`rasterize` of many traces at once, equal to one by one; one ragged bincount for all.

    affines: (B, 2, 3) a map for each trace, by which its places are moved before.
    """
    return rasterize_grids(traces, windows, [grid], affines)[0]


def rasterize_grids(
    traces: Sequence[Strokes],
    windows: Sequence[np.ndarray],
    grids: Sequence[tuple[int, int]],
    affines: np.ndarray | None = None,
) -> list[list[np.ndarray]]:
    """`rasterize_batch` on several grids, the finest first: for each grid the maps of each trace.

    All count the same points, those of the finest grid, each in its own cells: every grid has the
    same mass for a window, and cells that are unions of finer ones have the sum of their counts.
    """
    counts = [len(trace_windows) for trace_windows in windows]
    strokes = [stroke for trace in traces for stroke in trace if len(stroke)]
    if strokes and sum(counts):
        owner = np.repeat(np.arange(len(traces)), [sum(len(s) for s in trace) for trace in traces])
        maps = _count(_resample(strokes, owner, grids[0], affines), windows, grids)
    else:
        maps = [np.zeros((sum(counts), h * w), dtype=np.float32) for h, w in grids]

    ends = np.cumsum(counts)[:-1]
    results = []
    for (h, w), flat in zip(grids, maps, strict=True):
        results.append([rows.reshape(-1, h, w) for rows in np.split(flat, ends)])
    return results


@dataclass(frozen=True)
class _Points:
    """The P points of resampled strokes that lie inside the image, in order."""

    x: np.ndarray  # (P,) fractions
    y: np.ndarray
    t: np.ndarray  # (P,) int64 microseconds
    held_until: np.ndarray  # (P,) int64: when the next point of the stroke came, inside or not
    owner: np.ndarray  # (P,) number of the trace


def _resample(
    strokes: Sequence[np.ndarray],
    owner: np.ndarray,
    grid: tuple[int, int],
    affines: np.ndarray | None,
) -> _Points:
    """Strokes -> points less than half a cell of `grid` apart, those inside the image."""
    h, w = grid
    x, y, t = np.ascontiguousarray(np.concatenate(strokes).T)
    t = microseconds(t)
    if affines is not None:
        (xx, xy, x0), (yx, yy, y0) = affines.transpose(1, 2, 0).take(owner, axis=2)
        x, y = xx * x + xy * y + x0, yx * x + yy * y + y0
    # Coordinates in half cells; clipped so that a wild point cannot ask for a million samples.
    x, y = np.clip(x, -4.0, 5.0) * (2.0 * w), np.clip(y, -4.0, 5.0) * (2.0 * h)
    dx, dy, dt = (np.diff(values, append=values[-1:]) for values in (x, y, t))
    last_points = np.cumsum([len(s) for s in strokes]) - 1
    dx[last_points] = dy[last_points] = 0.0  # no line from stroke to stroke
    num = np.floor(np.hypot(dx, dy)).astype(np.int64) + 1
    source = np.repeat(np.arange(len(num)), num)
    within = np.arange(len(source)) - (np.cumsum(num) - num).take(source)
    values = within / num.take(source)
    x, y, t = (a.take(source) + d.take(source) * values for a, d in ((x, dx), (y, dy), (t, dt)))
    x, y, t = x / (2.0 * w), y / (2.0 * h), t.astype(np.int64)

    is_last = np.zeros(len(t), dtype=bool)  # of its stroke
    is_last[np.cumsum(num)[last_points] - 1] = True
    held_until = np.where(is_last, t, np.append(t[1:], t[-1]))
    inside = np.flatnonzero((x >= 0) & (x <= 1) & (y >= 0) & (y <= 1))
    return _Points(x[inside], y[inside], t[inside], held_until[inside], owner.take(source[inside]))


def _count(
    points: _Points, windows: Sequence[np.ndarray], grids: Sequence[tuple[int, int]]
) -> list[np.ndarray]:
    """Per grid (all windows, N) float32: the points of each window, found by binary search."""
    bounds = np.concatenate([np.reshape(trace_windows, (-1, 2)) for trace_windows in windows])
    used = bounds[:, 1] >= bounds[:, 0]  # False for NaN
    bounds = np.where(used[:, None], bounds, 0.0)
    trace = np.repeat(np.arange(len(windows)), [len(trace_windows) for trace_windows in windows])
    # One rising key for all points: the trace's number, then the time. Times inside a trace may
    # step back where strokes overlap; the running maximum puts such points at the last time.
    keys = np.maximum.accumulate(_key(points.owner, points.t))
    start = microseconds(bounds[:, 0])
    start_key = np.searchsorted(keys, _key(trace, start), side="left")
    end_key = np.searchsorted(keys, _key(trace, microseconds(bounds[:, 1])), side="right")
    num = np.where(used, np.maximum(end_key - start_key, 0), 0)

    # Where a window has no point, the one before it may be held: the pointer rests there.
    empty = np.flatnonzero(used & (num == 0) & (start_key > 0))
    before = start_key[empty] - 1
    rests = (points.owner[before] == trace[empty]) & (points.held_until[before] > start[empty])
    start_key[empty[rests]], num[empty[rests]] = before[rests], 1

    row = np.repeat(np.arange(len(num)), num)
    point = np.arange(len(row)) - (np.cumsum(num) - num - start_key).take(row)
    maps = []
    for h, w in grids:
        columns = np.minimum((points.x * w).astype(np.int64), w - 1)
        cells = np.minimum((points.y * h).astype(np.int64), h - 1) * w + columns
        counts = np.bincount(row * (h * w) + cells[point], minlength=len(num) * h * w)
        maps.append(counts.reshape(len(num), h * w).astype(np.float32))
    return maps


def _key(owner: np.ndarray, times: np.ndarray) -> np.ndarray:
    """(trace number, microseconds) as one int64; times are held within +-12 days."""
    return (owner << 41) + np.clip(times, -(2**40), 2**40 - 1)
