"""Variants compared on the cases both have, by the right test, with a word on rows that are not independent."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from medkit.evaluation.comparisons import Comparison, compare_variants
from medkit.evaluation.results import MetricValue


def rows(patients: int, each: int, gain: float, seed: int = 0) -> list[dict[str, Any]]:
    """Cases of two variants: probability of the label, and an error that the first has ``gain`` less of."""
    rng = np.random.default_rng(seed)
    found = []
    for i in range(patients * each):
        label = i % 2
        error = rng.random() + 1
        for stage, shift in (("age", 0.0), ("age@scratch", gain)):
            case = {"stage": stage, "split": "test", "case": f"c{i}", "patient": f"p{i // each}", "label": str(label)}
            score = label + rng.normal(0, 0.5 + shift)
            found.append(case | {"probability": str(score), "mae": str(error + shift + rng.normal(0, 0.1))})
    return found


def compared(cases: list[dict[str, Any]], test: str, metric: str) -> Comparison:
    wanted = {"compare": {"test": test, "metric": [metric]}}
    (only,) = compare_variants(["age", "age@scratch"], ["test"], cases, wanted, ["mae"])
    return only


@pytest.mark.parametrize("test", ["paired_t", "wilcoxon", "bootstrap"])
def test_a_smaller_error_is_better(test: str) -> None:
    found = compared(rows(40, 1, 0.5), test, "mae")
    assert found.says == "age is better"
    assert found.test.difference < 0


def test_no_difference_is_not_called_one() -> None:
    assert compared(rows(40, 1, 0.0), "paired_t", "mae").says == "no difference shown"


def test_auc_is_compared_by_delong_whatever_the_recipe_says() -> None:
    assert compared(rows(40, 1, 0.5), "paired_t", "auc").test.name == "DeLong"


@pytest.mark.parametrize(("test", "metric"), [("paired_t", "mae"), ("wilcoxon", "mae"), ("delong", "auc")])
def test_several_rows_of_one_patient_are_told(test: str, metric: str) -> None:
    assert compared(rows(20, 3, 0.5), test, metric).clustered
    assert not compared(rows(20, 1, 0.5), test, metric).clustered


def test_the_bootstrap_draws_patients_so_it_needs_no_warning() -> None:
    assert not compared(rows(20, 3, 0.5), "bootstrap", "mae").clustered


def test_a_mean_over_classes_is_tested_as_it_is_reported() -> None:
    """Class a is in all cases and half a point better, class b in every fifth and three points worse."""
    rng, cases = np.random.default_rng(0), []
    for i in range(40):
        for stage, shift in (("age", 0.0), ("age@scratch", 1.0)):
            each = {"hd95_a": 5 + 0.5 * shift} | ({"hd95_b": 9 - 3 * shift} if i % 5 == 0 else {})
            each = {name: value + rng.normal(0, 0.1) for name, value in each.items()}
            case = {"stage": stage, "split": "test", "case": f"c{i}", "patient": f"p{i // 2}", "label": "1"}
            values = {"hd95": np.mean(list(each.values())), "hd95_b": "", **each}
            cases.append(case | {name: str(value) for name, value in values.items()})

    def reported(stage: str) -> float:
        mine = [case for case in cases if case["stage"] == stage]
        return float(np.mean([np.mean([float(c[n]) for c in mine if c[n]]) for n in ("hd95_a", "hd95_b")]))

    found = compared(cases, "paired_t", "hd95")
    assert found.test.difference == pytest.approx(reported("age") - reported("age@scratch"))
    assert found.test.difference > 1


@pytest.mark.parametrize("test", ["paired_t", "wilcoxon", "bootstrap"])
def test_a_mean_over_slices_is_tested_as_it_is_reported(test: str) -> None:
    cases = rows(20, 1, 0.5)
    for case in cases:
        case["weight_of_mae"] = str(1 + int(case["case"][1:]))

    def reported(stage: str) -> float:
        mine = [case for case in cases if case["stage"] == stage]
        return float(np.average([float(c["mae"]) for c in mine], weights=[float(c["weight_of_mae"]) for c in mine]))

    assert compared(cases, test, "mae").test.difference == pytest.approx(reported("age") - reported("age@scratch"))


@pytest.mark.parametrize(("value", "told"), [(1.0, False), (5.0, True)])
def test_a_difference_that_is_not_of_the_values_beside_it_says_of_what_it_is(value: float, told: bool) -> None:
    cases = rows(20, 1, 0.5)
    means = [np.mean([float(c["mae"]) for c in cases if c["stage"] == stage]) for stage in ("age", "age@scratch")]
    values = {
        stage: {"test": {"mae": MetricValue(value * mean, 0, 9, 20, 0)}}
        for stage, mean in zip(("age", "age@scratch"), means, strict=True)
    }
    wanted = {"compare": {"test": "paired_t", "metric": ["mae"]}}
    (found,) = compare_variants(["age", "age@scratch"], ["test"], cases, wanted, ["mae"], values=values)
    assert ("the mean one over cases, not that of the two values" in found.says) == told


def test_cases_that_one_variant_lacks_are_left_out() -> None:
    cases = rows(20, 1, 0.5)
    del cases[1]  # of the second variant
    assert compared(cases, "paired_t", "mae").test.n == 19


def test_variants_are_not_compared_with_each_other_when_the_stage_itself_is_missing() -> None:
    wanted = {"compare": {"test": "paired_t", "metric": ["mae"]}}
    assert compare_variants(["age@scratch", "age"], ["test"], rows(20, 1, 0.5), wanted, ["mae"]) == []


def test_neither_is_better_where_most_patients_favour_one_and_the_mean_the_other() -> None:
    """The first has an error that is a little smaller in 19 patients and much larger in one."""
    cases = []
    for i in range(20):
        for stage, error in (("age", 1.0 if i else 9.0), ("age@scratch", 1.1 + i / 100)):
            case = {"stage": stage, "split": "test", "case": f"c{i}", "patient": f"p{i}", "label": "1"}
            cases.append(case | {"mae": str(error)})
    found = compared(cases, "wilcoxon", "mae")
    assert found.test.difference > 0
    assert found.p_holm < 0.05
    assert found.says == "neither is better: most patients favour one and the mean the other"
    assert found.test.stars == ""


def test_a_metric_of_classes_is_compared_by_its_short_name() -> None:
    found = [
        {key: case[key] for key in ("stage", "split", "case", "patient")}
        | {
            "nsd_2mm": str((i % 7 + 1.5) / 10),
            "nsd_2mm_EDH": str((i % 7 + 1) / 10),
            "nsd_2mm_SDH": str((i % 7 + 2) / 10),
        }
        for i, case in enumerate(rows(10, 1, 0.5))
    ]
    assert compared(found, "paired_t", "nsd").metric == "nsd_2mm"
