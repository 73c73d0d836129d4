"""A take grows by changes: what is new in it since its last save, as ui/static/changes.js says it.

    {"caption": [start, num_removed, text],
     "words": [start, num_removed, [{"utterance", "start_time", "end_time"}, ...]],
     "traces": [num_strokes, num_points, [[[x, y, t], ...], ...]],
     "studio": {...}}

Each part stands there only where it changed. Characters are counted as code points. Of the strokes,
`num_strokes` stay, and of the last of these `num_points`; the first stroke that comes continues it,
and the others follow.
"""

import json
import math
from collections.abc import Iterable
from typing import Any

Record = dict[str, Any]
PARTS = ("caption", "words", "traces", "studio")


def demand_change(change: Any) -> None:
    """Raises ValueError where the recorder would never say so; `apply` takes what passes here."""
    if not isinstance(change, dict) or not set(change) <= set(PARTS):
        raise ValueError("This is no change of a take. Reload the page, and try again.")
    is_right = {
        "caption": lambda: _is_splice(change["caption"], str),
        "words": lambda: _is_splice(change["words"], list),
        "traces": lambda: _is_splice(change["traces"], list) and _are_strokes(change["traces"][2]),
        "studio": lambda: isinstance(change["studio"], dict),
    }
    for name in change:
        if not is_right[name]():
            raise ValueError(f"The change of a take's {name} cannot be read. Reload the page.")


def apply(record: Record, change: Record) -> None:
    """Change the record in place, in the time of what is new. A place beyond the end is the end."""
    if "caption" in change:
        start, num_removed, text = change["caption"]
        caption = str(record.get("caption", ""))
        record["caption"] = caption[:start] + text + caption[start + num_removed :]

    if "words" in change:
        start, num_removed, words = change["words"]
        _list_in(record, "timed_caption")[start : start + num_removed] = words

    if "traces" in change:
        num_strokes, num_points, strokes = change["traces"]
        traces = _list_in(record, "traces")
        del traces[num_strokes:]
        new_strokes = [_points(stroke) for stroke in strokes]
        if traces and new_strokes and isinstance(traces[-1], list):
            traces[-1][num_points:] = new_strokes.pop(0)
        traces += [stroke for stroke in new_strokes if stroke]

    if "studio" in change:
        record["studio"] = change["studio"]


def merged(body: str, changes: Iterable[str]) -> str:
    """The record as JSON after its changes, the oldest first."""
    waiting = [json.loads(change) for change in changes]
    if not waiting:
        return body
    record = json.loads(body)
    for change in waiting:
        apply(record, change)
    return json.dumps(record)


def _list_in(record: Record, name: str) -> list[Any]:
    if not isinstance(record.get(name), list):
        record[name] = []
    return record[name]


def _points(stroke: list[list[float]]) -> list[dict[str, float]]:
    return [{"x": x, "y": y, "t": t} for x, y, t in stroke]


def _is_splice(part: Any, kind: type) -> bool:
    if not isinstance(part, list) or len(part) != 3:
        return False
    return all(type(count) is int and count >= 0 for count in part[:2]) and type(part[2]) is kind


def _are_strokes(strokes: list[Any]) -> bool:
    return all(
        isinstance(stroke, list) and all(_is_point(point) for point in stroke) for stroke in strokes
    )


def _is_point(point: Any) -> bool:
    if not isinstance(point, list) or len(point) != 3:
        return False
    return all(type(value) in (int, float) and math.isfinite(value) for value in point)
