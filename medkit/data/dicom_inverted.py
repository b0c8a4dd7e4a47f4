"""MONOCHROME1 says that low numbers are bright: such images are read inverted, so that more is brighter everywhere.

HU have a meaning whatever is shown bright, so CT is never inverted.
"""

from __future__ import annotations

import numpy as np

from medkit.data.dicom_header import Header

SHORT = np.iinfo(np.int16)


def is_inverted(header: Header) -> bool:
    """True for an image that is read inverted."""
    return header.text("PhotometricInterpretation") == "MONOCHROME1" and header.text("Modality") != "CT"


def invert(values: np.ndarray, turned: float) -> np.ndarray:
    """``turned - values``, in place if that fits their type, else float32.

    ``turned`` is the smallest plus the largest value of all that is inverted together, which keeps their range.
    """
    if values.dtype != np.int16:
        np.subtract(values.dtype.type(turned), values, out=values)
        return values
    if turned == int(turned) and turned - values.max() >= SHORT.min and turned - values.min() <= SHORT.max:
        whole = np.int64(turned).astype(np.int16)  # this may wrap around, but differences from it are right
        np.subtract(whole, values, out=values)
        return values
    return np.float32(turned) - values.astype(np.float32)
