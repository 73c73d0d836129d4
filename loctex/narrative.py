"""One narrative: the public Localized Narratives record, checked once, at the door.

Format: https://google.github.io/localized-narratives (METHOD section 5). Coordinates are fractions
of the image, times are seconds from the start of the recording. Accepted, because the public files
hold them: rows without traces, utterances of no length or of several words, points outside 0..1,
and an integer image_id, which becomes a string.
"""

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

_KNOWN = ("dataset_id", "image_id", "annotator_id", "caption", "timed_caption", "traces")


class NarrativeError(ValueError):
    """A record is not a narrative; the message begins with the field."""


@dataclass(frozen=True)
class Word:
    """An utterance (one word or several) and when it was said, in seconds."""

    text: str
    start: float
    end: float


@dataclass(frozen=True, eq=False)
class Narrative:
    """What one annotator said of one image while pointing.

    strokes: tuple of (P, 3) float64 arrays of x, y (fractions) and t (seconds).
    voice: the recording's path as the record names it. extra: unknown keys, kept.
    """

    dataset_id: str
    image_id: str
    annotator_id: int
    caption: str
    words: tuple[Word, ...] = ()
    strokes: tuple[np.ndarray, ...] = ()
    voice: str | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)

    @property
    def duration(self) -> float:
        """The last time in words or strokes, in seconds; 0 if there is none."""
        ends = [word.end for word in self.words]
        return max(ends + [float(s[:, 2].max()) for s in self.strokes if len(s)], default=0.0)

    @classmethod
    def from_json(cls, record: Mapping[str, Any] | str | bytes) -> "Narrative":
        """A record as parsed or raw JSON; NarrativeError names the field and what is wrong."""
        if isinstance(record, (str, bytes)):
            try:
                record = json.loads(record)
            except (ValueError, RecursionError) as error:
                raise NarrativeError(f"not JSON: {error}") from error
        if not isinstance(record, Mapping):
            raise NarrativeError(f"a narrative is a JSON object, got {_show(record)}")
        image_id = record.get("image_id")
        if isinstance(image_id, int) and not isinstance(image_id, bool):
            image_id = str(image_id)
        voice = record.get("voice_recording")
        return cls(
            dataset_id=_text(record.get("dataset_id"), "dataset_id"),
            image_id=_text(image_id, "image_id"),
            annotator_id=_integer(record.get("annotator_id"), "annotator_id"),
            caption=_text(record.get("caption"), "caption", may_be_empty=True),
            words=_words(record.get("timed_caption")),
            strokes=_strokes(record.get("traces")),
            voice=None if voice is None else _text(voice, "voice_recording", may_be_empty=True),
            extra={
                key: value
                for key, value in record.items()
                if key not in _KNOWN and (key != "voice_recording" or value is None)
            },
        )

    def to_json(self) -> dict[str, Any]:
        """The public record."""
        record: dict[str, Any] = {
            "dataset_id": self.dataset_id,
            "image_id": self.image_id,
            "annotator_id": self.annotator_id,
            "caption": self.caption,
            "timed_caption": [
                {"utterance": w.text, "start_time": w.start, "end_time": w.end} for w in self.words
            ],
            "traces": [
                [{"x": x, "y": y, "t": t} for x, y, t in stroke.tolist()] for stroke in self.strokes
            ],
        }
        if self.voice is not None:
            record["voice_recording"] = self.voice
        return record | dict(self.extra)


def _words(value: Any) -> tuple[Word, ...]:
    words = []
    for i, part in enumerate(_list(value, "timed_caption")):
        where = f"timed_caption[{i}]"
        _object(part, where, ("utterance", "start_time", "end_time"))
        start = _number(part["start_time"], f"{where}.start_time")
        end = _number(part["end_time"], f"{where}.end_time")
        if end < start:
            raise NarrativeError(f"{where}.end_time: {end:g} s lies before start_time {start:g} s")
        words.append(Word(_text(part["utterance"], f"{where}.utterance", True), start, end))
    return tuple(words)


def _strokes(value: Any) -> tuple[np.ndarray, ...]:
    strokes = []
    for i, stroke in enumerate(_list(value, "traces")):
        points = _list(stroke, f"traces[{i}]")
        rows = np.empty((len(points), 3))
        for j, point in enumerate(points):
            where = f"traces[{i}][{j}]"
            _object(point, where, ("x", "y", "t"))
            rows[j] = [_number(point[key], f"{where}.{key}") for key in ("x", "y", "t")]
        strokes.append(rows)
    return tuple(strokes)


def _list(value: Any, where: str) -> list:
    if value is None:
        return []
    if not isinstance(value, list):
        raise NarrativeError(f"{where}: must be a list, got {_show(value)}")
    return value


def _object(value: Any, where: str, keys: tuple[str, ...]) -> None:
    if not isinstance(value, Mapping) or set(value) != set(keys):
        raise NarrativeError(f"{where}: must hold just {', '.join(keys)}, got {_show(value)}")


def _text(value: Any, where: str, may_be_empty: bool = False) -> str:
    if not isinstance(value, str) or not (value or may_be_empty):
        raise NarrativeError(f"{where}: must be text, got {_show(value)}")
    return value


def _integer(value: Any, where: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or abs(value) >= 2**63:
        raise NarrativeError(f"{where}: must be an integer, got {_show(value)}")
    return value


def _number(value: Any, where: str) -> float:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not is_number or not math.isfinite(value) or abs(value) > 1e9:
        raise NarrativeError(f"{where}: must be a finite number, got {_show(value)}")
    return float(value)


def _show(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def read_jsonl(path: Path | str) -> Iterator[Narrative]:
    """The narratives of a file, one a line; ValueError "FILE:LINE: field: what is wrong"."""
    with open(path, "rb") as file:
        for number, line in enumerate(file, 1):
            if line.strip():
                try:
                    yield Narrative.from_json(line)
                except NarrativeError as error:
                    raise ValueError(f"{path}:{number}: {error}") from error


def write_jsonl(path: Path | str, narratives: Iterable[Narrative]) -> int:
    """Writes one record a line; returns how many."""
    count = 0
    with open(path, "w", encoding="utf-8") as file:
        for narrative in narratives:
            file.write(json.dumps(narrative.to_json(), ensure_ascii=False) + "\n")
            count += 1
    return count
