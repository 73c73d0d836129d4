"""What every layout of labels comes to: pictures, where they lie, and what is labeled on them."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from urllib.parse import unquote

from loctex.records.annotations import (
    ImageAnnotations,
    Instance,
    dataset_id,
)
from loctex.records.file_names import EXTENSIONS, folded, is_hidden, plain_path
from loctex.records.images import read_frame

SPLITS = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "dev": "val",
    "test": "test",
    "testing": "test",
}
_UPLOADED = re.compile(r"^[0-9a-f]{8}-(.+)$")
MOST_FILES = 3_000_000  # of a folder: more is somebody's disk, and no data set


@dataclass(frozen=True, eq=False)
class LabeledPicture:
    """One picture and what is labeled on it.

    name: its path below the folder of the labels, or as the labels write it. file: None where there
    is no such picture. classes: of the whole picture, 1 shown, 0 takes no part, -1 not shown.
    size: (width, height) in pixels where the labels say it.
    """

    name: str
    file: Path | None
    split: str | None = None
    instances: tuple[Instance, ...] = ()
    classes: Mapping[str, int] = field(default_factory=dict)
    captions: tuple[str, ...] = ()
    size: tuple[int, int] | None = None

    def shown(self) -> dict[str, int]:
        """class -> 1 shown, 0 takes no part (a crowd of it alone is outlined), -1 not shown."""
        values = dict(self.classes)
        for thing in self.instances:
            is_one = int(not thing.is_crowd)
            values[thing.name] = max(values.get(thing.name, 0), is_one)
        return values

    def annotations(self, data_set: str) -> ImageAnnotations:
        """For the simulated narrator; its picture's size is read where the labels lack it.

        ValueError, OSError: there is no picture, or it cannot be read.
        """
        size = self.size
        if size is None:
            if self.file is None:
                raise ValueError(f"{self.name}: there is no such picture")
            size = read_frame(self.file).size
        marks = dataset_id(data_set, self.split, "simulated")
        stem = PurePosixPath(self.name).stem
        return ImageAnnotations(marks, stem, *size, self.instances, self.name)


class Tree:
    """The files of a folder, listed once; hidden ones are not there. ValueError: too many."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.files: list[PurePosixPath] = []
        for folder, folders, names in os.walk(root):
            folders[:] = sorted(name for name in folders if not is_hidden(name))
            place = PurePosixPath(Path(folder).relative_to(root).as_posix())
            self.files += [place / name for name in sorted(names) if not is_hidden(name)]
            if len(self.files) > MOST_FILES:
                raise ValueError(
                    f"{root} holds more than {MOST_FILES:,} files; name the folder of the data set"
                )

    def ending(self, *suffixes: str) -> list[PurePosixPath]:
        """The files with one of these suffixes, in any case."""
        return [file for file in self.files if file.suffix.lower() in suffixes]

    def named(self, *names: str) -> list[PurePosixPath]:
        """The files called so, in any case, those of the upper folders first."""
        some = [file for file in self.files if file.name.lower() in names]
        return sorted(some, key=lambda file: (len(file.parts), file))

    def pictures(self) -> list[PurePosixPath]:
        return self.ending(*EXTENSIONS)

    def path(self, file: PurePosixPath) -> Path:
        return self.root / file


class PictureIndex:
    """Finds pictures below some folders by what labels call them."""

    def __init__(self, *roots: Path | Tree) -> None:
        self.places: dict[str, list[tuple[Path, PurePosixPath]]] = defaultdict(list)
        self.stems: dict[str, list[tuple[Path, PurePosixPath]]] = defaultdict(list)
        for root in roots:
            tree = root if isinstance(root, Tree) else Tree(root)
            for picture in tree.pictures():
                self.places[folded(picture.name)].append((tree.root, picture))
                self.stems[folded(picture.stem)].append((tree.root, picture))

    def find(self, name: str, near: PurePosixPath | None = None) -> Path | None:
        """The picture whose path ends most like `name`; of several, the one most like `near`, the
        folder of the labels. None where there is none, or where it may be two."""
        for path in spellings(name):
            places = self.places.get(folded(path.name), [])
            if places:
                return self._best(places, path, near)
        return None

    def find_stem(self, stem: str, near: PurePosixPath | None = None) -> Path | None:
        """The same, of a path without its extension."""
        for path in spellings(stem):
            places = self.stems.get(folded(path.name), [])
            if places:
                return self._best(places, path, near)
        return None

    def _best(
        self,
        places: Sequence[tuple[Path, PurePosixPath]],
        path: PurePosixPath,
        near: PurePosixPath | None,
    ) -> Path | None:
        scored = []
        for root, picture in places:
            like_near = common_start(picture.parts[:-1], near.parts) if near is not None else 0
            scored.append(((common_end(picture, path), like_near), root / picture))
        best = max(score for score, _ in scored)
        paths = [place for score, place in scored if score == best]
        return paths[0] if len(paths) == 1 else None


def spellings(name: str) -> list[PurePosixPath]:
    """What a picture may be called here: as it is written, without the quoting of an address, and
    without what Label Studio puts before a file's own name (1a2b3c4d-cat.jpg)."""
    plain = plain_path(name)
    quoted = plain_path(unquote(name))
    paths = [plain, quoted]
    for path in (plain, quoted):
        uploaded = _UPLOADED.match(path.name)
        if uploaded:
            paths.append(path.with_name(uploaded[1]))
    return list(dict.fromkeys(paths))


def common_end(one: PurePosixPath, other: PurePosixPath) -> int:
    """How many folders above the name are the same, counted from it."""
    pairs = zip(reversed(one.parts[:-1]), reversed(other.parts[:-1]), strict=False)
    return _num_equal(pairs)


def common_start(one: Sequence[str], other: Sequence[str]) -> int:
    return _num_equal(zip(one, other, strict=False))


def _num_equal(pairs: Iterator[tuple[str, str]]) -> int:
    count = 0
    for one, other in pairs:
        if folded(one) != folded(other):
            break
        count += 1
    return count


def split_of(path: PurePosixPath) -> str | None:
    """The split that a folder of the path names: train/images, images/val2017; the innermost."""
    for part in reversed(path.parts):
        words = re.split(r"[^a-z]+", part.lower())
        named = {SPLITS[word] for word in words if word in SPLITS}
        if len(named) == 1:
            return named.pop()
    return None


def relative(file: Path | None, root: Path, name: str) -> str:
    """How a picture is called: its path below the root, else as the labels write it."""
    if file is not None and file.is_relative_to(root):
        return file.relative_to(root).as_posix()
    return name
