"""One of two processes that read a streamed snapshot, as training does: the image ids of batches.

python -m tests.loctex.streaming URL RANK START END
"""

import json
import sys
from collections.abc import Iterator
from itertools import islice

from loctex.loading.batches import batches
from loctex.loading.mixture import Mixture
from loctex.records import streamed
from loctex.records.snapshot import Snapshot
from loctex.settings import DataSettings

BATCH = 24  # images of both processes


def stream(url: str, rank: int, start: int, end: int) -> Iterator[list[str]]:
    """The image ids of these batches."""
    mixture = Mixture([Snapshot.open(url).split("train")], [1.0], seed=5)
    source = batches(
        mixture,
        lambda examples, *helpers: [example.narrative.image_id for example in examples],
        DataSettings(),
        batch_size=BATCH,
        start=start,
        rank=rank,
        num_ranks=2,
    )
    yield from islice(source, end - start)
    source.close()


if __name__ == "__main__":
    streamed.BLOCK = 2
    for batch in stream(sys.argv[1], *map(int, sys.argv[2:])):
        print(json.dumps(batch), flush=True)
