"""From values back to the numbers that a file stores; unchanged voxels keep theirs, bit for bit."""

from __future__ import annotations

import numpy as np

from medkit.errors import RunError

LARGEST = 2.0**53  # beyond it, float64 cannot represent every integer


def stored_as_source(
    values: np.ndarray, read: np.ndarray, stored: np.ndarray, slope: float = 1.0, intercept: float = 0.0
) -> np.ndarray:
    """The stored numbers for ``values`` in a source's own scale; all arrays have one shape.

    Parameters
    ----------
    values:
        The values to write.
    read:
        What a reader makes of ``stored``; where ``values`` equal it, they are unchanged.
    stored:
        The source's stored numbers, of any type.
    slope, intercept:
        ``values = slope * stored + intercept``.

    Returns
    -------
    numpy.ndarray
        int64 if the source stores integers: its own number in unchanged voxels, the nearest one in others, which may
        need a wider type than the source's. If the source stores floats, its type.

    Raises
    ------
    RunError
        for values too large for integer steps.
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
    """The first of the integer ``types`` that holds all ``numbers``; int64 if none does."""
    low, high = (int(numbers.min()), int(numbers.max())) if numbers.size else (0, 0)
    for kind in types:
        limits = np.iinfo(kind)
        if limits.min <= low and high <= limits.max:
            return kind
    return np.dtype(np.int64)
