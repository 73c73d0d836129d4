"""What a run was made of and with: the snapshots' hashes, the code, the machine.

RUN/starts.jsonl gets a line for each start of the trainer, so that a resumed run tells all of
them. Reading and checking need no torch.
"""

import hashlib
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from loctex.jobs.run import Run
from loctex.records.frozen import manifest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = (
    "torch",
    "torchvision",
    "timm",
    "transformers",
    "tokenizers",
    "safetensors",
    "datasets",
    "pyarrow",
    "numpy",
    "opencv-python-headless",
    "simplejpeg",
    "pycocotools",
)


def hashes(snapshots: Iterable[str]) -> dict[str, str]:
    """FOLDER or FOLDER=weight each -> {folder: content hash}.

    ValueError where a snapshot is gone or not whole. Those at a URL are left to their reader.
    """
    hash_of = {}
    for name in snapshots:
        folder = without_weight(name)
        if "://" not in folder:
            hash_of[folder] = _hash(Path(folder))
    return hash_of


def without_weight(name: str) -> str:
    """FOLDER of FOLDER=weight."""
    folder, equals, weight = name.rpartition("=")
    with suppress(ValueError):
        return folder if equals and float(weight) >= 0 else name
    return name


def _hash(folder: Path) -> str:
    try:
        content = manifest.read(folder)
    except FileNotFoundError:
        raise ValueError(
            f"snapshot {folder} is gone: put it back, or choose other data in a new run"
        ) from None
    for split in content["splits"]:
        if not any((folder / "data").glob(f"{split}-*.parquet")):
            raise ValueError(
                f"snapshot {folder} is damaged, data/{split}-*.parquet is gone: put it back, or "
                "choose other data in a new run"
            )
    return content["hash"]


def locate(run: Run, places: Sequence[Path], content: str) -> Path:
    """Where the snapshot with this content hash lies: at one of the `places`, or under any name in
    the run's own workspace, which goes first where the run was copied.

    ValueError where it is gone, or was changed.
    """
    home = run.path.absolute().parents[1]
    beside = [path for path in places if path.is_relative_to(home)]
    own = [path.parent for path in sorted((home / "snapshots").glob("[!.]*/snapshot.json"))]
    for folder in dict.fromkeys([*beside, *own, *places]):
        with suppress(ValueError):
            if _hash(folder) == content:
                return folder
    _hash(places[0])
    raise ValueError(
        f"snapshot {places[0]} was changed since this run began: put the old one back, or "
        "start a new run on the new one"
    )


def relocated(run: Run, names: Iterable[str]) -> list[str]:
    """Where the snapshots of a run lie now, as FOLDER or FOLDER=weight: a workspace that moved
    took them along. ValueError as `locate`."""
    content_of = contents(run)
    result = []
    for name in names:
        folder = without_weight(name)
        if folder in content_of:
            path = locate(run, [Path(folder)], content_of[folder])
            result.append(str(path) + name[len(folder) :])
        else:
            result.append(name)
    return result


def contents(run: Run) -> dict[str, str]:
    """Folder -> content hash of the snapshots of its starts, as they were at the first of each."""
    content_of: dict[str, str] = {}
    for start in starts(run):
        content_of = start["snapshots"] | content_of
    return content_of


def record(run: Run, snapshots: Iterable[str]) -> None:
    """Add this start to RUN/starts.jsonl. ValueError where a snapshot is gone or not whole."""
    hash_of = hashes(snapshots)
    start = {
        "time": round(time.time(), 3),
        "command": [sys.executable, *sys.orig_argv[1:]],
        "snapshots": hash_of,
        "code": code(),
        "environment": environment(),
    }
    run.path.mkdir(parents=True, exist_ok=True)
    with open(run.starts_file, "ab") as file:
        file.write(json.dumps(start).encode() + b"\n")


def starts(run: Run) -> list[dict[str, Any]]:
    """The starts of a run, the first one first; a line that cannot be read is left out."""
    try:
        lines = run.starts_file.read_bytes().splitlines()
    except OSError:
        return []
    records = (parse_start(line) for line in lines)
    return [record for record in records if record is not None]


def parse_start(line: bytes) -> dict[str, Any] | None:
    """A line of starts.jsonl; None where it cannot be read."""
    try:
        start = json.loads(line)
        hashes, code, machine = (start[name] for name in ("snapshots", "code", "environment"))
        complete = {
            "hash": code["hash"],
            "python": machine["python"],
            "processes": machine["processes"],
            "gpus": ", ".join(machine["gpus"]),
            "packages": machine["packages"].get("torch"),
            "snapshots": "".join(hashes.values()),
        }
        return (
            start if complete and isinstance(start.setdefault("time", 0.0), int | float) else None
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


@cache
def code() -> dict[str, Any]:
    """Which version of this program it is: {"hash": of the .py files, "commit", "is_changed"};
    the last two only in a git checkout."""
    digest = hashlib.sha256()
    for path in sorted((ROOT / "loctex").rglob("*.py")):
        digest.update(str(path.relative_to(ROOT)).encode() + b"\0" + path.read_bytes() + b"\0")
    version: dict[str, Any] = {"hash": digest.hexdigest()}
    if (ROOT / ".git").exists():
        with suppress(OSError, subprocess.CalledProcessError):
            version["commit"] = _git("rev-parse", "HEAD").strip()
            version["is_changed"] = bool(_git("status", "--porcelain", "--", "loctex"))
    return version


def _git(*words: str) -> str:
    return subprocess.run(
        ["git", "-C", str(ROOT), *words], check=True, capture_output=True, text=True
    ).stdout


def environment() -> dict[str, Any]:
    """Python, packages, machine, and the GPUs that torch sees where it is imported."""
    return {
        "python": platform.python_version(),
        "system": platform.platform(),
        "host": platform.node(),
        "processors": len(os.sched_getaffinity(0)),
        "processes": int(os.environ.get("WORLD_SIZE", 1)),
        "gpus": _gpus(),
        "packages": {name: version for name in PACKAGES if (version := _version(name))},
    }


def _gpus() -> list[str]:
    """The names of the GPUs that this process may use."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available():
        return []
    return [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]


def _version(package: str) -> str | None:
    with suppress(metadata.PackageNotFoundError):
        return metadata.version(package)
    return None
