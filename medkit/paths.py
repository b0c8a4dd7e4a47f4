"""Default folders, and paths as they stand in commands; importable without torch."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path

PLAIN = re.compile(r"[\w@%+=:,./-]+")
MEANT = re.compile(r'([\\"$`])')


def cache_folder() -> Path:
    """Where prepared samples are kept: ``$MEDKIT_CACHE``, else ``~/.cache/medkit``."""
    return Path(os.environ.get("MEDKIT_CACHE") or Path.home() / ".cache" / "medkit")


def default_folder(name: str) -> Path:
    """``runs/NAME-DATE-TIME`` below the current folder."""
    return Path("runs") / f"{name}-{time.strftime('%Y%m%d-%H%M%S')}"


def typed(path: str | Path) -> str:
    """A path as it is typed in a command: in quotes where a shell needs them, and never taken for an option."""
    text = str(path)
    text = f"./{text}" if text.startswith("-") else text
    return text if PLAIN.fullmatch(text) else '"' + MEANT.sub(r"\\\1", text) + '"'
