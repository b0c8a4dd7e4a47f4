"""The schema of a component, read from its constructor's signature.

Types and constraints come from annotations, defaults from defaults, descriptions from the docstring. ``Given``
arguments are left out; ``Slot`` arguments are components themselves. Signatures are read either from the imported
class or, so that ``medkit check`` stays quick, from its source without importing it (:mod:`medkit.registry.static`).
"""

from __future__ import annotations

import functools
import inspect
import math
import re
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from medkit.errors import InputError
from medkit.registry.marks import File, Given, Slot

MISSING = inspect.Parameter.empty
Shape = Literal["one", "list", "dict"]


@dataclass(frozen=True)
class Argument:
    """One argument of a constructor."""

    name: str
    annotation: Any
    default: Any = MISSING
    description: str = ""
    given: Given | None = None
    slot: Slot | None = None
    shape: Shape = "one"
    optional: bool = False

    @property
    def required(self) -> bool:
        return self.default is MISSING and self.given is None

    def type_name(self) -> str:
        """The annotation as a person would write it."""
        if self.slot is not None:
            inner = self.slot.kind
            return {"one": inner, "list": f"list of {inner}", "dict": f"mapping of name to {inner}"}[self.shape]
        return type_name(self.annotation)


@dataclass
class Schema:
    """The arguments of one component."""

    name: str
    description: str
    arguments: dict[str, Argument] = field(default_factory=dict)

    @property
    def writable(self) -> dict[str, Argument]:
        """Arguments that a recipe may write: all but given ones."""
        return {name: a for name, a in self.arguments.items() if a.given is None}

    def validate(self, name: str, value: Any) -> Any:
        """Check one plain value; returns it converted (lists to tuples, whole numbers to floats).

        Raises
        ------
        InputError
            saying what was found and what is expected.
        """
        return validate(self.arguments[name].annotation, value)

    def json(self) -> dict[str, Any]:
        """JSON Schema of the arguments; slots refer to ``#/$defs/KIND``."""
        properties: dict[str, Any] = {}
        for name, argument in self.writable.items():
            node = _slot_json(argument) if argument.slot is not None else json_type(argument.annotation)
            if argument.description:
                node = {**node, "description": argument.description}
            if argument.default is not MISSING and is_plain(argument.default):
                node = {**node, "default": argument.default}
            properties[name] = node
        required = [name for name, a in self.writable.items() if a.required]
        return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


def schema_of(constructor: Callable[..., Any]) -> Schema:
    """The schema of an imported class or factory function.

    Raises
    ------
    InputError
        if an argument has no annotation, or the constructor takes ``*args`` or ``**kwargs``.
    """
    name = getattr(constructor, "__name__", type(constructor).__name__)
    function = constructor.__init__ if inspect.isclass(constructor) else constructor  # type: ignore[misc]
    # Its own, not the one that ``inspect.getdoc`` would find on nn.Module.
    text = inspect.cleandoc(constructor.__doc__ or "")
    descriptions = argument_descriptions(text) | argument_descriptions(inspect.getdoc(function) or "")
    schema = Schema(name, text.split("\n\n")[0].replace("\n", " "))
    if inspect.isclass(constructor):
        # Asked of the class that defines it: torch.compile puts another function in place of nn.Module's.
        owner = next(base for base in constructor.__mro__ if "__init__" in vars(base))
        if owner is object or (owner.__module__, owner.__name__) == ("torch.nn.modules.module", "Module"):
            return schema  # inherited: the component itself takes nothing
    written = function.func if isinstance(function, functools.partial) else function
    try:
        hints = typing.get_type_hints(written, include_extras=True)
        parameters = list(inspect.signature(function).parameters.values())
    except Exception as error:  # whatever evaluating an annotation may raise
        raise InputError(f"the signature of {name} cannot be read: {error}") from error
    for parameter in parameters[1 if inspect.isclass(constructor) else 0 :]:
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            stars = "*" if parameter.kind is parameter.VAR_POSITIONAL else "**"
            raise InputError(f"{name} takes '{stars}{parameter.name}': a component names all its arguments")
        if parameter.kind is parameter.POSITIONAL_ONLY:
            raise InputError(f"{name} takes '{parameter.name}' by position only: recipes name all arguments")
        if parameter.name not in hints:
            raise InputError(f"argument '{parameter.name}' of {name} has no annotation")
        schema.arguments[parameter.name] = argument(
            parameter.name, hints[parameter.name], parameter.default, descriptions.get(parameter.name, "")
        )
    return schema


def argument(name: str, annotation: Any, default: Any = MISSING, description: str = "") -> Argument:
    """Read one annotation."""
    marks = list(get_args(annotation)[1:]) if get_origin(annotation) is Annotated else []
    given = next((m for m in marks if isinstance(m, Given)), None)
    slot = next((m for m in marks if isinstance(m, Slot)), None)
    if slot is None:
        # ``Annotated[X, Slot(..)] | None`` carries its mark inside the union.
        for option in get_args(annotation) if _is_union(annotation) else ():
            found = argument(name, option) if get_origin(option) is Annotated else None
            if found is not None and (found.slot or found.given):
                return Argument(
                    name, found.annotation, default, description, found.given, found.slot, found.shape, True
                )
        return Argument(name, annotation, default, description, given)
    inner = get_args(annotation)[0]
    optional = _is_union(inner) and type(None) in get_args(inner)
    if optional:
        inner = next(option for option in get_args(inner) if option is not type(None))
    origin = get_origin(inner)
    shape: Shape = "one"
    if origin in (list, tuple, Sequence):
        shape = "list"
    elif origin in (dict, Mapping):
        shape = "dict"
    return Argument(name, annotation, default, description, given, slot, shape, optional)


def argument_descriptions(docstring: str) -> dict[str, str]:
    """Descriptions in a numpy-style ``Parameters`` section, by argument."""
    match = re.search(r"^Parameters\n-+\n(.*?)(?=^\w[\w ]*\n-{3,}\n|\Z)", docstring, re.S | re.M)
    found: dict[str, str] = {}
    names: list[str] = []
    for line in match.group(1).splitlines() if match else []:
        if line and not line[0].isspace():
            names = [word.strip() for word in line.rstrip(":").split(":")[0].split(",")]
        elif line.strip():
            for name in names:
                found[name] = f"{found.get(name, '')} {line.strip()}".strip()
    return found


def _is_union(annotation: Any) -> bool:
    return get_origin(annotation) in (Union, types.UnionType)


def is_plain(value: Any) -> bool:
    """True for what a recipe can say: texts, numbers, true and false, null, and lists and mappings of these."""
    if isinstance(value, list | tuple):
        return all(map(is_plain, value))
    if isinstance(value, dict):
        return all(map(is_plain, value)) and all(map(is_plain, value.values()))
    return value is None or isinstance(value, str | int | float | bool)


def type_name(annotation: Any) -> str:
    """A short name such as ``int >= 1`` or ``'mean' or 'sum'``."""
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return type_name(args[0]) + "".join(f" {text}" for mark in args[1:] for text in _bounds(mark))
    if origin is Literal:
        return " or ".join(repr(a) for a in args)
    if _is_union(annotation):
        return " or ".join(type_name(a) for a in args)
    if annotation is type(None):
        return "null"
    if origin is not None:
        inside = ", ".join("..." if a is Ellipsis else type_name(a) for a in args)
        return f"{getattr(origin, '__name__', origin)}[{inside}]"
    return getattr(annotation, "__name__", str(annotation)).replace("NoneType", "null")


def _bounds(mark: Any) -> list[str]:
    found = []
    for item in getattr(mark, "metadata", [mark]):
        for name, sign in (("gt", ">"), ("ge", ">="), ("lt", "<"), ("le", "<=")):
            if getattr(item, name, None) is not None:
                found.append(f"{sign} {getattr(item, name)}")
    return found


def validate(annotation: Any, value: Any) -> Any:
    """Check ``value`` against an annotation with pydantic, strictly except for YAML's own lists and whole numbers."""
    if not _is_finite(value) and not _allows_infinite(annotation):
        raise InputError(f"{value!r} contains a number that is not finite")
    if annotation is Any:
        return value
    from pydantic import ConfigDict, TypeAdapter, ValidationError
    from pydantic.errors import PydanticSchemaGenerationError

    try:
        adapter = _adapter(annotation, TypeAdapter, ConfigDict)
    except PydanticSchemaGenerationError as error:
        raise InputError(f"type '{type_name(annotation)}' cannot be written in a recipe") from error
    try:
        # Strict JSON mode accepts lists as tuples and whole numbers as floats, and coerces nothing else.
        import json

        return adapter.validate_json(json.dumps(value), strict=True)
    except (TypeError, ValueError) as error:
        if isinstance(error, ValidationError):
            first = error.errors()[0]
            where = "".join(f"[{part}]" if isinstance(part, int) else "" for part in first["loc"])
            message = first["msg"][0].lower() + first["msg"][1:]
            what = f"{_written(value)} is not {type_name(annotation)}{': ' + where if where else ''} ({message})"
            raise InputError(what, hint=_number_meant(first["type"], first["input"])) from None
        raise InputError(f"{value!r} cannot be written in a recipe") from error


def _written(value: Any) -> str:
    """A value as it is written in a recipe."""
    plain = {None: "null", True: "true", False: "false"}
    return plain[value] if value is None or isinstance(value, bool) else repr(value)


def _number_meant(kind: str, value: Any) -> str | None:
    """How to write the number that was given as text or as a fraction: ``"1e-3"``, ``1_000``, ``1e3``."""
    if kind not in ("int_type", "int_from_float", "float_type"):
        return None
    try:
        number = float(value) if isinstance(value, str | float) else math.nan
    except ValueError:
        return None
    if not math.isfinite(number):
        return None
    if kind != "float_type":
        return f"write {int(number)}" if number.is_integer() else None
    return f"it is text: write {value.strip().replace('_', '')}, without quotes" if isinstance(value, str) else None


def _is_finite(value: Any) -> bool:
    if isinstance(value, dict):
        return all(map(_is_finite, value.values()))
    if isinstance(value, list | tuple):
        return all(map(_is_finite, value))
    return not isinstance(value, float) or math.isfinite(value)


def _allows_infinite(annotation: Any) -> bool:
    """True if the annotation says so by ``Field(allow_inf_nan=True)``."""
    marks = [m for mark in getattr(annotation, "__metadata__", ()) for m in (mark, *getattr(mark, "metadata", ()))]
    said = any(getattr(mark, "allow_inf_nan", False) for mark in marks)
    return said or any(map(_allows_infinite, get_args(annotation)))


def _adapter(annotation: Any, adapter: Any, config: Any) -> Any:
    try:
        return adapter(annotation)
    except Exception:
        return adapter(annotation, config=config(arbitrary_types_allowed=True))


def with_files(annotation: Any, value: Any, place: Callable[[str], str]) -> Any:
    """``value`` with ``place`` applied to every text in it that names a file, by its annotation; paths become texts."""
    if get_origin(annotation) is Annotated:
        inner, *found = get_args(annotation)
        mark = next((mark for mark in found if isinstance(mark, File)), None)
        if mark is None:
            return with_files(inner, value, place)
        return place(value) if isinstance(value, str) and not value.startswith(mark.but) else value
    if isinstance(value, Path):
        return place(str(value))
    if _is_union(annotation):
        for option in get_args(annotation):
            found_value = with_files(option, value, place)
            if found_value is not value:
                return found_value
        return value
    inside = [argument for argument in get_args(annotation) if argument is not Ellipsis]
    if isinstance(value, dict) and len(inside) == 2:
        return {key: with_files(inside[1], item, place) for key, item in value.items()}
    if isinstance(value, list | tuple) and inside:
        each = inside if len(inside) == len(value) else [inside[0]] * len(value)
        return [with_files(one, item, place) for one, item in zip(each, value, strict=True)]
    return value


def json_type(annotation: Any) -> dict[str, Any]:
    """JSON Schema of a plain annotation; {} if pydantic knows none."""
    if annotation is Any:
        return {}
    from pydantic import TypeAdapter
    from pydantic.errors import PydanticInvalidForJsonSchema, PydanticSchemaGenerationError

    try:
        return TypeAdapter(annotation).json_schema()
    except (PydanticSchemaGenerationError, PydanticInvalidForJsonSchema):
        return {}


def _slot_json(argument: Argument) -> dict[str, Any]:
    assert argument.slot is not None
    block: dict[str, Any] = {"$ref": f"#/$defs/{argument.slot.kind}"}
    if argument.shape == "list":
        node: dict[str, Any] = {"type": "array", "items": block}
    elif argument.shape == "dict":
        node = {"type": "object", "additionalProperties": block}
    else:
        node = block
    return {"anyOf": [node, {"type": "null"}]} if argument.optional else node
