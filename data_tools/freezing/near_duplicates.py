"""Pictures that look the same though their bytes differ: scaled, recompressed, recolored a little.

A picture in two splits makes an evaluation look better than it is. Hash: pHash, the signs of the
lowest 8 x 8 frequencies of a 32 x 32 gray picture against their median (Zauner 2010). Two pictures
are called near when at most NEAR of its 64 bits differ.
"""

from collections.abc import Sequence

import cv2
import numpy as np

NEAR = 4  # bits
_PLAIN = 2.0  # of 255: below this spread of gray a picture has no structure to compare
_CHUNK = 4_000_000  # pairs compared at once


def perceptual_hash(image: np.ndarray) -> int:
    """64 bits of an (H, W, 3) uint8 RGB picture; 0 where it is plain, and like no other."""
    gray = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    small = cv2.resize(gray, (32, 32), interpolation=cv2.INTER_AREA).astype(np.float32)
    if small.std() < _PLAIN:
        return 0
    low = cv2.dct(small)[:8, :8].ravel()
    bits = low > np.median(low[1:])  # the first is the brightness
    return int.from_bytes(np.packbits(bits).tobytes())


def find(hashes: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """(K, 3) number, number and differing bits of near pictures in different groups, nearest first.

    hashes: (N,) uint64; groups: (N,) int, the split of each. Of NEAR + 1 pieces of two near hashes
    one at least is equal, so only pictures that share a piece are compared. Of pictures in one
    group with one hash, the first stands for all.
    """
    firsts = np.unique(np.stack((hashes, groups.astype(np.uint64))), axis=1, return_index=True)[1]
    firsts = np.sort(firsts)

    batches = [np.empty((0, 3), np.int64)]
    for shift in range(NEAR + 1):
        width = -(-64 // (NEAR + 1))
        piece = (hashes >> np.uint64(shift * width)) & np.uint64(2**width - 1)
        textured = firsts[hashes[firsts] != 0]
        order = textured[np.argsort(piece[textured], kind="stable")]
        batches += _within(hashes, groups, order, piece[order])

    pairs = np.unique(np.concatenate(batches), axis=0)
    return pairs[np.argsort(pairs[:, 2], kind="stable")]


def _within(
    hashes: np.ndarray, groups: np.ndarray, order: np.ndarray, piece: np.ndarray
) -> Sequence[np.ndarray]:
    """Near pairs among neighbors of equal piece: each with the next, the one after next, ..."""
    batches, step = [], 1

    lower = np.arange(len(order) - 1)
    while len(lower):
        lower = lower[lower + step < len(order)]
        lower = lower[piece[lower] == piece[lower + step]]

        for start in range(0, len(lower), _CHUNK):
            a, b = order[lower[start:][:_CHUNK]], order[lower[start:][:_CHUNK] + step]
            distance = np.bitwise_count(hashes[a] ^ hashes[b]).astype(np.int64)
            is_near = (distance <= NEAR) & (groups[a] != groups[b])
            pairs = np.sort(np.stack((a[is_near], b[is_near]), axis=1), axis=1)
            batches.append(np.column_stack((pairs, distance[is_near])))

        step += 1
    return batches
