"""The launchers of a workspace, by name: templates of commands that start a training elsewhere, and
Slurm, which is built in."""

import os
import shlex
import string
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loctex.jobs.command import ROOT
from loctex.jobs.slurm import options as slurm
from loctex.jobs.slurm.options import SlurmOptions

FILE = "launchers.yaml"
_YES, _NO = ("true", "yes", "on"), ("false", "no", "off")  # as YAML 1.1 says it
_PLACES = ("command", "line", "arguments", "run", "folder")


@dataclass(frozen=True)
class Launcher:
    """A template of WORKSPACE/launchers.yaml; side_by_side: it has a queue of its own, as Slurm.

    slurm: what a job asks for, where Slurm itself is the launcher; `command` is then ours.
    """

    name: str
    command: str
    side_by_side: bool = False
    slurm: SlurmOptions | None = None


def launchers(root: Path) -> list[Launcher]:
    """Those of the workspace, as whoever runs the studio wrote them; ValueError says what to mend.

    The file holds NAME: COMMAND, NAME: {command: COMMAND, side_by_side: true}, or
    NAME: {slurm: {partition: gpu, time: 4:00:00}}.
    """
    import yaml  # a watcher that starts nothing elsewhere needs none

    file = root / FILE
    try:
        # texts all of them: to YAML, 4:00:00 is a number of seconds
        content = yaml.load(file.read_text(encoding="utf-8-sig"), yaml.BaseLoader) or {}
    except FileNotFoundError:
        return []
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{file} is not YAML: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{file} must hold names and commands, NAME: srun {{command}}")

    result = []
    for name, entry in content.items():
        try:
            launcher = _launcher(str(name), entry)
            wrap(launcher.command, ["python", "-m", "loctex.train", "--run", "run"])
        except ValueError as error:
            raise ValueError(f"{file}, {name}: {error}") from error
        result.append(launcher)
    return result


def _launcher(name: str, entry: Any) -> Launcher:
    values = {"command": entry} if isinstance(entry, str) else entry
    if not isinstance(values, dict):
        raise ValueError(f"expected a command, or names and values, got {entry!r:.60}")
    if unknown := set(values) - {"command", "side_by_side", "slurm"}:
        raise ValueError(
            f"{min(unknown)!r} is none of command, side_by_side, slurm; write the keys of a Slurm "
            "job below slurm"
        )
    if ("command" in values) == ("slurm" in values):
        raise ValueError("it must hold either a command or slurm")

    is_slurm = "slurm" in values
    side_by_side = values.get("side_by_side", "true" if is_slurm else "false")
    if str(side_by_side).lower() not in (*_YES, *_NO):
        raise ValueError(f"side_by_side must be true or false, got {side_by_side!r:.60}")
    is_side_by_side = side_by_side.lower() in _YES
    if is_slurm:
        options = SlurmOptions.from_entry(values["slurm"])
        return Launcher(name, slurm.template(name), is_side_by_side, options)
    if not isinstance(values["command"], str):
        raise ValueError(f"command must be a text, got {values['command']!r:.60}")
    return Launcher(name, values["command"], is_side_by_side)


def slurm_options(root: Path, name: str) -> SlurmOptions:
    """What the jobs of this launcher ask for. ValueError where it is no launcher of Slurm's."""
    for launcher in launchers(root):
        if launcher.name == name and launcher.slurm is not None:
            return launcher.slurm
    raise ValueError(f"launcher {name[:60]!r} holds no slurm: in {root / FILE}")


def template_of(root: Path, name: str, devices: Iterable[str]) -> str:
    """The template of the launcher of this name; "" where there is no name.

    An older version kept the template itself. It is never executed: it stands for the launcher with
    the same template, or else for the one that the run's devices name.
    Raises ValueError where the workspace has no such launcher.
    """
    if not name:
        return ""

    offered = launchers(root)
    device_names = {device.partition(":")[0] for device in devices}
    for is_meant in (
        lambda launcher: launcher.name == name,
        lambda launcher: launcher.command == name,
        lambda launcher: launcher.name in device_names,
    ):
        for launcher in filter(is_meant, offered):
            return launcher.command

    raise ValueError(
        f"launcher {name[:60]!r} is none of {root / FILE}: write it there, or start a new run "
        "without it"
    )


def wrap(template: str, words: Iterable[str]) -> list[str]:
    """A launcher's template, as a shell reads it, with the words of a training put in.

    {command}: its words, one by one. {arguments}: the same without the `python -m loctex.train` in
    front. {line}: all of them as one text, quoted for the shell that will read it (ssh, bash -c).
    {run}: the run's name. {folder}: its folder. ValueError for anything else.
    """
    words = list(words)
    folder = os.path.abspath(ROOT / words[words.index("--run") + 1]) if "--run" in words else ""
    values = {"line": shlex.join(words), "run": Path(folder).name, "folder": folder}

    try:
        pieces = shlex.split(template)
        named = {
            name for piece in pieces for _, name, _, _ in string.Formatter().parse(piece) if name
        }
    except ValueError as error:
        raise ValueError(f"launcher {template!r} cannot be read: {error}") from error

    if unknown := named - {*_PLACES}:
        placeholders = ", ".join(f"{{{name}}}" for name in _PLACES)
        raise ValueError(f"launcher {template!r}: {{{min(unknown)}}} is none of {placeholders}")
    if not named & {"command", "line", "arguments"}:
        raise ValueError(f"launcher {template!r} starts nothing: write {{command}} into it")
    wrapped: list[str] = []
    for piece in pieces:
        if piece == "{command}":
            wrapped += words
        elif piece == "{arguments}":
            wrapped += words[3:]
        elif "{command}" in piece or "{arguments}" in piece:
            raise ValueError(f"launcher {template!r}: inside quotes write {{line}}")
        else:
            wrapped.append(piece.format(**values))
    return wrapped
