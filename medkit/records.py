"""Files written completely or not at all, and the versions with which they were made."""

from __future__ import annotations

import errno
import os
import platform
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any, BinaryIO

import medkit
from medkit.errors import InputError, MedkitError, RunError

ROOM = {
    errno.ENOSPC: "free some space",
    errno.EDQUOT: "free some space in your quota",
    errno.EFBIG: "raise the limit on file size (ulimit -f)",
}
"""What helps where there is no room for a file, by error number."""


def write_atomically(path: Path, content: bytes) -> None:
    """Write ``content`` under a temporary name, flush it to disk and rename it to ``path``.

    Raises
    ------
    RunError
        if it cannot be written; then an existing file is unchanged.
    """
    with written_atomically(path) as file:
        file.write(content)


@contextmanager
def written_atomically(path: Path) -> Iterator[BinaryIO]:
    """A file to write piece by piece, which becomes ``path`` in the end, as with :func:`write_atomically`."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise write_error(error, path, temporary) from error
    finally:
        with suppress(OSError):  # it was renamed, or never made
            temporary.unlink()


def write_error(error: OSError, target: Path, temporary: Path) -> MedkitError:
    """The error to raise when writing ``target`` under a temporary name ended in ``error``.

    It is an error of the output only if it names the output, its temporary file, their folder, or no file at all. Any
    other file that it names was being read, which makes it an :class:`InputError`.
    """
    named = [Path(os.fsdecode(name)) for name in (error.filename, error.filename2) if isinstance(name, str | bytes)]
    inputs = [
        name for name in named if temporary not in (name, *name.parents) and name not in (target, *target.parents)
    ]
    if inputs:
        return InputError(f"cannot be read: {error.strerror}", str(inputs[0]))
    return RunError(f"cannot be written: {reason(error)}", str(target), room(error))


def room(error: Exception) -> str | None:
    """What helps if a file could not be written for lack of space; None if something else prevented it.

    safetensors raises errors of its own, whose text contains the system's error number.
    """
    found = re.search(r"os error (\d+)", str(error))
    number = getattr(error, "errno", None) or (int(found[1]) if found else 0)
    return ROOM.get(number)


def reason(error: OSError) -> str:
    """Why, in the system's words, or else in those of the library that raised it."""
    return error.strerror or (str(error).splitlines() or [type(error).__name__])[0]


def encoded(text: str) -> bytes:
    """UTF-8, keeping the bytes of a path that an ASCII locale has decoded with surrogate escapes."""
    return text.encode("utf-8", "surrogateescape")


def made_with(libraries: Iterable[str]) -> dict[str, Any]:
    """Versions of medkit, Python and ``libraries``, and the kind of machine; without host or user names."""
    return {
        "medkit": medkit.__version__,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "cores": os.cpu_count(),
        "libraries": {name: _version(name) for name in libraries},
    }


_installed = cache(metadata.version)
"""Read once a process: it imports no other version later."""


def _version(distribution: str) -> str:
    try:
        return _installed(distribution)
    except metadata.PackageNotFoundError:
        return "not installed"
