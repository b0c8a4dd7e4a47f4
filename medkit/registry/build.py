"""Building registered components from Python."""

from __future__ import annotations

from typing import Any

from medkit.errors import InputError, did_you_mean
from medkit.registry.plugins import registry
from medkit.registry.promises import check_promises
from medkit.registry.schema import MISSING, schema_of


def build(kind: str, name: str, /, **arguments: Any) -> Any:
    """Build a registered component from Python.

    Plain arguments are checked by the component's schema, as in a recipe; given ones (``channels``) and children are
    passed as objects.

    Raises
    ------
    InputError
        if there is no such component, an argument is unknown, missing or wrong, or the component lacks what its kind
        promises.
    """
    entry = registry().resolve(kind, name)
    constructor = entry.load()
    schema = schema_of(constructor)
    checked = {}
    for key, value in arguments.items():
        if key not in schema.arguments:
            raise InputError(f"'{entry.full_name}' takes no '{key}'", hint=did_you_mean(key, schema.arguments))
        argument = schema.arguments[key]
        plain = argument.slot is None and argument.given is None
        checked[key] = schema.validate(key, value) if plain else value
    for key, argument in schema.arguments.items():
        if argument.default is MISSING and key not in arguments:
            raise InputError(f"'{entry.full_name}' needs '{key}' ({argument.type_name()})")
    component = constructor(**checked)
    check_promises(component, kind, entry.full_name)
    return component
