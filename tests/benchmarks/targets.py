"""Word targets of a batch: all traces at once, against a polyline drawn for each word.

    python -m tests.benchmarks.targets

64 narratives of 40 words and about 480 points, 14 x 14 cells. The peer draws each word's part of
the trace at image resolution (640 x 480) and reduces it, as public tools do. Ours must also equal,
exactly, one narrative after the other, and the same count made by torch.
"""

import argparse
from collections.abc import Sequence

import cv2
import numpy as np
import torch

from loctex.records import trace
from loctex.records.narrative import Narrative
from loctex.records.words import windows
from tests.benchmarks import made, turns

GRID = (14, 14)


def drawn(strokes: trace.Strokes, bounds: np.ndarray) -> np.ndarray:
    """(T, 2) seconds -> (T, h, w): polylines on the image, averaged over each cell."""
    maps = np.empty((len(bounds), *GRID), dtype=np.float32)
    for number, window in enumerate(bounds):
        canvas = np.zeros((480, 640), dtype=np.uint8)
        for part in trace.cut(strokes, *window):
            points = np.round(part[:, :2] * (640, 480)).astype(np.int32).reshape(-1, 1, 2)
            cv2.polylines(canvas, [points], False, 255)
        maps[number] = cv2.resize(canvas, GRID[::-1], interpolation=cv2.INTER_AREA)
    return maps


def by_torch(strokes: trace.Strokes, bounds: np.ndarray) -> torch.Tensor:
    """The same counts as `trace.rasterize`, point by point with torch: (T, h, w)."""
    h, w = GRID
    maps = torch.zeros(len(bounds), h * w)
    limits = torch.from_numpy(trace.microseconds(bounds))
    latest = torch.tensor(-(2**62))  # where strokes overlap, time stands still
    for stroke in strokes:
        times = torch.from_numpy(trace.microseconds(stroke[:, 2]))
        places = torch.from_numpy(np.clip(stroke[:, :2], -4.0, 5.0) * (2.0 * w, 2.0 * h))
        steps = torch.diff(places, dim=0, append=places[-1:])
        delays = torch.diff(times, append=times[-1:])
        num = torch.floor(torch.hypot(*steps.T)).long() + 1
        source = torch.repeat_interleave(num)
        part = (torch.arange(len(source)) - (num.cumsum(0) - num)[source]) / num[source].double()
        places = places[source] + steps[source] * part[:, None]
        x, y = places[:, 0] / (2.0 * w), places[:, 1] / (2.0 * h)
        when = (times[source] + delays[source] * part).long()
        inside = (x >= 0) & (x <= 1) & (y >= 0) & (y <= 1)
        cells = (y * h).long().clamp_max(h - 1) * w + (x * w).long().clamp_max(w - 1)
        when, cells = when[inside], cells[inside]
        if len(when):
            when = torch.maximum(when.cummax(0).values, latest)
            latest = when[-1]
        for row, (start, end) in enumerate(limits):
            here = cells[(when >= start) & (when <= end)]
            maps[row] += torch.bincount(here, minlength=h * w)
    return maps.view(-1, h, w)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.targets", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--count", type=int, default=64, help="narratives of the batch [64]")
    parser.add_argument("--turns", type=int, default=5)
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    random = np.random.default_rng(0)
    said = [Narrative.from_json(made.narrative(random, str(i))) for i in range(given.count)]
    strokes = [narrative.strokes for narrative in said]
    bounds = [windows(narrative.words, 0.2) for narrative in said]
    together = trace.rasterize_batch(strokes, bounds, GRID)
    for maps, one, window in zip(together, strokes, bounds, strict=True):
        assert np.array_equal(maps, trace.rasterize(one, window, GRID)), "differs one by one"
        assert np.array_equal(maps, by_torch(one, window).numpy()), "differs from torch"
    slow, fast = turns.seconds(
        [
            lambda: [drawn(*pair) for pair in zip(strokes, bounds, strict=True)],
            lambda: trace.rasterize_batch(strokes, bounds, GRID),
        ],
        given.turns,
    )
    print(
        f"equal to the last count; polylines {slow / given.count * 1e6:,.0f} us a narrative, "
        f"ours {fast / given.count * 1e6:,.1f}"
    )
    print(f"ratio {slow / fast:.0f}")


if __name__ == "__main__":
    main()
