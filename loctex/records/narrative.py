"""One narrative: the public Localized Narratives record, checked once, at the door.

Format: https://google.github.io/localized-narratives (METHOD section 5). Coordinates are fractions
of the image (origin top left), times are seconds from the start of the recording. Accepted, because
the public files hold them: records without a trace, utterances of no length or of several words,
points outside 0..1, and an integer image_id, which becomes a string. Anything else is refused.
"""

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from loctex.records.files import draft_file
from loctex.records.text import is_wide, read_text

_OPTIONAL = ("timed_caption", "traces", "voice_recording")
_KNOWN = {"dataset_id", "image_id", "annotator_id", "caption", *_OPTIONAL}
_LONGEST = 1e6  # seconds: an epoch or milliseconds instead of seconds from the start
_FARTHEST = 10.0  # image sizes from the origin: pixels instead of fractions


class NarrativeError(ValueError):
    """A record is not a narrative; the message begins with the field."""


class Word(NamedTuple):
    """An utterance (one word or several) and when it was said, in seconds."""

    text: str
    start: float
    end: float


@dataclass(frozen=True, eq=False)
class Narrative:
    """What one annotator said about one image while pointing at it.

    strokes: (P, 3) float64 arrays of x, y (fractions) and t (seconds, never falling), P >= 1.
    voice: the recording's path as the record names it; a path of "" says, as none does, that there
    is no recording. extra: unknown keys, kept, and optional
    keys that were null. absent: optional keys that the record left out.
    """

    dataset_id: str
    image_id: str
    annotator_id: int
    caption: str
    words: tuple[Word, ...] = ()
    strokes: tuple[np.ndarray, ...] = ()
    voice: str | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)
    absent: frozenset[str] = frozenset()

    @property
    def duration(self) -> float:
        """The last time in words or strokes, in seconds; 0 if there is none."""
        ends = [word.end for word in self.words] + [float(s[-1, 2]) for s in self.strokes]
        return max(ends, default=0.0)

    @property
    def num_points(self) -> int:
        return sum(len(stroke) for stroke in self.strokes)

    @classmethod
    def from_json(cls, record: Mapping[str, Any] | str | bytes) -> "Narrative":
        """A record, parsed or as text; raises NarrativeError."""
        if isinstance(record, (str, bytes)):
            record = _parse(record)
        if not isinstance(record, Mapping):
            raise NarrativeError(f"record: must be a JSON object, got {_show(record)}")
        for key in ("dataset_id", "image_id", "annotator_id", "caption"):
            if key not in record:
                raise NarrativeError(f"{key}: is missing")
        image_id = record["image_id"]
        if isinstance(image_id, int) and not isinstance(image_id, bool):
            image_id = str(image_id)
        extra = {key: value for key, value in record.items() if key not in _KNOWN}
        _check_extra(extra)
        optional = {key: record[key] for key in _OPTIONAL if record.get(key) is not None}
        nulls = {key: None for key in _OPTIONAL if key in record and key not in optional}
        return cls(
            dataset_id=_text(record["dataset_id"], "dataset_id"),
            image_id=_text(image_id, "image_id"),
            annotator_id=_integer(record["annotator_id"], "annotator_id"),
            caption=_text(record["caption"], "caption"),
            words=_words(optional.get("timed_caption", [])),
            strokes=_strokes(optional.get("traces", [])),
            voice=_voice(optional.get("voice_recording")) or None,
            extra=extra | nulls,
            absent=frozenset(key for key in _OPTIONAL if key not in record),
        )

    def to_json(self) -> dict[str, Any]:
        """The public record, equal as JSON values to the one that came in; a voice_recording of ""
        is left out."""
        record: dict[str, Any] = {
            "dataset_id": self.dataset_id,
            "image_id": self.image_id,
            "annotator_id": self.annotator_id,
            "caption": self.caption,
        }
        if self.words or "timed_caption" not in self.absent:
            record["timed_caption"] = [
                {"utterance": w.text, "start_time": w.start, "end_time": w.end} for w in self.words
            ]
        if self.strokes or "traces" not in self.absent:
            record["traces"] = [
                [{"x": x, "y": y, "t": t} for x, y, t in stroke.tolist()] for stroke in self.strokes
            ]
        if self.voice is not None:
            record["voice_recording"] = self.voice
        return record | {key: v for key, v in self.extra.items() if not record.get(key)}


def read_jsonl(path: Path | str) -> Iterator[Narrative]:
    """The narratives of a file, one a line; ValueError "FILE:LINE: field: what is wrong"."""
    for number, line in numbered_lines(path):
        try:
            yield Narrative.from_json(line)
        except NarrativeError as error:
            raise ValueError(f"{path}:{number}: {error}") from error


def numbered_lines(path: Path | str) -> Iterator[tuple[int, bytes]]:
    """The lines of a file that are not blank, with their numbers from 1."""
    with open(path, "rb") as file:
        lines: Iterable[bytes] = file
        if is_wide(file.read(4)):  # whose line ends are not one byte
            lines = [line.encode() for line in read_text(Path(path)).splitlines()]
        file.seek(0)
        for number, line in enumerate(lines, 1):
            if line.strip():
                yield number, line


def write_jsonl(path: Path | str, narratives: Iterable[Narrative]) -> int:
    """Write one record a line, the file whole or not at all; returns how many."""
    path, count = Path(path), 0
    with draft_file(path) as draft, open(draft, "w", encoding="utf-8") as file:
        for narrative in narratives:
            file.write(json.dumps(narrative.to_json(), allow_nan=False) + "\n")
            count += 1
    return count


def _parse(record: str | bytes) -> Any:
    try:
        return json.loads(record if isinstance(record, str) else record.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise NarrativeError(f"record: is not JSON: {error}") from error


def _words(value: Any) -> tuple[Word, ...]:
    words = []
    for i, entry in enumerate(_list(value, "timed_caption")):
        where = f"timed_caption[{i}]"
        _object(entry, where, ("utterance", "start_time", "end_time"))
        start = _time(entry["start_time"], f"{where}.start_time")
        end = _time(entry["end_time"], f"{where}.end_time")
        if end < start:
            raise NarrativeError(f"{where}.end_time: {end:g} s lies before start_time {start:g} s")
        words.append(Word(_text(entry["utterance"], f"{where}.utterance"), start, end))
    return tuple(words)


def _strokes(value: Any) -> tuple[np.ndarray, ...]:
    strokes = []
    for i, points in enumerate(_list(value, "traces")):
        where = f"traces[{i}]"
        if not _list(points, where):
            raise NarrativeError(f"{where}: is a stroke without points; leave it out")
        stroke = _quick_stroke(points)
        strokes.append(_careful_stroke(points, where) if stroke is None else stroke)
    return tuple(strokes)


def _quick_stroke(points: list) -> np.ndarray | None:
    """The stroke if every point is plainly right; None sends it to `_careful_stroke`."""
    try:
        flat = [p[key] for p in points if len(p) == 3 for key in ("x", "y", "t")]
    except (TypeError, KeyError, IndexError):
        return None
    if len(flat) != 3 * len(points) or not set(map(type, flat)) <= {float}:
        return None
    stroke = np.array(flat).reshape(-1, 3)
    x_y, t = stroke[:, :2], stroke[:, 2]
    is_right = np.abs(x_y).max() <= _FARTHEST and t[0] >= 0 and t[-1] <= _LONGEST
    return stroke if is_right and (np.diff(t) >= 0).all() else None


def _careful_stroke(points: list, where: str) -> np.ndarray:
    """The same, point by point, to name what is wrong."""
    stroke, before = np.empty((len(points), 3)), 0.0
    for j, point in enumerate(points):
        at = f"{where}[{j}]"
        _object(point, at, ("x", "y", "t"))
        x, y = (_number(point[k], f"{at}.{k}") for k in ("x", "y"))
        for key, number in (("x", x), ("y", y)):
            if abs(number) > _FARTHEST:
                raise NarrativeError(f"{at}.{key}: must be a fraction of the image, got {number:g}")
        t = _time(point["t"], f"{at}.t")
        if t < before:
            raise NarrativeError(f"{at}.t: {t:g} s lies before the point before it, {before:g} s")
        stroke[j] = x, y, t
        before = t
    return stroke


def _list(value: Any, where: str) -> list:
    if not isinstance(value, list):
        raise NarrativeError(f"{where}: must be a list, got {_show(value)}")
    return value


def _object(value: Any, where: str, keys: tuple[str, ...]) -> None:
    if not isinstance(value, Mapping):
        raise NarrativeError(f"{where}: must be an object, got {_show(value)}")
    for key in keys:
        if key not in value:
            raise NarrativeError(f"{where}.{key}: is missing")
    for key in value:
        if key not in keys:
            raise NarrativeError(f"{where}.{key[:60]}: is unknown; known are {', '.join(keys)}")


def _text(value: Any, where: str) -> str:
    if not isinstance(value, str):
        raise NarrativeError(f"{where}: must be text, got {_show(value)}")
    if not value.strip():
        raise NarrativeError(f"{where}: must not be empty")
    return _storable(value, where)


def _voice(value: Any) -> str | None:
    if value is not None and not isinstance(value, str):
        raise NarrativeError(f"voice_recording: must be text, got {_show(value)}")
    return value if value is None else _storable(value, "voice_recording")


def _storable(text: str, where: str) -> str:
    """Half a surrogate pair has no UTF-8, and no database keeps a NUL."""
    if "\0" in text or any("\ud800" <= c <= "\udfff" for c in text):
        raise NarrativeError(f"{where}: holds a character that cannot be stored: {_show(text)}")
    return text


def _integer(value: Any, where: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or abs(value) >= 2**63:
        raise NarrativeError(f"{where}: must be an integer, got {_show(value)}")
    return value


def _number(value: Any, where: str) -> float:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not is_number or (isinstance(value, float) and not math.isfinite(value)):
        raise NarrativeError(f"{where}: must be a finite number, got {_show(value)}")
    if abs(value) > 2**53:  # an integer beyond this does not survive as float64
        raise NarrativeError(f"{where}: is too large, got {_show(value)}")
    return float(value)


def _time(value: Any, where: str) -> float:
    seconds = _number(value, where)
    if not 0 <= seconds <= _LONGEST:
        raise NarrativeError(f"{where}: must be seconds from the start, got {seconds:g}")
    return seconds


def _check_extra(extra: Mapping[str, Any]) -> None:
    """Unknown keys hold anything that JSON has: no NaN, no infinity, no foreign object."""
    for key, value in extra.items():
        try:
            json.dumps({key: value}, allow_nan=False)
        except (ValueError, TypeError, RecursionError) as error:
            raise NarrativeError(f"{key[:60]}: is not a JSON value: {error}") from error


def _show(value: Any) -> str:
    text = repr(value) if not isinstance(value, int) or abs(value) < 2**63 else "a huge integer"
    return text if len(text) <= 60 else text[:57] + "..."
