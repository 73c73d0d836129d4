"""Freeze narratives and their images into a snapshot: content-hashed parquet for training.

    python -m data_tools.snapshot --narratives FILE --images DIR [--regions FILE] --to DIR
    python -m data_tools.snapshot --workspace DIR --collection NAME ... --to DIR

Images are kept as JPEG with a short side of at most 288 px. Splits: the official one where the
dataset_id names it, else 80/10/10 by hash of the image id. The folder appears whole or not at all.
"""

import argparse
import hashlib
import json
import os
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from tqdm import tqdm

from data_tools import splits
from data_tools.folders import whole_folder
from data_tools.pictures import shrink
from data_tools.sources import Collection, Entry, Files, Source
from loctex.narrative import Narrative
from loctex.runs import write_whole
from loctex.snapshot import ROW

SHORT_SIDE = 288  # pixels
QUALITY = 90  # of the JPEG
ROWS_PER_GROUP = 64
Key = tuple[str, str]  # dataset_id, image_id
Progress = Callable[[int, int], None]  # steps done, steps in all


@dataclass(frozen=True)
class Picture:
    """Where an image's JPEG lies among the others, and the size of its original in pixels."""

    start: int
    num_bytes: int
    width: int
    height: int


def freeze(to: Path, sources: Iterable[Source], progress: Progress | None = None) -> dict[str, Any]:
    """Write the snapshot folder `to` and return its manifest.

    What has no picture, or a damaged one, is left out and counted in the manifest. ValueError: a
    record is wrong, nothing is there to freeze, or `to` holds something (never overwritten).
    """
    with whole_folder(to) as building, tempfile.TemporaryFile(dir=building) as spool:
        entries: dict[Key, list[Entry]] = defaultdict(list)
        left_out = []
        for source in sources:
            for entry in source:
                entries[entry.dataset_id, entry.image_id].append(entry)
            left_out += source.left_out
        steps = _steps(progress, 2 * len(entries))
        pictures, damaged = _shrink_all(dict(sorted(entries.items())), spool, steps)
        left_out += damaged
        if not pictures:
            reason = f"; {left_out[0]}" if left_out else ""
            raise ValueError(f"nothing to freeze: no narrative has a picture{reason}")
        manifest = _write_all(building / "data", entries, pictures, spool, steps)
        manifest["left_out"] = {"count": len(left_out), "first": left_out[:20]}
        write_whole(building / "snapshot.json", json.dumps(manifest, indent=1))
    return manifest


def _steps(progress: Progress | None, total: int) -> Callable[[], None]:
    done = 0

    def step() -> None:
        nonlocal done
        done += 1
        if progress:
            progress(done, total)

    return step


def _shrink_all(
    entries: dict[Key, list[Entry]], spool: BinaryIO, step: Callable[[], None]
) -> tuple[dict[Key, Picture], list[str]]:
    """Append all JPEGs to the spool; where each lies, and what was damaged."""
    pictures, damaged, start = {}, [], 0
    keys = list(entries)

    def shrunk(key: Key) -> tuple[bytes, int, int] | str:
        try:
            return shrink(entries[key][0].picture, SHORT_SIDE, QUALITY)
        except ValueError as error:
            return str(error)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for first in range(0, len(keys), 64):  # so many at once are held in memory
            some = keys[first : first + 64]
            for key, result in zip(some, pool.map(shrunk, some), strict=True):
                step()
                if isinstance(result, str):
                    damaged.append(result)
                    continue
                jpeg, width, height = result
                pictures[key] = Picture(start, spool.write(jpeg), width, height)
                start += len(jpeg)
    return pictures, damaged


def _write_all(
    folder: Path,
    entries: dict[Key, list[Entry]],
    pictures: dict[Key, Picture],
    spool: BinaryIO,
    step: Callable[[], None],
) -> dict[str, Any]:
    """The parquet file of each split, rows in the order of their keys; the manifest."""
    folder.mkdir()
    split_of = splits.assign(pictures)
    digest = hashlib.sha256()
    counts: dict[str, Counter] = {}
    sources: dict[str, Counter] = defaultdict(Counter)

    def rows(split: str) -> Iterator[dict[str, Any]]:
        for key in (key for key in sorted(pictures) if split_of[key] == split):
            row = _row(key, pictures[key], spool, entries[key])
            digest.update(_content(split, row))
            found = _count(row["narratives"])
            counts[split] += found
            sources[key[0]] += found
            step()
            yield row

    for split in ("train", "val", "test"):
        if split in split_of.values():
            counts[split] = Counter()
            _write_rows(folder / f"{split}-00000-of-00001.parquet", rows(split))
    return {
        "hash": digest.hexdigest(),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "splits": {split: dict(count) for split, count in counts.items()},
        "sources": {name: dict(count) for name, count in sorted(sources.items())},
        "settings": {"short_side": SHORT_SIDE, "quality": QUALITY},
    }


def _write_rows(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    with open(path, "wb") as file, pq.ParquetWriter(file, ROW, compression="zstd") as writer:
        group: list[dict[str, Any]] = []
        for row in rows:
            group.append(row)
            if len(group) == ROWS_PER_GROUP:
                writer.write_table(pa.Table.from_pylist(group, ROW))
                group = []
        if group:
            writer.write_table(pa.Table.from_pylist(group, ROW))
        writer.close()
        file.flush()
        os.fsync(file.fileno())


def _row(key: Key, picture: Picture, spool: BinaryIO, entries: Sequence[Entry]) -> dict[str, Any]:
    spool.seek(picture.start)
    narratives = []
    for entry in entries:
        for narrative, regions in zip(*entry.read(), strict=True):
            narratives.append(_narrative(narrative, regions))
    return {
        "dataset_id": key[0],
        "image_id": key[1],
        "width": picture.width,
        "height": picture.height,
        "image": spool.read(picture.num_bytes),
        "narratives": narratives,
    }


def _narrative(narrative: Narrative, regions: Sequence[dict[str, Any]]) -> dict[str, Any]:
    x, y, t = np.concatenate([np.empty((0, 3)), *narrative.strokes]).T
    return {
        "dataset_id": narrative.dataset_id,
        "annotator_id": narrative.annotator_id,
        "caption": narrative.caption,
        "word_text": [word.text for word in narrative.words],
        "word_start": [word.start for word in narrative.words],
        "word_end": [word.end for word in narrative.words],
        "stroke_lengths": [len(stroke) for stroke in narrative.strokes],
        "x": x.astype(np.float32).tolist(),
        "y": y.astype(np.float32).tolist(),
        "t_us": np.rint(t * 1e6).astype(np.int64).tolist(),
        "regions": [
            {
                "start": region["start"],
                "end": region["end"],
                "box": region.get("box"),
                "rle_size": (region.get("rle") or {}).get("size"),
                "rle_counts": (region.get("rle") or {}).get("counts"),
            }
            for region in regions
        ],
    }


def _content(split: str, row: dict[str, Any]) -> bytes:
    """What the snapshot's hash is of: all that training and evaluation can see of the row."""
    image = hashlib.sha256(row["image"]).hexdigest()
    return json.dumps([split, row | {"image": image}], sort_keys=True).encode()


def _count(narratives: Sequence[dict[str, Any]]) -> Counter:
    count = Counter(images=1, narratives=len(narratives))
    for narrative in narratives:
        count["with_trace"] += bool(narrative["x"])
        count["words"] += len(narrative["word_text"])
    return count


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m data_tools.snapshot", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--narratives", type=Path, help="a Localized Narratives file")
    parser.add_argument("--images", type=Path, help="the folder of its pictures")
    parser.add_argument("--regions", type=Path, help="regions.jsonl: known masks and boxes")
    parser.add_argument("--workspace", type=Path, help="the app's folder, instead of a file")
    parser.add_argument("--database", help="the workspace's database URL, if not its studio.db")
    parser.add_argument("--collection", nargs="+", help="collections of the workspace")
    parser.add_argument("--to", type=Path, required=True, help="the folder to write")
    options = parser.parse_args(arguments)
    is_file = options.narratives is not None and options.images is not None
    if is_file == (options.workspace is not None and options.collection is not None):
        parser.error("give either --narratives and --images, or --workspace and --collection")
    try:
        with tqdm(unit="step", leave=False) as bar:
            manifest = freeze(options.to, _sources(options), lambda done, total: _show(bar, total))
    except (ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    _report(options.to, manifest)
    return 0


def _sources(options: argparse.Namespace) -> list[Source]:
    if options.workspace is None:
        return [Files(options.narratives, options.images, options.regions)]
    from data_tools.store import Store  # a file needs no database

    store = Store.of_workspace(options.workspace, options.database)
    return [Collection(store, name) for name in options.collection]


def _show(bar: tqdm, total: int) -> None:
    bar.total = total
    bar.update()


def _report(to: Path, manifest: dict[str, Any]) -> None:
    for split, count in manifest["splits"].items():
        print(f"{split:5}  {count['images']:7,} images  {count['narratives']:7,} narratives")
    if manifest["left_out"]["count"]:
        print(f"left out: {manifest['left_out']['count']:,}, as {manifest['left_out']['first'][0]}")
    print(f"snapshot {manifest['hash'][:12]} in {to}")


if __name__ == "__main__":
    sys.exit(main())
