"""Why a run failed, in plain words: one line, and what to do about it."""

import re
import signal
from collections.abc import Sequence
from dataclasses import dataclass

from loctex import settings
from loctex.jobs.run import Run
from loctex.jobs.slurm import record, sentences


@dataclass(frozen=True)
class Failure:
    """`what` happened, and the `remedy`: one sentence each."""

    what: str
    remedy: str


KILLED = "The system killed it, most often for want of memory."
_OF_SLURM = re.compile(r"(slurm|srun|slurmstepd[^:]*): ")  # what it prints around a training
_KNOWN = (  # (what the log says, what happened, what to do); the first that fits counts
    (
        r"^error: out of memory: (?P<detail>.+)",
        "It ran out of memory.",
        "{detail}. Then resume, or start a new run.",
    ),
    (
        r"CUDA out of memory|OutOfMemoryError|CUDNN_STATUS_ALLOC_FAILED|CUBLAS_STATUS_ALLOC_FAILED",
        "The GPU ran out of memory.",
        "Use a smaller batch size or image size, or close other programs that use this GPU.",
    ),
    (
        r"can't allocate memory|MemoryError|Cannot allocate memory",
        "The computer ran out of memory.",
        "Use a smaller batch size or image size, or close other programs.",
    ),
    (
        r"No space left on device|Disk quota exceeded|ENOSPC",
        "The disk is full.",
        "Make room on the disk, then resume: the last checkpoint is whole.",
    ),
    (
        r"Bus error|out of shared memory|DataLoader worker .*(exited|killed)|can't start new thread"
        r"|cannot schedule new futures",
        "A worker that loads images died.",
        "Use fewer threads (data.threads), and look for little free memory; then resume.",
    ),
    (
        r"ValueError: .*(JPEG|jpeg|image)|ArrowInvalid|Parquet magic",
        "An image of the snapshot is missing or cannot be read.",
        "Freeze the collection again and start a new run on it.",
    ),
    (
        r"not finite|non-finite",
        "The loss was no longer a finite number.",
        "Lower the learning rates or lengthen the warm-up, then start a new run.",
    ),
    (
        r"NCCL|ProcessGroup|ChildFailedError|RendezvousTimeout",
        "The processes lost each other.",
        "See which process ended first in the log; check GPUs and network, then resume.",
    ),
    (
        r"(sbatch|srun): error: (Batch job submission failed|Unable to allocate resources): "
        r"(?P<detail>.+)",
        "Slurm refused the job: {detail}",
        "Mend its launcher in launchers.yaml, then resume.",
    ),
    (
        r"ModuleNotFoundError: No module named '(?P<detail>[^']+)'",
        "The Python package {detail} is missing.",
        "Install requirements.txt into the Python that runs this, then start again.",
    ),
    (
        r"FileNotFoundError: (?P<detail>.+)",
        "A file is missing: {detail}",
        "Put it back, or choose other data and start a new run.",
    ),
    (r"^error: (?P<detail>.+)", "{detail}", "Change what it names, then start again."),
)


def explain(run: Run) -> Failure:
    """Why a failed run failed, from its exit code and the end of its log."""
    if ended_by_cluster := sentences.end(record.read(run.path)):
        return Failure(*ended_by_cluster)
    failure = from_log(run.exit_code, run.log_tail(60))
    if failure.what != KILLED:
        return failure

    try:
        options = settings.load(run.settings_file).train
    except (OSError, ValueError):
        return failure

    pairs = options.batch_size // options.accumulate
    return Failure(
        KILLED,
        f"It had {pairs} pairs in memory at once: try train.accumulate "
        f"{2 * options.accumulate} (the same batch in smaller chunks), then resume.",
    )


def from_log(code: int | None, lines: Sequence[str]) -> Failure:
    """The same from an exit code (None: nobody saw it end) and the last lines printed."""
    starts = [number for number, line in enumerate(lines) if line.startswith("$ ")]
    lines = lines[starts[-1] + 1 :] if starts else lines  # of the last start only

    own_lines = [line for line in lines if not _OF_SLURM.match(line)]
    lines = own_lines or lines

    text = "\n".join(lines)
    for pattern, what, remedy in _KNOWN:
        if match := re.search(pattern, text, re.MULTILINE):
            return Failure(what.format(**match.groupdict()), remedy.format(**match.groupdict()))

    if code is None:
        return Failure(
            "It ended without saying how: a power cut, or it was killed.",
            "Resume goes on from the last checkpoint.",
        )

    if code in (128 + signal.SIGKILL, 128 + signal.SIGTERM):  # as a shell or launcher says it
        code = 128 - code
    if code == -signal.SIGKILL:
        return Failure(KILLED, "Use a smaller batch size or image size, then resume.")

    if code < 0:
        names = {number.value: number.name for number in signal.Signals}
        return Failure(
            f"It was ended by {names.get(-code, f'signal {-code}')}.",
            "Resume goes on from the last checkpoint.",
        )

    last_line = lines[-1].strip() if lines else f"It ended with exit code {code} and said nothing."
    return Failure(last_line, "The log below says more.")
