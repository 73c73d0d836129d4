"""Files that are there whole or not at all, and locks that die with their holder."""

import fcntl
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


@contextmanager
def whole_folder(to: Path) -> Iterator[Path]:
    """A hidden folder beside `to` that becomes `to` when the block ends well, and goes if not.

    ValueError: `to` holds something; it is never overwritten.
    """
    to = Path(to)
    if to.exists() and (not to.is_dir() or any(to.iterdir())):
        raise ValueError(f"{to} exists already and is never overwritten: name another folder")
    with draft_folder(to) as building:
        yield building


_PATIENCE = 1.0  # seconds; whoever only asks whether a lock is held holds it for microseconds
_held: set[int] = set()  # descriptors of the locks this process holds


class BusyError(ValueError):
    """A lock is held by another live process."""


def _close_in_child() -> None:
    for descriptor in _held:
        os.close(descriptor)
    _held.clear()


os.register_at_fork(after_in_child=_close_in_child)  # a loader's worker must not keep our locks


def write_whole(path: Path, content: str | bytes) -> None:
    """Write the file whole or not at all, and have it on disk when this returns.

    Of several who write one path at once, each writes a draft of its own; the last one stays.
    """
    with draft_file(Path(path)) as draft:
        draft.write_bytes(content.encode() if isinstance(content, str) else content)


@contextmanager
def locked(path: Path, patience: float = _PATIENCE) -> Iterator[None]:
    """Hold the lock file `path`; it then names our process. Neither exec nor fork passes it on.

    patience: seconds to wait for another holder. Raises BusyError where it holds on longer.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    _held.add(descriptor)
    try:
        deadline = time.monotonic() + patience
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise BusyError(f"{path} is held by process {holder(path)}") from None
                time.sleep(0.005)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, str(os.getpid()).encode(), 0)
        yield
    finally:
        if descriptor in _held:  # else we are a forked child, and it is closed
            _held.remove(descriptor)
            fcntl.flock(descriptor, fcntl.LOCK_UN)
            os.close(descriptor)


def is_locked(path: Path) -> bool:
    """Whether a live process holds this lock. A lock file left by a power cut is not held."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return False  # of another person's file nobody here can say more
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def holder(path: Path) -> int | None:
    """The process id that the holder of this lock wrote into it; None before it did."""
    with suppress(OSError, ValueError):
        number = int(path.read_text())
        return number if 0 < number < 2**31 else None  # a torn 0 or -1 would signal a whole group
    return None
