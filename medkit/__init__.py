"""medkit: composable parts for medical-imaging representation learning.

Names are imported on first use, so that ``import medkit`` and the command line's ``--help`` load no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from medkit import compat

if TYPE_CHECKING:
    from medkit.evaluation.verdict import verdict
    from medkit.front import open, resume, run
    from medkit.recipe import load_recipe
    from medkit.registry.build import build

__version__ = "0.2.0.dev0"

_LAZY = {
    "build": "medkit.registry.build",
    "load_recipe": "medkit.recipe",
    "run": "medkit.front",
    "open": "medkit.front",
    "resume": "medkit.front",
    "verdict": "medkit.evaluation.verdict",
}

compat.install()

__all__ = ["__version__", *sorted(_LAZY), "build", "load_recipe", "open", "resume", "run", "verdict"]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'medkit' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
