"""Files that are there whole or not at all, and locks that die with their holder."""

import errno
import fcntl
import itertools
import os
import re
import shutil
import socket
import tempfile
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
        sync(draft)
        os.replace(draft, path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
    sync(path.parent)


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
    sync(path.parent)


def sweep(folder: Path, rested: float = RESTED) -> None:
    """Remove the drafts in a folder whose writers are gone, `rested` seconds after their last
    write."""
    with suppress(FileNotFoundError), os.scandir(folder) as entries:
        for name in [entry.name for entry in entries if entry.name.endswith(".tmp")]:
            draft = _DRAFT.fullmatch(name)
            if draft and _is_abandoned(folder / name, draft["host"], int(draft["pid"]), rested):
                _remove(folder / name)


def _is_abandoned(draft: Path, host: str, pid: int, rested: float) -> bool:
    with suppress(OSError):
        age = time.time() - draft.lstat().st_mtime
        if host != _HOST:  # a folder that several machines share
            return age > ABANDONED
        return age >= rested and not _is_alive(pid)
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


def sync(path: Path) -> None:
    """Have a file, or the names in a folder, on disk when this returns."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        # a network share syncs files, and may know nothing of the kind for a folder
        if not path.is_dir() or error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EBADF):
            raise
    finally:
        os.close(descriptor)


def is_writable(folder: Path) -> bool:
    """Whether a file can be made in this folder, or in one that would be made here; tried, for
    neither modes nor mounts say it of every file system."""
    while not folder.exists() and folder.parent != folder:
        folder = folder.parent
    draft = draft_of(folder / "trial")
    try:
        draft.touch(exist_ok=False)
        draft.unlink()
    except OSError:
        return False
    return True


def user_folder(name: str) -> Path:
    """A folder of this user's cache (XDG_CACHE_HOME, else ~/.cache), else of the temporary files,
    made if it is not there."""
    caches = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "loctex"
    if not is_writable(caches):
        caches = Path(tempfile.gettempdir()) / f"loctex-{os.getuid()}"
    folder = caches / name
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder


def cache_place(folder: Path, key: str) -> Path:
    """`folder`, where what is computed is kept beside what it was computed from; the user's cache
    under `key` where that place cannot be written, as on a read-only share."""
    return folder if is_writable(folder) else user_folder(key)


def write_result(path: Path, content: str | bytes) -> str:
    """Writes a result that took long to compute, and says where it is, in a sentence.

    Where `path` cannot be written it goes into the working folder, else into the user's cache,
    under a name that was free.
    """
    path = Path(path)
    try:
        write_whole(path, content)
        return f"written to {path}"
    except OSError as error:
        reason = error.strerror or str(error)
    name = "-".join(path.absolute().parts[-3:])
    folder = Path.cwd() if is_writable(Path.cwd()) else user_folder("results")
    numbers = itertools.count(2)
    place = folder / name
    while place.exists():
        place = folder / f"{Path(name).stem}-{next(numbers)}{path.suffix}"
    write_whole(place, content)
    return f"{path} cannot be written ({reason}); the result is in {place}"


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
def locked(path: Path, patience: float = _PATIENCE) -> Iterator[int]:
    """Hold the lock file `path`, by the descriptor that this gives; it then names our process.

    Neither exec nor fork passes it on, but where the descriptor is passed on by name: then whoever
    has it holds the lock until this block ends, or beyond it where this process is killed.

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
        yield descriptor
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
    return _process(path, 0)


def worker(path: Path) -> int | None:
    """The process that the holder of this lock passed it on to; None where there is none."""
    return _process(path, 1)


def _process(path: Path, place: int) -> int | None:
    with suppress(OSError, ValueError, IndexError):
        number = int(path.read_text().split()[place])
        return number if 0 < number < 2**31 else None  # a torn 0 or -1 would signal a whole group
    return None
