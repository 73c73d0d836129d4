"""What a run can take: this machine's GPUs with who uses them, the processor, or a launcher."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from loctex.jobs import gpus
from loctex.jobs.command import CPU, wrap
from loctex.jobs.gpus import Gpu
from loctex.jobs.run import Run
from loctex.records.files import holder

HERE = ""  # no launcher


@dataclass(frozen=True)
class Launcher:
    """A template of WORKSPACE/launchers.yaml; side_by_side: it has a queue of its own, as Slurm."""

    name: str
    command: str
    side_by_side: bool = False


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


def launchers(root: Path) -> list[Launcher]:
    """Those of the workspace, as whoever runs the studio wrote them; ValueError says what to mend.

    The file holds NAME: COMMAND, or NAME: {command: COMMAND, side_by_side: true}.
    """
    file = root / "launchers.yaml"
    try:
        content = yaml.safe_load(file.read_text()) or {}
    except FileNotFoundError:
        return []
    except yaml.YAMLError as error:
        raise ValueError(f"{file} is not YAML: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{file} must hold names and commands, NAME: srun {{command}}")
    result = []
    for name, entry in content.items():
        values = {"command": entry} if isinstance(entry, str) else entry
        try:
            launcher = Launcher(str(name), **values)
            wrap(launcher.command, ["python", "-m", "loctex.train", "--run", "run"])
        except (TypeError, ValueError) as error:
            raise ValueError(f"{file}, {name}: {error}") from error
        result.append(launcher)
    return result


def resolved(
    picked: Sequence[str], launcher: str, offered: Sequence[Launcher], run: Run
) -> tuple[tuple[str, ...], str]:
    """What a run takes, and the template it is started by. ValueError where it cannot be."""
    if launcher != HERE:
        by_name = {entry.name: entry for entry in offered}
        if launcher not in by_name:
            raise ValueError(f"launcher {launcher!r} is no longer in launchers.yaml; choose again")
        entry = by_name[launcher]
        return (f"{launcher}: {run.name}" if entry.side_by_side else launcher,), entry.command
    if CPU in picked and len(picked) > 1:
        raise ValueError("Choose GPUs or the processor, not both.")
    return tuple(picked), ""
