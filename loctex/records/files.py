"""Files that are there whole or not at all, and locks that die with their holder."""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from loctex.records.drafts import draft_file, draft_folder


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
