"""Tests of points of a stress curve against the scans' own dose."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from medkit.evaluation.results import Evaluation, MetricValue
from medkit.evaluation.stress import against_own_dose
from medkit.recipe.report_model import Stress

CURVE = {"noisy": Stress(stages=["s"], split="test", dose=[1.0, 0.2])}


def measured(name: str, metric: str, value: float, rows: Sequence[dict[str, Any]]) -> Evaluation:
    return Evaluation("s", name, {metric: MetricValue(value, 0, 1, len(rows), 0)}, list(rows), [])


def found(evaluations: list[Evaluation], metric: str) -> dict[str, float]:
    return dict(against_own_dose(evaluations, CURVE, "paired_t")[1].values[metric].extras)


@pytest.mark.parametrize(("patients", "defined"), [(5, False), (6, True)])
def test_a_rate_of_fewer_than_six_patients_has_no_p(patients: int, defined: bool) -> None:
    """All are positive, and at a lower dose one slice in five of each patient is missed, in one patient two."""
    own, low = [], []
    for i in range(patients * 5):
        case = {"case": f"c{i}", "patient": f"p{i // 5}", "label": 1.0}
        own.append({**case, "probability": 0.9})
        low.append({**case, "probability": 0.1 if i % 5 == 0 or i == 1 else 0.9})
    share = float(np.mean([case["probability"] > 0.5 for case in low]))
    points = [measured("noisy@1", "sensitivity", 1.0, own), measured("noisy@0.2", "sensitivity", share, low)]
    assert math.isnan(found(points, "sensitivity")["p"]) != defined


def test_a_sum_over_cases_is_not_tested_by_its_mean() -> None:
    rows = [{"case": f"c{i}", "patient": f"p{i}", "label": 0.0, "fpv_sum": float(i)} for i in range(8)]
    more = [{**row, "fpv_sum": 2.0 * row["fpv_sum"] + 1} for row in rows]
    points = [measured("noisy@1", "fpv_sum", 28.0, rows), measured("noisy@0.2", "fpv_sum", 64.0, more)]
    assert found(points, "fpv_sum") == {}
