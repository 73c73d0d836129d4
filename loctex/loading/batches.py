"""From snapshots to batches: threads decode, crop and resize; words follow in the collate.

What a batch holds is a function of (seed, step) alone, so stopping and resuming, or another
number of threads, changes nothing.
"""

from collections import deque
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache

import numpy as np

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
    epoch is dropped. Two batches are made ahead, each by a thread of its own; more threads than
    these, by `settings`, help them to decode.
    """
    per_epoch = mixture.num_places() // batch_size
    mine = slice(rank * batch_size // num_ranks, (rank + 1) * batch_size // num_ranks)

    is_streamed = mixture.is_streamed
    ahead = -(-AHEAD * num_ranks // batch_size)  # steps

    @lru_cache(maxsize=2)  # at an epoch's end, two are in the making
    def order(epoch: int) -> np.ndarray:
        order = mixture.order(epoch)
        return shares(order, batch_size, num_ranks) if is_streamed else order

    def places(step: int) -> np.ndarray:
        epoch, number = divmod(step, per_epoch)
        return order(epoch)[number * batch_size :][:batch_size][mine]

    def make(step: int) -> Batch:
        epoch, number = divmod(step, per_epoch)
        start_place = number * batch_size + mine.start
        if is_streamed:
            mixture.expect(places(step))
            mixture.expect(places(step + ahead))
        places_now = places(step)
        random = augment.uniforms(mixture.seed, epoch, start_place, len(places_now))
        return collate(mixture.examples(places_now, random, settings), pool, helpers)

    num_makers = min(2, settings.threads)
    helpers = settings.threads - num_makers
    with (
        ThreadPoolExecutor(max(1, helpers), thread_name_prefix="decode") as pool,
        ThreadPoolExecutor(num_makers, thread_name_prefix="batch") as makers,
    ):
        waiting = deque(makers.submit(make, start + i) for i in range(2))
        step = start + 2
        while True:
            batch = waiting.popleft().result()
            waiting.append(makers.submit(make, step))
            step += 1
            yield batch
