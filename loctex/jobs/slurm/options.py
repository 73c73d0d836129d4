"""What launchers.yaml says of a Slurm launcher, as words of sbatch and as the script of the job."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from loctex.jobs.command import ROOT, short, with_option
from loctex.jobs.run import IS_JOB

SCRIPT, EXIT = "job.sh", "job.exit"  # files of the run
TERMINATED, TIME_LIMIT = 128 + 15, 128 + 10  # how the training ends after SIGTERM, SIGUSR1
_COUNTS = ("nodes", "cpus", "processes", "grace", "requeues")
_FLAGS = {  # of sbatch, for what is handed on as it stands
    "partition": "--partition",
    "account": "--account",
    "qos": "--qos",
    "gpus": "--gpus-per-node",
    "memory": "--mem",
    "time": "--time",
    "constraint": "--constraint",
    "reservation": "--reservation",
    "exclude": "--exclude",
}


@dataclass(frozen=True)
class SlurmOptions:
    """The keys of `slurm:` in launchers.yaml; what is empty is left to the cluster.

    gpus, memory: of each node, as sbatch reads them (2, a100:2; 64G). processes: of each node; as
    many as there are GPUs where 0. cpus: of each process. time: the job's limit, as sbatch reads
    it. grace: seconds before that limit at which the run writes a checkpoint and ends. requeues:
    how often it then goes back into the queue by itself. options: more words of sbatch. setup:
    lines of shell before the training, such as `module load cuda`.
    """

    partition: str = ""
    account: str = ""
    qos: str = ""
    nodes: int = 1
    gpus: str = ""
    cpus: int = 0
    memory: str = ""
    time: str = ""
    processes: int = 0
    constraint: str = ""
    reservation: str = ""
    exclude: str = ""
    grace: int = 120
    requeues: int = 0
    options: str = ""
    setup: str = ""

    @classmethod
    def from_entry(cls, entry: object) -> SlurmOptions:
        """Of the texts of a YAML entry; ValueError names a key that is not known, or a value."""
        if entry in ("", None):
            return cls()
        if not isinstance(entry, Mapping):
            raise ValueError(f"slurm must hold names and values, got {entry!r:.60}")

        names = [field.name for field in fields(cls)]
        values: dict[str, str | int] = {}
        for name, value in entry.items():
            if name not in names:
                raise ValueError(f"slurm has no key {name!r}; its keys are {', '.join(names)}")
            if not isinstance(value, str):
                raise ValueError(f"slurm: {name} must be one value, got {value!r:.60}")
            if name in _COUNTS and not value.isdecimal():
                raise ValueError(f"slurm: {name} must be a whole number, got {value!r:.60}")
            values[name] = int(value) if name in _COUNTS else value

        options = cls(**values)  # type: ignore[arg-type]
        if options.nodes < 1:
            raise ValueError("slurm: nodes must be 1 or more")
        try:
            shlex.split(options.options)
        except ValueError as error:
            raise ValueError(f"slurm: options cannot be read: {error}") from error
        return options

    @property
    def num_processes(self) -> int:
        """Of each node."""
        if self.processes:
            return self.processes
        counts = re.findall(r"(?:^|,)(?:[^,:]*:)*(\d+)(?=,|$)", self.gpus)
        return max(1, sum(map(int, counts)))

    def submission(self, run: Path, token: str) -> list[str]:
        """The words that hand RUN/job.sh to Slurm; `token` lies in the job's comment."""
        log = str(run / "log.txt").replace("%", "%%")  # %j and the like would be filled in
        words = ["sbatch", "--parsable", f"--job-name={run.name}", f"--comment={token}"]
        words += [f"--output={log}", "--open-mode=append", f"--chdir={ROOT}", "--requeue"]

        words += [f"--nodes={self.nodes}", f"--ntasks-per-node={self.num_processes}"]
        for name, flag in _FLAGS.items():
            if value := getattr(self, name):
                words.append(f"{flag}={value}")
        if self.cpus:
            words.append(f"--cpus-per-task={self.cpus}")
        if self.grace:
            words.append(f"--signal=USR1@{self.grace}")
        return [*words, *shlex.split(self.options), str(run / SCRIPT)]

    def script(self, run: Path, words: Sequence[str]) -> str:
        """The job: `words` as one step of it, on all its nodes; after a requeue it goes on from its
        last checkpoint, whichever it began with.

        Each process is told its number as torchrun would; it gets Slurm's signals itself, and a
        batch shell that traps them waits until the checkpoint is written.
        """
        step = ["srun", "--kill-on-bad-exit=1"]
        step += [f"--cpus-per-task={self.cpus}"] if self.cpus else []
        if self.nodes * self.num_processes > 1:
            step += ["sh", "-c", _AS_TORCHRUN]

        again = _AGAIN.format(
            stop_file=shlex.quote(str(run / "stop")),
            terminated=TERMINATED,
            time_limit=TIME_LIMIT,
            requeues=self.requeues,
        )
        return _SCRIPT.format(
            name=run.name.replace("\n", " "),
            setup=self.setup.strip() + "\n" if self.setup else "",
            is_job=IS_JOB,
            step=shlex.join(step),
            words=shlex.join(words),
            words_again=shlex.join(with_option(words, "--resume", "auto")),
            again=again,
            exit_file=shlex.quote(str(run / EXIT)),
        )


_AS_TORCHRUN = (
    "export RANK=$SLURM_PROCID LOCAL_RANK=$SLURM_LOCALID WORLD_SIZE=$SLURM_NTASKS "
    "MASTER_ADDR=$SLURM_LAUNCH_NODE_IPADDR MASTER_PORT=$((20000 + SLURM_JOB_ID % 10000)); "
    'exec "$0" "$@"'
)
# A preempted job may end within its grace, and would count as failed: it asks for its place in the
# queue itself. Not so one that was cancelled, whose state is no longer RUNNING.
_AGAIN = """
again() {{
    [ ! -e {stop_file} ] &&
        scontrol show job "$SLURM_JOB_ID" | grep -q JobState=RUNNING &&
        echo "slurm: $1, it goes back into the queue" &&
        scontrol requeue "$SLURM_JOB_ID" && exit 0
}}
[ "$code" = {terminated} ] && again "preempted"
[ "$code" = {time_limit} ] && [ "${{SLURM_RESTART_COUNT:-0}}" -lt {requeues} ] &&
    again "near its time limit"
"""
_SCRIPT = """#!/bin/sh
# Written by the studio for the run {name}.
trap : TERM USR1
export {is_job}=1 PYTHONUNBUFFERED=1
{setup}
set -- {words}
[ "${{SLURM_RESTART_COUNT:-0}}" = 0 ] || set -- {words_again}
{step} "$@"
code=$?
{again}
echo "$SLURM_JOB_ID $code" > {exit_file}
exit $code
"""


def template(name: str) -> str:
    """The template of the launcher `name`: its attendant, with the words of the training."""
    attendant = [short(sys.executable), "-m", "loctex.jobs", "slurm", name, "--"]
    return shlex.join(attendant).replace("{", "{{").replace("}", "}}") + " {command}"
