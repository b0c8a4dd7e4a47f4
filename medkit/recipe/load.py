"""Recipes: what a run is made of, as data.

``load_recipe`` reads and checks everything in one go and reports every problem with its line. A block with ``use:`` is
one constructor call; nothing in a recipe is evaluated or imported by path.
"""

from __future__ import annotations

import importlib.resources
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from medkit.errors import InputError, did_you_mean
from medkit.recipe import yaml as yaml_marks
from medkit.recipe.model import Recipe
from medkit.recipe.reader import read_recipe
from medkit.recipe.yaml_dump import dump

STUDIES = "studies"
PANELS = "panels"
"""The folders of bundled studies and panels, which are not recipes."""


def load_recipe(recipe: str | Path, set: Sequence[str] = ()) -> Recipe:
    """Read and check a recipe given by its path or by the name of a bundled one.

    Parameters
    ----------
    recipe:
        ``recipes/ich_seg.yaml``, ``ich_seg`` or ``thesis/ich_seg``. Relative paths in a file of yours start at its
        folder; in a bundled recipe, in Python data and in ``set``, at the current one.
    set:
        Overrides ``KEY=VALUE``, applied before anything is checked.

    Raises
    ------
    InputError
        with every problem found, one per line, each with file, line, column and key.
    """
    path, shown = find(recipe)
    root = yaml_marks.read(path, shown)
    for assignment in set:
        yaml_marks.override(root, assignment)
    own = Path(recipe).is_file()
    return read_recipe(root, folder=path.resolve().parent if own else None)


def recipe_from(data: Mapping[str, Any] | BaseModel, set: Sequence[str] = ()) -> Recipe:
    """Check a recipe given as Python data: mappings, or pydantic models and dataclasses, anywhere in it.

    A part is a mapping with ``use``: a name, or a class that is registered (:func:`medkit.part`). Relative paths start
    at the current folder.

    Raises
    ------
    InputError
        with every problem found, one per line, each with its key.
    """
    root = yaml_marks.from_python(data)
    for assignment in set:
        yaml_marks.override(root, assignment)
    return read_recipe(root)


def check_round_trip(recipe: Recipe) -> None:
    """Make sure that what a run would write as its recipe reads back as the same recipe.

    Raises
    ------
    InputError
        if it is not, as with a recipe put together in Python from names or values that no recipe can hold.
    """
    text = dump(recipe.resolved())
    if dump(read_recipe(yaml_marks.parse(text, "the resolved recipe")).resolved()) != text:
        raise InputError("the recipe would not be read back as it is", recipe.name, "write it as a file and load that")


def find(recipe: str | Path) -> tuple[Path, str]:
    """The file of a recipe, and what errors call it."""
    path = Path(recipe)
    if not str(recipe).strip():
        raise InputError("no recipe is given", hint="give the path of one, or the name of a bundled one: ich_seg")
    if path.is_file():
        return path, str(recipe)
    if path.is_dir():
        raise InputError("this is a folder, not a recipe", str(recipe), "'medkit resume' continues a run folder")
    known = dict(bundled())
    name = str(recipe).removesuffix(".yaml").removeprefix("recipes/")
    if name in known:
        return known[name], str(recipe)
    hint = did_you_mean(name, known) or f"bundled recipes: {', '.join(known)}"
    raise InputError("there is no such recipe file, and no bundled recipe of that name", str(recipe), hint)


def bundled() -> Iterator[tuple[str, Path]]:
    """Names and paths of the recipes that come with medkit."""
    root = Path(str(importlib.resources.files("medkit_recipes")))
    for path in sorted(root.rglob("*.yaml")):
        if not {root / STUDIES, root / PANELS} & set(path.parents):
            yield str(path.relative_to(root).with_suffix("")), path
