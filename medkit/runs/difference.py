"""Whether a run folder holds the run that was asked for."""

from __future__ import annotations

from typing import Any

from medkit.errors import InputError
from medkit.paths import typed
from medkit.recipe import Recipe
from medkit.runs.folder import RunFolder

SETTLED = "draw"
"""Key of a stage that a run decides where the recipe leaves it open, and records."""


def refuse_another(folder: RunFolder, recipe: Recipe, precision: str) -> None:
    """Refuse to continue in a folder with ``recipe`` if what was begun there is another one.

    Raises
    ------
    InputError
        naming the first difference.
    """
    begun = folder.resumable().get("precision", "fp32")
    own = RunFolder.open(folder.path).recipe()  # with the plugin files that it was begun with
    found = first_difference(recipe.resolved(), own.resolved())
    if found is None and begun != precision:
        found = ("precision", precision, begun)
    if found is not None:
        key, wanted, there = found
        what = f"the folder holds a run of another recipe: {key} is {_shown(there)} there and {_shown(wanted)} here"
        hint = f"'medkit resume {typed(folder.path)}' continues that one; choose another --out for this"
        raise InputError(what, str(folder.path), hint)


def first_difference(wanted: Any, there: Any, key: str = "") -> tuple[str, Any, Any] | None:
    """Key, and both values, of the first place where two recipes differ."""
    if isinstance(wanted, dict) and isinstance(there, dict):
        for name in dict.fromkeys([*wanted, *there]):
            if name == SETTLED and wanted.get(name) is None and key.startswith("stages"):
                continue
            found = first_difference(wanted.get(name), there.get(name), f"{key}.{name}".lstrip("."))
            if found is not None:
                return found
        return None
    if isinstance(wanted, list) and isinstance(there, list):
        for number, pair in enumerate(zip(wanted, there, strict=False)):
            name = next((str(item["name"]) for item in pair if isinstance(item, dict) and "name" in item), number)
            if (found := first_difference(*pair, f"{key}.{name}")) is not None:
                return found
        return None if len(wanted) == len(there) else (f"{key} (how many)", len(wanted), len(there))
    return None if wanted == there else (key, wanted, there)


def _shown(value: Any) -> str:
    return "not given" if value is None else repr(value)
