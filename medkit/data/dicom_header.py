"""One DICOM file's header; each value is checked when it is accessed."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom.datadict import tag_for_keyword

from medkit.data.dicom_elements import Elements, find_elements
from medkit.data.mend import NOTHING, Mend, Name, how
from medkit.errors import InputError

# These warnings quote values of the file, which may name a patient. What matters is checked here and for the pixels.
warnings.filterwarnings("ignore", module=r"pydicom(\.|$)")

CT_CLASSES = ("1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.2.1", "1.2.840.10008.5.1.4.1.1.2.2")
"""CT Image Storage, Enhanced CT Image Storage and Legacy Converted Enhanced CT Image Storage."""

SEGMENTATIONS = ("1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7")
"""Segmentation Storage and Label Map Segmentation Storage."""


ORIGINAL = "get the original files: anonymising may have changed this tag"
FIRST = (b"\0\0", b"\x01\0", b"\x05\0", b"\x08\0", b"\x16\0")
"""Elements with which a data set without a preamble begins: length, version, character set, image type, SOP class."""


@dataclass
class Header:
    """What sorting and reading need to know about one file.

    Attributes
    ----------
    parsed:
        All of its tags; None until :attr:`data` is first accessed.
    at:
        Byte at which the pixels' element begins; None if unknown (deflated files).
    elements:
        Where the values of its tags are, if it is a plain file.
    mend:
        What to assume where its tags lack or contradict what reading needs.
    mended:
        The names of ``mend`` that were applied.
    """

    path: Path
    parsed: pydicom.Dataset | None = None
    at: int | None = None
    elements: Elements | None = None
    mend: Mend = field(default=NOTHING, kw_only=True)
    mended: set[Name] = field(default_factory=set, kw_only=True)

    @property
    def data(self) -> pydicom.Dataset:
        """All tags up to the pixels, parsed by pydicom on first access."""
        if self.parsed is None:
            with _guarded(self.path), self.path.open("rb") as file:
                self.parsed = pydicom.dcmread(file, stop_before_pixels=True)
        return self.parsed

    def read(self) -> pydicom.Dataset:
        """The whole file, including its pixels."""
        return _bare(self.path) if "preamble" in self.mended else pydicom.dcmread(self.path)

    def has(self, name: str) -> bool:
        """True if a tag is present, even if empty."""
        return name in self.data if self.elements is None else tag_for_keyword(name) in self.elements.places

    def get(self, name: str) -> Any:
        """The value of a tag, None if absent or empty; raises :class:`InputError` if it cannot be read."""
        if not self.has(name):
            return None
        tag = tag_for_keyword(name) or 0
        try:
            plain = self.elements is not None and self.elements.is_plain(tag)
            value = self.elements.value(tag) if self.elements is not None and plain else self.data.get(name)
        except InputError:
            raise
        except Exception as error:
            raise InputError("this value cannot be read", self.where(name)) from error
        return None if value is None or value == "" else value

    def text(self, name: str) -> str:
        return str(self.get(name) or "").strip()

    def number(self, name: str) -> float | None:
        """The single finite number of a tag, or None; raises :class:`InputError` for anything else."""
        value = self.get(name)
        if value is None:
            return None
        try:
            number = float(value)
        except (TypeError, ValueError) as error:
            raise InputError("this is not a single number", self.where(name)) from error
        if not math.isfinite(number):
            raise InputError(f"{number} is not finite", self.where(name))
        return number

    def words(self, name: str) -> list[str]:
        """The values of a tag that may have several, in upper case."""
        value = self.get(name)
        values = [] if value is None else [value] if isinstance(value, str) else list(value)
        return [str(word).upper() for word in values]

    @property
    def name(self) -> str:
        return self.path.name

    def where(self, tag: str) -> str:
        number = tag_for_keyword(tag) or 0
        return f"{self.path} ({number >> 16:04X},{number & 0xFFFF:04X}) {tag}"


def read_header(path: Path, mend: Mend = NOTHING) -> Header:
    """One file's header; raises :class:`InputError` as :func:`find_header` does, and for a file that is not DICOM."""
    header = find_header(path, mend)
    if header is None:
        raise InputError("this is not a DICOM file", str(path), "is it cut short?")
    return header


def find_header(path: Path, mend: Mend = NOTHING) -> Header | None:
    """One file's header; None for a file that is not DICOM.

    Raises
    ------
    InputError
        for a DICOM file without a preamble, unless that is mended, or one whose header cannot be read to its end.
    """
    with _guarded(path), path.open("rb") as file:
        head = file.read(140)
        if head[128:132] != b"DICM":
            if not _is_bare_data_set(head):
                return None
            if "preamble" in mend.names:
                return Header(path, _bare(path, stop_before_pixels=True), mend=mend, mended={"preamble"})
            raise InputError(
                "this looks like DICOM without its preamble (no DICM at byte 128)",
                str(path),
                "write it again as a complete file: dcmconv IN OUT (DCMTK) or gdcmconv IN OUT (GDCM); or say "
                f"{how('preamble')}",
            )
        file.seek(0)
        elements = find_elements(file)
        if elements is not None:
            return Header(path, None, len(elements.head), elements, mend=mend)
        file.seek(0)
        data = pydicom.dcmread(file, stop_before_pixels=True)
        deflated = str(data.file_meta.get("TransferSyntaxUID", "")) == pydicom.uid.DeflatedExplicitVRLittleEndian
        return Header(path, data, None if deflated else file.tell(), mend=mend)


@contextmanager
def _guarded(path: Path) -> Iterator[None]:
    """Turn whatever reading a header raises into an :class:`InputError` that names the file."""
    try:
        yield
    except InputError:
        raise
    except OSError as error:
        raise InputError(f"the file cannot be read ({error.strerror or error})", str(path)) from error
    except Exception as error:
        what = f"the DICOM header cannot be read ({type(error).__name__})"
        raise InputError(what, str(path), "is the file cut short?") from error


def _is_bare_data_set(head: bytes) -> bool:
    """Whether a file begins, as old exports do, with its first element: group 2 or 8, little-endian."""
    return len(head) >= 12 and head[:2] in (b"\x02\x00", b"\x08\x00") and head[2:4] in FIRST


def _bare(path: Path, stop_before_pixels: bool = False) -> pydicom.Dataset:
    """A data set without a preamble; without a transfer syntax, it is taken as uncompressed and little-endian."""
    data = pydicom.dcmread(path, stop_before_pixels, force=True)
    if "TransferSyntaxUID" not in data.file_meta:
        implicit = data.original_encoding[0]
        data.file_meta.TransferSyntaxUID = (
            pydicom.uid.ImplicitVRLittleEndian if implicit else pydicom.uid.ExplicitVRLittleEndian
        )
    return data


def is_dicom(path: Path) -> bool:
    """True if the file has DICOM's magic bytes."""
    try:
        with path.open("rb") as file:
            return file.read(132)[128:] == b"DICM"
    except OSError:
        return False


def vector(header: Header, tag: str, length: int) -> np.ndarray:
    """The ``length`` finite numbers of a tag; raises :class:`InputError` if they are missing."""
    value = header.get(tag)
    if value is None:
        raise InputError("missing: slices cannot be placed", header.where(tag), ORIGINAL)
    if isinstance(value, str | float | int) or len(value) != length:
        raise InputError("incomplete: slices cannot be placed", header.where(tag), ORIGINAL)
    try:
        numbers = np.array([float(v) for v in value])
    except (TypeError, ValueError) as error:
        raise InputError("incomplete: slices cannot be placed", header.where(tag), ORIGINAL) from error
    if not np.isfinite(numbers).all():
        raise InputError("not finite: slices cannot be placed", header.where(tag), ORIGINAL)
    return numbers


def pixel_spacing(header: Header, tag: str = "PixelSpacing") -> tuple[float, float]:
    """Distance in mm between rows and between columns; raises :class:`InputError` unless both are positive."""
    down, along = vector(header, tag, 2)
    if not (down > 0 and along > 0):
        raise InputError(f"{down:g} x {along:g} mm is not a pixel size", header.where(tag))
    return float(down), float(along)
