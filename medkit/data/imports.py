"""Files that a Python file imports, as its text says: at its top, in functions, or by ``import_module("name")``.

What is loaded does not tell: of ``from constants import FACTOR`` only a number is left.
"""

from __future__ import annotations

import functools
import importlib.util
import re
import sys
import sysconfig
from collections.abc import Iterable, Iterator, Sequence
from importlib.machinery import ModuleSpec
from pathlib import Path

OWN = "medkit"  # the package whose version stands for its code
COMMENT = re.compile(r"#[^\n]*|\\\r?\n")
"""Comments, and ends of lines that go on."""
FROM = re.compile(r"\bfrom[ \t]*(\.+|(?<=[ \t]))[ \t]*([\w.]*)[ \t]+import\b[ \t]*(\([^)]*\)|[^\n;]*)")
IMPORT = re.compile(r"(?:^|[;:])[ \t]*import[ \t]+([^\n;]+)", re.MULTILINE)
CALLED = re.compile(r"\b(?:import_module|__import__)\(\s*[\"']([\w.]+)[\"']")


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
    """Names of modules in import statements, with leading dots if relative; some may be names within a module."""
    text = COMMENT.sub(" ", content.decode(errors="replace"))
    found = set(CALLED.findall(text))
    for names in IMPORT.findall(text):
        found |= {name.split()[0] for name in names.split(",") if name.strip()}
    for dots, module, names in FROM.findall(text):
        base = dots + module
        found |= {base, *(base + "." * bool(module) + name for name in re.findall(r"\w+", names))}
    return frozenset(name for name in found if name)


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
