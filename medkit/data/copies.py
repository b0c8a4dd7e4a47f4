"""Digests by which a copy of an image is found, whatever its file, its patient and its preparation are called."""

from __future__ import annotations

import hashlib

import cv2
import numpy as np

COUNT = 2
"""Slices of each image that are kept."""
ROWS, COLUMNS = 16, 17
LEAST = 16  # of 256 comparisons: a slice of air or padding looks like many others


def image_digests(voxels: np.ndarray) -> tuple[int, ...]:
    """64-bit digests of the ``COUNT`` slices of an image (D,H,W) with the smallest ones; fewer if others are empty.

    A slice is averaged to 16 x 17 and each value compared with its right neighbour (as dHash does): 256 bits, which a
    positive scale and an offset leave as they are, and a mirrored, cropped or resampled slice does not have. The
    smallest digests are chosen by content, so that a copy chooses the same ones. Slices without structure have none.
    """
    found = set()
    for image in voxels:
        small = cv2.resize(np.asarray(image, np.float32), (COLUMNS, ROWS), interpolation=cv2.INTER_AREA)
        bits = small[:, 1:] > small[:, :-1]
        if bits.sum() >= LEAST:
            packed = np.packbits(bits).tobytes()
            found.add(int.from_bytes(hashlib.blake2b(packed, digest_size=8, person=b"slice").digest(), "little"))
    return tuple(sorted(found)[:COUNT])
