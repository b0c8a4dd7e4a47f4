"""Is there air in an image? Its numbers are then HU: no other unit has so many voxels just there."""

from __future__ import annotations

import numpy as np

LOWEST, HIGHEST = -1024.0, -500.0
"""HU of air, from where CT is usually cut off to air in lungs; what is lower is padding around the field of view."""
BELOW, ABOVE = (-1500.0, -1100.0), (-500.0, -250.0)
"""Ranges that hold few voxels of CT, exclusive: noise of air, and edges between air and tissue."""
SHARE = 0.001
"""Of all voxels, how many must be air: a few may be padding that was interpolated."""
DENSER = 1.25, 0.5
"""How many times as dense as the ranges below and above it air is at least. Values spread evenly (a phase) or around 0
are not; a crop with a little air in its sinuses may hold more edges than air."""


def has_air(voxels: np.ndarray) -> bool:
    """True if a population of the voxels is at air's HU: a share of them, denser than what lies beside."""
    air = below = above = 0
    for part in voxels:
        low = part[part < ABOVE[1]]
        air += int(np.count_nonzero((low >= LOWEST) & (low <= HIGHEST)))
        below += int(np.count_nonzero((low > BELOW[0]) & (low < BELOW[1])))
        above += int(np.count_nonzero(low > ABOVE[0]))
    if air < max(1, SHARE * voxels.size):
        return False
    density = air / (HIGHEST - LOWEST)
    beside = (below / (BELOW[1] - BELOW[0]), above / (ABOVE[1] - ABOVE[0]))
    return all(density > times * other for times, other in zip(DENSER, beside, strict=True))
