"""A run is a directory, and its state is derived: from the files in it and from locks that the
kernel frees when their holder dies. Nothing here imports torch.

    settings.yaml   command.json    what was asked for
    waiting                         its place in the queue, until a watcher starts it
    starts.jsonl                    what each start of it was made of and with
    metrics.jsonl   log.txt         what it logs, what it prints
    film.jsonl                      where it looks on a few pictures, every so many steps
    checkpoints/                    what it can resume from
    stop                            a request to write a checkpoint and end
    exit.json       result.json     how the command ended; what a finished training says
    remarks.json                    a person's star and note
    cluster.json    job.sh          its job in a cluster, where it is one (loctex/jobs/slurm)
    job.lock        train.lock      held by the watcher that started it; held by the trainer
"""

import json
import math
import os
import platform
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from loctex.jobs.slurm import record
from loctex.records.files import (
    BusyError,
    draft_file,
    holder,
    is_locked,
    locked,
    sweep,
    write_whole,
)

METRICS_TAIL = 8_000  # bytes at the end of metrics.jsonl that say how far a run is
PLACE_WIDTH = 24  # characters of the place in the queue, which may be written over
IS_JOB = "LOCTEX_IS_JOB"  # set in the environment of a cluster's job
_HERE = platform.node() or "-"
_LARGEST = 2**53  # of a step: beyond, a float is not exact


class Run:
    """One training run: a directory, created by the first write."""

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self.name = self.path.name
        self.settings_file = self.path / "settings.yaml"
        self.command_file = self.path / "command.json"
        self.waiting_file = self.path / "waiting"
        self.starts_file = self.path / "starts.jsonl"
        self.metrics_file = self.path / "metrics.jsonl"
        self.film_file = self.path / "film.jsonl"
        self.features_file = self.path / "features.json"  # while they are computed
        self.remarks_file = self.path / "remarks.json"
        self.log_file = self.path / "log.txt"
        self.stop_file = self.path / "stop"
        self.exit_file = self.path / "exit.json"
        self.result_file = self.path / "result.json"
        self.checkpoints = self.path / "checkpoints"
        self.job_lock = self.path / "job.lock"
        self.train_lock = self.path / "train.lock"

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r})"

    @property
    def state(self) -> str:
        """new, waiting (here or in a cluster), running, stopping, done, stopped or failed."""
        was_live = self.is_live()
        state = self._state_at_rest()
        if was_live or self.is_live():  # asked twice: it may start while we read the files
            if self.stop_requested():
                return "stopping"
            job = record.read(self.path)
            is_queued = job is not None and job.is_queued and not is_locked(self.train_lock)
            return "waiting" if is_queued else "running"
        return state

    def _state_at_rest(self) -> str:
        if self.waiting_file.is_file():
            return "waiting" if self.is_waiting() else "stopped"
        is_stopped = self.stop_requested()
        if self.exit_code not in (None, 0):
            return "stopped" if is_stopped else "failed"
        if self.result_file.exists():
            return "done"
        if is_stopped:
            return "stopped"
        return "failed" if self.has_started() else "new"

    def wait(self, place: float) -> None:
        """Put it into the queue, the lowest place first."""
        with draft_file(self.waiting_file) as draft, open(draft, "wb") as file:
            number = os.fstat(file.fileno()).st_ino
            file.write(f"{place!r:<{PLACE_WIDTH}} {number} {_HERE} {self.path.parent}".encode())

    def is_waiting(self) -> bool:
        """Whether it waits in this queue.

        The file holds its own number (inode), which a copy or a restored file does not have, and
        its machine and folder, for file systems whose numbers change. What waited elsewhere, or was
        put there by an older version, does not start by itself: somebody resumes it.
        """
        try:
            with open(self.waiting_file, "rb") as file:
                number = os.fstat(file.fileno()).st_ino
                _, own_number, machine, folder = file.read(4096).decode().split(maxsplit=3)
        except (OSError, ValueError):  # not there, started just now, or without all of these
            return False
        is_here = (machine, folder) == (_HERE, str(self.path.parent))
        return own_number == str(number) or is_here

    def is_live(self) -> bool:
        """Whether a watcher or a trainer works on it now, or a cluster may."""
        has_holder = is_locked(self.train_lock) or is_locked(self.job_lock)
        return has_holder or self.has_cluster_job()

    def has_cluster_job(self) -> bool:
        """Whether a cluster has a job of it that nobody saw end; its attendant may be gone."""
        if self.exit_file.exists() or self.waiting_file.exists():
            return False
        job = record.read(self.path)
        return job is not None and not job.has_ended

    def has_started(self) -> bool:
        return self.job_lock.exists() or self.train_lock.exists()

    @property
    def exit_code(self) -> int | None:
        """How the command last ended (-9: killed by signal 9); None if no watcher saw it end, or
        what it wrote cannot be read."""
        with suppress(OSError, ValueError):
            record = json.loads(self.exit_file.read_bytes())
            if isinstance(record, dict) and type(record.get("code")) is int:
                return record["code"]
        return None

    @contextmanager
    def hold(self) -> Iterator[None]:
        """The trainer's own lock, so that a dead watcher does not make a live run look dead.

        Typed in a terminal, it forgets how the run ended before; under a watcher it does not,
        for a stop asked for since then must be heeded; nor in a job of a cluster (IS_JOB), on
        whose machine the watcher's lock may not be seen. Raises BusyError if held.
        """
        with ExitStack() as stack:
            try:
                stack.enter_context(locked(self.train_lock))
            except BusyError:
                raise BusyError(
                    f"{self.path} is at work already, in process {holder(self.train_lock)}; "
                    "wait for it, stop it, or name another folder"
                ) from None
            if not (is_locked(self.job_lock) or IS_JOB in os.environ):
                self.forget_end()
            sweep(self.path)
            yield

    def forget_end(self) -> None:
        """Before it starts again: it waits no more, and how it ended before says nothing now."""
        for path in (self.waiting_file, self.exit_file, self.stop_file, self.result_file):
            path.unlink(missing_ok=True)
        job = record.read(self.path)
        if job is not None and job.has_ended:
            (self.path / record.FILE).unlink(missing_ok=True)

    def log(self, step: int, **values: float) -> None:
        """Append one line of metrics.jsonl; a value that is not finite is written as null."""
        numbers = {name: _finite(value) for name, value in values.items()}
        line = json.dumps({"step": int(step), "time": round(time.time(), 3)} | numbers)
        self.path.mkdir(parents=True, exist_ok=True)
        with open(self.metrics_file, "ab") as file:
            file.write(line.encode() + b"\n")

    def metrics(self, after: int = -1) -> list[dict]:
        """The logged lines of later steps than `after`."""
        return [row for row in self.read_metrics()[0] if row["step"] > after]

    def read_metrics(self, offset: int = 0) -> tuple[list[dict], int]:
        """The whole lines beyond a byte offset, and the offset where the next reading goes on.

        A line that cannot be read, as a power cut leaves it, is left out.
        """
        try:
            with open(self.metrics_file, "rb") as file:
                file.seek(offset)
                text = file.read()
        except OSError:  # not there yet, or not ours to read
            return [], 0
        text = text[: text.rfind(b"\n") + 1]  # the last line may still be being written
        rows = (parse_row(line) for line in text.split(b"\n")[:-1])
        return [row for row in rows if row is not None], offset + len(text)

    def cut_back(self, step: int) -> None:
        """Drop the lines beyond a step, and a torn last one: training resumes from there."""
        rows = [json.dumps(row) + "\n" for row in self.metrics() if row["step"] <= step]
        if self.metrics_file.exists():
            write_whole(self.metrics_file, "".join(rows))

    def film(self) -> tuple[dict | None, list[dict]]:
        """The pictures and the frames of film.jsonl; a line that cannot be read is left out."""
        try:
            lines = self.film_file.read_bytes().split(b"\n")[:-1]
        except OSError:
            return None, []
        records = [_record(line) for line in lines]
        if not records or records[0] is None or not {"pictures", "grid"} <= set(records[0]):
            return None, []
        frames = [
            record for record in records[1:] if record and {"step", "maps", "hits"} <= set(record)
        ]
        return records[0], frames

    def finish(self, result: dict) -> None:
        """result.json: the run is done."""
        write_whole(self.result_file, json.dumps(result, indent=1))

    def request_stop(self) -> None:
        write_whole(self.stop_file, str(time.time()))

    def stop_requested(self) -> bool:
        return self.stop_file.exists()

    def clear_stop(self) -> None:
        self.stop_file.unlink(missing_ok=True)

    def log_tail(self, num_lines: int = 12) -> list[str]:
        """The last lines printed; of a progress bar, which rewrites its line, the last state."""
        try:
            with open(self.log_file, "rb") as file:
                file.seek(max(0, os.fstat(file.fileno()).st_size - 64_000))
                text = file.read().decode(errors="replace")
        except OSError:
            return []
        lines = [line.rstrip("\r").rsplit("\r", 1)[-1] for line in text.split("\n")]
        return [line for line in lines if line.strip()][-num_lines:]


def parse_row(line: bytes) -> dict | None:
    """A line of metrics.jsonl: its step, its time and its numbers; None where it cannot be read."""
    record = _record(line)
    if record is None:
        return None
    row = {name: value for name, value in record.items() if _is_number(value) or value is None}
    if row.get("step") is None or not _is_number(row.setdefault("time", 0.0)):
        return None
    return row


def _record(line: bytes) -> dict | None:
    with suppress(ValueError, RecursionError):
        record = json.loads(line)
        return record if isinstance(record, dict) else None
    return None


def _is_number(value: object) -> bool:
    if type(value) is int:
        return abs(value) < _LARGEST
    return type(value) is float


def _finite(value: float) -> float | int | None:
    number = value if isinstance(value, int) else float(value)
    return number if math.isfinite(number) else None
