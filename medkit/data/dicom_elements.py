"""The elements of a plain DICOM file, found without parsing values, since every run begins with this for every file.

Only what is certain is accepted: the two uncompressed little-endian syntaxes, elements in ascending order and of known
length, a common character set, pixels at the end. Anything else is left to pydicom, and so are the values themselves:
pydicom turns an element's bytes into a value, once for all files of a series that share them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from struct import Struct, error
from typing import Any, BinaryIO, cast

import pydicom
from pydicom.datadict import dictionary_VR, keyword_for_tag
from pydicom.dataelem import RawDataElement, empty_value_for_VR
from pydicom.tag import BaseTag
from pydicom.valuerep import EXPLICIT_VR_LENGTH_32, VR

START = 132
"""Byte at which the elements begin, after the preamble and DICM."""
READ = (1 << 14, 1 << 20)
"""Bytes read at first, and then if the pixels begin later."""
LONG = {vr.encode() for vr in EXPLICIT_VR_LENGTH_32}
SHORT = {vr.encode() for vr in VR if len(vr) == 2} - LONG
NOT_PLAIN = {"OB", "OD", "OF", "OL", "OV", "OW", "SQ", "SV", "UC", "UN", "UR", "UV"}
PLAIN = {*(vr.value for vr in VR if len(vr) == 2), "US or SS"} - NOT_PLAIN
"""Representations whose values follow from their bytes, the character set and PixelRepresentation."""
CHARSETS = (b"", b"ISO_IR 6", b"ISO_IR 100", b"ISO_IR 192")
META_LENGTH, SYNTAX, CHARSET, SIGN = 0x00020000, 0x00020010, 0x00080005, 0x00280103
PIXELS, PIXEL_GROUP = 0x7FE00010, 0x7FE00000
IMPLICIT, EXPLICIT = b"1.2.840.10008.1.2", b"1.2.840.10008.1.2.1"
UNDEFINED = 0xFFFFFFFF
_EXPLICIT, _IMPLICIT, _LONG = Struct("<HH2sH").unpack_from, Struct("<HHI").unpack_from, Struct("<I").unpack_from
Place = tuple[bytes | None, int, int]
Raw = tuple[int, bytes | None, bytes]
"""Tag, representation and bytes of a value."""


class _Unusual(Exception):
    """Raised for anything that is left to pydicom."""


@dataclass(frozen=True)
class Elements:
    """Where the values of a file's elements are, by tag.

    Attributes
    ----------
    head:
        The file's bytes up to the element of its pixels.
    places:
        Value representation (None if the syntax has none), first byte and end of each value.
    context:
        The elements that the values of other tags depend on.
    """

    head: bytes
    implicit: bool
    places: dict[int, Place]
    context: tuple[Raw, ...]

    def is_plain(self, tag: int) -> bool:
        """True if :meth:`value` can give the value of a tag, which must be present."""
        vr = self.places[tag][0]
        return (_dictionary(tag) if vr is None else vr.decode()) in PLAIN

    def value(self, tag: int) -> Any:
        """What pydicom makes of a tag, which must be present. Raises whatever pydicom does."""
        vr, start, end = self.places[tag]
        return _value((tag, vr, self.head[start:end]), self.implicit, self.context)


def find_elements(file: BinaryIO) -> Elements | None:
    """The elements of a file up to its pixels; None for a file that pydicom has to read."""
    head = b""
    for size in READ:
        head += file.read(size - len(head))
        try:
            return _elements(head)
        except _Unusual:
            return None
        except error:  # the header is longer than what was read
            if len(head) < size:
                return None
    return None


def _elements(head: bytes) -> Elements:
    meta, at = _explicit(head, START, 0x0001FFFF, 0x00030000)
    if next(iter(meta), None) != META_LENGTH or SYNTAX not in meta:
        raise _Unusual
    vr, start, end = meta[META_LENGTH]
    if vr != b"UL" or end - start != 4:
        raise _Unusual
    _, start, end = meta[SYNTAX]
    syntax = head[start:end].rstrip(b"\0")
    if syntax not in (IMPLICIT, EXPLICIT) or meta[SYNTAX][0] != b"UI":
        raise _Unusual
    implicit = syntax == IMPLICIT
    places, at = (_implicit if implicit else _explicit)(head, at, 0x0002FFFF, PIXEL_GROUP)
    if CHARSET in places:
        vr, start, end = places[CHARSET]
        if vr not in (None, b"CS") or head[start:end].removesuffix(b" ") not in CHARSETS:
            raise _Unusual
    group, element = _EXPLICIT(head, at)[:2]
    _LONG(head, at + 8)  # pydicom refuses an element that is cut short
    if group << 16 | element != PIXELS:
        raise _Unusual
    context = tuple((tag, places[tag][0], head[slice(*places[tag][1:])]) for tag in (CHARSET, SIGN) if tag in places)
    return Elements(head[:at], implicit, places, context)


def _explicit(head: bytes, at: int, before: int, stop: int) -> tuple[dict[int, Place], int]:
    """Places of the elements between two tags, and the byte at which the next one begins."""
    found: dict[int, Place] = {}
    while True:
        group, element, vr, length = _EXPLICIT(head, at)
        tag = group << 16 | element
        if tag >= stop:
            return found, at
        start = at + 8
        if vr in LONG:
            (length,) = _LONG(head, start)
            start += 4
        elif vr not in SHORT:
            raise _Unusual
        if tag <= before or length == UNDEFINED:
            raise _Unusual
        at = start + length
        found[tag] = vr, start, at
        before = tag


def _implicit(head: bytes, at: int, before: int, stop: int) -> tuple[dict[int, Place], int]:
    found: dict[int, Place] = {}
    if all(b"A" <= head[at + i : at + i + 1] <= b"Z" for i in (4, 5)):  # explicit after all
        raise _Unusual
    while True:
        group, element, length = _IMPLICIT(head, at)
        tag = group << 16 | element
        if tag >= stop:
            return found, at
        if tag <= before or length == UNDEFINED:
            raise _Unusual
        start, at = at + 8, at + 8 + length
        found[tag] = None, start, at
        before = tag


@lru_cache(maxsize=1024)
def _dictionary(tag: int) -> str:
    try:
        return dictionary_VR(tag)
    except KeyError:
        return "UN"


@lru_cache(maxsize=4096)
def _value(element: Raw, implicit: bool, context: tuple[Raw, ...]) -> Any:
    raw = [_raw_element(*one, implicit) for one in (*context, element)]
    return pydicom.Dataset({one.tag: one for one in raw}).get(keyword_for_tag(element[0]))


def _raw_element(tag: int, vr: bytes | None, raw: bytes, implicit: bool) -> RawDataElement:
    name = None if vr is None else vr.decode()
    value = raw or cast("bytes | None", empty_value_for_VR(name, raw=True))
    return RawDataElement(BaseTag(tag), name, len(raw), value, 0, implicit, True)
