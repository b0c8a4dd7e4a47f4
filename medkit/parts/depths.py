"""How many slices volumes have, in training and in exported networks, which take one volume at a time."""

from __future__ import annotations

import torch
from torch import Tensor


def depths(lengths: Tensor, slices: int) -> list[int]:
    """The values of ``lengths`` (B,), for volumes with ``slices`` slices in total or, padded, in each.

    While a network is being exported there is one volume and nothing is padded, so it has all of ``slices``: a number
    that is not known then, and may differ at each call.
    """
    return [slices] if torch.compiler.is_exporting() else lengths.tolist()
