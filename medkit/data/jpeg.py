"""Grey values of JPEG pictures, for data sets that publish nothing else; complete files only.

Images of a case are not read from JPEG: it changes values, and its orientation mark (EXIF) is not always obeyed.
"""

from __future__ import annotations

import struct
from pathlib import Path

import cv2
import numpy as np

from medkit.data.limits import check_size
from medkit.errors import InputError

SIZES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
"""Markers of segments that begin a frame and give its size (ITU-T T.81, table B.1)."""
ORIENTATION = 0x0112
HINT = "is it cut short?"


def read_jpeg(path: Path) -> np.ndarray:
    """(H,W) uint8 grey values as stored; equal colour channels count as grey.

    Raises
    ------
    InputError
        for a file that is not JPEG, is truncated or too large, has colours (RGB or CMYK), or has a mark to rotate it.
    """
    data = path.read_bytes()
    rows, columns, samples = _frame(data, path)
    check_size((rows, columns), str(path))
    if samples not in (1, 3):
        raise InputError(f"this JPEG picture has {samples} colour channels", str(path), "grey values are needed")
    flags = cv2.IMREAD_UNCHANGED if samples == 1 else cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
    image = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    if image is None or image.dtype != np.uint8 or image.shape[:2] != (rows, columns):
        raise InputError("the JPEG picture cannot be decoded", str(path), "is the file damaged?")
    if image.ndim == 3:
        if int(np.ptp(image, axis=2).max()) > 0:
            raise InputError("this is a colour picture", str(path), "grey values are needed")
        image = image[..., 0]
    return np.ascontiguousarray(image)


def _frame(data: bytes, path: Path) -> tuple[int, int, int]:
    """Rows, columns and colour channels, from the segments up to the pixels; refuses a file without an end mark."""
    if not data.startswith(b"\xff\xd8\xff"):
        raise InputError("this is not a JPEG file", str(path), HINT)
    at, found = 2, None
    while at + 4 <= len(data):
        if data[at] != 0xFF:
            raise InputError("a segment of the JPEG file is damaged", str(path), HINT)
        kind, length = data[at + 1], struct.unpack_from(">H", data, at + 2)[0]
        body = data[at + 4 : at + 2 + length]
        if kind == 0xFF:  # a fill byte
            at += 1
            continue
        if kind in SIZES and len(body) >= 6:
            if body[0] != 8:
                raise InputError(f"this JPEG picture has {body[0]} bits", str(path), "8 bits are needed")
            found = (*struct.unpack_from(">HH", body, 1), body[5])
        elif kind == 0xE1 and _orientation(body) not in (None, 1):
            hint = "rotate it, and save it without the mark"
            raise InputError("the picture has a mark to rotate it (EXIF)", str(path), hint)
        elif kind == 0xDA and found is not None:
            if data.rfind(b"\xff\xd9") < at:
                raise InputError("the JPEG file ends before its end mark", str(path), HINT)
            return found
        at += 2 + length
    raise InputError("the JPEG file ends before its pixels", str(path), HINT)


def _orientation(body: bytes) -> int | None:
    """The orientation by an EXIF segment, 1 being as stored; None if it has none."""
    if not body.startswith(b"Exif\0\0") or len(body) < 14 or body[6:8] not in (b"II", b"MM"):
        return None
    order = "<" if body[6:8] == b"II" else ">"
    tiff = body[6:]
    (at,) = struct.unpack_from(f"{order}I", tiff, 4)
    if at + 2 > len(tiff):
        return None
    (count,) = struct.unpack_from(f"{order}H", tiff, at)
    for entry in range(at + 2, min(at + 2 + 12 * count, len(tiff) - 11), 12):
        tag, kind = struct.unpack_from(f"{order}HH", tiff, entry)
        if tag == ORIENTATION and kind == 3:
            return int(struct.unpack_from(f"{order}H", tiff, entry + 8)[0])
    return None
