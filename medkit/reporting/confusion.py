"""How often which declared class was said of which, for the report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from medkit.protocols.labels import labels_of
from medkit.reporting.run_results import RunResults

MOST = 30
"""Classes that a page has room for."""


@dataclass(frozen=True)
class Confusion:
    """Cases of each true class (a row) by what was said (a column)."""

    title: str
    names: Sequence[str]
    rows: Sequence[tuple[str, Sequence[int]]]


def confusions(run: RunResults, stages: Sequence[str], splits: Sequence[str]) -> Iterator[Confusion]:
    """One a stage and split whose cases are labelled and said to be one of several classes."""
    blocks = run.blocks(stages)
    for stage in stages:
        names = _names((run.recipe.get("data") or {}).get(blocks[stage].get("data"), {})) if stage in blocks else ()
        for split in splits if 0 < len(names) <= MOST else ():
            pairs = Counter((row.get("labels"), row.get("class")) for row in run.cases.of(stage, split))
            counts = [(true, [pairs[true, said] for said in names]) for true in names]
            if any(any(row) for _, row in counts):
                yield Confusion(f"{stage}, {split}", names, counts)


def _names(block: Mapping[str, Any]) -> Sequence[str]:
    labels = labels_of(block["labels"]) if block.get("labels") else None
    return labels.names if labels is not None and labels.kind in ("one_of", "ordered") else ()
