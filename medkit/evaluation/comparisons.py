"""Variants of a stage tested against the stage itself, on the cases both have."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from medkit.evaluation import statistics
from medkit.evaluation.bootstrap import too_few
from medkit.evaluation.case_table import CaseTable
from medkit.evaluation.metric_arguments import measured_otherwise
from medkit.evaluation.reported import is_of, known, scores
from medkit.evaluation.results import MetricValue, recorded
from medkit.evaluation.same_cases import Rows, by_case, unknown, unlike
from medkit.recipe.values import SEPARATOR

Blocks = Mapping[str, Mapping[str, Any]]
"""Stages of a resolved recipe by name."""
Values = Mapping[str, Mapping[str, Mapping[str, MetricValue]]]
"""What is reported, by stage, split and metric."""


@dataclass(frozen=True)
class Comparison:
    """Two variants of a stage on the same cases; ``clustered`` if patients have several and are what is tested.

    ``about`` says what the difference is of, where that is not the two values that are reported.
    """

    split: str
    metric: str
    first: str
    second: str
    test: statistics.Test
    p_holm: float
    clustered: bool
    higher_is_better: bool = True
    about: str = ""

    @property
    def says(self) -> str:
        """What the test shows, in words."""
        return f"{self._shown}; {self.about}" if self.about else self._shown

    @property
    def _shown(self) -> str:
        if math.isnan(self.test.p):
            return "not defined on these cases" + (f": {self.test.why}" if self.test.why else "")
        if self.p_holm < 0.05 and self.test.divided:
            return "neither is better: most patients favour one and the mean the other"
        if self.p_holm < 0.05:
            first = (self.test.difference > 0) == self.higher_is_better
            return f"{self.first if first else self.second} is better"
        return "no difference shown"


def compare_variants(
    stages: Sequence[str],
    splits: Sequence[str],
    cases: CaseTable | Sequence[Mapping[str, Any]],
    wanted: Mapping[str, Any],
    lower_is_better: Sequence[str] = (),
    blocks: Blocks | None = None,
    values: Values | None = None,
) -> list[Comparison]:
    """Test a stage, the first of ``stages``, against each of its variants, per split and metric, on cases both have.

    ``auc`` has no value per case: it is always tested by DeLong, and other metrics never are (paired t instead).
    With fewer than six patients no test is defined, nor is one where cases of the same names are not the same, or it is
    not known whether they are, or the metric had other arguments, as ``blocks`` say. ``rmse`` is also found under the
    longer name that the metric gives itself (``rmse_hu``). ``values`` are those that the differences stand beside.
    """
    compare = wanted.get("compare") or {}
    if len(stages) < 2 or not compare or SEPARATOR in stages[0]:
        return []  # without the stage itself there is nothing to compare with
    table = cases if isinstance(cases, CaseTable) else CaseTable(cases)
    kind, columns, said = compare.get("test", "paired_t"), table.columns(stages), blocks or {}
    metrics = [recorded(name, columns) for name in compare.get("metric", [])]
    found: list[tuple[str, str, str, statistics.Test, bool]] = []
    for split in splits:
        rows = {stage: by_case(table.of(stage, split)) for stage in stages}
        others = {other: _other_cases(stages[0], other, rows, said) for other in stages[1:]}
        for metric in metrics:
            for other in stages[1:]:
                test, clustered = paired_test(kind, metric, rows[stages[0]], rows[other])
                why = others[other] or measured_otherwise(said.get(stages[0], {}), said.get(other, {}), metric)
                if test is not None and why:
                    test = replace(test, difference=math.nan).undefined(why)
                if test is not None:
                    found.append((split, metric, other, test, clustered))
    corrected = statistics.holm([test.p for _, _, _, test, _ in found])

    def about(test: statistics.Test, other: str, split: str, metric: str) -> str:
        return _about(test, *((values or {}).get(s, {}).get(split, {}).get(metric) for s in (stages[0], other)))

    return [
        Comparison(
            *(split, metric, stages[0], other, test, p, clustered, metric not in lower_is_better),
            about(test, other, split, metric),
        )
        for (split, metric, other, test, clustered), p in zip(found, corrected, strict=True)
    ]


def _about(test: statistics.Test, first: MetricValue | None, second: MetricValue | None) -> str:
    """What a difference is of, if it is not that of the two values beside it; "" if it is, or is not defined."""
    if first is None or second is None or math.isnan(test.difference):
        return ""
    if is_of(test.difference, first.value, second.value):
        return ""
    fewer = f" that both have ({test.n})" if test.n < max(first.n, second.n) else ""
    return f"the difference is the mean one over {first.counted}{fewer}, not that of the two values"


def _other_cases(first: str, second: str, rows: Mapping[str, Rows], blocks: Blocks) -> str:
    """Why rows of two stages are no pairs; "" if they are."""
    if told := unlike(rows[first], rows[second]):
        return told
    data = [blocks[stage].get("data") for stage in (first, second) if stage in blocks]
    if len(set(data)) == 2 and (count := unknown(rows[first], rows[second])):
        return f"whether {count} images of data blocks '{data[0]}' and '{data[1]}' are the same is not known"
    return ""


def paired_test(
    kind: str, metric: str, first: Mapping[str, Any], second: Mapping[str, Any]
) -> tuple[statistics.Test | None, bool]:
    """The test of two tables of the same cases, by case, and whether patients are tested because they have several;
    None if no case has the metric in both. AUC is tested by DeLong's test, and nothing else is; means over classes and
    over slices as they are reported (:mod:`medkit.evaluation.reported`)."""
    if metric == "auc":
        kind = "delong"
    elif kind == "delong":
        kind = "paired_t"
    columns = ("probability", "label") if kind == "delong" else (metric,)
    both = [c for c in first if c in second and all(known(first[c], k) and known(second[c], k) for k in columns)]
    if not both:
        return None, False
    patients = [first[c]["patient"] for c in both]
    clustered = len(set(patients)) < len(patients) and kind != "bootstrap"
    if kind == "delong":
        x, y = (np.array([float(table[c]["probability"]) for c in both]) for table in (first, second))
        test = statistics.delong(x, y, np.array([float(first[c]["label"]) for c in both]), patients)
    else:
        a, b, weights = scores(metric, first, second, both)
        test = PAIRED[kind](a, b, patients, weights)
    few = too_few(len(set(patients)))
    return (test.undefined(few) if few else test), clustered


PAIRED: Mapping[str, Callable[..., statistics.Test]] = {
    "paired_t": statistics.paired_t,
    "wilcoxon": statistics.wilcoxon,
    "bootstrap": statistics.bootstrap_test,
}
