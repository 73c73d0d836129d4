"""Made photographs and narratives, of the size and grain of real ones."""

import json
from pathlib import Path

import cv2
import numpy as np

from data_tools.exchange.sources import Files
from data_tools.snapshot import freeze

WORDS = "a the person dog red is in front of standing table window behind looks".split()


def photograph(random: np.random.Generator, width: int = 384, height: int = 288) -> bytes:
    """A JPEG with the grain of photographs: amplitude falls as 1 / f^1.5, little of it is color.

    About 33 KB at 384 x 288, the mean of COCO's pictures at this size.
    """
    y, x = np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None, :]
    frequency = np.maximum(np.hypot(x, y), 1 / max(width, height)) ** 1.5
    spectrum = random.normal(size=(3, *frequency.shape, 2)) @ (1, 1j) / frequency
    gray, *colors = np.fft.irfft2(spectrum, s=(height, width))
    gray = 128 + 50 * gray / gray.std()
    pixels = np.stack([gray, *(gray + 15 * color / color.std() for color in colors)], axis=-1)
    pixels = np.clip(pixels, 0, 255).astype(np.uint8)
    return cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, 90])[1].tobytes()


def narrative(random: np.random.Generator, image_id: str, num_words: int = 40) -> dict:
    """A record of the public format: `num_words` words in 16 s, about 480 points in 3 strokes.

    As in the public files, places have four decimals and times are milliseconds, most 16 or 17
    apart.
    """
    texts = [str(random.choice(WORDS)) for _ in range(num_words)]
    edges = np.round(np.sort(random.uniform(0, 16, num_words + 1)), 1)
    said = [
        {"utterance": text, "start_time": float(a), "end_time": float(b)}
        for text, a, b in zip(texts, edges[:-1], edges[1:], strict=True)
    ]
    strokes = []
    for part in range(3):
        count = int(random.integers(120, 200))
        waits = np.where(random.random(count) < 0.95, random.normal(0.0165, 0.001, count), 0.3)
        t = 5.4 * part + np.cumsum(waits)
        steps = random.normal(0, 0.02, (count, 2)) * (random.random((count, 1)) < 0.8)
        xy = np.clip(random.uniform(0.2, 0.8, 2) + np.cumsum(steps, axis=0), -0.1, 1.1)
        strokes.append(
            [
                {"x": round(float(a), 4), "y": round(float(b), 4), "t": round(float(c), 3)}
                for (a, b), c in zip(xy, t, strict=True)
            ]
        )
    return {
        "dataset_id": "album",
        "image_id": image_id,
        "annotator_id": 7,
        "caption": " ".join(texts),
        "timed_caption": said,
        "traces": strokes,
        "voice_recording": f"album/{image_id}.ogg",
    }


def snapshot(folder: Path, count: int, size: tuple[int, int] = (384, 288)) -> Path:
    """`count` training images of `size` (width, height) with a narrative each, frozen in `folder`.

    Beside it stays FOLDER/narratives.jsonl. Of the pictures 32 differ.
    """
    random = np.random.default_rng(0)
    pictures = [photograph(random, *size) for _ in range(min(count, 32))]
    (folder / "images").mkdir()
    lines = []
    for number in range(count):
        (folder / "images" / f"{number}.jpg").write_bytes(pictures[number % len(pictures)])
        record = narrative(random, str(number)) | {"dataset_id": "album_train"}
        lines.append(json.dumps(record) + "\n")
    (folder / "narratives.jsonl").write_text("".join(lines))
    freeze(folder / "snapshot", [Files(folder / "narratives.jsonl", folder / "images")])
    return folder / "snapshot"
