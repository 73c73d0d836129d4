"""What the store gives back: one small frozen class for each kind of row."""

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path


@dataclass(frozen=True)
class Collection:
    """A named set of images, counted."""

    id: int
    name: str
    num_images: int
    num_narratives: int
    num_with_trace: int
    num_words: int


@dataclass(frozen=True)
class ImageRow:
    """An image of a collection. width, height: pixels, upright. path: its file, never changed."""

    id: int
    dataset_id: str
    image_id: str
    width: int
    height: int
    path: Path
    sha256: str
    name: str = ""


@dataclass(frozen=True)
class NarrativeRow:
    """A narrative without its body. duration: seconds. created: UTC."""

    id: int
    image_row_id: int
    annotator_id: int
    caption: str
    num_words: int
    num_points: int
    duration: float
    created: datetime


@dataclass(frozen=True)
class Draft:
    """A take that is not submitted yet; body is whatever the recorder wants back. saved: UTC."""

    take_id: str
    image_row_id: int
    body: str
    saved: datetime
