"""Decoding and cropping, one thread: ours to uint8, the rest on the device; and the usual chain.

    python -m tests.benchmarks.images [--images DIR]

The peer: PIL and torchvision's v2 transforms to a normalized float tensor. Short side 288; made
photographs unless DIR holds some.
"""

import argparse
import io
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from PIL import Image
from torchvision.transforms import v2

from loctex.loading import augment
from loctex.loading.augment import MEAN, STD
from loctex.records.images import decode_image, decode_into
from loctex.settings import DataSettings
from tests.benchmarks import made, turns

PEER = v2.Compose(
    [
        v2.RandomResizedCrop(224, scale=(0.2, 1.0), antialias=True),
        v2.RandomHorizontalFlip(),
        v2.ColorJitter(0.4, 0.4, 0.4),
        v2.PILToTensor(),
        v2.ToDtype(torch.float32, scale=True),
        v2.Normalize(MEAN, STD),
    ]
)


def peer(data: bytes) -> torch.Tensor:
    """JPEG -> (3, 224, 224) normalized floats."""
    return PEER(Image.open(io.BytesIO(data)).convert("RGB"))


def ours(images: list[bytes], random: np.ndarray, out: np.ndarray) -> None:
    """JPEGs -> (B, 224, 224, 3) uint8 in `out`; flip and color are drawn, and applied on the
    device. random: (B, DRAWS) in 0..1."""
    drawn = augment.draw(random, DataSettings(), [(384, 288)] * len(images))
    for data, what, pixels in zip(images, drawn, out, strict=True):
        decode_into(data, what.box, pixels)


def read(folder: Path | None, count: int) -> list[bytes]:
    """`count` JPEGs of short side 288: made ones, or the folder's, scaled."""
    random = np.random.default_rng(0)
    if folder is None:
        return [made.photograph(random) for _ in range(count)]
    files = sorted(folder.glob("*.jpg"))[:count]
    found = []
    for file in files:
        image = decode_image(file)[..., ::-1]
        scale = 288 / min(image.shape[:2])
        image = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        found.append(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 90])[1].tobytes())
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.images", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--images", type=Path, help="a folder of .jpg; else made photographs")
    parser.add_argument("--count", type=int, default=100, help="images a turn [100]")
    parser.add_argument("--turns", type=int, default=9)
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    images = read(given.images, given.count)
    random = augment.uniforms(0, 0, 0, len(images))
    batch = np.empty((len(images), 224, 224, 3), dtype=np.uint8)
    slow, fast = turns.seconds(
        [
            lambda: [peer(image) for image in images],
            lambda: ours(images, random, batch),
        ],
        given.turns,
    )
    size = np.mean([len(image) for image in images]) / 1000
    print(
        f"{len(images)} images of {size:.0f} KB; peer {len(images) / slow:,.0f} images/s, "
        f"ours {len(images) / fast:,.0f}"
    )
    print(f"ratio {slow / fast:.2f}")


if __name__ == "__main__":
    main()
