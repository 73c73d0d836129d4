"""A small picture and a small narrative."""

import json
from pathlib import Path

import cv2
import numpy as np

from data_tools.exchange.sources import Files
from loctex.records.narrative import Narrative, write_jsonl
from loctex.records.snapshot import Snapshot


def picture(color: int = 0, size: tuple[int, int] = (40, 30), kind: str = ".jpg") -> bytes:
    """An encoded image of one color; size: width, height."""
    image = np.full((size[1], size[0], 3), color, np.uint8)
    return cv2.imencode(kind, image)[1].tobytes()


def narrative(image_id: str = "1", **changes) -> Narrative:
    """A narrative of two words and three points."""
    record = {
        "dataset_id": "album",
        "image_id": image_id,
        "annotator_id": 7,
        "caption": "a dog",
        "timed_caption": [
            {"utterance": "a", "start_time": 0.0, "end_time": 0.25},
            {"utterance": "dog", "start_time": 0.25, "end_time": 1.5},
        ],
        "traces": [
            [{"x": 0.1, "y": 0.2, "t": 0.0}, {"x": 0.3, "y": 0.4, "t": 0.5}],
            [{"x": 1.02, "y": -0.01, "t": 1.25}],
        ],
    }
    return Narrative.from_json(record | changes)


def album(folder: Path, count: int, **changes) -> Files:
    """A file of narratives of images "0", "1", ... with their pictures, and a region each."""
    (folder / "images").mkdir(parents=True)
    said = [narrative(str(i), **changes) for i in range(count)]
    for one in said:
        (folder / f"images/{one.image_id}.jpg").write_bytes(
            picture(int(one.image_id) % 256, (96, 64))
        )
    write_jsonl(folder / "narratives.jsonl", said)
    lines = [
        {
            "dataset_id": one.dataset_id,
            "image_id": one.image_id,
            "start": 2,
            "end": 5,
            "box": [0.25, 0, 0.5, 1],
        }
        for one in said
    ]
    (folder / "regions.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return Files(folder / "narratives.jsonl", folder / "images", folder / "regions.jsonl")


def items(path: Path) -> dict[str, list]:
    snapshot = Snapshot.open(path)
    return {name: list(snapshot.split(name)) for name in snapshot.splits}
