"""Where a run's checkpoints lie; found without torch.

RUN/best and RUN/last are symbolic links to folders of RUN/checkpoints; where the file system knows
none (SMB, exFAT, a synchronized drive), text files that hold the same words. Both are read.
"""

from __future__ import annotations

import itertools
import os
import re
from contextlib import suppress
from pathlib import Path

from loctex.records.files import draft_of, write_whole

_NAME = re.compile(r"step-[0-9]{8,15}")
NAMES = ("last", "best")
_PLAIN = re.compile(r"checkpoints/(step-[0-9]{8,15})\n?")


def linked(run: Path, name: str) -> Path | None:
    """The folder that RUN/`name` names, resolved; None where there is none."""
    place = run / name
    if place.is_dir():
        return place.resolve()
    with suppress(OSError, UnicodeDecodeError):
        with open(place, encoding="ascii") as file:
            plain = _PLAIN.fullmatch(file.read(64))
        if plain and (run / "checkpoints" / plain[1]).is_dir():
            return (run / "checkpoints" / plain[1]).resolve()
    return None


def folder_at(place: Path | str) -> Path:
    """The checkpoint at RUN/best, RUN/last or RUN/checkpoints/step-00000200, or `place` itself."""
    place = Path(place)
    return linked(place.parent, place.name) or place


def linked_folders(run: Path) -> set[Path]:
    """The checkpoints that the links point to."""
    targets = {linked(run, name) for name in NAMES}
    return {folder.resolve() for folder in folders(run)} & targets


def folders(run: Path) -> list[Path]:
    """The whole checkpoints of a run by their steps; what is named otherwise is none."""
    step_folders = [
        path for path in (run / "checkpoints").glob("step-*") if _NAME.fullmatch(path.name)
    ]
    return sorted(step_folders, key=step_of)


def step_of(folder: Path) -> int:
    """200 of step-00000200."""
    return int(folder.name.removeprefix("step-"))


def link(run: Path, name: str, folder: Path) -> None:
    """Points RUN/`name` at a checkpoint folder, in one step."""
    target = str(folder.resolve().relative_to(run.resolve()))
    place = run / name
    if place.is_dir() and not place.is_symlink():
        # a copy made without links holds the checkpoint twice: what it holds is not thrown away
        copies = (run / f"{name}-copied-{number}" for number in itertools.count(1))
        place.rename(next(copy for copy in copies if not copy.exists()))
    draft = draft_of(place)
    try:
        draft.symlink_to(target)
    except (OSError, NotImplementedError):  # which one it is differs between file systems
        write_plain(place, target)
    else:
        os.replace(draft, place)


def write_plain(place: Path, target: str) -> None:
    """What stands for RUN/best or RUN/last where there are no symbolic links."""
    if place.name in NAMES and _PLAIN.fullmatch(target):
        write_whole(place, target + "\n")


def find(path: Path | str, checkpoint: str = "best") -> Path:
    """The model folder of a run ("best", "last", or a folder's name) or of save_pretrained.

    ValueError says the way out where there is none.
    """
    path = Path(path)
    candidates = (path / checkpoint, path / "checkpoints" / checkpoint, Path(checkpoint), path)
    for folder in map(folder_at, candidates):
        if (folder / "config.json").is_file():
            return folder.resolve()

    complete = [folder for folder in folders(path) if (folder / "config.json").is_file()]
    if complete and (checkpoint == "last" or len(complete) == 1 and checkpoint == "best"):
        return complete[-1].resolve()  # its link was lost
    if complete and checkpoint == "best":
        names = ", ".join(folder.name for folder in complete)
        raise ValueError(f"{path}/best is lost; name the checkpoint: {names}")
    raise ValueError(
        f"{path} has no checkpoint {checkpoint!r}; train first, or name a folder that holds a "
        "config.json"
    )


def mend_links(run: Path) -> None:
    """Makes the links that a run lost: last is the newest checkpoint; best the other one where
    there are two, for a trainer keeps no third; else the newest."""
    complete = [folder for folder in folders(run) if (folder / "config.json").is_file()]
    if not complete:
        return
    if linked(run, "last") is None:
        link(run, "last", complete[-1])
    if linked(run, "best") is None:
        link(run, "best", complete[0] if len(complete) == 2 else complete[-1])
