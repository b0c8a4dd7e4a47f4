"""The source of a class that was written in a notebook's cell, with all that it uses, as a stand-alone file.

Nobody can resume, trace or share what exists only in a process. So a class's own text is put together with the imports,
functions, classes and plain values of the notebook that it names, and what names anything else is refused.
"""

from __future__ import annotations

import ast
import builtins
import importlib
import inspect
import linecache
import symtable
import sys
from collections.abc import Iterator, Mapping
from types import FunctionType, ModuleType
from typing import Any

from medkit.errors import InputError

LIKELY = ("medkit.api", "typing", "collections.abc")
"""Modules that are asked first where a name comes from."""
HINT = "make it inside the class, give it as an argument, or write the class into a file and use --plugin"


def text_of(made: type, decorator: str) -> str:
    """A module with the class ``made`` and all that it uses; decorators called ``decorator`` are left out.

    Raises
    ------
    InputError
        if its text is not known, or it uses a value that cannot be written down, by name.
    """
    return _Text(made, decorator).text()


class _Text:
    def __init__(self, made: type, decorator: str) -> None:
        self.made, self.decorator = made, decorator
        self.names: Mapping[str, Any] = vars(sys.modules[made.__module__])
        self.imports: dict[str, str] = {}
        self.values: dict[str, str] = {}
        self.definitions: dict[str, str] = {}

    def text(self) -> str:
        self._define(self.made.__name__, self.made)
        parts = [sorted(self.imports.values()), list(self.values.values()), list(self.definitions.values())]
        return "\n\n".join("\n".join(part) for part in parts if part) + "\n"

    def _define(self, name: str, what: type | FunctionType) -> None:
        """Take a class or function of the notebook, and before it what it names."""
        text, tree = self._source(what)
        self.definitions[name] = ""  # it may name itself
        for used in sorted(_globals(tree)):
            self._use(used)
        del self.definitions[name]
        self.definitions[name] = f"{text}\n"

    def _use(self, name: str) -> None:
        if name in self.imports or name in self.values or name in self.definitions:
            return
        if name not in self.names:
            if not hasattr(builtins, name):
                raise self._refused(name, "which is not defined")
            return
        value = self.names[name]
        if isinstance(value, ModuleType):
            same = value.__name__ == name
            self.imports[name] = f"import {value.__name__}" if same else f"import {value.__name__} as {name}"
        elif isinstance(value, type | FunctionType) and value.__module__ == self.made.__module__:
            self._define(name, value)
        elif (found := _imported(name, value, self.made.__module__)) is not None:
            module, own = found
            self.imports[name] = f"from {module} import {own}" + (f" as {name}" if own != name else "")
        elif (written := _written(value)) is not None:
            self.values[name] = f"{name} = {written}"
        else:
            raise self._refused(name, f"a {type(value).__name__} of the notebook, which cannot be written into a file")

    def _refused(self, name: str, why: str) -> InputError:
        return InputError(f"'{self.made.__name__}' uses '{name}', {why}", hint=HINT)

    def _source(self, what: type | FunctionType) -> tuple[str, ast.Module]:
        """The text of a definition without the decorator that registers it, and its tree."""
        for lines in _places(what):
            found = _definition("".join(lines), what.__name__)
            if found is not None:
                text = self._without_decorator("".join(lines).splitlines(), found)
                return text, ast.parse(text)
        hint = "write it into a file, and give that with --plugin, or medkit.registry.plugins.load_file"
        raise InputError(f"the text of '{what.__name__}' is not known here", hint=hint)

    def _without_decorator(self, lines: list[str], found: ast.ClassDef | ast.FunctionDef) -> str:
        left = set()
        for one in found.decorator_list:
            called = one.func if isinstance(one, ast.Call) else one
            if ast.unparse(called).split(".")[-1] == self.decorator:
                left |= set(range(one.lineno, (one.end_lineno or one.lineno) + 1))
        first = min([found.lineno, *(one.lineno for one in found.decorator_list)])
        return "\n".join(lines[n - 1] for n in range(first, (found.end_lineno or first) + 1) if n not in left)


def _places(what: type | FunctionType) -> Iterator[list[str]]:
    """Lines of the cells or files that a class or function may be written in."""
    functions = [what] if isinstance(what, FunctionType) else [_function(value) for value in vars(what).values()]
    names = dict.fromkeys(one.__code__.co_filename for one in functions if one is not None)
    for name in names:
        if lines := linecache.getlines(name):
            yield lines
    file = getattr(sys.modules.get(what.__module__), "__file__", None)
    if file:
        yield linecache.getlines(file)


def _function(value: Any) -> FunctionType | None:
    found = inspect.unwrap(getattr(value, "__func__", None) or getattr(value, "fget", None) or value)
    return found if isinstance(found, FunctionType) else None


def _definition(text: str, name: str) -> ast.ClassDef | ast.FunctionDef | None:
    """The last definition of a name at the top of a text."""
    try:
        tree = ast.parse(text)
    except SyntaxError:
        return None
    found = [one for one in tree.body if isinstance(one, ast.ClassDef | ast.FunctionDef) and one.name == name]
    return found[-1] if found else None


def _globals(tree: ast.Module) -> set[str]:
    """Names that a text takes from its module, annotations among them."""

    def walk(table: symtable.SymbolTable) -> Iterator[str]:
        for symbol in table.get_symbols():
            outer = table.get_type() == "module"
            if symbol.is_referenced() and (symbol.is_global() or (outer and not symbol.is_assigned())):
                yield symbol.get_name()
        for child in table.get_children():
            yield from walk(child)

    return set(walk(symtable.symtable(ast.unparse(tree), "cell", "exec"))) - {"__name__", "__class__"}


def _imported(name: str, value: Any, notebook: str) -> tuple[str, str] | None:
    """A module other than the notebook that has this very object, and under which name."""
    own = getattr(value, "__name__", None) or name
    for module in (getattr(value, "__module__", None), *LIKELY):
        if not isinstance(module, str) or module == notebook:
            continue
        try:
            there = vars(importlib.import_module(module))
        except ImportError:
            continue
        for known in dict.fromkeys((str(own), name)):
            if there.get(known) is value:
                return module, known
    if isinstance(value, bool | int | float | str | tuple | None):
        return None  # equal ones are one object in any number of modules
    others = [(m, one) for m, one in list(sys.modules.items()) if m != notebook and isinstance(one, ModuleType)]
    homes = [m for m, one in others if vars(one).get(name) is value]
    return (min(homes, key=lambda m: (m.count("."), m)), name) if homes else None


def _written(value: Any) -> str | None:
    """A plain value as Python source, or None if that would not give it back."""
    text = repr(value)
    try:
        return text if ast.literal_eval(text) == value else None
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return None
