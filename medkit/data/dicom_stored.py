"""The stored numbers of a derived DICOM series: its source's own wherever a voxel is unchanged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pydicom
from pydicom.valuerep import format_number_as_ds

from medkit.data.dicom_header import Header
from medkit.data.dicom_pixels import apply_modality, padding_mask, padding_range, rescale, stored_pixels, values_of
from medkit.data.stored import stored_as_source
from medkit.errors import InputError

UNSIGNED_ONLY = ("DX", "MG", "IO", "PX")  # their modules fix PixelRepresentation at 0 and the rescale at 1 and 0


@dataclass(frozen=True)
class Layout:
    """How numbers are stored: signed or not, bits allocated per number, and bits used."""

    signed: bool
    allocated: int
    bits: int

    @classmethod
    def of(cls, data: pydicom.Dataset) -> Layout:
        allocated = -(-int(data.BitsAllocated) // 8) * 8
        bits = int(data.get("BitsStored") or allocated)
        return cls(int(data.get("PixelRepresentation") or 0) == 1, allocated, bits)

    @property
    def limits(self) -> tuple[int, int]:
        half = 2 ** (self.bits - 1)
        return (-half, half - 1) if self.signed else (0, 2 * half - 1)

    def holds(self, low: int, high: int) -> bool:
        return self.limits[0] <= low and high <= self.limits[1]

    def write(self, data: pydicom.Dataset, numbers: np.ndarray) -> None:
        """Set the pixels of ``data`` from (H,W) ``numbers``, and the tags that describe them."""
        data.BitsAllocated, data.BitsStored, data.HighBit = self.allocated, self.bits, self.bits - 1
        data.PixelRepresentation, data.SamplesPerPixel = int(self.signed), 1
        raw = numbers.astype(f"<{'i' if self.signed else 'u'}{self.allocated // 8}").tobytes()
        data.PixelData = raw + bytes(len(raw) % 2)
        data["PixelData"].VR = "OB" if self.allocated == 8 else "OW"


@dataclass(frozen=True)
class Slice:
    """One slice (H,W) in its source's scale: ``value = slope * number + intercept``.

    ``padding`` is the range of numbers declared as padding, or None; ``own_scale`` says that the source's modality LUT
    was applied to the numbers, because new values are not in it.
    """

    numbers: np.ndarray
    slope: float
    intercept: float
    padding: tuple[int, int] | None
    own_scale: bool = False


def encode(values: np.ndarray, header: Header, turned: float | None) -> Slice:
    """(H,W) values of one slice as numbers in the scale of the file from which it was read.

    ``turned`` is the sum about which its series was inverted in reading (MONOCHROME1), or None.

    Raises
    ------
    InputError
        if the file's pixels cannot be read again, or are not integers.
    """
    data, stored = header.data, stored_pixels(header)
    if stored.dtype.kind == "f":
        what = "pixels stored as floating-point numbers are not written as DICOM"
        raise InputError(what, str(header.path), "name a file that ends in .nii.gz")
    read = values_of(stored, header, turned=turned)
    slope, intercept = rescale(data)
    outside = padding_mask(stored, data)
    padding = padding_range(data)
    own_scale = "ModalityLUTSequence" in data
    if own_scale:
        stored, slope, intercept, padding = np.rint(apply_modality(stored, data)), 1.0, 0.0, None
        stored = stored.astype(np.int64)
    # What is read inverted: value = turned - (slope * number + intercept).
    scale = (slope, intercept) if turned is None else (-slope, turned - intercept)
    numbers = stored_as_source(values, read, stored, *scale)
    if outside is not None:
        numbers = np.where(outside, stored, numbers)
        # A new value inside the padding range would be read as air; then padding keeps its numbers, but is not
        # declared.
        if padding is not None and (padding_mask(numbers, data) & ~outside).any():
            padding = None
    if np.abs(numbers).max(initial=0) < 2**31:
        numbers = numbers.astype(np.int32)
    return Slice(numbers, slope, intercept, padding, own_scale)


def fit(slices: Sequence[Slice], first: pydicom.Dataset, where: str) -> tuple[Layout, list[Slice]]:
    """One layout for all slices: the source's, with all its bits in use, of the other sign, or of shifted numbers.

    Raises
    ------
    InputError
        if 16 bits cannot hold them.
    """
    low, high = int(min(part.numbers.min() for part in slices)), int(max(part.numbers.max() for part in slices))
    source = Layout.of(first)
    wide = max(16, source.allocated)
    unsigned_only = first.get("Modality") in UNSIGNED_ONLY
    layouts = [source, replace(source, bits=source.allocated), Layout(source.signed, wide, wide)]
    if not unsigned_only:
        layouts.append(Layout(not source.signed, wide, wide))
    for layout in layouts:
        if layout.holds(low, high):
            return layout, list(slices)
    if high - low >= 2**wide or unsigned_only:
        what = f"stored numbers from {low} to {high} (steps of {slices[0].slope:g}) do not fit this kind of DICOM image"
        raise InputError(what, where, "name a file that ends in .nii.gz: NIfTI holds them")
    layout = Layout(source.signed, wide, wide)
    shift = low - layout.limits[0]
    return layout, [_shifted(part, shift) for part in slices]


def write_scale(data: pydicom.Dataset, part: Slice) -> None:
    """Set the rescale in ``data`` to that of ``part``; one that is right already keeps its exact text."""
    if rescale(data) == (part.slope, part.intercept) and not part.own_scale:
        return
    table = data.get("ModalityLUTSequence")
    kind = table[0].get("ModalityLUTType") if table else None
    data.RescaleSlope, data.RescaleIntercept = format_number_as_ds(part.slope), format_number_as_ds(part.intercept)
    data.RescaleType = data.get("RescaleType") or kind or ("HU" if data.get("Modality") == "CT" else "US")
    if "ModalityLUTSequence" in data:
        del data.ModalityLUTSequence


def write_padding(data: pydicom.Dataset, padding: tuple[int, int] | None, signed: bool) -> None:
    """Declare ``padding`` in ``data``, or none."""
    for name in ("PixelPaddingValue", "PixelPaddingRangeLimit"):
        if name in data:
            delattr(data, name)
    if padding is not None:
        data.add_new("PixelPaddingValue", "SS" if signed else "US", padding[0])
        if padding[1] != padding[0]:
            data.add_new("PixelPaddingRangeLimit", "SS" if signed else "US", padding[1])


def _shifted(part: Slice, shift: int) -> Slice:
    padding = None if part.padding is None else (part.padding[0] - shift, part.padding[1] - shift)
    return replace(part, numbers=part.numbers - shift, intercept=part.intercept + shift * part.slope, padding=padding)
