"""Open a frozen snapshot: images with all that people said of them, read at random from disk.

A snapshot is a folder: snapshot.json (the manifest) and data/SPLIT-*.parquet, one row per image.
An Arrow file of each is built once, in its .cache folder, and memory-mapped. A snapshot that lies
elsewhere (s3://, gs://, hf://, https://) is streamed: loctex/streamed.py. data_tools/snapshot.py
makes them.
"""

import fcntl
import io
import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from PIL import Image, ImageOps

from loctex.drafts import draft_file
from loctex.narrative import Narrative, Word

if TYPE_CHECKING:
    from datasets import Dataset

_word = partial(tuple.__new__, Word)  # as Word._make, in half the time
ROWS_PER_GROUP = 64  # of a shard: what is fetched at once when it is streamed
REGION = pa.struct(
    [
        ("start", pa.int32()),
        ("end", pa.int32()),
        ("box", pa.list_(pa.float32())),
        ("rle_size", pa.list_(pa.int32())),
        ("rle_counts", pa.string()),
    ]
)
NARRATIVE = pa.struct(
    [
        ("dataset_id", pa.string()),
        ("annotator_id", pa.int64()),
        ("caption", pa.string()),
        ("word_text", pa.list_(pa.string())),
        ("word_start", pa.list_(pa.float64())),
        ("word_end", pa.list_(pa.float64())),
        ("stroke_lengths", pa.list_(pa.int32())),
        ("x", pa.list_(pa.float32())),
        ("y", pa.list_(pa.float32())),
        ("t_us", pa.list_(pa.int64())),
        ("regions", pa.list_(REGION)),
    ]
)
ROW = pa.schema(
    [
        ("dataset_id", pa.string()),
        ("image_id", pa.string()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("image", pa.binary()),
        ("narratives", pa.list_(NARRATIVE)),
    ]
)


@dataclass(frozen=True, eq=False)
class Region:
    """The exact place of what caption characters [start, end) name.

    box: (4,) x0, y0, x1, y1 in fractions. rle: a pycocotools mask {"size": [h, w], "counts": str}.
    """

    start: int
    end: int
    box: np.ndarray | None = None
    rle: dict[str, Any] | None = None

    def mask(self, height: int, width: int) -> np.ndarray:
        """(height, width) bool: the cells whose center lies inside."""
        x, y = (np.arange(width) + 0.5) / width, (np.arange(height) + 0.5) / height
        if self.rle is not None:
            from pycocotools import mask

            full = mask.decode(self.rle | {"counts": self.rle["counts"].encode()}).astype(bool)
            rows, columns = (y * full.shape[0]).astype(int), (x * full.shape[1]).astype(int)
            return full[np.ix_(rows, columns)]
        assert self.box is not None  # a region has one or the other
        x0, y0, x1, y1 = self.box
        return ((y >= y0) & (y <= y1))[:, None] & ((x >= x0) & (x <= x1))[None, :]


@dataclass(frozen=True, eq=False)
class Item:
    """An image and what was said of it. width, height: of the original, in pixels. image: JPEG
    bytes, at most 288 px on the short side. regions[k] belong to narratives[k]."""

    dataset_id: str
    image_id: str
    width: int
    height: int
    image: bytes
    narratives: tuple[Narrative, ...]
    regions: tuple[tuple[Region, ...], ...]


class Split(Sequence[Item], ABC):
    """The images of one split, by number: mapped from disk, or streamed (loctex.streamed)."""

    name: str

    @overload
    def __getitem__(self, index: int) -> Item: ...

    @overload
    def __getitem__(self, index: slice) -> list[Item]: ...

    def __getitem__(self, index: int | slice) -> Item | list[Item]:
        if isinstance(index, slice):
            return [self[number] for number in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(f"image {index} of {len(self)}")
        return self._item(int(index) % len(self))

    def num_narratives(self, index: int) -> int:
        """How many narratives the image has."""
        return int(self._num_narratives[index])

    @abstractmethod
    def _item(self, index: int) -> Item:
        """index: from 0 to the length - 1."""

    @abstractmethod
    def captions(self) -> Iterator[str]:
        """All captions, image by image, without touching the images."""

    @property
    @abstractmethod
    def _num_narratives(self) -> np.ndarray:
        """(N,) int64 of each image."""


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
        part = int(np.searchsorted(self._ends, index, side="right"))
        first = int(self._ends[part]) - self._parts[part].num_rows
        return self._parts[part].item(index - first)

    def captions(self) -> Iterator[str]:
        for column in self._column().chunks:
            yield from column.flatten().field("caption").to_pylist()

    @cached_property
    def _num_narratives(self) -> np.ndarray:  # (N,) int64
        return pc.list_value_length(self._column()).to_numpy()

    def _column(self) -> pa.ChunkedArray:
        return self._rows.data.column("narratives")


class Rows:
    """A record batch, whose rows are found by the offsets of its mapped columns.

    Through pyarrow's own objects a row costs four times as much (tests/benchmarks/records.py).
    """

    def __init__(self, batch: pa.RecordBatch) -> None:
        self.num_rows = batch.num_rows
        self._batch = batch

    @cached_property
    def _images(self) -> list[pa.Array]:
        return [self._batch.column(name) for name in ROW.names[:-1]]

    @cached_property
    def _starts(self) -> np.ndarray:
        """(rows + 1,) of each image's narratives."""
        return self._batch.column("narratives").offsets.to_numpy()

    @cached_property
    def _plain(self) -> list[pa.Array]:
        """dataset_id, annotator_id and caption of all narratives."""
        narratives = self._batch.column("narratives").values.flatten()
        return narratives[:3]

    @cached_property
    def _lists(self) -> list["_Lists"]:
        """The other columns."""
        narratives = self._batch.column("narratives").values.flatten()
        return [_Lists(column) for column in narratives[3:]]

    def item(self, row: int) -> Item:
        dataset_id, image_id, width, height, image = (c[row].as_py() for c in self._images)
        told = range(self._starts[row], self._starts[row + 1])
        return Item(
            dataset_id,
            image_id,
            width,
            height,
            image,
            narratives=tuple(self._narrative(place, image_id) for place in told),
            regions=tuple(self._regions(place) for place in told),
        )

    def _narrative(self, place: int, image_id: str) -> Narrative:
        dataset_id, annotator_id, caption = (column[place].as_py() for column in self._plain)
        texts, starts, ends, lengths, x, y, t = (column.of(place) for column in self._lists[:-1])
        said = zip(texts.to_pylist(), starts.tolist(), ends.tolist(), strict=True)
        points = np.empty((len(x), 3))
        points[:, 0], points[:, 1], points[:, 2] = x, y, t
        points[:, 2] /= 1e6
        strokes = []
        for end, length in zip(np.cumsum(lengths).tolist(), lengths.tolist(), strict=True):
            strokes.append(points[end - length : end])
        return Narrative(
            dataset_id=dataset_id,
            image_id=image_id,
            annotator_id=annotator_id,
            caption=caption,
            words=tuple(map(_word, said)),
            strokes=tuple(strokes),
        )

    def _regions(self, place: int) -> tuple[Region, ...]:
        found = self._lists[-1].of(place)
        return tuple(map(_region, found.to_pylist())) if len(found) else ()


class _Lists:
    """A column of lists, as its values and where each list ends: numpy where they are numbers."""

    def __init__(self, column: pa.ListArray) -> None:
        self._starts = column.offsets.to_numpy()
        values = column.values
        self._values = values.to_numpy() if pa.types.is_primitive(values.type) else values

    def of(self, place: int) -> Any:  # an array of numpy's or pyarrow's
        return self._values[self._starts[place] : self._starts[place + 1]]


def _region(row: dict[str, Any]) -> Region:
    return Region(
        start=row["start"],
        end=row["end"],
        box=None if row["box"] is None else np.array(row["box"]),
        rle=row["rle_counts"] and {"size": row["rle_size"], "counts": row["rle_counts"]},
    )


class Snapshot:
    """A frozen snapshot; `Snapshot.open(folder)`."""

    def __init__(self, path: Path, manifest: dict[str, Any]) -> None:
        self.path = path
        self.manifest = manifest
        self.hash: str = manifest["hash"]
        self.splits: tuple[str, ...] = tuple(manifest["splits"])
        self._opened: dict[str, Split] = {}

    @classmethod
    def open(cls, path: Path | str) -> "Snapshot":
        """A folder, or an address (loctex.streamed). FileNotFoundError or ValueError say the way
        out."""
        if "://" in str(path):
            from loctex.streamed import open_streamed

            return open_streamed(str(path))
        path = Path(path)
        try:
            manifest = json.loads((path / "snapshot.json").read_bytes())
        except (FileNotFoundError, NotADirectoryError) as error:
            raise FileNotFoundError(
                f"{path} is not a snapshot (it has no snapshot.json); make one with "
                "python -m data_tools.snapshot --narratives FILE --images DIR --to DIR"
            ) from error
        except ValueError as error:
            raise ValueError(f"{path}/snapshot.json is damaged ({error}): freeze again") from error
        if not isinstance(manifest, dict) or not {"hash", "splits"} <= set(manifest):
            raise ValueError(f"{path}/snapshot.json has no hash and splits: freeze again")
        snapshot = cls(path, manifest)
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

        cache = self.path / ".cache"
        cache.mkdir(exist_ok=True)
        shards = {shard["file"]: shard for shard in self.manifest.get("shards", {}).get(name, ())}
        with open(cache / "lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # of several processes one builds, the others wait
            mapped = [
                _mapped(file, cache / f"{shards.get(file.name, {}).get('sha256', file.stem)}.arrow")
                for file in self._files(name)
            ]
        rows = concatenate_datasets([Dataset.from_file(str(file)) for file in mapped])
        return MappedSplit(rows, name)

    def _files(self, name: str) -> list[Path]:
        return sorted((self.path / "data").glob(f"{name}-*-of-*.parquet"))


def _mapped(parquet: Path, arrow: Path) -> Path:
    """The Arrow file of a shard, built if it is not there yet or older."""
    if arrow.exists() and arrow.stat().st_mtime >= parquet.stat().st_mtime:
        return arrow
    with draft_file(arrow) as draft:
        with pq.ParquetFile(parquet) as rows, pa.OSFile(str(draft), "wb") as file:
            with pa.ipc.new_stream(file, ROW) as writer:
                for batch in rows.iter_batches(1024):
                    writer.write_batch(batch.cast(ROW))
    return arrow


FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP")  # what browsers show


def decode_image(
    source: bytes | Path, *, max_pixels: int = 100_000_000, at_least: int | None = None
) -> np.ndarray:
    """(H, W, 3) uint8 RGB, turned as its EXIF orientation says, transparency on white.

    at_least: so many pixels a side are enough, and a large JPEG is decoded at a half or less.

    ValueError: no image, damaged, or by its header larger than max_pixels (never decoded).
    """
    if isinstance(source, Path):
        try:
            return decode_image(source.read_bytes(), max_pixels=max_pixels, at_least=at_least)
        except ValueError as error:
            raise ValueError(f"{source.name}: {error}") from error
    try:
        image = Image.open(io.BytesIO(source), formats=FORMATS)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ValueError(_too_large(max_pixels)) from error
    except Image.UnidentifiedImageError as error:
        raise ValueError(f"is not an image; the studio reads {', '.join(FORMATS)}") from error
    except Exception as error:  # strangers' bytes: decoders raise whatever they like
        raise ValueError(f"is a damaged or incomplete image ({error})") from error
    if image.width * image.height > max_pixels:
        raise ValueError(f"{_too_large(max_pixels)}: {image.width} x {image.height} pixels")
    if at_least:
        image.draft(None, (at_least, at_least))
    try:
        return np.array(_rgb(ImageOps.exif_transpose(image)))  # decodes
    except Exception as error:
        raise ValueError(f"is a damaged or incomplete {image.format} image ({error})") from error


def _too_large(max_pixels: int) -> str:
    return f"is larger than {max_pixels / 1e6:g} megapixels, scale it down"


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16"):  # convert() would clip, not scale
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image.convert("RGB")
