"""Outputs that are written completely or not at all."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from medkit.errors import InputError
from medkit.records import write_error


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """A temporary folder beside ``folder``, renamed to it if the block succeeds, and deleted if it does not."""
    with _whole(folder) as temporary:
        temporary.mkdir()
        yield temporary


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """The name of a temporary file beside ``path``, with its suffixes, renamed to it if the block succeeds."""
    with _whole(path) as temporary:
        yield temporary


def check_room(path: Path) -> None:
    """Raise, before the work is done, if nothing can be written at ``path``: the folder that is to hold it, or the
    nearest one above it that exists, is a file or is not writable."""
    above = next(folder for folder in path.absolute().parents if folder.exists())
    if not above.is_dir():
        raise InputError(f"'{above}' is a file, so nothing can be written below it", str(path), "name another place")
    if not os.access(above, os.W_OK | os.X_OK):
        raise InputError(f"the folder '{above}' is not writable", str(path), "name another place")


@contextmanager
def _whole(target: Path) -> Iterator[Path]:
    if target.exists():
        raise InputError("the output exists already", str(target), "name a new one: nothing is overwritten")
    check_room(target)
    temporary = target.with_name(f".{uuid.uuid4().hex[:8]}.{target.name}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        os.rename(temporary, target)
    except OSError as error:
        raise write_error(error, target, temporary) from error
    finally:
        if temporary.is_dir():
            shutil.rmtree(temporary, ignore_errors=True)
        else:
            with suppress(OSError):  # must not hide the error that came before
                temporary.unlink()
