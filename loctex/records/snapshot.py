"""Open a frozen snapshot: images with all that people said of them, read at random from disk.

A snapshot is a folder: snapshot.json (the manifest) and data/SPLIT-*.parquet, one row per image.
An Arrow file of each is built once, in its .cache folder (the user's cache, where the snapshot is
read-only), and memory-mapped. A snapshot that lies elsewhere (s3://, gs://, hf://, https://) is
streamed (streamed.py).
data_tools/snapshot.py makes them.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from loctex.records.files import cache_place, draft_file
from loctex.records.frozen import manifest
from loctex.records.items import ROW, Item, Rows, Split, plain_rows
from loctex.records.streamed import StreamedSplit

if TYPE_CHECKING:
    from datasets import Dataset


_END = b"\xff\xff\xff\xff\0\0\0\0"  # what ends an Arrow stream; one that was cut off lacks it


class MappedSplit(Split):
    """A split whose Arrow files are mapped from the local disk."""

    def __init__(self, rows: "Dataset", name: str) -> None:
        self.name = name
        self._rows = rows
        batches = rows.data.to_batches()
        self._ends = np.cumsum([batch.num_rows for batch in batches])
        self._parts = [Rows(batch) for batch in batches]

    def __len__(self) -> int:
        return len(self._rows)

    def _item(self, index: int) -> Item:
        batch = int(np.searchsorted(self._ends, index, side="right"))
        start = int(self._ends[batch]) - self._parts[batch].num_rows
        return self._parts[batch].item(index - start)

    def captions(self) -> Iterator[str]:
        for column in self._column().chunks:
            yield from column.flatten().field("caption").to_pylist()

    @cached_property
    def _num_narratives(self) -> np.ndarray:  # (N,) int64
        return pc.list_value_length(self._column()).to_numpy()

    def _column(self) -> pa.ChunkedArray:
        return self._rows.data.column("narratives")


class Snapshot:
    """A frozen snapshot; `Snapshot.open(folder)`."""

    def __init__(self, path: Path, content: dict[str, Any]) -> None:
        """content: of snapshot.json, as `manifest.read` checked it."""
        self.path = path
        self.manifest = content
        self.hash: str = content["hash"]
        self.splits: tuple[str, ...] = tuple(content["splits"])
        self._opened: dict[str, Split] = {}

    @classmethod
    def open(cls, path: Path | str) -> "Snapshot":
        """A folder, or an address (streamed.py). Errors say the way out."""
        if "://" in str(path):
            return open_streamed(str(path))
        path = Path(path)
        try:
            content = manifest.read(path)
        except FileNotFoundError as error:
            raise FileNotFoundError(
                f"{path} is not a snapshot (it has no snapshot.json); make one with "
                "python -m data_tools.snapshot --narratives FILE --images DIR --to DIR"
            ) from error
        snapshot = cls(path, content)
        for name in snapshot.splits:
            if not snapshot._files(name):
                raise ValueError(f"{path} is damaged, data/{name}-*.parquet is gone: freeze again")
        return snapshot

    def split(self, name: str) -> Split:
        """train, val or test; ValueError lists what there is."""
        if name not in self.splits:
            raise ValueError(f"{self.path} has no split {name!r}, only {', '.join(self.splits)}")
        if name not in self._opened:
            self._opened[name] = self._open_split(name)
        return self._opened[name]

    def _open_split(self, name: str) -> Split:
        from datasets import Dataset, concatenate_datasets  # takes a second: only who reads

        names = self._arrow_names(name)
        cache = self.path / ".cache"
        if not all(_is_current(file, cache / arrow) for file, arrow in names.items()):
            cache = cache_place(cache, f"snapshots/{self.hash[:16]}")
            cache.mkdir(exist_ok=True)
            with open(cache / "lock", "w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)  # of several processes one builds, others wait
                for file, arrow in names.items():
                    _map(file, cache / arrow)
        mapped = [Dataset.from_file(str(cache / arrow)) for arrow in names.values()]
        return MappedSplit(concatenate_datasets(mapped), name)

    def _arrow_names(self, split: str) -> dict[Path, str]:
        """Parquet file -> the name of its Arrow file, by its content where that is known."""
        shards = self.manifest.get("shards", {}).get(split, ())
        content_of = {shard["file"]: shard["sha256"] for shard in shards if "sha256" in shard}
        return {
            file: f"{content_of.get(file.name, file.stem)}.arrow" for file in self._files(split)
        }

    def _files(self, name: str) -> list[Path]:
        return sorted((self.path / "data").glob(f"{name}-*-of-*.parquet"))


def _is_current(parquet: Path, arrow: Path) -> bool:
    """Whether the Arrow file of a shard is there, whole and not older."""
    if not arrow.exists() or arrow.stat().st_mtime < parquet.stat().st_mtime:
        return False
    with suppress(OSError), open(arrow, "rb") as file:
        file.seek(-len(_END), os.SEEK_END)
        return file.read() == _END
    return False


def _map(parquet: Path, arrow: Path) -> None:
    """Makes the Arrow file of a shard, if it is not there yet, torn or older."""
    if _is_current(parquet, arrow):
        return
    with draft_file(arrow) as draft:
        with pq.ParquetFile(parquet) as rows, pa.OSFile(str(draft), "wb") as file:
            with pa.ipc.new_stream(file, ROW) as writer:
                for batch in rows.iter_batches(1024):
                    writer.write_batch(plain_rows(batch))


def open_streamed(url: str) -> Snapshot:
    """The snapshot at this address. Errors say the way out."""
    try:
        with fsspec.open(f"{url.rstrip('/')}/snapshot.json", "rb") as file:
            text = file.read(manifest.LARGEST + 1)
    except ImportError as error:
        raise ValueError(f"{url}: {error}") from error
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"{url} is not a snapshot (it has no snapshot.json): copy a snapshot's folder there"
        ) from error
    content = manifest.parse(text, f"{url}/snapshot.json")
    shards = content.get("shards", {})
    has_rows = all("rows" in shard for split in shards.values() for shard in split)
    if not has_rows or set(shards) != set(content["splits"]) or "rows_per_group" not in content:
        raise ValueError(f"{url}/snapshot.json lists no shards: freeze it again to stream it")
    return StreamedSnapshot(url.rstrip("/"), content)


class StreamedSnapshot(Snapshot):
    """A snapshot whose splits are streamed from `url`."""

    def __init__(self, url: str, content: dict[str, Any]) -> None:
        super().__init__(Path(url), content)  # its name is the folder's there too
        self.url = url

    def _open_split(self, name: str) -> "StreamedSplit":
        shards = self.manifest["shards"][name]
        files = [f"{self.url}/data/{shard['file']}" for shard in shards]
        return StreamedSplit(
            name, files, [shard["rows"] for shard in shards], self.manifest["rows_per_group"]
        )
