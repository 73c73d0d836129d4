"""A snapshot that lies elsewhere: read row group by row group through fsspec, never copied whole.

s3://, gs://, hf://, https:// and whatever else fsspec knows (s3 wants the package s3fs, gs gcsfs);
filecache::s3://... keeps what was read on the local disk. A row group (64 images, 2 MB) is what is
fetched at once. `StreamedSplit.order` gives a sequence whose neighbors lie in few row groups, and
`shares` gives each process a part of it, so that it reads its part of the files and little else,
whatever the number of processes. An image has its place by (seed, epoch): resuming skips by index.
(Hugging Face's split_dataset_by_node, where the processes do not divide the files, has each of them
read everything.)
"""

import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cached_property

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from loctex.records.items import Item, Rows, Split, plain_rows

BLOCK = 16  # row groups whose images are mixed: 1,024 images, 30 MB
AT_ONCE = 8  # row groups being fetched


class StreamedSplit(Split):
    """The images of one split, by number, in row groups of `size` rows."""

    def __init__(self, name: str, files: Sequence[str], rows: Sequence[int], size: int) -> None:
        self.name, self._files = name, files
        self.groups_of = [-(-count // size) for count in rows]  # of each shard
        lengths = [min(size, n - start) for n in rows for start in range(0, n, size)]
        self._starts = np.concatenate(([0], np.cumsum(lengths)))  # of each row group
        self._first = np.concatenate(([0], np.cumsum(self.groups_of)))  # row group of each shard
        self._kept: OrderedDict[int, Future[Rows]] = OrderedDict()
        self._most = 3 * BLOCK  # row groups in memory
        self._metadata: dict[int, pq.FileMetaData] = {}
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="stream")

    def __len__(self) -> int:
        return int(self._starts[-1])

    def _item(self, index: int) -> Item:
        group = self._group(index)
        return self._fetch(group).result().item(index - int(self._starts[group]))

    def expect(self, indices: np.ndarray) -> None:
        """Begin to fetch the images that are wanted next."""
        groups = dict.fromkeys(map(self._group, indices.tolist()))
        self._most = max(self._most, 3 * len(groups))
        for group in groups:
            self._fetch(group)

    def order(self, random: np.random.Generator) -> np.ndarray:
        """(N,) all images once: shards shuffled, row groups shuffled in them, images shuffled in
        blocks of BLOCK row groups."""
        groups = np.concatenate(
            [
                self._first[shard] + random.permutation(self.groups_of[shard])
                for shard in random.permutation(len(self._files))
            ]
        )
        blocks = []
        for start in range(0, len(groups), BLOCK):
            some = groups[start : start + BLOCK]
            rows = [np.arange(self._starts[group], self._starts[group + 1]) for group in some]
            blocks.append(random.permutation(np.concatenate(rows)))
        return np.concatenate(blocks)

    def captions(self) -> Iterator[str]:
        # of the files, only their captions are read
        for shard in range(len(self._files)):
            for batch in self._columns(shard, "narratives.list.element.caption"):
                yield from batch.column(0).flatten().field("caption").to_pylist()

    @cached_property
    def _num_narratives(self) -> np.ndarray:  # (N,) int64
        name = "narratives.list.element.annotator_id"
        lengths = [
            pc.list_value_length(batch.column(0)).to_numpy()
            for shard in range(len(self._files))
            for batch in self._columns(shard, name)
        ]
        return np.concatenate(lengths)

    def _columns(self, shard: int, name: str) -> Iterator[pa.RecordBatch]:
        with fsspec.open(self._files[shard], "rb") as file, pq.ParquetFile(file) as rows:
            yield from rows.iter_batches(columns=[name])

    def _group(self, index: int) -> int:
        return int(np.searchsorted(self._starts, index, side="right")) - 1

    def _fetch(self, group: int) -> "Future[Rows]":
        """The row group, kept or on its way; the one that was used longest ago is let go."""
        with self._lock:
            if group in self._kept:
                self._kept.move_to_end(group)
            else:
                self._kept[group] = self._pool.submit(self._read, group)
                while len(self._kept) > self._most:
                    self._kept.popitem(last=False)
            return self._kept[group]

    def _read(self, group: int) -> Rows:
        shard = int(np.searchsorted(self._first, group, side="right")) - 1
        files, path = fsspec.url_to_fs(self._files[shard])
        with files.open(path, "rb", cache_type="none") as file:  # pyarrow knows what it will need
            rows = pq.ParquetFile(file, metadata=self._metadata.get(shard), pre_buffer=True)
            table = rows.read_row_group(group - int(self._first[shard]))
        self._metadata[shard] = rows.metadata
        (batch,) = table.combine_chunks().to_batches()
        return Rows(plain_rows(batch))


def shares(order: np.ndarray, batch_size: int, num_ranks: int) -> np.ndarray:
    """(N, ...) -> the same places, so that process r's slices of the batches (batch_size places,
    divisible by num_ranks) are neighbors in `order`: a part of its own. The last incomplete batch
    is dropped."""
    steps, per_rank = len(order) // batch_size, batch_size // num_ranks
    complete = order[: steps * batch_size].reshape(num_ranks, steps, per_rank, *order.shape[1:])
    return complete.swapaxes(0, 1).reshape(steps * batch_size, *order.shape[1:])
