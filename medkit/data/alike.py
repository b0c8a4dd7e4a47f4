"""Names that may mean the same although they are not equal: ``P-01``, ``p1`` and, from a spreadsheet, ``p1.0``."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

WRITTEN = (
    (r"[\s\p{Cf}\p{Cc}]+", ""),
    (r"\p{Pd}", "-"),
    (r"[_/-]+", "-"),
    (r"([^0-9])[-.]([0-9])", r"\1\2"),
    (r"(^|[^0-9.])0+([0-9])", r"\1\2"),
    (r"([0-9])\.0+$", r"\1"),
)
"""What people and programs write in more than one way, and the form in which it is compared."""


def look_alikes(names: Iterable[str]) -> list[list[str]]:
    """Groups of names that differ only in spaces, separators, case, leading zeros or a decimal point with zeros.

    So do letters that Unicode writes in two ways (composed or decomposed accents, full width), kinds of dashes, and
    invisible characters.
    """
    import pyarrow
    import pyarrow.compute as compute

    texts = pyarrow.array(list(dict.fromkeys(names)), pyarrow.large_string())
    plain = compute.utf8_lower(compute.utf8_normalize(texts, "NFKC"))
    for pattern, one in WRITTEN:
        plain = compute.replace_substring_regex(plain, pattern, one)
    plain = plain.dictionary_encode()
    if len(plain.dictionary) == len(texts):
        return []
    codes = plain.indices.to_numpy()
    groups: dict[int, list[str]] = {}
    for row in np.flatnonzero((np.bincount(codes) > 1)[codes]).tolist():
        groups.setdefault(int(codes[row]), []).append(texts[row].as_py())
    return list(groups.values())


def look_alikes_told(names: Iterable[str], most: int = 3) -> str:
    """The first groups of :func:`look_alikes` in words, and how many more there are; nothing if there are none."""
    groups = look_alikes(names)
    told = "; ".join(" and ".join(ascii(name) for name in group[:most]) for group in groups[:most])
    return told + (f", and {len(groups) - most} more" if len(groups) > most else "")
