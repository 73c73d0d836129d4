"""Captions with one word changed, as hard negatives (after NegCLIP, Yuksekgonul et al., 2023).

A word gives way to another that the captions of the data show between the same two neighbors:
"a [red] circle" and "a [blue] circle", "is [above] the" and "is [below] the". Needs no list of
words and no parser; ours. Now and then a synonym comes in; where words that exclude each other are
given, only those change, and what is taught is right.

In scripts without spaces a character or a syllable is the word (records.words.WORD), also in a
list of words that exclude each other: "左 右".
"""

from collections import defaultdict
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from loctex.records.words import STOP_WORDS, WORD, Span

MOST_CAPTIONS = 200_000  # read; more say nothing new
DOUBTED = 0.9  # the loss gives the one false word half of its weight: .5 is no even chance


class Changed(NamedTuple):
    """A caption with one word changed, and where. new, kept: characters of it, of that word and of
    the others that could have been changed; true: of all of these in the caption as it was."""

    caption: str
    new: list[Span]
    kept: list[Span]
    true: list[Span]


class _Place(NamedTuple):
    word: str  # lower-cased
    before: str  # "" at the ends
    after: str
    span: Span


class WordSwaps:
    """Which words stand in for which, between which neighbors.

    sets: words that exclude each other ("left right; red green blue"); "": all that fit.
    """

    def __init__(self, captions: Iterable[str], sets: str = "") -> None:
        options: dict[tuple[str, str], set[str]] = defaultdict(set)
        for _, caption in zip(range(MOST_CAPTIONS), captions, strict=False):
            for place in _places(caption):
                options[place.before, place.after].add(place.word)
        self.options = {
            context: sorted(words) for context, words in options.items() if len(words) > 1
        }
        self.excludes: dict[str, set[str]] = defaultdict(set)
        for words in map(str.split, sets.lower().split(";")):
            for word in words:
                self.excludes[word] |= set(words)

    @property
    def can_change(self) -> bool:
        """Is there a word for which another can stand in?"""
        if not self.excludes:
            return bool(self.options)
        return any(
            self.excludes.get(word, set()) & {*words} - {word}
            for words in self.options.values()
            for word in words
        )

    def change(self, caption: str, random: np.random.Generator) -> Changed:
        """One word changed, wherever it is said of the same thing; none where none can be."""
        places = [place for place in _places(caption) if self._others(place)]
        if not places:
            return Changed(caption, [], [], [])

        target = places[random.integers(len(places))]
        substitutes = self._others(target)
        word = substitutes[random.integers(len(substitutes))]

        text, end = "", 0
        new: list[Span] = []
        unchanged: list[Span] = []
        true: list[Span] = []

        for place in _places(caption):
            span_start, span_end = place.span
            text += caption[end:span_start]
            is_changed, begin = _says_the_same(place, target), len(text)
            text += word if is_changed else caption[span_start:span_end]
            end = span_end

            if is_changed or not self.excludes or place.word in self.excludes:
                (new if is_changed else unchanged).append((begin, len(text)))
                true.append(place.span)

        return Changed(text + caption[end:], new, unchanged, true)

    def _others(self, place: _Place) -> list[str]:
        options = self.options.get((place.before, place.after), ())
        if self.excludes:
            options = [word for word in options if word in self.excludes.get(place.word, ())]
        return [word for word in options if word != place.word]


def is_asked(text: str, sets: str) -> bool:
    """Whether a word like this one was ever changed, so that a head that learned from such
    captions can be asked about it. sets: those that they were changed by; "": all that fit."""
    changed = {*sets.lower().replace(";", " ").split()}
    spoken = [match.group().lower() for match in WORD.finditer(text)]
    return any(word in changed if changed else word not in STOP_WORDS for word in spoken)


def _says_the_same(place: _Place, target: _Place) -> bool:
    """The same word beside the same one: "the [red] circle" where "a [red] circle" changes."""
    if place.word != target.word:
        return False
    is_beside = place.before == target.before and place.before not in ("", *STOP_WORDS)
    return place.span == target.span or place.after == target.after != "" or is_beside


def _places(caption: str) -> list[_Place]:
    """Each word but stop words."""
    matches = list(WORD.finditer(caption))
    texts = ["", *(m.group().lower() for m in matches), ""]
    return [
        _Place(texts[i + 1], texts[i], texts[i + 2], m.span())
        for i, m in enumerate(matches)
        if texts[i + 1] not in STOP_WORDS
    ]
