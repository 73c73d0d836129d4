"""Where a run's checkpoints lie; found without torch."""

from __future__ import annotations

import os
import re
from pathlib import Path

from loctex.records.files import draft_of

_NAME = re.compile(r"step-[0-9]{8,15}")


def _linked(run: Path) -> set[Path]:
    """The checkpoints that the links point to."""
    targets = {(run / name).resolve() for name in ("last", "best")}
    return targets & {folder.resolve() for folder in folders(run)}


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
    draft = draft_of(run / name)
    draft.symlink_to(folder.resolve().relative_to(run.resolve()))
    os.replace(draft, run / name)


def find(path: Path | str, checkpoint: str = "best") -> Path:
    """The model folder of a run ("best", "last", or a folder's name) or of save_pretrained.

    ValueError says the way out where there is none.
    """
    path = Path(path)
    candidates = (path / checkpoint, path / "checkpoints" / checkpoint, Path(checkpoint), path)
    for folder in candidates:
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
    if not (run / "last").exists():
        link(run, "last", complete[-1])
    if not (run / "best").exists():
        link(run, "best", complete[0] if len(complete) == 2 else complete[-1])
