"""Open a frozen snapshot: images with all that people said of them, read at random from disk.

A snapshot is a folder: snapshot.json (the manifest) and data/SPLIT-*.parquet, one row per image.
Its Arrow files are built once, by `datasets`, in a .cache folder beside it, and memory-mapped.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from loctex.narrative import Narrative, Word

if TYPE_CHECKING:
    from datasets import Dataset

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


class Split(Sequence[Item]):
    """The images of one split, by number."""

    def __init__(self, rows: "Dataset", name: str) -> None:
        self.name = name
        self._rows = rows.with_format("arrow")

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> Item:
        if not -len(self) <= index < len(self):
            raise IndexError(f"image {index} of {len(self)}")
        row = self._rows[int(index) % len(self)]
        image_id = row["image_id"][0].as_py()
        narratives, regions = _narratives(row["narratives"].combine_chunks().flatten(), image_id)
        return Item(
            dataset_id=row["dataset_id"][0].as_py(),
            image_id=image_id,
            width=row["width"][0].as_py(),
            height=row["height"][0].as_py(),
            image=row["image"][0].as_py(),
            narratives=narratives,
            regions=regions,
        )

    def captions(self) -> Iterator[str]:
        """All captions, without touching the images."""
        column = self._rows.select_columns("narratives")
        for start in range(0, len(column), 1000):
            rows = column[start : start + 1000]["narratives"].combine_chunks().flatten()
            yield from rows.flatten()[2].to_pylist()

    @cached_property
    def num_narratives(self) -> int:
        return sum(1 for _ in self.captions())


def _narratives(
    rows: pa.StructArray, image_id: str
) -> tuple[tuple[Narrative, ...], tuple[tuple[Region, ...], ...]]:
    """Arrow rows -> narratives and regions; numbers go to numpy without Python lists."""
    names = [field.name for field in rows.type]
    columns = dict(zip(names, rows.flatten(), strict=True))
    narratives, regions = [], []
    for i in range(len(rows)):
        lists = {name: columns[name][i].values for name in names[3:]}
        texts = lists["word_text"].to_pylist()
        times = [lists[name].to_pylist() for name in ("word_start", "word_end")]
        points = np.empty((len(lists["x"]), 3))
        points[:, 0], points[:, 1] = lists["x"].to_numpy(), lists["y"].to_numpy()
        points[:, 2] = lists["t_us"].to_numpy() / 1e6
        ends = np.cumsum(lists["stroke_lengths"].to_numpy())
        narratives.append(
            Narrative(
                dataset_id=columns["dataset_id"][i].as_py(),
                image_id=image_id,
                annotator_id=columns["annotator_id"][i].as_py(),
                caption=columns["caption"][i].as_py(),
                words=tuple(Word(*parts) for parts in zip(texts, *times, strict=True)),
                strokes=tuple(np.split(points, ends[:-1])) if len(ends) else (),
            )
        )
        regions.append(tuple(_region(row) for row in lists["regions"].to_pylist()))
    return tuple(narratives), tuple(regions)


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
        self.splits = tuple(sorted({file.name.split("-")[0] for file in self._files("*")}))

    @classmethod
    def open(cls, path: Path | str) -> "Snapshot":
        """FileNotFoundError or ValueError say the way out."""
        path = Path(path)
        try:
            manifest = json.loads((path / "snapshot.json").read_bytes())
        except FileNotFoundError as error:
            raise FileNotFoundError(
                f"{path} is not a snapshot (snapshot.json is missing); make one with "
                f"python -m data_tools.snapshot --narratives FILE --images DIR --to {path}"
            ) from error
        except ValueError as error:
            raise ValueError(f"{path}/snapshot.json is damaged: {error}; freeze it again") from error
        return cls(path, manifest)

    def split(self, name: str) -> Split:
        """train, val or test; ValueError lists what there is."""
        files = self._files(name)
        if not files:
            raise ValueError(f"{self.path} has no split {name!r}, only {', '.join(self.splits)}")
        from datasets import Dataset, disable_progress_bars

        disable_progress_bars()
        return Split(
            Dataset.from_parquet([str(f) for f in files], cache_dir=str(self.path / ".cache")), name
        )

    def _files(self, name: str) -> list[Path]:
        return sorted((self.path / "data").glob(f"{name}-*-of-*.parquet"))
