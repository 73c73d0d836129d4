"""Which classes each image shows, in one form for every source: the label table.

The images stand in the order of their names, so that the order in which a source lists them
changes nothing.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch

from loctex.transfer import encoders
from loctex.transfer.encoders import Encoder, Picture


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
    classes_of: Mapping[str, Mapping[str, int]],
    pictures: Mapping[str, Picture],
    classes: Sequence[str],
) -> Labels:
    """{image: {class: value}} -> the table; a class an image does not name is not shown on it."""
    images = tuple(sorted(classes_of))
    values = np.full((len(images), len(classes)), -1, dtype=np.int8)
    column = {name: k for k, name in enumerate(classes)}
    for i, image in enumerate(images):
        for name, value in classes_of[image].items():
            values[i, column[name]] = value
    return Labels(images, tuple(pictures[image] for image in images), tuple(classes), values)


def check_disjoint(train: Labels, test: Labels) -> None:
    """ValueError names images that are in both: a score on them would say nothing."""
    shared = sorted(set(train.images) & set(test.images))
    if shared:
        raise ValueError(
            f"{len(shared)} image(s) are in both train and test, as {shared[0]!r}; "
            "take them out of one"
        )


def listing(problems: Sequence[str], most: int = 5) -> str:
    """The first few of a list of problems, and how many more there are."""
    more = f" and {len(problems) - most} more" if len(problems) > most else ""
    return "; ".join(problems[:most]) + more


@dataclass(frozen=True, eq=False)
class Task:
    """left_out: "class NAME" or "image NAME" -> why it does not count."""

    train: Labels
    test: Labels
    left_out: dict[str, str] = field(default_factory=dict)

    def problems(self, most: int = 10) -> list[str]:
        """What is left out, as lines to print: the first few, and how many more."""
        lines = texts(self.left_out)
        more = [f"and {len(lines) - most} more"] if len(lines) > most else []
        return [f"left out: {line}" for line in lines[:most] + more]

    def without_unusable(self, least: int) -> "Task":
        """Without the classes that have fewer than `least` images to train on, or none to test on.

        Each is named in left_out; ValueError where no class is left.
        """
        unusable = {
            f"class {name}": _unusable(self.train.values[:, k], self.test.values[:, k], least)
            for k, name in enumerate(self.train.classes)
        }

        keep = [k for k, why in enumerate(unusable.values()) if why is None]
        left_out = {name: why for name, why in unusable.items() if why is not None}

        if not keep:
            raise ValueError(f"no class can be scored: {listing(texts(left_out))}")
        train, test = self.train.with_classes(keep), self.test.with_classes(keep)
        return Task(train, test, self.left_out | left_out)

    def without_images(self, problems: dict[str, str]) -> "Task":
        """Without the images that `problems` names."""
        train, test = (
            labels.take(
                i for i, name in enumerate(labels.images) if f"image {name}" not in problems
            )
            for labels in (self.train, self.test)
        )
        return Task(train, test, self.left_out | problems)


def make(train: Labels, test: Labels, least: int) -> Task:
    """A task of two tables over the same classes; ValueError where they share an image."""
    check_disjoint(train, test)
    return Task(train, test).without_unusable(least)


def encode(
    encoder: Encoder,
    task: Task,
    cache: Path,
    *,
    least: int,
    skip_damaged: bool = False,
    device: torch.device | str = "cpu",
    has_progress: bool = False,
) -> tuple[np.ndarray, np.ndarray, Task]:
    """The (N, C) float64 features of the training and the test images, and the task they are of.

    ValueError names unreadable images, unless `skip_damaged` takes them out of the task. A picture
    to train on whose very file is also tested on is taken out, and named.
    """
    pictures = (*task.train.pictures, *task.test.pictures)
    features = encoders.extract(encoder, pictures, cache, device=device, has_progress=has_progress)
    names = (*task.train.images, *task.test.images)
    if features.problems and not skip_damaged:
        sentence = listing([f"{names[i]}: {why}" for i, why in features.problems.items()])
        raise ValueError(
            f"{len(features.problems)} image(s) cannot be read: {sentence}; mend them, "
            "or leave them out with --skip-damaged"
        )

    tested = dict(zip(features.contents[len(task.train) :], task.test.images, strict=True))
    twins = {
        i: f"to train on, is the same picture as {tested[mark]} to test on"
        for i, mark in enumerate(features.contents[: len(task.train)])
        if mark is not None and mark in tested
    }

    problems = features.problems | twins
    if problems:
        named = {f"image {names[i]}": why for i, why in problems.items()}
        task = task.without_images(named).without_unusable(least)

    rows = features.rows[[i for i in range(len(names)) if i not in problems]].astype(np.float64)
    return rows[: len(task.train)], rows[len(task.train) :], task


def texts(problems: dict[str, str]) -> list[str]:
    return [f"{what}: {why}" for what, why in problems.items()]


def _unusable(train_values: np.ndarray, truth: np.ndarray, least: int) -> str | None:
    """Why a class cannot be scored; None where it can."""
    for kind, count in (
        ("positive", (train_values > 0).sum()),
        ("negative", (train_values < 0).sum()),
    ):
        if count < least:
            return f"{count} {kind} image(s) to train on, {least} needed"
    for kind, has in (("positive", (truth > 0).any()), ("negative", (truth < 0).any())):
        if not has:
            return f"no {kind} image to test on"
    return None
