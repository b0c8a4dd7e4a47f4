"""What the columns of a stage's table are, in a few words each, from the registry."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from medkit.errors import InputError
from medkit.recipe.values import SEPARATOR
from medkit.registry.plugins import registry

ABBREVIATED = {"uL": "microlitres", "HU": "Hounsfield units"}


def legend(heads: Sequence[str], stages: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """What metrics measure, by the names that results use for them; those of plugins that are not here are left out.

    ``stages`` are the recipe's, as plain data.
    """
    about = dict(_described(stages))
    found = {}
    for head in heads:
        # Names of results begin with the metric's: 'rmse_hu', 'dice_oedema'.
        known = [name for name in about if head == name or head.startswith(f"{name}_")]
        if known:
            found[head] = about[max(known, key=len)]
    return found


def _described(stages: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, str]]:
    for stage in stages:
        for metric in stage.get("metrics") or ():
            try:
                entry = registry().resolve("metric", metric if isinstance(metric, str) else metric["use"])
            except InputError:
                continue
            yield entry.name, entry.summary


def spelled_out(units: Sequence[str], stages: Sequence[str]) -> list[str]:
    """What short forms in a table mean: units, and names of variants."""
    told = [f"{unit}: {ABBREVIATED[unit]}" for unit in dict.fromkeys(units) if unit in ABBREVIATED]
    if varied := [stage for stage in stages if SEPARATOR in stage]:
        base, _, variant = varied[0].partition(SEPARATOR)
        told.append(f"{varied[0]}: the variant '{variant}' of stage '{base}'")
    return told
