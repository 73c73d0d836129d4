"""Which image comes when: the order of an epoch over several snapshots."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

import numpy as np

from loctex.loading import augment
from loctex.loading.examples import Example
from loctex.records import trace, words
from loctex.records.items import Split
from loctex.records.streamed import StreamedSplit
from loctex.settings import DataSettings

BOX_IMAGES = 1000  # the usual size of a word's box is learned of so many


@dataclass(frozen=True)
class Mixture:
    """Training splits of several snapshots, each seen `weight` times an epoch.

    An epoch shows images; of an image with several narratives it shows one, drawn anew.
    """

    splits: Sequence[Split]
    weights: Sequence[float]
    seed: int

    @property
    def is_streamed(self) -> bool:
        """Does any of it lie elsewhere?"""
        return any(isinstance(split, StreamedSplit) for split in self.splits)

    def order(self, epoch: int) -> np.ndarray:
        """(N, 2) split and image of each place of an epoch, shuffled by (seed, epoch)."""
        random = np.random.default_rng((self.seed, epoch))
        if self.is_streamed:
            return self._streamed_order(random)
        rows = []
        for number, (split, weight) in enumerate(zip(self.splits, self.weights, strict=True)):
            num_rounds, num_extra = divmod(round(weight * len(split)), len(split))
            turns = [np.arange(len(split))] * num_rounds + [
                random.permutation(len(split))[:num_extra]
            ]
            images = np.concatenate(turns)
            rows.append(np.stack((np.full_like(images, number), images), axis=1))
        return random.permutation(np.concatenate(rows))

    def _streamed_order(self, random: np.random.Generator) -> np.ndarray:
        """The same, where images come near each other that lie near each other: each split in an
        order of its own, and the splits mixed by chance."""
        places = []
        for split, weight in zip(self.splits, self.weights, strict=True):
            count = round(weight * len(split))
            turns: list[np.ndarray] = []
            while sum(len(turn) for turn in turns) < count:
                if isinstance(split, StreamedSplit):
                    turns.append(split.order(random))
                else:
                    turns.append(random.permutation(len(split)))

            places.append(np.concatenate(turns)[:count])

        numbers = random.permutation(np.repeat(np.arange(len(places)), [len(p) for p in places]))

        rows = np.empty((len(numbers), 2), np.int64)
        for number, images in enumerate(places):
            rows[numbers == number, 1] = images
        rows[:, 0] = numbers
        return rows

    def expect(self, places: np.ndarray) -> None:
        """Begin to fetch the (N, 2) places from where they are streamed."""
        for number, split in enumerate(self.splits):
            if isinstance(split, StreamedSplit):
                split.expect(places[places[:, 0] == number, 1])

    def word_box(self, margin: float) -> list[float] | None:
        """Median width and height of the box that a word's trace fills, in fractions; None where
        nobody pointed.

        margin: as of `words.windows`. Of the first BOX_IMAGES images that the first epoch shows,
        so that a large or streamed snapshot is not read for it.
        """
        sizes = []
        for number, row in self.order(0)[:BOX_IMAGES].tolist():
            for narrative in self.splits[number][row].narratives:
                windows = words.windows(narrative.words, margin)
                boxes = trace.boxes(narrative.strokes, windows)
                sizes.append(boxes[:, 2:] - boxes[:, :2])

        joined = np.concatenate(sizes)
        joined = joined[~np.isnan(joined[:, 0])]
        return np.median(joined, axis=0).tolist() if len(joined) else None

    def num_places(self) -> int:
        """Images an epoch shows."""
        return sum(round(w * len(s)) for s, w in zip(self.splits, self.weights, strict=True))

    def offsets(self) -> list[int]:
        """The key of each split's first image, and one beyond the last: keys count through all."""
        return [0, *accumulate(len(split) for split in self.splits)]

    def images(self, step: int, batch_size: int) -> list[str]:
        """The names of what `batches` gives at a step, DATASET/IMAGE, over all processes."""
        epoch, number = divmod(step, self.num_places() // batch_size)
        places = self.order(epoch)[number * batch_size : (number + 1) * batch_size].tolist()
        items = (self.splits[split][row] for split, row in places)
        return [f"{item.dataset_id}/{item.image_id}" for item in items]

    def examples(
        self, places: np.ndarray, random: np.ndarray, settings: DataSettings
    ) -> list[Example]:
        """The images at (B, 2) places, one narrative of each, and how they are distorted.

        random: (B, augment.DRAWS) in 0..1.
        """
        offsets = self.offsets()
        places = places.tolist()

        items = [self.splits[split][row] for split, row in places]
        augmentations = augment.draw(
            random, settings, [(item.width, item.height) for item in items]
        )

        chances, seeds = random[:, -2].tolist(), (random[:, -1] * 2**32).astype(np.int64).tolist()
        narratives = [
            item.narratives[int(chance * len(item.narratives))]
            for item, chance in zip(items, chances, strict=True)
        ]

        for number, (what, narrative) in enumerate(zip(augmentations, narratives, strict=True)):
            if what.is_flipped and not words.can_mirror(narrative.caption):
                augmentations[number] = replace(what, is_flipped=False)

        keys = [offsets[split] + row for split, row in places]
        images = [item.image for item in items]
        return list(map(Example, images, narratives, keys, augmentations, seeds))
