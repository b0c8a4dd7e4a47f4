"""Default folders; importable without torch."""

from __future__ import annotations

import os
import time
from pathlib import Path


def cache_folder() -> Path:
    """Where prepared samples are kept: ``$MEDKIT_CACHE``, else ``~/.cache/medkit``."""
    return Path(os.environ.get("MEDKIT_CACHE") or Path.home() / ".cache" / "medkit")


def default_folder(name: str) -> Path:
    """``runs/NAME-DATE-TIME`` below the current folder."""
    return Path("runs") / f"{name}-{time.strftime('%Y%m%d-%H%M%S')}"
