"""The measures of METHOD section 3, as functions of numpy arrays.

W words, a grid of h x w cells. Maps are (W, h, w) and need no unit mass. A word's region becomes
cells once, by one of the functions below, and each measure then scores all words at a time; means
are left to the caller, so that tables by word or by class come from the same numbers. NaN says
that a word or a trace cannot be scored: use np.nanmean.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from loctex.records import words

HALF_CELL = 0.5 + 1e-9  # distances are in cells; the surplus is for rounding
SEGMENT = 20  # rows of the shorter trace in one segment of LBM


# The trivial answers, by which every measure has its `_center` twin: a box and a Gaussian in the
# middle, in fractions of the side. Chosen by METHOD 3's numbers: on a 7 x 7 grid the Gaussian has
# energy .199 and AUC .647 on COCO val, AUC .601 on people's traces (energy .182 where its deviation
# is a quarter); the box has LBM .210 on COCO val, .217 on people's traces.
MIDDLE_BOX = (0.35, 0.35, 0.65, 0.65)
MIDDLE_DEVIATION = 0.2


# --- a region, in cells


def mask_cells(mask: np.ndarray, grid: tuple[int, int]) -> np.ndarray:
    """(H, W) bool of the whole image -> (h, w) bool: the cells whose choice is a hit.

    A hit is a cell whose center lies within half a cell of the region: Euclidean distance in
    units of cells, pixels taken as squares. An empty mask has none. (The reach is METHOD 3's.)
    """
    pixels = [np.flatnonzero(mask.any(axis=1 - axis)) for axis in (0, 1)]
    if not len(pixels[0]):
        return np.zeros(grid, bool)

    (top, bottom), (left, right) = ((p[0], p[-1] + 1) for p in pixels)
    y = np.arange(top, bottom) / mask.shape[0]
    x = np.arange(left, right) / mask.shape[1]

    across = _gaps(x, x + 1 / mask.shape[1], grid[1]) ** 2  # (w, X)
    down = _gaps(y, y + 1 / mask.shape[0], grid[0]) ** 2  # (h, Y)

    inside = mask[top:bottom, left:right]
    nearest = np.where(inside[:, None], across, np.inf).min(axis=2)  # (Y, w): within each row
    return (down[:, :, None] + nearest).min(axis=1) <= HALF_CELL**2


def box_cells(box: np.ndarray, grid: tuple[int, int]) -> np.ndarray:
    """The same for a box x0, y0, x1, y1 in fractions."""
    x0, y0, x1, y1 = np.asarray(box, float)[:, None]
    return _gaps(y0, y1, grid[0]) ** 2 + _gaps(x0, x1, grid[1]).T ** 2 <= HALF_CELL**2


def trace_cells(target: np.ndarray) -> np.ndarray:
    """Rendered traces (..., h, w) -> bool: the cells that the word's own trace passes through."""
    return target > 0


def mask_cover(mask: np.ndarray, grid: tuple[int, int]) -> np.ndarray:
    """(H, W) bool -> (h, w): the share of each cell's area that lies in the mask, exactly."""
    y, x = (np.arange(size + 1) / size for size in mask.shape)
    rows = _shares(y[:-1], y[1:], grid[0])
    return rows @ mask.astype(float) @ _shares(x[:-1], x[1:], grid[1]).T


def box_cover(box: np.ndarray, grid: tuple[int, int]) -> np.ndarray:
    """The same for a box x0, y0, x1, y1 in fractions."""
    x0, y0, x1, y1 = np.asarray(box, float)[:, None]
    return _shares(y0, y1, grid[0]) * _shares(x0, x1, grid[1]).T


def _gaps(low: np.ndarray, high: np.ndarray, cells: int) -> np.ndarray:
    """Intervals low..high (P,) in fractions -> (cells, P): cells from each center to them."""
    centers = np.arange(cells)[:, None] + 0.5
    return np.maximum(0, np.maximum(low * cells - centers, centers - high * cells))


def _shares(low: np.ndarray, high: np.ndarray, cells: int) -> np.ndarray:
    """Intervals low..high (P,) in fractions -> (cells, P): the share of each cell they cover."""
    edges = np.arange(cells)[:, None]
    return np.maximum(0, np.minimum(high * cells, edges + 1) - np.maximum(low * cells, edges))


# --- a map, against a region or a trace


def pointing(maps: np.ndarray, cells: np.ndarray) -> np.ndarray:
    """(W, h, w) maps and hit cells -> (W,) 0 or 1: is the strongest cell a hit?

    The pointing game (Zhang et al., ECCV 2016). Of equally strong cells each counts its share, so
    a constant map scores chance.
    """
    strongest = maps == maps.max(axis=(1, 2), keepdims=True)
    return (strongest & cells).sum(axis=(1, 2)) / strongest.sum(axis=(1, 2))


def pointing_chance(cells: np.ndarray) -> np.ndarray:
    """(W, h, w) hit cells -> (W,): the score of a cell drawn at random."""
    return cells.mean(axis=(1, 2))


def pointing_center(cells: np.ndarray) -> np.ndarray:
    """(W, h, w) hit cells -> (W,): the score of the middle cell, or the mean of the middle ones."""
    h, w = cells.shape[1:]
    return cells[:, (h - 1) // 2 : h // 2 + 1, (w - 1) // 2 : w // 2 + 1].mean(axis=(1, 2))


def middle_gaussian(shape: tuple[int, ...]) -> np.ndarray:
    """(W, h, w) maps, all the same Gaussian of MIDDLE_DEVIATION in the middle, of mass 1 (ours)."""
    h, w = shape[-2:]
    # Of whole numbers, so that cells equally far from the middle are equal to the last bit.
    y, x = ((2 * np.arange(size) + 1 - size) / (2 * size) for size in (h, w))
    gaussian = np.exp(-0.5 * (y[:, None] ** 2 + x[None, :] ** 2) / MIDDLE_DEVIATION**2)
    return np.broadcast_to(gaussian / gaussian.sum(), shape)


def energy(maps: np.ndarray, cover: np.ndarray) -> np.ndarray:
    """(W, h, w) maps >= 0 and covers -> (W,): the share of the mass inside; NaN without mass.

    The energy-based pointing game (Wang et al., Score-CAM, 2020); mass is even within a cell.
    """
    mass = maps.sum(axis=(1, 2), dtype=float)
    inside = (maps * cover).sum(axis=(1, 2), dtype=float)
    return np.divide(inside, mass, out=np.full(len(maps), np.nan), where=mass > 0)


def auc(maps: np.ndarray, cells: np.ndarray) -> np.ndarray:
    """(W, h, w) maps and bool cells -> (W,): area under the ROC curve; NaN for all or no cells."""
    from scipy.stats import rankdata  # half a second that the app need not wait for

    maps, cells = _in_rows(maps), _in_rows(cells)
    positives = cells.sum(axis=1)
    pairs = positives * (cells.shape[1] - positives)
    above = (rankdata(maps, axis=1) * cells).sum(axis=1) - positives * (positives + 1) / 2
    return np.divide(above, pairs, out=np.full(len(maps), np.nan), where=pairs > 0)


def best_iou(maps: np.ndarray, cells: np.ndarray) -> np.ndarray:
    """(W, h, w) maps and bool cells -> (W,): the best IoU of {map >= threshold} with the cells."""
    maps, cells = _in_rows(maps), _in_rows(cells)
    order = np.argsort(-maps, axis=1, kind="stable")
    maps, cells = (np.take_along_axis(values, order, axis=1) for values in (maps, cells))
    shared = cells.cumsum(axis=1)
    union = np.arange(1, maps.shape[1] + 1) + cells.sum(axis=1, keepdims=True) - shared
    is_threshold = np.diff(maps, axis=1, append=-np.inf) != 0  # equal values stay together
    return np.where(is_threshold, shared / union, 0).max(axis=1)


def certainty(maps: np.ndarray) -> np.ndarray:
    """(W, h, w) maps >= 0 -> (W,) 1 - entropy / log of the number of cells (ours).

    0 for an even spread and for a word that was not read, 1 for a single cell.
    """
    flat = _in_rows(maps).astype(np.float64)
    total = flat.sum(axis=1, keepdims=True)
    mass = flat / np.maximum(total, 1e-12)
    entropy = -(mass * np.log(np.maximum(mass, 1e-12))).sum(axis=1)
    result = np.clip(1 - entropy / np.log(max(flat.shape[1], 2)), 0.0, 1.0)
    return np.where(total[:, 0] > 0, result, 0.0)


def _in_rows(values: np.ndarray) -> np.ndarray:
    """(W, h, w) -> (W, h * w), of no words too, where reshape(0, -1) would not know."""
    return values.reshape(len(values), values.shape[1] * values.shape[2])


# --- a whole trace


def lbm(prediction: np.ndarray, truth: np.ndarray, window: int = 0) -> float:
    """Local bipartite matching of two traces, boxes (n, 4) and (m, 4) in fractions; 0 is best.

    Rows of `truth` that hold NaN (words without a trace) are dropped; NaN if either is empty.
    Source: Meng et al., CVPR 2021, as written down in METHOD 3: each row of the shorter trace takes
    one box of the longer, in a window around its own time, `window` rows wide to each side.
    """

    prediction, truth = np.asarray(prediction, float), np.asarray(truth, float)
    truth = truth[~np.isnan(truth).any(axis=1)]
    short, long = (prediction, truth) if len(prediction) <= len(truth) else (truth, prediction)
    if not len(short):
        return float("nan")

    costs, span = [], SEGMENT * len(long)  # in units of 1 / len(short): integers, so exact
    for s in range(-(-len(short) // SEGMENT)):
        rows = short[SEGMENT * s : SEGMENT * (s + 1)]
        columns = long[s * span // len(short) : -(-(s + 1) * span // len(short))]
        costs.append(_segment_cost(rows, columns, window))
    return float(np.mean(costs))


def _segment_cost(rows: np.ndarray, columns: np.ndarray, window: int) -> float:
    """(p, 4) and (m, 4), p <= m: mean cost of the best matching within the window."""
    from scipy.optimize import linear_sum_assignment  # slow to import, as above

    p, m = len(rows), len(columns)
    cost = np.abs(rows[:, None] - columns).mean(axis=2)
    i, j = np.ogrid[:p, :m]
    is_near = ((i - window) * m <= j * p) & (j * p < (i + 1 + window) * m)
    cost = np.where(is_near, cost, np.inf)
    return cost[linear_sum_assignment(cost)].mean()


def lbm_center(num_words: int, truth: np.ndarray, window: int = 0) -> float:
    """`lbm` of MIDDLE_BOX said of each of so many words (ours)."""
    return lbm(np.tile(MIDDLE_BOX, (num_words, 1)), truth, window)


# --- image and caption


def retrieval(
    similarity: np.ndarray,
    image_of: np.ndarray | None = None,
    captions: Sequence[str] | None = None,
) -> dict[str, float]:
    """Recall at 1, 5, 10 and median rank in both directions, of a similarity (images, captions).

    image_of (captions,): the image each caption belongs to; None: caption i belongs to image i.
    captions: their texts; an equal one of another image counts as the image's own, in both
    directions (METHOD 3); None: all differ. An image has the rank of its best caption, a caption
    that of its best image; an image without captions is only a distractor. A rival of equal
    similarity counts half, so a tie at the top is no hit at 1.
    """
    image_of = np.arange(similarity.shape[1]) if image_of is None else np.asarray(image_of)
    scores: dict[str, float] = {}
    for name, (rank, _) in retrieval_ranks(similarity, image_of, captions).items():
        scores |= {f"{name}_r{k}": float((rank <= k).mean()) for k in (1, 5, 10)}
        scores[f"{name}_median_rank"] = float(np.median(rank))
    return scores


def retrieval_ranks(
    similarity: np.ndarray, image_of: np.ndarray, captions: Sequence[str] | None = None
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """The ranks that `retrieval` counts, by direction, and the image that each belongs to."""
    is_own = own_captions(len(similarity), image_of, captions)
    images = np.flatnonzero(is_own.any(axis=1))
    image_rank = own_ranks(similarity[images], is_own[images])
    text_rank = own_ranks(similarity.T, is_own.T)
    return {"image_to_text": (image_rank, images), "text_to_image": (text_rank, image_of)}


def own_captions(
    num_images: int, image_of: np.ndarray, captions: Sequence[str] | None = None
) -> np.ndarray:
    """(images, captions) bool: is it one of the image's, or equal to one of them?

    Arguments as of `retrieval`; equal by `words.plain`.
    """
    text_of = np.arange(len(image_of))
    if captions is not None:
        text_of = np.unique([words.plain(text) for text in captions], return_inverse=True)[1]
    has_text = np.zeros((num_images, len(image_of)), dtype=bool)
    has_text[image_of, text_of] = True
    return has_text[:, text_of]


def own_ranks(values: np.ndarray, is_own: np.ndarray) -> np.ndarray:
    """(Q, C) values and which are the query's own -> (Q,) rank of the best own one: 1 + how many
    others are higher + half of the equal ones."""
    best = np.where(is_own, values, -np.inf).max(axis=1, keepdims=True)
    others = np.where(is_own, -np.inf, values)
    return 1 + (others > best).sum(axis=1) + (others == best).sum(axis=1) / 2


# --- how sure a mean is


def intervals(
    values: Mapping[str, np.ndarray],
    image_of: Mapping[str, np.ndarray],
    num_images: int,
    draws: int = 1000,
) -> dict[str, list[float]]:
    """95 % intervals of the means of `values`, [low, high] by name: a bootstrap over images.

    values: (N,) scores of words, narratives or images, NaN for what counts not; image_of: (N,) the
    image of each, from 0. Images are drawn anew with replacement, each with all its scores, so
    words of one image do not count as independent (Efron & Tibshirani, 1993, chapter 13: the
    percentile interval). The seed is fixed; all names see the same draws.
    """
    sums, counts = (np.zeros((num_images, len(values))) for _ in range(2))
    for column, (name, scores) in enumerate(values.items()):
        counted = ~np.isnan(scores)
        owners = image_of[name][counted]
        sums[:, column] = np.bincount(owners, scores[counted], num_images)
        counts[:, column] = np.bincount(owners, minlength=num_images)

    random = np.random.default_rng(0)
    means = np.full((draws, len(values)), np.nan)
    for mean in means:
        times = np.bincount(random.integers(0, num_images, num_images), minlength=num_images)
        num_scores = times @ counts
        np.divide(times @ sums, num_scores, out=mean, where=num_scores > 0)

    result = {}
    for column, name in enumerate(values):
        drawn = means[:, column][~np.isnan(means[:, column])]
        if len(drawn):
            result[name] = [float(end) for end in np.percentile(drawn, (2.5, 97.5))]
    return result
