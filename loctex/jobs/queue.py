"""Jobs: runs that wait, are at work, are stopped, resumed, gone on with and deleted.

One watcher per workspace, detached from whoever started it, works off the queue (watcher.py) and
ends when nothing waits; `ensure_watcher` starts the next. Nothing here imports torch.
"""

import math
import os
import shutil
import subprocess
import sys
import threading
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from loctex.jobs import checkpoint_files
from loctex.jobs.command import ROOT, Command, with_option
from loctex.jobs.execution import CHECKPOINT, portable, rebuilt
from loctex.jobs.run import PLACE_WIDTH, Run
from loctex.jobs.slurm import record
from loctex.records.files import draft_of, is_locked, is_writable, write_whole


def all_runs(workspace: Path) -> list[Run]:
    """The runs of a workspace, by name."""
    return [Run(folder) for folder in _folders(workspace)]


def unended(workspace: Path) -> list[Run]:
    """The runs of which no watcher wrote how they ended: they wait, work, or were typed by hand."""
    return [Run(path) for path in _folders(workspace) if not os.path.exists(f"{path}/exit.json")]


def queue(workspace: Path) -> list[Run]:
    """The waiting runs, the next one first."""
    waiting = [run for run in _having(workspace, "waiting") if run.is_waiting()]
    return sorted(waiting, key=_place)


def stopping(workspace: Path) -> list[Run]:
    """The runs at work that were asked to stop."""
    return [run for run in _having(workspace, "stop") if run.is_live()]


def unattended(workspace: Path) -> list[Run]:
    """The runs that a cluster may still have, and that nobody attends to: a watcher does again."""
    runs = (run for run in unended(workspace) if os.path.exists(f"{run.path}/{record.FILE}"))
    return [run for run in runs if run.has_cluster_job() and not is_locked(run.job_lock)]


def _having(workspace: Path, file: str) -> list[Run]:
    return [Run(path) for path in _folders(workspace) if os.path.exists(f"{path}/{file}")]


def _folders(workspace: Path) -> list[str]:
    """Asked ten times a second of hundreds of runs: one listing, and no object for each."""
    try:
        with os.scandir(workspace / "runs") as entries:
            return sorted(
                entry.path for entry in entries if entry.name[0] != "." and entry.is_dir()
            )
    except FileNotFoundError:
        return []


def ahead(workspace: Path, run: Run) -> list[str]:
    """The names of the runs that a waiting run waits for: those at work, then the queue."""
    waiting, command = queue(workspace), read_command(run)
    names = [run_ahead.name for run_ahead in waiting]
    if run.name not in names or command is None:
        return []
    live = [run_ahead for run_ahead in all_runs(workspace) if run_ahead.is_live()]
    return [
        run_ahead.name
        for run_ahead in (*live, *waiting[: names.index(run.name)])
        if command.is_in_the_way_of(read_command(run_ahead) or Command(()))
    ]


def _place(run: Run) -> float:
    with suppress(OSError, ValueError, IndexError):  # it may start, or be cancelled, right now
        place = float(run.waiting_file.read_text().split()[0])
        return place if math.isfinite(place) else 0.0
    return 0.0


def read_command(run: Run) -> Command | None:
    """What was asked of the run; None for one that was not started as a job, or whose command.json
    cannot be read: who lists runs goes on, and `command_of` says why."""
    with suppress(OSError, ValueError):
        return Command.from_json(run.command_file.read_bytes())
    return None


def line(run: Run) -> str:
    """What the run executes, as a shell reads it; "" where it was started by hand, and why not
    where it is refused."""
    if not os.path.lexists(run.command_file):
        return ""
    try:
        return rebuilt(run, command_of(run)).line
    except ValueError as error:
        return f"It cannot be shown: {error}"


def command_of(run: Run) -> Command:
    """What was asked of the run. ValueError: started by hand, or command.json cannot be read."""
    try:
        return Command.from_json(run.command_file.read_bytes())
    except FileNotFoundError:
        raise ValueError(
            f"run {run.name!r} was started by hand; resume it by hand, with --resume"
        ) from None
    except (OSError, ValueError) as error:
        raise ValueError(
            f"{run.command_file} cannot be read ({error}); resume it by hand with python -m "
            f"loctex.train --run {run.path} --resume, or delete the run"
        ) from error


def submit(workspace: Path, run: Run, command: Command, settings: str = "", token: str = "") -> Run:
    """Put a new run into the queue, with its settings as YAML; returns the run.

    The directory appears with all its files or not at all. The same token again returns the run
    that was made of it. ValueError where the name is taken.
    """
    if existing := find(workspace, token):
        return existing
    now = time.time()
    draft = Run(draft_of(run.path))
    write_whole(draft.settings_file, settings)
    complete = portable(run, replace(command, token=token, submitted=now))
    write_whole(draft.command_file, complete.to_json())
    draft.wait(now)
    try:
        os.rename(draft.path, run.path)
    except OSError:
        shutil.rmtree(draft.path)
        if existing := find(workspace, token):
            return existing
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


def move(workspace: Path, run: Run, places: int) -> None:
    """Let a waiting run start `places` earlier (below 0) or later. ValueError if it waits not."""
    waiting = queue(workspace)
    names = [waiting_run.name for waiting_run in waiting]
    if run.name not in names:
        raise ValueError(f"run {run.name!r} does not wait any more")
    old = names.index(run.name)
    new = min(max(old + places, 0), len(names) - 1)
    other_places = [_place(waiting_run) for waiting_run in waiting if waiting_run.name != run.name]
    before = (
        other_places[new - 1] if new > 0 else other_places[0] - 2 if other_places else _place(run)
    )
    after = other_places[new] if new < len(other_places) else before + 2
    place = repr((before + after) / 2).ljust(PLACE_WIDTH)
    with open(run.waiting_file, "r+b") as file:  # never made anew: it may have started just now
        file.write(place.encode())


def stop(workspace: Path, run: Run) -> None:
    """Ask a run to write a checkpoint and end; one that waits leaves the queue."""
    if run.state in ("waiting", "running"):
        run.request_stop()
        run.waiting_file.unlink(missing_ok=True)
        ensure_watcher(workspace)


def resume(workspace: Path, run: Run, checkpoint: str = "last") -> None:
    """Put a stopped or failed run into the queue again; it goes on from a checkpoint ("last",
    "best", "step-00000200"), and what it logged after that is dropped.

    ValueError where it is not at rest, is done, or was not started as a job.
    """
    if run.state not in ("stopped", "failed"):
        raise ValueError(
            f"run {run.name!r} is {run.state}; only a stopped or failed one is resumed"
        )
    if not CHECKPOINT.fullmatch(checkpoint):  # from a browser; it becomes a word of the command
        raise ValueError(
            f"run {run.name!r} has no checkpoint {checkpoint[:40]!r}; choose last, best or a step"
        )
    words = with_option(command_of(run).words, "--resume")
    rebuilt(run, replace(command_of(run), words=words))  # before anything is cut back
    if (run.path / "last").exists() or checkpoint_files.folders(run.path):
        words += () if checkpoint == "last" else (checkpoint,)
    else:  # it ended before its first checkpoint: from the start
        words = words[:-1]
        run.cut_back(-1)
    _again(workspace, run, words)


def extend(workspace: Path, run: Run, steps: int) -> None:
    """Let a run that is done go on until it has taken `steps`. ValueError where it cannot."""
    if run.state != "done":
        raise ValueError(f"run {run.name!r} is {run.state}; only one that is done is gone on with")
    words = with_option(command_of(run).words, "--train.steps", str(steps))
    _again(workspace, run, with_option(words, "--resume"))


def _again(workspace: Path, run: Run, words: tuple[str, ...]) -> None:
    command = replace(command_of(run), words=words)
    rebuilt(run, command)  # says the way out now, where it cannot be executed
    write_whole(run.command_file, command.to_json())
    run.forget_end()
    run.wait(time.time())
    ensure_watcher(workspace)


def remove(run: Run) -> None:
    """Delete a run and all it learned. ValueError where it waits or is at work."""
    if run.state in ("waiting", "running", "stopping"):
        raise ValueError(f"run {run.name!r} is {run.state}; stop it first")
    grave = draft_of(run.path)  # swept with the drafts if the rest is interrupted
    os.rename(run.path, grave)  # from now on it is no run, however long the rest takes
    shutil.rmtree(grave)


def ensure_watcher(workspace: Path) -> None:
    """Start a watcher, detached, if there is work for one and none is there.

    What waits where nothing may be written waits on.
    """
    if not has_work(workspace) or is_locked(workspace / "watcher.lock"):
        return
    if not is_writable(workspace):
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


def has_work(workspace: Path) -> bool:
    """Whether a run waits, one at work was asked to stop, or a cluster has one unattended."""
    return bool(queue(workspace) or stopping(workspace) or unattended(workspace))
