"""Attends a run's job of the cluster: hands it over, asks how it is, ends it where that is asked.

    python -m loctex.jobs slurm LAUNCHER -- python -m loctex.train --run RUN ...

It ends with the job, and with its exit code. What it knows lies in RUN/cluster.json: killed and
started again it finds the job by its number, or by a token in its comment, and never hands over a
second one beside it. The state that the app shows is read from there.
"""

import logging
import os
import signal
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

from loctex.jobs.command import ROOT, with_option
from loctex.jobs.run import Run
from loctex.jobs.slurm import client, record, sentences
from loctex.jobs.slurm.client import JobStatus, MissingError, RefusedError, UnreachableError
from loctex.jobs.slurm.options import EXIT, SCRIPT, SlurmOptions
from loctex.jobs.slurm.record import ClusterJob
from loctex.records.files import is_locked, write_whole

TICK = 0.2  # seconds between two looks at the run's files
SOON, SELDOM = 1.0, 15.0  # seconds between two questions to Slurm: each time a little more
RETRY = 20.0  # seconds until a full queue, or a Slurm that does not answer, is asked again
SETTLED = 2.0  # seconds after which what an interrupted sbatch sent has arrived
_ENDED = (  # states in which a job stays for good
    *("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "DEADLINE", "PREEMPTED", "OUT_OF_MEMORY"),
    *("NODE_FAIL", "BOOT_FAIL", "REVOKED"),
)


class Attendant:
    """One run's job. `attend` returns the exit code of the training."""

    def __init__(self, run: Run, options: SlurmOptions, words: Sequence[str]) -> None:
        self.run, self.options = run, options
        self.words = always_the_same(words)
        self.job: ClusterJob | None = None
        self.signaled: list[int] = []
        self.is_cancelled = self.is_obsolete = False
        self.seconds = SOON  # until Slurm is asked again

    def attend(self) -> int:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda number, frame: self.signaled.append(number))
        self._take_up()
        while self.job is None or not self.job.has_ended:
            if self.run.stop_requested() and self._is_over_without_a_job():
                return 0
            self._hand_over() if self.job is None else self._watch(self.job)
        return self._exit_code(self.job)

    def _take_up(self) -> None:
        """The job of an earlier attendant, if there is one still."""
        earlier = record.read(self.run.path)
        if earlier is None or earlier.has_ended:
            return
        while not earlier.job:  # its attendant was killed while it handed it over
            try:
                number = client.find(earlier.token)
            except UnreachableError as error:
                self._note(replace(earlier, problem=str(error)))
                self._pause(RETRY)
                continue
            if not number:
                self.job = None
                return  # it never arrived
            earlier = replace(earlier, job=number, state="PENDING", problem="")

        self._note(earlier)
        if _aim(earlier.words) == _aim(self.words):
            return

        self.is_obsolete = True
        while self.job is not None and not self.job.has_ended:
            self._watch(self.job)
        self.job, self.is_cancelled, self.is_obsolete = None, False, False

    def _hand_over(self) -> None:
        """sbatch; what is only temporary is tried again, until somebody stops the run."""
        job = ClusterJob(token=f"loctex {uuid4().hex}", words=self.words)
        (self.run.path / EXIT).unlink(missing_ok=True)
        write_whole(self.run.path / SCRIPT, self.options.script(self._folder, self.words))
        words = self.options.submission(self._folder, job.token)
        job.write(self.run.path)
        try:
            number = client.submit(words, lambda: any(self._wishes()))
        except UnreachableError as error:
            logging.info("slurm: %s; asked again in %.0f s", error, RETRY)
            job = replace(job, reason=str(error))
            job.write(self.run.path)
            self._pause(SETTLED if any(self._wishes()) else RETRY)
            number = self._arrived(job)
            if not number:
                return  # the next round tries again, unless the run is to stop
        except (RefusedError, MissingError) as error:
            logging.info("slurm refused the job: %s", error)
            self._note(replace(job, state=record.REFUSED, reason=str(error), has_ended=True))
            return
        self._note(replace(job, job=number, state="PENDING", reason=""))

    def _arrived(self, job: ClusterJob) -> str:
        """The number of a job whose sbatch was broken off; "" where none came into being."""
        while True:
            try:
                return client.find(job.token)
            except UnreachableError as error:
                job = replace(job, problem=str(error))
                job.write(self.run.path)
                if self.signaled and not self.run.stop_requested():
                    self._leave()
                self._pause(RETRY)

    def _is_over_without_a_job(self) -> bool:
        """Whether the run is to stop before it has a job."""
        if self.job is not None:
            return False
        (self.run.path / record.FILE).unlink(missing_ok=True)
        return True

    def _watch(self, job: ClusterJob) -> None:
        """Asks Slurm, notes what is new, and waits until it is time to ask again."""
        try:
            job_status = client.status(job.job)
        except UnreachableError as error:
            if not job.problem:
                logging.info("slurm does not answer: %s", error)
            self._note(replace(job, problem=str(error)))
            self._pause(RETRY)
            return
        known = self._known(job, job_status)
        if known != job:
            self._note(known)
            self.seconds = SOON
        if known.has_ended:
            return

        is_to_end = self.run.stop_requested() and (known.is_queued or bool(self.signaled))
        if (is_to_end or self.is_obsolete) and not self.is_cancelled:
            self._cancel(job.job)
            self.seconds = SOON
        self.seconds = min(SELDOM, 1.3 * self.seconds)
        self._pause(self.seconds)

    def _known(self, job: ClusterJob, job_status: JobStatus | None) -> ClusterJob:
        job = replace(job, problem="")
        if job_status is None or not self._is_own(job_status):
            code = self._written_code(job.job)
            if code is None and is_locked(self.run.train_lock):
                return job  # its training is at work, whatever Slurm remembers
            if code is None:
                return replace(job, state=record.LOST, has_ended=True)
            state = "FAILED" if code else "COMPLETED"
            return replace(job, state=state, exit_code=code, has_ended=True)

        code = job_status.exit_code
        if job_status.state == "FAILED" and not code:
            code = self._written_code(job.job) or 1
        return replace(
            job,
            state=job_status.state,
            reason=job_status.reason,
            nodes=job_status.nodes,
            restarts=max(job.restarts, job_status.restarts),
            exit_code=code,
            has_ended=job_status.state in _ENDED,
        )

    def _is_own(self, job_status: JobStatus) -> bool:
        """Not so in a folder that was copied with its cluster.json: the job is the other one's."""
        if not job_status.script:
            return True
        return os.path.realpath(job_status.script) == os.path.realpath(self._folder / SCRIPT)

    def _written_code(self, job: str) -> int | None:
        """What the job's script wrote when it ended."""
        with suppress(OSError, ValueError):
            number, code = (self.run.path / EXIT).read_text().split()
            return int(code) if number == job else None
        return None

    def _cancel(self, job: str) -> None:
        try:
            client.cancel(job)
        except UnreachableError as error:
            logging.info("slurm: job %s could not be cancelled yet: %s", job, error)
        else:
            self.is_cancelled = True
            logging.info("slurm: job %s was cancelled", job)

    def _note(self, job: ClusterJob) -> None:
        """Writes down what is known now, for the app; a line of the log where it changed."""
        before = self.job
        self.job = job
        job.write(self.run.path)
        if before is None or (before.state, before.nodes) != (job.state, job.nodes):
            if job.has_ended:
                code = f", exit code {job.exit_code}" if job.exit_code else ""
                logging.info("slurm: job %s ended: %s%s", job.job, job.state, code)
            elif not job.problem:
                logging.info("slurm: %s", sentences.sentence(job))

    def _pause(self, seconds: float) -> None:
        """Waits, or until a file or a signal says that there is something to do."""
        until = time.monotonic() + seconds
        began_with = (self._wishes(), (self.run.path / EXIT).exists())
        while time.monotonic() < until:
            if self.signaled and not self.run.stop_requested():
                self._leave()
            if (self._wishes(), (self.run.path / EXIT).exists()) != began_with:
                self.seconds = SOON
                return
            time.sleep(TICK)

    def _wishes(self) -> tuple[bool, int]:
        """Whether the run is to stop, and how many signals came."""
        return self.run.stop_requested(), len(self.signaled)

    def _leave(self) -> None:
        """Ended by somebody who did not stop the run: the job goes on, and is found again."""
        number = self.signaled[-1]
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)

    def _exit_code(self, job: ClusterJob) -> int:
        if job.state == "COMPLETED" or self.run.stop_requested():
            return 0
        return job.exit_code or 1

    @property
    def _folder(self) -> Path:
        return Path(os.path.abspath(ROOT / self.run.path))


def _aim(words: Sequence[str]) -> list[str]:
    """Which checkpoint a training goes on from, and up to which step: a job with another aim is not
    the one that was asked for."""
    pairs = zip(words, words[1:], strict=False)
    return [value for name, value in pairs if name in ("--resume", "--train.steps")]


def always_the_same(words: Sequence[str]) -> tuple[str, ...]:
    """The words that a job executes each time it starts: it goes on where there is a checkpoint.

    Where a person named the checkpoint, that is where it goes on from.
    """
    words = tuple(words)
    if "--resume" in words and words[-1] not in ("--resume", "last"):
        return words
    return with_option(words, "--resume", "auto")
