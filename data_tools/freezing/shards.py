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

from data_tools.exchange.sources import Key, Regions, Told
from loctex.records.items import NARRATIVE, ROW, ROWS_PER_GROUP
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
class Row:
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


class Picture(NamedTuple):
    """An image's JPEG, the size of its original in pixels, its perceptual hash, and the digest of
    all that the row is made of."""

    jpeg: bytes
    width: int
    height: int
    look: int
    source: bytes


@dataclass
class Shard:
    """A shard to be written; told and picture fetch what it holds, step is called at each row."""

    path: Path
    split: str
    number: int
    keys: Sequence[Key]
    told: Callable[[Key], list[Told]]
    picture: Callable[[Key], Picture]
    step: Callable[[], None]


class Made(NamedTuple):
    """Rows without their pictures: an array of NARRATIVE lists; digest and counts of each row."""

    narratives: pa.Array
    digests: list[bytes]
    annotators: list[list[int]]
    with_trace: list[int]
    words: list[int]


def make(told: Sequence[list[Told]]) -> Made:
    """The narratives of some images, from the lines of their sources; runs in any process."""
    made: Made = Made(pa.array([], pa.list_(NARRATIVE)), [], [], [], [])
    rows = []
    for parts in told:
        pairs = [(Narrative.from_json(line), regions) for part in parts for line, regions in part]
        rows.append([_narrative(*pair) for pair in pairs])
        made.digests.append(_digest(rows[-1]))
        made.annotators.append([said.annotator_id for said, _ in pairs])
        made.with_trace.append(sum(bool(said.strokes) for said, _ in pairs))
        made.words.append(sum(len(said.words) for said, _ in pairs))
    return made._replace(narratives=pa.array(rows, pa.list_(NARRATIVE)))


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
        for field in ROW
        for leaf in _leaves(field.type, field.name)
        if leaf not in (TIMES, "image")
    ],
}


def write(shard: Shard, pool: Executor | None) -> list[Row]:
    """Write the file. pool: processes that make rows from lines; without one this thread does."""
    rows = []
    with open(shard.path, "wb") as file, pq.ParquetWriter(file, ROW, **COMPACT) as writer:
        for keys, made in _made(shard, pool):
            pictures = [shard.picture(key) for key in keys]
            writer.write_table(_table(keys, pictures, made))
            for i, (key, picture) in enumerate(zip(keys, pictures, strict=True)):
                content = _content(key, picture, made.digests[i])
                counts = made.annotators[i], made.with_trace[i], made.words[i]
                start = shard.split, shard.number, *key, picture.source, content, picture.look
                rows.append(Row(*start, *counts))
                shard.step()
        writer.close()
        file.flush()
        os.fsync(file.fileno())
    return rows


def _made(shard: Shard, pool: Executor | None) -> Iterator[tuple[Sequence[Key], Made]]:
    """The shard's row groups in their order, a few of them ahead."""
    starts = iter(range(0, len(shard.keys), ROWS_PER_GROUP))
    waiting: deque = deque()
    while True:
        for start in islice(starts, 3 - len(waiting) if pool else 1):
            keys = shard.keys[start : start + ROWS_PER_GROUP]
            told = [shard.told(key) for key in keys]
            waiting.append((keys, pool.submit(make, told) if pool else make(told)))
        if not waiting:
            return
        keys, made = waiting.popleft()
        yield keys, made.result() if pool else made


def _table(keys: Sequence[Key], pictures: Sequence[Picture], made: Made) -> pa.Table:
    columns: list[Sequence[Any]] = [*zip(*keys, strict=True)]
    columns += [[p.width for p in pictures], [p.height for p in pictures]]
    columns.append([p.jpeg for p in pictures])
    arrays = [pa.array(c, f.type) for c, f in zip(columns, list(ROW)[:5], strict=True)]
    return pa.Table.from_arrays([*arrays, made.narratives], schema=ROW)


def _content(key: Key, picture: Picture, narratives: bytes) -> bytes:
    shown = [*key, picture.width, picture.height, hashlib.sha256(picture.jpeg).hexdigest()]
    return hashlib.sha256(json.dumps([*shown, narratives.hex()]).encode()).digest()


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


def write_index(path: Path, rows: Sequence[Row]) -> None:
    columns = [[getattr(row, name) for row in rows] for name in INDEX.names]
    arrays = [pa.array(c, f.type) for c, f in zip(columns, INDEX, strict=True)]
    pq.write_table(pa.Table.from_arrays(arrays, schema=INDEX), path, compression="zstd")


@dataclass
class Known:
    """A snapshot that was frozen before: its rows by key, and the keys of each of its shards."""

    path: Path
    rows: dict[Key, Row] = field(default_factory=dict)
    files: dict[str, list[dict[str, Any]]] = field(default_factory=dict)  # of each split, in order
    shards: dict[tuple[str, int], list[Key]] = field(default_factory=dict)

    @classmethod
    def open(cls, path: Path) -> "Known":
        """ValueError: it is no snapshot with an index."""
        try:
            manifest = json.loads((path / "snapshot.json").read_bytes())
            table = pq.read_table(path / "rows.parquet", schema=INDEX)
            files = manifest["shards"]
        except (OSError, KeyError, ValueError) as error:
            raise ValueError(
                f"{path} cannot be gone on from ({error}): freeze without --previous"
            ) from error
        known = cls(path, files=files)
        for values in table.to_pylist():
            row = Row(**values)
            known.rows[row.key] = row
            known.shards.setdefault((row.split, row.shard), []).append(row.key)
        return known
