"""What was asked of a run, as command.json keeps it. execution.py makes of it what is executed."""

import json
import os
import sys
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]  # where `python -m loctex.train` is found
CPU = "cpu"
HOME = "."  # `folder` of a command whose paths are relative to its workspace


@dataclass(frozen=True)
class Command:
    """A job, and where it runs. Nothing of it is executed as it stands here.

    words: `python -m loctex.train ...`. Of a training they say its snapshots, its preset, whether
    it resumes and up to which step; its other settings are those of settings.yaml, and the words
    that repeat them, like the interpreter, are informational only. folder: what relative paths of
    `words` and `snapshots` start from; HOME is the workspace, another one is where an older version
    worked, and nothing is executed there. devices: what it takes: GPU UUIDs, "cpu", the name of a
    launcher; nothing takes the whole machine. launcher: its name in the workspace's launchers.yaml
    (older versions: its template, which is only compared with that file). snapshots: folder ->
    content hash, as they were when it was put into the queue. grace: seconds from the wish to stop
    it to SIGTERM; the watcher's where None.
    """

    words: tuple[str, ...]
    folder: str = str(ROOT)
    devices: tuple[str, ...] = ()
    launcher: str = ""
    snapshots: Mapping[str, str] = field(default_factory=dict)
    grace: float | None = None
    token: str = ""  # names the click that asked for it: the same click twice is one job
    submitted: float = 0.0  # seconds since 1970

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
    words += ["--run", short(run)]
    words += ["--preset", preset] if preset else []
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
