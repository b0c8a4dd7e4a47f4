"""Files that a Python file imports, as its text says: at its top, in functions, or by ``import_module("name")``.

What is loaded does not tell: of ``from constants import FACTOR`` only a number is left.
"""

from __future__ import annotations

import ast
import functools
import importlib.util
import sys
import sysconfig
from collections.abc import Iterable, Iterator, Sequence
from importlib.machinery import ModuleSpec
from pathlib import Path

OWN = "medkit"  # the package whose version stands for its code
CALLED = ("import_module", "__import__")


def top(module: str) -> str:
    """The first part of a module's name."""
    return module.partition(".")[0]


def imported_by(files: Iterable[Path], own: str) -> set[Path]:
    """Files that these import, and what those import, of the package ``own`` and of all that is not installed.

    A regular package counts with all modules beside its ``__init__``, some of which may be imported by other means.
    """
    found: set[Path] = set()
    resolved: set[tuple[Path | None, str]] = set()
    waiting = list(files)
    while waiting:
        file = waiting.pop()
        if file.suffix != ".py":
            continue
        for name in _names(file.read_bytes()):
            place = file.parent if name[0] == "." else None
            if (place, name) in resolved:
                continue
            resolved.add((place, name))
            new = set(_absolute(name, own) if place is None else _relative(name, place)) - found
            new |= {beside for one in new if one.name == "__init__.py" for beside in one.parent.glob("*.py")} - found
            waiting += new
            found |= new
    return found


def is_under_work(file: Path) -> bool:
    """Whether a file is neither installed nor part of Python."""
    parts = file.parts
    return not {"site-packages", "dist-packages"} & set(parts) and not file.is_relative_to(_standard_library())


@functools.lru_cache(maxsize=512)
def _names(content: bytes) -> frozenset[str]:
    """Names of modules that a file imports, with leading dots if relative; some may be names within a module.

    A file that is not Python's imports nothing: what needs it has failed already.
    """
    found: set[str] = set()
    try:
        tree = ast.parse(content)
    except (SyntaxError, ValueError):
        return frozenset()
    for node in ast.walk(tree):
        match node:
            case ast.Import(names):
                found |= {alias.name for alias in names}
            case ast.ImportFrom(module, names, level):
                base = "." * (level or 0) + (module or "")
                found |= {base, *(f"{base}{'.' if module else ''}{alias.name}" for alias in names)}
            case ast.Call(function, [ast.Constant(str(name)), *_]) if _called(function) in CALLED:
                found.add(name)
    return frozenset(found)


def _called(function: ast.expr) -> str:
    """The name of what is called, without the module that it is taken from."""
    return getattr(function, "attr", getattr(function, "id", ""))


def _relative(name: str, folder: Path) -> Iterator[Path]:
    inner = name.lstrip(".")
    up = len(name) - len(inner) - 1
    if up <= len(folder.parents):
        folder = [folder, *folder.parents][up]
        yield from _existing(folder / "__init__.py")
        yield from _below([folder], inner)


def _absolute(name: str, own: str) -> Iterator[Path]:
    first, _, inner = name.partition(".")
    spec = None if first == OWN else _spec(first)
    if spec is None:
        return
    origin = Path(spec.origin or "")
    folders = [Path(folder) for folder in spec.submodule_search_locations or []]
    if first == own or all(map(is_under_work, [origin, *folders])):
        yield from _existing(origin)
        yield from _below(folders, inner)


def _spec(name: str) -> ModuleSpec | None:
    module = sys.modules.get(name)
    if module is not None and module.__spec__ is not None:
        return module.__spec__
    try:
        return importlib.util.find_spec(name)
    except (ImportError, ValueError, AttributeError):  # such as a script, which is no module
        return None


def _below(folders: Sequence[Path], name: str) -> Iterator[Path]:
    """The files of ``package.module`` and of the packages around it."""
    for part in name.split(".") if name else []:
        for folder in folders:
            yield from _existing(folder / f"{part}.py")
            yield from _existing(folder / part / "__init__.py")
        folders = [folder / part for folder in folders]


def _existing(file: Path) -> Iterator[Path]:
    if file.is_file():
        yield file


@functools.cache
def _standard_library() -> str:
    return sysconfig.get_paths()["stdlib"]
