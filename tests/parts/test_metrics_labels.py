"""Metrics of declared labels, held against scikit-learn."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn import metrics as reference

from medkit.evaluation.measure import stack
from medkit.evaluation.values import value_of
from medkit.parts.metrics_labels import MacroAP, MacroAUC, MacroSpecificity
from medkit.parts.metrics_multiclass import BalancedAccuracy, Kappa, MacroF1, MacroPrecision, MacroRecall, Top1
from medkit.parts.metrics_regression import MAE, MSE
from medkit.protocols.labels import Labels

NAMES = ("a", "b", "c", "d")
ONE = Labels("one_of", NAMES, NAMES)
ANY = Labels("any_of", NAMES, NAMES, column="x")
ORDERED = Labels("ordered", NAMES, NAMES)


def measured(metric: Any, cases: list[dict[str, Any]], labels: Labels) -> dict[str, Any]:
    found = {}
    for one in metric.of_labels(labels):
        rows = [(row, case["patient"]) for case in cases if (row := one.per_case(case)) is not None]
        patients = [patient for _, patient in rows]
        found[one.name] = value_of(one, stack([row for row, _ in rows]), patients, len(cases) - len(rows), True)
    return found


@pytest.fixture(scope="module")
def exclusive() -> tuple[list[dict[str, Any]], np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    true = rng.integers(0, 4, 60)
    probability = rng.dirichlet(np.ones(4), 60) + 0.6 * np.eye(4)[true]
    probability /= probability.sum(1, keepdims=True)
    cases = [{"labels": np.float32(y), "class_probability": p, "patient": f"p{i // 2}"}
             for i, (y, p) in enumerate(zip(true, probability, strict=True))]  # fmt: skip
    return cases, true, probability


@pytest.fixture(scope="module")
def several() -> tuple[list[dict[str, Any]], np.ndarray, np.ndarray]:
    rng = np.random.default_rng(2)
    flags = (rng.random((60, 4)) < 0.4).astype(float)
    probability = np.clip(0.6 * rng.random((60, 4)) + 0.3 * flags + 0.05, 0, 1)
    flags[rng.random((60, 4)) < 0.1] = np.nan
    cases = [{"labels": f.astype(np.float32), "label_probability": p, "patient": f"p{i // 2}"}
             for i, (f, p) in enumerate(zip(flags, probability, strict=True))]  # fmt: skip
    return cases, flags, probability


def test_classes_that_exclude_each_other(exclusive) -> None:
    cases, true, probability = exclusive
    said = probability.argmax(1)
    auc = measured(MacroAUC(), cases, ONE)
    assert auc["macro_auc"].value == pytest.approx(reference.roc_auc_score(true, probability, multi_class="ovr"))
    assert auc["auc_b"].value == pytest.approx(reference.roc_auc_score(true == 1, probability[:, 1]))
    ap = measured(MacroAP(), cases, ONE)
    assert ap["ap_c"].value == pytest.approx(reference.average_precision_score(true == 2, probability[:, 2]))
    assert measured(MacroF1(), cases, ONE)["f1_d"].value == pytest.approx(reference.f1_score(true == 3, said == 3))
    balanced = measured(BalancedAccuracy(), cases, ONE)["balanced_accuracy"]
    assert balanced.value == pytest.approx(reference.balanced_accuracy_score(true, said))
    kappa = measured(Kappa("none"), cases, ONE)["kappa"]
    assert kappa.value == pytest.approx(reference.cohen_kappa_score(true, said))


def test_classes_that_do_not_exclude_each_other_without_what_is_not_known(several) -> None:
    cases, flags, probability = several
    known = ~np.isnan(flags)
    each = [reference.roc_auc_score(flags[k, i], probability[k, i]) for i, k in enumerate(known.T)]
    auc = measured(MacroAUC(), cases, ANY)
    assert [auc[f"auc_{name}"].value for name in NAMES] == pytest.approx(each)
    assert auc["macro_auc"].value == pytest.approx(np.mean(each))
    assert [auc[f"auc_{name}"].n for name in NAMES] == known.sum(0).tolist()
    specificity = measured(MacroSpecificity(), cases, ANY)["specificity_a"]
    k = known[:, 0]
    wanted = reference.recall_score(flags[k, 0], probability[k, 0] > 0.5, pos_label=0)
    assert specificity.value == pytest.approx(wanted)
    positive = flags[k, 0] == 1
    assert auc["auc_a"].extras["positives"] == positive.sum()
    assert auc["auc_a"].extras["positive_patients"] == len(set(np.flatnonzero(flags[:, 0] == 1) // 2))


@pytest.mark.parametrize("weights", ["quadratic", "linear"])
def test_ordered_classes_by_their_median(exclusive, weights: Any) -> None:
    cases, true, probability = exclusive
    median = (np.cumsum(probability, 1) < 0.5).sum(1)
    kappa = measured(Kappa(weights), cases, ORDERED)[f"kappa_{weights}"]
    assert kappa.value == pytest.approx(reference.cohen_kappa_score(true, median, weights=weights))
    mae = measured(MAE(), cases, ORDERED)["mae"]
    assert (mae.value, mae.unit) == (pytest.approx(np.abs(true - median).mean()), "classes")
    top = measured(Top1(), cases, ORDERED)["top1"]
    assert sum(n for name, n in top.extras.items() if name.split(" said ")[0] == name.split(" said ")[1]) == round(
        top.value * len(cases)
    )


def test_every_number_has_an_interval_by_patients(exclusive, several) -> None:
    for metric, cases, labels in ((MacroAUC(), exclusive[0], ONE), (MacroAP(), several[0], ANY)):
        for value in measured(metric, cases, labels).values():
            assert value.low < value.value < value.high
            assert 25 < value.n_patients <= 30


def test_a_class_that_nobody_has_is_left_out_of_the_mean(exclusive) -> None:
    cases = [case for case in exclusive[0] if case["labels"] != 3]
    found = measured(MacroAUC(), cases, ONE)
    assert np.isnan(found["auc_d"].value)
    assert found["macro_auc"].value == pytest.approx(np.mean([found[f"auc_{name}"].value for name in "abc"]))


def test_errors_of_measurements_have_their_unit() -> None:
    cases = [{"labels": np.float32(y), "value": y + 2, "patient": str(y)} for y in range(8)]
    found = measured(MAE(), cases, Labels("unit", unit="mm")) | measured(MSE(), cases, Labels("unit", unit="mm"))
    assert [(v.value, v.unit) for v in found.values()] == [(2, "mm"), (4, "mm²")]


@pytest.mark.parametrize("metric", [MacroAUC, MacroAP, MacroSpecificity])
def test_a_mean_over_classes_has_no_interval_where_a_class_has_two_patients(metric: Any) -> None:
    true = np.array([3, 3, *np.arange(28) % 3]) if metric is not MacroSpecificity else np.array([0, 0, *[1] * 28])
    labels = ONE if metric is not MacroSpecificity else Labels("one_of", NAMES[:2], NAMES[:2])
    each = np.random.default_rng(0).dirichlet(np.ones(len(labels)), 30)
    cases = [{"labels": np.float32(y), "class_probability": p, "patient": f"p{i}"}
             for i, (y, p) in enumerate(zip(true, each, strict=True))]  # fmt: skip
    found = measured(metric(), cases, labels)[metric.name]
    assert np.isfinite(found.value)
    assert np.isnan(found.low)
    assert "2 patients" in found.method


@pytest.mark.parametrize("metric", [MacroRecall(), MacroPrecision(), MacroF1(), BalancedAccuracy()])
def test_a_mean_over_exclusive_classes_has_no_interval_where_one_has_two_patients(metric: Any) -> None:
    def of_rare(patients: int) -> Any:
        true = [0, 1, 2] * 10 + [3] * patients
        cases = [{"labels": float(y), "class_probability": np.eye(4)[(y + i // 3 % 5 // 4) % 4], "patient": f"p{i}"}
                 for i, y in enumerate(true)]  # fmt: skip
        return measured(metric, cases, ONE)[metric.name]

    assert of_rare(2).method == "no interval: d has 2 patients, fewer than 3"
    assert of_rare(3).low < of_rare(3).value < of_rare(3).high


def test_a_mean_precision_has_no_interval_where_a_class_is_predicted_of_two_patients() -> None:
    cases = [{"labels": float(i % 4), "class_probability": np.eye(4)[i % 4 if i % 4 < 3 or i < 8 else 0], "patient": f"p{i}"}
             for i in range(40)]  # fmt: skip
    assert measured(MacroPrecision(), cases, ONE)["macro_precision"].method == (
        "no interval: predicted d has 2 patients, fewer than 3"
    )
