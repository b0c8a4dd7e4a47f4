"""medkit: composable parts for representation learning in medical imaging.

Names are imported on first use, so that ``import medkit`` and the command line's ``--help`` do not load torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from medkit import compat

if TYPE_CHECKING:
    from medkit.evaluation.verdict import verdict
    from medkit.front import export, open, resume, run
    from medkit.recipe import load_recipe, recipe_from
    from medkit.registry.build import build
    from medkit.registry.cells import part

__version__ = "0.2.0"

_LAZY = {
    "build": "medkit.registry.build",
    "export": "medkit.front",
    "load_recipe": "medkit.recipe",
    "open": "medkit.front",
    "part": "medkit.registry.cells",
    "recipe_from": "medkit.recipe",
    "resume": "medkit.front",
    "run": "medkit.front",
    "verdict": "medkit.evaluation.verdict",
}

compat.install()

__all__ = [
    "__version__",
    "build",
    "export",
    "load_recipe",
    "open",
    "part",
    "recipe_from",
    "resume",
    "run",
    "verdict",
]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'medkit' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted({name for name in globals() if name.startswith("__")} | {*__all__})
