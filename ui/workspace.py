"""A workspace: one folder that holds what was recorded, what was frozen and what was trained."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from data_tools.restoring import copies
from data_tools.speech.voices import Voices
from data_tools.store import Store
from data_tools.store.address import address, note_address
from loctex.jobs import checkpoint_files
from loctex.jobs.run import Run
from loctex.records.files import BusyError, is_writable, locked, sweep
from ui.users import ROLES, role_of


class Workspace:
    """The folder's paths, its store and its runs.

    users: the file of logins; without it, whoever reaches the page is its admin. whisper: a folder
    of transformers with a Whisper checkpoint, which proposes what a voice says.
    is_read_only: the folder lies where nothing may be written; it can be looked at.
    Raises StoreError where a newer version made the database, or it has to be named.
    """

    def __init__(
        self,
        root: Path | str,
        database: str | None = None,
        users: Path | None = None,
        whisper: Path | None = None,
    ) -> None:
        self.users, self.whisper = users, whisper
        self.database = database

        self.root = Path(root).expanduser().resolve()
        self.images_dir = self.root / "images"
        self.voices_dir = self.root / "voices"
        self.runs_dir = self.root / "runs"
        self.snapshots_dir = self.root / "snapshots"
        self.is_read_only = self.root.exists() and not is_writable(self.root)
        if not self.is_read_only:
            for folder in (self.images_dir, self.voices_dir, self.runs_dir, self.snapshots_dir):
                folder.mkdir(parents=True, exist_ok=True)
                sweep(folder)  # what killed writers left

        self.voices = Voices(self.voices_dir)
        url = address(self.root, database)
        keeps_own_database = database is None and not self.is_read_only
        if keeps_own_database:
            copies.check(self.root)

        self.store = Store(url, self.images_dir)
        if keeps_own_database:
            copies.keep(self.root)
        if not self.is_read_only:
            note_address(self.root, database)

    def allows(self, role: str, name: str | None) -> bool:
        """Whether this person is an annotator, a reviewer or an admin, or more than that."""
        if self.users is None:
            return True
        own_role = role_of(self.users, name)
        return own_role is not None and ROLES.index(own_role) >= ROLES.index(role)

    def demand(self, role: str, name: str | None) -> None:
        """ValueError where this person is less than that. An annotator annotates, a reviewer
        reviews, an admin also starts jobs, imports, exports, freezes and deletes."""
        if not self.allows(role, name):
            least = {"annotator": "a person with a login", "reviewer": "a reviewer or an admin"}
            raise ValueError(
                f"Only {least.get(role, 'an admin')} may do this; ask the person who runs this "
                "studio."
            )

    def demand_admin(self, name: str | None) -> None:
        """`demand("admin", name)`."""
        self.demand("admin", name)

    def runs(self) -> list[Run]:
        """Newest first."""
        paths = [path for path in self.runs_dir.glob("[!.]*") if path.is_dir()]
        return [Run(path) for path in sorted(paths, key=_created, reverse=True)]

    def run(self, name: Any) -> Run:
        """The run of this name, which may come from a browser. ValueError where there is none."""
        return Run(look_up(self.runs_dir, name, "run"))

    def snapshot(self, name: Any) -> Path:
        """The folder of the frozen snapshot of this name; ValueError where there is none."""
        folder = look_up(self.snapshots_dir, name, "snapshot")
        if not (folder / "snapshot.json").is_file():
            raise ValueError(f"{folder.name!r} is no finished snapshot; choose another one.")
        return folder

    def checkpoint(self, folder: Any) -> Path:
        """A checkpoint of a run, from the folder that a list of the page offered: RUN/best,
        RUN/last, RUN/checkpoints/step-00000200. ValueError where it is none of them."""
        path = Path(str(folder))
        if path.parent.name == "checkpoints":
            run = self._run_at(path.parents[1])
            return look_up(run.checkpoints, path.name, f"checkpoint of {run.name}")
        run = self._run_at(path.parent)
        if path.name in checkpoint_files.NAMES and checkpoint_files.linked(run.path, path.name):
            return run.path / path.name  # a link, or a text file in place of one
        return look_up(run.path, path.name, "checkpoint", ("best", "last"))

    def _run_at(self, folder: Path) -> Run:
        if folder.parent != self.runs_dir:
            raise ValueError("This model is none of this studio's runs; choose one from the list.")
        return self.run(folder.name)

    def snapshots(self) -> list[Path]:
        """The frozen ones, newest first; a folder still being written has no snapshot.json."""
        folders = [path.parent for path in self.snapshots_dir.glob("[!.]*/snapshot.json")]
        return sorted(folders, key=_created, reverse=True)


def look_up(folder: Path, name: Any, noun: str, names: tuple[str, ...] | None = None) -> Path:
    """The folder inside `folder` that has this name, where the name may come from a browser.

    It is looked up among what exists and never joined to a path, so that "../x", ".", "/etc" or
    something that is no text is simply not there. names: only these, where others lie beside them.

    Raises ValueError that says the way out.
    """
    try:
        with os.scandir(folder) as entries:
            existing = {entry.name for entry in entries if entry.name[0] != "." and entry.is_dir()}
    except FileNotFoundError:
        existing = set()

    if names is not None:
        existing &= set(names)

    if not isinstance(name, str) or name not in existing:
        raise ValueError(f"There is no {noun} {str(name)[:60]!r} here; choose one from the list.")

    return folder / name


def _created(path: Path) -> tuple[float, str]:
    """Runs and snapshots are written into; their settings and manifest are written once."""
    for file in (path / "command.json", path / "snapshot.json", path):
        with suppress(OSError):  # there is no such file, or it is deleted just now
            return file.stat().st_mtime, path.name
    return 0.0, path.name


@contextmanager
def served(root: Path | str) -> Iterator[None]:
    """Hold the workspace for one app; where nothing may be written, any number may look at it.

    Raises BusyError where another app serves it.
    """
    root = Path(root).expanduser().resolve()
    if root.exists() and not is_writable(root):
        yield
        return

    lock = root / "app.lock"
    try:
        with locked(lock):
            yield
    except BusyError as error:
        raise BusyError(
            f"workspace {root} is open in another studio ({error}); "
            "use that one, stop it, or name another folder with --workspace"
        ) from None
