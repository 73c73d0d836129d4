"""What a run can take: this machine's GPUs with who uses them, the processor, or a launcher."""

from collections.abc import Sequence

from loctex.jobs import gpus
from loctex.jobs.command import CPU
from loctex.jobs.gpus import Gpu
from loctex.jobs.launchers import Launcher, launchers
from loctex.jobs.run import Run
from loctex.records.files import holder

__all__ = ["Launcher", "available", "launchers", "resolved"]
HERE = ""  # no launcher


def available(runs: Sequence[Run]) -> tuple[list[tuple[str, str]], list[str], str]:
    """(label, device) of what can be chosen here, what is chosen at first, and what is wrong.

    Without a GPU there is nothing to choose.
    """
    machine_gpus, problem = gpus.found()
    if not machine_gpus:
        return [], [], problem
    live = {holder(run.train_lock): run.name for run in runs if run.is_live()}
    choices = [(_label(number, gpu, live), gpu.uuid) for number, gpu in enumerate(machine_gpus)]
    idle = [gpu for gpu in machine_gpus if not gpu.users] or machine_gpus
    freest = max(idle, key=lambda gpu: gpu.free)
    return [*choices, ("Processor only", CPU)], [freest.uuid], problem


def _label(number: int, gpu: Gpu, live: dict[int | None, str]) -> str:
    facts = [f"GPU {number}", gpu.name, f"{_gb(gpu.free)} of {_gb(gpu.total)} free"]
    if gpu.use is not None:
        facts.append(f"{gpu.use:.0%} busy")
    for user in gpu.users:
        who = f"run {live[user.pid]}" if user.pid in live else f"{user.name} ({user.pid})"
        size = f" with {_gb(user.num_bytes)}" if user.num_bytes else ""
        facts.append(f"used by {who}{size}")
    return " · ".join(facts)


def _gb(num_bytes: int) -> str:
    return f"{num_bytes / 1e9:.0f} GB"


def resolved(
    picked: Sequence[str], launcher: str, offered: Sequence[Launcher], run: Run
) -> tuple[tuple[str, ...], str]:
    """What a run takes, and the launcher it is started by. ValueError where it cannot be."""
    if launcher != HERE:
        by_name = {entry.name: entry for entry in offered}
        if launcher not in by_name:
            raise ValueError(f"launcher {launcher!r} is no longer in launchers.yaml; choose again")
        entry = by_name[launcher]
        return (f"{launcher}: {run.name}" if entry.side_by_side else launcher,), launcher
    if CPU in picked and len(picked) > 1:
        raise ValueError("Choose GPUs or the processor, not both.")
    return tuple(picked), ""
