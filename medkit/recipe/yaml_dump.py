"""YAML that :mod:`medkit.recipe.yaml` reads back as the same data, for every possible text."""

from __future__ import annotations

import re
from typing import Any

import yaml

from medkit.errors import InputError
from medkit.recipe.yaml import is_text

# Line breaks of other standards, byte order marks and control characters survive in double quotes only.
ESCAPED = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ufeff]")


class _Dumper(yaml.SafeDumper):
    """Quotes each text that :func:`medkit.recipe.yaml.scalar` would read as something else: ``08``, ``1e3``."""

    def resolve(self, kind: Any, value: Any, implicit: Any) -> Any:
        if kind is yaml.ScalarNode and implicit[0] and is_text(value):
            return self.DEFAULT_SCALAR_TAG
        return super().resolve(kind, value, implicit)

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    quoted = not is_text(text) or text == "<<" or ESCAPED.search(text)
    return dumper.represent_scalar(dumper.DEFAULT_SCALAR_TAG, text, style='"' if quoted else None)


_Dumper.add_representer(str, _text)


def dump(content: Any) -> str:
    """Plain data as YAML text.

    Raises
    ------
    InputError
        if something in it is not a text, number, list or mapping.
    """
    try:
        return yaml.dump(_literal(content), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110)
    except yaml.YAMLError as error:
        raise InputError(f"this cannot be written as YAML: {' '.join(str(error).split())}") from error


def _literal(value: Any) -> Any:
    """Values (keys are never expanded) with ``${`` escaped so that it stays text."""
    if isinstance(value, dict):
        return {str(key): _literal(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_literal(item) for item in value]
    return value.replace("${", "$${") if isinstance(value, str) else value
