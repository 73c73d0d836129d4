"""Freezing, step by step: what is there, which of it is new, splits, shards, the manifest."""

import hashlib
import json
import os
import shutil
import tempfile
import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from data_tools.exchange.sources import Entry, Key, Source, fingerprint
from data_tools.freezing import near_duplicates, shards, splits
from data_tools.freezing.dataset_card import snapshot_card
from data_tools.freezing.shards import EarlierSnapshot, FrozenImage, FrozenRow, Shard
from data_tools.pictures import for_snapshot
from data_tools.processes import process_pool
from loctex.records import terms
from loctex.records.files import whole_folder, write_whole
from loctex.records.images import decode_image
from loctex.records.items import ROWS_PER_GROUP

SHORT_SIDE = 288  # pixels
QUALITY = 90  # of the JPEG
SHARD_BYTES = 128 * 2**20
FEW = 2000  # images: fewer are frozen sooner than processes start
SPLITS = ("train", "val", "test")
FreezeProgress = Callable[[int, int], None]  # steps done, steps in all


class SpooledImage(NamedTuple):
    """Where an image's JPEG lies among the others; see shards.FrozenImage."""

    start: int
    num_bytes: int
    width: int
    height: int
    look: int
    source: bytes


def freeze(
    to: Path,
    sources: Iterable[Source],
    progress: FreezeProgress | None = None,
    *,
    previous: Path | None = None,
    workers: int | None = None,
    shard_bytes: int = SHARD_BYTES,
) -> dict[str, Any]:
    """Write the snapshot folder `to` and return its manifest.

    previous: a snapshot whose images stay in their splits and whose unchanged shards are linked.
    What has no picture, or a damaged one, is left out and counted in the manifest. ValueError: a
    record is wrong, nothing is there to freeze, or `to` holds something (never overwritten).
    """
    earlier = EarlierSnapshot.open(previous) if previous else None
    workers = workers or os.cpu_count() or 1

    with whole_folder(to) as building, tempfile.TemporaryFile(dir=building) as spool:
        gathered = _SourceEntries(sources)
        step = _steps(progress, 2 * len(gathered.entries))
        frozen = _Freeze(gathered, earlier, spool, step, workers, building / "data", shard_bytes)
        manifest = frozen.run()

        shards.write_index(building / "rows.parquet", frozen.rows)
        write_whole(building / "README.md", snapshot_card(to.name, manifest))
        write_whole(building / "snapshot.json", json.dumps(manifest, indent=1))

    return manifest


def _steps(progress: FreezeProgress | None, total: int) -> Callable[[], None]:
    num_done, lock = 0, threading.Lock()

    def step() -> None:
        nonlocal num_done
        with lock:
            num_done += 1
            if progress:
                progress(num_done, total)

    return step


class _SourceEntries:
    """The entries of all sources, image by image, and what they could not give."""

    def __init__(self, sources: Iterable[Source]) -> None:
        self.entries: dict[Key, list[Entry]] = defaultdict(list)
        self.left_out: list[str] = []
        self.licenses: dict[str, str] = {}
        for source in sources:
            for entry in source:
                self.entries[entry.dataset_id, entry.image_id].append(entry)
                if source.license:
                    self.licenses[entry.dataset_id] = source.license
            self.left_out += source.left_out
        self.entries = dict(sorted(self.entries.items()))


class _Freeze:
    """One freeze: what its steps hand on to each other."""

    def __init__(
        self,
        gathered: _SourceEntries,
        earlier: EarlierSnapshot | None,
        spool: BinaryIO,
        step: Callable[[], None],
        workers: int,
        folder: Path,
        shard_bytes: int,
    ) -> None:
        self.gathered, self.entries = gathered, gathered.entries
        self.earlier = earlier or EarlierSnapshot(Path())
        self.spool, self.step, self.workers = spool, step, workers
        self.folder, self.shard_bytes = folder, shard_bytes

        self.spooled: dict[Key, SpooledImage] = {}  # pictures that were shrunk
        self.sizes: dict[Key, int] = {}  # bytes of the lines
        self.digests: dict[Path, str] = {}  # of the files that were taken over
        self.rows: list[FrozenRow] = []

    def run(self) -> dict[str, Any]:
        unchanged = self._shrink(self.entries, self.step)
        keys = unchanged | self.spooled.keys()
        if not keys:
            reasons = self.gathered.left_out[:1]
            raise ValueError("; ".join(["nothing to freeze: no narrative has a picture", *reasons]))
        before = {key: row.split for key, row in self.earlier.rows.items()}
        split_of = splits.assign(keys, before)
        reused = self._reusable(unchanged, split_of)
        linked = {key for shard in reused for key in self.earlier.shards[shard]}
        self._shrink(sorted(unchanged - linked), lambda: None, again=True)
        self.folder.mkdir()
        files = self._write(reused, sorted(keys - linked), split_of)
        return self._manifest(files, len(reused))

    def _shrink(
        self, keys: Iterable[Key], step: Callable[[], None], *, again: bool = False
    ) -> set[Key]:
        """Spool the JPEGs that are new; the keys of which nothing has changed.

        again: of all keys, changed or not.
        """
        unchanged, place = set(), self.spool.seek(0, os.SEEK_END)
        remaining = iter(keys)
        with ThreadPoolExecutor(self.workers) as pool:
            # so many pictures at once are held in memory
            while some := list(islice(remaining, 64)):
                results = pool.map(lambda key: self._picture(key, again), some)
                for key, result in zip(some, results, strict=True):
                    step()
                    if isinstance(result, str):
                        self.gathered.left_out.append(result)
                    elif result is None:
                        unchanged.add(key)
                    else:
                        num_bytes = self.spool.write(result.jpeg)
                        self.spooled[key] = SpooledImage(place, num_bytes, *result[1:])
                        place += num_bytes
        self.spool.flush()
        return unchanged

    def _picture(self, key: Key, again: bool) -> FrozenImage | str | None:
        """None: the image is as it was. A text: its picture is damaged."""
        entries = self.entries[key]
        picture = entries[0].picture.read_bytes()

        line_lists = [entry.tell() for entry in entries]
        source = fingerprint(picture, line_lists)
        self.sizes[key] = sum(len(line) for lines in line_lists for line, _ in lines)

        if not again and key in self.earlier.rows and self.earlier.rows[key].source == source:
            return None

        try:
            image = decode_image(picture)
            jpeg = for_snapshot(picture, image, SHORT_SIDE, QUALITY)
        except ValueError as error:
            return f"{entries[0].picture.name}: {error}"

        height, width = image.shape[:2]
        return FrozenImage(jpeg, width, height, near_duplicates.perceptual_hash(image), source)

    def _reusable(self, unchanged: set[Key], split_of: dict[Key, str]) -> list[tuple[str, int]]:
        """Shards of the previous snapshot of which no row has changed, gone, or moved."""
        return [
            shard
            for shard, keys in sorted(self.earlier.shards.items())
            if all(key in unchanged and split_of[key] == shard[0] for key in keys)
            and self.earlier.shows_pictures(shard)
        ]

    def _write(
        self, reused: Sequence[tuple[str, int]], keys: Sequence[Key], split_of: dict[Key, str]
    ) -> dict[str, list[Path]]:
        """Link and write the shards of each split; their files in order."""
        files: dict[str, list[Path]] = {}
        new: list[Shard] = []
        for split in SPLITS:
            old = [number for name, number in reused if name == split]
            mine = [key for key in keys if split_of[key] == split]
            packs = shards.pack(mine, self._size, self.shard_bytes)
            total = len(old) + len(packs)
            names = [self.folder / f"{split}-{i:05d}-of-{total:05d}.parquet" for i in range(total)]

            for number, (path, shard) in enumerate(zip(names, old, strict=False)):
                self._link(split, shard, number, path)

            for number, some in enumerate(packs, len(old)):
                callbacks = self._lines_of, self._spooled, self.step
                new.append(Shard(names[number], split, number, some, *callbacks))

            if names:
                files[split] = names

        with _processes(self.workers, len(keys)) as pool:
            with ThreadPoolExecutor(self.workers) as writers:
                try:
                    for rows in writers.map(lambda shard: shards.write(shard, pool), new):
                        self.rows += rows
                except BaseException:
                    if pool:  # else the shards that were begun would be written to their end
                        pool.shutdown(wait=False, cancel_futures=True)
                    writers.shutdown(cancel_futures=True)
                    raise

        return files

    def _link(self, split: str, old: int, number: int, path: Path) -> None:
        file = self.earlier.files[split][old]
        _link(self.earlier.path / "data" / file["file"], path)
        cached = self.earlier.path / ".cache" / f"{file['sha256']}.arrow"
        if cached.exists():  # what loctex.records.snapshot made of it for memory mapping
            (path.parents[1] / ".cache").mkdir(exist_ok=True)
            _link(cached, path.parents[1] / ".cache" / cached.name)
        self.digests[path] = file["sha256"]
        for key in self.earlier.shards[split, old]:
            row = self.earlier.rows[key]
            row.shard = number
            self.rows.append(row)
            self.step()

    def _size(self, key: Key) -> int:
        """About the bytes of its row: parquet keeps lines in an eighth (PERFORMANCE.md)."""
        return self.spooled[key].num_bytes + self.sizes[key] // 8

    def _lines_of(self, key: Key) -> list:
        return [entry.tell() for entry in self.entries[key]]

    def _spooled(self, key: Key) -> FrozenImage:
        entry = self.spooled[key]
        jpeg = os.pread(self.spool.fileno(), entry.num_bytes, entry.start)
        return FrozenImage(jpeg, *entry[2:])

    def _manifest(self, files: dict[str, list[Path]], num_reused: int) -> dict[str, Any]:
        order = {split: number for number, split in enumerate(SPLITS)}
        self.rows.sort(key=lambda row: (order[row.split], row.shard))

        content = hashlib.sha256()
        for row in sorted(self.rows, key=lambda row: (row.split, row.key)):
            content.update(row.split.encode() + row.content)

        sizes = Counter((row.split, row.shard) for row in self.rows)
        left_out = self.gathered.left_out

        previous = (
            {"name": self.earlier.path.name, "reused": num_reused} if self.earlier.rows else None
        )

        return {
            "hash": content.hexdigest(),
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "splits": {split: _counts(r for r in self.rows if r.split == split) for split in files},
            "sources": _sources(self.rows, self.gathered.licenses),
            "settings": {"short_side": SHORT_SIDE, "quality": QUALITY},
            "rows_per_group": ROWS_PER_GROUP,
            "shards": {
                split: [
                    {
                        "file": path.name,
                        "rows": sizes[split, i],
                        "bytes": path.stat().st_size,
                        "sha256": self.digests.get(path) or _sha256(path),
                    }
                    for i, path in enumerate(paths)
                ]
                for split, paths in files.items()
            },
            "previous": previous,
            "near_duplicates": _near(self.rows),
            "left_out": {"count": len(left_out), "first": left_out[:20]},
        }


@contextmanager
def _processes(workers: int, num_images: int) -> Iterator[Executor | None]:
    if workers < 2 or num_images < FEW:
        yield None
        return
    with process_pool(workers) as pool:
        yield pool


def _link(source: Path, to: Path) -> None:
    """The same file under another name; a copy where the disk is another."""
    try:
        os.link(source, to)
    except OSError:
        shutil.copyfile(source, to)


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _counts(rows: Iterable[FrozenRow]) -> dict[str, int]:
    count = Counter(images=0, narratives=0, with_trace=0, words=0)
    for row in rows:
        count["images"] += 1
        count["narratives"] += len(row.annotators)
        count["with_trace"] += row.with_trace
        count["words"] += row.words
    return dict(count)


def _sources(rows: Sequence[FrozenRow], licenses: dict[str, str]) -> dict[str, dict[str, Any]]:
    """Of each data set: how much, who told it (narratives of each annotator_id), its terms."""
    sources = {}
    for name in sorted({row.dataset_id for row in rows}):
        mine = [row for row in rows if row.dataset_id == name]
        counts = Counter(str(annotator) for row in mine for annotator in row.annotators)
        public_terms = terms.of(name)
        sources[name] = _counts(mine) | {
            "annotators": dict(sorted(counts.items())),
            "license": str(public_terms) if public_terms else licenses.get(name),
        }
    return sources


def _near(rows: Sequence[FrozenRow]) -> dict[str, Any]:
    """Pictures of two splits that look alike: how many pairs, and the nearest of them."""
    names = [row.split for row in rows]
    looks = np.array([row.look for row in rows], np.uint64)
    pairs = near_duplicates.find(looks, np.array([SPLITS.index(name) for name in names]))

    nearest = [
        {
            "images": [
                {key: getattr(rows[i], key) for key in ("split", "dataset_id", "image_id")}
                for i in pair
            ],
            "bits": bits,
        }
        for *pair, bits in pairs[:50].tolist()
    ]
    return {"bits": near_duplicates.NEAR, "count": len(pairs), "first": nearest}
