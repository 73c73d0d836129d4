"""Slurm's commands: sbatch, scontrol, squeue, sacct and scancel, and what they say.

Only columns and keys that Slurm has had for many years are read; no accounting database is needed.
"""

import re
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass

PATIENCE = 30.0  # seconds a command may take
TEMPORARY = re.compile(
    r"temporarily|Unable to contact|timed out|[Cc]onnection refused|connect failure|Zero Bytes|"
    r"Resource temporarily|backup controller|Slurm controller"
)


class UnreachableError(Exception):
    """Slurm did not answer; what it would say is not known."""


class RefusedError(Exception):
    """Slurm answered, and refused."""


class MissingError(ValueError):
    """A command of Slurm is not installed on this machine."""


@dataclass(frozen=True)
class JobStatus:
    """What Slurm says of a job; exit_code: as a shell would say it, 128 + a signal's number."""

    state: str
    reason: str
    nodes: str
    restarts: int
    exit_code: int
    script: str = ""  # which file it executes


def job_number(printed: str) -> str:
    """12 of "12;cluster", what `sbatch --parsable` prints; ValueError for anything else."""
    lines = printed.split()
    number = lines[-1].partition(";")[0] if lines else ""
    if not number.isdecimal():
        raise ValueError(f"sbatch did not say the number of the job, but {printed!r:.80}")
    return number


def status(job: str) -> JobStatus | None:
    """None where Slurm no longer knows the job. Raises UnreachableError."""
    try:
        return parse_status(ask(["scontrol", "--oneliner", "show", "job", job]))
    except RefusedError as error:
        if "Invalid job id" not in str(error):
            raise UnreachableError(str(error)) from error
    try:
        return parse_accounting(
            ask(["sacct", "-n", "-X", "-P", "-j", job, "-o", "State,ExitCode,NodeList"])
        )
    except (RefusedError, MissingError):  # this cluster keeps no accounts
        return None


def parse_status(text: str) -> JobStatus:
    """Of a line of `scontrol --oneliner show job`: keys and values, Key=value."""

    def value(key: str, default: str = "") -> str:
        match = re.search(rf"(?:^|\s){key}=(\S*)", text)
        return match[1] if match and match[1] not in ("(null)", "None") else default

    script = re.search(r"\sCommand=(.*?)(?:\s\w+=|\s*$)", text)  # a path may have spaces
    return JobStatus(
        state=value("JobState", "UNKNOWN"),
        reason=value("Reason"),
        nodes=value("NodeList"),
        restarts=int(value("Restarts", "0")),
        exit_code=shell_code(value("ExitCode", "0:0")),
        script=script[1] if script and script[1] != "(null)" else "",
    )


def parse_accounting(text: str) -> JobStatus | None:
    """Of `sacct -n -P -o State,ExitCode,NodeList`; a state may read "CANCELLED by 1000"."""
    line = text.strip().splitlines()[-1:] or [""]
    cells = line[0].split("|")
    if len(cells) < 3 or not cells[0]:
        return None
    return JobStatus(cells[0].split()[0], "", cells[2], 0, shell_code(cells[1]))


def shell_code(text: str) -> int:
    """138 of Slurm's 138:0; 137 of 0:9, which is signal 9."""
    code, _, number = text.partition(":")
    return int(code) or (128 + int(number or 0) if int(number or 0) else 0)


def submit(words: Sequence[str], is_interrupted: Callable[[], bool]) -> str:
    """The number of the job that sbatch made.

    sbatch itself tries again for minutes where the queue is full. It keeps the run's lock, which
    its attendant has from the watcher: as long as it lives, nobody takes the run up.
    Raises UnreachableError where only the moment is wrong, or it was interrupted; RefusedError.
    """
    try:
        process = subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            close_fds=False,
        )
    except FileNotFoundError as error:
        raise MissingError(f"{words[0]} is not installed on this machine") from error
    with process:
        while True:
            try:
                printed, _ = process.communicate(timeout=0.2)
                break
            except subprocess.TimeoutExpired:
                if is_interrupted():
                    process.kill()
                    raise UnreachableError("sbatch was interrupted") from None

    text = " ".join(printed.split())
    if process.returncode == 0:
        return job_number(printed)
    if TEMPORARY.search(text):
        raise UnreachableError(text)
    raise RefusedError(text.rpartition("submission failed: ")[2] or f"exit {process.returncode}")


def find(token: str) -> str:
    """The number of this user's job whose comment is `token`; "" where there is none."""
    try:
        answer = ask(["squeue", "--noheader", "--me", "--format=%i %k"])
    except RefusedError as error:
        raise UnreachableError(str(error)) from error
    for line in answer.splitlines():
        job, _, comment = line.strip().partition(" ")
        if comment.strip() == token:
            return job
    return ""


def cancel(job: str) -> None:
    """Has Slurm end it: SIGTERM, and SIGKILL after the cluster's KillWait."""
    try:
        ask(["scancel", job])
    except RefusedError as error:
        if "Invalid job id" not in str(error):  # it is gone
            raise UnreachableError(str(error)) from error


def ask(words: Sequence[str]) -> str:
    """What a command of Slurm prints. Raises UnreachableError, RefusedError, MissingError."""
    try:
        answer = subprocess.run(
            words, capture_output=True, text=True, timeout=PATIENCE, stdin=subprocess.DEVNULL
        )
    except FileNotFoundError as error:
        raise MissingError(f"{words[0]} is not installed on this machine") from error
    except subprocess.TimeoutExpired as error:
        raise UnreachableError(f"{words[0]} took longer than {PATIENCE:.0f} s") from error
    if answer.returncode:
        text = " ".join(answer.stderr.split()) or f"exit code {answer.returncode}"
        if TEMPORARY.search(text):
            raise UnreachableError(text)
        raise RefusedError(text)
    return answer.stdout
