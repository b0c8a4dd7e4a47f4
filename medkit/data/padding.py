"""Where a CT slice was not reconstructed."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from medkit.data.dicom_pixels import AIR

OUTSIDE = -1500.0
"""HU up to which a pixel is padding around the field of view (-1500, -2000, -3024) that no tag declares."""


def padding(image: np.ndarray) -> np.ndarray:
    """(H,W) bool: pixels of a slice in HU that are padding.

    They are at -1500 HU or below; or they have the value, at most that of air (-1024), that fills everything outside
    the circle inscribed in the image, and are connected to it.
    """
    found: np.ndarray = image <= OUTSIDE
    height, width = image.shape
    y, x = np.ogrid[:height, :width]
    # Two pixels of tolerance: the circle is the field of view only up to rounding.
    radius = min(height, width) / 2 + 2
    corners = np.hypot(y - (height - 1) / 2, x - (width - 1) / 2) > radius
    values = image[corners]
    if values.size and values[0] <= AIR and (values == values[0]).all():
        pieces, _ = ndimage.label(image == values[0])
        found |= np.isin(pieces, np.unique(pieces[corners]))
    return found
