"""Are stored numbers negative? PixelRepresentation says so, and now and then contradicts the pixels."""

from __future__ import annotations

from typing import Any

import numpy as np

from medkit.data.dicom_header import Header
from medkit.data.mend import how
from medkit.errors import InputError

NEGATIVE = 2**16 - 4096
"""16-bit numbers from here on are -4096 to -1 if read as signed."""
IMPOSSIBLE = -1500.0
"""HU below which nothing is but padding."""


def is_signed(stored: np.ndarray, header: Header, padding: np.ndarray | None, limits: tuple[Any, Any]) -> bool:
    """Whether numbers are negative although the header says unsigned, and that is to be mended.

    Raises
    ------
    InputError
        if it is not to be mended: air would be brightest.
    """
    if stored.dtype != np.uint16 or limits[1] < NEGATIVE:
        return False
    inside = stored if padding is None else stored[~padding]
    negative = int((inside >= NEGATIVE).sum())
    if negative <= 0.05 * stored.size:  # a few may be saturated by metal
        return False
    if "signed" not in header.mend.names:
        what = f"the pixels are declared unsigned, but {negative / stored.size:.0%} look like negative numbers"
        hint = f"if they are negative, say so: dcmodify -m PixelRepresentation=1 FILES, or {how('signed')}"
        raise InputError(what, header.where("PixelRepresentation"), hint)
    header.mended.add("signed")
    return True


def check_sign(
    stored: np.ndarray, header: Header, used: int, scale: tuple[float, float], padding: tuple[int, int] | None
) -> None:
    """Refuse CT whose large numbers are declared negative.

    A negative number has its unused bits set. Where they are not, bone of an unsigned image becomes as dark as nothing
    can be.

    Raises
    ------
    InputError
        if there is such a number below -1500 HU that is no declared padding.
    """
    half = 1 << (used - 1)
    if stored.max(initial=0) < half:
        return
    numbers = stored[(stored >= half) & (stored < 2 * half)].astype(np.int64) - 2 * half
    if padding is not None:
        numbers = numbers[(numbers < padding[0]) | (numbers > padding[1])]
    wrong = numbers[scale[0] * numbers + scale[1] < IMPOSSIBLE]
    if wrong.size:
        lowest = scale[0] * wrong.min() + scale[1]
        what = f"the pixels are declared signed, but then {wrong.size} are as low as {lowest:g} HU"
        hint = (
            "if they are unsigned, say so: dcmodify -m PixelRepresentation=0 FILES; if these are padding, declare "
            f"it: dcmodify -i PixelPaddingValue={wrong.min()} FILES"
        )
        raise InputError(what, header.where("PixelRepresentation"), hint)


def without_unused_bits(stored: np.ndarray, used: int) -> np.ndarray:
    """Values of the lowest ``used`` bits, in place."""
    signed = stored.dtype.kind == "i"
    unused = stored.dtype.itemsize * 8 - used
    if unused:
        if not signed and stored.max() >> used:
            stored &= stored.dtype.type((1 << used) - 1)
        elif signed and (stored.min() < -(1 << (used - 1)) or stored.max() >= 1 << (used - 1)):
            stored <<= unused
            stored >>= unused
    return stored
