"""Whether two stages have measured a number by the same metric with the same arguments, as their recipes say."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

Measured = tuple[Mapping[str, Any], Mapping[str, Collection[str]]]
"""A resolved recipe, and the names of what was measured of each of its stages."""


def measured_otherwise(first: Mapping[str, Any], second: Mapping[str, Any], metric: str) -> str:
    """In which arguments the metric recorded as ``metric`` differs between two stages; "" if in none.

    Stages are blocks of a resolved recipe. A metric whose name is not known from the recipe alone is not compared.
    """
    mine, theirs = (_measured_by(stage.get("metrics") or [], metric) for stage in (first, second))
    if mine is None or theirs is None or mine == theirs:
        return ""
    names = [name for name in {**mine, **theirs} if mine.get(name) != theirs.get(name)]
    each = ", ".join(f"{name} {_told(mine, name)} and {_told(theirs, name)}" for name in names)
    return f"'{metric}' was measured with other arguments ({each})"


def otherwise(runs: Mapping[str, Measured]) -> Iterator[str]:
    """A sentence for each number of a stage that runs have measured with other arguments than the first that has it."""
    first: dict[tuple[str, str], tuple[str, Mapping[str, Any]]] = {}
    for name, (recipe, measured) in runs.items():
        for block in recipe["stages"]:
            for metric in measured.get(block["name"], ()):
                other, theirs = first.setdefault((block["name"], metric), (name, block))
                if told := measured_otherwise(theirs, block, metric):
                    yield f"of stage '{block['name']}' in {other} and {name}, {told}"


def _measured_by(metrics: Sequence[Any], name: str) -> Mapping[str, Any] | None:
    """The block of the only metric that may be recorded under a name: its own, or one that begins with its own."""
    blocks = [{"use": metric} if isinstance(metric, str) else metric for metric in metrics]
    short = [str(block.get("use", "")).rpartition(":")[2] for block in blocks]
    exact = [block for block, own in zip(blocks, short, strict=True) if own == name]
    found = exact or [block for block, own in zip(blocks, short, strict=True) if name.startswith(f"{own}_")]
    return found[0] if len(found) == 1 else None


def _told(block: Mapping[str, Any], name: str) -> str:
    return str(block[name]) if name in block else "its default"
