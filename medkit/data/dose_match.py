"""The noise that a simulated lower dose is to add, and where."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from medkit.data.region import Region
from medkit.errors import InputError

LEAST = 0.5
"""Noise in HU below which rounding to integer HU dominates."""
TISSUE = "hu=10:70"


@dataclass(frozen=True)
class Match:
    """The noise that a lower dose is to add in a region of the scan.

    Parameters
    ----------
    hu:
        Standard deviation in HU of the difference from the scan, over the region.
    region:
        As :class:`medkit.data.region.Region` reads it; padding is excluded.
    each_slice:
        Every slice has its own number of photons, as with longitudinal tube current modulation; a slice without a pixel
        of the region has that of the nearest one with some. Otherwise the whole scan has one number, which adds ``hu``
        over the region in all slices.
    """

    hu: float
    region: str = TISSUE
    each_slice: bool = False

    def __post_init__(self) -> None:
        if not LEAST <= self.hu < math.inf:
            raise InputError(f"noise to match is {LEAST:g} HU or more, not {self.hu:g}", hint="images are in whole HU")
        Region.of(self.region)

    def found(self, photons: np.ndarray) -> str:
        """How many photons per ray add the noise, in words."""
        few, many = f"{photons.min():.3g}", f"{photons.max():.3g}"
        number = few if few == many else f"{few} to {many}"
        return f"{number} photons per ray add {self.hu:g} HU in {self.region}"


def match_of(hu: float | None, region: str | None, each_slice: bool, photons: float | None) -> Match | None:
    """A match from single options; raises :class:`InputError` if they contradict each other."""
    if hu is None:
        if region is not None or each_slice:
            raise InputError("a region, or each slice, to match noise in, but no noise", hint="give match_hu too")
        return None
    if photons is not None:
        raise InputError("match_hu finds the photons, but photons are given too", hint="leave out one of them")
    return Match(hu, TISSUE if region is None else region, each_slice)
