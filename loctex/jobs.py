"""Jobs: the command of a run, the queue, the watcher that works it off, stop and resume.

    python -m loctex.jobs watch WORKSPACE

One watcher per workspace, detached from whoever started it, starts the waiting runs one after
another and writes how each ended. It ends when nothing waits; `ensure_watcher` starts the next.
Nothing here imports torch.
"""

import argparse
import json
import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from loctex.runs import BusyError, Run, holder, is_locked, locked, write_whole

ROOT = Path(__file__).resolve().parents[1]  # where `python -m loctex.train` is found
GRACE = 120.0  # seconds a run has to write its checkpoint before it is asked harder
KILL_AFTER = 60.0  # seconds from SIGTERM to SIGKILL
_TICK = 0.1  # seconds between two looks at a job


@dataclass(frozen=True)
class Command:
    """What a run executes: its words, and the folder they are executed in."""

    words: tuple[str, ...]
    folder: str = str(ROOT)
    token: str = ""  # names the click that asked for it: the same click twice is one job
    submitted: float = 0.0  # seconds since 1970

    @property
    def line(self) -> str:
        """The words as a shell reads them."""
        return shlex.join(self.words)


def training(
    run: Run, snapshots: Iterable[str | Path], preset: str, changes: Mapping[str, Any]
) -> Command:
    """The command that trains `run`, with `changes` {"train.steps": 10} to the preset.

    Paths below the program's folder are written short, as a person would type them there.
    """
    words = [short(sys.executable), "-m", "loctex.train"]
    for snapshot in snapshots:
        words += ["--data", short(snapshot)]
    words += ["--run", short(run.path), "--preset", preset]
    for name, value in changes.items():
        words += [f"--{name}", value if isinstance(value, str) else json.dumps(value)]
    return Command(tuple(words))


def short(path: str | Path) -> str:
    """A path as a person would type it in the program's folder."""
    path = Path(os.path.abspath(path))
    return str(path.relative_to(ROOT) if path.is_relative_to(ROOT) else path)


def all_runs(workspace: Path) -> list[Run]:
    """The runs of a workspace, by name."""
    folders = (path for path in (workspace / "runs").glob("[!.]*") if path.is_dir())
    return [Run(path) for path in sorted(folders)]


def queue(workspace: Path) -> list[Run]:
    """The waiting runs, the next one first."""
    waiting = [run for run in all_runs(workspace) if run.waiting_file.exists()]
    return sorted(waiting, key=_place)


def ahead(workspace: Path, run: Run) -> list[str]:
    """The names of the runs that a waiting run waits for: those at work, then the queue."""
    waiting = [other.name for other in queue(workspace)]
    if run.name not in waiting:
        return []
    live = [other.name for other in all_runs(workspace) if other.is_live()]
    return live + waiting[: waiting.index(run.name)]


def _place(run: Run) -> float:
    with suppress(FileNotFoundError, ValueError):  # it may start, or be cancelled, right now
        return float(run.waiting_file.read_text())
    return 0.0


def read_command(run: Run) -> Command | None:
    """What the run executes; None for a run that was not started as a job."""
    with suppress(FileNotFoundError):
        record = json.loads(run.command_file.read_bytes())
        return Command(**record | {"words": tuple(record["words"])})
    return None


def submit(workspace: Path, run: Run, command: Command, settings: str = "", token: str = "") -> Run:
    """Put a new run into the queue, with its settings as YAML; returns the run.

    The directory appears with all its files or not at all. The same token again returns the run
    that was made of it. ValueError where the name is taken.
    """
    if known := find(workspace, token):
        return known
    now = time.time()
    record = asdict(command) | {"token": token, "submitted": now}
    draft = Run(run.path.with_name(f".{run.name}.{time.time_ns()}"))
    write_whole(draft.settings_file, settings)
    write_whole(draft.command_file, json.dumps(record, indent=1))
    write_whole(draft.waiting_file, repr(now))
    try:
        os.rename(draft.path, run.path)
    except OSError:
        for file in draft.path.iterdir():
            file.unlink()
        draft.path.rmdir()
        if known := find(workspace, token):
            return known
        raise ValueError(f"a run named {run.name!r} exists; choose another name") from None
    ensure_watcher(workspace)
    return run


def find(workspace: Path, token: str) -> Run | None:
    """The run that was made of this token."""
    for run in all_runs(workspace):
        command = read_command(run)
        if token and command and command.token == token:
            return run
    return None


def stop(workspace: Path, run: Run) -> None:
    """Ask a run to write a checkpoint and end; one that waits leaves the queue."""
    if run.state in ("waiting", "running"):
        run.request_stop()
        run.waiting_file.unlink(missing_ok=True)
        ensure_watcher(workspace)


def resume(workspace: Path, run: Run) -> None:
    """Put a stopped or failed run into the queue again; it goes on from its last checkpoint.

    ValueError where it is not at rest, is done, or was not started as a job.
    """
    state, command = run.state, read_command(run)
    if state not in ("stopped", "failed"):
        raise ValueError(f"run {run.name!r} is {state}; only a stopped or failed one is resumed")
    if command is None:
        raise ValueError(f"run {run.name!r} was started by hand; resume it by hand, with --resume")
    words = [word for word in command.words if word != "--resume"]
    if (run.path / "last").exists():
        words.append("--resume")
    else:  # it ended before its first checkpoint: from the start
        run.cut_back(-1)
    write_whole(run.command_file, json.dumps(asdict(command) | {"words": words}, indent=1))
    run.forget_end()
    write_whole(run.waiting_file, repr(time.time()))
    ensure_watcher(workspace)


def ensure_watcher(workspace: Path) -> None:
    """Start a watcher, detached, if there is work for one and none is there."""
    if not _has_work(workspace) or is_locked(workspace / "watcher.lock"):
        return
    with open(workspace / "watcher.log", "ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "loctex.jobs", "watch", str(workspace.resolve())],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    threading.Thread(target=process.wait, daemon=True).start()  # leaves no zombie


def _has_work(workspace: Path) -> bool:
    return any(run.state in ("waiting", "stopping") for run in all_runs(workspace))


def watch(workspace: Path, grace: float = GRACE) -> None:
    """Work off the queue. Returns when nothing waits, or when another watcher is at it."""
    while _has_work(workspace):  # asked again after the lock is free: nothing falls between
        try:
            with locked(workspace / "watcher.lock"):
                while _has_work(workspace):
                    _await_others(workspace, grace)
                    for run in queue(workspace)[:1]:
                        work(run, grace)
        except BusyError:
            return


def work(run: Run, grace: float = GRACE) -> None:
    """Execute the command of a waiting run to its end, and write how it ended."""
    with locked(run.job_lock):
        try:
            run.waiting_file.unlink()
        except FileNotFoundError:  # cancelled, or started by hand
            return
        run.exit_file.unlink(missing_ok=True)
        code = 0 if run.stop_requested() else _execute(run, grace)
        write_whole(run.exit_file, json.dumps({"code": code, "time": time.time()}))


def _execute(run: Run, grace: float) -> int:
    command = read_command(run)
    with open(run.log_file, "ab") as log:
        log.write(f"$ {command.line}\n".encode())
        log.flush()
        try:
            process = subprocess.Popen(
                command.words,
                cwd=command.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env=os.environ | {"PYTHONUNBUFFERED": "1"},
            )
        except OSError as error:
            log.write(f"{error}\n".encode())
            return 127  # as a shell says it
    press = _Press(run, grace, lambda number: os.killpg(process.pid, number))
    while True:
        with suppress(subprocess.TimeoutExpired):
            code = process.wait(_TICK)
            break
        press()
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)  # workers that outlived their trainer
    return code


def _await_others(workspace: Path, grace: float) -> None:
    """Wait for trainings nobody watches: typed by hand, or started by a watcher that died."""
    presses: dict[str, _Press] = {}
    while live := [run for run in all_runs(workspace) if is_locked(run.train_lock)]:
        for run in live:
            pid = holder(run.train_lock)
            if run.name not in presses and pid:
                presses[run.name] = _Press(run, grace, lambda number, pid=pid: os.kill(pid, number))
            if run.name in presses:
                presses[run.name]()
        time.sleep(_TICK)


class _Press:
    """Asks a run that was told to stop ever harder: its stop file, then SIGTERM, then SIGKILL."""

    def __init__(self, run: Run, grace: float, send: Callable[[int], None]) -> None:
        self.run, self.send = run, send
        self.left = [(grace, signal.SIGTERM), (grace + KILL_AFTER, signal.SIGKILL)]

    def __call__(self) -> None:
        with suppress(FileNotFoundError, ProcessLookupError):
            age = time.time() - self.run.stop_file.stat().st_mtime
            if self.left and age > self.left[0][0]:
                self.send(self.left.pop(0)[1])


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m loctex.jobs",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True, metavar="watch")
    watcher = commands.add_parser("watch", help="start the waiting runs of a workspace in order")
    watcher.add_argument("workspace", type=Path, help="the folder that holds runs/")
    watcher.add_argument(
        "--grace",
        type=float,
        default=GRACE,
        help="seconds a stopped run has for its checkpoint [%(default)s]",
    )
    arguments = parser.parse_args()
    watch(arguments.workspace, arguments.grace)


if __name__ == "__main__":
    main()
