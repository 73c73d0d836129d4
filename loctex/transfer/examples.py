"""What a detector is trained on, step by step: a function of (seed, step) alone, so that training
resumes with the image it would have seen next."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from loctex.transfer.instances import Instances, pixels

Example = tuple[Tensor, dict[str, Tensor]]  # (3, H, W) in 0..1, and its target


class Examples(Dataset):
    """Images with their targets; an index is (image, whether it is mirrored)."""

    def __init__(self, instances: Instances) -> None:
        self.instances = instances

    def __getitem__(self, index: tuple[int, bool]) -> Example:
        number, is_mirrored = index
        photo = self.instances.photos[number]
        image = torch.from_numpy(pixels(photo)).permute(2, 0, 1).float() / 255
        example = image, self.instances.target(photo)
        return mirror(*example) if is_mirrored else example


def mirror(image: Tensor, target: dict[str, Tensor]) -> Example:
    """Left and right exchanged, of (3, H, W), boxes and masks."""
    x0, y0, x1, y1 = target["boxes"].unbind(1)
    width = image.shape[2]
    mirrored = target | {"boxes": torch.stack((width - x1, y0, width - x0, y1), dim=1)}
    if "masks" in target:
        mirrored["masks"] = target["masks"].flip(2)
    return image.flip(2), mirrored


class Order(Sequence):
    """For each step from `start` on, the indices that this process takes.

    Every epoch is a shuffle of all images, and a coin for each decides whether it is mirrored.
    The shuffles follow one another without a gap, so that every batch is full.
    """

    def __init__(
        self,
        num_images: int,
        batch: int,
        steps: int,
        seed: int,
        *,
        start: int = 0,
        rank: int = 0,
        num_ranks: int = 1,
    ) -> None:
        self.num_images, self.batch, self.seed = num_images, batch // num_ranks, seed
        self.rank, self.num_ranks = rank, num_ranks
        self.start, self.steps = start, steps
        self._epoch = -1

    def __len__(self) -> int:
        return self.steps - self.start

    def __getitem__(  # type: ignore[override]  # a loader asks for one batch at a time
        self, number: int
    ) -> list[tuple[int, bool]]:
        if not 0 <= number < len(self):
            raise IndexError(number)
        first = ((self.start + number) * self.num_ranks + self.rank) * self.batch
        return [self._index(place) for place in range(first, first + self.batch)]

    def _index(self, place: int) -> tuple[int, bool]:
        epoch, k = divmod(place, self.num_images)
        if epoch != self._epoch:
            random = np.random.default_rng((self.seed, epoch))
            self._shuffle = random.permutation(self.num_images)
            self._coins = random.random(self.num_images) < 0.5
            self._epoch = epoch
        return int(self._shuffle[k]), bool(self._coins[k])


def batches(instances: Instances, order: Order, num_workers: int) -> Iterator[list[Example]]:
    """The examples of each step; worker processes decode ahead."""
    loader = DataLoader(
        Examples(instances), batch_sampler=order, num_workers=num_workers, collate_fn=list
    )
    return iter(loader)
