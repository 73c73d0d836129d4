"""The manifest of a snapshot (snapshot.json), read by one strict reader, wherever it is read.

A snapshot may come from anybody: what becomes a part of a file's name, or decides how much memory
is taken, is checked here once. Unknown entries are left alone. Needs neither torch nor numpy.
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

FILE = "snapshot.json"
LARGEST = 64 << 20  # bytes of a manifest: a million shards take less
MOST_ROWS = 1 << 40  # also of bytes and captions: beyond any disk, within an int64 sum
_CONTENT = re.compile(r"[0-9A-Za-z]{1,64}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_SPLIT = re.compile(r"[0-9A-Za-z_]{1,40}")
_SHARD = re.compile(r"[0-9A-Za-z_]{1,40}-[0-9]{5,9}-of-[0-9]{5,9}\.parquet")


def read(folder: Path) -> dict[str, Any]:
    """The manifest of the snapshot in a folder.

    Raises FileNotFoundError where there is none, ValueError that names the file and the entry where
    it is damaged or not to be trusted.
    """
    path = Path(folder) / FILE
    try:
        with open(path, "rb") as file:
            text = file.read(LARGEST + 1)
    except NotADirectoryError as error:
        raise FileNotFoundError(str(error)) from error
    return parse(text, str(path))


def parse(text: bytes, name: str) -> dict[str, Any]:
    """The same, of its bytes; `name` is where they came from."""
    if len(text) > LARGEST:
        raise ValueError(f"{name} is longer than {LARGEST >> 20} MB: no manifest is, freeze again")
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{name} is damaged ({error}): freeze again") from error
    try:
        _check(content)
    except ValueError as error:
        raise ValueError(f"{name} is damaged ({error}): freeze again") from error
    return content


def _check(content: Any) -> None:
    if not isinstance(content, dict) or not {"hash", "splits"} <= set(content):
        raise ValueError("it has no hash and splits")
    _check_text(_CONTENT, content["hash"], "hash", "a content hash of letters and digits")

    splits = _mapping(content["splits"], "splits")
    for split, counts in splits.items():
        _check_text(_SPLIT, split, "splits", "names of letters, digits and _")
        for name, count in _mapping(counts, f"splits.{split}").items():
            _check_count(count, f"splits.{split}.{name}")

    for split, shards in _mapping(content.get("shards", {}), "shards").items():
        if split not in splits:
            raise ValueError(f"shards: {split[:40]!r} is none of the splits")
        if not isinstance(shards, list):
            raise ValueError(f"shards.{split} is no list")
        for number, shard in enumerate(shards):
            _check_shard(shard, f"shards.{split}[{number}]")
    size = content.get("rows_per_group", 64)
    if type(size) is not int or not 1 <= size <= 1 << 20:
        raise ValueError(f"rows_per_group must lie in 1 .. {1 << 20}, got {size!r:.40}")
    for name in ("sources", "settings"):
        _mapping(content.get(name) or {}, name)


def _check_shard(shard: Any, entry: str) -> None:
    shard = _mapping(shard, entry)
    _check_text(_SHARD, shard.get("file"), f"{entry}.file", "SPLIT-00000-of-00001.parquet")
    if "sha256" in shard:
        _check_text(_SHA256, shard["sha256"], f"{entry}.sha256", "64 hexadecimal digits")
    for name in ("rows", "bytes"):
        if name in shard:
            _check_count(shard[name], f"{entry}.{name}")


def _mapping(value: Any, entry: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"{entry} holds no names and values")
    return value


def _check_text(pattern: re.Pattern[str], value: Any, entry: str, expected: str) -> None:
    if not isinstance(value, str) or not pattern.fullmatch(value):
        raise ValueError(f"{entry} must be {expected}, got {value!r:.80}")


def _check_count(value: Any, entry: str) -> None:
    if type(value) is not int or not 0 <= value <= MOST_ROWS:
        raise ValueError(f"{entry} must be a count, got {value!r:.40}")
