"""Scores every word of a split, part by part, in a process of its own."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import pyarrow as pa
from pyarrow import feather

from loctex.records.files import draft_file, is_locked, locked, user_folder, write_whole
from loctex.records.snapshot import Snapshot
from loctex.scoring.atlas_table import ranks, scorer

IMAGES_A_PART = 64
ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class AtlasProgress:
    """How far the making is. state: new, running, stopped, failed or done."""

    state: str
    done: int  # images
    total: int
    seconds_left: float | None = None  # None where it cannot be known yet
    problem: str = ""  # the last line it printed, where it failed


class AtlasJob:
    """The folder of one atlas: of a checkpoint's weights, a snapshot and a split."""

    def __init__(self, folder: Path, snapshot: Path, split: str) -> None:
        """folder: of save_pretrained, so with config.json. Raises as Snapshot.open does."""
        self.folder, self.split = Path(folder).resolve(), split
        self.snapshot = Snapshot.open(snapshot)

        key = hashlib.blake2b(digest_size=8)
        for content in (_weights(self.folder), self.snapshot.hash, split):
            key.update(content.encode())

        of_run = self.folder.parent.name == "checkpoints"
        self.run = self.folder.parents[1] if of_run else self.folder
        beside = self.run / "atlas" / key.hexdigest()
        is_ours = (beside / "atlas.arrow").exists() or os.access(self.run, os.W_OK)
        self.path = beside if is_ours else user_folder(f"atlas/{key.hexdigest()}")

        self.parts, self.table = self.path / "parts", self.path / "atlas.arrow"
        self.lock, self.stop_file = self.path / "lock", self.path / "stop"
        self.log = self.path / "log.txt"

    @property
    def total(self) -> int:
        """Images of the split."""
        return self.snapshot.manifest["splits"][self.split]["images"]

    def progress(self) -> AtlasProgress:
        """Derived from the files and the lock, which a process that died no longer holds."""
        total = self.total
        if self.table.exists():
            return AtlasProgress("done", total, total)

        times = sorted(file.stat().st_mtime for file in self.parts.glob("*.arrow"))
        done = min(total, len(times) * IMAGES_A_PART)

        if not is_locked(self.lock):
            problem = self.last_line() if self.lock.exists() else ""
            state = "stopped" if self.stop_file.exists() or (times and not problem) else "new"
            return AtlasProgress("failed" if problem else state, done, total, None, problem)

        begun = self.lock.stat().st_mtime
        recent = [time for time in times if time >= begun]

        seconds_left = None
        if recent:
            pace = (recent[-1] - begun) / (len(recent) * IMAGES_A_PART)
            seconds_left = max(0.0, (total - done) * pace)

        return AtlasProgress("running", done, total, seconds_left)

    def last_line(self) -> str:
        """Of what it printed, where it ended with an error."""
        with suppress(FileNotFoundError, IndexError):
            line = self.log.read_text(errors="replace").strip().splitlines()[-1]
            return line if "rror" in line else ""
        return ""

    def start(self) -> None:
        """Make it in a process of its own, which outlives this one. Nothing where one is at it."""
        if self.table.exists() or is_locked(self.lock):
            return

        self.path.mkdir(parents=True, exist_ok=True)
        self.stop_file.unlink(missing_ok=True)

        command = [
            sys.executable,
            "-m",
            "loctex.atlas",
            f"--run={self.run}",
            f"--checkpoint={self.folder}",
            f"--data={self.snapshot.path.resolve()}",
            f"--split={self.split}",
        ]

        with open(self.log, "wb") as log:
            process = subprocess.Popen(
                command,
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

        threading.Thread(target=process.wait, daemon=True).start()  # leaves no zombie

    def wait_for_start(self, seconds: float = 20.0) -> None:
        """Until the process that `start` made is at work, or has ended."""
        deadline = time.monotonic() + seconds
        while not (is_locked(self.lock) or self.table.exists() or self.last_line()):
            if time.monotonic() > deadline:
                return
            time.sleep(0.05)

    def stop(self) -> None:
        """It ends after the images it is at; what is made stays."""
        write_whole(self.stop_file, "")

    def make(self, device: str = "auto") -> bool:
        """Score what is missing; False where it was stopped. BusyError: another is at it."""
        with locked(self.lock):
            self.stop_file.unlink(missing_ok=True)
            if self.table.exists():
                return True

            split = self.snapshot.split(self.split)
            files = {
                self.parts / f"{images.start:08d}.arrow": images for images in _parts(len(split))
            }

            missing = [file for file in files if not file.exists()]
            if missing:  # only now a model is loaded
                score = scorer(self.folder, device)

            for file in missing:
                if self.stop_file.exists():
                    return False
                write_table(file, score(split, files[file]))
                print(f"{files[file].stop:,} of {len(split):,} images", flush=True)

            self._join(files)
            return True

    def _join(self, files: Iterable[Path]) -> None:
        """One table of all parts, with each caption's rank for its own image."""
        table = pa.concat_tables([feather.read_table(file) for file in files])
        table = table.append_column("rank", pa.array(ranks(table), pa.float32()))
        about = {
            "split": self.split,
            "snapshot": self.snapshot.path.name,
            "checkpoint": self.folder.name,
            "run": self.run.name,
        }
        write_table(self.table, table.replace_schema_metadata({"about": json.dumps(about)}))
        shutil.rmtree(self.parts)


def _parts(num_images: int) -> Iterator[range]:
    for first in range(0, num_images, IMAGES_A_PART):
        yield range(first, min(first + IMAGES_A_PART, num_images))


def _weights(folder: Path) -> str:
    """A hash of a checkpoint's content."""
    files = sorted([*folder.glob("*.safetensors"), *folder.glob("config.json")])
    if not files:
        raise ValueError(f"{folder} holds no checkpoint (config.json is missing); train first")
    stats = [file.stat() for file in files]
    return "".join(
        _hash(file, stat.st_size, stat.st_mtime_ns) for file, stat in zip(files, stats, strict=True)
    )


@lru_cache(maxsize=64)
def _hash(file: Path, size: int, written: int) -> str:
    with open(file, "rb") as content:
        return hashlib.file_digest(content, "blake2b").hexdigest()


def write_table(path: Path, table: pa.Table) -> None:
    """The file is there whole or not at all."""
    with draft_file(path) as draft:
        feather.write_feather(table, str(draft), compression="uncompressed")
