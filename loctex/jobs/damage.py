"""Which files of a run cannot be read: torn by a full disk, written by another version.

Whoever lists runs leaves out what cannot be read, so that one broken run is a row that says so and
nothing else notices. Here it is said. Needs no torch.
"""

import json
import os
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

from loctex import settings
from loctex.jobs import provenance
from loctex.jobs.command import Command
from loctex.jobs.run import METRICS_TAIL, Run, parse_row


def unreadable(run: Run) -> dict[str, str]:
    """File name -> why it cannot be read, of the files that are there.

    Of metrics.jsonl only the end is read: it grows while it is looked at.
    """
    problems = {}
    for path, check in (
        (run.settings_file, _check_settings),
        (run.command_file, _check_command),
        (run.starts_file, _check_starts),
        (run.exit_file, _check_exit),
        (run.metrics_file, _check_metrics),
    ):
        if problem := _problem(path, check):
            problems[path.name] = problem

    return problems


def _problem(path: Path, check: Callable[[Path], None]) -> str:
    try:
        status = os.stat(path)
    except FileNotFoundError:
        return ""
    except OSError as error:
        return str(error)
    return _checked(path, check, status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=4096)
def _checked(path: Path, check: Callable[[Path], None], written: int, size: int) -> str:
    """Once for each state of a file: a page asks every second."""
    try:
        check(path)
    except (OSError, ValueError) as error:
        return " ".join(str(error).split())[:300]
    return ""


def _check_settings(path: Path) -> None:
    settings.load(path)


def _check_command(path: Path) -> None:
    Command.from_json(path.read_bytes())


def _check_starts(path: Path) -> None:
    lines = path.read_bytes().splitlines()
    num_bad = sum(provenance.parse_start(line) is None for line in lines)
    if num_bad:
        raise ValueError(f"{num_bad} of its {len(lines)} lines cannot be read")


def _check_exit(path: Path) -> None:
    record = json.loads(path.read_bytes())
    if not isinstance(record, dict) or type(record.get("code")) is not int:
        raise ValueError("it holds no exit code")


def _check_metrics(path: Path) -> None:
    with open(path, "rb") as file:
        start = max(0, os.fstat(file.fileno()).st_size - METRICS_TAIL)
        file.seek(start)
        if start:
            file.readline()
        lines = [line for line in file if line.endswith(b"\n")]
    num_bad = sum(parse_row(line) is None for line in lines)
    if num_bad:
        raise ValueError(f"{num_bad} of its last lines cannot be read and are left out")
