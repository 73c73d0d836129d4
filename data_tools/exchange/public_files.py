"""The public Localized Narratives files and the pictures they speak of, by name. METHOD section 5.

Nothing here asks the network before somebody calls it. Flickr30k's and ADE20k's pictures are given
by their owners on request only, so they are named as missing.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from urllib.parse import quote

from tqdm import tqdm

from data_tools.exchange.download import USUAL, Download, Patience, check_room, fetch
from loctex.records.annotations import image_id, is_plain_name, items, load, official, picture_name
from loctex.records.images import decode_image
from loctex.records.narrative import Narrative, NarrativeError, read_jsonl

PUBLIC = "https://storage.googleapis.com/localized-narratives/annotations"  # CC BY 4.0
SHARDS = {"coco_train": 4, "open_images_train_v6": 10}  # the others are one file each
NAMES = (
    "coco_train",
    "coco_val",
    "flickr30k_train",
    "flickr30k_val",
    "flickr30k_test",
    "ade20k_train",
    "ade20k_validation",
    "open_images_train_v6",
    "open_images_validation",
    "open_images_test",
)
COCO = "http://images.cocodataset.org"
OPEN_IMAGES = "https://open-images-dataset.s3.amazonaws.com"
TAIL = 8 * 2**20  # bytes at a file's end that hold its last line


def narrative_items(names: Sequence[str], to: Path, source: str | None = None) -> list[Download]:
    """The files of these parts, or of "all". source: another server with the same file names.

    ValueError: there is no such part.
    """
    downloads = []
    for name in NAMES if "all" in names else dict.fromkeys(names):
        if name not in NAMES:
            raise ValueError(f"no part {name!r}; there is all, {', '.join(sorted(NAMES))}")

        count = SHARDS.get(name)
        ends = [f"-{i:05d}-of-{count:05d}" for i in range(count)] if count else [""]
        for end in ends:
            file = f"{name}_localized_narratives{end}.jsonl"
            downloads.append(Download(f"{source or PUBLIC}/{file}", to / file, check_narratives))

    return downloads


def picture_items(
    paths: Iterable[Path], to: Path, source: str | None = None
) -> tuple[list[Download], list[str]]:
    """The pictures of narratives (.jsonl) or of COCO files (.json), and those nobody gives.

    source: another server with the same paths. ValueError: a line is wrong.
    """
    downloads, refused = {}, []
    for dataset_id, number in dict.fromkeys(key for path in paths for key in _keys(path)):
        url = picture_url(dataset_id, number, source)
        if url is None:
            refused.append(f"{dataset_id} {number}: no public picture; ask the data set's owners")
        else:
            place = to / picture_name(dataset_id, number, ".jpg")
            downloads[place] = Download(url, place, decode_image)

    return list(downloads.values()), refused


def _keys(path: Path) -> Iterator[tuple[str, str]]:
    """dataset_id and image_id of each image, again and again."""
    if path.suffix == ".jsonl":
        yield from ((narrative.dataset_id, narrative.image_id) for narrative in read_jsonl(path))
    else:
        name = f"coco_{official(path.stem) or ''}"
        for image in items(path, load(path), "images", ("id", "file_name")):
            yield name, image_id("coco", image)


def picture_url(dataset_id: str, number: str, source: str | None = None) -> str | None:
    """Where the picture lies; None if it is not public or its split is not known."""
    split = official(dataset_id)
    if split is None or not is_plain_name(number):
        return None
    if re.match(r"(ms)?coco", dataset_id, re.IGNORECASE) and re.fullmatch(r"\d{1,12}", number):
        return f"{source or COCO}/{split}2017/{int(number):012d}.jpg"
    if re.match(r"open_?images", dataset_id, re.IGNORECASE):
        folder = "validation" if split == "val" else split
        return f"{source or OPEN_IMAGES}/{folder}/{quote(number, safe='')}.jpg"
    return None


def check_narratives(path: Path) -> None:
    """ValueError unless the file's last line is a narrative: not cut short, no page of words."""
    with open(path, "rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - TAIL))
        lines = file.read().rstrip().splitlines()
    try:
        Narrative.from_json(lines[-1] if lines else b"")
    except NarrativeError as error:
        raise ValueError(f"its last line is no narrative: {error}") from error


def download(
    downloads: Sequence[Download],
    to: Path,
    *,
    workers: int = 8,
    patience: Patience = USUAL,
    is_quiet: bool = False,
) -> list[str]:
    """Fetch into the folder `to`, with a progress bar; "URL: reason" of each that failed.

    ValueError: the disk has not enough room. OSError: it is full.
    """
    to.mkdir(parents=True, exist_ok=True)
    total = check_room(downloads, to, workers, patience.stall)

    with tqdm(total=total or None, unit="B", unit_scale=True, disable=is_quiet) as bar:
        tell = (lambda message: None) if is_quiet else (lambda m: bar.write(m, file=sys.stderr))
        return fetch(downloads, workers=workers, patience=patience, progress=bar.update, tell=tell)
