"""Names that may mean one patient although they are not equal: ``P-01``, ``p1`` and, from a spreadsheet, ``p1.0``."""

from __future__ import annotations

import re
import unicodedata

FRACTION = re.compile(r"(?<=\d)\.0+$")
BETWEEN = re.compile(r"[\s_./-]+")
ZEROS = re.compile(r"(?<!\d)0+(?=\d)")
BEFORE_NUMBER = re.compile(r"(?<=\D) (?=\d)")


def core_of(name: str) -> str:
    """A name without what people and programs write in more than one way: case, separators, leading zeros, ``.0``."""
    plain = FRACTION.sub("", unicodedata.normalize("NFKC", name).casefold().strip())
    return ZEROS.sub("", BEFORE_NUMBER.sub("", BETWEEN.sub(" ", plain)))
