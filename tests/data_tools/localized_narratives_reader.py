"""A reader of Localized Narratives files, written from their public description alone.

It shares nothing with the studio, and like Google's own loader it takes these keys and no other.
JSON Lines; `dataset_id` str, `image_id` str, `annotator_id` int,
`caption` str, `timed_caption` [{`utterance`, `start_time`, `end_time`}], `traces` [[{`x`, `y`,
`t`}]], `voice_recording` the relative path of an Ogg Vorbis file, or "".
Images: %012d.jpg for COCO, else the image_id with an extension.
"""

import json
import math
from pathlib import Path
from typing import TypedDict


class Record(TypedDict):
    """The keys, each of which a record has."""

    dataset_id: str
    image_id: str
    annotator_id: int
    caption: str
    timed_caption: list
    traces: list
    voice_recording: str


def read(file: Path, images: Path | None = None) -> list[dict]:
    """All narratives; ValueError says which line breaks the format, and how."""
    narratives = []
    for number, line in enumerate(file.read_bytes().decode("utf-8").split("\n"), 1):
        if not line:
            continue
        try:
            narrative = json.loads(line, parse_constant=_no_constant)
            _check(narrative, file.parent, images)
        except (KeyError, TypeError, ValueError, OSError) as error:
            raise ValueError(f"line {number}: {error!r}") from error
        narratives.append(narrative)
    return narratives


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is no JSON")


def _need(condition: bool, what: str) -> None:
    if not condition:
        raise ValueError(what)


def _check(one: dict, folder: Path, images: Path | None) -> None:
    unknown = one.keys() - Record.__annotations__.keys()
    _need(not unknown, f"unknown keys {sorted(unknown)}")
    for key, kind in Record.__annotations__.items():
        _need(type(one[key]) is kind, f"{key} is {type(one[key]).__name__}")
    for word in one["timed_caption"]:
        _need(type(word["utterance"]) is str and word["utterance"].strip() != "", "empty utterance")
        start, end = _number(word["start_time"]), _number(word["end_time"])
        _need(0 <= start <= end, f"{word['utterance']!r} runs from {start} to {end}")
    said = "".join(word["utterance"] for word in one["timed_caption"])
    _need(_letters(said) == _letters(one["caption"]), "utterances are not the caption")
    for stroke in one["traces"]:
        _need(type(stroke) is list and len(stroke) > 0, "an empty stroke")
        times = [_number(point["t"]) for point in stroke]
        _need(times == sorted(times), "time runs backwards in a stroke")
        _need(
            all(-0.5 <= _number(point[axis]) <= 1.5 for point in stroke for axis in "xy"),
            "a point far outside the image",
        )
    if voice := one["voice_recording"]:
        path = folder / voice
        _need(not Path(voice).is_absolute() and ".." not in Path(voice).parts, "a path elsewhere")
        head = path.read_bytes()[:64]
        _need(head[:4] == b"OggS" and b"vorbis" in head, f"{voice} is no Ogg Vorbis file")
    if images is not None:
        is_coco = one["dataset_id"].startswith("mscoco")
        stem = f"{int(one['image_id']):012d}" if is_coco else one["image_id"]
        _need(len(list(images.glob(f"{stem}.*"))) == 1, f"no picture {stem}")


def _number(value: object) -> float:
    _need(type(value) in (int, float) and math.isfinite(value), f"{value!r} is no number")
    return float(value)


def _letters(text: str) -> str:
    return "".join(text.split())
