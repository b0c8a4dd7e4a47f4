"""Where nothing of a CT slice was reconstructed."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from medkit.data.dicom_pixels import AIR

OUTSIDE = -1500.0
"""HU up to which nothing was reconstructed: padding around the field (-1500, -2000, -3024) that no tag declares."""


def padding(image: np.ndarray) -> np.ndarray:
    """(H,W) bool: pixels of a slice in HU that are padding.

    They lie at -1500 HU or below; or they hold the one value, that of air (-1024) or below, that fills all that lies
    outside the circle inscribed in the image, and hang together with it.
    """
    found: np.ndarray = image <= OUTSIDE
    height, width = image.shape
    y, x = np.ogrid[:height, :width]
    # Two pixels of room: the circle is that of the field of view only up to rounding.
    radius = min(height, width) / 2 + 2
    corners = np.hypot(y - (height - 1) / 2, x - (width - 1) / 2) > radius
    values = image[corners]
    if values.size and values[0] <= AIR and (values == values[0]).all():
        pieces, _ = ndimage.label(image == values[0])
        found |= np.isin(pieces, np.unique(pieces[corners]))
    return found
