"""metrics.jsonl -> the lines of a chart: read from where it was left, thinned to a screen."""

import threading
from array import array
from collections.abc import Sequence
from typing import Any

import numpy as np

from loctex.jobs.run import Run

LIMIT = 1000  # points of a line; a screen shows no more

_RETRIEVAL = (
    ("image_to_text_r1", "caption of an image"),
    ("text_to_image_r1", "image of a caption"),
    ("image_to_text_r1_reranked", "caption, re-ranked"),
    ("text_to_image_r1_reranked", "image, re-ranked"),
)
_POINTING = (
    ("pointing_region", "thing named"),
    ("pointing_region_chance", "chance"),
    ("pointing_trace", "person's trace"),
    ("pointing_trace_chance", "chance"),
)
PANELS = (  # (title, what it says, is a share, ((metric, its name in the legend), ...))
    (
        "Loss",
        "lower is better",
        False,
        (("loss", "total"), ("loss_contrastive", "match"), ("loss_localization", "pointing")),
    ),
    (
        "Fusion encoder",
        "losses: lower is better",
        False,
        (
            ("loss_matching", "true or false pair"),
            ("loss_soft_mask", "the same, dimmed"),
            ("loss_changed_word", "changed word"),
            ("loss_masked_words", "hidden words"),
            ("loss_fusion_localization", "pointing"),
        ),
    ),
    (
        "Pointing",
        "right place on new images; dotted: by chance",
        True,
        tuple((f"val_{key}", name) for key, name in _POINTING),
    ),
    (
        "Retrieval",
        "right at the first guess on new images",
        True,
        tuple((f"val_{key}", name) for key, name in _RETRIEVAL),
    ),
    ("Learning rate", "of the image side", False, (("learning_rate", "now"),)),
    ("Speed", "pairs a second", False, (("pairs_per_second", "now"),)),
    ("Waiting for images", "share of the time", True, (("data_wait", "now"),)),
    ("GPU memory", "GiB, the most so far", False, (("gpu_memory_gib", "taken"),)),
    ("GPU use", "share of the time in which it computes", True, (("gpu_use", "now"),)),
)


class History:
    """The metrics of one run as far as they were read: {name: (steps, values)}."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self._lock = threading.Lock()
        self._clear()

    def _clear(self, file: int | None = None) -> None:
        self.lines: dict[str, tuple[array, array]] = {}
        self._offset, self._file = 0, file

    def read(self) -> int:
        """Read what was added; returns the bytes read so far, which tell whether it changed."""
        with self._lock:
            try:
                status = self.run.metrics_file.stat()
            except FileNotFoundError:
                self._clear()
                return 0
            if status.st_ino != self._file or status.st_size < self._offset:
                self._clear(status.st_ino)  # written anew: a resumed run drops later lines
            if status.st_size > self._offset:
                rows, self._offset = self.run.read_metrics(self._offset)
                for row in rows:
                    self._add(row)
            return self._offset

    def _add(self, row: dict[str, Any]) -> None:
        step = row["step"]
        for name, value in row.items():
            if name not in ("step", "time") and value is not None:
                if name not in self.lines:
                    self.lines[name] = array("d"), array("d")
                steps, values = self.lines[name]
                steps.append(step)
                values.append(value)

    def line(self, name: str, limit: int = LIMIT) -> tuple[list[float], list[float]]:
        """Steps and values of a metric, thinned."""
        with self._lock:
            steps, values = (np.array(column) for column in self.lines[name])
        return thin(steps, values, limit)


def thin(steps: np.ndarray, values: np.ndarray, limit: int) -> tuple[list[float], list[float]]:
    """At most `limit` points of a line (N,): the lowest and the highest of each of limit / 2 - 1
    equal parts, in their order, so that no spike is lost. The first and the last step stay."""
    if len(steps) > limit:
        num_parts = limit // 2 - 1
        size = -(-(len(values) - 2) // num_parts)
        inner = np.pad(values[1:-1], (0, size * num_parts - len(values) + 2), mode="edge")
        blocks = inner.reshape(num_parts, size)

        starts = 1 + size * np.arange(num_parts)
        extremes = np.stack((starts + blocks.argmin(1), starts + blocks.argmax(1)), 1).ravel()
        indices = np.unique(
            np.concatenate(([0], extremes.clip(max=len(values) - 1), [len(values) - 1]))
        )
        steps, values = steps[indices], values[indices]

    return steps.tolist(), _short(values)


def _short(values: np.ndarray) -> list[float]:
    """Five digits: more than a screen shows, and half the bytes."""
    sizes = np.floor(np.log10(np.abs(np.where(values == 0, 1, values))))
    scales = 10.0 ** (4 - sizes)
    return (np.round(values * scales) / scales).tolist()


def chart(history: History, total_steps: int | None) -> dict[str, Any]:
    """What the Curves component draws: {run, steps, panels: [{title, note, is_share, lines}]}."""
    panels = [_panel(history, *panel) for panel in PANELS]
    return {
        "run": history.run.name,
        "steps": total_steps,
        "panels": [panel for panel in panels if panel["lines"]],
    }


def _panel(
    history: History, title: str, note: str, is_share: bool, names: Sequence[tuple[str, str]]
) -> dict[str, Any]:
    lines = []
    for name, label in names:
        if name in history.lines:
            x, y = history.line(name)
            lines.append({"name": label, "x": x, "y": y, "is_chance": name.endswith("_chance")})
    return {"title": title, "note": note, "is_share": is_share, "lines": lines}
