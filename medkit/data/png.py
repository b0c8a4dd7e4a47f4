"""Reading PNG radiographs: grey, or colours as channels; complete files only."""

from __future__ import annotations

import struct
import warnings
import zlib
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from medkit.data.limits import check_size
from medkit.data.volume import Volume
from medkit.errors import InputError

SIGNATURE = b"\x89PNG\r\n\x1a\n"
ORIENTATION = 0x0112  # EXIF's tag


def read_png(path: Path) -> Volume:
    """A grey image as a volume of one slice, in stored units; pixels count as 1 mm, as PNG has no reliable spacing.

    Colour files with equal channels are grey images too; a palette stands for its colours. Greys of 1, 2 and 4 bits are
    0 to 255, as PNG means them. Values are (1,H,W) int16 if they fit, else float32.

    Raises
    ------
    InputError
        for a truncated, damaged or too large file, colour, or transparency.
    """
    image, notes = _pixels(path)
    return _volume(_grey(image, path) if image.ndim == 3 else image, path, notes)


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
    image, notes = _pixels(path)
    if image.ndim == 2:
        return [_volume(image, path, notes) for _ in range(3)]
    _check_opaque(image, path)
    return [_volume(image[..., channel], path, notes) for channel in (2, 1, 0)]  # OpenCV has blue first


def _pixels(path: Path) -> tuple[np.ndarray, list[str]]:
    """(H,W) or, for colour, (H,W,C) as in the file; and notes."""
    data = path.read_bytes()
    chunks = _checked_chunks(data, path)
    if struct.unpack(">I", chunks.get(b"acTL", b"")[:4].rjust(4, b"\0"))[0] > 1:
        raise InputError("this PNG image is animated: several pictures in one file", str(path), "write one per file")
    if len(data) < 24 or data[12:16] != b"IHDR":
        raise InputError("the PNG file does not begin with its header", str(path), "is the file damaged?")
    width, height = struct.unpack_from(">II", data, 16)
    check_size((height, width), str(path))
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if image is None:
        raise InputError("the PNG image cannot be decoded", str(path), "is the file damaged?")
    way = _orientation(chunks.get(b"eXIf", b""))
    if way == 1:
        return image, []
    note = f"read as stored, but viewers turn it (EXIF orientation {way}): was its mask drawn on the turned image?"
    warnings.warn(f"{path}: {note}", stacklevel=4)
    return image, [note]


def _orientation(exif: bytes) -> int:
    """How EXIF data ask viewers to turn an image, from 2 to 8; 1 if they do not."""
    order = {b"II": "<", b"MM": ">"}.get(exif[:2])
    if order is None or len(exif) < 10:
        return 1
    (at,) = struct.unpack_from(f"{order}I", exif, 4)
    count = struct.unpack_from(f"{order}H", exif, at)[0] if at + 2 <= len(exif) else 0
    for start in range(at + 2, min(at + 2 + 12 * count, len(exif) - 11), 12):
        tag, _, _, value = struct.unpack_from(f"{order}HHIH", exif, start)
        if tag == ORIENTATION and 1 <= value <= 8:
            return int(value)
    return 1


def _volume(image: np.ndarray, path: Path, notes: Sequence[str]) -> Volume:
    """A volume of one slice (H,W)."""
    small = image.max() <= np.iinfo(np.int16).max
    affine = np.zeros((4, 4))
    affine[2, 0] = affine[1, 1] = affine[0, 2] = affine[3, 3] = 1
    header = {"format": "png", "file": str(path), "not_hu": "it is a PNG image, in stored units"}
    voxels = image[None].astype(np.int16 if small else np.float32)
    return Volume(voxels, affine, None, header, "stored", spacing_known=False, notes=tuple(notes))


def _grey(image: np.ndarray, path: Path) -> np.ndarray:
    """(H,W), one channel of an image (H,W,C) whose colour channels are equal."""
    _check_opaque(image, path)
    if (image[..., :3] != image[..., :1]).any():
        hint = (
            "grey values are needed (a mask of classes holds their numbers, not colours of a palette); in a manifest's "
            "source, 'colour: true' reads colours as three channels"
        )
        raise InputError("this is a colour image", str(path), hint)
    return image[..., 0]


def _check_opaque(image: np.ndarray, path: Path) -> None:
    if image.shape[2] == 4 and (image[..., 3] != np.iinfo(image.dtype).max).any():
        raise InputError("this PNG image is partly transparent", str(path), "pixels have to be opaque")


def _checked_chunks(data: bytes, path: Path) -> dict[bytes, bytes]:
    """Check all chunks up to the end mark, since decoders silently pad a truncated file with zeros; return those
    that say something about the image besides its pixels."""
    found: dict[bytes, bytes] = {}
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
            return found
        if kind in (b"acTL", b"eXIf"):
            found[kind] = data[at + 8 : end]
        at = end + 4
