"""Captions with one word changed, as hard negatives (after NegCLIP, Yuksekgonul et al., 2023).

A word gives way to another that the captions of the data show between the same two neighbors:
"a [red] circle" and "a [blue] circle", "is [above] the" and "is [below] the". Needs no list of
words and no parser, in any language with spaces; ours. Now and then a synonym comes in, so that
what is taught is right more often than not.
"""

import re
from collections import defaultdict
from collections.abc import Iterable

import numpy as np

from loctex.words import STOP_WORDS

_WORD = re.compile(r"\w+(?:['’-]\w+)*")
MOST_CAPTIONS = 200_000  # read; more say nothing new


class Exchange:
    """Which words stand in for which, between which neighbors."""

    def __init__(self, captions: Iterable[str]) -> None:
        found: dict[tuple[str, str], set[str]] = defaultdict(set)
        for _, caption in zip(range(MOST_CAPTIONS), captions, strict=False):
            for word, context, _ in _places(caption):
                found[context].add(word)
        self.options = {context: sorted(words) for context, words in found.items()
                        if len(words) > 1}  # fmt: skip

    def change(self, caption: str, random: np.random.Generator) -> str:
        """The caption with one word changed; as it is where no word can be."""
        places = [place for place in _places(caption) if place[1] in self.options]
        if not places:
            return caption
        word, context, (start, end) = places[random.integers(len(places))]
        others = [other for other in self.options[context] if other != word]
        if not others:
            return caption
        return f"{caption[:start]}{others[random.integers(len(others))]}{caption[end:]}"


def _places(caption: str) -> list[tuple[str, tuple[str, str], tuple[int, int]]]:
    """Each word but stop words, lower-cased, with its neighbors ("" at the ends) and characters."""
    found = list(_WORD.finditer(caption))
    texts = ["", *(m.group().lower() for m in found), ""]
    return [
        (texts[i + 1], (texts[i], texts[i + 2]), m.span())
        for i, m in enumerate(found)
        if texts[i + 1] not in STOP_WORDS
    ]
