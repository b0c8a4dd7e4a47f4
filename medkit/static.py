"""A component's schema from its source text, without importing it.

``medkit check`` must answer at once, and importing a component imports torch. A constructor's annotations are read
from the syntax tree by a small interpreter of type names; one that it does not know becomes ``Any``, which the true
signature replaces when the component is built.
"""

from __future__ import annotations

import ast
import copy
import functools
import importlib.util
import inspect
from pathlib import Path
from typing import Annotated, Any, Literal, Optional, Union

import annotated_types

from medkit import marks
from medkit.errors import InputError
from medkit.registry import Entry
from medkit.schema import MISSING, Schema, argument, argument_descriptions

NAMES: dict[str, Any] = {
    "int": int,
    "float": float,
    "str": str,
    "bool": bool,
    "list": list,
    "dict": dict,
    "tuple": tuple,
    "None": None,
    "Any": Any,
    "Annotated": Annotated,
    "Literal": Literal,
    "Optional": Optional,
    "Union": Union,
    "Sequence": list,
    "Mapping": dict,
    "Path": Path,
    "Channels": marks.Channels,
    "Strides": marks.Strides,
    "Weights": marks.Weights,
}


def static_schema(entry: Entry) -> Schema:
    """The schema of a registered component, read from its module's source.

    Raises
    ------
    InputError
        if the module or the class cannot be found, or its constructor is not fully annotated.
    """
    module, _, name = entry.target.partition(":")
    tree, path = _tree(module, entry.full_name)
    scope = dict(NAMES)
    classes = {n.name: n for n in tree.body if isinstance(n, ast.ClassDef)}
    functions = {n.name: n for n in tree.body if isinstance(n, ast.FunctionDef)}
    for statement in tree.body:
        if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name):
            found = _annotation(statement.value, scope)
            if found is not _UNKNOWN:
                scope[statement.targets[0].id] = found
    if name in functions:
        node: ast.FunctionDef | None = functions[name]
        text, skip = ast.get_docstring(functions[name]) or "", 0
    elif name in classes:
        node, text, skip = _constructor(classes, name), ast.get_docstring(classes[name]) or "", 1
    else:
        raise InputError(f"{entry.kind} '{entry.full_name}' cannot be found: no '{name}' in {path.name}")
    schema = Schema(name, text.split("\n\n")[0].replace("\n", " "))
    if node is None:
        return schema
    described = argument_descriptions(inspect.cleandoc(text)) | argument_descriptions(ast.get_docstring(node) or "")
    parameters = _Constants(tree, entry.full_name).visit(copy.deepcopy(node.args))
    if parameters.vararg or parameters.kwarg:
        raise InputError(f"{name} takes * or ** arguments: a component names all its arguments", entry.full_name)
    positional = [*parameters.posonlyargs, *parameters.args][skip:]
    defaults: list[ast.expr | None] = [None] * (len(positional) - len(parameters.defaults)) + list(parameters.defaults)
    pairs = [*zip(positional, defaults[-len(positional) :] if positional else [], strict=True)]
    pairs += list(zip(parameters.kwonlyargs, parameters.kw_defaults, strict=True))
    for parameter, default in pairs:
        if parameter.annotation is None:
            raise InputError(f"argument '{parameter.arg}' of {name} has no annotation", entry.full_name)
        found = _annotation(parameter.annotation, scope)
        schema.arguments[parameter.arg] = argument(
            parameter.arg,
            Any if found is _UNKNOWN else found,
            MISSING if default is None else _default(default),
            described.get(parameter.arg, ""),
        )
    return schema


def _constructor(classes: dict[str, ast.ClassDef], name: str) -> ast.FunctionDef | None:
    """``__init__`` of a class or of its bases in the same module; a dataclass' fields as one."""
    node = classes[name]
    for item in node.body:
        if isinstance(item, ast.FunctionDef) and item.name == "__init__":
            return item
    for decorator in node.decorator_list:
        called = decorator.func if isinstance(decorator, ast.Call) else decorator
        if isinstance(called, ast.Name) and called.id == "dataclass":
            return _dataclass_constructor(classes, node)
    for base in node.bases:
        if isinstance(base, ast.Name) and base.id in classes:
            return _constructor(classes, base.id)
    return None


def _dataclass_constructor(classes: dict[str, ast.ClassDef], node: ast.ClassDef) -> ast.FunctionDef:
    arguments = ast.arguments([], [ast.arg("self")], None, [], [], None, [])
    for base in node.bases:
        if isinstance(base, ast.Name) and base.id in classes:
            arguments = _dataclass_constructor(classes, classes[base.id]).args
    for item in node.body:
        if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name):
            if isinstance(item.annotation, ast.Subscript) and getattr(item.annotation.value, "id", "") == "ClassVar":
                continue
            if isinstance(item.annotation, ast.Name) and item.annotation.id == "ClassVar":
                continue
            arguments.kwonlyargs.append(ast.arg(item.target.id, item.annotation))
            arguments.kw_defaults.append(item.value)
    return ast.FunctionDef("__init__", arguments, [], [], lineno=node.lineno)


@functools.cache
def _tree(module: str, full_name: str) -> tuple[ast.Module, Path]:
    try:
        spec = importlib.util.find_spec(module)
    except (ImportError, ValueError) as error:
        raise InputError(f"'{full_name}' cannot be found: {error}") from error
    if spec is None or not spec.origin or not spec.origin.endswith(".py"):
        raise InputError(f"'{full_name}' cannot be found: there is no module '{module}'")
    path = Path(spec.origin)
    return ast.parse(path.read_text(encoding="utf-8")), path


class _Constants(ast.NodeTransformer):
    """Puts numbers and texts in the place of a module's constants, its own or imported by name from another."""

    def __init__(self, tree: ast.Module, full_name: str) -> None:
        self.full_name = full_name
        self.own = {
            statement.targets[0].id: statement.value
            for statement in tree.body
            if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name)
        }
        self.imported = {
            alias.asname or alias.name: (statement.module, alias.name)
            for statement in tree.body
            if isinstance(statement, ast.ImportFrom) and statement.module and not statement.level
            for alias in statement.names
        }

    def visit_Name(self, node: ast.Name) -> ast.expr:
        # Types are names too; only names in capitals are constants, so no other module is read for them.
        if not node.id.isupper():
            return node
        found = self.own.get(node.id)
        if found is None and node.id in self.imported:
            module, name = self.imported[node.id]
            found = _Constants(_tree(module, self.full_name)[0], self.full_name).own.get(name)
        return found if isinstance(found, ast.Constant) else node


class _Unknown:
    def __repr__(self) -> str:
        return "(known when it is built)"


_UNKNOWN = _Unknown()


def _annotation(node: ast.expr, scope: dict[str, Any]) -> Any:
    """The type an annotation stands for, or ``_UNKNOWN``."""
    if isinstance(node, ast.Constant):
        if isinstance(node.value, str):
            try:
                return _annotation(ast.parse(node.value, mode="eval").body, scope)
            except SyntaxError:
                return _UNKNOWN  # a module's text and not a type in quotes
        return node.value if node.value is None or node.value is Ellipsis else _UNKNOWN
    if isinstance(node, ast.Name):
        return scope.get(node.id, _UNKNOWN)
    if isinstance(node, ast.Attribute):
        return scope.get(node.attr, _UNKNOWN)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
        left, right = _annotation(node.left, scope), _annotation(node.right, scope)
        if left is _UNKNOWN or right is _UNKNOWN:
            return _UNKNOWN
        return Union[left, right]  # noqa: UP007
    if isinstance(node, ast.Subscript):
        return _subscript(node, scope)
    return _UNKNOWN


def _subscript(node: ast.Subscript, scope: dict[str, Any]) -> Any:
    outer = _annotation(node.value, scope)
    inside = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
    if outer is _UNKNOWN:
        return _UNKNOWN
    if outer is Literal:
        values = tuple(_default(item) for item in inside)
        return _UNKNOWN if _UNKNOWN in values else Literal[values]
    if outer is Annotated:
        first = _annotation(inside[0], scope)
        found = [_mark(item) for item in inside[1:]]
        known = [mark for mark in found if mark is not None]
        if first is _UNKNOWN and any(isinstance(mark, marks.Slot) for mark in known):
            first = Any
        return _UNKNOWN if first is _UNKNOWN else Annotated[(first, *known)] if known else first
    arguments = [_annotation(item, scope) for item in inside]
    # A container of components holds classes that this interpreter does not know: only its shape matters.
    arguments = [Any if argument is _UNKNOWN else argument for argument in arguments]
    try:
        return outer[tuple(arguments) if len(arguments) > 1 else arguments[0]]
    except TypeError:
        return _UNKNOWN


def _mark(node: ast.expr) -> Any:
    """``Slot(..)``, ``Given(..)``, ``File(..)`` or the constraints of ``Field(..)``; None for anything else."""
    if not isinstance(node, ast.Call):
        return None
    name = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
    positional = [_default(item) for item in node.args]
    named = {item.arg: _default(item.value) for item in node.keywords if item.arg}
    if name in ("Slot", "Given", "File"):
        return getattr(marks, name)(*positional, **named)
    if name in ("Gt", "Ge", "Lt", "Le"):
        return getattr(annotated_types, name)(*positional)
    if name == "Field":
        from pydantic import Field

        return Field(
            **{
                key: value
                for key, value in named.items()
                if key in ("gt", "ge", "lt", "le", "min_length", "max_length", "pattern", "multiple_of")
                and value is not _UNKNOWN  # checked when the component is built
            }
        )
    return None


def _default(node: ast.expr) -> Any:
    try:
        return ast.literal_eval(node)
    except ValueError:
        return _UNKNOWN
