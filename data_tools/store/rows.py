"""What the store gives back: one small frozen class for each kind of row."""

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path


@dataclass(frozen=True)
class Collection:
    """A named set of images, counted. overlap: people who describe each image (0: everybody).
    needs_review: only narratives that a reviewer accepted are frozen and exported. question: what
    its annotators are asked. keeps_voice: else a voice goes once its words have times. license:
    terms of what is told in it, "" if nobody said. trash_days: for which what is deleted can be
    brought back."""

    id: int
    name: str
    overlap: int
    needs_review: bool
    question: str
    keeps_voice: bool
    license: str
    trash_days: int
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
    """A narrative without its body. duration: seconds. created: UTC. flags: names of what is odd
    about its record (data_tools.quality.flags). status: unreviewed, accepted or rejected."""

    id: int
    collection_id: int
    image_row_id: int
    annotator_id: int
    caption: str
    num_words: int
    num_points: int
    duration: float
    created: datetime
    status: str
    flags: tuple[str, ...]


@dataclass(frozen=True)
class AnnotationProgress:
    """How far one person is in a collection, in images. skipped: and not described all the same.
    left: they want this person. What is missing from total is in the hands of others."""

    described: int
    skipped: int
    left: int
    total: int


@dataclass(frozen=True)
class Content:
    """What of a collection may leave the studio. words: timed ones. changed: seconds since 1970
    when a narrative was added, or judged, or its words changed; 0 where there is none."""

    images: int
    narratives: int
    words: int
    changed: float


@dataclass(frozen=True)
class Draft:
    """A take that is not submitted yet; body is whatever the recorder wants back. saved: UTC."""

    take_id: str
    image_row_id: int
    body: str
    saved: datetime


@dataclass(frozen=True)
class Review:
    """One entry of a narrative's trail. verdict: accepted, rejected, fixed (by a reviewer), edited
    (by who told it). before: the public line as it was, where words were changed. created: UTC."""

    narrative_id: int
    reviewer_id: int
    verdict: str
    reason: str
    before: str | None
    created: datetime


@dataclass(frozen=True)
class TrashEntry:
    """What was deleted and can be brought back. kind: image or narrative. annotator_id: who
    deleted it. title: a caption, or the name of an image. deleted: UTC."""

    id: int
    collection_id: int
    annotator_id: int
    image_row_id: int
    kind: str
    title: str
    num_narratives: int
    deleted: datetime


def moment(seconds: float) -> datetime:
    """Seconds since 1970 -> UTC."""
    return datetime.fromtimestamp(seconds, UTC)
