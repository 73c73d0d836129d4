"""A small picture and a small narrative."""

import cv2
import numpy as np

from loctex.narrative import Narrative


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
