"""Lines that every reader of Localized Narratives takes, Google's own among them: its loader knows
seven keys, wants each of them and refuses any other.

What such a line cannot say (keys of other programs, a key that was null or not there at all) is
kept in unknown_keys.jsonl beside it, one record for each line that lost something:

    {"line": SHA-256 of the line, "keys": {...}, "absent": [...]}

`SideFile.restore` puts it back, so that a collection exported and imported is the same.
"""

import hashlib
import json
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from loctex.records.narrative import Narrative, numbered_lines

SIDE_FILE = "unknown_keys.jsonl"
_EMPTY: dict[str, Any] = {"timed_caption": [], "traces": [], "voice_recording": ""}
KEYS = ("dataset_id", "image_id", "annotator_id", "caption", *_EMPTY)


def strict_record(narrative: Narrative) -> dict[str, Any]:
    """The seven public keys; a voice_recording of "" where there is no voice."""
    record = narrative.to_json()
    return {key: record.get(key) or _EMPTY.get(key, record.get(key)) for key in KEYS}


def line_of(record: dict[str, Any]) -> str:
    """A record as it is written, without its line end."""
    return json.dumps(record, allow_nan=False)


def side_record(narrative: Narrative) -> dict[str, Any] | None:
    """What the strict record loses; None where it is the whole narrative."""
    strict = strict_record(narrative)
    if Narrative.from_json(strict).to_json() == narrative.to_json():
        return None
    return {
        "line": _digest(line_of(strict).encode()),
        "keys": dict(narrative.extra),
        "absent": sorted(narrative.absent),
    }


class SideFile:
    """unknown_keys.jsonl of a folder, by the line of each record; empty where there is no file.

    ValueError "FILE:LINE: what is wrong".
    """

    def __init__(self, path: Path) -> None:
        self.records: dict[str, list[dict[str, Any]]] = defaultdict(list)
        if not path.exists():
            return
        for number, line in numbered_lines(path):
            try:
                record = json.loads(line)
                _check(record)
            except ValueError as error:
                raise ValueError(f"{path}:{number}: {error}") from error
            self.records[record["line"]].append(record)

    def restore(self, lines: Sequence[bytes]) -> list[bytes]:
        """The lines of one image, each with what it had lost. Of equal lines each gets the record
        of one narrative, in their order."""
        if not self.records:
            return list(lines)

        restored, num_seen = [], defaultdict[str, int](int)
        for line in lines:
            digest = _digest(line)
            records, before = self.records.get(digest, []), num_seen[digest]
            num_seen[digest] += 1
            restored.append(_with(line, records[before]) if before < len(records) else line)
        return restored


def _digest(line: bytes) -> str:
    return hashlib.sha256(line.strip()).hexdigest()


def _with(line: bytes, side: dict[str, Any]) -> bytes:
    record = json.loads(line)
    for key in side["absent"]:
        if not record.get(key):
            record.pop(key, None)
    return line_of(record | side["keys"]).encode()


def _check(record: Any) -> None:
    if not isinstance(record, dict) or not isinstance(record.get("line"), str):
        raise ValueError("line: is missing; each record names the line it belongs to")
    if not isinstance(record.get("keys"), dict) or not isinstance(record.get("absent"), list):
        raise ValueError("keys or absent: is missing; export again")
    known = sorted(record["keys"].keys() & {"dataset_id", "image_id", "annotator_id", "caption"})
    if known:
        raise ValueError(f"keys: {known[0]} belongs into the line itself")
    if not set(record["absent"]) <= _EMPTY.keys():
        raise ValueError(f"absent: only {', '.join(_EMPTY)} may be")
