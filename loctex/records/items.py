"""An image with all that people said of it, as a row of a snapshot and as an `Item`."""

import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, overload

import numpy as np
import pyarrow as pa

from loctex.records.narrative import Narrative, Word

_word = partial(tuple.__new__, Word)  # as Word._make, in half the time
MOST_SIDE = 16_384  # pixels of a mask's side: 268 MB when it is unpacked
LONGEST_MASK = 1 << 21  # characters of its runs
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


# In parquet a picture is kept as `datasets` keeps its Image, which the schema says for it: the hub
# and load_dataset show pictures. Files of earlier versions hold the bytes alone; both are read.
PICTURE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
_FEATURES = {"info": {"features": {"image": {"_type": "Image"}}}}
PARQUET_ROW = ROW.set(ROW.get_field_index("image"), pa.field("image", PICTURE)).with_metadata(
    {"huggingface": json.dumps(_FEATURES)}
)


def plain_rows(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Rows of a parquet file of any version -> rows of ROW, whose image is its bytes."""
    place = batch.schema.get_field_index("image")
    if pa.types.is_struct(batch.schema.field(place).type):
        batch = batch.set_column(place, "image", batch.column(place).field("bytes"))
    return batch.cast(ROW)


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

            _check_rle(self.rle["size"], self.rle["counts"])
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


def _check_rle(size: Sequence[int], counts: str) -> None:
    """ValueError where a mask's runs do not fill its size, which pycocotools trusts, or the size is
    beyond any photograph's. The coding: 5 bits a character, runs from the third as differences
    from the one before the last (rleFrString of cocoapi's maskApi.c)."""
    if len(size) != 2 or not all(0 < side <= MOST_SIDE for side in size):
        raise ValueError(f"a region's mask is of size {list(size)!r:.40}: freeze the data again")
    runs: list[int] = []
    value = shift = 0
    if len(counts) > LONGEST_MASK:
        raise ValueError(f"a region's mask has {len(counts):,} characters: freeze the data again")
    for character in counts:
        code = ord(character) - 48
        value |= (code & 31) << shift
        shift += 5
        if code & 32 and shift < 60:
            continue
        run = value - (1 << shift) if code & 16 else value
        runs.append(run + runs[-2] if len(runs) > 2 else run)
        value = shift = 0
    is_sound = shift == 0 and min(runs, default=0) >= 0
    if not is_sound or sum(runs) != size[0] * size[1]:
        raise ValueError(
            f"a region's mask does not fill its {size[0]} x {size[1]} cells: freeze the data again"
        )


class Split(Sequence[Item], ABC):
    """The images of one split, by number: mapped from disk, or streamed."""

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
        places = range(self._starts[row], self._starts[row + 1])
        return Item(
            dataset_id,
            image_id,
            width,
            height,
            image,
            narratives=tuple(self._narrative(place, image_id) for place in places),
            regions=tuple(self._regions(place) for place in places),
        )

    def _narrative(self, place: int, image_id: str) -> Narrative:
        dataset_id, annotator_id, caption = (column[place].as_py() for column in self._plain)
        texts, starts, ends, lengths, x, y, t = (column.of(place) for column in self._lists[:-1])
        utterances = zip(texts.to_pylist(), starts.tolist(), ends.tolist(), strict=True)
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
            words=tuple(map(_word, utterances)),
            strokes=tuple(strokes),
        )

    def _regions(self, place: int) -> tuple[Region, ...]:
        rows = self._lists[-1].of(place)
        return tuple(map(_region, rows.to_pylist())) if len(rows) else ()


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
