"""The launchers of a workspace: command templates that start a training elsewhere, by name."""

import shlex
import string
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

FILE = "launchers.yaml"
_PLACES = ("command", "line", "arguments", "run")


@dataclass(frozen=True)
class Launcher:
    """A template of WORKSPACE/launchers.yaml; side_by_side: it has a queue of its own, as Slurm."""

    name: str
    command: str
    side_by_side: bool = False


def launchers(root: Path) -> list[Launcher]:
    """Those of the workspace, as whoever runs the studio wrote them; ValueError says what to mend.

    The file holds NAME: COMMAND, or NAME: {command: COMMAND, side_by_side: true}.
    """
    import yaml  # a watcher that starts nothing elsewhere needs none

    file = root / FILE
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8-sig")) or {}
    except FileNotFoundError:
        return []
    except (yaml.YAMLError, UnicodeDecodeError) as error:
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
    {run}: the run's name. ValueError for anything else.
    """
    words = list(words)
    run = Path(words[words.index("--run") + 1]).name if "--run" in words else ""

    values = {"line": shlex.join(words), "run": run}

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
