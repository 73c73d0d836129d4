"""What people bring: narratives, captions to be traced, or boxes for the simulated narrator.

    python -m data_tools.arriving PLACE                      what is it, and how much?
    python -m data_tools.arriving PLACE --collection NAME    into a collection of the workspace

PLACE is a file, a folder, or an archive (.zip, .tar, .tar.gz) as a tool exports it; --images names
the folder of the pictures where they lie elsewhere. Narratives (Localized Narratives, Video
Localized Narratives, the studio's parquet) come in as they are; captions come without a trace, and
Annotate offers them to be traced; boxes are told by data_tools.coco's simulated narrator, and their
dataset_id says so. Nothing is written before all of it was counted.
"""

import argparse
import json
import re
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from data_tools.archives import unpack_of_a_stranger
from data_tools.exchange import video_narratives
from data_tools.exchange.checking import read_parts
from data_tools.exchange.importing import ImportReport, import_file
from data_tools.exchange.video_narratives import VideoFrames
from data_tools.pictures import find_picture, name_picture
from data_tools.processes import stop_tidily
from data_tools.store import Store
from loctex.records.annotations import UnusedLabels, dataset_id, picture_name
from loctex.records.file_names import is_hidden
from loctex.records.items import Item, Region
from loctex.records.layouts import recognition
from loctex.records.layouts.csv_tables import first_record
from loctex.records.layouts.labeled import LabeledPicture, split_of
from loctex.records.layouts.recognition import (
    ARCHIVES,
    NARRATIVES,
    SNAPSHOT,
    VIDEO_NARRATIVES,
    Layout,
)
from loctex.records.narrative import Narrative, write_jsonl
from loctex.records.snapshot import Snapshot

Progress = Callable[[int, int], None]  # images done, images in all
UNKNOWN_ANNOTATOR = 0
NARRATED = "each picture is told by the simulated narrator, from its boxes"
TRACED = "captions come without a trace, for Annotate to trace them"


@dataclass
class Arrival:
    """What was recognised. becomes: what an import makes of it, in words; num_pictures: of labels
    and captions."""

    layout: Layout
    images: Path
    sentence: str
    becomes: str
    problems: list[str] = field(default_factory=list)
    examples: list[str] = field(default_factory=list)
    num_pictures: int = 0


@contextmanager
def opened(place: Path) -> Iterator[Path]:
    """The place itself, or the folder into which an archive was unpacked for as long as the block
    lasts. ValueError: it is no archive, or a bomb."""
    if not (place.is_file() and place.suffix.lower() in ARCHIVES):
        yield place
        return
    with tempfile.TemporaryDirectory() as parent:
        folder = Path(parent) / place.name.partition(".")[0]  # data sets are called by it
        folder.mkdir()
        unpack_of_a_stranger(place, folder)
        inside = [path for path in folder.iterdir() if not is_hidden(path.name)]
        is_one_folder = len(inside) == 1 and inside[0].is_dir()
        is_split = is_one_folder and split_of(PurePosixPath(inside[0].name)) is not None
        yield inside[0] if is_one_folder and not is_split else folder


def recognise(place: Path, images: Path | None = None) -> Arrival:
    """What it is and how much of it, without writing anything.

    ValueError names what cannot be read, and the way out.
    """
    layout = recognition.recognise(place)
    if layout is None:
        raise ValueError(
            f"{place} holds nothing that is known: neither narratives (a .jsonl), captions nor "
            "boxes (COCO, YOLO, VOC, Label Studio, Open Images). Pictures alone are taken by Add "
            "images"
        )
    if layout.kind == NARRATIVES:
        return _recognise_narratives(layout, images)
    if layout.kind == VIDEO_NARRATIVES:
        return _recognise_video(layout, images)
    if layout.kind == SNAPSHOT:
        return _recognise_snapshot(layout)

    folder = images or layout.tree.root
    contents = recognition.count(layout, images)
    if not contents.num_boxes and not contents.num_captions:
        raise ValueError(
            f"{contents.sentence()}. Classes of whole pictures make no narratives: name them under "
            "Evaluate, which learns from them"
        )
    becomes = NARRATED if contents.num_boxes else TRACED
    if contents.num_boxes and contents.num_captions:
        becomes += "; people's captions are spoken too, and pointed at where a word is clear"
    examples = _examples(layout.pictures(images))
    return Arrival(
        layout,
        folder,
        contents.sentence(),
        becomes,
        contents.problems,
        examples,
        contents.num_pictures,
    )


def _examples(pictures: Iterator[LabeledPicture], most: int = 3) -> list[str]:
    """The first few pictures, with what is labeled on them."""
    lines: list[str] = []
    for picture in pictures:
        labels = Counter(thing.name for thing in picture.instances)
        said = [f"{n} x {name}" if n > 1 else name for name, n in labels.items()]
        said += [f'"{caption}"' for caption in picture.captions[:1]]
        if picture.file is not None and said:
            lines.append(f"{picture.name}: {', '.join(said[:6])}")
        if len(lines) == most:
            break
    return lines


def _narrative_files(layout: Layout) -> list[Path]:
    """All of the folder, for a large export is several."""
    files = [layout.tree.path(file) for file in layout.tree.ending(".jsonl")]
    return [file for file in files if {"caption", "annotator_id"} <= first_record(file).keys()]


def _pictures_folder(layout: Layout, images: Path | None) -> Path:
    beside = layout.tree.root / "images"
    return images or (beside if beside.is_dir() else layout.tree.root)


def _recognise_narratives(layout: Layout, images: Path | None) -> Arrival:
    folder, problems = _pictures_folder(layout, images), []
    num_narratives, keys = 0, dict[tuple[str, str], None]()
    for file in _narrative_files(layout):
        for before, report in read_parts(file):
            num_narratives += len(report.records)
            keys |= dict.fromkeys(key for _, key, _, _ in report.records)
            problems += [f"{file}:{before + number}: {text}" for number, text in report.problems]
    num_found = sum(_has_picture(folder, *key) for key in keys)
    sentence = (
        f"{layout.kind}: {num_narratives:,} narratives of {len(keys):,} images, of which "
        f"{num_found:,} have a picture in {folder.name}"
    )
    return Arrival(layout, folder, sentence, "narratives come in as they are", problems)


def _has_picture(folder: Path, data_set: str, image_id: str) -> bool:
    try:
        return find_picture(folder, data_set, image_id) is not None
    except ValueError:
        return False


def _recognise_video(layout: Layout, images: Path | None) -> Arrival:
    folder, missing = _pictures_folder(layout, images), list[str]()
    narratives = list(video_narratives.read(layout.evidence, VideoFrames(folder), missing))
    frames = {narrative.image_id for narrative in narratives}
    sentence = (
        f"{layout.kind}: {len(narratives):,} pieces of narratives on {len(frames):,} key frames; "
        f"{len(missing):,} of frames that are not in {folder.name}"
    )
    becomes = "each key frame gets what was said while it was pointed at"
    examples = [f'{one.image_id}: "{one.caption}"' for one in narratives[:3]]
    return Arrival(layout, folder, sentence, becomes, missing, examples)


def _recognise_snapshot(layout: Layout) -> Arrival:
    content = Snapshot.open(layout.evidence.parent).manifest
    splits = content["splits"].values()
    num_images = sum(split.get("images", 0) for split in splits)
    num_narratives = sum(split.get("narratives", 0) for split in splits)
    sentence = f"{layout.kind}: {num_narratives:,} narratives of {num_images:,} images"
    becomes = "narratives come in as they are, pictures at most 288 px on the short side"
    return Arrival(layout, layout.evidence.parent, sentence, becomes)


# --- into a store


def bring(
    store: Store,
    arrival: Arrival,
    collection: str,
    progress: Progress | None = None,
    *,
    seed: int = 0,
) -> ImportReport:
    """Add all of it to a collection; what is there already stays one. seed: of the narrator.

    ValueError: there is nothing to tell.
    """
    layout, images = arrival.layout, arrival.images
    if layout.kind == NARRATIVES:
        files = _narrative_files(layout)
        reports = [import_file(store, file, images, collection, progress) for file in files]
        return _sum(reports)

    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        if layout.kind == VIDEO_NARRATIVES:
            missing: list[str] = []
            frames = VideoFrames(images)
            narratives = video_narratives.read(layout.evidence, frames, missing)
            write_jsonl(folder / "narratives.jsonl", narratives)
        elif layout.kind == SNAPSHOT:
            images = folder / "images"
            _write_items(Snapshot.open(layout.evidence.parent), folder, images)
        elif arrival.becomes == TRACED:
            write_jsonl(folder / "narratives.jsonl", _captions(layout, images))
        else:
            from data_tools.coco import write_simulated

            folder, half = folder / "told", _Halves(progress, arrival.num_pictures)
            write_simulated(folder, [layout.place], images, seed=seed, progress=half.first)
            progress = half.second
        return import_file(store, folder / "narratives.jsonl", images, collection, progress)


class _Halves:
    """The progress of two passes over the same pictures as that of one."""

    def __init__(self, progress: Progress | None, num_pictures: int) -> None:
        self.progress, self.num_pictures = progress, num_pictures

    def first(self, num_done: int) -> None:
        if self.progress is not None:
            self.progress(num_done, max(2 * self.num_pictures, num_done))

    def second(self, num_done: int, total: int) -> None:
        if self.progress is not None:
            self.progress(self.num_pictures + num_done, self.num_pictures + total)


def _sum(reports: Sequence[ImportReport]) -> ImportReport:
    total = ImportReport()
    for report in reports:
        total.num_imported += report.num_imported
        total.num_known += report.num_known
        total.num_missing_images += report.num_missing_images
        total.problems += report.problems
        total.reasons += report.reasons
    return total


def _captions(layout: Layout, images: Path) -> Iterator[Narrative]:
    name = re.sub(r"\W+", "_", layout.tree.root.resolve().name)
    root = layout.tree.root
    for picture in layout.pictures(None if images == root else images, UnusedLabels()):
        if picture.file is None or not picture.file.is_relative_to(images):
            continue
        data_set = dataset_id(name, picture.split)
        file = picture.file.relative_to(images)
        image_id, _ = name_picture(images, data_set, file.stem, file.as_posix())
        for caption in dict.fromkeys(picture.captions):
            yield Narrative.from_json(
                {
                    "dataset_id": data_set,
                    "image_id": image_id,
                    "annotator_id": UNKNOWN_ANNOTATOR,
                    "caption": " ".join(caption.split()),
                }
            )


def _write_items(snapshot: Snapshot, folder: Path, images: Path) -> None:
    """A snapshot as public lines, with its pictures and regions."""
    images.mkdir()
    regions: list[str] = []

    def narratives() -> Iterator[Narrative]:
        for name in snapshot.splits:
            for item in snapshot.split(name):
                picture = picture_name(item.dataset_id, item.image_id, ".jpg")
                (images / picture).write_bytes(item.image)
                for narrative, some in zip(item.narratives, item.regions, strict=True):
                    regions.extend(json.dumps(_line(item, narrative, one)) for one in some)
                    yield narrative

    write_jsonl(folder / "narratives.jsonl", narratives())
    if regions:
        (folder / "regions.jsonl").write_text("\n".join(regions) + "\n", encoding="utf-8")


def _line(item: Item, narrative: Narrative, region: Region) -> dict:
    line = {
        "dataset_id": item.dataset_id,
        "image_id": item.image_id,
        "annotator_id": narrative.annotator_id,
        "caption": narrative.caption,
        "start": region.start,
        "end": region.end,
    }
    if region.box is not None:
        line["box"] = [float(side) for side in region.box]
    if region.rle is not None:
        line["rle"] = {"size": list(region.rle["size"]), "counts": region.rle["counts"]}
    return line


# --- the command line


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m data_tools.arriving",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("place", type=Path, help="a file, a folder or an archive")
    parser.add_argument("--images", type=Path, help="the folder of the pictures, if elsewhere")
    parser.add_argument("--collection", help="its name; without it, nothing is written")
    parser.add_argument("--workspace", type=Path, default=Path("workspace"), help="(workspace)")
    parser.add_argument("--database", help="its database URL, if not its studio.db")
    parser.add_argument("--seed", type=int, default=0, help="of the simulated narrator (0)")
    options = parser.parse_args(arguments)

    try:
        with opened(options.place) as place:
            arrival = recognise(place, options.images)
            print(arrival.sentence)
            for line in (*arrival.examples, f"an import: {arrival.becomes}"):
                print(f"  {line}")
            for problem in arrival.problems[:10]:
                print(f"left out: {problem}", file=sys.stderr)
            if options.collection is None:
                return 0
            store = Store.of_workspace(options.workspace, options.database, is_new=True)
            report = bring(store, arrival, options.collection, seed=options.seed)
            store.close()
    except (ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 1

    print(f"{report.num_imported:,} narratives imported, {report.num_known:,} were there already")
    for reason, num_left_out in report.reasons.items():
        print(f"left out, {reason}: {num_left_out:,}")
    return 0


if __name__ == "__main__":
    stop_tidily()
    sys.exit(main())
