"""What a saved workspace holds, file by file: written last, checked before anything is in place."""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

NAME = "manifest.json"
PIECE = 1 << 20  # bytes hashed at a time


@dataclass
class Manifest:
    """files: name -> (bytes, sha256). links: name -> where it points, from its folder. left_out: a
    sentence for each thing of the workspace that does not travel."""

    files: dict[str, tuple[int, str]] = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)

    def forget(self, folder: str) -> None:
        """Of a folder that changed while it was saved, nothing counts."""
        for entries in (self.files, self.links):
            for name in [name for name in entries if name.startswith(f"{folder}/")]:
                del entries[name]

    def to_bytes(self) -> bytes:
        content = {"files": self.files, "links": self.links, "left_out": self.left_out}
        return json.dumps(content | {"seal": _seal(content)}).encode()

    @classmethod
    def from_bytes(cls, text: bytes) -> "Manifest":
        """ValueError where a byte of it is not what was written."""
        try:
            content = json.loads(text)
            seal = content.pop("seal")
        except (ValueError, AttributeError, KeyError) as error:
            raise ValueError(f"its manifest is damaged ({error})") from error
        if seal != _seal(content):
            raise ValueError("its manifest is damaged (its hash is another)")
        files = {name: (size, content) for name, (size, content) in content["files"].items()}
        return cls(files, content["links"], content["left_out"])

    def problems(self, folder: Path) -> dict[str, str]:
        """Name -> what is wrong with it, of the files and links that should lie in a folder."""
        problems = {}
        for name, (size, content) in self.files.items():
            path = folder / name
            if path.is_symlink() or not path.is_file():
                problems[name] = "is missing"
            elif path.stat().st_size != size:
                problems[name] = f"has {path.stat().st_size:,} of {size:,} bytes"
            elif hash_of(path) != content:
                problems[name] = "is damaged"

        for name, target in self.links.items():
            path = folder / name
            is_plain = path.is_file() and path.read_bytes() == f"{target}\n".encode()
            is_link = path.is_symlink() and os.readlink(path) == target
            if not is_link and not is_plain:
                problems[name] = "is missing, a link"

        return problems


def _seal(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def hash_of(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class HashedFile:
    """A file that is read once, and its sha256 then."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._digest = file, hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        piece = self._file.read(size)
        self._digest.update(piece)
        return piece

    def hexdigest(self) -> str:
        return self._digest.hexdigest()
