"""medkit: composable parts for medical-imaging representation learning.

Names are imported on first use, so that ``import medkit`` and the command line's ``--help`` load no torch.
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

_LAZY = {
    "build": "medkit.building",
    "load_recipe": "medkit.recipe",
    "run": "medkit.runs.run",
    "resume": "medkit.runs.run",
}

__all__ = ["__version__", *sorted(_LAZY)]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'medkit' has no attribute '{name}'")
