"""A snapshot's parquet shards: rows made from the public lines, written, and known again.

rows.parquet beside them says of each row what it was made of (`source`) and what it holds
(`content`): a later freeze takes over the shards of which nothing has changed, as links.
"""

import hashlib
import json
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from data_tools.exchange.sources import Key, NarrativeLines, Regions
from loctex.records.annotations import picture_name
from loctex.records.frozen import manifest
from loctex.records.items import NARRATIVE, PARQUET_ROW, PICTURE, ROWS_PER_GROUP
from loctex.records.narrative import Narrative

INDEX = pa.schema(
    [
        ("split", pa.string()),
        ("shard", pa.int32()),
        ("dataset_id", pa.string()),
        ("image_id", pa.string()),
        ("source", pa.binary(32)),
        ("content", pa.binary(32)),
        ("look", pa.uint64()),  # perceptual hash
        ("annotators", pa.list_(pa.int64())),  # of each narrative
        ("with_trace", pa.int32()),
        ("words", pa.int32()),
    ]
)


@dataclass
class FrozenRow:
    """A row of the index. shard: its number among the shards of its split."""

    split: str
    shard: int
    dataset_id: str
    image_id: str
    source: bytes
    content: bytes
    look: int
    annotators: list[int]
    with_trace: int
    words: int

    @property
    def key(self) -> Key:
        return self.dataset_id, self.image_id


class FrozenImage(NamedTuple):
    """An image's JPEG, the size of its original in pixels, its perceptual hash, and the digest of
    all that the row is made of."""

    jpeg: bytes
    width: int
    height: int
    look: int
    source: bytes


@dataclass
class Shard:
    """A shard to be written; lines_of and picture fetch what it holds, step follows each row."""

    path: Path
    split: str
    number: int
    keys: Sequence[Key]
    lines_of: Callable[[Key], list[NarrativeLines]]
    picture: Callable[[Key], FrozenImage]
    step: Callable[[], None]


class NarrativeColumns(NamedTuple):
    """Rows without their pictures: an array of NARRATIVE lists; digest and counts of each row."""

    narratives: pa.Array
    digests: list[bytes]
    annotators: list[list[int]]
    with_trace: list[int]
    words: list[int]


def make(images: Sequence[list[NarrativeLines]]) -> NarrativeColumns:
    """The narratives of some images, from the lines of their sources; runs in any process."""
    columns = NarrativeColumns(pa.array([], pa.list_(NARRATIVE)), [], [], [], [])
    rows = []
    for line_lists in images:
        pairs = [
            (Narrative.from_json(line), regions) for lines in line_lists for line, regions in lines
        ]
        rows.append([_narrative(*pair) for pair in pairs])
        columns.digests.append(_digest(rows[-1]))
        columns.annotators.append([narrative.annotator_id for narrative, _ in pairs])
        columns.with_trace.append(sum(bool(narrative.strokes) for narrative, _ in pairs))
        columns.words.append(sum(len(narrative.words) for narrative, _ in pairs))
    return columns._replace(narratives=pa.array(rows, pa.list_(NARRATIVE)))


def _narrative(narrative: Narrative, regions: Regions) -> dict[str, Any]:
    x, y, t = np.concatenate([np.empty((0, 3)), *narrative.strokes]).T
    return {
        "dataset_id": narrative.dataset_id,
        "annotator_id": narrative.annotator_id,
        "caption": narrative.caption,
        "word_text": [word.text for word in narrative.words],
        "word_start": [word.start for word in narrative.words],
        "word_end": [word.end for word in narrative.words],
        "stroke_lengths": [len(stroke) for stroke in narrative.strokes],
        "x": x.astype(np.float32),
        "y": y.astype(np.float32),
        "t_us": np.rint(t * 1e6).astype(np.int64),
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


def _digest(narratives: Sequence[dict[str, Any]]) -> bytes:
    """Of all that training and evaluation can see of them."""
    digest = hashlib.sha256()
    for narrative in narratives:
        points = {key: narrative[key].tobytes().hex() for key in ("x", "y", "t_us")}
        digest.update(json.dumps(narrative | points, sort_keys=True).encode())
    return digest.digest()


def _leaves(kind: pa.DataType, path: str) -> Iterator[str]:
    """The parquet columns that a field of this type becomes."""
    if pa.types.is_list(kind):
        yield from _leaves(kind.value_type, f"{path}.list.element")
    elif pa.types.is_struct(kind):
        for field in kind:
            yield from _leaves(field.type, f"{path}.{field.name}")
    else:
        yield path


TIMES = "narratives.list.element.t_us.list.element"  # rising: half the size as differences
COMPACT = {
    "compression": "zstd",
    "column_encoding": {TIMES: "DELTA_BINARY_PACKED"},
    "use_dictionary": [
        leaf
        for field in PARQUET_ROW
        for leaf in _leaves(field.type, field.name)
        if leaf not in (TIMES, "image.bytes")
    ],
}


def write(shard: Shard, pool: Executor | None) -> list[FrozenRow]:
    """Write the file. pool: processes that make rows from lines; without one this thread does."""
    rows = []
    with open(shard.path, "wb") as file, pq.ParquetWriter(file, PARQUET_ROW, **COMPACT) as writer:
        for keys, columns in _row_groups(shard, pool):
            pictures = [shard.picture(key) for key in keys]
            writer.write_table(_table(keys, pictures, columns))

            for i, (key, picture) in enumerate(zip(keys, pictures, strict=True)):
                content = _content(key, picture, columns.digests[i])
                counts = columns.annotators[i], columns.with_trace[i], columns.words[i]
                start = shard.split, shard.number, *key, picture.source, content, picture.look
                rows.append(FrozenRow(*start, *counts))
                shard.step()

        writer.close()
        file.flush()
        os.fsync(file.fileno())

    return rows


def _row_groups(
    shard: Shard, pool: Executor | None
) -> Iterator[tuple[Sequence[Key], NarrativeColumns]]:
    """The shard's row groups in their order, a few of them ahead."""
    starts = iter(range(0, len(shard.keys), ROWS_PER_GROUP))

    waiting: deque = deque()
    while True:
        for start in islice(starts, 3 - len(waiting) if pool else 1):
            keys = shard.keys[start : start + ROWS_PER_GROUP]
            images = [shard.lines_of(key) for key in keys]
            waiting.append((keys, pool.submit(make, images) if pool else make(images)))

        if not waiting:
            return
        keys, columns = waiting.popleft()
        yield keys, columns.result() if pool else columns


def _table(
    keys: Sequence[Key], pictures: Sequence[FrozenImage], narrated: NarrativeColumns
) -> pa.Table:
    columns: list[Sequence[Any]] = [*zip(*keys, strict=True)]
    columns += [[p.width for p in pictures], [p.height for p in pictures]]
    kinds = list(PARQUET_ROW)[:4]
    arrays = [pa.array(c, f.type) for c, f in zip(columns, kinds, strict=True)]
    jpegs = pa.array([p.jpeg for p in pictures], pa.binary())
    names = pa.array([picture_name(*key, ".jpg") for key in keys], pa.string())
    arrays.append(pa.StructArray.from_arrays([jpegs, names], fields=list(PICTURE)))
    return pa.Table.from_arrays([*arrays, narrated.narratives], schema=PARQUET_ROW)


def _content(key: Key, picture: FrozenImage, narratives: bytes) -> bytes:
    visible = [*key, picture.width, picture.height, hashlib.sha256(picture.jpeg).hexdigest()]
    return hashlib.sha256(json.dumps([*visible, narratives.hex()]).encode()).digest()


def pack(keys: Sequence[Key], size: Callable[[Key], int], most: int) -> list[list[Key]]:
    """The keys, in their order, in shards of about `most` bytes at the most."""
    packed: list[list[Key]] = []
    room = 0
    for key in keys:
        room -= size(key)
        if room < 0 or not packed:
            packed.append([])
            room = most - size(key)
        packed[-1].append(key)
    return packed


# --- the index


def write_index(path: Path, rows: Sequence[FrozenRow]) -> None:
    columns = [[getattr(row, name) for row in rows] for name in INDEX.names]
    arrays = [pa.array(c, f.type) for c, f in zip(columns, INDEX, strict=True)]
    pq.write_table(pa.Table.from_arrays(arrays, schema=INDEX), path, compression="zstd")


@dataclass
class EarlierSnapshot:
    """A snapshot that was frozen before: its rows by key, and the keys of each of its shards."""

    path: Path
    rows: dict[Key, FrozenRow] = field(default_factory=dict)
    files: dict[str, list[dict[str, Any]]] = field(default_factory=dict)  # of each split, in order
    shards: dict[tuple[str, int], list[Key]] = field(default_factory=dict)

    @classmethod
    def open(cls, path: Path) -> "EarlierSnapshot":
        """ValueError: it is no snapshot with an index."""
        try:
            files = manifest.read(path)["shards"]
            table = pq.read_table(path / "rows.parquet", schema=INDEX)
        except (OSError, KeyError, ValueError) as error:
            raise ValueError(
                f"{path} cannot be gone on from ({error}): freeze without --previous"
            ) from error

        earlier = cls(path, files=files)
        for values in table.to_pylist():
            row = FrozenRow(**values)
            earlier.rows[row.key] = row
            earlier.shards.setdefault((row.split, row.shard), []).append(row.key)
        return earlier

    def shows_pictures(self, shard: tuple[str, int]) -> bool:
        """Whether other programs see pictures in it; a shard of an earlier version has bytes alone,
        and is written anew."""
        split, number = shard
        schema = pq.read_schema(self.path / "data" / self.files[split][number]["file"])
        return schema.field("image").type == PICTURE
