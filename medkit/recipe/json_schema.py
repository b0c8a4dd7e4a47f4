"""The JSON Schema of recipes, with every registered component, for editors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from medkit.errors import InputError
from medkit.protocols import KINDS
from medkit.protocols.labels import KINDS as LABELS
from medkit.recipe.model import (
    OPTIMIZER_KEYS,
    SCHEDULE_KEYS,
    Crops,
    DataBlock,
    EarlyStop,
    KeepBest,
    Recipe,
    Stage,
    Unfreeze,
    Views,
    hints,
)
from medkit.recipe.report_model import Report, Stress, WantedTable
from medkit.recipe.stress import REQUIRED
from medkit.recipe.values import FORMAT, Positive
from medkit.registry import Registry
from medkit.registry.schema import json_type
from medkit.registry.static import static_schema


def json_schema(registry: Registry) -> dict[str, Any]:
    """A JSON Schema (2020-12): top-level keys, data blocks, stages, and one definition per kind of component."""
    stage = _record(Stage, ("name", "objective"))
    del stage["properties"]["fraction"]  # it is written under 'train'
    stage["properties"] |= {
        "objective": _kind("objective"),
        "optim": _by_turn(_kind("optimizer", OPTIMIZER_KEYS)),
        "schedule": _by_turn(_kind("schedule", SCHEDULE_KEYS)),
        "clip": {"anyOf": [json_type(Positive | None), _kind("clip")]},
        "metrics": {"type": "array", "items": _kind("metric")},
        "keep_best": {"anyOf": [_record(KeepBest, ("metric",)), {"type": "null"}]},
        "early_stop": {"anyOf": [_record(EarlyStop, ("metric",)), {"type": "null"}]},
        "unfreeze": {"anyOf": [_record(Unfreeze, ("part",)), {"type": "null"}]},
        "train": {"anyOf": [{"type": "string"}, _train()]},
        "repeat": {"type": "object", "additionalProperties": {"type": "object"}},
    }
    steps = {"type": "array", "items": _kind("transform")}
    views, crops = _record(Views, ("augment",)), _record(Crops, ("size",))
    for made in (views, crops):
        made["properties"]["augment"] = steps
    data = _record(DataBlock, ("source", "splits"))
    data["properties"] |= {
        "source": _kind("source"),
        "splits": {"type": "object", "additionalProperties": {"type": "object"}},
        "prepare": steps,
        "augment": steps,
        "views": {"anyOf": [views, {"type": "null"}]},
        "crops": {"anyOf": [crops, {"type": "null"}]},
        "classes": {"anyOf": [_names(), {"type": "null"}]},
        "labels": {"anyOf": [_labels(), {"type": "null"}]},
    }
    table = _record(WantedTable, ("title", "stage"))
    names = {"type": "array", "items": {"type": "string"}}
    shown = {"anyOf": [names, {"type": "object", "additionalProperties": {"type": "string"}}]}
    table["properties"] |= {"rows": shown, "metrics": shown, "splits": shown}
    report = _record(Report, ())
    curves = {"type": "object", "additionalProperties": _record(Stress, REQUIRED)}
    report["properties"] |= {"tables": {"type": "array", "items": table}, "stress": curves}
    null = {"type": "null"}
    report["properties"] = {name: {"anyOf": [kind, null]} for name, kind in report["properties"].items()}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "medkit recipe",
        "type": "object",
        "required": ["medkit", "name", "data", "stages"],
        "additionalProperties": False,
        "properties": {
            "medkit": {"const": FORMAT},
            "name": {"type": "string"},
            "seed": json_type(hints(Recipe)["seed"]),
            "data": {"type": "object", "additionalProperties": data},
            "stages": {"type": "array", "minItems": 1, "items": stage},
            "report": {"anyOf": [report, null]},
        },
        "$defs": {kind: _component(registry, kind) for kind in KINDS},
    }


def _names() -> dict[str, Any]:
    """Names of classes: a list, or a mapping of what stands for them."""
    return {"type": ["array", "object"], "minItems": 1, "minProperties": 1}


def _labels() -> dict[str, Any]:
    """What the labels of cases are: one of the kinds, and the column that has them."""
    kinds: dict[str, Any] = {kind: {"type": "string"} if kind == "unit" else _names() for kind in LABELS}
    columns = {"type": ["string", "array", "null"], "items": {"type": "string"}}
    one = [{"required": [kind]} for kind in LABELS]
    return {
        "type": "object",
        "properties": {**kinds, "column": columns},
        "oneOf": one,
        "additionalProperties": False,
    }


def _train() -> dict[str, Any]:
    """A split and the fraction of its patients that is trained on."""
    properties = {"split": {"type": "string"}, "fraction": json_type(hints(Stage)["fraction"])}
    return {"type": "object", "properties": properties, "additionalProperties": False}


def _by_turn(kind: dict[str, Any]) -> dict[str, Any]:
    """A component, or one for each turn of the objective."""
    return {"anyOf": [kind, {"type": "object", "not": {"required": ["use"]}, "additionalProperties": kind}]}


def _kind(kind: str, beside: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """A component of ``kind``, with the keys that its place allows beside its arguments."""
    reference: dict[str, Any] = {"$ref": f"#/$defs/{kind}"}
    if beside is None:
        return reference
    return {"allOf": [reference, {"properties": {key: json_type(annotation) for key, annotation in beside.items()}}]}


def _record(cls: type, required: tuple[str, ...]) -> dict[str, Any]:
    types = hints(cls)
    properties: dict[str, Any] = {}
    for item in fields(cls):
        try:
            properties[item.name] = json_type(types[item.name])
        except TypeError:
            properties[item.name] = {}
    return {"type": "object", "properties": properties, "required": list(required), "additionalProperties": False}


def _component(registry: Registry, kind: str) -> dict[str, Any]:
    options: list[dict[str, Any]] = []
    shorts = [entry.name for entry in registry.of_kind(kind)]
    for entry in registry.of_kind(kind):
        try:
            schema = static_schema(entry).json()
        except InputError:
            continue
        names = [entry.full_name] + ([entry.name] if shorts.count(entry.name) == 1 else [])
        # A slot may add keys of its own, such as weight, beside the component's arguments.
        options.append(
            {
                "type": "object",
                "description": entry.summary,
                "properties": {"use": {"enum": names}, **schema["properties"]},
                "required": ["use", *schema["required"]],
            }
        )
    reference = {"type": "object", "properties": {"from": {"type": "string"}}, "required": ["from"]}
    written = [name for entry in registry.of_kind(kind) for name in (entry.full_name, entry.name)]
    named = {"enum": list(dict.fromkeys(name for name in written if ":" in name or shorts.count(name) == 1))}
    return {"anyOf": [named, *options, reference]}
