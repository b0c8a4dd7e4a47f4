"""Reading DICOM series: CT in HU, slices along their normal; any doubt is an error that names file and tag."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from medkit.data.dicom_frames import Frame
from medkit.data.dicom_geometry import ONE_OF_THEM, Stack, stack
from medkit.data.dicom_header import Header, pixel_spacing, read_header
from medkit.data.dicom_pixels import (
    apply_modality,
    check_bits,
    extent,
    is_lossy,
    padding_mask,
    padding_range,
    read_pixels,
    read_stack,
    values_of,
    why_not_hu,
)
from medkit.data.dicom_scale import check_scale
from medkit.data.dicom_series import described, form, is_picture, is_scout, scan, series_below, visible, why_image
from medkit.data.limits import check_size
from medkit.data.mend import NOTHING, Mend
from medkit.data.orientation import LPS, Turned, turn
from medkit.data.units import doubt_of_ct
from medkit.data.volume import Units, Volume, odd_size, spacing_of
from medkit.errors import InputError

__all__ = [
    "Header",
    "apply_modality",
    "assemble",
    "check_images",
    "examine",
    "form",
    "is_scout",
    "padding_mask",
    "padding_range",
    "read_files",
    "read_header",
    "read_pixels",
    "read_series",
    "scan",
    "values_of",
    "visible",
    "why_image",
]

CLASSIC = "convert it to single-frame images (emf2sf of dcm4che) or to NIfTI (dcm2niix)"


def read_series(
    folder: Path, series_uid: str | None = None, *, allow_gaps: bool = False, mend: Mend = NOTHING
) -> Volume:
    """Read the only series of a folder, or the named one of several.

    Series that are not grey slices with positions (colour pictures, screenshots) are left out, and reported.

    Raises
    ------
    InputError
        see :func:`read_files`; also for several series, which are listed with how to pick one, and for a folder whose
        images are in folders below it, which are named.
    """
    try:
        found = scan(visible(folder), str(folder), mend)
    except InputError as problem:
        below = series_below(folder) if problem.where == str(folder) else None
        if below is None:
            raise
        raise InputError(problem.what, problem.where, below) from problem
    if series_uid is not None:
        if series_uid not in found:
            raise InputError(f"there is no series {series_uid} here", str(folder), f"series: {', '.join(found)}")
        return assemble(found[series_uid], allow_gaps=allow_gaps)
    chosen = {uid: headers for uid, headers in found.items() if not is_picture(headers)} or found
    if len(chosen) > 1:
        listed = "; ".join(f"{uid} ({described(headers)})" for uid, headers in chosen.items())
        raise InputError(f"{len(chosen)} series are in this folder: {listed}", str(folder), "pick one: FOLDER#UID")
    notes = [f"left out: {described(found[uid])}, not slices with positions" for uid in found if uid not in chosen]
    return assemble(next(iter(chosen.values())), allow_gaps=allow_gaps, notes=notes)


def read_files(files: Sequence[Path], *, allow_gaps: bool = False, mend: Mend = NOTHING) -> Volume:
    """Read DICOM files that make up one series.

    Slices are ordered along the slice normal and turned so that the first is the lowest, rows run to the back and
    columns to the left, as for NIfTI files. A gantry tilt is kept, as a sheared affine. If the spacing of slices
    varies, they keep their own ``positions``.

    Raises
    ------
    InputError
        for missing or duplicate slices, mixed orientations, pixel sizes, sizes or scales, no position or spacing,
        colour, several frames without functional groups, or truncated files.
    """
    found = scan(files, str(files[0] if len(files) == 1 else files[0].parent), mend)
    if len(found) > 1:
        first = next(iter(found.values()))[0]
        what = f"the files belong to {len(found)} series"
        raise InputError(what, first.where("SeriesInstanceUID"), ONE_OF_THEM)
    return assemble(next(iter(found.values())), allow_gaps=allow_gaps)


def assemble(headers: list[Header], *, allow_gaps: bool = False, notes: Sequence[str] = ()) -> Volume:
    """The volume of one series: order and check its headers, then read the pixels."""
    if len(headers) == 1 and headers[0].get("ImagePositionPatient") is None:
        check_images(headers)
        return _flat(headers[0], notes)
    found = examine(headers, allow_gaps)
    headers, notes = found.headers, [*notes, *found.notes]
    check_size((len(headers), *extent(headers[0])), str(headers[0].path.parent))
    voxels, turned = read_stack(headers)
    notes += headers[0].mend.notes(one.mended for one in headers)
    header: dict[str, Any] = {"format": "dicom", **_files(headers), **_kept(headers, turned)}
    units, why = _units(headers, voxels)
    if why:
        header["not_hu"] = why
    elif lossy := sum(is_lossy(header) for header in headers):
        notes.append(f"{lossy} of {len(headers)} images were lossily compressed, so their HU are approximate")
    if odd := odd_size(spacing_of(found.affine)):
        notes.append(odd)
    axial = turn(voxels, LPS @ found.affine)
    positions = found.positions
    if not axial.as_it_was:
        header["back"] = axial.back
        if positions is not None:
            positions = _turned_positions(positions, found.affine, axial, headers[0])
    where = str(headers[0].path.parent)
    for note in notes:
        warnings.warn(f"{where}: {note}", stacklevel=3)
    return Volume(axial.voxels, axial.affine, positions, header, units, found.thickness_known, tuple(notes))


def examine(headers: list[Header], allow_gaps: bool = False) -> Stack:
    """What the headers alone say about a series: its slices in order, or the error that reading it would raise."""
    check_images(headers)
    found = stack(headers, allow_gaps)
    found.notes += _fewer_than_acquired(headers)
    return found


def _files(headers: Sequence[Header]) -> dict[str, Any]:
    """The file of each slice; for frames, their files, and the file and index of each slice."""
    files = [str(header.path) for header in headers]
    frames = [(header.path, header.index) for header in headers if isinstance(header, Frame)]
    if not frames:
        return {"files": files}
    own = list(dict.fromkeys(files))
    return {"files": own, "frames": [(own.index(str(path)), index) for path, index in frames]}


def _kept(headers: Sequence[Header], turned: float | None) -> dict[str, Any]:
    """By which names headers were mended, if any was, and the sum about which MONOCHROME1 was inverted."""
    names = sorted({name for header in headers for name in header.mended})
    return ({"mended": names} if names else {}) | ({} if turned is None else {"turned": turned})


def _turned_positions(positions: np.ndarray, affine: np.ndarray, turned: Turned, first: Header) -> np.ndarray:
    """(D,3) positions of the first voxel of each slice after slices, rows or columns were flipped."""
    if turned.back[0][0] != 0:
        what = "slices that are unevenly spaced and not axial cannot be turned into axial ones"
        raise InputError(what, first.where("ImageOrientationPatient"), "resample them first")
    for axis, (old, flip) in enumerate(turned.back):
        if flip < 0 and old == 0:
            positions = positions[::-1]
        elif flip < 0:
            positions = positions + affine[:3, int(old)] * (turned.voxels.shape[axis] - 1)
    return np.ascontiguousarray(positions)


def check_images(headers: Sequence[Header]) -> None:
    """Check by their headers that these are grey images of one size and scale."""
    first = headers[0]
    for header in headers:
        frames = header.number("NumberOfFrames") or 1
        if frames > 1 and not isinstance(header, Frame):
            what = f"{frames:g} frames in one file, without functional groups that say where each is"
            raise InputError(what, header.where("NumberOfFrames"), CLASSIC)
        if header.text("PixelPresentation").upper() in ("COLOR", "TRUE_COLOR", "MIXED"):
            raise InputError("this is a colour image", header.where("PixelPresentation"), "grey values are needed")
        if (header.number("SamplesPerPixel") or 1) != 1:
            raise InputError("this is a colour image", header.where("SamplesPerPixel"), "grey values are needed")
        if header.text("PhotometricInterpretation") == "PALETTE COLOR":
            what = "this is a colour image: its pixels are indices into a palette"
            raise InputError(what, header.where("PhotometricInterpretation"), "grey values are needed")
        if "MOSAIC" in header.words("ImageType"):
            what = "this is a mosaic: a volume's slices as tiles of one image, without their positions in its header"
            raise InputError(what, header.where("ImageType"), "convert it to NIfTI: dcm2niix FOLDER")
        for tag in ("Rows", "Columns"):
            value = header.number(tag)
            if value is None or value != int(value) or value < 1:
                raise InputError("this is not a whole number of pixels", header.where(tag))
        if (header.get("Rows"), header.get("Columns")) != (first.get("Rows"), first.get("Columns")):
            size = f"{header.get('Rows')}x{header.get('Columns')}"
            raise InputError(f"size {size} differs from {first.name}", header.where("Rows"), ONE_OF_THEM)
        check_bits(header)
        if header is first:
            check_size(extent(header), header.where("Rows"))
    check_scale(headers)


def _fewer_than_acquired(headers: Sequence[Header]) -> list[str]:
    """A note on a series whose one acquisition had more images (positions do not show missing first or last ones)."""
    acquired = {header.number("ImagesInAcquisition") for header in headers}
    if len(acquired) != 1 or len({header.text("AcquisitionNumber") for header in headers}) != 1:
        return []
    number = acquired.pop()
    if number is None or number <= len(headers):
        return []
    return [f"only {len(headers)} of its acquisition's {number:g} images (ImagesInAcquisition) are here"]


def _units(headers: Sequence[Header], voxels: np.ndarray) -> tuple[Units, str | None]:
    """HU if every header says so and the voxels do not contradict it; else stored units, and why."""
    for header in headers:
        why = why_not_hu(header)
        if why is not None:
            return "stored", why
    why = doubt_of_ct(voxels, any(padding_range(header) is not None for header in headers))
    return ("HU", None) if why is None else ("stored", why)


def _flat(header: Header, notes: Sequence[str]) -> Volume:
    """A single image without a position in the patient, such as a radiograph; its depth of 1 mm is made up."""
    spacing = (1.0, 1.0)
    for tag in ("PixelSpacing", "ImagerPixelSpacing"):
        if not header.has(tag):
            continue
        try:
            spacing = pixel_spacing(header, tag)
            break
        except InputError as problem:
            notes = [*notes, f"{tag} is not usable ({problem.what}): pixels count as 1 mm"]
    voxels, turned = read_stack([header])
    notes = [*notes, *header.mend.notes([header.mended])]
    units, why = _units([header], voxels)
    kept = {"format": "dicom", "files": [str(header.path)], **_kept([header], turned)}
    kept |= {"not_hu": why} if why else {}
    affine = np.zeros((4, 4))
    affine[2, 0], affine[1, 1], affine[0, 2], affine[3, 3] = 1, spacing[0], spacing[1], 1
    for note in notes:
        warnings.warn(f"{header.path}: {note}", stacklevel=4)
    return Volume(voxels, affine, None, kept, units, spacing_known=False, notes=tuple(notes))
