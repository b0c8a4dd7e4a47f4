"""Results as tables: variants side by side, what the input scores, remarks under numbers."""

from __future__ import annotations

import pytest

from medkit.evaluation.evaluate import MetricValue
from medkit.reporting.tables import as_text, number, p_value, results_table, variants


def value(number: float, up: bool = True, **extras: float) -> MetricValue:
    return MetricValue(number, number - 1, number + 1, 8, 2, "dB", up, extras, rule="blank slices are left out")


RESULTS = {
    "denoise": {"test": {"psnr": value(24.0, input=20.0, target=100.0), "rmse": value(0.05, up=False, input=0.1)}},
    "denoise@small": {"test": {"psnr": value(23.0, input=20.0, target=100.0, blank_slices=3.0, plain=30.0)}},
}


def table():
    return results_table("denoise", variants(RESULTS)["denoise"], RESULTS)


def test_variants_of_a_stage_share_a_table():
    assert variants({**RESULTS, "other": {}}) == {"denoise": ["denoise", "denoise@small"], "other": ["other"]}


def test_the_input_and_the_target_have_rows_of_their_own():
    rows = {row.name: [cell.text for cell in row.cells] for row in table().rows if row.reference}
    assert rows == {"input": ["20.0", "0.100"], "target": ["100.0", "–"]}


def test_only_the_best_of_several_variants_is_marked():
    first, second = table().rows[:2]
    assert [cell.best for cell in first.cells] == [True, False]
    assert [cell.best for cell in second.cells] == [False, False]


def test_a_metric_that_a_variant_lacks_is_a_dash():
    assert table().rows[1].cells[1].text == "–"


def test_blank_slices_are_counted_beside_the_plain_mean():
    assert "30.0 with 3 blank slices" in table().rows[1].cells[0].notes


def test_rules_for_empty_cases_name_their_metrics():
    assert table().rules == {"blank slices are left out": ["psnr", "rmse"]}


def test_a_table_reads_on_a_terminal_with_units_arrows_and_intervals():
    columns, rows = as_text(table())
    assert columns == ["test set", "variant", "psnr (dB) ↑", "rmse (dB) ↓"]
    assert rows[0] == ["test", "denoise", "24.0 [23.0, 25.0]", "0.050 [-0.950, 1.050]"]


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        (0.0, "0.000"),
        (-0.0, "0.000"),
        (-1e-17, "0.000"),
        (0.8765, "0.876"),
        (-0.0004, "-0.0004"),
        (2.512e-5, "2.51e-05"),
        (1234567.89, "1,234,567.9"),
        (1e300, "1e+300"),
        (float("nan"), "–"),
    ],
)
def test_a_number_is_neither_nothing_but_zeros_nor_longer_than_can_be_read(given: float, shown: str) -> None:
    assert number(given) == shown


@pytest.mark.parametrize(
    ("given", "shown"), [(0.049996, "< 0.05"), (0.05, "0.05"), (0.0099999, "< 0.01"), (0.0312, "0.0312"), (1.0, "1")]
)
def test_a_p_below_a_level_is_not_rounded_to_it(given: float, shown: str) -> None:
    assert p_value(given) == shown
