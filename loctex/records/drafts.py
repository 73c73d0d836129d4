"""A file or folder that appears whole or not at all: its draft has a name of its own.

Two writers of one path, in two threads or processes, never share a draft; the last to be done is
what stays. A draft is hidden and ends in .tmp, so that no listing takes it for content; what a
killed writer left is swept where a folder is listed anyway, never at each write, for a folder may
hold a million pictures. Needs nothing but the standard library.
"""

import itertools
import os
import re
import shutil
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

ABANDONED = 86_400.0  # seconds after which the draft of another machine's writer is nobody's
RESTED = 60.0  # the same where its process is gone here: it may be one of another container
_serials = itertools.count()
_HOST = re.sub(r"[^0-9A-Za-z]+", "-", socket.gethostname())[:40] or "host"
_DRAFT = re.compile(r"\.(?P<name>.+)\.(?P<host>[0-9A-Za-z-]+)\.(?P<pid>\d+)\.(?P<serial>\d+)\.tmp")
_LONGEST = 120  # characters of the name that a draft repeats: file names have 255 bytes


def draft_of(path: Path) -> Path:
    """A name beside `path` that no other writer has."""
    name = path.name.encode()[:_LONGEST].decode(errors="ignore")
    return path.with_name(f".{name}.{_HOST}.{os.getpid()}.{next(_serials)}.tmp")


def is_draft(name: str) -> bool:
    """Whether a file or folder of this name is a writer's draft, and so no content."""
    return _DRAFT.fullmatch(name) is not None


@contextmanager
def draft_file(path: Path) -> Iterator[Path]:
    """The name of a draft that becomes `path` when the block ends well, and goes if not.

    The file is on disk when this returns.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = draft_of(path)
    try:
        yield draft
        _sync(draft)
        os.replace(draft, path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
    _sync(path.parent)


@contextmanager
def draft_folder(path: Path) -> Iterator[Path]:
    """A new folder that becomes `path` when the block ends well, and goes if not.

    OSError where `path` is a folder that holds something. Its files are the block's to sync.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    sweep(path.parent)
    draft = draft_of(path)
    draft.mkdir()
    try:
        yield draft
        os.replace(draft, path)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise
    _sync(path.parent)


def sweep(folder: Path) -> None:
    """Remove the drafts in a folder whose writers are gone."""
    with suppress(FileNotFoundError), os.scandir(folder) as entries:
        for name in [entry.name for entry in entries if entry.name.endswith(".tmp")]:
            draft = _DRAFT.fullmatch(name)
            if draft and _is_abandoned(folder / name, draft["host"], int(draft["pid"])):
                _remove(folder / name)


def _is_abandoned(draft: Path, host: str, pid: int) -> bool:
    with suppress(OSError):
        age = time.time() - draft.lstat().st_mtime
        if host != _HOST:  # a folder that several machines share
            return age > ABANDONED
        return age > RESTED and not _is_alive(pid)
    return False


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True


def _remove(path: Path) -> None:
    with suppress(OSError):  # another writer sweeps at the same time
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
