"""The columns of a report's tables are explained beside them."""

from __future__ import annotations

from medkit.reporting.legend import legend, spelled_out

STAGES = [{"name": "s", "metrics": ["medkit:dice", {"use": "rmse", "unit": "HU"}, "gone:metric", "macro_f1", "f1"]}]


def test_metrics_are_described_under_the_names_that_results_have() -> None:
    found = legend(["dice", "dice_oedema", "rmse_hu"], STAGES)
    assert found["dice"] == found["dice_oedema"] == "Dice similarity of positive cases"
    assert found["rmse_hu"] == "root mean square error"


def test_a_metric_whose_name_another_ends_with_is_not_mixed_up_with_it() -> None:
    found = legend(["macro_f1", "f1"], STAGES)
    assert found["macro_f1"] != found["f1"]


def test_a_metric_that_is_not_installed_here_is_left_out() -> None:
    assert legend(["metric"], STAGES) == {}


def test_units_and_variants_are_spelled_out_once() -> None:
    assert spelled_out(["uL", "uL", "mm"], ["segment", "segment@scratch", "segment@other"]) == [
        "uL: microlitres",
        "segment@scratch: the variant 'scratch' of stage 'segment'",
    ]
