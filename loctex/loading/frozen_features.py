"""Feature maps of a frozen backbone, computed once for each image and mapped from disk (ours).

A backbone that does not learn says the same of an image at every step. Its last maps, of the whole
image stretched to the training square, are kept in half precision beside the snapshot, keyed by the
backbone's weights and by how its pixels are made:

    SNAPSHOT/.cache/features-<key>/SPLIT-<scale>.bin     (N, C, h, w) float16, finest scale first
    SNAPSHOT/.cache/features-<key>/SPLIT.done            a byte for each BLOCK images that are there
    SNAPSHOT/.cache/features-<key>/SPLIT.json            how many, for people

An extraction that was interrupted goes on with the blocks that are missing. Blocks are written by
ordinary writes, so that a full disk is an error with words and no signal; readers map the files.
A mirrored image is a mirrored map, and a crop is cut out of the map (`crop`).
"""

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from loctex.records.files import locked, write_whole
from loctex.records.images import decode_into
from loctex.records.items import Split

BLOCK = 64  # images computed and written at once
WHOLE = (0.0, 0.0, 1.0, 1.0)


class FeatureMaps:
    """The maps of one split's images: `maps(rows)` gives (B, C, h, w) float16 for each scale."""

    def __init__(self, files: Sequence[Path], shapes: Sequence[tuple[int, int, int]]) -> None:
        self._arrays = [
            np.memmap(file, dtype=np.float16, mode="r").reshape(-1, *shape)
            for file, shape in zip(files, shapes, strict=True)
        ]

    def maps(self, rows: Sequence[int]) -> list[Tensor]:
        """The maps of these images, finest scale first, copied out of the files."""
        order = np.asarray(rows)
        return [torch.from_numpy(array[order]) for array in self._arrays]


@dataclass(frozen=True)
class Extraction:
    """What is to be computed for a split, and where it goes.

    encode: (B, H, W, 3) uint8 -> per scale (B, C, h, w), by the frozen backbone. key: a hash of
    its weights, the size of the square and the pixels' mean and deviation.
    """

    split: Split
    folder: Path
    key: str
    image_size: int
    shapes: tuple[tuple[int, int, int], ...]
    encode: Callable[[Tensor], list[Tensor]]

    @property
    def path(self) -> Path:
        return self.folder / f"features-{self.key[:16]}"

    @property
    def done_file(self) -> Path:
        return self.path / f"{self.split.name}.done"

    @property
    def files(self) -> list[Path]:
        names = [f"{self.split.name}-{height}x{width}.bin" for _, height, width in self.shapes]
        return [self.path / name for name in names]

    @property
    def num_bytes(self) -> int:
        """What the files of the split take."""
        cells = sum(int(np.prod(shape)) for shape in self.shapes)
        return 2 * cells * len(self.split)

    def missing(self) -> list[int]:
        """The numbers of the blocks that are not there."""
        num_blocks = -(-len(self.split) // BLOCK)
        done = self.done_file.read_bytes() if self.done_file.exists() else b""
        marks = done.ljust(num_blocks, b"\0")
        num_there = min(
            self._num_images(*pair) for pair in zip(self.files, self.shapes, strict=True)
        )
        missing = []
        for number in range(num_blocks):
            if not marks[number] or self._rows(number).stop > num_there:  # marked, but torn since
                missing.append(number)
        return missing

    def _num_images(self, file: Path, shape: tuple[int, int, int]) -> int:
        """How many images' maps a file is long enough for."""
        size = file.stat().st_size if file.exists() else 0
        return size // (2 * int(np.prod(shape)))

    def run(self, progress: Callable[[int, int], None] | None = None) -> FeatureMaps:
        """Computes what is missing; progress(images there, images in all) after each block.

        Raises ValueError where the disk has no room, before it starts or while it writes.
        """
        with locked(self.path / "lock", patience=24 * 3600):
            missing = self.missing()
            if missing:
                self._check_room(len(missing))
                self._compute(missing, progress)
        return FeatureMaps(self.files, self.shapes)

    def _check_room(self, num_missing: int) -> None:
        needed = self.num_bytes * num_missing * BLOCK // max(1, len(self.split))
        free = shutil.disk_usage(self.path).free
        if needed > free:
            raise ValueError(
                f"the features of {len(self.split):,} images need {needed / 1e9:.1f} GB in "
                f"{self.path}, where {free / 1e9:.1f} GB are free; make room, or train "
                "the backbone too: --model.freeze false"
            )

    def _compute(self, missing: list[int], progress: Callable[[int, int], None] | None) -> None:
        about = {"images": len(self.split), "bytes": self.num_bytes, "key": self.key}
        write_whole(self.path / f"{self.split.name}.json", json.dumps(about))

        num_done = len(self.split) - sum(len(self._rows(number)) for number in missing)

        try:
            for number, images in self._decoded(missing):
                self._write(number, self.encode(images))
                num_done += len(images)
                if progress:
                    progress(num_done, len(self.split))
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            raise ValueError(
                f"the disk is full: {num_done:,} of {len(self.split):,} images have features in "
                f"{self.path}; make room and start again, it goes on there"
            ) from error

    def _rows(self, number: int) -> range:
        return range(number * BLOCK, min((number + 1) * BLOCK, len(self.split)))

    def _decoded(self, numbers: Sequence[int]) -> Iterator[tuple[int, Tensor]]:
        """The pixels of each block; the next one is decoded meanwhile."""
        with ThreadPoolExecutor(1) as pool:
            ahead = [pool.submit(self._pixels, numbers[0])]
            for place, number in enumerate(numbers):
                if place + 1 < len(numbers):
                    ahead.append(pool.submit(self._pixels, numbers[place + 1]))
                yield number, ahead.pop(0).result()

    def _pixels(self, number: int) -> Tensor:
        rows = self._rows(number)
        pixels = np.empty((len(rows), self.image_size, self.image_size, 3), np.uint8)
        for place, row in enumerate(rows):
            decode_into(self.split[row].image, WHOLE, pixels[place])
        return torch.from_numpy(pixels)

    def _write(self, number: int, maps: list[Tensor]) -> None:
        start = self._rows(number).start
        for file, shape, part in zip(self.files, self.shapes, maps, strict=True):
            content = part.to(torch.float16).cpu().contiguous().numpy().tobytes()
            _write_at(file, start * 2 * int(np.prod(shape)), content)
        _write_at(self.done_file, number, b"\1")  # last: what is marked is there


def _write_at(file: Path, offset: int, content: bytes) -> None:
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        while content:
            written = os.pwrite(descriptor, content, offset)
            content, offset = content[written:], offset + written
    finally:
        os.close(descriptor)


def key_of(state: dict[str, Tensor], *facts: Any) -> str:
    """A hash of weights, by name, and of whatever else decides what the maps are."""
    digest = hashlib.sha256(json.dumps(facts).encode())
    for name, value in sorted(state.items()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def crop(maps: Tensor, boxes: Tensor, flips: Tensor) -> Tensor:
    """(B, C, h, w) maps of whole images -> of crops of them, mirrored where `flips` says.

    boxes: (B, 4) x0, y0, x1, y1 in fractions of the image. Bilinear between the cells' centers; the
    grid stays h x w, so that a crop has fewer different cells than an image seen closer would have.
    """
    batch, _, height, width = maps.shape
    x = (torch.arange(width, device=maps.device) + 0.5) / width
    y = (torch.arange(height, device=maps.device) + 0.5) / height
    x = torch.where(flips[:, None], 1 - x, x)  # (B, w)

    columns = boxes[:, 0:1] + x * (boxes[:, 2:3] - boxes[:, 0:1])
    rows = boxes[:, 1:2] + y * (boxes[:, 3:4] - boxes[:, 1:2])

    grid = torch.stack(
        (
            (2 * columns - 1)[:, None, :].expand(batch, height, width),
            (2 * rows - 1)[:, :, None].expand(batch, height, width),
        ),
        dim=-1,
    )
    return F.grid_sample(
        maps, grid.to(maps.dtype), mode="bilinear", padding_mode="border", align_corners=False
    )
