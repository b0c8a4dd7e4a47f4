"""Which files an image is read from: the only parser of the names that manifests and commands give."""

from __future__ import annotations

import os
from pathlib import Path

from medkit.errors import InputError

LIST = ".txt"  # a text file that lists the files of one series, one per line, relative to itself

LONGEST = 4096  # characters of a path, on Linux


def place(name: str | Path) -> tuple[Path, str]:
    """The file or folder that a name means, and the series of ``FOLDER#SERIES_UID``, else ``""``.

    A '#' in the name of something that exists is part of that name.
    """
    text = str(name)
    folder, mark, uid = text.rpartition("#")
    if mark and uid and not os.path.exists(text) and os.path.isdir(folder):
        return Path(folder), uid
    return Path(text), ""


def listed(path: Path) -> list[Path]:
    """The files that a series list names, in its order.

    Raises
    ------
    InputError
        if it is not text, or lists nothing.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()  # Windows programs begin text with a byte-order mark
    except UnicodeDecodeError as error:
        what = "this is not text, so it cannot be a list of DICOM files"
        raise InputError(what, str(path), "a list names one file per line, in UTF-8") from error
    except OSError as error:
        raise InputError(f"the list cannot be read ({error.strerror})", str(path)) from error
    files = [path.parent / system(line.strip()) for line in lines if line.strip()]
    if not files:
        raise InputError("the list is empty", str(path), "a list names one file per line")
    return files


def files_of(name: str | Path) -> list[Path]:
    """Every file that reading an image may open, so that a change in any of them can be noticed.

    For a folder these are all files that are not hidden, whatever their series; for a list, the list and the files that
    it names; for a NIfTI pair, both files.
    """
    path, _ = place(name)
    if os.path.isdir(path):
        with os.scandir(path) as entries:
            return sorted(Path(entry.path) for entry in entries if entry.name[0] != "." and entry.is_file())
    if path.suffix == LIST:
        return [path, *listed(path)]
    return [path, *(other for other in _partners(path) if os.path.exists(other))]


def is_folder(text: str) -> bool:
    """Whether a text is the absolute path of a folder; ``/`` alone is not, as it is also a separator."""
    return os.path.isabs(text) and os.path.dirname(text) != text and os.path.isdir(text)


def all_below(folder: str | Path) -> list[tuple[str, Path]]:
    """Every file in a folder and in those below that is not hidden, with its place there, by place.

    Raises
    ------
    InputError
        naming a folder that cannot be listed.
    """
    found, seen = [], {os.path.realpath(folder)}
    for place, folders, names in os.walk(folder, onerror=_unlisted, followlinks=True):
        inside = {name: os.path.realpath(os.path.join(place, name)) for name in folders if name[0] != "."}
        folders[:] = [name for name, real in inside.items() if real not in seen]  # links may lead around
        seen.update(inside.values())
        found += [Path(place, name) for name in names if name[0] != "."]
    return sorted((file.relative_to(folder).as_posix(), file) for file in found if file.is_file())


def _unlisted(error: OSError) -> None:
    raise InputError(f"the folder cannot be listed ({error.strerror})", shown(error.filename)) from error


def _partners(path: Path) -> list[Path]:
    for own, other in ((".hdr", ".img"), (".img", ".hdr")):
        for packed in ("", ".gz"):
            if path.name.endswith(own + packed):
                stem = path.name.removesuffix(own + packed)
                return [path.with_name(stem + other), path.with_name(stem + other + ".gz")]
    return []


def stamp(name: str | Path) -> str:
    """Name, size and date of every file from which an image is read, in one string.

    Nothing is read, so a change that keeps size and date goes unnoticed.

    Raises
    ------
    InputError
        naming a file that does not exist (any more).
    """
    files = files_of(name)
    return f"{os.path.abspath(name)}: {[(file.name, *size_and_date(file)) for file in files]}"


def system(text: str) -> str:
    """A name written in UTF-8, in the form that this system's functions take in any locale."""
    return os.fsdecode(text.encode("utf-8", "surrogateescape"))


def shown(name: str | Path) -> str:
    """A name for an error message, shortened if it is too long to be a path."""
    text = str(name)
    return text if len(text) <= LONGEST else f"{text[:100]}... ({len(text)} characters)"


def size_and_date(file: Path) -> tuple[int, int]:
    """Size in bytes and time of the last change in ns."""
    try:
        found = file.stat()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        what = f"the file cannot be read ({reason})"
        raise InputError(what, shown(file), "was it moved or deleted?") from error
    return found.st_size, found.st_mtime_ns
