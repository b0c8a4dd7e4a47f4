"""Which patches of an image are masked."""

from __future__ import annotations

import torch
from torch import Tensor

from medkit.api import InputError


def split(images: int, patches: int, ratio: float) -> tuple[Tensor, Tensor]:
    """Patches that are kept (N,K) and masked (N,M) in each image, in row order, drawn by torch's generator.

    M is ``ratio`` of all, rounded.

    Raises
    ------
    InputError
        if none would be kept, or none masked.
    """
    masked = round(ratio * patches)
    if not 0 < masked < patches:
        what = f"of {patches} patches per image, {masked} would be masked (ratio {ratio:g})"
        raise InputError(what, hint="use larger images, or smaller patches")
    order = torch.rand(images, patches).argsort(1)
    return order[:, masked:].sort(1).values, order[:, :masked].sort(1).values
