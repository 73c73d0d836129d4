"""Which split an image belongs to (DESIGN section 4)."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping

from loctex.records.annotations import official

Key = tuple[str, str]  # dataset_id, image_id


def assign(keys: Iterable[Key], before: Mapping[Key, str] | None = None) -> dict[Key, str]:
    """(dataset_id, image_id) -> train, val or test: the official one, else by hash of the image id.

    The hash puts the images in an order; the first tenth is val, the next tenth test, each exact
    to one image. Of five images or more, each split gets one at least; fewer are all for training.
    before: the splits of an earlier snapshot, which their images keep, so that none that a model
    was trained on is ever tested on; new images fill up val and test.
    """
    keys = set(keys)
    splits = {key: split for key in keys if (split := official(key[0]))}
    free = keys - splits.keys()
    count = len(free)

    splits |= {key: before[key] for key in free & before.keys()} if before else {}
    counts = Counter(splits[key] for key in free & splits.keys())

    tenth = max(round(count / 10), int(count >= 5))
    num_val, num_test = max(0, tenth - counts["val"]), max(0, tenth - counts["test"])

    ranked = sorted(
        free - splits.keys(), key=lambda key: (hashlib.sha256(key[1].encode()).digest(), key)
    )

    for rank, key in enumerate(ranked):
        is_val, is_test = rank < num_val, rank < num_val + num_test
        splits[key] = "val" if is_val else "test" if is_test else "train"

    return splits
