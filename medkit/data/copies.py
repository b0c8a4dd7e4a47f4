"""Digests that find copies of an image, whatever its file, patient and preparation are called."""

from __future__ import annotations

import hashlib

import cv2
import numpy as np

COUNT = 2
"""Number of slices of each image whose digests are kept."""
ROWS, COLUMNS = 16, 17
LEAST = 16  # of 256 comparisons: a slice of air or padding looks like many others


def image_digests(voxels: np.ndarray) -> tuple[int, ...]:
    """The ``COUNT`` smallest of the 64-bit digests of an image's slices (D,H,W); fewer if others are empty.

    A slice is averaged to 16 x 17 and each value compared with its right neighbour (as in dHash): 256 bits, which do
    not change with a positive scale and an offset, but do if a slice is mirrored, cropped or resampled. Taking the
    smallest digests selects slices by content, so that a copy selects the same ones. Slices without structure have
    none.
    """
    found = set()
    for image in voxels:
        small = cv2.resize(np.asarray(image, np.float32), (COLUMNS, ROWS), interpolation=cv2.INTER_AREA)
        bits = small[:, 1:] > small[:, :-1]
        if bits.sum() >= LEAST:
            packed = np.packbits(bits).tobytes()
            found.add(int.from_bytes(hashlib.blake2b(packed, digest_size=8, person=b"slice").digest(), "little"))
    return tuple(sorted(found)[:COUNT])
