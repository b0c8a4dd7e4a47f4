"""Where two recipes differ, as plain data."""

from __future__ import annotations

from typing import Any

SETTLED = "draw"
"""Key of a stage that a run decides where the recipe leaves it open, and records."""


def first_difference(wanted: Any, there: Any, key: str = "") -> tuple[str, Any, Any] | None:
    """Key, and both values, of the first place where two recipes differ."""
    if isinstance(wanted, dict) and isinstance(there, dict):
        for name in dict.fromkeys([*wanted, *there]):
            if name == SETTLED and wanted.get(name) is None and key.startswith("stages"):
                continue
            found = first_difference(wanted.get(name), there.get(name), f"{key}.{name}".lstrip("."))
            if found is not None:
                return found
        return None
    if isinstance(wanted, list) and isinstance(there, list):
        for number, pair in enumerate(zip(wanted, there, strict=False)):
            name = next((str(item["name"]) for item in pair if isinstance(item, dict) and "name" in item), number)
            if (found := first_difference(*pair, f"{key}.{name}")) is not None:
                return found
        return None if len(wanted) == len(there) else (f"{key} (how many)", len(wanted), len(there))
    return None if wanted == there else (key, wanted, there)


def shown(value: Any) -> str:
    """A value of a recipe for a message."""
    return "not given" if value is None else repr(value)
