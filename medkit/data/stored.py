"""From values back to the numbers that a file stores: untouched voxels keep theirs, bit for bit."""

from __future__ import annotations

import numpy as np

from medkit.errors import RunError

LARGEST = 2.0**53  # beyond it, float64 has not every whole number


def stored_as_source(
    values: np.ndarray, read: np.ndarray, stored: np.ndarray, slope: float = 1.0, intercept: float = 0.0
) -> np.ndarray:
    """The stored numbers of ``values`` in a source's own scale.

    Parameters
    ----------
    values:
        What is to be written.
    read:
        What a reader makes of ``stored``; where ``values`` equal it, they have not been touched.
    stored:
        The source's stored numbers, of any type.
    slope, intercept:
        ``values = slope * stored + intercept``.

    Returns
    -------
    numpy.ndarray
        int64 where the source stores integers: its own number in untouched voxels, the nearest one in others, which may
        need a wider type than the source's. The source's float type where it stores floats.

    Raises
    ------
    RunError
        for values too large to be counted in whole steps.
    """
    untouched = values.astype(np.float32) == read.astype(np.float32)
    new = (values.astype(np.float64) - intercept) / slope
    if stored.dtype.kind == "f":
        return np.where(untouched, stored, new.astype(stored.dtype))
    new[untouched] = 0
    if np.abs(new).max(initial=0) >= LARGEST:
        raise RunError(f"values up to {np.abs(values).max():g} cannot be stored in steps of {abs(slope):g}")
    return np.where(untouched, stored.astype(np.int64), np.rint(new).astype(np.int64))


def narrowest(numbers: np.ndarray, types: list[np.dtype]) -> np.dtype:
    """The first of ``types`` that holds all of the whole ``numbers``; int64 if none does."""
    low, high = (int(numbers.min()), int(numbers.max())) if numbers.size else (0, 0)
    for kind in types:
        limits = np.iinfo(kind)
        if limits.min <= low and high <= limits.max:
            return kind
    return np.dtype(np.int64)
