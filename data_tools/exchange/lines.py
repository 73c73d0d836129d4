"""The lines of a file of any size, in memory that does not grow with it, cut for several workers.

A line belongs to the part of the file in which it begins, so that parts can be read at once and
no line twice. A line longer than LONGEST is never held: it comes as None.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

from loctex.records.text import is_wide

LONGEST = 8 * 2**20  # bytes: 20 minutes of pointing at 125 points a second
PART = 16 * 2**20  # bytes
_ARCHIVES = {
    b"PK\x03\x04": "zip",
    b"\x1f\x8b": "gzip",
    b"BZh": "bzip2",
    b"\xfd7zXZ": "xz",
    b"\x28\xb5\x2f\xfd": "zstandard",
    b"7z\xbc\xaf": "7-zip",
}


class Line(NamedTuple):
    """number: in its part, from 1. place: the byte where it begins. text: None if too long."""

    number: int
    place: int
    text: bytes | None


def refuse_archive(path: Path) -> None:
    """ValueError where the file is packed, as nothing here unpacks what strangers packed, or where
    its lines do not end in one byte."""
    if not path.is_file():  # a pipe cannot be looked into and then read from the start
        return
    with open(path, "rb") as file:
        head = file.read(262)
    kind = next((kind for start, kind in _ARCHIVES.items() if head.startswith(start)), None)
    if kind is None and head[257:] == b"ustar":
        kind = "tar"
    if is_wide(head):
        raise ValueError(f"{path} is UTF-16 or UTF-32: save it as UTF-8, one record a line")
    if kind:
        raise ValueError(f"{path} is a {kind} archive: unpack it first, then name what was in it")


def parts(path: Path, size: int = PART) -> Iterator[tuple[int, int | None]]:
    """(first byte, end) of each part of the file; one without an end for a pipe."""
    if not path.is_file():
        yield 0, None
        return
    total = path.stat().st_size
    for start in range(0, total, size):
        yield start, min(start + size, total)


def read(path: Path, start: int = 0, end: int | None = None) -> Iterator[Line]:
    """The lines that begin in bytes [start, end), blank ones too, without their line ends."""
    with open(path, "rb") as file:
        place = start
        if start:
            file.seek(start - 1)
            place = start - 1 + _skip(file, None if end is None else end - start + 1)

        number = 0
        while end is None or place < end:
            text = file.readline(LONGEST + 1)
            if not text:
                return
            number += 1

            length = len(text)
            if length > LONGEST and not text.endswith(b"\n"):
                yield Line(number, place, None)
                length += _skip(file, None if end is None else end - place - length)
            else:
                yield Line(number, place, text.rstrip(b"\r\n"))
            place += length


def _skip(file: BinaryIO, most: int | None) -> int:
    """Read past the next line end, or to `most` bytes or the file's end; how many bytes."""
    count = 0
    while most is None or count < most:
        text = file.readline(2**20)
        count += len(text)
        if not text or text.endswith(b"\n"):
            break
    return count
