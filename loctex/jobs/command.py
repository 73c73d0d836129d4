"""What a run executes: the words of its training, where they run, and what they are wrapped in."""

import json
import os
import shlex
import string
import sys
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]  # where `python -m loctex.train` is found
CPU = "cpu"
_PLACES = ("command", "line", "arguments", "run")


@dataclass(frozen=True)
class Command:
    """A training, and where it runs.

    words: `python -m loctex.train ...`, the same everywhere. devices: what it takes: GPU UUIDs,
    "cpu", the name of a launcher; nothing takes the whole machine. launcher: a template, see
    `wrap`. snapshots: folder -> content hash, as they were when it was put into the queue.
    grace: seconds from the wish to stop it to SIGTERM; the watcher's where None.
    """

    words: tuple[str, ...]
    folder: str = str(ROOT)
    devices: tuple[str, ...] = ()
    launcher: str = ""
    snapshots: Mapping[str, str] = field(default_factory=dict)
    grace: float | None = None
    token: str = ""  # names the click that asked for it: the same click twice is one job
    submitted: float = 0.0  # seconds since 1970

    @property
    def gpus(self) -> tuple[str, ...]:
        return tuple(device for device in self.devices if device.startswith(("GPU-", "MIG-")))

    @property
    def launched(self) -> list[str]:
        """The words that are executed: by the launcher, or on this machine's chosen GPUs."""
        if self.launcher:
            return wrap(self.launcher, self.words)
        if not self.gpus:
            return list(self.words)
        prefix = ["env", f"CUDA_VISIBLE_DEVICES={','.join(self.gpus)}"]
        if len(self.gpus) == 1:
            return [*prefix, *self.words]
        return [
            *prefix,
            self.words[0],
            "-m",
            "torch.distributed.run",
            "--standalone",
            "--nproc-per-node",
            str(len(self.gpus)),
            "-m",
            "--",
            *self.words[2:],
        ]

    @property
    def line(self) -> str:
        """What is executed, as a shell reads it."""
        return shlex.join(self.launched)

    def is_in_the_way_of(self, other: "Command") -> bool:
        """Whether the two may not run at the same time."""
        both_chose = self.devices and other.devices
        return not both_chose or bool({*self.devices} & {*other.devices})

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=1)

    @classmethod
    def from_json(cls, text: str | bytes) -> "Command":
        """ValueError where the text is no command, or holds what this version does not know."""
        record = json.loads(text)
        if not isinstance(record, dict):
            raise ValueError(f"expected a command's names and values, got {record!r:.60}")
        if unknown := set(record) - {field.name for field in fields(cls)}:
            raise ValueError(f"holds {min(unknown)!r}, which this version does not know")
        words = record.get("words")
        if not _are_texts(words) or not words:
            raise ValueError(f"words must be a list of texts, got {words!r:.60}")
        if not _are_texts(record.get("devices", [])):
            raise ValueError(f"devices must be a list of texts, got {record['devices']!r:.60}")
        for name in ("folder", "launcher", "token"):
            if not isinstance(record.get(name, ""), str):
                raise ValueError(f"{name} must be a text, got {record[name]!r:.60}")
        hashes = record.get("snapshots", {})
        if not isinstance(hashes, dict) or not _are_texts([*hashes.values()]):
            raise ValueError(f"snapshots must hold folders and hashes, got {hashes!r:.60}")
        for name in ("grace", "submitted"):
            value = record.get(name)
            if type(value) not in (int, float) and not (value is None and name == "grace"):
                if name in record:
                    raise ValueError(f"{name} must be a number of seconds, got {value!r:.60}")
        lists = {name: tuple(record[name]) for name in ("words", "devices") if name in record}
        return cls(**record | lists)


def _are_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(text, str) for text in value)


def training(
    run: Path, snapshots: Iterable[str | Path], preset: str, changes: Mapping[str, Any]
) -> tuple[str, ...]:
    """The words that train in the directory `run`, with `changes` {"train.steps": 10} to the
    preset. Paths below the program's folder are written short, as a person would type them there.
    """
    words = [short(sys.executable), "-m", "loctex.train"]
    for snapshot in snapshots:
        words += ["--data", short(snapshot)]
    words += ["--run", short(run), "--preset", preset]
    for name, value in changes.items():
        words += [f"--{name}", value if isinstance(value, str) else json.dumps(value)]
    return tuple(words)


def with_option(words: Iterable[str], name: str, *values: str) -> tuple[str, ...]:
    """The words with this option, in place of what it was before."""
    remaining, skips = [], False
    for word in words:
        if word.startswith("--"):
            skips = word == name
        if not skips:
            remaining.append(word)
    return (*remaining, name, *values)


def short(path: str | Path) -> str:
    """A path as a person would type it in the program's folder."""
    path = Path(os.path.abspath(path))
    return str(path.relative_to(ROOT) if path.is_relative_to(ROOT) else path)


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
