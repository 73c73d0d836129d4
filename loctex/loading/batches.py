"""From snapshots to batches: threads decode, crop and resize; words follow in the collate.

What a batch holds is a function of (seed, step) alone, so stopping and resuming, or another
number of threads or processes, changes nothing.
"""

import multiprocessing
from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property, lru_cache
from typing import cast

import numpy as np
from torch.utils.data import DataLoader, Dataset

from loctex.loading import augment
from loctex.loading.collate import Batch, Collate
from loctex.loading.mixture import Mixture
from loctex.records.streamed import shares
from loctex.settings import DataSettings

AHEAD = 1024  # images: so long before it is needed, what is streamed is asked for


def batches(
    mixture: Mixture,
    collate: Collate,
    settings: DataSettings,
    *,
    batch_size: int,
    start: int,
    rank: int = 0,
    num_ranks: int = 1,
) -> Generator[Batch]:
    """The batches of steps `start`, `start` + 1, ... for this process, without end.

    batch_size: pairs over all processes; each takes its slice. The last incomplete batch of an
    epoch is dropped. Two batches are made ahead, by threads of this process or, by
    `settings.processes`, by each of several others.

    Raises ValueError for what a person can mend.
    """
    maker = BatchMaker(mixture, collate, settings, batch_size, rank, num_ranks)
    if settings.processes:
        return _in_processes(maker, start)
    return _in_threads(maker, start)


class BatchMaker(Dataset):
    """Makes the batch of any step; as a dataset, inside a loader's process."""

    def __init__(
        self,
        mixture: Mixture,
        collate: Collate,
        settings: DataSettings,
        batch_size: int,
        rank: int,
        num_ranks: int,
    ) -> None:
        self.mixture, self.collate, self.settings = mixture, collate, settings
        self.batch_size, self.num_ranks = batch_size, num_ranks
        self.per_epoch = mixture.num_places() // batch_size
        self.mine = slice(rank * batch_size // num_ranks, (rank + 1) * batch_size // num_ranks)
        self.ahead = -(-AHEAD * num_ranks // batch_size)  # steps
        self.order = lru_cache(maxsize=2)(self._order)  # at an epoch's end, two are in the making

    def _order(self, epoch: int) -> np.ndarray:
        order = self.mixture.order(epoch)
        if self.mixture.is_streamed:
            return shares(order, self.batch_size, self.num_ranks)
        return order

    def places(self, step: int) -> np.ndarray:
        """(B, 2) split and image of each pair of this process's part."""
        epoch, number = divmod(step, self.per_epoch)
        return self.order(epoch)[number * self.batch_size :][: self.batch_size][self.mine]

    def make(self, step: int, pool: ThreadPoolExecutor, num_helpers: int) -> Batch:
        """pool: threads that decode beside the one that asks, `num_helpers` of them."""
        epoch, number = divmod(step, self.per_epoch)
        places = self.places(step)
        if self.mixture.is_streamed:
            self.mixture.expect(places)
            self.mixture.expect(self.places(step + self.ahead))

        start = number * self.batch_size + self.mine.start
        random = augment.uniforms(self.mixture.seed, epoch, start, len(places))
        examples = self.mixture.examples(places, random, self.settings)
        return self.collate(examples, pool, num_helpers)

    @cached_property
    def _pool(self) -> ThreadPoolExecutor:
        """Of a loader's process: threads do not survive its start."""
        return ThreadPoolExecutor(max(1, self.settings.threads - 1), thread_name_prefix="decode")

    def __getitem__(self, step: int) -> Batch | Exception:
        """An error is handed over, not raised: DataLoader would make a traceback of its text."""
        try:
            return self.make(step, self._pool, self.settings.threads - 1)
        except Exception as error:
            return error


def _in_threads(maker: BatchMaker, start: int) -> Generator[Batch]:
    """Two batches in the making, each by a thread of its own; more threads than these, by
    `settings`, help them to decode."""
    num_threads = maker.settings.threads
    num_makers = min(2, num_threads)
    num_helpers = num_threads - num_makers
    with (
        ThreadPoolExecutor(max(1, num_helpers), thread_name_prefix="decode") as pool,
        ThreadPoolExecutor(num_makers, thread_name_prefix="batch") as makers,
    ):
        waiting = deque(makers.submit(maker.make, start + i, pool, num_helpers) for i in range(2))
        step = start + 2
        while True:
            batch = waiting.popleft().result()
            waiting.append(makers.submit(maker.make, step, pool, num_helpers))
            step += 1
            yield batch


def _in_processes(maker: BatchMaker, start: int) -> Generator[Batch]:
    """Each process makes every n-th batch, in memory that it shares with this one; pinned here."""
    if maker.mixture.is_streamed:
        raise ValueError(
            "data.processes needs snapshots on a disk of this machine, and one of these is "
            "streamed: set --data.processes 0 (threads), or download it first"
        )

    # Only this process may pin memory: the others must not touch the GPU. They are forked, so that
    # maps of snapshots and features are shared with them and nothing has to be pickled.
    is_pinned = maker.collate.is_pinned
    maker.collate.is_pinned = False
    can_fork = "fork" in multiprocessing.get_all_start_methods()
    loader = DataLoader(
        maker,
        batch_size=None,
        sampler=range(start, 2**62),  # steps, without end
        num_workers=maker.settings.processes,
        collate_fn=cast(Callable, _as_it_is),
        pin_memory=is_pinned,
        multiprocessing_context="fork" if can_fork else None,
    )
    try:
        for batch in loader:
            if isinstance(batch, Exception):
                raise batch
            yield batch
    except (ConnectionError, EOFError) as error:  # it was killed while it handed a batch over
        raise RuntimeError(f"DataLoader worker is gone: {error}") from error


def _as_it_is(batch: Batch | Exception) -> Batch | Exception:
    return batch
