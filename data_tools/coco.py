"""Labeled images and captions to narratives: how someone with boxes starts without recording.

    python -m data_tools.coco simulate INSTANCES [--images DIR] --to DIR [--captions CAPTIONS.json]
    python -m data_tools.coco captions CAPTIONS --images DIR --to DIR

INSTANCES is a COCO file, a folder of Pascal VOC's XML, or a JSON of boxes
(loctex/records/annotations.py says how they look), or a folder as a tool unzips it: YOLO's, CVAT's,
Roboflow's, Label Studio's, imagefolder, Open Images (loctex/records/layouts); several may be given.
The pictures lie beside the labels unless --images names their folder. `simulate` writes
DIR/narratives.jsonl, a few sentences for each image with a simulated voice and pointer, and
DIR/regions.jsonl, the exact masks or boxes of what is named. With --captions people's own captions
are spoken too, and pointed at where a word can mean only one thing. `captions` writes captions
without words and traces, for the contrastive loss alone; CAPTIONS is a COCO file, or JSON Lines
with "image_id" and "captions".

The pictures stay where they are: name the same folder as --images of `python -m
data_tools.snapshot`. dataset_id says what is simulated and keeps the split, coco_train_simulated,
if the file's name says it, or the labels do.

Nobody pointed here: data_tools/simulation/narrator.py does, about as badly as people, of whose
points 55 % lie inside the box of what they name (published). Ours, on the shared data:

    coco             55 %: 31 % in boxes below .02 of the image, 77 % above .3
    animalpose_voc   71 %, because its boxes are large; 55 % with --set offset=0.85

docs/RESULTS.md compares pace, pauses and speed with people's.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shlex
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask as rle
from tqdm import tqdm

from data_tools.exchange.strict_lines import strict_record
from data_tools.pictures import name_picture
from data_tools.processes import stop_tidily
from data_tools.simulation import captions as texts
from data_tools.simulation import labeled_pictures
from data_tools.simulation.instance_captions import PhotoWording, gather, unmarked
from data_tools.simulation.narrator import (
    PHOTOGRAPHS,
    NarratorSettings,
    box_region,
    mask_region,
    narrate,
)
from data_tools.simulation.narrator import phrases as cut
from data_tools.simulation.nouns import mentions
from loctex.records.annotations import ImageAnnotations, Instance, UnusedLabels
from loctex.records.files import whole_folder, write_whole
from loctex.records.images import Frame, read_frame
from loctex.records.narrative import Narrative

ANNOTATOR = 0  # nobody: simulated
NAMED = 5  # of what is left out for one reason, before "and N more"
REGIONS = "regions.jsonl"
POSITIVE = ("rate", "pixel", "drift_seconds", "burst_seconds")  # settings that are divided by


@dataclass
class ConversionReport:
    """How many narratives were written, and of how many images none could be."""

    num_narratives: int = 0
    num_without_picture: int = 0
    num_without_name: int = 0  # nothing is labeled, or all of it tiny
    num_without_labels: int = 0  # nothing is labeled, and some labels are of no image
    num_without_caption: int = 0
    num_unlabeled_captions: int = 0  # images of --captions that no labels are of
    labels: UnusedLabels = field(
        default_factory=UnusedLabels
    )  # of no image, or that cannot be drawn
    refused: list[str] = field(default_factory=list)  # pictures, with the reason

    def left_out(self, images: Path) -> str:
        """In words; "" if nothing was left out."""
        reasons = (
            (self.num_without_picture, f"without a picture in {images}"),
            (self.num_without_name, "without anything to name"),
            (self.num_without_labels, "without labels that say its id"),
            (self.num_without_caption, "without a caption"),
            (self.num_unlabeled_captions, "with captions that no labels name"),
        )
        counts = [f"{count:,} images {reason}" for count, reason in reasons if count]
        for sentences in (self.labels.orphans, self.labels.unusable, self.refused):
            counts += sentences[:NAMED]
            if len(sentences) > NAMED:
                counts.append(f"and {len(sentences) - NAMED:,} more such")
        return ", ".join(counts)


# --- simulated narratives


# a caption, and what its characters [start, end) name
Naming = tuple[str, Sequence[tuple[int, int, Sequence[Instance]]]]


def simulate(
    labels: ImageAnnotations,
    captions: Sequence[str],
    seed: int,
    settings: NarratorSettings = PHOTOGRAPHS,
) -> tuple[list[Narrative], list[dict[str, Any]]]:
    """The narratives of one image, a made one and one of each caption, and their regions.

    They depend on (seed, dataset_id, image_id) and on what is labeled, not on the file around it.
    """
    name = f"{labels.dataset_id}/{labels.image_id}".encode()
    rng = np.random.default_rng([seed, zlib.crc32(name)])
    named_captions: list[Naming] = []
    groups = gather(labels.instances, rng)
    if groups:
        text, namings = unmarked(PhotoWording(groups, rng).caption())
        named_captions.append(
            (text, [(start, end, groups[k].instances) for start, end, k in namings])
        )
    for text in dict.fromkeys(" ".join(caption.split()) for caption in captions):
        named_captions.append((text, _named(text, labels.instances)))

    narratives: list[Narrative] = []
    lines: list[dict[str, Any]] = []
    key = {"dataset_id": labels.dataset_id, "image_id": labels.image_id}
    for caption, mentioned in named_captions:
        regions = []
        for start, end, things in mentioned:
            region = _region(things, labels)
            if region is not None:
                regions.append((start, end, region[0]))
                lines.append(key | {"caption": caption, "start": start, "end": end} | region[1])
        if not regions:
            continue
        words, strokes = narrate(cut(caption, regions), rng, settings)
        narratives.append(
            Narrative(
                dataset_id=labels.dataset_id,
                image_id=labels.image_id,
                annotator_id=ANNOTATOR,
                caption=caption,
                words=words,
                strokes=strokes,
            )
        )
    return narratives, lines


def _named(caption: str, labeled: Sequence[Instance]) -> list[tuple[int, int, Sequence[Instance]]]:
    """What a person's caption names for certain: the only one of a category, or all of them."""
    namings: list[tuple[int, int, Sequence[Instance]]] = []
    for start, end, category, is_plural in mentions(caption, {thing.name for thing in labeled}):
        things = [thing for thing in labeled if thing.name == category]
        if is_plural or (len(things) == 1 and not things[0].is_crowd):
            namings.append((start, end, things))
    return namings


def _region(
    things: Sequence[Instance], labels: ImageAnnotations
) -> tuple[np.ndarray, dict[str, Any]] | None:
    """(M, 2) points to point at, and box and mask as regions.jsonl has them; None if not seen."""
    if len(things) == 1 and things[0].outline is None:
        return box_region(things[0].box), {"box": list(things[0].box)}

    height, width = labels.height, labels.width
    encoded = rle.merge([thing.encoded(height, width) for thing in things])
    mask = rle.decode(encoded).astype(bool)

    if not mask.any():
        return None

    (y0, y1), (x0, x1) = (np.flatnonzero(mask.any(axis=k))[[0, -1]].tolist() for k in (1, 0))
    place = {
        "box": [x0 / width, y0 / height, (x1 + 1) / width, (y1 + 1) / height],
        "rle": {"size": [height, width], "counts": encoded["counts"].decode("ascii")},
    }
    return mask_region(mask), place


def write_simulated(
    to: Path,
    files: Sequence[Path],
    images: Path,
    captions: Sequence[Path] = (),
    *,
    name: str | None = None,
    seed: int = 0,
    settings: NarratorSettings = PHOTOGRAPHS,
    progress: Callable[[int], None] | None = None,
) -> ConversionReport:
    """Write narratives.jsonl, regions.jsonl and narrator.json (seed and settings) into `to`.

    progress(number of the image at work); what it raises ends the work. The folder appears whole or
    not at all. ValueError: a file is wrong, `to` holds something, or there is nothing to tell.
    """
    report = ConversionReport()

    own_captions = texts.CaptionIndex()
    for file in captions:
        for one in texts.read(file, name, report.labels.orphans):
            own_captions.add(one)

    with whole_folder(to) as building:
        with (
            _lines(building / "narratives.jsonl") as write_narratives,
            _lines(building / REGIONS) as write_regions,
        ):
            labeled = (
                one
                for file in files
                for one in labeled_pictures.read(file, images, name, report.labels)
            )
            bar = tqdm(labeled, unit="image", leave=False, disable=progress is not None)
            for number, (as_told, texts_beside) in enumerate(bar, 1):
                if progress is not None:
                    progress(number)
                written = own_captions.of(as_told) + list(texts_beside)
                labels = _of_its_picture(as_told, images, report)
                if labels is None:
                    continue
                narratives, regions = simulate(labels, written, seed, settings)
                report.num_narratives += len(narratives)
                is_lost = not labels.instances and bool(report.labels.orphans)
                report.num_without_labels += is_lost and not narratives
                report.num_without_name += not is_lost and not narratives
                write_narratives([strict_record(narrative) for narrative in narratives])
                write_regions(regions)

        report.num_unlabeled_captions = own_captions.num_unused
        if not report.num_narratives:
            raise ValueError(f"nothing to tell: {report.left_out(images) or 'no image is labeled'}")

        record = {"seed": seed, "narrator": asdict(settings), "narratives": report.num_narratives}
        write_whole(building / "narrator.json", json.dumps(record, indent=1))
    return report


def _of_its_picture(
    labels: ImageAnnotations, images: Path, report: ConversionReport
) -> ImageAnnotations | None:
    """The labels under the id that finds their picture, turned as it is seen; None, and a reason
    in the report, where there is no such picture."""
    try:
        picture_id, picture = name_picture(images, labels.dataset_id, labels.image_id, labels.file)
        if picture is None:
            report.num_without_picture += 1
            return None
        return _as_seen(replace(labels, image_id=picture_id), read_frame(picture), picture.name)
    except (ValueError, OSError) as error:
        report.refused.append(str(error))
        return None


def _as_seen(labels: ImageAnnotations, frame: Frame, name: str) -> ImageAnnotations:
    """The labels on the picture as EXIF turns it; ValueError where they are of another one."""
    size = labels.width, labels.height
    is_seen, is_stored = size == frame.size, size == frame.stored
    if not is_seen and not is_stored:  # perhaps told on a copy of another resolution
        is_seen, is_stored = _is_scaled(size, frame.size), _is_scaled(size, frame.stored)
    if is_seen and not (is_stored and frame.orientation != 1):
        return labels
    if is_seen and is_stored:
        raise ValueError(
            f"{name}: is turned by EXIF, and of the same size either way, so nobody can tell "
            "whether its labels were turned too; save it without EXIF"
        )
    if is_stored:
        return labels.turned(frame.orientation)
    raise ValueError(
        f"{name}: is {frame.size[0]} x {frame.size[1]} pixels, its labels are for "
        f"{labels.width} x {labels.height}: of another picture, or it was cropped"
    )


def _is_scaled(size: tuple[int, int], other: tuple[int, int]) -> bool:
    """The same shape, to a pixel of rounding on the smaller one."""
    scale = size[0] / other[0]
    return abs(size[1] - scale * other[1]) <= 1 + scale


def write_captions(
    to: Path, files: Sequence[Path], images: Path, *, name: str | None = None
) -> ConversionReport:
    """Write narratives.jsonl into `to`: captions without words and traces. As write_simulated."""
    report = ConversionReport()
    with whole_folder(to) as building:
        with _lines(building / "narratives.jsonl") as write_narratives:
            captioned = (
                one for file in files for one in texts.read(file, name, report.labels.orphans)
            )
            for captions in captioned:
                if not captions.texts:
                    report.num_without_caption += 1
                    continue
                try:
                    picture_id, picture = name_picture(
                        images, captions.dataset_id, captions.image_id, captions.file
                    )
                except (ValueError, OSError) as error:
                    report.refused.append(str(error))
                    continue
                if picture is None:
                    report.num_without_picture += 1
                    continue
                narratives = replace(captions, image_id=picture_id).narratives()
                report.num_narratives += len(narratives)
                write_narratives([narrative.to_json() for narrative in narratives])
        if not report.num_narratives:
            raise ValueError(f"nothing to tell: {report.left_out(images) or 'no captions'}")
    return report


@contextmanager
def _lines(path: Path) -> Iterator[Callable[[Iterable[Mapping[str, Any]]], None]]:
    """Appends records to a file of JSON Lines; all of it is on the disk afterwards."""
    with open(path, "w", encoding="utf-8") as file:
        yield lambda records: file.writelines(
            json.dumps(record, allow_nan=False) + "\n" for record in records
        )
        file.flush()
        os.fsync(file.fileno())


# --- the command line


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    try:
        return options.command(options)
    except (ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 1


def _simulate(options: argparse.Namespace) -> int:
    settings = _settings(options.set)
    if options.images is None:
        options.images = labeled_pictures.pictures_of(options.files[0])
    report = write_simulated(
        options.to,
        options.files,
        options.images,
        options.captions,
        name=options.dataset,
        seed=options.seed,
        settings=settings,
    )
    return _report(options, report, f" --regions {shlex.quote(str(options.to / REGIONS))}")


def _captions(options: argparse.Namespace) -> int:
    report = write_captions(options.to, options.files, options.images, name=options.dataset)
    return _report(options, report, "")


def _report(options: argparse.Namespace, report: ConversionReport, regions: str) -> int:
    left_out = report.left_out(options.images)
    print(f"{report.num_narratives:,} narratives" + (f"; left out: {left_out}" if left_out else ""))
    narratives = shlex.quote(str(options.to / "narratives.jsonl"))
    images = shlex.quote(str(options.images))
    print(
        f"next: python -m data_tools.snapshot --narratives {narratives} --images {images}"
        f"{regions} --to SNAPSHOT"
    )
    return 0


def _settings(changes: Sequence[str]) -> NarratorSettings:
    """NAME=NUMBER, ... in place of the usual ones. ValueError lists the known names."""
    names = [setting.name for setting in fields(NarratorSettings)]
    numbers = {}
    for change in changes:
        name, _, value = change.partition("=")
        if name not in names:
            raise ValueError(f"--set {change}: no setting {name!r}; there is {', '.join(names)}")
        try:
            numbers[name] = float(value)
        except ValueError:
            numbers[name] = math.nan
        low = 1e-3 if name in POSITIVE else -10 if name == "lead_seconds" else 0
        if not low <= numbers[name] <= 1000:
            raise ValueError(f"--set {change}: must be a number from {low} to 1000")
    return replace(PHOTOGRAPHS, **numbers)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m data_tools.coco",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    telling = commands.add_parser("simulate", help="from masks or boxes, with voice and pointer")
    telling.add_argument("files", type=Path, nargs="+", metavar="INSTANCES")
    telling.add_argument(
        "--captions", type=Path, nargs="+", default=[], help="people's captions, spoken as well"
    )
    telling.add_argument("--seed", type=int, default=0, help="another number, other narratives")
    telling.add_argument(
        "--set",
        nargs="+",
        default=[],
        metavar="NAME=NUMBER",
        help="settings of data_tools/simulation/narrator.py, as radius=1.6",
    )
    telling.set_defaults(command=_simulate)
    writing = commands.add_parser("captions", help="captions as they are, without traces")
    writing.add_argument("files", type=Path, nargs="+", metavar="CAPTIONS")
    writing.set_defaults(command=_captions)
    for command in (telling, writing):
        command.add_argument(
            "--images",
            type=Path,
            required=command is writing,
            help="folder of the pictures" + (" (that of INSTANCES)" if command is telling else ""),
        )
        command.add_argument("--to", type=Path, required=True, help="the folder to write")
        command.add_argument("--dataset", help="its name, if not coco, voc or the folder's")
    return parser


if __name__ == "__main__":
    stop_tidily()
    sys.exit(main())
