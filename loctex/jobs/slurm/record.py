"""RUN/cluster.json: the job of the cluster that a run is, as its attendant last knew it."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from loctex.records.files import write_whole

FILE = "cluster.json"
SUBMITTING, REFUSED, LOST = "SUBMITTING", "REFUSED", "LOST"  # ours, beside Slurm's own states
QUEUED = (SUBMITTING, "PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED")


@dataclass(frozen=True)
class ClusterJob:
    """A job, by Slurm's words for it.

    job: its number; "" until sbatch gave one. token: in the job's comment, by which it is found
    where no number was written down. words: what it executes. state, reason, nodes, restarts,
    exit_code: as `scontrol show job` says. problem: why Slurm cannot be asked. has_ended: it is no
    more, and never starts again.
    """

    token: str
    words: tuple[str, ...]
    job: str = ""
    state: str = SUBMITTING
    reason: str = ""
    nodes: str = ""
    restarts: int = 0
    exit_code: int = 0
    problem: str = ""
    has_ended: bool = False

    @property
    def is_queued(self) -> bool:
        """Whether it waits in the cluster's queue, or is on its way there."""
        return not self.has_ended and self.state in QUEUED

    def write(self, run: Path) -> None:
        write_whole(run / FILE, json.dumps(asdict(self), indent=1))


def read(run: Path) -> ClusterJob | None:
    """The run's job of a cluster; None where it has none, or its file cannot be read."""
    with suppress(OSError, ValueError, TypeError):
        record = json.loads((run / FILE).read_bytes())
        kinds = {field.name: type(field.default) for field in fields(ClusterJob)}
        for name in ("job", "state", "reason", "nodes", "problem", "restarts", "exit_code"):
            if type(record.get(name)) is not kinds[name]:
                return None
        return ClusterJob(**record | {"words": tuple(record["words"])})
    return None
