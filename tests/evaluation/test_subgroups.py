"""Groups of cases: how a field divides them, and what is measured of each."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from medkit.evaluation.measure import CaseRows
from medkit.evaluation.results import MetricValue
from medkit.evaluation.subgroups import Group, Subgroups, grouped, read_subgroups, subgroups
from medkit.evaluation.values import value_of
from medkit.parts.metrics_classification import AUC, Sensitivity
from medkit.parts.metrics_regression import MAE
from medkit.protocols import Case


def measured(fields: list[dict[str, object]]) -> tuple[list[CaseRows], list[Case]]:
    """Rows of MAE, and their cases of a patient each: the i-th is off by i."""
    rows = [
        CaseRows(i, 1, 0, [{}], {"mae": {"label": np.array([0.0]), "value": np.array([float(i)])}}, {"mae": 1})
        for i in range(len(fields))
    ]
    return rows, [Case(str(i), f"p{i}", fields=found) for i, found in enumerate(fields)]


def test_a_group_is_measured_as_its_cases_alone_would_be() -> None:
    rows, cases = measured([{"sex": "FM"[i % 2]} for i in range(16)])
    found = subgroups(rows, cases, [MAE()]).fields["sex"]
    assert list(found) == ["F", "M"]
    odd = np.arange(1, 16, 2).astype(float)
    alone = value_of(MAE(), {"label": 0 * odd, "value": odd}, [f"p{i}" for i in range(1, 16, 2)], 0, True)
    assert found["M"] == Group(8, {"mae": alone})
    assert alone.low < 8 < alone.high


def test_numbers_of_fewer_than_three_patients_are_withheld_and_of_fewer_than_six_have_no_interval() -> None:
    rows, cases = measured([{"sex": "M" if i < 2 else "F" if i < 6 else "X"} for i in range(20)])
    found = subgroups(rows, cases, [MAE()]).fields["sex"]
    assert found["M"] == Group(2)
    assert (found["F"].patients, found["F"].values["mae"].value) == (4, 3.5)
    assert math.isnan(found["F"].values["mae"].low)
    assert not math.isnan(found["X"].values["mae"].low)


def test_a_number_that_rests_on_fewer_than_three_patients_of_a_larger_group_is_withheld() -> None:
    rows, cases = measured([{"sex": "FM"[i % 2]} for i in range(16)])
    rows[1:] = [
        replace(kept, columns={}, counts={}) if kept.index % 2 and kept.index > 3 else kept for kept in rows[1:]
    ]
    found = subgroups(rows, cases, [MAE()]).fields["sex"]
    assert found["M"] == Group(8)
    assert list(found["F"].values) == ["mae"]


def test_a_sensitivity_of_one_positive_patient_is_withheld_however_many_negatives_there_are() -> None:
    columns = [{"label": np.array([float(i in (0, 2, 4, 5))]), "probability": np.array([0.9])} for i in range(16)]
    rows = [CaseRows(i, 1, 0, [{}], {"sensitivity": one}, {"sensitivity": 1}) for i, one in enumerate(columns)]
    found = subgroups(rows, measured([{"sex": "FM"[i % 2]} for i in range(16)])[1], [Sensitivity()]).fields["sex"]
    assert found["M"] == Group(8)
    assert found["F"].values["sensitivity"].value == 1


def test_an_auc_of_two_positive_patients_is_withheld() -> None:
    columns = [{"label": np.array([float(i in (0, 1, 2, 3, 4))]), "probability": np.array([i / 16])} for i in range(16)]
    rows = [CaseRows(i, 1, 0, [{}], {"auc": one}, {"auc": 1}) for i, one in enumerate(columns)]
    found = subgroups(rows, measured([{"sex": "FM"[i % 2]} for i in range(16)])[1], [AUC()]).fields["sex"]
    assert found["M"] == Group(8)
    assert found["F"].values["auc"].value == 0


def test_a_metric_that_is_withheld_in_every_group_is_named() -> None:
    rows, cases = measured([{"sex": "FM"[i % 2]} for i in range(16)])
    rows[4:] = [replace(kept, columns={}, counts={}) for kept in rows[4:]]
    assert subgroups(rows, cases, [MAE()]).left_out == {"mae": "rests on fewer than 3 patients in every group"}


def test_numbers_of_slices_count_slices() -> None:
    rows, cases = measured([{"sex": "FM"[i % 2]} for i in range(16)])
    columns = {"mae": {"label": np.zeros(4), "value": np.ones(4)}}
    rows = [replace(kept, lines=[{}] * 4, columns=columns, counts={"mae": 4}) for kept in rows]
    assert subgroups(rows, cases, [MAE()]).fields["sex"]["M"].values["mae"].counts == "32 slices, 8 patients"


def test_a_number_of_fewer_than_three_patients_that_an_earlier_version_kept_is_not_read() -> None:
    values = {"mae": MetricValue(1, 1, 1, 2, 0, n_patients=2), "mse": MetricValue(1, 1, 1, 8, 0, n_patients=8)}
    read = Subgroups.from_json(Subgroups({"sex": {"M": Group(8, values)}}).json())
    assert list(read.fields["sex"]["M"].values) == ["mse"]


def test_a_field_without_a_group_of_three_patients_is_left_out_and_named() -> None:
    rows, cases = measured([{"sex": "FM"[i % 2]} for i in range(4)])
    found = subgroups(rows, cases, [MAE()])
    assert not found.fields
    assert found.left_out == {"sex": "no group of it has 3 patients"}


def test_the_names_of_scans_are_no_groups_and_are_not_told_as_such() -> None:
    rows, cases = measured(
        [{"study": f"1.2.840.{i}", "series": f"1.2.840.{i}.1", "sex": "FM"[i % 2]} for i in range(8)]
    )
    found = subgroups(rows, cases, [MAE()])
    assert list(found.fields) == ["sex"]
    assert not found.left_out


@pytest.mark.parametrize(
    ("values", "groups"),
    [
        (["a", "b", "", "a"], ["a", "b", "", "a"]),
        ([1, 2, None, 1], ["1", "2", "", "1"]),
        (["a", "a"], ""),
        ([f"P{i}" for i in range(20)], "it has 20 values"),
        (list(range(9)), ["below 3"] * 3 + ["3 to below 6"] * 3 + ["6 and more"] * 3),
        ([str(i) for i in range(9)], ["below 3"] * 3 + ["3 to below 6"] * 3 + ["6 and more"] * 3),
        (
            [*(f"{i}.5" for i in range(9)), ""],
            ["below 3.167"] * 3 + ["3.167 to below 5.833"] * 3 + ["5.833 and more"] * 3 + [""],
        ),
        ([f"{i:04}" for i in range(9)], "it has 9 values"),
        (["1.5", "3.0"] * 3, ["1.5", "3.0"] * 3),
        (["1.5"] * 5 + ["3.0"], ["1.5"] * 5 + ["3.0"]),
        ([45.7, 60.1, 60.1], ["below 55.3", "60.1 and more", "60.1 and more"]),
        ([0.0] * 20 + [float(i) for i in range(1, 10)], ""),
    ],
)
def test_a_field_divides_cases_by_its_values_or_measurements_into_thirds(values: list[object], groups: object) -> None:
    assert grouped(values) == groups


def test_numbers_of_centers_are_names() -> None:
    rows, _ = measured([{}] * 36)
    cases = [Case(str(i), f"p{i}", center=str(i % 9)) for i in range(36)]
    assert subgroups(rows, cases, [MAE()]).left_out == {"center": "it has 9 values"}


def test_edges_between_dates_are_whole_and_divide_them_as_they_are_divided() -> None:
    dates = [20210301 + i for i in range(9)]
    assert grouped(dates)[::3] == ["below 20210304", "20210304 to below 20210307", "20210307 and more"]


def test_edges_between_measurements_have_the_digits_that_tell_them_apart() -> None:
    close = [1000.0001 + i / 10000 for i in range(9)]
    assert grouped(close)[::3] == ["below 1000.0004", "1000.0004 to below 1000.00063", "1000.00063 and more"]


class Slow:
    """A metric that can only be computed anew."""

    name = "slow"


def test_a_metric_that_takes_long_is_left_out_and_named() -> None:
    rows, cases = measured([{"sex": "FM"[i % 2]} for i in range(8)])
    found = subgroups(rows, cases, [MAE(), Slow()])
    assert "slow" in found.left_out
    assert list(found.fields["sex"]["F"].values) == ["mae"]


def test_what_is_kept_of_groups_comes_back(tmp_path: Path) -> None:
    rows, cases = measured([{"sex": "FM"[i % 2], "name": f"Smith {i}"} for i in range(16)])
    found = subgroups(rows, cases, [MAE()])
    path = tmp_path / "s.test.json"
    path.write_text(json.dumps(found.json()))
    assert read_subgroups(path) == found
    assert "Smith" not in path.read_text()
    assert read_subgroups(tmp_path / "none.json") is None
    assert Subgroups.from_json(Subgroups().json()) == Subgroups()
