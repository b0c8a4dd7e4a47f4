"""Pixels of DICOM files in the units that their headers promise: HU for CT, stored units for anything else."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom.uid import (
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLSNearLossless,
)

from medkit.data.dicom_frames import Frame
from medkit.data.dicom_header import CT_CLASSES, Header
from medkit.data.dicom_inverted import invert, is_inverted
from medkit.data.dicom_sign import check_sign, is_signed, without_unused_bits
from medkit.data.mend import how
from medkit.errors import InputError

AIR = -1024
SHORT = np.iinfo(np.int16)
DECODERS = (
    "for JPEG 2000, JPEG-LS and lossless JPEG: pip install python-gdcm pyjpegls pylibjpeg-openjpeg; for others, or if "
    "these are installed: pip install pylibjpeg pylibjpeg-libjpeg, or decompress it: dcmdjpeg IN OUT (DCMTK)"
)
LOSSY = (JPEGBaseline8Bit, JPEGExtended12Bit, JPEGLSNearLossless)
"""Transfer syntaxes that are always lossy; others may be."""
PIXELS = b"\xe0\x7f\x10\x00"
Range = tuple[int, int]
Tags = pydicom.Dataset | Header
"""The tags of an image; errors name the file of a header."""


def read_stack(headers: Sequence[Header]) -> tuple[np.ndarray, float | None]:
    """(D,H,W) of slices of one size, in order, int16 if exact, else float32; and the sum about which they were turned.

    MONOCHROME1 is inverted for all slices together, so that equal numbers stay equal: a value and what it is turned
    into have the sum of the smallest and the largest value. It is None where nothing is inverted.
    """
    voxels = np.empty((len(headers), *extent(headers[0])), np.int16)
    limits: list[tuple[float, float] | None] = []
    for z, header in enumerate(headers):
        out = voxels[z] if voxels.dtype == np.int16 else None
        values, shown = _upright(_checked_pixels(header, out), header, out)
        if is_inverted(header):
            limits.append((float(values.min()), float(values.max())) if shown else None)
        if values is out:
            continue
        if values.dtype != voxels.dtype:
            voxels = voxels.astype(np.float32)
        voxels[z] = values
    found = [ends for ends in limits if ends is not None]
    if not found:
        return voxels, None
    low, high = min(ends[0] for ends in found), max(ends[1] for ends in found)
    for z, ends in enumerate(limits):
        if ends is None:  # nothing but padding, which is darkest
            voxels[z] = high
    return invert(voxels, low + high), low + high


def extent(header: Header) -> tuple[int, int]:
    """Rows and columns."""
    return int(header.get("Rows")), int(header.get("Columns"))


def read_pixels(header: Header, out: np.ndarray | None = None) -> np.ndarray:
    """(H,W) values of one image as :func:`values_of` gives them.

    Parameters
    ----------
    out:
        (H,W) int16 that is filled and returned if the values fit.
    """
    return values_of(_checked_pixels(header, out), header, out)


def _checked_pixels(header: Header, out: np.ndarray | None) -> np.ndarray:
    """(H,W) stored numbers of one image, of the size that its header says."""
    stored = stored_pixels(header, out)
    if stored.shape != extent(header):
        what = f"pixels of shape {stored.shape} do not fit Rows and Columns"
        raise InputError(what, header.where("PixelData"), "get the original file; one of the two was changed")
    return stored


def values_of(stored: np.ndarray, data: Tags, out: np.ndarray | None = None, turned: float | None = None) -> np.ndarray:
    """What the stored numbers of one image mean: (H,W) HU for CT, stored units otherwise; int16 if exact.

    Declared padding becomes air in CT. Elsewhere it is left out of the inversion of MONOCHROME1 and becomes the darkest
    value. Writing inverts the same rules. ``out`` may share memory with ``stored``; ``turned`` is the sum about which a
    series was inverted (:func:`read_stack`; default: that of this image).
    """
    header = _header(data)
    values, shown = _upright(stored, header, out)
    if not shown or not is_inverted(header):
        return values
    return invert(values, float(values.min()) + float(values.max()) if turned is None else turned)


def _upright(stored: np.ndarray, header: Header, out: np.ndarray | None) -> tuple[np.ndarray, bool]:
    """Values as in :func:`values_of` before any inversion, and whether there are any besides padding.

    Padding has the value that will be darkest, so it takes no part in the inversion.
    """
    ct = header.text("Modality") == "CT"
    check_rescale(header, ct)
    limits = (stored.min(), stored.max()) if stored.size else (0, 0)
    padding = _padding(stored, padding_range(header), limits)
    if ct and is_signed(stored, header, padding, limits):
        stored = stored.view(np.int16)
        limits = stored.min(), stored.max()
        padding = _padding(stored, padding_range(header), limits)
    values = _values(stored, header, padding, limits, out)
    if padding is None:
        return values, bool(values.size)
    if ct:
        values[padding] = AIR
        return values, True
    inside = values[~padding]
    if inside.size:
        values[padding] = inside.max() if is_inverted(header) else inside.min()
    return values, bool(inside.size)


def _padding(stored: np.ndarray, ends: Range | None, limits: tuple[Any, Any]) -> np.ndarray | None:
    """Where padding is; None if there is none."""
    if ends is None or ends[0] > limits[1] or ends[1] < limits[0]:
        return None
    found = _within(stored, ends)
    return found if found.any() else None


def _within(stored: np.ndarray, ends: Range) -> np.ndarray:
    return stored == ends[0] if ends[0] == ends[1] else (stored >= ends[0]) & (stored <= ends[1])


def _values(
    stored: np.ndarray,
    header: Header,
    padding: np.ndarray | None,
    limits: tuple[Any, Any],
    out: np.ndarray | None,
) -> np.ndarray:
    """Stored values after slope and intercept, or the modality LUT; int16 in ``out`` if that loses nothing."""
    slope, intercept = rescale(header)
    if _is_shift(stored, slope, intercept) and not header.has("ModalityLUTSequence"):
        fits = _fits(limits, intercept) or (padding is not None and _fits_inside(stored[~padding], intercept))
        if fits:
            values = out if out is not None else np.empty(stored.shape, np.int16)
            if stored.dtype.itemsize == 2:  # sums may wrap around, but are right in the end since they fit
                np.add(stored.view(np.int16), np.int64(intercept).astype(np.int16), out=values)
            else:
                np.add(stored, int(intercept), out=values, dtype=np.int64, casting="unsafe")
            return values
    values = apply_modality(stored, header)
    if padding is not None:
        values[padding] = 0
    if not np.isfinite(values).all():
        hint = "correct RescaleSlope and RescaleIntercept, or leave this image out"
        raise InputError("values are not finite after the rescale", header.where("RescaleSlope"), hint)
    return values


def _is_shift(stored: np.ndarray, slope: float, intercept: float) -> bool:
    """True if integers stay integers."""
    return stored.dtype.kind in "iu" and slope == 1 and intercept == int(intercept)


def _fits(limits: tuple[Any, Any], intercept: float) -> bool:
    """True if values between two limits still fit 16-bit integers after the intercept is added."""
    return bool(int(limits[0]) + intercept >= SHORT.min and int(limits[1]) + intercept <= SHORT.max)


def _fits_inside(inside: np.ndarray, intercept: float) -> bool:
    return not inside.size or _fits((inside.min(), inside.max()), intercept)


def stored_pixels(header: Header, out: np.ndarray | None = None) -> np.ndarray:
    """(H,W) stored values, read without parsing the header again if they are not compressed.

    They are put in ``out`` (H,W) int16, signed or not, if they have 16 bits.
    """
    from pydicom.pixels import pixel_array

    found = _native(header, out)
    if found is not None:
        return found
    try:
        data = header.frames.data if isinstance(header, Frame) else header.read()
        if not {"PixelData", "FloatPixelData", "DoubleFloatPixelData"} & {element.keyword for element in data}:
            raise InputError("the file holds no pixels", header.where("PixelData"), "get the complete file")
        _check_length(data, header)
        if getattr(data, "file_meta", {}).get("TransferSyntaxUID") == ExplicitVRBigEndian:
            # pydicom cuts off unused bits before it swaps the bytes, which gives wrong values.
            what = "big-endian pixels are not read: this transfer syntax was retired"
            raise InputError(what, str(header.path), "convert it: dcmconv +te IN OUT (DCMTK)")
        if isinstance(header, Frame):
            return _used_bits(header.frames.stored(header.index), header)
        return _used_bits(np.asarray(pixel_array(data, correct_unused_bits=False)), header)
    except InputError:
        raise
    except (RuntimeError, NotImplementedError) as error:
        syntax = header.data.file_meta.TransferSyntaxUID.name
        raise InputError(f"pixels stored as '{syntax}' cannot be decoded", str(header.path), DECODERS) from error
    except Exception as error:
        what = f"the pixels cannot be read ({type(error).__name__}: {error})"
        raise InputError(what, header.where("PixelData"), "is the file cut short?") from error


def check_bits(header: Header) -> None:
    """Refuse pixels if it is unknown which bits hold them: in old files these may not be the lowest."""
    used, high = header.number("BitsStored"), header.number("HighBit")
    if used is None or high is None or high == used - 1:
        return
    what = f"HighBit is {high:g}, but {used:g} bits (BitsStored) end at {used - 1:g}: which bits hold the pixel?"
    hint = f"if they are the lowest, say so: dcmodify -m HighBit={used - 1:g} FILES; otherwise get the original files"
    raise InputError(what, header.where("HighBit"), hint)


def _check_length(data: pydicom.Dataset, header: Header) -> None:
    """Refuse uncompressed pixels with more rows than the header says."""
    syntax = getattr(data, "file_meta", {}).get("TransferSyntaxUID")
    if "PixelData" not in data or syntax is None or syntax.is_encapsulated:
        return
    rows, columns = extent(header)
    samples, frames = (int(header.number(name) or 1) for name in ("SamplesPerPixel", "NumberOfFrames"))
    bits = columns * samples * int(header.number("BitsAllocated") or 0)
    more = 8 * len(data.PixelData) - bits * rows * frames
    if bits and more >= max(bits, 8 * 512):  # up to a block of a disk is padding
        what = f"{len(data.PixelData)} bytes are too many for the {rows}x{columns} pixels of Rows and Columns"
        raise InputError(what, header.where("PixelData"), "get the original file; one of the two was changed")


def _native(header: Header, out: np.ndarray | None) -> np.ndarray | None:
    """Uncompressed little-endian grey values, or None for pixels of any other kind."""
    implicit = _is_implicit(header)
    if header.at is None or implicit is None:
        return None
    bits, used = (header.number(name) for name in ("BitsAllocated", "BitsStored"))
    if bits not in (8, 16, 32) or used is None or header.number("HighBit") != used - 1 or not 0 < used <= bits:
        return None
    signed = header.number("PixelRepresentation") == 1
    kind, shape = np.dtype(f"<{'i' if signed else 'u'}{int(bits) // 8}"), extent(header)
    with header.path.open("rb") as file:
        file.seek(header.at)
        head = file.read(8 if implicit else 12)
        if len(head) < 8 or head[:4] != PIXELS:
            return None
        (length,) = struct.unpack("<I", head[-4:])
        if length - kind.itemsize * shape[0] * shape[1] not in (0, 1):
            return None
        same = out is not None and out.shape == shape and kind.itemsize == 2 and out.flags.c_contiguous
        stored = out.view(kind) if same and out is not None else np.empty(shape, kind)
        if file.readinto(stored.data.cast("B")) < stored.nbytes:
            return None
    return _used_bits(stored, header)


def is_lossy(header: Header) -> bool:
    """True if its pixels were ever lossily compressed, according to LossyImageCompression or the transfer syntax."""
    if header.text("LossyImageCompression") == "01":
        return True
    return header.elements is None and getattr(header.data, "file_meta", {}).get("TransferSyntaxUID") in LOSSY


def _is_implicit(header: Header) -> bool | None:
    """Whether an uncompressed little-endian file has implicit value representations; None for any other file."""
    if header.elements is not None:
        return header.elements.implicit
    syntax = getattr(header.data, "file_meta", {}).get("TransferSyntaxUID")
    return syntax == ImplicitVRLittleEndian if syntax in (ImplicitVRLittleEndian, ExplicitVRLittleEndian) else None


def _used_bits(stored: np.ndarray, header: Header) -> np.ndarray:
    """Values of the BitsStored bits of whole numbers; the others are not part of the image."""
    used = header.number("BitsStored")
    if stored.dtype.kind not in "iu" or used is None or not 0 < used < 8 * stored.dtype.itemsize:
        return stored
    if stored.dtype.kind == "i" and header.text("Modality") == "CT" and not header.has("ModalityLUTSequence"):
        check_rescale(header, ct=True)
        check_sign(stored, header, int(used), rescale(header), padding_range(header))
    return without_unused_bits(stored, int(used))


def check_rescale(header: Header, ct: bool) -> None:
    """Refuse a CT image without both tags that turn its stored values into HU, unless that is mended."""
    if not ct or header.has("ModalityLUTSequence"):
        return
    if header.text("SOPClassUID") not in ("", *CT_CLASSES):
        return
    for tag in ("RescaleIntercept", "RescaleSlope"):
        if header.number(tag) is None:
            if "rescale" in header.mend.names:
                header.mended.add("rescale")
                continue
            raise InputError(
                "missing in a CT image: its stored values cannot be turned into HU",
                header.where(tag),
                "get the original files, or say what you know: dcmodify -i RescaleSlope=1 -i RescaleIntercept=-1024 "
                f"FILES, or {how('rescale')}",
            )


def rescale(data: Tags) -> tuple[float, float]:
    """Slope and intercept; 1 and 0 if missing.

    Raises
    ------
    InputError
        for a slope of 0, or values that are not finite numbers.
    """
    header = _header(data)
    slope, intercept = header.number("RescaleSlope"), header.number("RescaleIntercept")
    if "rescale" in header.mended:
        return header.mend.slope, header.mend.intercept
    if slope == 0:
        raise InputError("a slope of 0 makes all values equal", header.where("RescaleSlope"), "get the original files")
    return 1.0 if slope is None else slope, intercept or 0.0


def apply_modality(stored: np.ndarray, data: Tags) -> np.ndarray:
    """Stored values to HU or other modality units; int16 if that loses nothing, else float32."""
    from pydicom.pixels import apply_modality_lut

    header = _header(data)
    if header.has("ModalityLUTSequence"):
        return np.asarray(apply_modality_lut(stored, header.data), np.float32)
    slope, intercept = rescale(header)
    if _is_shift(stored, slope, intercept) and abs(intercept) < 2**31:
        values = stored.astype(np.int64) + int(intercept)
        small = not values.size or (values.min() >= SHORT.min and values.max() <= SHORT.max)
        return values.astype(np.int16 if small else np.float32)
    with np.errstate(over="ignore"):
        return (stored.astype(np.float64) * slope + intercept).astype(np.float32)


def padding_mask(stored: np.ndarray, data: Tags) -> np.ndarray | None:
    """(H,W) booleans: pixels outside the field of view by PixelPaddingValue (and its range limit), or None."""
    ends = padding_range(data)
    return None if ends is None else _within(stored, ends)


def padding_range(data: Tags) -> Range | None:
    """The smallest and largest stored value that is padding, or None."""
    header = _header(data)
    value, limit = header.number("PixelPaddingValue"), header.number("PixelPaddingRangeLimit")
    if value is None:
        return None
    bits = int(header.get("BitsAllocated"))
    signed = header.number("PixelRepresentation") == 1

    def as_stored(number: float) -> int:
        whole = int(number)
        if signed:
            return whole - 2**bits if whole >= 2 ** (bits - 1) else whole
        return whole + 2**bits if whole < 0 else whole

    low = as_stored(value)
    high = low if limit is None else as_stored(limit)
    return min(low, high), max(low, high)


def _header(data: Tags) -> Header:
    if isinstance(data, Header):
        return data
    return Header(Path(str(getattr(data, "filename", None) or "image")), data)


def why_not_hu(header: Header) -> str | None:
    """Why a header says that its values are not HU, or None."""
    modality = header.text("Modality")
    sop = header.text("SOPClassUID")
    kind = header.text("RescaleType").upper()
    if modality != "CT":
        return f"its Modality (0008,0060) is {modality or 'missing'}"
    if sop not in ("", *CT_CLASSES):
        name = pydicom.uid.UID(sop).name
        return f"its SOPClassUID (0008,0016) is {name if name != sop else 'not that of a CT image'}"
    if kind not in ("", "HU"):
        return f"its RescaleType (0028,1054) is {kind}"
    return None
