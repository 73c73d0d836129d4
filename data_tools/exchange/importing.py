"""Import a file of narratives and its pictures into a collection, many in one transaction."""

import hashlib
import json
import os
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from data_tools.exchange.sources import Entry, Files, Regions
from data_tools.store import Store
from data_tools.store.bulk import StoredImage, Take
from loctex.records.narrative import Narrative

TOGETHER = 16  # images to a transaction: others who write wait for no longer than a blink


@dataclass
class ImportReport:
    """What an import did. problems: one sentence each, with file and line or the picture."""

    num_imported: int = 0
    num_known: int = 0  # narratives that were imported before
    num_missing_images: int = 0
    problems: list[str] = field(default_factory=list)
    reasons: Counter[str] = field(default_factory=Counter)  # how much was left out, by reason


def import_file(
    store: Store,
    path: Path,
    images: Path,
    collection: str,
    progress: Callable[[int, int], None] | None = None,
) -> ImportReport:
    """Add a file's narratives, their pictures, and the regions.jsonl beside it if there is one.

    What is wrong is left out and reported. An import that was interrupted may be run again: what
    is there already stays one narrative. progress(images done, images in all).
    """
    path, images, report = Path(path), Path(images), ImportReport()
    regions = path.with_name("regions.jsonl")
    files = Files(path, images, regions if regions.exists() else None, is_strict=False)

    entries = list(files)
    report.num_missing_images = len(files.missing)
    report.problems += files.wrong + files.refused

    for reason, what in (
        ("the line is no narrative", files.wrong),
        ("the image's name leads out of the folder", files.refused),
        (f"no picture in {images}", files.missing),
    ):
        report.reasons += Counter({reason: len(what)})

    collection_id, num_done = store.add_collection(collection), 0
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for start in range(0, len(entries), TOGETHER):
            some = entries[start : start + TOGETHER]
            results = list(pool.map(lambda entry: _keep(store, collection_id, entry), some))
            stored = [image for image in results if isinstance(image, StoredImage)]

            added = store.add_all(collection_id, stored)
            report.num_imported += added.num_new
            report.num_known += added.num_known
            unusable = [image for image in results if isinstance(image, str)] + added.problems
            report.problems += unusable
            report.reasons += Counter({"the picture cannot be used": len(unusable)})

            num_done += len(some)
            if progress:
                progress(num_done, len(entries))
    return report


def _keep(store: Store, collection_id: int, entry: Entry) -> StoredImage | str:
    """Read and keep what needs no database; a text says what is wrong."""
    try:
        values = store.keep_image(
            entry.picture.read_bytes(),
            dataset_id=entry.dataset_id,
            image_id=entry.image_id,
            name=entry.picture.name,
        )
        takes = dict(_take(collection_id, *pair) for pair in entry.read())
    except ValueError as error:
        return str(error)
    return StoredImage(values, takes)


def _take(collection_id: int, narrative: Narrative, regions: Regions) -> tuple[str, Take]:
    """The same record imported twice is one take, however it was written."""
    record = json.dumps(narrative.to_json(), sort_keys=True, allow_nan=False)
    digest = hashlib.sha256(record.encode()).hexdigest()
    return f"import-{collection_id}-{digest}", Take(narrative, record, regions)
