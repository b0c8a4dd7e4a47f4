"""Curves, operating points and agreement, by hand and against the metrics that they belong to."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from medkit.evaluation.case_table import CaseTable
from medkit.evaluation.results import MetricValue
from medkit.evaluation.subgroups import Group, Subgroups
from medkit.parts.metrics_classification import AUC, AveragePrecision
from medkit.reporting.bland_altman import agreement
from medkit.reporting.confusion import confusions
from medkit.reporting.decisions import brier, calibration, operating_points, precision_recall, roc, scores_of
from medkit.reporting.report_decisions import decisions, group_tables
from medkit.reporting.run_results import RunResults

MONTHS = {"unit": "months", "column": "age"}


def run_of(rows: list[dict[str, Any]], labels: Any = None) -> RunResults:
    """Results of stage ``s`` on ``test`` with these lines of ``cases.csv``."""
    block = {"labels": labels} if labels else {}
    recipe = {"data": {"d": block}, "stages": [{"name": "s", "data": "d", "unit": "volume"}]}
    known = {"stage": "s", "split": "test", "center": ""}
    lines = [
        known | {"case": str(i), "patient": str(i)} | {k: str(v) for k, v in row.items()} for i, row in enumerate(rows)
    ]
    value = MetricValue(0.5, 0, 1, len(rows), 0)
    return RunResults(recipe, {"s": {"test": {"auc": value}}}, CaseTable(lines))


@pytest.fixture
def random() -> RunResults:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 60)
    # Rounded, so that scores are tied.
    probabilities = np.clip(np.round(0.3 * labels + rng.random(60) * 0.7, 1), 0, 1)
    return run_of([{"label": y, "probability": p} for y, p in zip(labels, probabilities, strict=True)])


def test_the_area_under_the_drawn_roc_curve_is_the_metric(random: RunResults) -> None:
    (scores,) = scores_of(random, "s", "test")
    false, true, _ = roc(scores)
    rows = {"probability": scores.probability, "label": scores.label}
    assert np.trapezoid(true, false) == pytest.approx(AUC().compute(rows), abs=1e-12)


def test_the_area_under_the_drawn_precision_recall_steps_is_average_precision(random: RunResults) -> None:
    (scores,) = scores_of(random, "s", "test")
    recall, precision = precision_recall(scores)
    area = float(np.sum(np.diff(recall, prepend=0) * precision))
    rows = {"probability": scores.probability, "label": scores.label}
    assert area == pytest.approx(AveragePrecision().compute(rows), abs=1e-12)


def test_operating_points_are_those_of_the_curve_worked_out_by_hand() -> None:
    scored = [(0.9, 1), (0.8, 1), (0.7, 0), (0.6, 1), (0.4, 0), (0.3, 1), (0.2, 0), (0.1, 0)]
    (scores,) = scores_of(run_of([{"probability": p, "label": y} for p, y in scored]), "s", "test")
    found = {point.rule: point for point in operating_points(scores)}
    at_half = found["probability above 0.5"]
    assert (at_half.sensitivity.top, at_half.sensitivity.bottom) == (3, 4)
    assert (at_half.specificity.top, at_half.specificity.bottom) == (3, 4)
    assert (at_half.ppv.top, at_half.ppv.bottom, at_half.npv.top, at_half.npv.bottom) == (3, 4, 3, 4)
    assert np.isnan(at_half.sensitivity.low)  # of four patients
    sensitive = found["sensitivity at least 95 %"]
    assert (sensitive.sensitivity.value, sensitive.specificity.value, sensitive.threshold) == (
        1,
        0.5,
        pytest.approx(0.25),
    )
    specific = found["specificity at least 95 %"]
    assert (specific.sensitivity.value, specific.specificity.value, specific.threshold) == (0.5, 1, 0.75)


@pytest.mark.parametrize("digits", [1, 5, 9])
def test_the_printed_thresholds_give_the_printed_shares(digits: int) -> None:
    rng = np.random.default_rng(digits)
    labels = rng.integers(0, 2, 80)
    # Scores of a network that says much the same of all: they differ in their last digits only.
    scored = 0.73 + (rng.random(80) + 0.5 * labels) * 10.0**-digits
    run = run_of([{"label": y, "probability": repr(float(p))} for y, p in zip(labels, scored, strict=True)])
    (found,) = decisions(run, ["s"], ["test"])
    for _, _, threshold, sensitivity, specificity, *_ in found.points:
        said = scored > (-np.inf if threshold == "none" else float(str(threshold)))
        assert sensitivity[1].endswith(f"{sum(said & (labels > 0))} of {sum(labels)}")
        assert specificity[1].endswith(f"{sum(~said & (labels < 1))} of {sum(1 - labels)}")


def test_a_threshold_between_scores_that_are_next_to_each_other_divides_them() -> None:
    upper = float(np.nextafter(0.5, 1))
    (scores,) = scores_of(
        run_of([{"label": y, "probability": repr(p)} for y, p in ((1, upper), (0, 0.5))]), "s", "test"
    )
    point = operating_points(scores)[-1]
    assert (point.sensitivity.value, point.specificity.value, point.threshold) == (1, 1, 0.5)


def test_shares_have_wilsons_interval_by_patients() -> None:
    rows = [{"probability": 0.9 if i < 6 else 0.1, "label": 1} for i in range(8)] + [{"probability": 0.1, "label": 0}]
    (scores,) = scores_of(run_of(rows), "s", "test")
    share = operating_points(scores)[0].sensitivity
    assert (share.low, share.high) == pytest.approx((0.4093, 0.9285), abs=1e-4)  # 6 of 8


def test_a_calibration_curve_has_bins_of_as_many_rows_each_and_none_of_too_few() -> None:
    rng = np.random.default_rng(0)
    rows = [{"label": int(y), "probability": p} for y, p in zip(rng.integers(0, 2, 60), rng.random(60), strict=True)]
    (scores,) = scores_of(run_of(rows), "s", "test")
    points = calibration(scores)
    assert [share.bottom for _, share in points] == [10] * 6
    assert sum(share.top for _, share in points) == scores.label.sum()
    assert [mean for mean, _ in points] == sorted(mean for mean, _ in points)
    (few,) = scores_of(run_of([{"probability": 0.5, "label": i % 2} for i in range(19)]), "s", "test")
    assert calibration(few) == []
    assert brier(few) == 0.25


def test_equal_probabilities_are_one_point_of_a_calibration_curve_whatever_their_order() -> None:
    """Half of the cases have the class and all have 0.5: as calibrated as can be."""
    for labels in ([0] * 20 + [1] * 20, [1] * 20 + [0] * 20, [0, 1] * 20):
        (scores,) = scores_of(run_of([{"probability": 0.5, "label": y} for y in labels]), "s", "test")
        ((mean, share),) = calibration(scores)
        assert (mean, share.top, share.bottom) == (0.5, 20, 40)


def test_tied_scores_give_the_same_calibration_curve_in_any_order_of_cases(random: RunResults) -> None:
    (scores,) = scores_of(random, "s", "test")
    rows = [{"label": y, "probability": p} for y, p in zip(scores.label, scores.probability, strict=True)]
    (backwards,) = scores_of(run_of(rows[::-1]), "s", "test")
    points = [(round(mean, 9), share.top, share.bottom) for mean, share in calibration(scores)]
    assert points == [(round(mean, 9), share.top, share.bottom) for mean, share in calibration(backwards)]
    assert all(bottom >= 10 for _, _, bottom in points)


def test_declared_classes_are_scored_one_each_and_unknown_ones_left_out() -> None:
    labels = {"any_of": ["bar", "dot"], "column": "found"}
    said = {"probability_bar": 0.7, "probability_dot": 0.2}
    run = run_of([{"labels": text, **said} for text in ("bar", "none", "bar;dot", "dot?", "")], labels)
    bar, dot = scores_of(run, "s", "test")
    assert (bar.name, bar.label.tolist()) == ("bar", [1, 0, 1, 0])
    assert (dot.name, dot.label.tolist()) == ("dot", [0, 0, 1])


def test_decisions_count_the_cases_whose_class_is_known_and_the_positives_of_each_class() -> None:
    labels = {"any_of": ["bar", "dot"], "column": "found"}
    said = {"probability_bar": 0.7, "probability_dot": 0.2}
    run = run_of([{"labels": text, **said} for text in ("bar", "none", "bar;dot", "dot?", "")], labels)
    (found,) = decisions(run, ["s"], ["test"])
    assert "bar: 4 cases, 4 patients; 2 positive, of 2 patients. dot: 3 cases, 3 patients; 1 positive" in found.note


def test_decisions_of_one_probability_do_not_count_cases_without_a_label() -> None:
    rows = [{"label": y, "probability": 0.4} for y in (0, 1, "nan")]
    (found,) = decisions(run_of(rows), ["s"], ["test"])
    assert found.note.startswith("2 cases, 2 patients; 1 positive, of 1 patient. ")


def test_a_confusion_matrix_says_how_many_cases_its_cells_count() -> None:
    rows = [{"label": y, "probability": 0.4} for y in (0, 1, "nan")]
    (found,) = confusions(run_of(rows), ["s"], ["test"])
    assert found.counts == "2 cases, 2 patients"


def test_a_confusion_matrix_of_yes_and_no_splits_at_a_half() -> None:
    rows = [(0.9, 1), (0.5, 1), (0.51, 0), (0.1, 0), (0.2, 0)]
    (found,) = confusions(run_of([{"probability": p, "label": y} for p, y in rows]), ["s"], ["test"])
    assert dict(found.rows) == {"negative": [2, 1], "positive": [1, 1]}
    assert found.counts == "5 cases, 5 patients"


def test_a_case_without_a_grade_is_not_counted_under_the_label_of_the_source() -> None:
    labels = {"ordered": ["0", "1", "2"], "column": "kl"}
    rows = [{"label": 1, "labels": "2", "class": "2"}, {"label": 1, "labels": "", "class": "2"}]
    (found,) = confusions(run_of(rows, labels), ["s"], ["test"])
    assert dict(found.rows) == {"0": [0, 0, 0], "1": [0, 0, 0], "2": [0, 0, 1]}


def test_a_number_that_the_first_group_withholds_has_its_column() -> None:
    value = MetricValue(0.5, 0, 1, 8, 0, n_patients=8)
    groups = {"F": Group(8, {"mae": value}), "M": Group(8, {"mae": value, "mse": value})}
    run = replace(run_of([{"label": 1}]), subgroups={("s", "test"): Subgroups({"sex": groups})})
    (found,) = group_tables(run, ["s"], ["test"])
    assert list(found.heads) == ["mae", "mse"]
    assert [cells[1][0] for _, _, _, cells in found.rows] == ["withheld", "0.500"]


def test_bias_and_limits_of_agreement_are_those_worked_out_by_hand() -> None:
    found = agreement(run_of([{"label": 10 * i, "value": 10 * i + d} for i, d in enumerate((1, 3, 5))]), "s", "test")
    assert found is not None
    assert found.bias == 3
    assert found.limits == pytest.approx((3 - 1.96 * 2, 3 + 1.96 * 2))
    assert found.mean.tolist() == [0.5, 11.5, 22.5]


def test_declared_measurements_agree_with_the_measurement_and_not_with_the_label_of_the_source() -> None:
    rows = [
        {"label": i % 2, "labels": months, "value": v} for i, (months, v) in enumerate([(50, 51), (60, 63), (70, 75)])
    ]
    found = agreement(run_of([*rows, {"label": 1, "labels": "", "value": 90}], MONTHS), "s", "test")
    assert found is not None
    assert (found.bias, found.counts) == (3, "3 cases, 3 patients")


def test_declared_measurements_need_no_label_of_the_source_to_agree_with() -> None:
    rows = [{"label": "nan", "labels": 10 * i, "value": 10 * i} for i in range(3)]
    assert agreement(run_of(rows, MONTHS), "s", "test") is not None
