"""One pair of image and caption before the collate."""

from collections import deque
from dataclasses import dataclass

import numpy as np

from loctex.loading import augment
from loctex.loading.augment import Augmentation
from loctex.records import words
from loctex.records.images import decode_into
from loctex.records.narrative import Narrative


@dataclass(frozen=True)
class Example:
    """One pair before the collate. image: encoded JPEG. key: the image's number in the data."""

    image: bytes
    narrative: Narrative
    key: int
    augmentation: Augmentation
    seed: int = 0  # of the words that are hidden


def _said(example: Example) -> tuple[str, list[words.Span]]:
    """The caption true of the distorted image, and where its utterances are; none without trace."""
    narrative = example.narrative
    spans = words.spans(narrative.caption, narrative.words) if narrative.strokes else []
    return augment.apply_to_caption(narrative.caption, spans, example.augmentation)


def _decode(undecoded: deque[tuple[Example, np.ndarray]]) -> None:
    """Decodes what nobody has taken yet."""
    while True:
        try:
            example, out = undecoded.popleft()
        except IndexError:
            return
        decode_into(example.image, example.augmentation.box, out)
