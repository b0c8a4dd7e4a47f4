"""Reading DICOM series: CT in HU, slices along their normal; any doubt is an error that names file and tag."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Container, Iterable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pydicom

from medkit.data.dicom_frames import Frame, frames_of
from medkit.data.dicom_geometry import ONE_OF_THEM, Stack, stack
from medkit.data.dicom_header import SEGMENTATIONS, Header, find_header, pixel_spacing, read_header
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
from medkit.data.limits import check_size
from medkit.data.mend import NOTHING, Mend
from medkit.data.orientation import LPS, Turned, turn
from medkit.data.units import doubt
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
DIGITS = re.compile(r"\d+")
PACKED = (".gz", ".bz2", ".xz", ".zip", ".part", ".partial", ".tmp", ".crdownload", ".filepart")
"""Endings of files that are compressed or were not copied completely."""
FORMATS = {"NIfTI": (".nii", ".nii.gz"), "PNG": (".png",)}
"""Other formats that are read, and the endings of their files."""
SCOUTS = {"LOCALIZER", "SCOUT", "TOPOGRAM"}
LOOKED = 1000
"""How many headers are read below a folder without images, to say where there are some."""


def scan(files: Sequence[Path], where: str, mend: Mend = NOTHING) -> dict[str, list[Header]]:
    """Headers of images by series, one per frame if a file has several. Scouts, segmentations, dose reports and files
    that are not DICOM are left out.

    Raises
    ------
    InputError
        if a file is not DICOM although its ending (.dcm, .ima) says so or it is named like the images, if an image has
        no Rows, or if no image is left.
    """
    series: dict[str, list[Header]] = {}
    left_out = {"scout or localizer": 0, "segmentation": 0, "no image": 0, "not DICOM": 0}
    strangers: list[Path] = []
    contours = False
    for path in files:
        header = find_header(path, mend)
        if header is None:
            why = why_image(path, ())
            if why is not None:
                raise InputError(why[0], str(path), why[1])
            strangers.append(path)
            left_out["not DICOM"] += 1
        elif header.get("Rows") is None:
            _check_no_image(header)
            contours = contours or header.text("Modality") == "RTSTRUCT"
            left_out["no image"] += 1
        elif header.text("SOPClassUID") in SEGMENTATIONS:
            left_out["segmentation"] += 1
        else:
            images = [image for image in frames_of(header) if not is_scout(image)]
            if images:
                series.setdefault(header.text("SeriesInstanceUID"), []).extend(images)
            else:
                left_out["scout or localizer"] += 1
    if not series:
        found = ", ".join(f"{count} {name}" for name, count in left_out.items() if count) or "nothing"
        raise InputError(f"no DICOM image was found here ({found})", where, _instead(files, left_out, contours))
    _check_strangers(strangers, (header.path for headers in series.values() for header in headers))
    return series


def _instead(files: Sequence[Path], left_out: Mapping[str, int], contours: bool) -> str | None:
    """What to do about files among which there is no image."""
    if left_out["segmentation"]:
        return "a segmentation is read as the mask of its images"
    if contours:
        return "contours (RTSTRUCT) are not read: convert them to a mask, in 3D Slicer or with plastimatch convert"
    for what, endings in FORMATS.items():
        named = next((path.name for path in files if path.name.lower().endswith(endings)), None)
        if named is not None:
            return f"name {what} images one by one, such as {named}; only DICOM is read as a folder or a list"
    return None


def is_scout(header: Header) -> bool:
    """True for an overview image on which a scan was planned."""
    return bool(SCOUTS & {*header.words("ImageType")})


def _check_no_image(header: Header) -> None:
    """Raise for a file without Rows that has an image's SOP class or none at all: it is cut short."""
    meta = getattr(header.data, "file_meta", {})
    kinds = [header.text("SOPClassUID"), str(meta.get("MediaStorageSOPClassUID") or "")]
    if not any(kinds) or any("Image Storage" in pydicom.uid.UID(kind).name for kind in kinds):
        raise InputError("missing in an image", header.where("Rows"), "is the file cut short?")


def _check_strangers(strangers: Sequence[Path], images: Iterable[Path]) -> None:
    """Raise for a non-DICOM file named like the images beside it: one of them, cut short or compressed."""
    if not strangers:
        return
    forms = {form(path.name) for path in images}
    for path in strangers:
        why = why_image(path, forms)
        if why is not None:
            raise InputError(why[0], str(path), why[1])


def why_image(path: Path, forms: Container[str]) -> tuple[str, str] | None:
    """Why a non-DICOM file must be one of the images beside it, whose names have ``forms``, and what to do; or None."""
    if path.suffix.lower() in (".dcm", ".ima"):
        return "this is not a DICOM file, though its name says so", "is it cut short?"
    packed = path.suffix.lower() in PACKED
    own = form(path.stem if packed else path.name)
    if "0" not in own or own not in forms:
        return None
    what = "this is not a DICOM file, though it is named like the images beside it"
    return what, "unpack it" if packed else "is it cut short? move it elsewhere if it is not one of them"


def form(name: str) -> str:
    """A name with its numbers replaced by 0, and without the ending that DICOM files may have or not."""
    return DIGITS.sub("0", name).removesuffix(".dcm")


def visible(folder: Path) -> list[Path]:
    """The files of a folder in order, without hidden ones (macOS's ``._IM1.dcm`` and ``.DS_Store``)."""
    with os.scandir(folder) as entries:
        return [
            folder / name
            for name in sorted(entry.name for entry in entries if entry.name[0] != "." and entry.is_file())
        ]


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
        below = _below(folder) if problem.where == str(folder) else None
        if below is None:
            raise
        raise InputError(problem.what, problem.where, below) from problem
    if series_uid is not None:
        if series_uid not in found:
            raise InputError(f"there is no series {series_uid} here", str(folder), f"series: {', '.join(found)}")
        return assemble(found[series_uid], allow_gaps=allow_gaps)
    chosen = {uid: headers for uid, headers in found.items() if not is_picture(headers)} or found
    if len(chosen) > 1:
        listed = "; ".join(f"{uid} ({_described(headers)})" for uid, headers in chosen.items())
        raise InputError(f"{len(chosen)} series are in this folder: {listed}", str(folder), "pick one: FOLDER#UID")
    notes = [f"left out: {_described(found[uid])}, not slices with positions" for uid in found if uid not in chosen]
    return assemble(next(iter(chosen.values())), allow_gaps=allow_gaps, notes=notes)


def is_picture(headers: Sequence[Header]) -> bool:
    """True for a series that cannot be a volume: colour, or several images of which none has a position."""
    colour = any((header.number("SamplesPerPixel") or 1) != 1 for header in headers)
    return colour or (len(headers) > 1 and all(header.get("ImagePositionPatient") is None for header in headers))


def _described(headers: Sequence[Header]) -> str:
    first = headers[0]
    number, thickness = first.text("SeriesNumber"), first.number("SliceThickness")
    kernel = "/".join(first.words("ConvolutionKernel"))
    said = [
        f"number {number}" if number else "",
        f"'{first.text('SeriesDescription')}'" if first.text("SeriesDescription") else first.text("Modality"),
        f"{thickness:g} mm thick" if thickness else "",
        f"kernel {kernel}" if kernel else "",
        f"{len(headers)} image{'s' if len(headers) != 1 else ''}",
    ]
    return ", ".join(text for text in said if text)


def _below(folder: Path) -> str | None:
    """Which folders below hold images, as a hint; None if there are none."""
    counts: dict[str, set[str]] = {}
    seen = 0
    for root, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        here = Path(root)
        for name in sorted(name for name in names if not name.startswith(".")):
            if here == folder:
                continue
            seen += 1
            if seen > LOOKED:
                break
            try:
                header = find_header(here / name)
            except InputError:
                continue
            if header is not None and header.has("Rows"):
                counts.setdefault(str(here.relative_to(folder)), set()).add(header.text("SeriesInstanceUID"))
        if seen > LOOKED:
            break
    if not counts:
        return None
    named = ", ".join(f"{name} ({len(series)} series)" for name, series in islice(counts.items(), 8))
    more = ", and more" if len(counts) > 8 or seen > LOOKED else ""
    return f"folders below it have images; name one of them: {named}{more}"


def read_files(files: Sequence[Path], *, allow_gaps: bool = False, mend: Mend = NOTHING) -> Volume:
    """Read DICOM files that make up one series.

    Slices are ordered along the slice normal and turned so that the first is the lowest, rows run to the back and
    columns to the left, as for NIfTI files. A gantry tilt is kept, as a sheared affine. If the spacing of slices
    varies, they keep their own ``positions``.

    Raises
    ------
    InputError
        for missing or duplicate slices, mixed orientations, pixel sizes or sizes, no position or spacing, colour,
        several frames without functional groups, or truncated files.
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
    voxels = read_stack(headers)
    notes += headers[0].mend.notes(one.mended for one in headers)
    header: dict[str, Any] = {"format": "dicom", **_files(headers), **_mended(headers)}
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


def _mended(headers: Sequence[Header]) -> dict[str, Any]:
    """By which names headers were mended, if any was."""
    names = sorted({name for header in headers for name in header.mended})
    return {"mended": names} if names else {}


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
    """Check by their headers that these are grey images of one size."""
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
    if any(image.min() < 0 for image in voxels):  # one slice settles it, so the others need not be read
        return "HU", None
    why = doubt(float(voxels.min()), float(voxels.max()), header_says_ct=True)
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
    voxels = read_pixels(header)[None]
    notes = [*notes, *header.mend.notes([header.mended])]
    units, why = _units([header], voxels)
    kept = {"format": "dicom", "files": [str(header.path)], **_mended([header])} | ({"not_hu": why} if why else {})
    affine = np.zeros((4, 4))
    affine[2, 0], affine[1, 1], affine[0, 2], affine[3, 3] = 1, spacing[0], spacing[1], 1
    for note in notes:
        warnings.warn(f"{header.path}: {note}", stacklevel=4)
    return Volume(voxels, affine, None, kept, units, spacing_known=False, notes=tuple(notes))
