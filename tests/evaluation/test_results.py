"""``results.json`` and ``cases.csv``: nothing is lost in them, undefined numbers are null, rows are replaced and kept."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medkit.errors import RunError
from medkit.evaluation.case_table import merge_cases, read_cases
from medkit.evaluation.comparisons import compare_variants
from medkit.evaluation.evaluate import _value
from medkit.evaluation.results import Evaluation, MetricValue, read_results, write_results
from medkit.parts.metrics_classification import (
    AUC,
    F1,
    NPV,
    PPV,
    AveragePrecision,
    BinaryBalancedAccuracy,
    Sensitivity,
    Specificity,
)
from medkit.parts.metrics_segmentation import DiceScore


def line(stage: str, case: str, split: str = "test", **cells: Any) -> dict[str, Any]:
    return {"stage": stage, "split": split, "case": case, "patient": f"p{case}", "center": "A", **cells}


def evaluation(stage: str, *rows: dict[str, Any], split: str = "test", **values: MetricValue) -> Evaluation:
    return Evaluation(stage, split, values, list(rows), [])


def test_cases_csv_keeps_every_digit(tmp_path: Path) -> None:
    numbers = [1 / 3, np.float32(0.99999994), np.float64(1e-17), 1.0]
    write_results(tmp_path, evaluation("s", *(line("s", str(i), probability=p) for i, p in enumerate(numbers))))
    assert [float(row["probability"]) for row in read_cases(tmp_path)] == [float(number) for number in numbers]


def test_the_tested_difference_of_two_aucs_is_that_of_the_reported_ones(tmp_path: Path) -> None:
    """A confident network: its probabilities differ in the seventh digit."""
    rng = np.random.default_rng(0)
    labels = np.repeat([0.0, 1.0], 60)
    reported = {}
    for stage, shift in (("s", 1.5), ("s@v", 0.8)):
        logits = rng.normal(15, 1, 120) + shift * labels
        rows = [{"label": y, "probability": float(p)} for y, p in zip(labels, 1 / (1 + np.exp(-logits)), strict=True)]
        reported[stage] = AUC().compute({key: np.array([row[key] for row in rows]) for key in rows[0]})
        write_results(tmp_path, evaluation(stage, *(line(stage, str(i), **row) for i, row in enumerate(rows))))
    wanted = {"compare": {"test": "paired_t", "metric": ["auc"]}}
    (found,) = compare_variants(["s", "s@v"], ["test"], read_cases(tmp_path), wanted)
    assert found.test.difference == pytest.approx(reported["s"] - reported["s@v"], abs=1e-12)


@pytest.mark.parametrize("stage", ["b", "a"])
def test_writing_an_evaluation_twice_changes_nothing(tmp_path: Path, stage: str) -> None:
    for name in ("a", "b"):
        write_results(tmp_path, evaluation(name, line(name, "1", dice=0.5), line(name, "2", dice=0.25)))
    write_results(tmp_path, evaluation(stage, line(stage, "1", dice=0.5), line(stage, "2", dice=0.25)))
    rows = read_cases(tmp_path)
    assert sorted((row["stage"], row["case"], row["dice"]) for row in rows) == [
        ("a", "1", "0.5"),
        ("a", "2", "0.25"),
        ("b", "1", "0.5"),
        ("b", "2", "0.25"),
    ]


def test_an_evaluation_again_takes_the_place_of_the_earlier_one(tmp_path: Path) -> None:
    write_results(tmp_path, evaluation("s", line("s", "1", dice=0.5), line("s", "2", dice=0.5)))
    write_results(tmp_path, evaluation("s", line("s", "1", dice=0.75)))
    assert [(row["case"], row["dice"]) for row in read_cases(tmp_path)] == [("1", "0.75")]


def test_a_stage_with_other_metrics_has_columns_of_its_own(tmp_path: Path) -> None:
    write_results(tmp_path, evaluation("a", line("a", "1", dice=0.5)))
    write_results(tmp_path, evaluation("b", line("b", "1", mae=2.0)))
    write_results(tmp_path, evaluation("c", line("c", "1", dice=0.25)))
    assert [(row["stage"], row["dice"], row["mae"]) for row in read_cases(tmp_path)] == [
        ("a", "0.5", ""),
        ("b", "", "2.0"),
        ("c", "0.25", ""),
    ]


def test_names_with_commas_quotes_and_lines_come_back(tmp_path: Path) -> None:
    for stage in ("a", "b"):
        rows = [line(stage, name, dice=0.5) for name in ('x,"y"\nb,test,', "=1+1", "a\u2028b\x0cc\x85d")]
        write_results(tmp_path, evaluation(stage, *rows))
    assert [row["case"] for row in read_cases(tmp_path)] == ['x,"y"\nb,test,', "=1+1", "a\u2028b\x0cc\x85d"] * 2


def test_old_rounded_files_and_results_without_patients_are_still_read(tmp_path: Path) -> None:
    (tmp_path / "cases.csv").write_text("stage,split,case,patient,center,label,dice\ns,test,1,p1,A,1,0.333333\n")
    old = {"value": 0.3, "low": None, "high": None, "n": 9, "n_empty": 1, "unit": "", "missed": 2.0}
    (tmp_path / "results.json").write_text(json.dumps({"s": {"test": {"dice": old}}}))
    write_results(tmp_path, evaluation("t", line("t", "1", dice=1 / 3)))
    assert [float(row["dice"]) for row in read_cases(tmp_path)] == [0.333333, 1 / 3]
    found = read_results(tmp_path)["s"]["test"]["dice"]
    assert (found.n, found.n_patients, found.extras) == (9, 0, {"missed": 2.0})
    assert found.counts == "n = 9"


def test_results_say_patients_beside_rows_and_how_the_interval_was_made(tmp_path: Path) -> None:
    rows = [{"label": float(i % 2), "probability": i / 24} for i in range(24)]
    found = _value(Sensitivity(), rows, [f"p{i // 2}" for i in range(24)], 3, True)
    write_results(tmp_path, evaluation("s", sensitivity=found))
    plain = json.loads((tmp_path / "results.json").read_text())["s"]["test"]["sensitivity"]
    assert (plain["n"], plain["n_patients"], plain["n_empty"], plain["method"]) == (12, 12, 15, "Wilson")
    assert read_results(tmp_path)["s"]["test"]["sensitivity"] == found


def of_three_rows_each(positive_patients: int) -> tuple[list[dict[str, float]], list[str]]:
    """Rows of 20 patients, of whom the first are positive, and whose each is."""
    probability = np.random.default_rng(0).random(60)
    rows = [{"label": float(i // 3 < positive_patients), "probability": float(probability[i])} for i in range(60)]
    return rows, [f"p{i // 3}" for i in range(60)]


@pytest.mark.parametrize("metric", [Sensitivity(), Specificity(), PPV(), NPV(), F1()])
def test_a_rate_counts_the_rows_and_patients_of_its_denominator(metric: Any) -> None:
    rows, patients = of_three_rows_each(9)
    label, said = (np.array([row[key] for row in rows]) > 0.5 for key in ("label", "probability"))
    counted = {"sensitivity": label, "specificity": ~label, "ppv": said, "npv": ~said, "f1": label | said}[metric.name]
    found = _value(metric, rows, patients, 2, True)
    assert (found.n, found.n_empty) == (counted.sum(), 62 - counted.sum())
    assert found.n_patients == len({patient for patient, here in zip(patients, counted, strict=True) if here})


@pytest.mark.parametrize(("positive", "defined"), [(5, False), (6, True)])
def test_a_sensitivity_needs_six_patients_with_positives(positive: int, defined: bool) -> None:
    found = _value(Sensitivity(), *of_three_rows_each(positive), 0, True)
    assert math.isfinite(found.low) == defined
    assert found.method == ("Wilson" if defined else "no interval: 5 patients, fewer than 6")


@pytest.mark.parametrize("metric", [AUC(), AveragePrecision(), BinaryBalancedAccuracy()])
@pytest.mark.parametrize("positive", [2, 3, 17, 18])
def test_a_number_of_both_kinds_needs_three_patients_of_each(metric: Any, positive: int) -> None:
    found = _value(metric, *of_three_rows_each(positive), 0, True)
    assert math.isfinite(found.low) == (positive in (3, 17))
    kind = {2: "positive", 18: "negative"}.get(positive)
    assert kind is None or found.method == f"no interval: 2 patients have {kind} cases, fewer than 3"


def test_an_undefined_number_is_null_with_its_counts(tmp_path: Path) -> None:
    found = _value(Sensitivity(), [{"label": 0.0, "probability": 0.1}] * 20, [str(i) for i in range(20)], 0, True)
    plain = found.json()
    assert (plain["value"], plain["low"], plain["n"], plain["n_empty"]) == (None, None, 0, 20)
    assert "undefined" in found.told()


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (MetricValue(0.5, 0.4, 0.6, 52, 0, n_patients=2, counted="slices"), "52 slices, 2 patients"),
        (MetricValue(0.5, 0.4, 0.6, 20, 0, n_patients=20), "20 patients"),
        (MetricValue(0.5, 0.4, 0.6, 20, 0, n_patients=20, counted="slices"), "20 slices, 20 patients"),
        (MetricValue(0.5, 0.4, 0.6, 1, 0, n_patients=1), "1 patient"),
        (MetricValue(math.nan, 0.4, 0.6, 0, 7), "n = 0"),
        (
            MetricValue(0.5, 0.4, 0.6, 7, 0, n_patients=7, patients=1),
            "7 cases of 1 patient, and the interval is over cases",
        ),
        (MetricValue(0.5, 0.4, 0.6, 7, 0, n_patients=7, patients=9), "7 patients"),
    ],
)
def test_counts_are_never_of_rows_alone(value: MetricValue, text: str) -> None:
    assert value.counts == text


@pytest.mark.parametrize("name", ["value", "n", "low", "n_patients", "rule"])
def test_extras_of_a_metric_cannot_take_the_place_of_its_number(name: str) -> None:
    class Odd(DiceScore):
        def extras(self, rows: Any) -> dict[str, float]:
            return {name: 1.0}

    with pytest.raises(RunError, match=f"may not be called {name}"):
        _value(Odd(), [{"value": 0.5}] * 8, list("abcdefgh"), 0, True)


def test_columns_stand_in_the_order_of_the_file(tmp_path: Path) -> None:
    write_results(tmp_path, evaluation("a", line("a", "1", dice=0.5, fpv=1.0)))
    write_results(tmp_path, evaluation("b", line("b", "1", fpv=2.0, dice=0.25)))
    merge_cases(tmp_path)
    with (tmp_path / "cases.csv").open(newline="") as file:
        assert [row[-2:] for row in csv.reader(file)] == [["dice", "fpv"], ["0.5", "1.0"], ["0.25", "2.0"]]
