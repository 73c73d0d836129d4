"""The wording of rendered scenes: varied sentences, every word of them true. Ours.

A caption leaves here as a template: `{2}` stands where thing number 2 is named, and the other
braces hold words said about the ground. scenes.py puts the names in and points at both.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

T = TypeVar("T")

OPENERS = (
    "in this image I can see",
    "in this picture there is",
    "in this image we can see",
    "in the picture I see",
    "there is",
    "I can see",
    "we can see",
    "here we have",
    "here I see",
    "the picture shows",
    "this is a picture of",
    "this image shows",
    "somebody drew",
    "",
)
RELATIONS = {
    "left": ("to the left of", "left of", "on the left side of", "on the left of"),
    "right": ("to the right of", "right of", "on the right side of", "on the right of"),
    "above": ("above", "over", "higher than"),
    "below": ("below", "under", "beneath", "lower than"),
}
LINKS = ("", "which is", "that is", "placed", "lying", "sitting")
PATTERNS = {
    "stripes": ("striped", "with stripes"),
    "checks": ("checkered", "with checks"),
    "dots": ("dotted", "with small dots"),
    "gradient": ("shaded", "that gets darker to one side"),
    "clouds": ("cloudy", "with soft clouds"),
}
MOST_WORDS = 32  # of a caption, about
SURFACES = ("background", "ground", "surface")


class SceneWording:
    """Describes things at `centers` (K, 2), x, y in pixels, y down, of `sides` (K,) pixels."""

    def __init__(
        self,
        centers: np.ndarray,
        sides: np.ndarray,
        size: tuple[int, int],
        ground: tuple[str, str],
        rng: np.random.Generator,
    ) -> None:
        self.centers, self.size, self.ground, self.rng = centers, size, ground, rng
        self.order = rng.permutation(len(centers)).tolist()

        ranked = np.argsort(sides)
        self.adjectives: dict[int, tuple[str, ...]] = dict.fromkeys(self.order, ("",))

        if sides[ranked[-1]] > 1.2 * sides[ranked[-2]]:
            self.adjectives[ranked[-1]] = ("", "big ", "large ")
        if sides[ranked[0]] < sides[ranked[1]] / 1.2:
            self.adjectives[ranked[0]] = ("", "small ", "little ")

    def template(self) -> str:
        """One to four sentences which name each thing, and tell where some of them are."""
        kinds = (self.list_them, self.chain, self.place_each, self.one_by_one)
        while True:
            sentences = self.pick(kinds)()
            if self.rng.random() < 0.35:
                sentences = self.with_ground(sentences)
            text = " ".join(f"{text[0].upper()}{text[1:]}." for text in sentences)
            if len(text.split()) + len(self.order) <= MOST_WORDS:
                return text

    def pick(self, options: Sequence[T]) -> T:
        """One of the options."""
        return options[int(self.rng.integers(len(options)))]

    def a(self, k: int) -> str:
        """A first mention of thing k."""
        return f"a {self.pick(self.adjectives[k])}{{{k}}}"

    def relation(self, k: int, anchor: int) -> str:
        """Where thing k is, seen from the anchor: along the axis where they lie further apart."""
        dx, dy = self.centers[k] - self.centers[anchor]
        if abs(dx) > abs(dy):
            return self.pick(RELATIONS["right" if dx > 0 else "left"])
        return self.pick(RELATIONS["below" if dy > 0 else "above"])

    def position(self, k: int) -> str:
        """Where thing k is in the picture: in thirds, and a corner only near the corner."""
        x, y = self.centers[k] / self.size
        side = "left" if x < 0.36 else "right" if x > 0.64 else ""
        level = "top" if y < 0.36 else "bottom" if y > 0.64 else ""
        if side and level:
            corner = max(abs(x - 0.5), abs(y - 0.5)) > 0.26
            word = self.pick({"top": ("top", "upper"), "bottom": ("bottom", "lower")}[level])
            if corner and self.rng.random() < 0.6:
                return f"in the {word} {side} corner"
            return f"at the {level} {side}"

        if side:
            place = f"at the {side} edge" if abs(x - 0.5) > 0.3 else f"in the {side} half"
            return self.pick((f"on the {side}", f"on the {side} side", place))
        if level:
            return self.pick((f"at the {level}", f"near the {level}", f"in the {level} part"))

        return self.pick(("in the middle", "in the center", "near the center"))

    def join(self, phrases: list[str]) -> str:
        """One, two, and three."""
        return ", ".join(phrases[:-1]) + self.pick((" and ", ", and ", " and also ")) + phrases[-1]

    def list_them(self) -> list[str]:
        """All of them in a row, then how two of them lie."""
        first, second = self.order[:2]
        count = ("two", "three", "four")[len(self.order) - 2]
        opener = self.pick((*OPENERS[:-1], f"there are {count} shapes:", f"I see {count} things:"))
        clause = f"the {{{first}}} is {self.relation(first, second)} the {{{second}}}"
        return [f"{opener} {self.join([self.a(k) for k in self.order])}", clause]

    def chain(self) -> list[str]:
        """Each beside one that was named before it."""
        first, second, *further = self.order
        link = self.pick(LINKS)
        start = f"{self.pick(OPENERS[:-1])} {self.a(first)} {link} {self.relation(first, second)}"
        phrases = [f"{start} {self.a(second)}"]
        for i, k in enumerate(further):
            near = self.pick((first, second, *further[:i]))
            phrases.append(f"{self.a(k)} {self.relation(k, near)} the {{{near}}}")
        return [self.join(phrases) if further else phrases[0]]

    def place_each(self) -> list[str]:
        """Each at its place in the picture."""
        if self.rng.random() < 0.5:
            phrases = [f"{self.position(k)} there is {self.a(k)}" for k in self.order]
            return [self.join(phrases)]
        phrases = [f"{self.a(k)} {self.position(k)}" for k in self.order]
        return [f"{self.pick(OPENERS)} {self.join(phrases)}".strip()]

    def one_by_one(self) -> list[str]:
        """A sentence for a pair, then one for each further thing beside the last one."""
        first, second, *further = self.order
        verb = self.pick(("is", "lies", "sits", "can be seen"))
        sentences = [f"{self.a(first)} {verb} {self.relation(first, second)} {self.a(second)}"]
        subject, anchor = "it", first  # the subject of the sentence before
        for k in further:
            linking = self.pick(("is", "I see", "there is"))
            beside = f"{self.relation(k, anchor)} {subject} {linking} {self.a(k)}"
            also = self.pick(("there is also", "we also see", "then comes"))
            sentences.append(self.pick((beside, f"{also} {self.a(k)} {self.position(k)}")))
            subject, anchor = f"the {{{k}}}", k
        return sentences

    def with_ground(self, sentences: list[str]) -> list[str]:
        """The sentences, and the ground in the first of them or in one of its own."""
        color, pattern = self.ground
        adjective, clause = PATTERNS[pattern]
        surface = self.pick(SURFACES)
        noun = self.pick((f"{adjective} {color} {surface}", f"{color} {surface}"))

        sentence = self.pick(
            (
                f"the {{{surface}}} is {{{color} and {adjective}}}",
                f"they lie on a {{{noun}}}",
                f"everything is on a {{{color} {surface}}} {clause}",
                f"behind them is a {{{noun}}}",
            )
        )

        if self.rng.random() < 0.5:
            return [*sentences, sentence]
        return [f"{sentences[0]}, on a {{{noun}}}", *sentences[1:]]
