"""What ``medkit check`` can say about a component's members from its source, without importing it."""

from __future__ import annotations

import ast
import contextlib
import functools
import inspect
from collections.abc import Iterator
from typing import Any

from medkit.names import MODULE_ATTRIBUTES
from medkit.registry.promises import PROMISED, Object, faults, refuse
from medkit.registry.source_text import MODULE, Found, Unsure, lineage, source
from medkit.registry.table import Entry


def check_source_promises(entry: Entry, contract: type | None = None) -> None:
    """Refuse a component whose class lacks a method that its kind, or its place's ``contract``, requires.

    The source is read first; if it shows a fault, or leaves it open, the class itself is asked. Values that a
    constructor sets are checked when the component is built.

    Raises
    ------
    InputError
        with the component and what is missing.
    """
    named = f"'{entry.full_name}'"
    options = PROMISED[entry.kind] if contract is None else (contract,)
    written: Text | None = None
    with contextlib.suppress(Unsure):
        written = _text(entry.target)
    if written is not None and any(not list(faults(written, protocol)) for protocol in options):
        return
    component = entry.load()
    if inspect.isclass(component):  # what a function makes is known when it has made it
        refuse(Class(component, written), entry.kind, contract, lambda: f"{named} (class {component.__qualname__})")


@functools.cache
def _text(target: str) -> Text:
    module, _, name = target.partition(":")
    return Text(lineage(source(module).named(name)))


class Class(Object):
    """The members of an imported class: certain about methods, and about attributes as far as its source is."""

    def __init__(self, component: type, written: Text | None) -> None:
        super().__init__(component)
        self.written = written

    def has(self, name: str) -> bool:
        if super().has(name):
            return True
        if name == "forward" or any(name in vars(p) for options in PROMISED.values() for p in options):
            return False  # methods do not come from a constructor
        return self.written is None or self.written.has(name)

    def value(self, name: str) -> Any:
        found = vars(self.component).get(name)
        if found is None or hasattr(found, "__get__"):
            raise LookupError(name)
        return found

    def signature(self, name: str) -> inspect.Signature | None:
        found = inspect.getattr_static(self.component, name)
        signature = super().signature(name)
        if signature is None or not inspect.isfunction(found):
            return None if signature is None or not isinstance(found, staticmethod | classmethod) else signature
        return signature.replace(parameters=list(signature.parameters.values())[1:])


class Text:
    """The members of a class as its source, and that of its bases, shows them."""

    def __init__(self, classes: list[Found]) -> None:
        self.methods: dict[str, ast.FunctionDef] = {}
        self.others: dict[str, ast.expr | None] = {}
        self.open = False  # members may come from elsewhere, such as setattr
        for found in classes:
            if found.foreign == MODULE:
                self.others |= dict.fromkeys(MODULE_ATTRIBUTES - {"forward", *self._all()})
                continue
            assert isinstance(found.node, ast.ClassDef)
            for item in found.node.body:
                self._read(item)

    def _all(self) -> set[str]:
        return {*self.methods, *self.others}

    def _read(self, item: ast.stmt) -> None:
        match item:
            case ast.FunctionDef():
                if item.name not in self._all():
                    if item.decorator_list:
                        self.others[item.name] = None
                    else:
                        self.methods[item.name] = item
                self._sets(item)
            case ast.Assign(targets=[ast.Name(id=name)]) | ast.AnnAssign(target=ast.Name(id=name)):
                if name not in self._all():
                    self.others[name] = item.value
            case _:
                for node in ast.walk(item):
                    if isinstance(node, ast.Name):
                        self.others.setdefault(node.id, None)
                    elif isinstance(node, ast.FunctionDef | ast.ClassDef | ast.AsyncFunctionDef):
                        self.others.setdefault(node.name, None)

    def _sets(self, method: ast.FunctionDef) -> None:
        """What a method assigns to ``self``."""
        self.open |= method.name in ("__getattr__", "__getattribute__")
        for node in ast.walk(method):
            match node:
                case ast.Attribute(attr=name, ctx=ast.Store()):
                    self.others.setdefault(name, None)
                case ast.Call(func=ast.Name(id="setattr" | "vars")) | ast.Attribute(attr="__dict__" | "__setattr__"):
                    self.open = True

    def has(self, name: str) -> bool:
        return self.open or name in self._all()

    def value(self, name: str) -> Any:
        try:
            return ast.literal_eval(self.others[name])  # type: ignore[arg-type]
        except (ValueError, TypeError, SyntaxError) as error:
            raise LookupError(name) from error

    def signature(self, name: str) -> inspect.Signature | None:
        if name not in self.methods:
            return None
        parameters = list(_parameters(self.methods[name].args))
        return inspect.Signature(parameters[1:] if parameters else [])


def _parameters(arguments: ast.arguments) -> Iterator[inspect.Parameter]:
    kinds = inspect.Parameter
    optional = len(arguments.posonlyargs) + len(arguments.args) - len(arguments.defaults)
    for i, one in enumerate([*arguments.posonlyargs, *arguments.args]):
        kind = kinds.POSITIONAL_ONLY if i < len(arguments.posonlyargs) else kinds.POSITIONAL_OR_KEYWORD
        yield kinds(one.arg, kind, default=kinds.empty if i < optional else None)
    if arguments.vararg:
        yield kinds(arguments.vararg.arg, kinds.VAR_POSITIONAL)
    for one, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True):
        yield kinds(one.arg, kinds.KEYWORD_ONLY, default=kinds.empty if default is None else None)
    if arguments.kwarg:
        yield kinds(arguments.kwarg.arg, kinds.VAR_KEYWORD)
