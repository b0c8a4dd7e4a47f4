"""The JSON Schema of studies, for editors."""

from __future__ import annotations

from typing import Annotated, Any

from annotated_types import Ge, Gt

from medkit.recipe.values import FORMAT, Seed
from medkit.registry.schema import json_type
from medkit.studies.factorial import MOST
from medkit.studies.reader import SAID, SKIP, TOP, UNEQUAL

TEXT = {"type": "string"}
TEXTS = {"type": "array", "items": TEXT}
NULL = {"type": "null"}


def json_schema() -> dict[str, Any]:
    """A JSON Schema (2020-12). What dotted keys and values have to be depends on the recipe, and is checked with it."""
    properties = {
        "medkit": {"const": FORMAT},
        "name": TEXT,
        "recipe": {**TEXT, "description": "A file beside this one, or the name of a bundled recipe."},
        "vary": _vary(),
        "methods": _methods(),
        "rows": {"anyOf": [TEXT, TEXTS], "description": "Stages that are the methods, with their variants."},
        "cross": _cross(),
        "compare": _compare(),
        "claim": _claim(),
        "search": _search(),
    }
    assert set(properties) == set(TOP)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "medkit study",
        **_mapping(properties, ("medkit", "name", "recipe")),
    }


def _mapping(properties: dict[str, Any], required: tuple[str, ...] = ()) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(required),
        "additionalProperties": False,
    }


def _vary() -> dict[str, Any]:
    """Keys of the recipe, each with the values it takes: a list, or a mapping of label to value."""
    values = {"anyOf": [{"type": "array", "minItems": 1}, {"type": "object", "minProperties": 1}]}
    seeds = {"anyOf": [{"items": json_type(Seed)}, {"additionalProperties": json_type(Seed), "not": {"type": "array"}}]}
    return {"type": "object", "properties": {"seed": {"allOf": [values, seeds]}}, "additionalProperties": values}


def _changes() -> dict[str, Any]:
    """Keys of the recipe with their values, and stages that are left out."""
    return {"anyOf": [{"type": "object", "properties": {SKIP: TEXTS}}, NULL]}


def _methods(most: int | None = None) -> dict[str, Any]:
    bounds = {"minProperties": 1} if most is None else {"minProperties": 2, "maxProperties": most}
    return {"type": "object", "additionalProperties": _changes(), **bounds}


def _cross() -> dict[str, Any]:
    parts = {"base": {"type": "object"}, "none": _changes(), "factors": _methods(MOST)}
    return _mapping(parts, ("none", "factors"))


def _compare() -> dict[str, Any]:
    number = {"metric": TEXT, "stage": TEXT, "split": TEXT}
    given = {
        "reference": {**TEXT, "description": "The method that all others are compared with."},
        "unequal": _mapping(dict.fromkeys(UNEQUAL, TEXT)),
        "seconds": {"type": "object", "additionalProperties": json_type(Annotated[float, Gt(0)])},
        "also": {"type": "array", "items": _mapping(number, tuple(number))},
    }
    return _mapping({**number, **given}, tuple(number))


def _claim() -> dict[str, Any]:
    kinds = {kind: {**TEXTS, "minItems": 1} for kind in SAID}
    claim = _mapping({"says": TEXT, **kinds, "than_on": TEXT, "source": TEXT, "limits": TEXT}, ("says",))
    return {**claim, "anyOf": [{"required": [kind]} for kind in SAID]}


def _search() -> dict[str, Any]:
    ends = {"low": {"type": "number"}, "high": {"type": "number"}, "log": {"type": "boolean"}}
    ranges = {"anyOf": [{"type": "array", "minItems": 2}, _mapping(ends, ("low", "high"))]}
    parts = {
        "trials": json_type(Annotated[int, Gt(0)]),
        "over": {"type": "object", "minProperties": 1, "additionalProperties": ranges},
        "metric": TEXT,
        "at": {"type": "object"},
        "seed": json_type(Annotated[int, Ge(0)]),
    }
    return _mapping(parts, ("trials", "over"))
