"""What a simulated narrator says of labeled instances, in the manner of Localized Narratives. Ours.

"In this image I can see two dogs on the left side. To the right of the dogs there is a chair. In
the background there are a few people."

A caption leaves here marked: `{2:dogs}` stands where group number 2 is named. Counts, places and
relations are true of the boxes. "In the background" is said of what is small and stands higher in
the image than the largest thing: true of most photographs, known of none.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from data_tools.simulation.nouns import AMOUNTS, plural, spoken
from loctex.records.annotations import Box, Instance

T = TypeVar("T")

SMALLEST = 0.003  # of the image's area; people seldom mention what is smaller
FAR = 1 / 8  # of the largest thing's area, and its foot higher than that thing's by
FAR_HIGHER = 0.08  # of the image: in the background
MOST = 6  # groups in a caption

NUMBERS = ("two", "three", "four", "five")
RELATIONS = {
    "left": ("to the left of", "on the left of", "on the left side of"),
    "right": ("to the right of", "on the right of", "on the right side of"),
    "above": ("above",),
    "below": ("below",),
}
OPENERS = (  # {is}: is or are, after what is named first
    "In this image I can see",
    "In this image we can see",
    "In this picture I can see",
    "In this picture there {is}",
    "In this image there {is}",
    "In the image we can see there {is}",
    "In the foreground there {is}",
    "Here I can see",
    "I can see",
    "There {is}",
    "This image shows",
)


@dataclass(frozen=True, eq=False)
class Group:
    """Instances of one category that are named together.

    box: around them all, fractions. count: how they are counted, "" for one. is_far: in the
    background. is_other: the foreground has some of the category too.
    """

    category: str
    instances: tuple[Instance, ...]
    box: Box
    count: str
    is_far: bool
    is_other: bool

    @property
    def center(self) -> tuple[float, float]:
        return (self.box[0] + self.box[2]) / 2, (self.box[1] + self.box[3]) / 2


def area(box: Box) -> float:
    """In parts of the image."""
    return (box[2] - box[0]) * (box[3] - box[1])


def gather(instances: Sequence[Instance], rng: np.random.Generator) -> list[Group]:
    """What is worth naming, the largest first; empty where everything is tiny."""
    visible = [thing for thing in instances if area(thing.box) >= SMALLEST]
    tiny = {thing.name for thing in instances if area(thing.box) < SMALLEST}
    if not visible:
        return []

    largest = max((thing.box for thing in visible), key=area)
    gathered = defaultdict(list)
    for thing in visible:
        is_small = area(thing.box) < FAR * area(largest)
        is_far = is_small and thing.box[3] < largest[3] - FAR_HIGHER
        gathered[thing.name, is_far].append(thing)

    groups = []
    for (name, is_far), things in gathered.items():
        is_crowd = any(thing.is_crowd for thing in things)
        is_known = not is_crowd and name not in tiny
        count = _count(len(things), is_known, is_crowd, rng)
        is_other = is_far and (name, False) in gathered
        groups.append(Group(name, tuple(things), _around(things), count, is_far, is_other))

    return sorted(groups, key=lambda group: -area(group.box))[:MOST]


def _count(number: int, is_known: bool, is_crowd: bool, rng: np.random.Generator) -> str:
    """A number only where all of them are known."""
    if number == 1 and not is_crowd:
        return ""
    if is_known and number <= 5 and rng.random() < 0.8:
        return NUMBERS[number - 2]
    vague = ("many", "a group of", "several") if number > 4 or is_crowd else ("some", "a few")
    return str(rng.choice(vague))


def _around(things: Sequence[Instance]) -> Box:
    x0, y0, x1, y1 = zip(*(thing.box for thing in things), strict=True)
    return min(x0), min(y0), max(x1), max(y1)


class PhotoWording:
    """Describes groups, of which there is one at least."""

    def __init__(self, groups: Sequence[Group], rng: np.random.Generator) -> None:
        self.groups, self.rng = groups, rng
        categories = [group.category for group in groups]
        self.is_alone = [categories.count(category) == 1 for category in categories]
        self.noun = [self.pick(spoken(category)) for category in categories]

    def caption(self) -> str:
        """One to five sentences that name each group: first the near ones, then the others."""
        near = [k for k, group in enumerate(self.groups) if not group.is_far]
        far = [k for k, group in enumerate(self.groups) if group.is_far]

        num_first = int(self.rng.integers(1, min(3, len(near)) + 1))
        place = self.place(near[0]) if num_first == 1 and self.rng.random() < 0.4 else ""
        sentences = [f"{self.opening(near[:num_first])} {place}".strip()]
        if len(self.groups) == 1 or (num_first == 1 and self.rng.random() < 0.25):
            sentences += self.more_of(near[0], is_placed=bool(place))

        mentioned, waiting = near[:num_first], near[num_first:]
        while waiting:
            some = waiting[: self.rng.integers(1, 3)]
            sentences.append(self.further(some, mentioned))
            mentioned, waiting = mentioned + some, waiting[len(some) :]

        if far:
            phrase = self.pick((f"there {self.verb(far[0])}", "I can see", "we can see"))
            sentences.append(f"in the background {phrase} {self.join(far)}")

        return " ".join(f"{text[0].upper()}{text[1:]}." for text in sentences)

    def pick(self, options: Sequence[T]) -> T:
        """One of the options."""
        return options[int(self.rng.integers(len(options)))]

    def verb(self, k: int) -> str:
        """is or are, after group k."""
        return "are" if self.groups[k].count and self.noun[k] not in AMOUNTS else "is"

    def named(self, k: int) -> str:
        """Group k by name: {3:horses}."""
        noun = plural(self.noun[k]) if self.groups[k].count else self.noun[k]
        return f"{{{k}:{noun}}}"

    def a(self, k: int) -> str:
        """A first mention of group k: a horse, two other horses, a group of people."""
        count, is_other = self.groups[k].count, self.groups[k].is_other
        if self.noun[k] in AMOUNTS:
            return f"{AMOUNTS[self.noun[k]]} {self.named(k)}"
        if count == "a group of":
            return f"{'another' if is_other else 'a'} group of {self.named(k)}"
        if count:
            return f"{count} {'other ' if is_other else ''}{self.named(k)}"
        article = "another" if is_other else "an" if self.noun[k][0] in "aeiou" else "a"
        return f"{article} {self.named(k)}"

    def join(self, members: Sequence[int]) -> str:
        """A, b and c, the first mentions of groups."""
        *before, final = [self.a(k) for k in members]
        return f"{', '.join(before)} and {final}" if before else final

    def opening(self, members: Sequence[int]) -> str:
        """The largest groups."""
        opener = self.pick(OPENERS).replace("{is}", self.verb(members[0]))
        return f"{opener} {self.join(members)}"

    def further(self, members: Sequence[int], mentioned: Sequence[int]) -> str:
        """Beside what was seen, at their place, or simply also there."""
        k, verb = members[0], self.verb(members[0])
        anchors = [a for a in mentioned if self.is_alone[a] and self.relation(k, a)]

        if anchors and len(members) == 1 and self.rng.random() < 0.6:
            anchor = self.pick(anchors)
            beside = f"{self.pick(RELATIONS[self.relation(k, anchor)])} the {self.named(anchor)}"
            return self.pick(
                (f"{beside} there {verb} {self.a(k)}", f"there {verb} {self.a(k)} {beside}")
            )

        place = self.place(k)
        if place and len(members) == 1 and self.rng.random() < 0.6:
            return f"{place} {self.pick((f'there {verb}', 'I can see'))} {self.a(k)}"

        phrases = (f"there {verb} also", "I can also see", "we can also see", f"and there {verb}")
        return f"{self.pick(phrases)} {self.join(members)}"

    def more_of(self, k: int, is_placed: bool) -> list[str]:
        """A second sentence about a group: that it fills the picture, or where it is."""
        place = "" if is_placed else self.place(k)
        if area(self.groups[k].box) > 0.5 and (not place or self.rng.random() < 0.6):
            end = "" if self.verb(k) == "are" else "s"
            filled = self.pick(("most of the picture", "a large part of the image"))
            return [f"the {self.named(k)} {self.pick(('cover', 'fill'))}{end} {filled}"]
        return [f"the {self.named(k)} {self.verb(k)} {place}"] if place else []

    def place(self, k: int) -> str:
        """Where a group is, in thirds of the image; "" if it is wider than that."""
        x0, y0, x1, y1 = self.groups[k].box
        x, y = self.groups[k].center
        side = "left" if x < 0.36 else "right" if x > 0.64 else ""
        level = "top" if y < 0.33 else "bottom" if y > 0.67 else ""

        image = self.pick(("image", "picture"))
        if side and level and max(x1 - x0, y1 - y0) < 0.4:
            return f"at the {level} {side} of the {image}"
        if side and x1 - x0 < 0.6:
            return self.pick((f"on the {side} side of the {image}", f"on the {side} side"))
        if level and y1 - y0 < 0.5:
            return f"at the {level} of the {image}"

        is_central = not side and not level and max(x1 - x0, y1 - y0) < 0.7
        return f"in the {self.pick(('middle', 'center'))} of the {image}" if is_central else ""

    def relation(self, k: int, anchor: int) -> str:
        """Where group k is, seen from the other; "" unless their boxes hardly overlap there."""
        for axis, (before, after) in enumerate((("left", "right"), ("above", "below"))):
            low, high = (self.groups[j].box[axis] for j in (k, anchor))
            top, end = (self.groups[j].box[axis + 2] for j in (k, anchor))
            slack = 0.25 * min(top - low, end - high)
            if top <= high + slack:
                return before
            if end <= low + slack:
                return after
        return ""


def unmarked(caption: str) -> tuple[str, list[tuple[int, int, int]]]:
    """A marked caption -> the plain one, and (start, end, group) of each naming's characters."""
    plain, namings, end = "", [], 0
    for mark in re.finditer(r"\{(\d+):([^}]*)\}", caption):
        plain += caption[end : mark.start()]
        namings.append((len(plain), len(plain) + len(mark[2]), int(mark[1])))
        plain += mark[2]
        end = mark.end()
    return plain + caption[end:], namings
