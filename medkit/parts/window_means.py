"""What an encoder of volumes makes of a whole one: the mean over windows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from medkit.parts.sliding import each_window

OVERLAP = 0.5


def mean_over_windows(
    encoder: Callable[[Tensor], Sequence[Tensor]],
    volume: Tensor,
    window: Sequence[int],
    overlap: float = OVERLAP,
    batch: int = 1,
) -> Tensor:
    """(1,F) the mean over an encoder's deepest map in each window of a volume (1,C,D,H,W), and over all windows."""
    found = each_window(lambda x: pooled(encoder(x)[-1]), volume, window, overlap=overlap, batch=batch)
    return found.mean(0, keepdim=True)


def pooled(maps: Tensor) -> Tensor:
    """(N,C) the mean over maps of slices (N,C,H,W) or volumes (N,C,D,H,W)."""
    return maps.mean(tuple(range(2, maps.dim())))


def how(window: Sequence[int], overlap: float = OVERLAP) -> str:
    """What features of a volume are, in words."""
    return f"mean of the deepest map over windows of {'x'.join(map(str, window))} that overlap by {overlap:g}"


def dimensions_of(encoder: Any) -> int:
    """2 for an encoder of slices, 3 for one of volumes."""
    return int(getattr(encoder, "dimensions", 2))
