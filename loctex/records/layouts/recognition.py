"""Which layout a folder or file has: found by what lies in it, never by what it is called alone.

Libraries were looked at and left: supervision (MIT) reads YOLO, COCO and VOC when it is told which,
and where the pictures are; datumaro (MIT) guesses, but pins pandas, pyarrow and numpy to versions
that exclude ours and knows neither Label Studio nor captions; pylabel (MIT) needs OpenCV with a
window system and Jupyter widgets. None says what it did not read. Tests compare with what they
write.
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from loctex.records.annotations import UnusedLabels
from loctex.records.file_names import EXTENSIONS
from loctex.records.frozen import manifest
from loctex.records.layouts import (
    coco_folder,
    csv_tables,
    label_studio,
    open_images,
    voc_folder,
    yolo,
)
from loctex.records.layouts.labeled import LabeledPicture, Tree

ARCHIVES = (".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".7z", ".rar", ".zst")
Reader = Callable[[Tree, Path | None, UnusedLabels], Iterator[LabeledPicture]]
NARRATIVES = "Localized Narratives"
VIDEO_NARRATIVES = "Video Localized Narratives"
SNAPSHOT = "parquet of LocTex Studio"


@dataclass(frozen=True)
class Kind:
    """A layout by name. evidence(tree) -> the file that shows it, or None. read: None where it
    holds narratives, which others read."""

    name: str
    evidence: Callable[[Tree], PurePosixPath | None]
    read: Reader | None = None


@dataclass(frozen=True, eq=False)
class Layout:
    """A folder, or a file with the pictures around it, of a recognised kind. place: which of them
    was named; evidence: the file that showed the kind."""

    kind: str
    place: Path
    tree: Tree
    evidence: Path
    reader: Reader | None = None

    @property
    def has_narratives(self) -> bool:
        """Whether people narrated already; else there are labels or captions."""
        return self.reader is None

    def pictures(
        self, images: Path | None = None, unused: UnusedLabels | None = None
    ) -> Iterator[LabeledPicture]:
        """images: another folder in which the pictures may lie. ValueError says what is wrong."""
        assert self.reader is not None
        try:
            yield from self.reader(self.tree, images, UnusedLabels() if unused is None else unused)
        except (KeyError, TypeError, AttributeError, IndexError, csv.Error) as error:
            raise ValueError(
                f"{self.evidence} is not as {self.kind} has it ({error!r}); export it again"
            ) from error


def _narratives(tree: Tree) -> PurePosixPath | None:
    keys = {"dataset_id", "image_id", "annotator_id", "caption"}
    return _lines_with(tree, keys)


def _video_narratives(tree: Tree) -> PurePosixPath | None:
    return _lines_with(tree, {"video_id", "keyframe_names", "actor_narratives"})


def _lines_with(tree: Tree, keys: set[str]) -> PurePosixPath | None:
    for file in tree.ending(".jsonl"):
        if keys <= csv_tables.first_record(tree.path(file)).keys():
            return file
    return None


def _snapshot(tree: Tree) -> PurePosixPath | None:
    """Not beside narratives: an export may hold both, and they are the same."""
    file = next(iter(tree.named(manifest.FILE)), None)
    return None if file is None or _narratives(tree) is not None else file


KINDS: tuple[Kind, ...] = (
    Kind(NARRATIVES, _narratives),
    Kind(VIDEO_NARRATIVES, _video_narratives),
    Kind(SNAPSHOT, _snapshot),
    Kind("YOLO", yolo.evidence, yolo.read),
    Kind("COCO", coco_folder.evidence, coco_folder.read),
    Kind("Label Studio", label_studio.evidence, label_studio.read),
    Kind("Roboflow CSV", csv_tables.roboflow_evidence, csv_tables.read_roboflow),
    Kind("imagefolder with metadata", csv_tables.metadata_evidence, csv_tables.read_metadata),
    Kind("Open Images CSV", open_images.evidence, open_images.read),
    Kind("Pascal VOC", voc_folder.evidence, voc_folder.read),
    Kind("captions", csv_tables.caption_evidence, csv_tables.read_captions),
)


def recognise(path: Path) -> Layout | None:
    """The layout of a folder, or of a file and the pictures around it; None where nothing here is
    known. ValueError: it holds two, which are named, or it is packed."""
    path = Path(path)
    if not path.exists():
        raise ValueError(f"there is nothing at {path}")
    if path.suffix.lower() in ARCHIVES and path.is_file():
        raise ValueError(f"{path} is an archive: unpack it first, then name the folder")
    if path.is_file() and path.suffix.lower() in (".yaml", ".yml"):
        path = path.parent
    tree = Tree(path) if path.is_dir() else _of_file(path)

    layouts = []
    for kind in KINDS:
        evidence = kind.evidence(tree)
        if evidence is not None:
            layouts.append(Layout(kind.name, path, tree, tree.path(evidence), kind.read))
    if len(layouts) > 1:
        first, second, *_ = layouts
        raise ValueError(
            f"{path} holds two kinds of labels: {first.kind} ({_below(first)}) and {second.kind} "
            f"({_below(second)}); name the file or folder of one, or move the other away"
        )
    return layouts[0] if layouts else None


def _below(layout: Layout) -> str:
    return layout.evidence.relative_to(layout.tree.root).as_posix()


def _of_file(path: Path) -> Tree:
    """The folder around a file, with its pictures, but with no other file of labels."""
    tree = Tree(path.parent)
    own = PurePosixPath(path.name)
    beside = [file for file in tree.files if file.suffix.lower() in EXTENSIONS]
    beside += [file for file in tree.files if file.name.lower().startswith(("class-", "classes"))]
    tree.files = [own, *(file for file in beside if file != own)]
    return tree


@dataclass
class LayoutContents:
    """What a layout holds, counted before anything is made of it."""

    kind: str
    num_pictures: int = 0
    num_missing: int = 0  # pictures that are named and not there
    num_boxes: int = 0  # outlines too
    num_captions: int = 0
    classes: Counter[str] = field(default_factory=Counter)  # boxes of each, or pictures
    splits: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)

    def sentence(self) -> str:
        """In words: what it is, and how much of it."""
        parts = [f"{self.num_pictures:,} pictures"]
        if self.splits:
            named = ", ".join(f"{name} {count:,}" for name, count in sorted(self.splits.items()))
            parts[0] += f" ({named})"
        if self.num_boxes:
            parts.append(f"{self.num_boxes:,} boxes")
        if self.num_captions:
            parts.append(f"{self.num_captions:,} captions")
        if self.classes:
            most = ", ".join(f"{name} {n:,}" for name, n in self.classes.most_common(8))
            more = ", ..." if len(self.classes) > 8 else ""
            noun = "class" if len(self.classes) == 1 else "classes"
            parts.append(f"{len(self.classes):,} {noun}: {most}{more}")
        if self.num_missing:
            parts.append(f"{self.num_missing:,} named pictures are not there")
        return f"{self.kind}: {'; '.join(parts)}"


def count(layout: Layout, images: Path | None = None) -> LayoutContents:
    """All of a layout of labels or captions, read once. ValueError as its reader."""
    contents, unused = LayoutContents(layout.kind), UnusedLabels()
    for picture in layout.pictures(images, unused):
        if picture.file is None:
            contents.num_missing += 1
            continue
        contents.num_pictures += 1
        contents.num_boxes += len(picture.instances)
        contents.num_captions += len(picture.captions)
        contents.classes.update(thing.name for thing in picture.instances)
        shown = [name for name, value in picture.classes.items() if value > 0]
        contents.classes.update(name for name in shown if not picture.instances)
        if picture.split:
            contents.splits[picture.split] += 1
    contents.problems = unused.orphans + unused.unusable
    return contents
