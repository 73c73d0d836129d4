"""A run that came out of a backup: where it lies now, its links, and that it waits for a person."""

import os
import sys
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import yaml

from loctex.jobs import checkpoint_files
from loctex.jobs import queue as jobs
from loctex.jobs.command import HOME, ROOT, Command, short
from loctex.jobs.run import Run
from loctex.records.files import write_whole


def settle(run: Run, workspace: Path) -> None:
    """Before a restored run is put in place: lost links are mended, its command and settings name
    the `workspace` that it is in now, and what waited or worked is stopped.

    Nothing that a backup names is executed before somebody resumes it.
    """
    checkpoint_files.mend_links(run.path)

    is_done = run.state == "done"  # locks do not travel: by its files alone
    run.waiting_file.unlink(missing_ok=True)
    if run.exit_code is None and not is_done:
        run.request_stop()

    with suppress(ValueError):
        command = jobs.command_of(run)
        old = _old_place(command)
        if old is not None:
            _move(run, command, old.parents[1], workspace)


def _old_place(command: Command) -> Path | None:
    """The folder of the run that it names where it was saved: WORKSPACE/runs/NAME; None where its
    paths are relative to the workspace already."""
    words = list(command.words)
    if command.folder == HOME or "--run" not in words[:-1]:
        return None
    folder = Path(os.path.abspath(Path(command.folder) / words[words.index("--run") + 1]))
    return folder if folder.parent.name == "runs" else None


def _move(run: Run, command: Command, old: Path, new: Path) -> None:
    """Rewrite the paths that lay in the old workspace."""

    def moved(text: str) -> str:
        folder, equals, weight = text.partition("=")
        path = Path(os.path.abspath(Path(command.folder) / folder))
        if not folder or "/" not in folder or not path.is_relative_to(old):
            return text
        return short(new / path.relative_to(old)) + equals + weight

    words = tuple(moved(word) for word in command.words)
    if words[1:2] == ("-m",):  # this machine's Python
        words = (short(sys.executable), *words[1:])
    hashes = {moved(folder): content for folder, content in command.snapshots.items()}
    rewritten = replace(command, words=words, snapshots=hashes, folder=str(ROOT))
    write_whole(run.command_file, rewritten.to_json())

    with suppress(OSError, ValueError, yaml.YAMLError, KeyError, TypeError):
        values = yaml.safe_load(run.settings_file.read_text(encoding="utf-8"))
        values["data"]["snapshots"] = [moved(name) for name in values["data"]["snapshots"]]
        values["model"]["init"] = moved(values["model"]["init"])
        text = yaml.safe_dump(values, sort_keys=False, allow_unicode=True)
        write_whole(run.settings_file, text)
