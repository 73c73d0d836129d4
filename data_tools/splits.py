"""Which split an image belongs to (DESIGN section 4)."""

import hashlib
import re
from collections.abc import Iterable

_OFFICIAL = {
    "train": r"train(ing)?",
    "val": r"val(idation)?",
    "test": r"test",
}


def official(dataset_id: str) -> str | None:
    """The split that the dataset's name says, as in mscoco_val2017; None for none or two."""
    named = [
        split
        for split, word in _OFFICIAL.items()
        if re.search(rf"(?<![a-z]){word}(?![a-z])", dataset_id.lower())  # not the "val" of medieval
    ]
    return named[0] if len(named) == 1 else None


def assign(keys: Iterable[tuple[str, str]]) -> dict[tuple[str, str], str]:
    """(dataset_id, image_id) -> train, val or test: the official one, else by hash of the image id.

    The hash puts the images in an order; the first tenth is val, the next tenth test, each exact
    to one image. Of five images or more, each split gets one at least; fewer are all for training.
    """
    keys = set(keys)
    splits = {key: split for key in keys if (split := official(key[0]))}
    ranked = sorted(
        keys - splits.keys(), key=lambda key: (hashlib.sha256(key[1].encode()).digest(), key)
    )
    count = len(ranked)
    tenth = max(round(count / 10), int(count >= 5))
    for rank, key in enumerate(ranked):
        splits[key] = "val" if rank < tenth else "test" if rank < 2 * tenth else "train"
    return splits
