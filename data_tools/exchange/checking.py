"""Check a file of narratives of any size: part by part, by several processes, in flat memory.

What the format allows is read (METHOD section 5). What is wrong is named by its line: no JSON, a
field that is missing or of the wrong kind, a line too long to be a narrative, a number that is not
finite or no fraction, a time that is negative or falls, a record that is there twice.
"""

import hashlib
import os
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache, partial
from itertools import islice
from pathlib import Path

import numpy as np

from data_tools.exchange import lines
from data_tools.pictures import find_picture
from data_tools.processes import process_pool
from loctex.records.images import decode_image
from loctex.records.narrative import Narrative, NarrativeError

MOST = 20_000  # records at a time, however short their lines are
SMALL = 2 * lines.PART  # bytes: less is read sooner than processes start
Key = tuple[str, str]  # dataset_id, image_id
Span = tuple[int, int | None]  # first byte, end
CheckProgress = Callable[[int, int], None]  # bytes, records


@dataclass
class CheckReport:
    """What one part of a file held. Lines are counted from its first one."""

    num_bytes: int = 0
    num_lines: int = 0  # blank ones too
    num_records: int = 0
    problems: list[tuple[int, str]] = field(default_factory=list)  # line, what is wrong
    records: list[tuple[int, Key, int, bytes]] = field(default_factory=list)
    # of each right record: line, key, first byte, digest of the text (16 bytes)
    unread: Span | None = None  # what is still to be read


def read_part(path: Path, images: Path | None, span: Span) -> CheckReport:
    """Check the lines that begin in this span of the file; with a folder, their pictures too."""
    report = CheckReport(num_bytes=(span[1] or 0) - span[0])
    look = cache(_picture_problem)  # as often as not, a picture is shown twice
    for number, place, text in lines.read(path, *span):
        if report.num_records == MOST and span[1] is not None:
            report.num_bytes, report.unread = place - span[0], (place, span[1])
            return report

        report.num_lines = number
        if text is not None and not text.strip():
            continue
        report.num_records += 1
        try:
            key = _key(text)
            if images is not None and (problem := look(images, *key)):
                raise ValueError(problem)
        except ValueError as error:
            report.problems.append((number, str(error)))
        else:
            assert text is not None  # _key refuses a line that is too long
            digest = hashlib.blake2b(text, digest_size=16).digest()
            report.records.append((number, key, place, digest))

    return report


def _key(text: bytes | None) -> Key:
    if text is None:
        raise NarrativeError(
            f"record: is longer than {lines.LONGEST / 2**20:g} MiB, which no narrative is; "
            "is this one record a line?"
        )
    narrative = Narrative.from_json(text)
    return narrative.dataset_id, narrative.image_id


def _picture_problem(images: Path, dataset_id: str, image_id: str) -> str | None:
    try:
        picture = find_picture(images, dataset_id, image_id)
        if picture is None:
            return f"image_id: no picture of {image_id!r} in {images}"
        decode_image(picture)
    except ValueError as error:
        return str(error)
    return None


def read_parts(
    path: Path, images: Path | None = None, workers: int | None = None
) -> Iterator[tuple[int, CheckReport]]:
    """(lines before it, part) of the whole file in its order; large ones by several processes.

    ValueError: it is an archive. OSError: there is no such file or folder.
    """
    lines.refuse_archive(path)
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist")
    if images is not None and not images.is_dir():
        raise FileNotFoundError(f"{images} is not a folder")

    workers = workers or os.cpu_count() or 1
    work = partial(read_part, path, images)
    is_small = not path.is_file() or path.stat().st_size <= SMALL

    before = 0
    for report in _in_turn(work, path) if is_small else _spread(work, path, workers):
        yield before, report
        before += report.num_lines


def _in_turn(work: Callable[[Span], CheckReport], path: Path) -> Iterator[CheckReport]:
    for span in lines.parts(path):
        unread: Span | None = span
        while unread:
            report = work(unread)
            yield report
            unread = report.unread


def _spread(work: Callable[[Span], CheckReport], path: Path, workers: int) -> Iterator[CheckReport]:
    """By processes that share nothing with this one; a few parts ahead, never all."""
    with process_pool(workers) as pool:
        waiting: deque = deque()
        try:
            spans = lines.parts(path)
            while True:
                for span in islice(spans, 2 * workers - len(waiting)):
                    waiting.append(pool.submit(work, span))
                if not waiting:
                    return
                report = waiting.popleft().result()
                if report.unread:
                    waiting.appendleft(pool.submit(work, report.unread))
                yield report
        finally:
            pool.shutdown(cancel_futures=True)


def check(
    path: Path,
    images: Path | None = None,
    *,
    workers: int | None = None,
    progress: CheckProgress | None = None,
) -> Iterator[str]:
    """For each bad line "FILE:LINE: what is wrong"; with a folder, of its pictures too.

    A record that is there twice, byte for byte, is named last. Errors as read_parts.
    """
    numbers, digests = [np.empty(0, np.int64)], [np.empty(0, "S16")]  # 24 bytes a record
    for before, report in read_parts(Path(path), images, workers):
        for number, problem in report.problems:
            yield f"{path}:{before + number}: {problem}"
        numbers.append(np.array([before + record[0] for record in report.records], np.int64))
        digests.append(np.array([record[3] for record in report.records], "S16"))
        if progress:
            progress(report.num_bytes, report.num_records)

    for number, original in twice(np.concatenate(numbers), np.concatenate(digests)):
        yield f"{path}:{number}: record: is that of line {original} again; leave it out"


def twice(numbers: np.ndarray, digests: np.ndarray) -> list[tuple[int, int]]:
    """(line, the first line with the same digest) of each record (N,) that came before."""
    order = np.argsort(digests, kind="stable")
    ranked, lines_ranked = digests[order], numbers[order]
    is_again = np.zeros(len(order), bool)
    is_again[1:] = ranked[1:] == ranked[:-1]
    originals = lines_ranked[np.maximum.accumulate(np.where(is_again, 0, np.arange(len(order))))]
    pairs = zip(lines_ranked[is_again].tolist(), originals[is_again].tolist(), strict=True)
    return sorted(pairs)
