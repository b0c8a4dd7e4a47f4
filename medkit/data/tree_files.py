"""NIfTI and PNG files of a tree, by their headers: size and spacing, or why a file is left out."""

from __future__ import annotations

import re
import struct
from pathlib import Path
from typing import Any

import nibabel
import numpy as np

from medkit.data.limits import check_size
from medkit.data.nifti import corrections, millimetres, place_of, volume_of
from medkit.data.png import SIGNATURE
from medkit.data.volume import odd_size
from medkit.errors import InputError

MASK_NAMES = re.compile(r"(^|[_.-])(mask|masks|seg|segmentation|label|labels|labelmap|roi)\d*$", re.IGNORECASE)
MASK_FOLDERS = re.compile(r"^(masks?|labels?(tr|ts)?|segmentations?)$", re.IGNORECASE)
CHANNEL = re.compile(r"_0000$")
"""How names of images end for nnU-Net."""
ENDINGS = (".nii.gz", ".hdr.gz", ".nii", ".hdr", ".png", ".dcm", ".ima")


def stem(name: str) -> str:
    """A file's name without the ending of its format."""
    ending = next((ending for ending in ENDINGS if name.lower().endswith(ending)), "")
    return name[: len(name) - len(ending)]


def identity(name: str) -> str:
    """The part of the name that image and mask of a case share: without ending, channel and the word for a mask."""
    return MASK_NAMES.sub("", CHANNEL.sub("", stem(name)))


def is_mask(path: Path, root: Path) -> bool:
    """Whether the name of a file, or of a folder that contains it, says that it is a mask."""
    folders = path.relative_to(root).parts[:-1]
    return bool(MASK_NAMES.search(stem(path.name))) or any(MASK_FOLDERS.match(name) for name in folders)


def size_of(path: Path) -> dict[str, Any]:
    """Size and spacing (mm) of an image by its header, as columns of a manifest.

    Raises
    ------
    InputError
        if the header cannot be read, or is not that of a 3-D image.
    """
    return _png(path) if path.suffix.lower() == ".png" else _nifti(path)


def _nifti(path: Path) -> dict[str, Any]:
    try:
        with corrections():
            image: Any = nibabel.load(path)
    except Exception as error:  # nibabel raises whatever the damage leads to
        raise InputError(f"this is not a NIfTI file ({type(error).__name__})", str(path), "is it cut short?") from error
    shape = volume_of([int(side) for side in image.shape], path)
    if min(shape) < 1:
        raise InputError(f"the file has no voxels: {shape}", str(path))
    check_size(shape, str(path))
    affine, notes = place_of(image, path)
    axes = nibabel.io_orientation(affine)[:, 0]
    if np.isnan(axes).any():
        raise InputError("the affine is singular (sform and qform)", str(path))
    order = np.argsort(axes)  # the file's axes that run left-right, front-back and up-down
    sides = nibabel.affines.voxel_sizes(affine) * millimetres(image, path)
    if odd := odd_size(sides):
        notes = [odd, *notes]
    columns, rows, slices = (shape[i] for i in order)
    found = {"slices": slices, "rows": rows, "columns": columns, "pixel_mm": _mm(sides[order[1]])}
    return found | {"slice_mm": _mm(sides[order[2]]), "note": "; ".join(notes)}


def _png(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        head = file.read(33)
    if head[:8] != SIGNATURE or len(head) < 33 or head[12:16] != b"IHDR":
        raise InputError("this is not a whole PNG file", str(path), "is it cut short?")
    columns, rows = struct.unpack_from(">II", head, 16)
    check_size((rows, columns), str(path))
    return {"slices": 1, "rows": rows, "columns": columns}


def _mm(size: float) -> float:
    return round(float(size), 4)
