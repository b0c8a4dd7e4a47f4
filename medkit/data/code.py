"""Digests of code: they change with every file that a class's results may come from, but for installed libraries."""

from __future__ import annotations

import functools
import hashlib
import inspect
import sys
from collections.abc import Iterator
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

from medkit.data.imports import OWN, imported_by, is_under_work, top


@functools.cache
def code_of(cls: Any) -> str:
    """A digest of the source code of a class or function; ``""`` for medkit's own, which has a version.

    It covers the Python files of the class's package, those of its base classes, files that these import and that are
    not installed, and the class as it was loaded.
    """
    own = top(cls.__module__)
    if own == OWN:
        return ""
    digest = hashlib.blake2b(digest_size=16)
    files: set[Path] = set()
    theirs: set[Path] = set()  # of libraries, which import nothing of the plugin's
    for base in getattr(cls, "__mro__", (cls,)):
        if top(base.__module__) not in (OWN, "builtins"):
            _loaded(base, digest)
            is_own = top(base.__module__) == own
            found = _files(base.__module__, is_own)
            files |= found
            theirs |= set() if is_own else {file for file in found if not is_under_work(file)}
    files |= imported_by(files - theirs, own)
    # In an order that is the same wherever the files are, as a run keeps a copy of a plugin's.
    for name, content in sorted((file.name, file.read_bytes()) for file in files):
        digest.update(f"\0{name}\0".encode() + content)
    return digest.hexdigest()


def _loaded(cls: Any, digest: Any) -> None:
    """Add the compiled code of a class or function: its file may have been edited since, or not exist."""
    members = vars(cls) if isinstance(cls, type) else {"": cls}
    for name, value in sorted(members.items()):
        function = inspect.unwrap(getattr(value, "__func__", value)) if not isinstance(value, type) else None
        code = getattr(function, "__code__", None)
        if isinstance(code, CodeType):
            digest.update(f"\0{name}\0{_compiled(code)}".encode())


def _compiled(code: CodeType) -> str:
    return repr((code.co_code.hex(), code.co_names, [_constant(item) for item in code.co_consts]))


def _constant(item: Any) -> str:
    if isinstance(item, CodeType):
        return _compiled(item)
    if isinstance(item, frozenset):
        return str(sorted(map(_constant, item)))  # the order of sets differs from process to process
    return str([_constant(one) for one in item]) if isinstance(item, tuple) else repr(item)


def _files(name: str, whole: bool) -> set[Path]:
    """The file of a module, or those of its package, and files that these import and that are not installed."""
    found: set[Path] = set()
    waiting, seen = [(name, whole)], set()
    while waiting:
        name, whole = waiting.pop()
        module = sys.modules.get(name)
        if module is None or name in seen:
            continue
        seen.add(name)
        package = sys.modules.get(top(name))
        file = getattr(module, "__file__", None)
        if file and Path(file).is_file():
            found.add(Path(file))
        if file and getattr(package, "__path__", None):
            found |= set(Path(file).parent.glob("*.py"))  # includes what functions import when called
        if whole:
            waiting += [(other, False) for other in list(sys.modules) if top(other) == top(name)]
        if whole or _under_work(module):
            waiting += [(other.__name__, True) for other in _imported(module) if _under_work(other)]
    return found


def _imported(module: ModuleType) -> Iterator[ModuleType]:
    for value in list(vars(module).values()):
        name = value.__name__ if isinstance(value, ModuleType) else getattr(value, "__module__", None)
        other = sys.modules.get(name) if isinstance(name, str) else None
        if other is not None and other is not module:
            yield other


def _under_work(module: ModuleType) -> bool:
    file = getattr(module, "__file__", None)
    return bool(file) and top(module.__name__) != OWN and is_under_work(Path(file or ""))
