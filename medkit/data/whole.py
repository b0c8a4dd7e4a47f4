"""Outputs that appear whole or not at all."""

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
    """A temporary folder beside ``folder`` that takes its name when the block ends well, and goes when it does not."""
    with _whole(folder) as temporary:
        temporary.mkdir()
        yield temporary


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A temporary file name beside ``path``, with its suffixes, that takes its name when the block ends well."""
    with _whole(path) as temporary:
        yield temporary


@contextmanager
def _whole(target: Path) -> Iterator[Path]:
    if target.exists():
        raise InputError("the output exists", str(target), "name a new one: nothing is overwritten")
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
            with suppress(OSError):  # what went wrong before is what has to be told
                temporary.unlink()
