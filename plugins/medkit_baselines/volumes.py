"""Whole volumes through 3-D networks, one by one and at their own depth."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from medkit.parts.depths import depths


def each_volume(network: Callable[[Tensor], Tensor], features: Tensor, lengths: Tensor, multiple: int = 1) -> Tensor:
    """Logits (B,D,H,W) of a network from (1,C,d,h,w) to (1,1,d,h,w), called with one volume of ``features`` at a time.

    ``features`` are padded slices (B,D,C,H,W), of which the network sees only the first ``lengths[i]`` of volume i.
    Sides that are not a multiple of ``multiple`` are padded with zeros at the end, and cropped back.
    """
    batch, depth, _, height, width = features.shape
    logits = features.new_zeros(batch, depth, height, width)
    found = []
    for i, length in enumerate(depths(lengths, depth)):
        volume = features[i, :length].transpose(0, 1)[None]
        missing = [-side % multiple for side in volume.shape[2:]]
        if any(missing):
            volume = F.pad(volume, [n for side in reversed(missing) for n in (0, side)])
        maps = network(volume)[0, 0, :length, :height, :width]
        found.append(torch.cat([maps, logits[i, length:].to(maps.dtype)]) if length < depth else maps)
    return torch.stack(found)


def enlarge(logits: Tensor, factor: int) -> Tensor:
    """Logits (B,D,h,w) of an encoder's map, enlarged ``factor`` times to the size of its input."""
    return logits if factor == 1 else F.interpolate(logits, scale_factor=(factor, factor), mode="nearest")
