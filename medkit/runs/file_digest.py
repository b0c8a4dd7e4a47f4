"""Digests of files: of weights, recipes' inputs and images; a file that stays as it is, is read once per process."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from pathlib import Path

RECENT = 1_000_000_000
"""Nanoseconds for which a file is not taken to be as it was last written."""
_digests: dict[Path, tuple[tuple[int, ...], str]] = {}
"""What files were when they were last read, and their digests."""


def digest(path: Path) -> str:
    """SHA-256 of a file, as hexadecimal digits; a process reads a file again only if it may have changed."""
    found = path.stat()
    known = (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
    if time.time_ns() - max(known[3:]) < RECENT:
        return _read(path)  # a second change within a tick of the file system's clock would not show
    if path not in _digests or _digests[path][0] != known:
        _digests[path] = known, _read(path)
    return _digests[path][1]


def digest_of_all(paths: Sequence[Path]) -> str:
    """SHA-256 of one file; of several, that of their digests, one a line, ordered by the files' names."""
    if len(paths) == 1:
        return digest(paths[0])
    lines = "".join(f"{digest(path)}\n" for path in sorted(paths))
    return hashlib.sha256(lines.encode()).hexdigest()


def _read(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
