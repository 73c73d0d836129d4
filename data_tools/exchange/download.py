"""Fetch files over HTTP: in parallel, resumed where they broke off, whole or not at all.

A file arrives as NAME.part beside its place, with NAME.part.tag, the server's word for which
version it is of; only when its size, the checksum if the server gives one, and its content are
right does it get its name. A connection that breaks, stalls, or crawls is taken up where it was
(Range, If-Range); a busy server (408, 425, 429, 5xx) is asked again, at longer and longer
intervals or when it says. Whatever has its name is whole and is not asked for again.
"""

from __future__ import annotations

import base64
import fcntl
import hashlib
import os
import random
import re
import shutil
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import BinaryIO
from urllib.error import HTTPError
from urllib.request import Request, urlopen

AGENT = {"User-Agent": "loctex-studio", "Accept-Encoding": "identity"}  # bytes as they lie there
SAMPLE = 64  # files that are asked for their size, to check the disk; the others are estimated
RESERVE = 100 * 2**20  # bytes of the disk that are left alone
BUSY = (408, 425, 429)


@dataclass(frozen=True)
class Download:
    """A file to fetch. check(path) raises ValueError where what came is not what it should be."""

    url: str
    path: Path
    check: Callable[[Path], object] = lambda path: None


@dataclass(frozen=True)
class Patience:
    """When to drop a connection, and when to give a file up; seconds, and bytes a second."""

    tries: int = 8  # in a row that bring nothing worth mentioning
    wait: float = 1.0  # before the second try; doubles, up to longest
    longest: float = 60.0
    stall: float = 30.0  # without a byte
    slowest: float = 1024.0  # on the average of `stall` seconds


USUAL = Patience()


class _Broken(Exception):
    """Worth another try. wait: the seconds the server asks for, or 0."""

    def __init__(self, reason: str, wait: float = 0.0) -> None:
        super().__init__(reason)
        self.wait = wait


class _Stopped(Exception):
    """Somebody else failed in a way that ends all."""


def fetch(
    items: Sequence[Download],
    *,
    workers: int = 8,
    patience: Patience = USUAL,
    progress: Callable[[int], None] = lambda num_bytes: None,
    tell: Callable[[str], None] = lambda message: None,
) -> list[str]:
    """Fetch what is not there yet; "URL: reason" of each file that could not be had.

    progress is called with bytes as they come, tell with a sentence at each new try, both from
    threads. OSError: the disk is full or refuses; what has come so far is kept for the next call.
    ValueError: two items have one place.
    """
    if len({item.path for item in items}) < len(items):
        raise ValueError("two files would have the same name")

    missing = [item for item in items if not item.path.exists()]
    stop, failed = threading.Event(), {}

    with ThreadPoolExecutor(workers) as pool:
        running = {
            pool.submit(_fetch, item, patience, progress, tell, stop): item for item in missing
        }
        try:
            for future in as_completed(running):
                try:
                    future.result()
                except ValueError as error:
                    failed[running[future]] = f"{running[future].url}: {error}"
        except BaseException:
            stop.set()
            pool.shutdown(cancel_futures=True)
            raise

    return [failed[item] for item in missing if item in failed]


def check_room(items: Sequence[Download], to: Path, workers: int = 8, stall: float = 30.0) -> int:
    """Bytes still to come, by the sizes that a sample of the files has; 0 if no server tells.

    ValueError: the disk of folder `to` has not enough room for them.
    """
    missing = [item for item in items if not item.path.exists()]
    sample = missing[:: max(1, len(missing) // SAMPLE)]

    with ThreadPoolExecutor(workers) as pool:
        sizes = [s for s in pool.map(lambda item: _size(item.url, stall), sample) if s is not None]
    if not sizes:
        return 0

    come = sum(draft.stat().st_size for item in missing if (draft := _draft_of(item)).exists())
    needed = max(0, round(sum(sizes) / len(sizes) * len(missing)) - come)
    free = shutil.disk_usage(to).free - RESERVE
    if needed > free:
        raise ValueError(
            f"{to}: {needed / 1e9:.2f} GB are still to come, and the disk has room for "
            f"{max(free, 0) / 1e9:.2f} GB"
        )

    return needed


def _size(url: str, stall: float) -> int | None:
    try:
        with urlopen(Request(url, headers=AGENT, method="HEAD"), timeout=stall) as answer:
            return _length(answer)
    except (OSError, HTTPException):
        return None  # the file itself will tell what is wrong


def _draft_of(item: Download) -> Path:
    return item.path.with_name(item.path.name + ".part")


def _fetch(
    item: Download,
    patience: Patience,
    progress: Callable[[int], None],
    tell: Callable[[str], None],
    stop: threading.Event,
) -> None:
    """The file, in its place. ValueError: it cannot be had, and why."""
    item.path.parent.mkdir(parents=True, exist_ok=True)
    draft = _draft_of(item)
    tag = draft.with_name(draft.name + ".tag")

    with open(draft, "ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError("another process is fetching it") from None
        if item.path.exists():  # since another process has, it was its part that we opened
            return

        try:
            _persist(item, file, tag, patience, progress, tell, stop)
        finally:
            if file.seek(0, os.SEEK_END) == 0:
                draft.unlink()
                tag.unlink(missing_ok=True)

        os.fsync(file.fileno())
        os.replace(draft, item.path)
        tag.unlink(missing_ok=True)


def _persist(
    item: Download,
    file: BinaryIO,
    tag: Path,
    patience: Patience,
    progress: Callable[[int], None],
    tell: Callable[[str], None],
    stop: threading.Event,
) -> None:
    """Try until the file is whole and right, or nothing has come for several tries."""
    most, num_failed = file.seek(0, os.SEEK_END), 0
    while True:
        try:
            digest = _receive(item.url, file, tag, patience, progress, stop)
            file.flush()
            _verify(item, file, digest)
            return
        except _Broken as error:
            reason, wait = str(error), error.wait

        size = file.seek(0, os.SEEK_END)
        has_come = size - most > patience.slowest * patience.stall
        most, num_failed = max(most, size), 0 if has_come else num_failed + 1
        if num_failed >= patience.tries:
            raise ValueError(reason)
        wait = max(wait, patience.wait * 2**num_failed * random.uniform(0.25, 0.5))
        wait = min(wait, patience.longest)

        tell(f"{item.url}: {reason}; again in {wait:.0f} s")
        if stop.wait(wait):
            raise _Stopped


def _receive(
    url: str,
    file: BinaryIO,
    tag: Path,
    patience: Patience,
    progress: Callable[[int], None],
    stop: threading.Event,
) -> bytes | None:
    """Append what is missing; the MD5 of the whole file if the server tells it.

    _Broken: it did not come whole. ValueError: the server will not give it.
    """
    have = file.seek(0, os.SEEK_END)
    version = tag.read_text() if tag.exists() else ""
    resumes = {"Range": f"bytes={have}-", "If-Range": version} if have and version else {}

    with _open(Request(url, headers=AGENT | resumes), file, patience) as answer:
        total = _length(answer)
        if answer.status == 206:
            place = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", answer.headers["Content-Range"] or "")
            if place is None or int(place[1]) != have:
                file.truncate(0)
                raise _Broken("the server sent another part than it was asked for")
            total = int(place[2]) if place[2] != "*" else None
        else:
            file.truncate(0)
            tag.write_text(_version(answer))

        for data in _pieces(answer, patience, stop):
            file.write(data)
            progress(len(data))

        size = file.seek(0, os.SEEK_END)
        if total is not None and size != total:
            if size > total:
                file.truncate(0)
            raise _Broken(f"{size:,} of {total:,} bytes came")

        return _digest(answer)


def _open(request: Request, file: BinaryIO, patience: Patience) -> HTTPResponse:
    try:
        return urlopen(request, timeout=patience.stall)
    except HTTPError as error:
        error.close()
        reason = f"{error.code} {error.reason}"
        if error.code == 416:  # what we have is longer than what there is
            file.truncate(0)
        elif error.code not in BUSY and error.code < 500:
            raise ValueError(reason) from error
        after = error.headers.get("Retry-After", "")
        raise _Broken(reason, float(after) if after.isdigit() else 0.0) from error
    except (OSError, HTTPException) as error:
        raise _Broken(f"cannot be reached ({error}): is this machine online?") from error


def _pieces(answer: HTTPResponse, patience: Patience, stop: threading.Event) -> Iterable[bytes]:
    """The body as it comes; _Broken where it breaks, stalls or crawls."""
    start, come = time.monotonic(), 0
    while True:
        try:
            data = answer.read1(1 << 18)
        except (OSError, HTTPException) as error:
            raise _Broken(f"broke off ({error!r})") from error
        if not data:
            return
        yield data
        if stop.is_set():
            raise _Stopped

        come += len(data)
        seconds = time.monotonic() - start
        if seconds > patience.stall:
            if come < patience.slowest * seconds:
                raise _Broken(f"came at {come / seconds:.0f} bytes a second")
            start, come = time.monotonic(), 0


def _verify(item: Download, file: BinaryIO, digest: bytes | None) -> None:
    """_Broken, and nothing is kept, if the file is not what it should be."""
    try:
        if digest is not None:
            with open(file.name, "rb") as content:
                if hashlib.file_digest(content, "md5").digest() != digest:
                    raise ValueError("differs from the server's checksum")
        item.check(Path(file.name))
    except ValueError as error:
        file.truncate(0)
        raise _Broken(str(error)) from error


def _length(answer: HTTPResponse) -> int | None:
    length = answer.headers["Content-Length"] or ""
    return int(length) if length.isdigit() else None


def _version(answer: HTTPResponse) -> str:
    """What If-Range takes: a strong ETag, else the date, else nothing."""
    tag = answer.headers["ETag"] or ""
    return tag if tag.startswith('"') else answer.headers["Last-Modified"] or ""


def _digest(answer: HTTPResponse) -> bytes | None:
    """Google Storage tells MD5 in x-goog-hash, others in Content-MD5 (of a whole answer only)."""
    hashes = re.findall(r"md5=([\w+/=]+)", ",".join(answer.headers.get_all("x-goog-hash", [])))
    if not hashes and answer.status == 200 and answer.headers["Content-MD5"]:
        hashes = [answer.headers["Content-MD5"]]
    return base64.b64decode(hashes[0]) if hashes else None
