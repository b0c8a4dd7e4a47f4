"""Module names of medkit 0.1, for one release: moved modules are still found under their old names, with a warning."""

from __future__ import annotations

import importlib
import sys
import warnings
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType

_WINGS = {
    "registry": "plugin=plugins hooks marks schema static builtin building=build promises",
    "recipe": "recipe_model=model recipe_reader=reader recipe_pieces=pieces recipe_report=report blocks "
    "yaml_marks=yaml json_schema",
    "evaluation": "runs.evaluate=evaluate runs.stats=statistics runs.comparisons=comparisons runs.maps=maps "
    "runs.embeddings=embeddings runs.ready=ready",
    "reporting": "runs.report=report runs.figures=figures runs.figures_embedding=figures_embedding runs.tables=tables "
    "runs.layouts=paper_tables runs.layout_model=paper_table_model runs.layout_text=paper_table_text "
    "runs.layout_captions=paper_table_captions",
}
MOVED = {
    f"medkit.{old}": f"medkit.{wing}.{new or old}"
    for wing, names in _WINGS.items()
    for old, _, new in (name.partition("=") for name in names.split())
}
MOVED |= {
    "medkit.engine.stage": "medkit.compat_engine",
    "medkit.engine.thaw": "medkit.compat_engine",
    "medkit.runs.again": "medkit.runs.measure",
}
"""Old names to new names."""


class _Alias:
    """Loads the moved module and restores its own spec, which the import system replaces with the old name's."""

    def __init__(self, old: str) -> None:
        self.old = old
        self.own: ModuleSpec | None = None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        new = MOVED[self.old]
        warnings.warn(f"{self.old} is now {new}; medkit 0.3 drops the old name", DeprecationWarning, stacklevel=2)
        module = importlib.import_module(new)
        self.own = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        module.__spec__ = self.own


class _Finder:
    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        return ModuleSpec(fullname, _Alias(fullname)) if fullname in MOVED else None  # type: ignore[arg-type]


def install() -> None:
    """Make old names importable."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.append(_Finder())  # type: ignore[arg-type]
