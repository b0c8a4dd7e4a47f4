"""Where the slices of a DICOM series are: their order, their grid, and reasons to doubt it.

Positions, orientations and pixel sizes of all slices are checked, positions as vectors: along the normal, the spacing
may change in blocks (thin slices, then thick ones); in the plane, slices are on one line, which a gantry tilt slants.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from medkit.data.dicom_frames import Frame
from medkit.data.dicom_header import Header, pixel_spacing, vector
from medkit.errors import InputError

SAME_PLACE = 0.01
"""Distance in mm along the normal below which two slices have the same position."""
BESIDE = 0.1
"""Distance in mm by which a slice may be off the line through the others, for rounded positions."""
STEEPEST = 35.0
"""Degrees by which a stack may lean; gantries tilt by up to 30."""
ONE_OF_THEM = "list the files of one of them in a .txt file"
ONE_OR_ALL = f"{ONE_OF_THEM}, or read them all with --allow-gaps"
ALLOW = "get the whole series, or read it as it is: --allow-gaps, or `allow_gaps: true` in a manifest's source"


@dataclass
class Stack:
    """Slices in order, and their grid.

    Attributes
    ----------
    affine:
        4x4, LPS in mm; with the mean step if slices are unevenly spaced.
    positions:
        (D,3) in mm if slices are unevenly spaced or off their line, else None.
    """

    headers: list[Header]
    affine: np.ndarray
    positions: np.ndarray | None
    thickness_known: bool
    notes: list[str]


def stack(headers: list[Header], allow_gaps: bool) -> Stack:
    """Order headers along the slice normal and check that they are slices of one stack."""
    first = headers[0]
    along, down = axes(first)
    rows, columns = pixel_spacing(first)
    for header in headers[1:]:
        other = np.concatenate(axes(header))
        if np.abs(other - np.concatenate([along, down])).max() > 1e-3:
            where = header.where("ImageOrientationPatient")
            raise InputError(f"orientation differs from {first.name}", where, ONE_OF_THEM)
        if not np.allclose(pixel_spacing(header), (rows, columns), rtol=1e-3, atol=0):
            raise InputError(f"pixel size differs from {first.name}", header.where("PixelSpacing"), ONE_OF_THEM)
    normal = np.cross(along, down)
    positions = np.array([vector(header, "ImagePositionPatient", 3) for header in headers])
    order = np.argsort(positions @ normal, kind="stable")
    headers, positions = [headers[i] for i in order], positions[order]
    gaps = np.diff(positions @ normal)
    thickness = first.number("SliceThickness") or 0.0
    _check_places(headers, gaps)
    _check_alike(headers, "PatientID", "move the other patient's files elsewhere")
    notes = _apart(headers, gaps)
    for check in (_check_one_scan, _check_interleaved, _check_gaps):
        try:
            check(headers, gaps)
        except InputError as problem:
            if not allow_gaps:
                raise
            notes.append(f"read with gaps: {problem.what}")
    beside = _beside(positions, normal)
    try:
        _check_line(headers, positions, normal, beside, min(rows, columns))
    except InputError as problem:
        if not allow_gaps:
            raise
        notes.append(f"read with gaps: {problem.what}")
    affine = np.eye(4)
    if len(gaps):
        affine[:3, 0] = (positions[-1] - positions[0]) / (len(headers) - 1)
    else:
        affine[:3, 0] = normal * (thickness if thickness > 0 else 1.0)
    affine[:3, 1], affine[:3, 2], affine[:3, 3] = down * rows, along * columns, positions[0]
    uneven = len(gaps) > 1 and float(gaps.max() - gaps.min()) > max(0.02, 0.01 * float(np.median(gaps)))
    uneven = uneven or bool(len(gaps) and np.abs(beside).max() > BESIDE)
    return Stack(headers, affine, positions if uneven else None, bool(len(gaps) or thickness > 0), notes)


def axes(header: Header) -> tuple[np.ndarray, np.ndarray]:
    """Unit vectors along a row and down a column."""
    value = vector(header, "ImageOrientationPatient", 6)
    along, down = value[:3], value[3:]
    lengths = np.linalg.norm(along), np.linalg.norm(down)
    if not np.allclose(lengths, 1, atol=0.01) or abs(along @ down) > 0.01:
        where = header.where("ImageOrientationPatient")
        raise InputError("rows and columns are not at right angles", where, "get the original file")
    return along / lengths[0], down / lengths[1]


def _check_places(headers: Sequence[Header], gaps: np.ndarray) -> None:
    for (before, after), gap in zip(pairwise(headers), gaps, strict=True):
        if gap >= SAME_PLACE:
            continue
        instance = after.text("SOPInstanceUID")
        if isinstance(after, Frame) and after.path == before.path:
            what = f"has the same position as {before.name}: several volumes in one file (phases, energies, stacks)?"
            raise InputError(
                what, after.where("ImagePositionPatient"), "write each to a file of its own: dcm2niix FILE"
            )
        if instance and instance == before.text("SOPInstanceUID"):
            what = f"is a copy of {before.name}: the same SOPInstanceUID is here twice"
            raise InputError(what, after.where("SOPInstanceUID"), "remove one of the two")
        what = f"has the same position as {before.name}: two scans in one series?"
        raise InputError(what, after.where("ImagePositionPatient"), ONE_OF_THEM)


def _check_one_scan(headers: Sequence[Header], gaps: np.ndarray) -> None:
    """A series has one study and one frame of reference; positions in different ones cannot be compared."""
    for tag in ("StudyInstanceUID", "FrameOfReferenceUID"):
        _check_alike(headers, tag, ONE_OR_ALL)


def _check_alike(headers: Sequence[Header], tag: str, hint: str) -> None:
    """Raise if two slices have different values of ``tag``; the values are not shown, as they may name a patient."""
    known: Header | None = None
    for header in headers:
        if not header.text(tag):
            continue
        if known is not None and header.text(tag) != known.text(tag):
            what = f"{tag} differs from that of {known.name}: two scans in one series?"
            raise InputError(what, header.where(tag), hint)
        known = known or header


def _apart(headers: Sequence[Header], gaps: np.ndarray) -> list[str]:
    """A note on slices that are all further apart than they are thick, or than their headers say: some may be lost."""
    if not len(gaps):
        return []
    usual = float(np.median(gaps))
    for tag, least in (("SpacingBetweenSlices", 1.9), ("SliceThickness", 1.5)):
        if not headers[0].number(tag):
            continue
        lengths = [abs(header.number(tag) or 0.0) for header in headers]
        if min(lengths) > 0 and gaps.min() > least * max(lengths):
            return [f"slices lie {usual:.4g} mm apart, but {tag} is {max(lengths):.4g} mm: some may be missing"]
    return []


def _check_interleaved(headers: Sequence[Header], gaps: np.ndarray) -> None:
    """Raise for two scans whose slices alternate, by acquisition numbers, kernels or alternating distances."""
    if _uneven(gaps):  # numbers alone may go back and forth in one sound stack
        numbers = [header.text("AcquisitionNumber") for header in headers]
        _check_blocks(headers, "AcquisitionNumber", "of acquisitions", numbers, 0)
    kernels = ["/".join(header.words("ConvolutionKernel")) for header in headers]
    # One more change than blocks have: a part in the middle of one scan may have its own kernel.
    _check_blocks(headers, "ConvolutionKernel", "with kernels", kernels, 1)
    even, odd = gaps[::2], gaps[1::2]
    if len(odd) > 1 and _uneven(gaps) and not _uneven(even) and not _uneven(odd):
        raise InputError(
            f"distances alternate between {even[0]:.2f} and {odd[0]:.2f} mm: two scans in one series?",
            headers[1].where("ImagePositionPatient"),
            ONE_OR_ALL,
        )


def _check_blocks(headers: Sequence[Header], tag: str, which: str, values: Sequence[str], more: int) -> None:
    """Raise if every slice has a value of ``tag``, and these change by more than ``more`` times oftener than they would
    if the slices of each value were one block."""
    changes = [i for i, (a, b) in enumerate(pairwise(values), 1) if a != b]
    kinds = sorted(set(values))
    if all(values) and len(changes) - (len(kinds) - 1) > more:
        said = f"slices {which} {', '.join(kinds[:4])} are interleaved: two scans in one series?"
        raise InputError(said, headers[changes[0]].where(tag), ONE_OR_ALL)


def _uneven(gaps: np.ndarray) -> bool:
    return len(gaps) > 1 and float(gaps.max() - gaps.min()) > _slack(float(gaps.mean()))


def _slack(distance: float) -> float:
    """By how much distances in mm may differ and still count as equal."""
    return max(0.1, 0.05 * distance) if distance > 0.3 else distance / 3


@dataclass
class _Run:
    """Consecutive gaps of one size in mm: ``count`` of them, from gap ``start`` on."""

    start: int
    count: int
    size: float


def _runs(gaps: np.ndarray) -> list[_Run]:
    runs: list[_Run] = []
    for i, gap in enumerate(gaps):
        last = runs[-1] if runs else None
        if last is not None and abs(gap - last.size) <= _slack(last.size):
            last.count += 1
        else:
            runs.append(_Run(i, 1, float(gap)))
    return runs


def _check_gaps(headers: Sequence[Header], gaps: np.ndarray) -> None:
    """Raise for missing slices, and for extra ones between those of a stack.

    Consecutive gaps of one size are a block; its size is the usual one there. A gap is too wide if it exceeds 1.5 times
    the usual size on either side and slice thickness does not change there; so is a block whose gaps are multiples of
    its neighbours', unless it is the thick end of a stack of unknown thickness.
    """
    if len(gaps) < 2:
        return
    thickness = [header.number("SliceThickness") for header in headers]
    runs = _runs(gaps)
    blocks = [run for run in runs if run.count > 1]
    usual = float(gaps.min() if len(gaps) == 2 else np.median(gaps))
    for run in runs:
        before = [block for block in blocks if block.start < run.start]
        after = [block for block in blocks if block.start > run.start]
        beside = [block.size for block in (*before[-1:], *after[:1])] or [usual]
        widest = max(beside)
        gap = float(gaps[run.start])
        changes = _thickness_changes(thickness, run)
        if run.count == 1:
            border = len(beside) == 2 and abs(beside[0] - beside[1]) > _slack(min(beside))
            if changes is not None and gap <= 1.5 * max(widest, changes):
                continue
            if gap > (1.25 if border else 1.5) * widest:
                raise _missing(headers, run.start, gap, widest)
            if len(beside) == 2 and not border and gap < 0.75 * widest:
                what = f"lies {gap:.2f} mm after {headers[run.start].name}, usually {widest:.2f} mm"
                where = headers[run.start + 1].where("ImagePositionPatient")
                raise InputError(f"{what}: two scans in one series?", where, ALLOW)
        elif blocks[1:] and gap > 1.5 * max(min(beside), changes or 0.0):
            known = all(value is not None for value in thickness)
            inside = len(beside) == 2 and all(gap > 1.5 * size for size in beside)
            if inside or (known and _is_multiple(gap, min(beside))):
                raise _missing(headers, run.start, gap, min(beside))


def _thickness_changes(thickness: Sequence[float | None], run: _Run) -> float | None:
    """The larger thickness in mm if it changes at an end of a run of gaps, else None."""
    ends = (run.start, run.start + run.count - 1)
    found = [(thickness[i], thickness[i + 1]) for i in ends]
    if run.count > 1:  # the gap before a block of thick slices may be of their size, so the block starts one gap later
        found += [(thickness[i], thickness[i + 1]) for i in (run.start - 1, ends[1] + 1) if 0 <= i < len(thickness) - 1]
    changed = [max(a, b) for a, b in found if a is not None and b is not None and abs(a - b) > 0.05 * max(a, b)]
    return max(changed) if changed else None


def _is_multiple(gap: float, usual: float) -> bool:
    times = round(gap / usual)
    return times >= 2 and abs(gap - times * usual) <= _slack(usual) * times


def _missing(headers: Sequence[Header], i: int, gap: float, usual: float) -> InputError:
    return InputError(
        f"slices are missing: {gap:.2f} mm after {headers[i].name}, usually {usual:.2f} mm",
        headers[i + 1].where("ImagePositionPatient"),
        ALLOW,
    )


def _beside(positions: np.ndarray, normal: np.ndarray) -> np.ndarray:
    """(D,3) mm by which each slice is off the straight line that best fits all of them."""
    along = positions @ normal
    flat = positions - along[:, None] * normal
    if len(along) < 3:
        return np.zeros_like(positions)
    design = np.stack([np.ones_like(along), along - along.mean()], 1)
    return np.asarray(flat - design @ np.linalg.lstsq(design, flat, rcond=None)[0])


def _check_line(
    headers: Sequence[Header], positions: np.ndarray, normal: np.ndarray, beside: np.ndarray, pixel: float
) -> None:
    """Raise if slices jump in the plane by more than a pixel, or the stack leans further than a gantry can."""
    steps = np.diff(positions, axis=0)
    if not len(steps):
        return
    gaps = steps @ normal
    sideways = (steps - gaps[:, None] * normal) / gaps[:, None]
    if np.linalg.norm(beside, axis=1).max() > max(BESIDE, pixel):
        worst = int(np.linalg.norm((sideways - np.median(sideways, axis=0)) * gaps[:, None], axis=1).argmax())
        jump = float(np.linalg.norm(steps[worst] - gaps[worst] * (normal + np.median(sideways, axis=0))))
        raise InputError(
            f"slices do not lie in one line: {jump:.2f} mm sideways after {headers[worst].name}",
            headers[worst + 1].where("ImagePositionPatient"),
            ALLOW,
        )
    lean = float(np.degrees(np.arctan(np.linalg.norm(np.mean(sideways, axis=0)))))
    if lean > STEEPEST:
        raise InputError(
            f"the stack leans by {lean:.0f} degrees, further than a gantry tilts",
            headers[-1].where("ImagePositionPatient"),
            ALLOW,
        )
