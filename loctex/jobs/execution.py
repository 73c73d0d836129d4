"""What a run executes: made anew from its settings by this version's code, each time it starts.

Words that lie in a file are never executed. Of command.json is read which job of this program it
is, and with which of its known options; the interpreter, the folder it works in, the run's own
place and the launcher's template are those of the program and the workspace that are here now. So
a workspace that was copied or renamed works in its own place, and one that came from elsewhere
cannot bring commands along.
"""

import os
import re
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from loctex.jobs import provenance
from loctex.jobs.command import HOME, ROOT, Command, short, training
from loctex.jobs.launchers import template_of, wrap
from loctex.jobs.run import Run

TRAIN, EVALUATE, EXPORT = "loctex.train", "loctex.evaluate", "loctex.export"
EFFICIENCY = "loctex.transfer.efficiency"
# The jobs and their options. A training's settings come from its settings.yaml.
_OPTIONS = {
    TRAIN: ("--data", "--run", "--preset", "--resume"),
    EVALUATE: ("--run", "--checkpoint", "--to", "--data", "--split", "--rerank", "--device"),
    EXPORT: ("--run", "--checkpoint", "--to", "--format"),
    EFFICIENCY: (
        *("--run", "--checkpoint", "--to", "--labels", "--images", "--seeds", "--also"),
        *("--skip-damaged", "--device"),
    ),
}
_PATHS = ("--run", "--to", "--data", "--labels", "--images", "--also")
_OTHER_QUEUES = ("evaluations", "handover")  # folders of a workspace with runs/ of their own
CHECKPOINT = re.compile(r"last|best|step-[0-9]{8,15}")
_GPU = re.compile(r"(GPU|MIG)-[0-9A-Za-z/-]+")


@dataclass(frozen=True)
class Execution:
    """Words that are executed in ROOT: by a launcher's template, or on this machine's GPUs."""

    words: tuple[str, ...]
    devices: tuple[str, ...] = ()
    template: str = ""

    @property
    def gpus(self) -> tuple[str, ...]:
        return tuple(device for device in self.devices if _GPU.fullmatch(device))

    @property
    def launched(self) -> list[str]:
        """What is executed, word by word."""
        if self.template:
            return wrap(self.template, self.words)
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


def rebuilt(run: Run, command: Command) -> Execution:
    """What the run executes here and now.

    ValueError says the way out where its words are no job of this program, its settings cannot be
    read, a snapshot is gone or was changed, or its launcher is not in the workspace.
    """
    module, options = parse(command.words)
    places = _Places(run, command, module, options)
    if module == TRAIN:
        words = _training(run, command, options, places)
    else:
        words = _other_job(run, module, options, places)
    template = template_of(places.home, command.launcher, command.devices)
    return Execution(words, command.devices, template)


def parse(words: Sequence[str]) -> tuple[str, dict[str, list[list[str]]]]:
    """The job and its options, each with the values of each time it stands there.

    ValueError where the words are no job of this program.
    """
    module = words[2] if len(words) > 2 and words[1] == "-m" else ""
    if module not in _OPTIONS:
        raise ValueError(
            f"command.json names no job of this program ({shlex.join(words)[:80]!r}) and is not "
            "executed: start a new run, or delete this one"
        )

    options: dict[str, list[list[str]]] = {}
    occurrence: list[str] | None = None
    for word in words[3:]:
        if word.startswith("--"):
            _check_option(module, word)
            occurrence = []
            options.setdefault(word, []).append(occurrence)
        elif occurrence is None:
            raise ValueError(f"command.json: {word[:60]!r} belongs to no option of {module}")
        else:
            occurrence.append(word)

    return module, options


def _check_option(module: str, option: str) -> None:
    if option in _OPTIONS[module] or module == TRAIN and option[2:] in _setting_names():
        return
    raise ValueError(
        f"command.json holds {option[:60]!r}, which is no option of a job of {module}, and is not "
        "executed: start a new run, or delete this one"
    )


def _setting_names() -> set[str]:
    from loctex import settings

    values = settings.to_dict(settings.Settings())
    names = set()
    for section, entries in values.items():
        names |= {f"{section}.{name}" for name in entries}
    return names


class _Places:
    """Where the paths of a command lie now: those in the workspace that it was made in are those
    of the workspace that the run is in."""

    def __init__(self, run: Run, command: Command, module: str, options: Mapping[str, Any]) -> None:
        self.home = home_of(run)
        self.base = self.home if command.folder == HOME else Path(command.folder)
        self.old_home = self.home
        own_place = options.get("--run" if module == TRAIN else "--to")
        if own_place and own_place[0] and command.folder != HOME:
            folder = self._absolute(own_place[0][0])
            while folder.parent != folder and folder.parent.name != "runs":
                folder = folder.parent
            self.old_home = _above_other_queues(folder.parents[1]) if folder.name else self.home

    def _absolute(self, text: str) -> Path:
        return Path(os.path.abspath(self.base / text))

    def here(self, text: str) -> str:
        """The path (or FOLDER=weight) in this workspace, as a person would type it."""
        if "://" in text:
            return text
        folder = provenance.without_weight(text)
        path = self._absolute(folder)
        if path.is_relative_to(self.old_home):
            path = self.home / path.relative_to(self.old_home)
        return short(path) + text[len(folder) :]

    def recorded(self, text: str) -> str:
        """The absolute path as it was recorded."""
        return str(self._absolute(text))


def home_of(run: Run) -> Path:
    """The workspace of a run, an evaluation or an export."""
    return _above_other_queues(Path(os.path.abspath(run.path)).parents[1])


def _above_other_queues(root: Path) -> Path:
    return root.parent if root.name in _OTHER_QUEUES else root


def _training(
    run: Run, command: Command, options: Mapping[str, list[list[str]]], places: _Places
) -> tuple[str, ...]:
    from loctex import settings
    from loctex.settings.presets import PRESETS

    try:
        run_settings = settings.load(run.settings_file)
    except OSError as error:
        raise ValueError(f"its settings cannot be read ({error}); start a new run") from error
    preset = _single(options, "--preset")
    if preset and preset not in PRESETS:
        raise ValueError(f"command.json: {preset[:60]!r} is none of the presets; start a new run")
    base = PRESETS[preset] if preset else settings.Settings()
    base = settings.with_values(base, {"data": {"snapshots": run_settings.data.snapshots}})
    changes = settings.changed(run_settings, base)
    init = _single(options, "--model.init") or changes.get("model.init", "")
    if os.sep in init:
        changes["model.init"] = places.here(init)

    words = training(
        run.path, _snapshots(run, command, options, run_settings, places), preset, changes
    )
    if "--resume" not in options:
        return words
    checkpoint = _single(options, "--resume")
    if checkpoint and not CHECKPOINT.fullmatch(checkpoint):
        raise ValueError(f"command.json: no checkpoint is called {checkpoint[:60]!r}; resume again")
    steps = _single(options, "--train.steps")  # a run that goes on takes more than its settings say
    if steps:
        if not steps.isdecimal():
            raise ValueError(f"command.json: train.steps is no number: {steps[:60]!r}")
        words = (*_without(words, "--train.steps"), "--train.steps", steps)
    return (*words, "--resume", *([checkpoint] if checkpoint else []))


def _snapshots(
    run: Run,
    command: Command,
    options: Mapping[str, list[list[str]]],
    run_settings: Any,
    places: _Places,
) -> list[str]:
    """Where the snapshots lie now: found by their content, else by their place."""
    content_of = {places.recorded(folder): content for folder, content in command.snapshots.items()}
    for folder, content in provenance.contents(run).items():
        content_of.setdefault(os.path.abspath(ROOT / folder), content)

    recorded_names = [values[0] for values in options.get("--data", []) if values]
    names = []
    for name in recorded_names or run_settings.data.snapshots:
        folder = provenance.without_weight(name)
        weight = name[len(folder) :]
        here = places.here(folder)
        recorded = places.recorded(folder)
        if recorded in content_of:
            nearest = [ROOT / here, Path(recorded)]
            here = short(provenance.locate(run, nearest, content_of[recorded]))
        names.append(here + weight)
    return names


def _other_job(
    run: Run, module: str, options: Mapping[str, list[list[str]]], places: _Places
) -> tuple[str, ...]:
    result = run.path / "files" if module == EXPORT else run.result_file
    words = [short(sys.executable), "-m", module]
    for name, occurrences in options.items():
        for values in occurrences:
            if name == "--to":
                values = [short(result)]
            elif name in _PATHS:
                values = [_path(value, places) for value in values]
            words += [name, *values]
    return tuple(words)


def _path(text: str, places: _Places) -> str:
    return text if text.startswith(("timm:", "random:")) else places.here(text)


def _single(options: Mapping[str, list[list[str]]], name: str) -> str:
    """The last value of an option; "" where it has none."""
    occurrences = options.get(name, [])
    return occurrences[-1][0] if occurrences and occurrences[-1] else ""


def _without(words: Sequence[str], name: str) -> tuple[str, ...]:
    if name not in words:
        return tuple(words)
    place = list(words).index(name)
    return (*words[:place], *words[place + 2 :])


def portable(run: Run, command: Command) -> Command:
    """The command as it is kept: what lies in the workspace is named relative to it."""
    home = home_of(run)

    def relative(text: str) -> str:
        folder = provenance.without_weight(text)
        path = Path(os.path.abspath(Path(command.folder) / folder))
        if "://" in text or not path.is_relative_to(home):
            return text if "://" in text else str(path) + text[len(folder) :]
        return str(path.relative_to(home)) + text[len(folder) :]

    words, is_path = [], False
    for word in command.words:
        if is_path and not word.startswith("--") and _looks_like_path(word):
            word = relative(word)
        words.append(word)
        is_path = word in (*_PATHS, "--model.init")
    snapshots = {relative(folder): content for folder, content in command.snapshots.items()}
    return replace(command, words=tuple(words), folder=HOME, snapshots=snapshots)


def _looks_like_path(word: str) -> bool:
    return word not in ("random", "timm") and not word.startswith(("timm:", "random:"))
