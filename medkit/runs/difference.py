"""Whether a run folder holds the run that was asked for."""

from __future__ import annotations

from medkit.errors import InputError
from medkit.paths import typed
from medkit.recipe import Recipe
from medkit.recipe.difference import first_difference, shown
from medkit.runs.folder import RunFolder


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
        what = f"the folder holds a run of another recipe: {key} is {shown(there)} there and {shown(wanted)} here"
        hint = f"'medkit resume {typed(folder.path)}' continues that one; choose another --out for this"
        raise InputError(what, str(folder.path), hint)
