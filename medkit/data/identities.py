"""Cases that share an ``identity()``: under it the cache keeps one sample, which all of them would get."""

from __future__ import annotations

from typing import Any

import numpy as np

from medkit.data.volume import Volume
from medkit.errors import InputError
from medkit.protocols import Case, Record


def is_of_files(source: Any) -> bool:
    """Whether a source, and every one that it wraps, is medkit's own: their identities name all files that are read.

    A table may list a file twice; reading both rows to learn that they are equal would cost as much as preparing them.
    """
    while source is not None:
        if not type(source).__module__.startswith("medkit.data."):
            return False
        source = getattr(source, "source", None)
    return True


def require_same_voxels(source: Any, one: Case, other: Case) -> None:
    """Refuse two cases of one identity that are not copies of each other; both are read.

    Raises
    ------
    InputError
        naming both, and what differs.
    """
    different = _difference(source.load(one), source.load(other))
    if different is not None:
        what = f"cases '{one.id}' and '{other.id}' have the same identity(), but not the same {different}"
        hint = (
            f"prepared samples are kept by identity(), so one case would get the other's: "
            f"{type(source).__name__}.identity() has to differ wherever load() does (put the case's id into it)"
        )
        raise InputError(what, hint=hint)


def _difference(one: Record, other: Record) -> str | None:
    """What two records differ in."""
    if len(one.channels) != len(other.channels):
        return "number of images"
    images = zip((one.image, *one.channels), (other.image, *other.channels), strict=True)
    if not all(_equal(a, b) for a, b in images):
        return "voxels"
    for name in ("mask", "target"):
        a, b = getattr(one, name), getattr(other, name)
        if (a is None) != (b is None) or (a is not None and not _equal(a, b)):
            return name
    return None


def _equal(one: Volume, other: Volume) -> bool:
    there = one.positions is not None, other.positions is not None
    if there[0] != there[1] or (all(there) and not np.array_equal(one.positions, other.positions)):  # type: ignore[arg-type]
        return False
    if one.units != other.units or one.spacing_known != other.spacing_known:
        return False
    numbers = one.voxels.dtype.kind == "f" and other.voxels.dtype.kind == "f"  # NaN is told of elsewhere
    same = np.array_equal(one.voxels, other.voxels, equal_nan=numbers)
    return same and np.array_equal(one.affine, other.affine)
