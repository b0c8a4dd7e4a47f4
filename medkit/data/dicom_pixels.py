"""Pixels of DICOM files in the units that their headers promise: HU of CT, stored units of anything else."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

import numpy as np
import pydicom
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from medkit.data.dicom_header import CT_CLASSES, Header
from medkit.errors import InputError

AIR = -1024
SHORT = np.iinfo(np.int16)
DECODERS = (
    "for JPEG 2000, JPEG-LS and lossless JPEG: pip install python-gdcm pyjpegls pylibjpeg-openjpeg; for others, or if "
    "these are there: pip install pylibjpeg pylibjpeg-libjpeg, or decompress it: dcmdjpeg IN OUT (DCMTK)"
)
Range = tuple[int, int]


def read_stack(headers: Sequence[Header]) -> np.ndarray:
    """(D,H,W) of slices of one size in their order; int16 where exact, else float32."""
    first = headers[0]
    voxels = np.empty((len(headers), int(first.data.Rows), int(first.data.Columns)), np.int16)
    for z, header in enumerate(headers):
        out = voxels[z] if voxels.dtype == np.int16 else None
        values = read_pixels(header, out)
        if values is out:
            continue
        if values.dtype != voxels.dtype:
            voxels = voxels.astype(np.float32)
        voxels[z] = values
    return voxels


def read_pixels(header: Header, out: np.ndarray | None = None) -> np.ndarray:
    """(H,W) values of a file as :func:`values_of` gives them.

    Parameters
    ----------
    out:
        (H,W) int16 that is filled and given back where the values fit.
    """
    stored = stored_pixels(header)
    if stored.shape != (int(header.data.Rows), int(header.data.Columns)):
        raise InputError(f"pixels of shape {stored.shape} do not fit Rows and Columns", header.where("PixelData"))
    return values_of(stored, header.data, header, out)


def values_of(
    stored: np.ndarray, data: pydicom.Dataset, header: Header | None = None, out: np.ndarray | None = None
) -> np.ndarray:
    """What stored numbers of one image stand for: (H,W) HU of CT, stored units otherwise; int16 where exact.

    Declared padding becomes air in CT. Elsewhere it takes no part in the inversion of MONOCHROME1 and becomes the
    darkest value. What is written goes back by the same rules.
    """
    header = header or _unnamed(data)
    ct = header.text("Modality") == "CT"
    _check_rescale(header, ct)
    ends = padding_range(data, header)
    padding = None if ends is None else _within(stored, ends)
    if padding is not None and not padding.any():
        padding = None
    values = _values(stored, header, padding, out)
    inverted = not ct and header.text("PhotometricInterpretation") == "MONOCHROME1"
    if padding is None:
        if inverted:
            np.subtract(values.dtype.type(_sum(values)), values, out=values)
        return values
    if ct:
        np.putmask(values, padding, AIR)
        return values
    inside = values[~padding]
    if inside.size and inverted:
        np.subtract(values.dtype.type(_sum(inside)), values, out=values)
        inside = values[~padding]
    if inside.size:
        np.putmask(values, padding, inside.min())
    return values


def _within(stored: np.ndarray, ends: Range) -> np.ndarray:
    return stored == ends[0] if ends[0] == ends[1] else (stored >= ends[0]) & (stored <= ends[1])


def _sum(values: np.ndarray) -> Any:
    """Smallest plus largest value, wrapped to the type of ``values``: differences from it come out right."""
    total = values.min().astype(np.float64) + values.max().astype(np.float64)
    return np.int64(total).astype(np.int16) if values.dtype == np.int16 else total


def _values(stored: np.ndarray, header: Header, padding: np.ndarray | None, out: np.ndarray | None) -> np.ndarray:
    """Stored values after slope and intercept, or the modality table; int16 in ``out`` where nothing is lost by it."""
    slope, intercept = rescale(header.data, header)
    if "ModalityLUTSequence" not in header.data and slope == 1 and intercept == int(intercept):
        fits = _fits(stored, intercept) or (padding is not None and _fits(stored[~padding], intercept))
        if fits:
            values = out if out is not None else np.empty(stored.shape, np.int16)
            if stored.dtype.itemsize == 2:  # sums wrap around and come out right, since they fit
                np.add(stored.view(np.int16), np.int64(intercept).astype(np.int16), out=values)
            else:
                np.add(stored, int(intercept), out=values, dtype=np.int64, casting="unsafe")
            return values
    values = apply_modality(stored, header.data, header)
    if padding is not None:
        values[padding] = 0
    if not np.isfinite(values).all():
        raise InputError("values are not finite after the rescale", header.where("RescaleSlope"))
    return values


def _fits(stored: np.ndarray, intercept: float) -> bool:
    """True if all values are 16-bit integers after the intercept."""
    if not stored.size:
        return True
    return bool(int(stored.min()) + intercept >= SHORT.min and int(stored.max()) + intercept <= SHORT.max)


def stored_pixels(header: Header) -> np.ndarray:
    """(H,W) of stored values, read without another look at the header where they are not compressed."""
    found = _native(header)
    if found is not None:
        return found
    try:
        data = pydicom.dcmread(header.path)
        if not {"PixelData", "FloatPixelData", "DoubleFloatPixelData"} & {element.keyword for element in data}:
            raise InputError("the file holds no pixels", header.where("PixelData"))
        return np.asarray(data.pixel_array)
    except InputError:
        raise
    except (RuntimeError, NotImplementedError) as error:
        syntax = header.data.file_meta.TransferSyntaxUID.name
        raise InputError(f"pixels stored as '{syntax}' cannot be decoded", str(header.path), DECODERS) from error
    except Exception as error:
        what = f"the pixels cannot be read ({type(error).__name__}: {error})"
        raise InputError(what, header.where("PixelData"), "is the file cut short?") from error


def _native(header: Header) -> np.ndarray | None:
    """Uncompressed little-endian grey values, or None for pixels of any other kind."""
    data = header.data
    syntax = getattr(data, "file_meta", {}).get("TransferSyntaxUID")
    bits, used = (header.number(name) for name in ("BitsAllocated", "BitsStored"))
    if header.at is None or syntax not in (ImplicitVRLittleEndian, ExplicitVRLittleEndian):
        return None
    if bits not in (8, 16, 32) or used is None or header.number("HighBit") != used - 1 or not 0 < used <= bits:
        return None
    signed = header.number("PixelRepresentation") == 1
    shape = int(data.Rows), int(data.Columns)
    count = shape[0] * shape[1]
    with header.path.open("rb") as file:
        file.seek(header.at)
        head = file.read(12)
        if len(head) < 12 or head[:4] != b"\xe0\x7f\x10\x00":
            return None
        if syntax == ExplicitVRLittleEndian:
            (length,) = struct.unpack("<I", head[8:12])
        else:
            (length,) = struct.unpack("<I", head[4:8])
            file.seek(header.at + 8)
        size = count * int(bits) // 8
        if length not in (size, size + 1):
            return None
        stored = np.fromfile(file, np.dtype(f"<{'i' if signed else 'u'}{int(bits) // 8}"), count)
    if stored.size < count:
        return None
    return _without_unused_bits(stored.reshape(shape), int(used), signed)


def _without_unused_bits(stored: np.ndarray, used: int, signed: bool) -> np.ndarray:
    """Values of the bits that are stored; what lies in the others is not part of the image."""
    unused = stored.dtype.itemsize * 8 - used
    if unused:
        if not signed and stored.max() >> used:
            stored &= stored.dtype.type((1 << used) - 1)
        elif signed and (stored.min() < -(1 << (used - 1)) or stored.max() >= 1 << (used - 1)):
            stored <<= unused
            stored >>= unused
    return stored


def _check_rescale(header: Header, ct: bool) -> None:
    """A CT image says how its stored values become HU: both tags are required there."""
    if not ct or "ModalityLUTSequence" in header.data:
        return
    if header.text("SOPClassUID") not in ("", *CT_CLASSES):
        return
    for tag in ("RescaleIntercept", "RescaleSlope"):
        if header.number(tag) is None:
            raise InputError(
                "missing in a CT image: its stored values cannot be turned into HU",
                header.where(tag),
                "get the original files, or put in what is known: dcmodify -i RescaleSlope=1 -i RescaleIntercept=-1024",
            )


def rescale(data: pydicom.Dataset, header: Header | None = None) -> tuple[float, float]:
    """Slope and intercept; 1 and 0 where they are not there.

    Raises
    ------
    InputError
        for a slope of 0, or values that are no finite numbers.
    """
    header = header or _unnamed(data)
    slope, intercept = header.number("RescaleSlope"), header.number("RescaleIntercept")
    if slope == 0:
        raise InputError("a slope of 0 makes all values equal", header.where("RescaleSlope"))
    return 1.0 if slope is None else slope, intercept or 0.0


def apply_modality(stored: np.ndarray, data: pydicom.Dataset, header: Header | None = None) -> np.ndarray:
    """Stored values to HU or modality units; int16 when nothing is lost by it."""
    from pydicom.pixels import apply_modality_lut

    header = header or _unnamed(data)
    if "ModalityLUTSequence" in data:
        return np.asarray(apply_modality_lut(stored, data), np.float32)
    slope, intercept = rescale(data, header)
    if slope == 1 and intercept == int(intercept) and abs(intercept) < 2**31:
        values = stored.astype(np.int64) + int(intercept)
        small = not values.size or (values.min() >= SHORT.min and values.max() <= SHORT.max)
        return values.astype(np.int16 if small else np.float32)
    with np.errstate(over="ignore"):
        return (stored.astype(np.float64) * slope + intercept).astype(np.float32)


def padding_mask(stored: np.ndarray, data: pydicom.Dataset) -> np.ndarray | None:
    """Pixels outside the field of view by PixelPaddingValue (and its range limit), or None."""
    ends = padding_range(data)
    return None if ends is None else _within(stored, ends)


def padding_range(data: pydicom.Dataset, header: Header | None = None) -> Range | None:
    """The smallest and largest stored value that is padding, or None."""
    header = header or _unnamed(data)
    value, limit = header.number("PixelPaddingValue"), header.number("PixelPaddingRangeLimit")
    if value is None:
        return None
    bits = int(data.BitsAllocated)
    signed = int(data.get("PixelRepresentation", 0)) == 1

    def as_stored(number: float) -> int:
        whole = int(number)
        if signed:
            return whole - 2**bits if whole >= 2 ** (bits - 1) else whole
        return whole + 2**bits if whole < 0 else whole

    low = as_stored(value)
    high = low if limit is None else as_stored(limit)
    return min(low, high), max(low, high)


def _unnamed(data: pydicom.Dataset) -> Header:
    from pathlib import Path

    return Header(Path(str(getattr(data, "filename", None) or "image")), data)


def why_not_hu(header: Header) -> str | None:
    """What a header says against its values being HU, or None."""
    modality = header.text("Modality")
    sop = header.text("SOPClassUID")
    kind = header.text("RescaleType").upper()
    if modality != "CT":
        return f"its Modality (0008,0060) is {modality or 'missing'}"
    if sop not in ("", *CT_CLASSES):
        name = pydicom.uid.UID(sop).name
        return f"its SOPClassUID (0008,0016) is {name if name != sop else 'no CT image'}"
    if kind not in ("", "HU"):
        return f"its RescaleType (0028,1054) is {kind}"
    return None
