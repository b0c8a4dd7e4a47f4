"""Reading DICOM Segmentation objects: each segment as a mask on the grid of its image.

A segmentation holds frames of one segment each (PS3.3 A.51), often only for the slices that show it, each with its
position; or frames of segment numbers (label maps). They are placed on the image's grid frame by frame, so a tilt or
uneven spacing makes no difference; a frame that is on no slice is an error.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from medkit.data.dicom_frames import Frame, frames_of
from medkit.data.dicom_geometry import axes
from medkit.data.dicom_header import SEGMENTATIONS, Header, find_header, is_dicom, pixel_spacing, read_header, vector
from medkit.data.dicom_pixels import extent, stored_pixels
from medkit.data.dicom_series import visible
from medkit.data.limits import check_size
from medkit.data.volume import Volume
from medkit.errors import InputError
from medkit.protocols.classes import Classes


@dataclass(frozen=True)
class Segment:
    """One class of a segmentation: its name, and its mask, (D,H,W) of 0 and 1."""

    label: str
    mask: np.ndarray


def segmentation_in(path: Path) -> Path | None:
    """The segmentation at ``path``: a file, or the only file of a folder; None for anything else."""
    if path.is_dir():
        files = visible(path)
        return segmentation_in(files[0]) if len(files) == 1 else None
    if not path.is_file() or not is_dicom(path):
        return None
    header = find_header(path)
    return path if header is not None and header.text("SOPClassUID") in SEGMENTATIONS else None


def read_mask(path: Path, image: Volume, classes: Classes | None = None) -> Volume:
    """The only segment of a segmentation as a mask on the image's grid, or those labelled like ``classes``.

    Raises
    ------
    InputError
        as :func:`read_segments` does; also for several segments without ``classes``, for a segment that is not one of
        them, and for two in one voxel if classes exclude each other.
    """
    segments = read_segments(path, image)
    if classes is not None:
        return image.like(_of_classes(segments, classes, path))
    if len(segments) != 1:
        names = ", ".join(f"'{segment.label}'" for segment in segments)
        what = f"a mask is one segment, but this segmentation has {len(segments)}: {names}"
        raise InputError(what, str(path), "write each of them to a file of its own")
    return image.like(segments[0].mask)


def _of_classes(segments: Sequence[Segment], classes: Classes, path: Path) -> np.ndarray:
    """(D,H,W) uint8, the numbers of the classes like which segments are labelled."""
    found = np.zeros(segments[0].mask.shape, np.uint8)
    for segment in segments:
        if segment.label not in classes.names:
            hint = f"classes of the data block: {', '.join(classes.names)}"
            raise InputError(f"the segment '{segment.label}' is not one of the classes", str(path), hint)
        inside = segment.mask > 0
        if not classes.overlapping and found[inside].any():
            what = f"the segment '{segment.label}' shares voxels with another, but the classes exclude each other"
            raise InputError(what, str(path), "a list of classes in the data block allows overlapping ones")
        found[inside] |= classes.value(classes.names.index(segment.label))
    return found


def read_segments(path: Path, image: Volume) -> list[Segment]:
    """The segments of a DICOM Segmentation in order of their numbers, each on the image's grid.

    Parameters
    ----------
    path:
        The file.
    image:
        The image, read from DICOM or NIfTI. Frames may cover only some of its slices, or part of their pixels.

    Raises
    ------
    InputError
        naming file, tag and frame: for fractional segments, another patient or frame of reference than the image's, a
        frame that is on no slice of the image or in the place of another one, or a segment that is not described.
    """
    header = read_header(path)
    frames = frames_of(header)
    if not isinstance(frames[0], Frame):
        raise _missing(header, "PerFrameFunctionalGroupsSequence")
    kind = header.text("SegmentationType")
    if kind not in ("BINARY", "LABELMAP"):
        what = f"segments of type {kind or 'unknown'} are not masks of 0 and 1"
        raise InputError(what, header.where("SegmentationType"), "write them as BINARY, above a threshold of yours")
    check_reference(header, image)
    check_size((len(frames), *extent(header)), header.where("NumberOfFrames"))
    described = _described(header)
    masks = {number: np.zeros(image.voxels.shape, np.uint8) for number in described}
    _check_once(frames)
    for frame in frames:
        values = stored_pixels(frame)
        shown = _numbers(values) if kind == "LABELMAP" else [int(frame.number("ReferencedSegmentNumber") or 0)]
        for number in shown:
            if number not in masks:
                where = frame.where("SegmentSequence" if kind == "LABELMAP" else "ReferencedSegmentNumber")
                raise InputError(f"segment {number} is not described in SegmentSequence", where, "export it again")
            inside = values == number if kind == "LABELMAP" else values > 0
            masks[number][_placed(frame, inside, image)] = 1
    return [Segment(label, masks[number]) for number, label in sorted(described.items())]


def _missing(header: Header, tag: str) -> InputError:
    hint = "export it again; dciodvfy lists what else it lacks"
    return InputError("missing in a segmentation", header.where(tag), hint)


def _described(header: Header) -> dict[int, str]:
    items: Sequence[Any] = header.get("SegmentSequence") or []
    found = {int(item.get("SegmentNumber") or 0): str(item.get("SegmentLabel") or "").strip() for item in items}
    if not found:
        raise _missing(header, "SegmentSequence")
    found.pop(0, None)  # what a label map calls its background
    return {number: label or str(number) for number, label in found.items()}


def _numbers(values: np.ndarray) -> list[int]:
    return [int(number) for number in np.unique(values) if number]


def _check_once(frames: Sequence[Header]) -> None:
    """Refuse two frames of one segment at one position: one of them belongs elsewhere."""
    known: dict[tuple[float, ...], Header] = {}
    for frame in frames:
        place = vector(frame, "ImagePositionPatient", 3)
        key = (frame.number("ReferencedSegmentNumber") or 0, *np.round(place, 2).tolist())
        if key in known:
            what = f"has the same segment and position as {known[key].name}: one of the two belongs to another slice"
            raise InputError(what, frame.where("ImagePositionPatient"), "export it again")
        known[key] = frame


def check_reference(header: Header, image: Volume) -> None:
    """Refuse a mask of another patient, or of another frame of reference, in which positions mean other places."""
    files = image.header.get("files")
    if image.header.get("format") != "dicom" or not files:
        return
    theirs = read_header(Path(files[0]))
    for tag, what in (("PatientID", "the patient"), ("FrameOfReferenceUID", "the frame of reference")):
        if theirs.text(tag) and header.text(tag) and header.text(tag) != theirs.text(tag):
            raise InputError(f"{what} differs from the image's", header.where(tag), "does it belong to another scan?")


def _placed(frame: Header, inside: np.ndarray, image: Volume) -> tuple[np.ndarray, ...]:
    """Indices of the image's voxels at a frame's pixels that are ``inside`` (H,W)."""
    down, along = _steps(frame)
    first = vector(frame, "ImagePositionPatient", 3)
    places, basis = image.slice_positions(), image.affine[:3, :3].copy()
    start = image.affine[:3, 3]
    slice_number = 0.0
    if image.positions is not None:  # slices unevenly spaced: no step along the first axis
        normal = np.cross(basis[:, 1], basis[:, 2])
        basis[:, 0] = normal / np.linalg.norm(normal)
        nearest = int(np.abs((places - first) @ basis[:, 0]).argmin())
        start, slice_number = places[nearest], float(nearest)
    back = np.linalg.inv(basis)
    origin, by_row, by_column = (np.rint(back @ v).astype(int) for v in (first - start, down, along))
    origin[0] += int(slice_number)
    rows, columns = extent(frame)
    row, column = (side.ravel() for side in np.meshgrid([0, rows - 1], [0, columns - 1]))
    corners = origin + row[:, None] * by_row + column[:, None] * by_column
    if ((corners < 0) | (corners >= image.voxels.shape)).any():
        raise _off("reaches beyond the image", frame)
    found = places[corners[:, 0]] + corners[:, 1:] @ image.affine[:3, 1:3].T
    apart = np.linalg.norm(found - (first + row[:, None] * down + column[:, None] * along), axis=1).max()
    if apart > max(1e-2, 0.05 * min(image.spacing)):
        raise _off(f"is on no slice of the image, but {apart:.3g} mm from one", frame)
    row, column = np.nonzero(inside)
    return tuple((origin + row[:, None] * by_row + column[:, None] * by_column).T)


def _steps(frame: Header) -> tuple[np.ndarray, np.ndarray]:
    """Vectors in mm from a pixel to the next one down a column, and along a row."""
    along, down = axes(frame)
    rows, columns = pixel_spacing(frame)
    return down * rows, along * columns


def _off(what: str, frame: Header) -> InputError:
    return InputError(what, frame.where("ImagePositionPatient"), "is it the segmentation of another series?")
