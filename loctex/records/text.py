"""Text files as people's programs write them: one reader for all of them.

A mark at the start (BOM) says UTF-8 or UTF-16; without one it is UTF-8, as everything newer writes,
UTF-16 where every other byte is zero, or else Windows-1252, as Excel writes in Europe.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

_MARKS = {
    b"\xef\xbb\xbf": "utf-8-sig",
    b"\xff\xfe\x00\x00": "utf-32",  # before UTF-16, whose mark it begins with
    b"\x00\x00\xfe\xff": "utf-32",
    b"\xff\xfe": "utf-16",
    b"\xfe\xff": "utf-16",
}
_HEAD = 512  # bytes that show whether every other one is zero


def decode(content: bytes) -> str:
    """The text of a file's bytes, without its mark."""
    return content.decode(_encoding(content), errors="replace")


def _encoding(content: bytes) -> str:
    for mark, encoding in _MARKS.items():
        if content.startswith(mark):
            return encoding
    # UTF-16 without a mark is valid UTF-8 as well, with a zero byte beside each letter
    head = content[:_HEAD]
    if head.count(0) > len(head) / 4:
        return "utf-16-le" if head[1::2].count(0) > head[::2].count(0) else "utf-16-be"
    try:
        content.decode("utf-8")
    except UnicodeDecodeError:
        return "cp1252"
    return "utf-8"


def is_wide(head: bytes) -> bool:
    """Whether a file that begins so says that it is UTF-16 or UTF-32."""
    return head.startswith((b"\xff\xfe", b"\xfe\xff", b"\x00\x00\xfe\xff"))


def read_text(path: Path) -> str:
    """The text of a file; OSError where it cannot be read."""
    return decode(path.read_bytes())


def read_json(path: Path, object_hook: Callable[[dict[str, Any]], Any] | None = None) -> Any:
    """What a JSON file holds. ValueError names the file where it is no JSON, or unreadable."""
    try:
        return json.loads(read_text(path), object_hook=object_hook)
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror})") from error
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: is not JSON ({error})") from error
