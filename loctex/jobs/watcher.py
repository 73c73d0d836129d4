"""The watcher of a workspace: starts the waiting runs in order, and writes how each ended.

Runs that take different GPUs go side by side; all others one after another. What nobody watches,
because it was typed by hand or its watcher died, is waited for like one of its own.
"""

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Container
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path

from loctex.jobs import queue as jobs
from loctex.jobs.command import ROOT, Command
from loctex.jobs.execution import rebuilt
from loctex.jobs.run import Run
from loctex.records.files import BusyError, holder, is_locked, locked, worker, write_whole

GRACE = 120.0  # seconds a run has to write its checkpoint before it is asked harder
KILL_AFTER = 60.0  # seconds from SIGTERM to SIGKILL
TICK = 0.1  # seconds between two looks at the jobs


def watch(workspace: Path, grace: float = GRACE) -> None:
    """Work off the queue. Returns when nothing waits, or when another watcher is at it."""
    while jobs.has_work(workspace):  # asked again after the lock is free: nothing falls between
        try:
            with locked(workspace / "watcher.lock"):
                _work_off(workspace, grace)
        except BusyError:
            return


def _work_off(workspace: Path, grace: float) -> None:
    mine: dict[str, Job] = {}
    unwatched: dict[str, StopEscalation] = {}
    refused: set[str] = set()  # whose place in the queue cannot be taken away
    try:
        while mine or jobs.has_work(workspace):
            for run in jobs.unattended(workspace):
                mine[run.name] = Job(run, grace, is_again=True)
            for run in startable(workspace):
                if run.name in refused:
                    continue
                mine[run.name] = Job(run, grace)
                if run.waiting_file.is_file():
                    refused.add(run.name)
            mine = {name: job for name, job in mine.items() if not job.has_ended()}
            _stop_unwatched(workspace, grace, unwatched, mine)
            time.sleep(TICK)
    finally:
        for job in mine.values():
            job.release()


def startable(workspace: Path) -> list[Run]:
    """The waiting runs that nothing is in the way of: neither at work nor earlier in the queue."""
    waiting = jobs.queue(workspace)
    if not waiting:
        return []
    running_commands = [_command(run) for run in jobs.unended(workspace) if run.is_live()]
    free = []
    for run in waiting:
        command = _command(run)
        if not any(command.is_in_the_way_of(running) for running in running_commands):
            free.append(run)
        running_commands.append(command)
    return free


def _command(run: Run) -> Command:
    """What a run takes; one that was typed by hand takes the machine."""
    return jobs.read_command(run) or Command(())


class Job:
    """A run at work: from taking its lock to writing how its command ended.

    is_again: it is a cluster's job already, and only its attendant is started again.
    """

    def __init__(self, run: Run, grace: float, is_again: bool = False) -> None:
        self.run = run
        self.process: subprocess.Popen | None = None
        self.code: int | None = 0
        self.escalation: StopEscalation | None = None
        self.lock = -1  # the descriptor
        with ExitStack() as stack:
            try:
                self.lock = stack.enter_context(locked(run.job_lock))
                if not is_again:
                    run.waiting_file.unlink()
            except (BusyError, FileNotFoundError):  # cancelled, or started by hand
                self.code = None
            except OSError as error:  # a folder in place of its lock, a disk that is not ours
                with suppress(OSError):
                    run.waiting_file.unlink(missing_ok=True)
                self._give_up(error, 1)
            else:
                self._try_to_start()
            self._stack = stack.pop_all()
        if self.process:
            group, own = self.process.pid, _command(run).grace
            patience = grace if own is None else own
            self.escalation = StopEscalation(run, patience, partial(os.killpg, group))

    def _try_to_start(self) -> None:
        """Start the command; a run that cannot be started has failed, and the queue goes on."""
        try:
            self.run.exit_file.unlink(missing_ok=True)
            if not self.run.stop_requested() or self.run.has_cluster_job():
                self._start()
        except ValueError as error:
            self._give_up(f"error: {error}", 1)
        except OSError as error:
            self._give_up(error, 127)  # as a shell says it

    def _start(self) -> None:
        execution = rebuilt(self.run, jobs.command_of(self.run))  # before it takes a GPU
        with open(self.run.log_file, "ab") as log:
            log.write(f"$ {execution.line}\n".encode())
            log.flush()
            self.process = subprocess.Popen(
                execution.launched,
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env=os.environ | {"PYTHONUNBUFFERED": "1"},
                # the job holds its lock too: where its watcher is killed, it is at work still
                pass_fds=[self.lock],
            )
        os.pwrite(self.lock, f"{os.getpid()} {self.process.pid}".encode(), 0)

    def _give_up(self, why: object, code: int) -> None:
        """It ended before it began: `why`, in its log and in the watcher's."""
        self.code = code
        print(f"{self.run.name}: {why}", flush=True)
        with suppress(OSError), open(self.run.log_file, "ab") as log:
            log.write(f"{why}\n".encode())

    def has_ended(self) -> bool:
        """Whether the command ended; then how is written, and the run is let go."""
        if self.process is not None:
            self.code = self.process.poll()
            if self.code is None:
                if self.escalation:
                    self.escalation()
                return False
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)  # workers that outlived their trainer
            if self.code < 0 and self.run.has_cluster_job():
                self.release()  # only its attendant was killed: another one is started
                return True
        if self.code is not None:
            ended = {"code": self.code, "time": time.time()}
            try:
                write_whole(self.run.exit_file, json.dumps(ended))
            except OSError as error:  # it counts as failed then, and the queue goes on
                print(f"{self.run.name}: how it ended cannot be written: {error}", flush=True)
        self.release()
        return True

    def release(self) -> None:
        self._stack.close()


class StopEscalation:
    """Asks a run that was told to stop ever harder: its stop file, then SIGTERM, then SIGKILL."""

    def __init__(self, run: Run, grace: float, send: Callable[[int], None]) -> None:
        self.run, self.send = run, send
        self.left = [(grace, signal.SIGTERM), (grace + KILL_AFTER, signal.SIGKILL)]
        self.begun: float | None = None  # of the monotonic clock: it stands still in a suspend

    def __call__(self) -> None:
        if not self.run.stop_requested():
            return
        if self.begun is None:
            self.begun = time.monotonic()
        age = time.monotonic() - self.begun
        if self.left and age > self.left[0][0]:
            # the steps lie KILL_AFTER apart, however late this one is
            self.left = [(later - self.left[0][0] + age, number) for later, number in self.left]
            with suppress(ProcessLookupError, PermissionError):
                self.send(self.left.pop(0)[1])


def _stop_unwatched(
    workspace: Path, grace: float, escalations: dict[str, StopEscalation], own: Container[str]
) -> None:
    """Stop what nobody watches, where that is asked; `own` are the runs of this watcher."""
    for run in jobs.stopping(workspace):
        if run.name in own:
            continue
        trainer = holder(run.train_lock) if is_locked(run.train_lock) else None
        process = worker(run.job_lock) if is_locked(run.job_lock) else None
        if run.has_cluster_job():
            trainer = None  # a process of another machine; its attendant has it ended
        send = partial(os.kill, trainer) if trainer else None
        if send is None and process:  # a job without a lock of its own leads its group
            send = partial(os.killpg, process)
        if run.name not in escalations and send is not None:
            escalations[run.name] = StopEscalation(run, grace, send)
        if run.name in escalations:
            escalations[run.name]()
