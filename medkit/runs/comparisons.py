"""Variants of a stage tested against the stage itself, on the cases both have."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from medkit.recipe_model import SEPARATOR
from medkit.runs import stats


@dataclass(frozen=True)
class Comparison:
    """Two variants of a stage on the same cases."""

    split: str
    metric: str
    first: str
    second: str
    test: stats.Test
    p_holm: float
    clustered: bool
    higher_is_better: bool = True

    @property
    def says(self) -> str:
        if math.isnan(self.test.p):
            return "not defined on these cases"
        if self.p_holm < 0.05:
            first = (self.test.difference > 0) == self.higher_is_better
            return f"{self.first if first else self.second} is better"
        return "no difference shown"


def compare_variants(
    stages: Sequence[str],
    splits: Sequence[str],
    cases: Sequence[Mapping[str, Any]],
    wanted: Mapping[str, Any],
    lower_is_better: Sequence[str] = (),
) -> list[Comparison]:
    """Test a stage, the first of ``stages``, against each of its variants, per split and metric, on cases both have.

    ``auc`` has no value per case: it is always tested by DeLong, and other metrics never are (paired t instead).
    """
    compare = wanted.get("compare") or {}
    found: list[tuple[str, str, str, str, stats.Test, bool]] = []
    if (
        len(stages) < 2 or not compare or SEPARATOR in stages[0]
    ):  # without the stage itself there is nothing to compare with
        return []
    for split in splits:
        for metric in compare.get("metric", []):
            for other in stages[1:]:
                tables = []
                for stage in (stages[0], other):
                    mine = [row for row in cases if (row["stage"], row["split"]) == (stage, split)]
                    tables.append({row["case"]: row for row in mine})
                test, clustered = _test(compare.get("test", "paired_t"), metric, *tables)
                if test is not None:
                    found.append((split, metric, stages[0], other, test, clustered))
    corrected = stats.holm([item[4].p for item in found])
    return [
        Comparison(split, metric, a, b, test, p, clustered, metric not in lower_is_better)
        for (split, metric, a, b, test, clustered), p in zip(found, corrected, strict=True)
    ]


def _test(
    kind: str, metric: str, first: Mapping[str, Any], second: Mapping[str, Any]
) -> tuple[stats.Test | None, bool]:
    if metric == "auc":
        kind = "delong"
    elif kind == "delong":
        kind = "paired_t"
    columns = ("probability", "label") if kind == "delong" else (metric,)
    both = [c for c in first if c in second and all(first[c].get(k) and second[c].get(k) for k in columns)]
    if not both:
        return None, False
    patients = [first[c]["patient"] for c in both]
    # Several rows of one patient in a test that takes rows for independent.
    clustered = len(set(patients)) < len(patients) and kind != "bootstrap"
    a, b = ([float(table[c][columns[0]]) for c in both] for table in (first, second))
    x, y = np.array(a), np.array(b)
    if kind == "delong":
        return stats.delong(x, y, np.array([float(first[c]["label"]) for c in both])), clustered
    if kind == "wilcoxon":
        return stats.wilcoxon(x, y), clustered
    if kind == "bootstrap":
        return stats.bootstrap_test(x, y, patients), clustered
    return stats.paired_t(x, y), clustered
