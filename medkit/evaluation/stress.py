"""Tests of a stage at lower doses against itself at the scans' own dose."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from medkit.evaluation.bootstrap import too_few
from medkit.evaluation.comparisons import paired_test
from medkit.evaluation.reported import is_of
from medkit.evaluation.results import Evaluation
from medkit.evaluation.statistics import Test, holm, paired_t
from medkit.recipe.report_model import Stress

Rows = Mapping[str, Mapping[str, Any]]
RATES: Mapping[str, Sequence[bool]] = {"sensitivity": (True,), "specificity": (False,), "accuracy": (True, False)}
"""Shares of cases that are classified correctly, among those that are positive or not: 1 or 0 per case."""


def against_own_dose(found: Sequence[Evaluation], curves: Mapping[str, Stress], kind: str) -> list[Evaluation]:
    """Evaluations of all points of a stage's curves, with each metric's ``difference`` to dose 1 of the same curve, its
    ``p`` by the test ``kind``, and ``p_holm``, corrected for all of them.

    A metric without a value for a single case (F1, FID) is not tested, nor one whose values differ by something else
    than what is tested, as a sum over cases does. With fewer than six patients no test is defined.
    """
    known = {one.split: one for one in found}
    tests: dict[tuple[str, str], Test] = {}
    for name, curve in curves.items():
        own = next((known[point] for point, dose in curve.points(name).items() if dose == 1 and point in known), None)
        for point, dose in curve.points(name).items():
            if own is None or dose == 1 or point not in known:
                continue
            for metric, value in known[point].values.items():
                test = _test(kind, metric, _rows(known[point]), _rows(own))
                if test is not None and is_of(test.difference, value.value, own.values[metric].value):
                    tests[point, metric] = test
    corrected = dict(zip(tests, holm([test.p for test in tests.values()]), strict=True))
    return [_with(one, tests, corrected) for one in found]


def _test(kind: str, metric: str, first: Rows, second: Rows) -> Test | None:
    if metric in RATES:
        return _of_rate(RATES[metric], first, second)
    return paired_test(kind, metric, first, second)[0]


def _of_rate(positive: Sequence[bool], first: Rows, second: Rows) -> Test | None:
    """Paired t of whether each case is classified correctly, by patients."""
    cases = [name for name in first if name in second and _is_known(first[name]) and _is_known(second[name])]
    cases = [name for name in cases if (float(first[name]["label"]) > 0) in positive]
    if not cases:
        return None
    a, b = (np.array([_right(rows[name]) for name in cases]) for rows in (first, second))
    patients = [str(first[name]["patient"]) for name in cases]
    test = paired_t(a, b, patients)
    return test.undefined(few) if (few := too_few(len(set(patients)))) else test


def _is_known(row: Mapping[str, Any]) -> bool:
    return all(row.get(key) not in (None, "") and row[key] == row[key] for key in ("label", "probability"))


def _right(row: Mapping[str, Any]) -> float:
    return float((round(float(row["probability"])) > 0) == (float(row["label"]) > 0))


def _rows(evaluation: Evaluation) -> Rows:
    return {line["case"]: line for line in evaluation.cases}


def _with(
    one: Evaluation, tests: Mapping[tuple[str, str], Test], corrected: Mapping[tuple[str, str], float]
) -> Evaluation:
    values = dict(one.values)
    for name, value in values.items():
        if (test := tests.get((one.split, name))) is not None:
            told = {"difference": test.difference, "p": test.p, "p_holm": corrected[one.split, name]}
            values[name] = replace(value, extras={**value.extras, **told})
    return replace(one, values=values)
