"""Reading and writing NIfTI, turned to (slice, row, column) in LPS and back to the file's own order."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any, Literal

import nibabel
import numpy as np
from nibabel.orientations import apply_orientation, axcodes2ornt, inv_ornt_aff, io_orientation, ornt_transform

import medkit
from medkit.data.resample import irregular
from medkit.data.stored import narrowest, stored_as_source
from medkit.data.volume import Volume
from medkit.data.whole import whole_file
from medkit.errors import InputError

LPS = np.diag([-1.0, -1.0, 1.0, 1.0])  # between RAS, which NIfTI speaks, and LPS


def read_nifti(path: Path) -> Volume:
    """Read a 3-D NIfTI file: axial slices first, rows to the back, columns to the left.

    Raises
    ------
    InputError
        if the file is cut or no NIfTI, not 3-D, without a place in space, or holds values that are not finite.
    """
    try:
        image: Any = nibabel.load(path)
        data = np.asanyarray(image.dataobj)
    except (OSError, EOFError, zlib.error, ValueError, nibabel.filebasedimages.ImageFileError) as error:
        raise InputError(f"this is no whole NIfTI file ({error})", str(path)) from error
    if data.ndim == 4 and data.shape[3] == 1:
        data = data[..., 0]
    if data.ndim != 3:
        raise InputError(f"a volume has 3 dimensions, this file has {data.shape}", str(path), "write one volume a file")
    if data.dtype.kind == "f":
        bad = int((~np.isfinite(data)).sum())
        if bad:
            raise InputError(f"{bad} voxels are not finite (NaN or infinite)", str(path))
        data = data.astype(np.float32)
    elif data.dtype.kind in "iu":
        small = data.size == 0 or (data.min() >= -32768 and data.max() <= 32767)
        data = data.astype(np.int16 if small else np.float32)
    else:
        raise InputError(f"voxels of type {data.dtype} are not grey values", str(path))
    affine = np.asarray(image.affine, float)
    if not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) < 1e-9:
        raise InputError("the affine is singular or not finite (sform and qform)", str(path))
    turn = ornt_transform(io_orientation(affine), axcodes2ornt(("S", "P", "L")))
    voxels = np.ascontiguousarray(apply_orientation(data, turn))
    turned = LPS @ affine @ inv_ornt_aff(turn, data.shape)
    # Rows of voxels come first in our affine: slice, row, column.
    back = ornt_transform(axcodes2ornt(("S", "P", "L")), io_orientation(affine))
    return Volume(voxels, turned, None, {"format": "nifti", "file": str(path), "affine": affine, "back": back})


def write_nifti(volume: Volume, path: Path, *, kind: Literal["mask", "image"] = "image") -> None:
    """Write a volume; one that was read from NIfTI gets the file's own axes, affine, units and scale back.

    Voxels of an image that were not changed keep the numbers that the file stores, and its type as long as that holds
    the others; those are rounded to its steps. Display range, description and extensions of the file go, as they speak
    of its own voxels.

    Raises
    ------
    InputError
        if ``path`` exists or does not end in .nii or .nii.gz, or no NIfTI can say where the slices lie.
    """
    if not path.name.endswith((".nii", ".nii.gz")):
        raise InputError("a NIfTI file ends in .nii or .nii.gz", str(path))
    with whole_file(path) as temporary:
        made = _like_source(volume, kind) if volume.header.get("format") == "nifti" else _new(volume, path)
        made.header["descrip"] = f"medkit {medkit.__version__} {kind}".encode()
        nibabel.save(made, temporary)


def _new(volume: Volume, path: Path) -> Any:
    """An image in scanner coordinates, as sform and qform; ITK trusts the one, other programs the other."""
    problem = irregular(volume)
    if problem is not None:
        raise InputError(f"{problem}: NIfTI cannot hold that", str(path))
    affine = _columns_first(LPS @ volume.affine)
    made: Any = nibabel.Nifti1Image(np.ascontiguousarray(volume.voxels.transpose(2, 1, 0)), affine)
    made.set_sform(affine, 1)
    made.set_qform(affine, 1)
    made.header.set_xyzt_units("mm")
    return made


def _like_source(volume: Volume, kind: Literal["mask", "image"]) -> Any:
    source: Any = nibabel.load(volume.header["file"])
    data = np.ascontiguousarray(apply_orientation(volume.voxels, volume.header["back"]))
    slope, intercept = 1.0, 0.0
    if kind == "image":
        slope, intercept = float(source.dataobj.slope), float(source.dataobj.inter)
        stored = np.asarray(source.dataobj.get_unscaled()).reshape(data.shape)
        data = stored_as_source(data, np.asarray(source.dataobj).reshape(data.shape), stored, slope, intercept)
        if stored.dtype.kind in "iu":
            data = data.astype(narrowest(data, [stored.dtype, *map(np.dtype, (np.int16, np.uint16, np.int32))]))
    made: Any = nibabel.Nifti1Image(data, volume.header["affine"], source.header.copy(), dtype=data.dtype)
    made.header.set_slope_inter(slope, intercept)  # after the data: nibabel then stores them as they are
    made.header["cal_min"] = made.header["cal_max"] = 0
    made.header.extensions.clear()
    return made


def _columns_first(affine: np.ndarray) -> np.ndarray:
    return affine[:, [2, 1, 0, 3]]
