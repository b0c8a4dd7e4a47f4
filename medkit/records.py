"""What runs and measurements leave behind: files written whole or not at all, and what they were made with."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path
from typing import Any

import medkit
from medkit.errors import RunError


def write_atomically(path: Path, content: bytes) -> None:
    """Write ``content`` under a temporary name, flush it to disk and rename it to ``path``.

    Raises
    ------
    RunError
        if it cannot be written; a file that was there before is left as it was.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise RunError(f"cannot be written: {error.strerror}", str(path), "is the disk full?") from error


def made_with(libraries: Iterable[str]) -> dict[str, Any]:
    """Versions of medkit, Python and ``libraries``, and the kind of machine. No host or user names."""
    return {
        "medkit": medkit.__version__,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "cores": os.cpu_count(),
        "libraries": {name: _version(name) for name in libraries},
    }


def _version(distribution: str) -> str:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return "not installed"
