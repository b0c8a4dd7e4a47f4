"""Masks that a manifest names: of one class or several, checked for their image's grid and for valid values."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from medkit.data.dicom_header import read_header
from medkit.data.files import shown
from medkit.data.volume import Volume
from medkit.errors import InputError
from medkit.protocols.classes import Classes, check_mask

Read = Callable[[str], Volume]


def read_mask(
    path: str, image: Volume, named: str, classes: Classes | None, read: Read, several: bool = False
) -> Volume:
    """A mask of 0 and 1, or of classes, on the grid of ``image``, whose name in messages is ``named``.

    Parameters
    ----------
    read:
        Reads a file. A DICOM Segmentation is read by its segments instead.
    several:
        Whether it is one of several columns of masks.

    Raises
    ------
    InputError
        if it is on another grid or holds other values.
    """
    from medkit.data import dicom_seg

    if (segmentation := dicom_seg.segmentation_in(Path(path))) is not None:
        return dicom_seg.read_mask(segmentation, image, classes)
    mask = read(path)
    if mask.header.get("format") == "dicom":
        dicom_seg.check_reference(read_header(Path(mask.header["files"][0])), image)
    difference = image.same_grid(mask)
    if difference:
        what = f"mask and image '{named}' lie on different grids ({difference})"
        raise InputError(what, path, "resample the mask to the image's grid")
    values = np.unique(mask.voxels)
    if classes is not None:
        check_mask(values, classes, shown(str(path)), path)
    elif np.array_equal(values, [0, 255]) or np.array_equal(values, [255]):
        mask = mask.like((mask.voxels > 0).astype(np.uint8))
    elif not np.isin(values, (0, 1)).all():
        hint = None if several else "'classes: {1: NAME, 2: NAME}' in the data block names several"
        raise InputError(f"a mask holds 0 and 1 (or 255), this one {values[:6].tolist()}", path, hint)
    return mask


def read_overlapping(paths: Sequence[str], image: Volume, named: str, read: Read) -> Volume:
    """Masks of classes that may overlap as one: the sum of 1, 2, 4 ... wherever each is set."""
    each = [read_mask(path, image, named, None, read, several=True) for path in paths]
    bits = [(mask.voxels > 0).astype(np.uint8) << number for number, mask in enumerate(each)]
    return each[0].like(np.bitwise_or.reduce(bits))
