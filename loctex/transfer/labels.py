"""Which classes each image shows, in one form for every source: the label table.

The images stand in the order of their names, so that the order in which a source lists them
changes nothing.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from loctex.transfer.images import Picture


@dataclass(frozen=True, eq=False)
class Labels:
    """N images, K classes. values: (N, K) int8: 1 shown, -1 not shown, 0 takes no part."""

    images: tuple[str, ...]
    pictures: tuple[Picture, ...]
    classes: tuple[str, ...]
    values: np.ndarray

    def __len__(self) -> int:
        return len(self.images)

    def take(self, rows: Iterable[int]) -> "Labels":
        """These rows only, in this order."""
        rows = [int(i) for i in rows]
        return replace(
            self,
            images=tuple(self.images[i] for i in rows),
            pictures=tuple(self.pictures[i] for i in rows),
            values=self.values[rows],
        )

    def with_classes(self, columns: Sequence[int]) -> "Labels":
        """These classes only."""
        names = tuple(self.classes[k] for k in columns)
        return replace(self, classes=names, values=self.values[:, columns])


def table(
    found: Mapping[str, Mapping[str, int]], pictures: Mapping[str, Picture], classes: Sequence[str]
) -> Labels:
    """{image: {class: value}} -> the table; a class an image does not name is not shown on it."""
    images = tuple(sorted(found))
    values = np.full((len(images), len(classes)), -1, dtype=np.int8)
    column = {name: k for k, name in enumerate(classes)}
    for i, image in enumerate(images):
        for name, value in found[image].items():
            values[i, column[name]] = value
    return Labels(images, tuple(pictures[image] for image in images), tuple(classes), values)


def check_disjoint(train: Labels, test: Labels) -> None:
    """ValueError names images that are in both: a score on them would say nothing."""
    both = sorted(set(train.images) & set(test.images))
    if both:
        raise ValueError(
            f"{len(both)} image(s) are in both train and test, as {both[0]!r}; take them out of one"
        )


def listing(problems: Sequence[str], most: int = 5) -> str:
    """The first few of a list of problems, and how many more there are."""
    rest = f" and {len(problems) - most} more" if len(problems) > most else ""
    return "; ".join(problems[:most]) + rest
