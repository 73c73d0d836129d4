"""The whole loader, two workers: batches for the device, against the usual one.

    python -m tests.benchmarks.loader [--count 512]

Ours: two threads, and beside it two processes (data.processes 2) of one thread each; a batch holds
uint8 images, tokens and the word targets of traces. The peer: a
DataLoader of two processes over the same snapshot; PIL, torchvision's v2 transforms and the same
tokenizer, to float images and padded tokens, without targets. Short side 288, batches of 64.
"""

import argparse
import io
import itertools
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import cv2
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from loctex.loading import tokenization
from loctex.loading.batches import batches
from loctex.loading.collate import Collate
from loctex.loading.mixture import Mixture
from loctex.records.items import Split
from loctex.records.snapshot import Snapshot
from loctex.settings import DataSettings
from tests.benchmarks import made, turns
from tests.benchmarks.images import PEER

WORKERS = 2


class Usual(Dataset):
    """What most people write."""

    def __init__(self, split: Split, words: tokenization.PreTrainedTokenizerFast) -> None:
        self.split = split
        self.words = words

    def __len__(self) -> int:
        return len(self.split)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, list[int]]:
        item = self.split[index]
        image = PEER(Image.open(io.BytesIO(item.image)).convert("RGB"))
        caption = item.narratives[0].caption
        return image, self.words(caption, truncation=True, max_length=64)["input_ids"]

    def collate(self, rows: list[tuple[torch.Tensor, list[int]]]) -> tuple[torch.Tensor, ...]:
        images, tokens = zip(*rows, strict=True)
        padded = self.words.pad({"input_ids": list(tokens)}, return_tensors="pt")
        return torch.stack(images), padded["input_ids"]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.loader", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--count", type=int, default=512, help="images a turn: one epoch [512]")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--turns", type=int, default=15)
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    settings = DataSettings(threads=WORKERS)
    with tempfile.TemporaryDirectory() as folder:
        split = Snapshot.open(made.snapshot(Path(folder), given.count)).split("train")
        words = tokenization.train(split.captions(), 1000, settings.max_tokens)
        usual = Usual(split, words)
        loader = DataLoader(
            usual,
            given.batch,
            shuffle=True,
            drop_last=True,
            num_workers=WORKERS,
            collate_fn=usual.collate,
            persistent_workers=True,
            prefetch_factor=1,
        )
        collate = Collate(tokenizer=words, settings=settings, grid=(14, 14))
        mixture = Mixture([split], [1.0], 0)
        num_batches = given.count // given.batch

        def peer() -> None:
            for _ in loader:
                pass

        def ours(settings: DataSettings) -> Callable[[], None]:
            source = batches(mixture, collate, settings, batch_size=given.batch, start=0)
            for _ in itertools.islice(source, num_batches):
                pass
            return source.close  # what is made ahead must not disturb the peer

        by_processes = DataSettings(threads=1, processes=WORKERS)
        slow, fast, in_processes = turns.seconds(
            [peer, partial(ours, settings), partial(ours, by_processes)], given.turns
        )
    count = num_batches * given.batch
    print(
        f"peer {count / slow:,.0f} images/s, ours {count / fast:,.0f}, with {WORKERS} workers; by "
        f"processes {count / in_processes:,.0f}, their start included"
    )
    print(f"ratio {slow / fast:.2f}")


if __name__ == "__main__":
    main()
