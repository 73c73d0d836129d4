"""Open a snapshot and read 1,000 images at random; a step of tests.benchmarks.size."""

import sys
import time

import numpy as np

from loctex.records.snapshot import Snapshot

if __name__ == "__main__":
    began = time.monotonic()
    split = Snapshot.open(sys.argv[1]).split("train")
    opened = time.monotonic()
    for index in np.random.default_rng(0).permutation(len(split))[:1000]:
        assert split[index].narratives
    each = (time.monotonic() - opened) * 1000
    print(f"opened in {opened - began:.2f} s, {each:.0f} us an image at random")
