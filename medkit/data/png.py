"""Reading PNG radiographs: 8 or 16 bit, grey, or colours as channels; complete files only."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import cv2
import numpy as np

from medkit.data.limits import check_size
from medkit.data.volume import Volume
from medkit.errors import InputError

SIGNATURE = b"\x89PNG\r\n\x1a\n"


def read_png(path: Path) -> Volume:
    """A grey image as a volume of one slice, in stored units; pixels count as 1 mm, as PNG has no reliable spacing.

    Colour files with equal channels are grey images too. Values are (1,H,W) int16 if they fit, else float32.

    Raises
    ------
    InputError
        for a truncated, damaged or too large file, colour, or transparency.
    """
    image = _pixels(path)
    return _volume(_grey(image, path) if image.ndim == 3 else image, path)


def read_colours(path: Path) -> list[Volume]:
    """Red, green and blue of an image as volumes, each like that of :func:`read_png`; a grey image is repeated.

    Raises
    ------
    InputError
        for a file that is not PNG, and as :func:`read_png`.
    """
    with path.open("rb") as file:
        if file.read(len(SIGNATURE)) != SIGNATURE:
            raise InputError("colours are read from PNG files, which this is not", str(path), "leave out 'colour'")
    image = _pixels(path)
    if image.ndim == 2:
        return [_volume(image, path) for _ in range(3)]
    _check_opaque(image, path)
    return [_volume(image[..., channel], path) for channel in (2, 1, 0)]  # OpenCV has blue first


def _pixels(path: Path) -> np.ndarray:
    """(H,W) or, for colour, (H,W,C) as in the file."""
    data = path.read_bytes()
    _check_chunks(data, path)
    if len(data) < 24 or data[12:16] != b"IHDR":
        raise InputError("the PNG file does not begin with its header", str(path), "is the file damaged?")
    width, height = struct.unpack_from(">II", data, 16)
    check_size((height, width), str(path))
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if image is None:
        raise InputError("the PNG image cannot be decoded", str(path), "is the file damaged?")
    return image


def _volume(image: np.ndarray, path: Path) -> Volume:
    """A volume of one slice (H,W)."""
    small = image.max() <= np.iinfo(np.int16).max
    affine = np.zeros((4, 4))
    affine[2, 0] = affine[1, 1] = affine[0, 2] = affine[3, 3] = 1
    header = {"format": "png", "file": str(path), "not_hu": "it is a PNG image, in stored units"}
    voxels = image[None].astype(np.int16 if small else np.float32)
    return Volume(voxels, affine, None, header, "stored", spacing_known=False)


def _grey(image: np.ndarray, path: Path) -> np.ndarray:
    """(H,W), one channel of an image (H,W,C) whose colour channels are equal."""
    _check_opaque(image, path)
    if (image[..., :3] != image[..., :1]).any():
        hint = "grey values are needed; in a manifest's source, 'colour: true' reads colours as three channels"
        raise InputError("this is a colour image", str(path), hint)
    return image[..., 0]


def _check_opaque(image: np.ndarray, path: Path) -> None:
    if image.shape[2] == 4 and (image[..., 3] != np.iinfo(image.dtype).max).any():
        raise InputError("this PNG image is partly transparent", str(path), "pixels have to be opaque")


def _check_chunks(data: bytes, path: Path) -> None:
    """Check all chunks up to the end mark: decoders silently fill up a truncated file with zeros."""
    at = len(SIGNATURE)
    while True:
        if at + 12 > len(data):
            raise InputError("the PNG file ends before its end mark", str(path), "is it cut short?")
        (length,) = struct.unpack_from(">I", data, at)
        kind, end = data[at + 4 : at + 8], at + 8 + length
        if end + 4 > len(data):
            raise InputError("the PNG file ends before its end mark", str(path), "is it cut short?")
        if struct.unpack_from(">I", data, end)[0] != zlib.crc32(data[at + 4 : end]):
            what = f"the checksum of the PNG chunk '{kind.decode('latin-1')}' is wrong"
            raise InputError(what, str(path), "is the file damaged?")
        if kind == b"IEND":
            return
        at = end + 4
