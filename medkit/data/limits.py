"""How large an image may be, checked by its header before anything is allocated."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence

from medkit.errors import InputError

VARIABLE = "MEDKIT_MAX_IMAGE_GIB"
DEFAULT = 8.0


def check_size(shape: Sequence[int], where: str) -> None:
    """Raise if voxels of ``shape`` would take more memory than an image may, as float32.

    A volume may take 8 GiB and a single slice an eighth of that (2^28 pixels); ``MEDKIT_MAX_IMAGE_GIB`` sets another
    limit for the volume.
    """
    text = os.environ.get(VARIABLE, str(DEFAULT))
    try:
        limit = float(text)
    except ValueError as error:
        raise InputError(f"'{text}' is not a number of GiB", VARIABLE, "such as 8") from error
    if any(side < 1 for side in shape):
        raise InputError(f"an image of {'x'.join(str(side) for side in shape)} pixels is empty", where)
    pixels = math.prod(int(side) for side in shape)
    flat = sum(side > 1 for side in shape) <= 2
    gib = pixels * 4 / 2**30
    if gib > (limit / 8 if flat else limit):
        what = f"an image of {'x'.join(str(side) for side in shape)} pixels would take {gib:.1f} GiB"
        raise InputError(what, where, f"set a larger {VARIABLE} (now {limit:g}) to allow it")
