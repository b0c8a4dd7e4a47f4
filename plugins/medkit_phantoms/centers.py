"""The centres: scanners and patients that differ, so that an external test set is one.

Spacing and slice thickness are around those of Table 4 of the thesis (0.41-0.43 mm at 512x512, about 5 mm), and
are spread further apart on purpose.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Center:
    """How one hospital scans, and whom.

    ``field`` of view in mm; ``thickness`` of a slice in mm; ``noise`` std in HU at 5 mm slices of 0.82 mm pixels;
    ``cutoff`` of the kernel in cycles/mm; ``edge`` is its overshoot (0 soft); ``tilt`` of the gantry in degrees;
    ``bias`` in HU; ``volume`` the median bleed in mL and ``spread`` the standard deviation of its logarithm;
    ``old`` the share of old (dim) bleeds; ``subtypes`` the weights of CPH, IVH, EDH, SDH, SAH; ``age`` mean years.
    """

    field: float
    thickness: float
    noise: float
    cutoff: float
    edge: float
    tilt: float
    bias: float
    volume: float
    spread: float
    old: float
    subtypes: tuple[float, float, float, float, float]
    age: float


CENTERS: dict[str, Center] = {
    "A": Center(212, 5.0, 2.6, 0.30, 0.0, 0, 0.0, 13, 1.35, 0.15, (3, 2, 2, 3, 2), 55),
    "B": Center(222, 4.0, 3.6, 0.48, 0.5, 12, 1.0, 14, 1.3, 0.20, (3, 2, 1, 3, 3), 58),
    "C": Center(230, 3.0, 4.4, 0.36, 0.2, -8, -1.5, 8, 1.4, 0.30, (3, 1, 2, 4, 3), 60),
    "D": Center(240, 7.0, 2.2, 0.42, 0.8, 0, 0.5, 7, 1.2, 0.10, (2, 1, 4, 3, 1), 33),
}
