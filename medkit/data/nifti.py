"""Reading and writing NIfTI, turned to (slice, row, column) in LPS and back to the file's own order."""

from __future__ import annotations

import gzip
import logging
import math
import struct
import warnings
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import nibabel
import numpy as np

import medkit
from medkit.data.limits import check_size
from medkit.data.orientation import LPS, turn, turn_back
from medkit.data.resample import irregular
from medkit.data.stored import narrowest, stored_as_source
from medkit.data.units import doubt
from medkit.data.volume import Units, Volume, is_singular, odd_size, spacing_of
from medkit.data.whole import whole_file
from medkit.errors import InputError

LENGTHS = tuple(struct.pack(order + "i", length) for order in "<>" for length in (348, 540))
"""What a header begins with: its length, in either byte order, in NIfTI-1 and NIfTI-2."""


def read_nifti(path: Path) -> Volume:
    """Read a 3-D NIfTI file as (D,H,W): axial slices, rows to the back, columns to the left.

    Its values are HU if they include air. A file does not say its units, so without air they stay unknown
    (:func:`medkit.data.units.doubt_of`).

    Raises
    ------
    InputError
        if the file is truncated or not NIfTI, not 3-D, too large, or has a singular affine or values that are not
        finite.
    """
    _check_name(path)
    with corrections() as corrected:
        image, data, more = _loaded(path)
    data = data.reshape(volume_of(data.shape, path))
    if data.dtype.kind == "f":
        bad = int((~np.isfinite(data)).sum())
        if bad:
            what = f"{bad} voxels are not finite (NaN or infinite)"
            raise InputError(what, str(path), "give them values, such as that of air")
        data = data.astype(np.float32)
        if not np.isfinite(data).all():
            raise InputError("voxels are too large for 32-bit floats", str(path), "is its scl_slope right?")
    elif data.dtype.kind in "iu":
        small = data.min() >= -32768 and data.max() <= 32767
        data = data.astype(np.int16 if small else np.float32)
    else:
        kind = "colours" if data.dtype.names else f"voxels of type {data.dtype}"
        hint = "save one number per voxel: a magnitude, or one of the channels"
        raise InputError(f"{kind} are not grey values", str(path), hint)
    affine, notes = place_of(image, path)
    if more > 0:
        notes = [f"{more} bytes follow its voxels: does its header give a wrong size?", *notes]
    if corrected:
        said = "; ".join(dict.fromkeys(corrected))
        notes = [f"its header is not valid and was corrected to what was probably meant: {said}", *notes]
    axial = turn(data, np.diag([*[millimetres(image, path)] * 3, 1.0]) @ affine)
    if odd := odd_size(spacing_of(axial.affine)):
        notes = [f"{odd} (xyzt_units: {image.header.get_xyzt_units()[0]})", *notes]
    header = {"format": "nifti", "file": str(path), "affine": affine, "back": axial.back}
    why = doubt(data)
    if why is not None:
        header["not_hu"] = why
    for note in notes:
        warnings.warn(f"{path}: {note}", stacklevel=2)
    units: Units | None = "HU" if why is None else None
    return Volume(axial.voxels, axial.affine, None, header, units, notes=tuple(notes))


def volume_of(shape: Sequence[int], path: Path) -> tuple[int, ...]:
    """The three sides of the only volume in a file of this shape; further axes are of length one.

    Raises
    ------
    InputError
        if it holds several volumes or components, or a single slice without a third axis.
    """
    sides, others = tuple(shape[:3]), tuple(shape[3:])
    if len(sides) == 3 and all(length == 1 for length in others):
        return sides
    what = f"a volume has 3 dimensions, but this file has shape {tuple(shape)}"
    hint = "write one volume per file"
    if len(sides) < 3:
        hint = "give it a third axis of length one, and the thickness of the slice along it"
    raise InputError(what, str(path), hint)


@contextmanager
def corrections() -> Iterator[list[str]]:
    """What nibabel says about a header that it corrects, which it would print without the file's name."""
    said: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: said.append(record.getMessage())  # type: ignore[method-assign]
    logger = nibabel.imageglobals.logger
    before, logger.handlers = logger.handlers, [handler]
    try:
        yield said
    finally:
        logger.handlers = before


def _check_name(path: Path) -> None:
    """Refuse a name that contradicts the file's compression, since nibabel goes by the name."""
    with path.open("rb") as file:
        zipped = file.read(2) == b"\x1f\x8b"
    named = path.name.lower().endswith(".gz")
    if zipped and not path.name.lower().endswith(".img.gz"):  # which holds no header
        _check_zipped(path)
    if zipped and not named:
        hint = f"rename it to {path.name.removesuffix('.nii')}.nii.gz"
        raise InputError("this is compressed with gzip, but its name does not say so", str(path), hint)
    if named and not zipped:
        raise InputError("this is not compressed, though its name ends in .gz", str(path), f"rename it to {path.stem}")


def _check_zipped(path: Path) -> None:
    """Refuse a compressed file that holds something else."""
    try:
        with gzip.open(path) as file:
            start = file.read(348)
    except (OSError, EOFError, zlib.error):
        return  # damaged, which reading it reports
    if start[:4] in LENGTHS:
        return
    hint = "unpack it first"
    if start[128:132] == b"DICM":
        raise InputError("this is DICOM, compressed with gzip", str(path), f"{hint}: gunzip FILE")
    if path.name.lower().endswith(".mgz"):
        hint = "convert it: mri_convert IN OUT.nii.gz (FreeSurfer)"
    raise InputError("this is compressed with gzip, but holds no NIfTI", str(path), hint)


def _loaded(path: Path) -> tuple[Any, np.ndarray, int]:
    """The file and its array, whose size is checked before it is read, and how many bytes follow it."""
    try:
        image: Any
        if path.name.lower().endswith(".nii.gz"):
            image, more = _unzipped(path)
        else:
            image, more = nibabel.load(path), 0
        check_size(image.shape, str(path))
        if path.name.lower().endswith(".nii"):
            size = math.prod(image.shape) * image.header.get_data_dtype().itemsize
            more = path.stat().st_size - int(image.dataobj.offset) - size
        return image, np.asanyarray(image.dataobj), more
    except InputError:
        raise
    except (OSError, EOFError, zlib.error, ValueError, nibabel.filebasedimages.ImageFileError) as error:
        raise InputError(f"this is not a whole NIfTI file ({error})", str(path), "is it cut short?") from error
    except Exception as error:
        raise InputError(
            f"the NIfTI header is damaged ({error})", str(path), "convert it again from its source"
        ) from error


def _unzipped(path: Path) -> tuple[Any, int]:
    """A compressed file, read to its end, where its checksum is; nibabel stops at the end of the voxels.

    Also how many bytes follow the voxels.
    """
    with gzip.open(path) as file:
        start = file.read(540)
        kind: Any = nibabel.Nifti2Image if start[4:7] in (b"n+2", b"ni2") else nibabel.Nifti1Image
        header = kind.header_class(start[: kind.header_class.template_dtype.itemsize])
        shape = header.get_data_shape()
        check_size(shape, str(path))
        wanted = header.get_data_offset() + math.prod(shape) * header.get_data_dtype().itemsize
        data = start + file.read(max(0, int(wanted) - len(start)))
        more = max(0, len(start) - int(wanted))
        while rest := file.read(2**20):
            more += len(rest)
    return kind.from_bytes(data), more


def place_of(image: Any, path: Path) -> tuple[np.ndarray, list[str]]:
    """The affine (4x4) in the file's own unit of length, and notes about it."""
    affine = np.asarray(image.affine, float)
    if is_singular(affine):
        raise InputError("the affine is singular or not finite (sform and qform)", str(path), "correct it in the file")
    codes = [int(image.header[name]) for name in ("sform_code", "qform_code")]
    if not any(codes):
        return affine, [
            "its position in space is unknown (sform_code and qform_code are 0), so its orientation is a guess: "
            "columns of voxels to the left, rows to the front"
        ]
    if all(codes):
        between = image.header.get_sform() - image.header.get_qform()
        corners = np.array([[0, 0, 0, 1], [*(side - 1 for side in image.shape[:3]), 1]])
        apart = float(np.linalg.norm((corners @ between.T)[:, :3], axis=1).max())
        if apart > np.linalg.norm(affine[:3, :3], axis=0).min():
            return affine, [f"sform and qform place it up to {apart:.3g} mm apart; the sform is used"]
    sides = np.linalg.norm(affine[:3, :3], axis=0)
    said = np.abs(np.asarray(image.header["pixdim"][1:4], float))
    if codes[0] and not np.allclose(sides, said, rtol=0.01):
        sizes = (" x ".join(f"{side:.4g}" for side in found) for found in (sides, said))
        return affine, ["voxels are {} mm by its sform and {} mm by pixdim; the sform is used".format(*sizes)]
    return affine, []


def millimetres(image: Any, path: Path) -> float:
    """Length of the file's own unit in mm; a file that names none means mm."""
    try:
        unit = image.header.get_xyzt_units()[0]
    except KeyError as error:
        what = f"xyzt_units is {int(image.header['xyzt_units'])}, which is not a unit of length"
        hint = "set it to the affine's unit; in Python: image.header.set_xyzt_units('mm')"
        raise InputError(what, str(path), hint) from error
    return {"meter": 1e3, "micron": 1e-3}.get(unit, 1.0)


def write_nifti(volume: Volume, path: Path, *, kind: Literal["mask", "image"] = "image") -> None:
    """Write a volume; one read from NIfTI gets back the file's axes, affine, units and scale.

    Unchanged voxels of an image keep the numbers that the file stores, and changed ones are rounded to its steps, in
    its type if that can hold them. The file's display range, description and extensions are dropped, since they are
    about its own voxels.

    Raises
    ------
    InputError
        if ``path`` exists or does not end in .nii or .nii.gz, or NIfTI cannot express where the slices are.
    """
    if not path.name.endswith((".nii", ".nii.gz")):
        raise InputError("the name of a NIfTI file has to end in .nii or .nii.gz", str(path))
    if volume.voxels.dtype == bool:
        volume = volume.like(volume.voxels.astype(np.uint8))
    with (
        whole_file(path) as temporary,
        corrections(),
    ):  # what is wrong in the source's header was reported when it was read
        made = _like_source(volume, kind) if volume.header.get("format") == "nifti" else _new(volume, path)
        made.header["descrip"] = f"medkit {medkit.__version__} {kind}".encode()
        nibabel.save(made, temporary)


def _new(volume: Volume, path: Path) -> Any:
    """An image in scanner coordinates, as sform and qform, since some programs read one and some the other."""
    problem = irregular(volume)
    if problem is not None:
        raise InputError(f"{problem}: NIfTI cannot hold that", str(path), "resample it to an even grid first")
    here = volume.affine.copy()
    here[:3, 3] = volume.slice_positions()[0]
    affine = _columns_first(LPS @ here)
    made: Any = nibabel.Nifti1Image(np.ascontiguousarray(volume.voxels.transpose(2, 1, 0)), affine)
    made.set_sform(affine, 1)
    made.set_qform(affine, 1)
    made.header.set_xyzt_units("mm")
    return made


def _like_source(volume: Volume, kind: Literal["mask", "image"]) -> Any:
    source: Any = nibabel.load(volume.header["file"])
    data = np.ascontiguousarray(turn_back(volume.voxels, volume.header["back"]))
    slope, intercept = 1.0, 0.0
    if kind == "image":
        slope, intercept = float(source.dataobj.slope), float(source.dataobj.inter)
        stored = np.asarray(source.dataobj.get_unscaled()).reshape(data.shape)
        data = stored_as_source(data, np.asarray(source.dataobj).reshape(data.shape), stored, slope, intercept)
        if stored.dtype.kind in "iu":
            data = data.astype(narrowest(data, [stored.dtype, *map(np.dtype, (np.int16, np.uint16, np.int32))]))
    two = isinstance(source.header, nibabel.Nifti2Header)
    form: Any = nibabel.Nifti2Image if two else nibabel.Nifti1Image
    made: Any = form(data, volume.header["affine"], source.header.copy(), dtype=data.dtype)
    made.header.set_slope_inter(slope, intercept)  # after the data: nibabel then stores them as they are
    made.header["cal_min"] = made.header["cal_max"] = 0
    made.header.extensions.clear()
    return made


def _columns_first(affine: np.ndarray) -> np.ndarray:
    return affine[:, [2, 1, 0, 3]]
