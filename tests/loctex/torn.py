"""Files of a run as a power cut, a full disk, another version or another person leaves them."""

import shutil
from collections.abc import Callable
from pathlib import Path

FILES = (
    "settings.yaml",
    "command.json",
    "waiting",
    "starts.jsonl",
    "metrics.jsonl",
    "film.jsonl",
    "remarks.json",
    "log.txt",
    "exit.json",
    "result.json",
    "job.lock",
    "train.lock",
)


def put_folder(path: Path) -> None:
    path.unlink(missing_ok=True)
    path.mkdir()


def insert_nul_line(path: Path) -> None:
    """A line of NULs in the middle, as a power cut leaves one in a file that grows."""
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:1], b"\0" * 64 + b"\n", *lines[1:]]))


TEARS: dict[str, Callable[[Path], object]] = {
    "empty": lambda path: path.write_bytes(b""),
    "half": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "nuls": lambda path: path.write_bytes(b"\0" * max(1, path.stat().st_size)),
    "nul-line": insert_nul_line,
    "no-text": lambda path: path.write_bytes(b"\xff\xfe\n" * 9),
    "list": lambda path: path.write_bytes(b"[1, 2]\n"),
    "number": lambda path: path.write_bytes(b"-1\n"),
    "other-version": lambda path: path.write_bytes(b'{"unknown": {"step": "x"}, "step": "one"}\n'),
    "folder": put_folder,
}


def tear(run: Path, file: str, how: str) -> None:
    """Damage one file of a run, which need not be there."""
    path = run / file
    if not path.exists():
        path.write_bytes(b"{}\n")
    TEARS[how](path)


def copy(run: Path, to: Path) -> Path:
    shutil.copytree(run, to, symlinks=True)
    return to
