"""A component's schema from its source text, without importing it.

``medkit check`` must answer at once, and importing a component imports torch. So annotations, defaults and constraints
are read from the syntax tree, by a small interpreter of type names. It answers only if the text settles the matter
(:mod:`medkit.registry.source_text`); for everything else the component is imported and asked.
"""

from __future__ import annotations

import ast
import collections.abc
import functools
import inspect
import pathlib
import typing
from typing import Annotated, Any, Literal, Optional, Union

import annotated_types

from medkit import protocols
from medkit.errors import InputError
from medkit.protocols import losses as protocols_losses
from medkit.registry import marks
from medkit.registry.schema import MISSING, Schema, argument, argument_descriptions, schema_of
from medkit.registry.source_text import MODULE, Found, Source, Unsure, decorator_name, lineage, source
from medkit.registry.table import Entry

TYPES: dict[str, Any] = {
    **{f"builtins.{t.__name__}": t for t in (int, float, str, bool, list, dict, tuple, set, bytes)},
    **{f"typing.{name}": getattr(typing, name) for name in ("Any", "Annotated", "Literal", "Optional", "Union")},
    **{f"typing.{t.__name__.title()}": t for t in (list, dict, tuple, set)},
    **{f"{m}.Sequence": collections.abc.Sequence for m in ("typing", "collections.abc")},
    **{f"{m}.Mapping": collections.abc.Mapping for m in ("typing", "collections.abc")},
    "pathlib.Path": pathlib.Path,
}
BOUNDS = ("gt", "ge", "lt", "le", "min_length", "max_length", "pattern", "multiple_of")
WORDS = ("description", "title", "examples")


class _Unknown:
    def __repr__(self) -> str:
        return "(known when it is built)"


UNKNOWN = _Unknown()
"""A default that the text does not give."""


def static_schema(entry: Entry) -> Schema:
    """The schema of a registered component, from its source if that settles it, else from the imported component.

    Raises
    ------
    InputError
        if the component cannot be found, or its constructor is not fully annotated.
    """
    try:
        return _from_source(entry.target)
    except Unsure:
        return schema_of(entry.load())
    except InputError as error:
        raise InputError(error.what, error.where or entry.full_name, error.hint) from error


@functools.cache
def _from_source(target: str) -> Schema:
    module, _, name = target.partition(":")
    found = source(module).named(name)
    if not isinstance(found.node, ast.ClassDef | ast.FunctionDef):
        raise Unsure(f"{target} is neither class nor function")
    text = inspect.cleandoc(ast.get_docstring(found.node) or "")
    schema = Schema(found.node.name, text.split("\n\n")[0].replace("\n", " "))
    made = _Parameters(found, found.node) if isinstance(found.node, ast.FunctionDef) else _constructor(lineage(found))
    if made is None:
        return schema
    described = argument_descriptions(text) | argument_descriptions(made.docstring)
    for parameter, default, where in made.pairs(found.node.name):
        if parameter.annotation is None:
            raise InputError(f"argument '{parameter.arg}' of {found.node.name} has no annotation")
        schema.arguments[parameter.arg] = argument(
            parameter.arg,
            _type(parameter.annotation, where),
            MISSING if default is None else _default(default, where),
            described.get(parameter.arg, ""),
        )
    return schema


class _Parameters:
    """Parameters of a function, or of the constructor that ``dataclass`` writes."""

    def __init__(self, owner: Found, node: ast.FunctionDef) -> None:
        assert owner.source is not None
        self.owner, self.node = owner, node
        self.docstring = ast.get_docstring(node) or ""
        if node.decorator_list or getattr(node, "type_params", None):
            raise Unsure(f"{node.name} is decorated, or generic")

    def pairs(self, name: str) -> list[tuple[ast.arg, ast.expr | None, Source]]:
        """Each parameter with its default and the source in which they are written."""
        assert self.owner.source is not None
        parameters = self.node.args
        if parameters.vararg or parameters.kwarg:
            stars = f"*{parameters.vararg.arg}" if parameters.vararg else f"**{parameters.kwarg.arg}"  # type: ignore[union-attr]
            raise InputError(f"{name} takes '{stars}': a component names all its arguments")
        skip = 1 if isinstance(self.owner.node, ast.ClassDef) else 0
        if parameters.posonlyargs[skip:]:
            first = parameters.posonlyargs[skip].arg
            raise InputError(f"{name} takes '{first}' by position only: recipes name all arguments")
        positional = [*parameters.posonlyargs, *parameters.args]
        defaults = [None] * (len(positional) - len(parameters.defaults)) + list(parameters.defaults)
        pairs: list[tuple[ast.arg, ast.expr | None]] = list(zip(positional, defaults, strict=True))[skip:]
        pairs += list(zip(parameters.kwonlyargs, parameters.kw_defaults, strict=True))
        return [(parameter, default, self.owner.source) for parameter, default in pairs]


class _Fields(_Parameters):
    """Fields of a dataclass and of its bases."""

    def __init__(self, classes: list[Found]) -> None:
        self.classes, self.docstring = classes, ""

    def pairs(self, name: str) -> list[tuple[ast.arg, ast.expr | None, Source]]:
        found: dict[str, tuple[ast.arg, ast.expr | None, Source]] = {}
        for owner in reversed(self.classes):
            assert owner.source is not None
            assert isinstance(owner.node, ast.ClassDef)
            if not _is_dataclass(owner):
                continue
            for item in owner.node.body:
                if isinstance(item, ast.If | ast.Try | ast.With | ast.For):
                    raise Unsure(f"{owner.node.name} has fields in a branch")
                if not isinstance(item, ast.AnnAssign) or not isinstance(item.target, ast.Name):
                    continue
                kind = _outermost(item.annotation, owner.source)
                if kind == "dataclasses.InitVar":
                    raise Unsure("InitVar")
                if kind in ("typing.ClassVar", "dataclasses.KW_ONLY"):
                    continue
                made, default = True, item.value
                if default is None and item.target.id in found:
                    raise Unsure("a field that is declared again without a default keeps the one it had")
                if isinstance(default, ast.Call):
                    if owner.source.find(default.func).foreign != "dataclasses.field":
                        raise Unsure("a default that is made by a call")
                    options = {option.arg: option.value for option in default.keywords}
                    if None in options or "kw_only" in options or "default_factory" in options:
                        raise Unsure("field()")
                    made = "init" not in options or bool(_literal(options["init"], owner.source))
                    default = options.get("default")
                if made:
                    found[item.target.id] = (ast.arg(item.target.id, item.annotation), default, owner.source)
                else:
                    found.pop(item.target.id, None)
        return list(found.values())


def _outermost(annotation: ast.expr, where: Source) -> str:
    """The foreign name of an annotation without what is in its brackets."""
    if isinstance(annotation, ast.Constant) and isinstance(annotation.value, str):
        annotation = _parsed(annotation.value)
    try:
        return where.find(annotation.value if isinstance(annotation, ast.Subscript) else annotation).foreign
    except Unsure:
        return ""


def _is_dataclass(owner: Found) -> bool:
    assert owner.source is not None
    assert isinstance(owner.node, ast.ClassDef)
    for decorator in owner.node.decorator_list:
        if decorator_name(owner.source, decorator) == "dataclasses.dataclass":
            if isinstance(decorator, ast.Call) and not {o.arg for o in decorator.keywords} <= {
                *("frozen", "eq", "order", "slots", "repr", "kw_only", "unsafe_hash")
            }:
                raise Unsure("dataclass(init=...)")
            return True
    return False


def _constructor(classes: list[Found]) -> _Parameters | None:
    """``__init__`` as Python would find it; None for a class that takes nothing."""
    for i, owner in enumerate(classes):
        if owner.foreign == MODULE:
            return None
        assert isinstance(owner.node, ast.ClassDef)
        made = [item for item in owner.node.body if _binds(item, "__init__")]
        if made:
            if len(made) > 1 or not isinstance(made[0], ast.FunctionDef):
                raise Unsure("__init__ is not a plain method")
            return _Parameters(owner, made[0])
        if _is_dataclass(owner):
            return _Fields([c for c in classes[i:] if not c.foreign])
    return None


def _binds(item: ast.stmt, name: str) -> bool:
    if isinstance(item, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return item.name == name
    return any(isinstance(node, ast.Name) and node.id == name for node in ast.walk(item)) or any(
        isinstance(node, ast.FunctionDef) and node.name == name for node in ast.walk(item)
    )


# -- annotations ---------------------------------------------------------------------------------------------------


def _type(node: ast.expr, where: Source) -> Any:
    """The type that an annotation stands for."""
    match node:
        case ast.Constant(value=str(text)):
            return _type(_parsed(text), where)
        case ast.Constant(value=None):
            return None
        case ast.Constant(value=value) if value is Ellipsis:
            return value
        case ast.Name() | ast.Attribute():
            found = where.find(node)
            if isinstance(found.node, ast.expr) and found.source is not None:
                return _type(found.node, found.source)
            if found.foreign in TYPES:
                return TYPES[found.foreign]
        case ast.BinOp(left=left, op=ast.BitOr(), right=right):
            return Union[_type(left, where), _type(right, where)]  # noqa: UP007
        case ast.Subscript():
            return _subscript(node, where)
    raise Unsure(ast.unparse(node))


def _parsed(text: str) -> ast.expr:
    try:
        return ast.parse(text, mode="eval").body
    except SyntaxError as error:
        raise Unsure(text) from error


def _subscript(node: ast.Subscript, where: Source) -> Any:
    outer = _type(node.value, where)
    inside = list(node.slice.elts) if isinstance(node.slice, ast.Tuple) else [node.slice]
    if outer is Literal:
        return Literal[tuple(_literal(item, where) for item in inside)]
    if outer is Annotated:
        found = [_mark(item, where) for item in inside[1:]]
        slot = any(isinstance(mark, marks.Slot) for mark in found)
        # Only the container of a component's type matters: whether there is one, a list or a mapping of them.
        first = _shape(inside[0], where) if slot else _type(inside[0], where)
        return Annotated[(first, *found)]
    if outer not in (list, dict, tuple, set, collections.abc.Sequence, collections.abc.Mapping, Optional, Union):
        raise Unsure(ast.unparse(node))
    arguments = [_type(item, where) for item in inside]
    return outer[tuple(arguments) if len(arguments) > 1 else arguments[0]]


def _shape(node: ast.expr, where: Source) -> Any:
    try:
        return _type(node, where)
    except Unsure:
        pass
    match node:
        case ast.Constant(value=str(text)):
            return _shape(_parsed(text), where)
        case ast.BinOp(left=left, op=ast.BitOr(), right=right):
            return Union[_shape(left, where), _shape(right, where)]  # noqa: UP007
        case ast.Subscript(value=outer, slice=inside):
            kind = _type(outer, where)
            parts = inside.elts if isinstance(inside, ast.Tuple) else [inside]
            arguments = tuple(_shape(part, where) for part in parts)
            return kind[arguments if len(arguments) > 1 else arguments[0]]
        case ast.Name() | ast.Attribute():
            where.find(node)  # an unbound name is not a type
            return Any
    raise Unsure(ast.unparse(node))


def _mark(node: ast.expr, where: Source) -> Any:
    """``Slot(..)``, ``Given(..)``, a bound of ``annotated_types``, or the constraints of ``Field(..)``."""
    if isinstance(node, ast.Constant):
        return node.value
    if not isinstance(node, ast.Call):
        raise Unsure(ast.unparse(node))
    found = where.find(node.func)
    if any(isinstance(item, ast.Starred) for item in node.args) or any(not item.arg for item in node.keywords):
        raise Unsure(ast.unparse(node))
    named = {str(item.arg): item.value for item in node.keywords}
    if (
        found.source is not None
        and found.source.name == "medkit.registry.marks"
        and isinstance(found.node, ast.ClassDef)
    ):
        positional = [_contract(item, where) for item in node.args]
        return getattr(marks, found.node.name)(*positional, **{k: _literal(v, where) for k, v in named.items()})
    module, _, name = found.foreign.rpartition(".")
    if module == "annotated_types" and name in ("Gt", "Ge", "Lt", "Le") and not named:
        return getattr(annotated_types, name)(*[_literal(item, where) for item in node.args])
    if found.foreign in ("pydantic.Field", "pydantic.fields.Field") and not node.args and {*named} <= {*BOUNDS, *WORDS}:
        from pydantic import Field

        return Field(**{key: _literal(value, where) for key, value in named.items() if key in BOUNDS})
    raise Unsure(ast.unparse(node))


def _contract(node: ast.expr, where: Source) -> Any:
    """A mark's argument: a text, or one of medkit's own protocols."""
    if isinstance(node, ast.Name | ast.Attribute):
        found = where.find(node)
        modules = {module.__name__: module for module in (protocols, protocols_losses)}
        if found.source is not None and found.source.name in modules and isinstance(found.node, ast.ClassDef):
            return getattr(modules[found.source.name], found.node.name)
    return _literal(node, where)


def _literal(node: ast.expr, where: Source) -> Any:
    """A plain value, written out or bound to a name."""
    match node:
        case ast.Name() | ast.Attribute():
            found = where.find(node)
            if isinstance(found.node, ast.expr) and found.source is not None:
                return _literal(found.node, found.source)
            raise Unsure(ast.unparse(node))
        case ast.Tuple(elts=items):
            return tuple(_literal(item, where) for item in items)
        case ast.List(elts=items):
            return [_literal(item, where) for item in items]
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError) as error:
        raise Unsure(ast.unparse(node)) from error


def _default(node: ast.expr, where: Source) -> Any:
    try:
        return _literal(node, where)
    except Unsure:
        return UNKNOWN


def static_constant(entry: Entry, name: str) -> Any:
    """The plain value that a component's class gives to ``name``, itself or through a base.

    None if there is none, or the source does not settle it (the constructor may set another).
    """
    module, _, cls = entry.target.partition(":")
    try:
        owners = lineage(source(module).named(cls))
    except Unsure:
        return None
    for owner in owners:
        for item in owner.node.body if isinstance(owner.node, ast.ClassDef) else ():
            targets = item.targets if isinstance(item, ast.Assign) else [getattr(item, "target", None)]
            if not any(isinstance(target, ast.Name) and target.id == name for target in targets):
                continue
            try:
                return ast.literal_eval(getattr(item, "value", None) or ast.Constant(None))
            except ValueError:
                return None
    return None
