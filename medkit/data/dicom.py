"""Reading DICOM series: HU always, slices along their normal, every doubt an error that names file and tag."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom.errors import InvalidDicomError
from pydicom.pixels import apply_rescale

from medkit.data.volume import Volume
from medkit.errors import InputError

AIR = -1024
TAGS = {
    "SeriesInstanceUID": "(0020,000E)",
    "ImageOrientationPatient": "(0020,0037)",
    "ImagePositionPatient": "(0020,0032)",
    "PixelSpacing": "(0028,0030)",
    "Rows": "(0028,0010)",
    "NumberOfFrames": "(0028,0008)",
    "SamplesPerPixel": "(0028,0002)",
    "ImageType": "(0008,0008)",
    "PixelData": "(7FE0,0010)",
}
DECODERS = "pip install python-gdcm pyjpegls pylibjpeg-openjpeg"


@dataclass
class Header:
    """What sorting needs of one file."""

    path: Path
    data: pydicom.Dataset

    def get(self, name: str) -> Any:
        return self.data.get(name)

    @property
    def name(self) -> str:
        return self.path.name

    def where(self, tag: str) -> str:
        return f"{self.path} {TAGS[tag]} {tag}"


def read_header(path: Path) -> pydicom.Dataset:
    """One file's header; raises :class:`InputError` for anything but a whole DICOM file."""
    try:
        return pydicom.dcmread(path, stop_before_pixels=True)
    except InvalidDicomError as error:
        raise InputError("this is not a DICOM file", str(path)) from error
    except (OSError, EOFError, ValueError, KeyError, NotImplementedError) as error:
        raise InputError(f"the DICOM header cannot be read ({error})", str(path), "is the file cut short?") from error


def is_dicom(path: Path) -> bool:
    """True if the file carries DICOM's magic bytes."""
    try:
        with path.open("rb") as file:
            return file.read(132)[128:] == b"DICM"
    except OSError:
        return False


def scan(files: Sequence[Path], where: str) -> dict[str, list[Header]]:
    """Headers of image files by series. Scouts, dose reports and files that are no DICOM are left out.

    Raises
    ------
    InputError
        if a file that calls itself DICOM (.dcm, .ima) is none, or no image is left.
    """
    series: dict[str, list[Header]] = {}
    left_out = {"scout or localizer": 0, "no image": 0, "not DICOM": 0}
    for path in files:
        if not is_dicom(path):
            if path.suffix.lower() in (".dcm", ".ima"):
                raise InputError("this is not a DICOM file, though its name says so", str(path), "is it cut short?")
            left_out["not DICOM"] += 1
            continue
        header = Header(path, read_header(path))
        kinds = [str(word).upper() for word in header.get("ImageType") or []]
        if header.get("Rows") is None:
            left_out["no image"] += 1
        elif any(word in ("LOCALIZER", "SCOUT", "TOPOGRAM") for word in kinds):
            left_out["scout or localizer"] += 1
        else:
            series.setdefault(str(header.get("SeriesInstanceUID") or ""), []).append(header)
    if not series:
        found = ", ".join(f"{count} {name}" for name, count in left_out.items() if count) or "nothing"
        raise InputError(f"no DICOM image was found here ({found})", where)
    return series


def read_series(folder: Path, series_uid: str | None = None, *, allow_gaps: bool = False) -> Volume:
    """Read the one series of a folder, or the named one of several.

    Raises
    ------
    InputError
        see :func:`read_files`; also for several series, which are listed with how to pick one.
    """
    files = sorted(path for path in folder.iterdir() if path.is_file())
    found = scan(files, str(folder))
    if series_uid is not None:
        if series_uid not in found:
            raise InputError(f"no series {series_uid} is here", str(folder), f"series: {', '.join(found)}")
        return assemble(found[series_uid], allow_gaps=allow_gaps)
    if len(found) > 1:
        listed = "; ".join(f"{uid} ({len(headers)} images)" for uid, headers in found.items())
        raise InputError(
            f"{len(found)} series are in this folder {TAGS['SeriesInstanceUID']}: {listed}",
            str(folder),
            "pick one: FOLDER#UID",
        )
    return assemble(next(iter(found.values())), allow_gaps=allow_gaps)


def read_files(files: Sequence[Path], *, allow_gaps: bool = False) -> Volume:
    """Read DICOM files that make up one series.

    Slices are ordered along the slice normal. A gantry tilt stays: the affine is sheared then. Slices that vary in
    distance keep their own ``positions``. A gap is *missing slices* when it exceeds 1.5 times the largest of slice
    thickness, spacing between slices and median gap: thick slices after thin ones are not.

    Raises
    ------
    InputError
        for missing or duplicate slices, mixed orientation or size, no position or spacing, colour, multi-frame or cut
        files.
    """
    found = scan(files, str(files[0].parent))
    if len(found) > 1:
        raise InputError(f"the files belong to {len(found)} series", f"{files[0]} {TAGS['SeriesInstanceUID']}")
    return assemble(next(iter(found.values())), allow_gaps=allow_gaps)


def assemble(headers: list[Header], *, allow_gaps: bool = False) -> Volume:
    """Order headers, check them, read their pixels."""
    first = headers[0]
    for header in headers:
        if int(header.get("NumberOfFrames") or 1) > 1:
            frames = header.get("NumberOfFrames")
            raise InputError(
                f"{frames} frames in one file are not supported", header.where("NumberOfFrames"), "split it"
            )
        if int(header.get("SamplesPerPixel") or 1) != 1:
            raise InputError("this is a colour image", header.where("SamplesPerPixel"), "grey values are wanted")
        if (header.get("Rows"), header.get("Columns")) != (first.get("Rows"), first.get("Columns")):
            size = f"{header.get('Rows')}x{header.get('Columns')}"
            raise InputError(f"size {size} differs from {first.name}", header.where("Rows"))
    if len(headers) == 1 and first.get("ImagePositionPatient") is None:
        return _flat(first)
    headers, affine, positions = _geometry(headers, allow_gaps)
    voxels = np.stack([read_pixels(header) for header in headers])
    files = [str(header.path) for header in headers]
    return Volume(voxels, affine, positions, {"format": "dicom", "files": files})


def _flat(header: Header) -> Volume:
    """A single image without a place in the patient, such as a radiograph."""
    spacing = header.get("PixelSpacing") or header.get("ImagerPixelSpacing") or (1.0, 1.0)
    affine = np.zeros((4, 4))
    affine[2, 0], affine[1, 1], affine[0, 2], affine[3, 3] = 1, float(spacing[0]), float(spacing[1]), 1
    return Volume(read_pixels(header)[None], affine, None, {"format": "dicom", "files": [str(header.path)]})


def vector(header: Header, tag: str, length: int) -> np.ndarray:
    """The ``length`` numbers of a tag; raises :class:`InputError` if they are not there."""
    value = header.get(tag)
    if value is None or len(value) != length:
        raise InputError(f"{'missing' if value is None else 'incomplete'}: slices cannot be placed", header.where(tag))
    return np.array([float(v) for v in value])


def _geometry(headers: list[Header], allow_gaps: bool) -> tuple[list[Header], np.ndarray, np.ndarray | None]:
    orientation = vector(headers[0], "ImageOrientationPatient", 6)
    for header in headers[1:]:
        if np.abs(vector(header, "ImageOrientationPatient", 6) - orientation).max() > 1e-3:
            raise InputError(f"orientation differs from {headers[0].name}", header.where("ImageOrientationPatient"))
    down, along = vector(headers[0], "PixelSpacing", 2)
    normal = np.cross(orientation[:3], orientation[3:])
    normal /= np.linalg.norm(normal)
    positions = np.array([vector(header, "ImagePositionPatient", 3) for header in headers])
    order = np.argsort(positions @ normal, kind="stable")
    headers, positions = [headers[i] for i in order], positions[order]
    gaps = np.diff(positions @ normal)
    thickness = float(headers[0].get("SliceThickness") or 0)
    for i, gap in enumerate(gaps):
        if gap < 0.01:
            what = f"lies where {headers[i].name} does: two scans in one series?"
            raise InputError(what, headers[i + 1].where("ImagePositionPatient"))
    if len(gaps) and not allow_gaps:
        usual = float(np.median(gaps))
        for i, gap in enumerate(gaps):
            known = [
                float(h.get(t) or 0) for h in headers[i : i + 2] for t in ("SliceThickness", "SpacingBetweenSlices")
            ]
            if gap > 1.5 * max(usual, *known):
                raise InputError(
                    f"slices are missing: {gap:.2f} mm after {headers[i].name}, usually {usual:.2f} mm",
                    headers[i + 1].where("ImagePositionPatient"),
                    "get the whole series, or read it with allow_gaps",
                )
    affine = np.eye(4)
    affine[:3, 0] = (positions[-1] - positions[0]) / (len(headers) - 1) if len(gaps) else normal * (thickness or 1.0)
    affine[:3, 1], affine[:3, 2], affine[:3, 3] = orientation[3:] * down, orientation[:3] * along, positions[0]
    uneven = len(gaps) > 1 and float(gaps.max() - gaps.min()) > max(0.02, 0.01 * float(np.median(gaps)))
    return headers, affine, positions if uneven else None


def read_pixels(header: Header) -> np.ndarray:
    """(H,W) HU of CT (padding becomes air), stored units otherwise (MONOCHROME1 inverted); int16 where exact."""
    try:
        data = pydicom.dcmread(header.path)
        if "PixelData" not in data:
            raise InputError("the file holds no pixels", header.where("PixelData"))
        stored = data.pixel_array
    except InputError:
        raise
    except (RuntimeError, NotImplementedError) as error:
        syntax = header.data.file_meta.TransferSyntaxUID.name
        raise InputError(f"pixels stored as '{syntax}' cannot be decoded", str(header.path), DECODERS) from error
    except (OSError, EOFError, ValueError, KeyError, AttributeError) as error:
        raise InputError(
            f"the pixels cannot be read ({error})", header.where("PixelData"), "is the file cut short?"
        ) from error
    return values_of(stored, data)


def values_of(stored: np.ndarray, data: pydicom.Dataset) -> np.ndarray:
    """What stored numbers of one image stand for, as :func:`read_pixels` gives it; what is written goes back by it."""
    values = apply_modality(stored, data)
    if data.get("Modality") == "CT":
        padding = padding_mask(stored, data)
        if padding is not None:
            values = np.where(padding, np.asarray(AIR, values.dtype), values)
    elif data.get("PhotometricInterpretation") == "MONOCHROME1":
        values = values.max() + values.min() - values
    return values


def apply_modality(stored: np.ndarray, data: pydicom.Dataset) -> np.ndarray:
    """Stored values to HU or modality units; int16 when nothing is lost by it."""
    from pydicom.pixels import apply_modality_lut

    if "ModalityLUTSequence" in data:
        return np.asarray(apply_modality_lut(stored, data), np.float32)
    slope, intercept = float(data.get("RescaleSlope", 1) or 1), float(data.get("RescaleIntercept", 0) or 0)
    if slope == 1 and intercept == int(intercept):
        values = stored.astype(np.int32) + int(intercept)
        small = values.min() >= -32768 and values.max() <= 32767
        return values.astype(np.int16 if small else np.float32)
    return np.asarray(apply_rescale(stored, data), np.float32)


def padding_mask(stored: np.ndarray, data: pydicom.Dataset) -> np.ndarray | None:
    """Pixels outside the field of view by PixelPaddingValue (and its range limit), or None."""
    ends = padding_range(data)
    return None if ends is None else (stored >= ends[0]) & (stored <= ends[1])


def padding_range(data: pydicom.Dataset) -> tuple[int, int] | None:
    """The smallest and largest stored value that is padding, or None."""
    value = data.get("PixelPaddingValue")
    if value is None:
        return None
    bits = int(data.BitsAllocated)
    signed = int(data.get("PixelRepresentation", 0)) == 1

    def as_stored(number: Any) -> int:
        number = int(number)
        return number - 2**bits if signed and number >= 2 ** (bits - 1) else number

    low = as_stored(value)
    limit = data.get("PixelPaddingRangeLimit")
    high = low if limit is None else as_stored(limit)
    return min(low, high), max(low, high)
