"""What Slurm says of a job, in words: why it waits, where it runs, how it ended."""

from loctex.jobs.slurm.options import TIME_LIMIT
from loctex.jobs.slurm.record import LOST, REFUSED, SUBMITTING, ClusterJob

_GO_ON = "Resume goes on from the last checkpoint."
_REASONS = {  # of a job that waits, by the words of `squeue`
    "": "it was just handed over",
    "Resources": "no node that it needs is free yet",
    "Priority": "other jobs come first",
    "BeginTime": "it starts again in about two minutes",
    "Dependency": "it waits for another job",
    "JobHeldUser": "it is held; `scontrol release {job}` lets it go",
    "JobHeldAdmin": "an administrator holds it",
    "PartitionDown": "its partition is down",
    "PartitionInactive": "its partition is inactive",
    "PartitionConfig": "it asks for more than its partition has",
    "PartitionNodeLimit": "it asks for more nodes than its partition has",
    "PartitionTimeLimit": "it asks for more time than its partition allows",
    "ReqNodeNotAvail": "the nodes that it asks for are down or reserved",
    "Reservation": "it waits for its reservation",
    "Licenses": "it waits for a license",
    "NodeDown": "a node that it needs is down",
    "BadConstraints": "no node of the cluster has what it asks for",
    "InvalidAccount": "its account is not known",
    "InvalidQOS": "its quality of service is not known",
    "launch_failed_requeued_held": "it could not be launched and is held; "
    "`scontrol release {job}` lets it go",
    "Cleaning": "it is being cleaned up after",
}
_ENDS = {  # (what happened, what to do) by state, where not the training itself says why
    "TIMEOUT": (
        "It reached the time limit of its job in the cluster.",
        "Resume goes on from the last checkpoint; a longer `time`, or `requeues`, in "
        "launchers.yaml lets it run through.",
    ),
    "DEADLINE": ("It reached its job's deadline in the cluster.", _GO_ON),
    "CANCELLED": (
        "It was cancelled in the cluster (scancel), by a person or an administrator.",
        _GO_ON,
    ),
    "PREEMPTED": ("Another job of the cluster took its place.", _GO_ON),
    "NODE_FAIL": ("The node of the cluster that it ran on failed.", _GO_ON),
    "BOOT_FAIL": ("The node of the cluster that it was to run on did not start.", _GO_ON),
    "REVOKED": ("Another cluster took the job.", _GO_ON),
    "OUT_OF_MEMORY": (
        "It used more memory than its job in the cluster may.",
        "Raise `memory` in launchers.yaml, or try a larger train.accumulate; then resume.",
    ),
    LOST: (
        "The cluster no longer knows its job {job}, and nobody saw how it ended.",
        _GO_ON,
    ),
    REFUSED: (
        "Slurm refused the job: {reason}",
        "Mend its launcher in launchers.yaml, or wait until jobs of yours have ended; then resume.",
    ),
}


def sentence(job: ClusterJob) -> str:
    """Where a job is that has not ended."""
    name = f"job {job.job}" if job.job else "its job"
    if job.problem:
        return f"Slurm does not answer ({job.problem}); it is asked again. Last known: {name}."
    if job.state == SUBMITTING:
        why = f": {job.reason}" if job.reason else ""
        return f"It is being handed to the cluster{why}."
    if job.is_queued:
        again = "Taken off its node (preempted, requeued, or the node failed), it"
        return (
            f"{again if job.restarts else 'It'} waits in the cluster's queue as {name}: "
            f"{_reason(job)}."
        )
    if job.state == "SUSPENDED":
        return f"The cluster has suspended {name}, on {job.nodes}; it goes on by itself."
    again = f", for the {_ordinal(job.restarts + 1)} time" if job.restarts else ""
    return f"It runs on {job.nodes or 'the cluster'} as {name}{again}."


def _reason(job: ClusterJob) -> str:
    code = job.reason.partition(",")[0]
    known = _REASONS.get(code)
    if known is None and code.startswith(("Nodes_required_for_job", "ReqNodeNotAvail")):
        known = _REASONS["ReqNodeNotAvail"]
    if known is None:
        return f"Slurm's reason is {job.reason}"
    return known.format(job=job.job)


def _ordinal(number: int) -> str:
    suffix = {1: "st", 2: "nd", 3: "rd"}.get(number % 10 if number % 100 not in (11, 12, 13) else 0)
    return f"{number}{suffix or 'th'}"


def end(job: ClusterJob | None) -> tuple[str, str] | None:
    """What ended a job, and what to do; None where only the training itself can say."""
    if job is None:
        return None
    if not job.has_ended:
        return (
            f"It was left alone; its job {job.job or ''} may still be in the cluster.",
            "Resume finds that job again; it starts no second one beside it.",
        )
    state = "TIMEOUT" if (job.state, job.exit_code) == ("FAILED", TIME_LIMIT) else job.state
    if state not in _ENDS:
        return None
    what, remedy = _ENDS[state]
    return what.format(job=job.job, reason=job.reason), remedy
