"""Tables in the thesis's shape, from what a run folder holds: rows, marks, tests, means, what is missing, all forms."""

from __future__ import annotations

import csv
import io
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medkit.evaluation.case_table import CaseTable
from medkit.evaluation.evaluate import MetricValue
from medkit.recipe.report_model import WantedTable
from medkit.reporting.paper_table_model import PaperTable
from medkit.reporting.paper_table_text import as_csv, as_html, as_json, as_markdown, as_text, duration, write_tables
from medkit.reporting.paper_tables import paper_table, paper_tables
from medkit.reporting.run_results import RunResults

NAMES = {"only_rec": "Only REC", "scratch": "Scratch", "segment": "Ours"}
SPLITS = ("internal", "external")


def value(number: float, up: bool, n: int = 20, **extras: float) -> MetricValue:
    return MetricValue(number, number - 0.1, number + 0.1, n, 0, "" if up else "uL", up, extras)


def scores(dice: float, fpv: float) -> dict[str, dict[str, MetricValue]]:
    return {
        "internal": {"dice": value(dice, True), "fpv": value(fpv, False, n=12)},
        "external": {"dice": value(dice - 0.2, True), "fpv": value(fpv + 2, False, n=12)},
    }


RESULTS = {"segment": scores(0.6, 1.0), "segment@scratch": scores(0.5, 3.0), "segment@only_rec": scores(0.4, 2.0)}


def recipe(stages: Any = tuple(RESULTS), **report: Any) -> dict[str, Any]:
    blocks = [
        {"name": name, "data": "ich", "unit": "volume", "objective": {"encoder": {"use": "x"}}} for name in stages
    ]
    return {"stages": blocks, "report": {"compare": {"test": "paired_t", "metric": ["dice"]}, **report}}


def cases() -> list[dict[str, Any]]:
    """Scratch is clearly worse, only_rec not."""
    rng = np.random.default_rng(0)
    found = []
    for split in SPLITS:
        for i in range(20):
            own = rng.random()
            for stage, loss in (("segment", 0.0), ("segment@scratch", 0.3), ("segment@only_rec", 0.0)):
                dice = own - loss + rng.normal(0, 0.05)
                found.append({"stage": stage, "split": split, "case": str(i), "patient": str(i), "dice": f"{dice:.6g}"})
    return found


def made(results: Any = None, failed: Any = None, costs: Any = None, plain: Any = None, **keys: Any) -> PaperTable:
    wanted = WantedTable(**{"title": "Table 6", "stage": "segment", "rows": NAMES, **keys})
    found = RESULTS if results is None else results
    run = RunResults(
        plain or recipe(),
        found,
        CaseTable(cases()),
        failed=failed or {},
        costs=costs or {},
        notices=["Phantoms."],
    )
    return paper_table(wanted, run)


def column(table: PaperTable, i: int) -> dict[str, Any]:
    return {line.name: line.cells[i] for line in table.rows}


# -- rows and columns ------------------------------------------------------------------------------------------


def test_rows_have_the_printed_names_in_their_order() -> None:
    assert [line.name for line in made().rows] == ["Only REC", "Scratch", "Ours"]


def test_without_rows_every_variant_has_one_in_the_recipe_s_order() -> None:
    assert [line.name for line in made(rows={}).rows] == ["segment", "scratch", "only_rec"]


def test_a_row_that_is_not_named_is_left_out() -> None:
    assert [line.name for line in made(rows={"segment": "Ours"}).rows] == ["Ours"]


def test_each_test_set_is_a_group_of_columns() -> None:
    table = made(splits={"external": "External 1", "internal": "Internal"}, metrics={"dice": "DSC", "fpv": "FPV"})
    assert table.groups() == [("External 1", [0, 1]), ("Internal", [2, 3])]
    assert [c.head for c in table.columns[:2]] == ["DSC ↑", "FPV, uL ↓"]


def test_a_single_test_set_needs_no_name() -> None:
    assert made(splits={"internal": "Internal"}).groups() == [("", [0, 1])]


def test_the_average_is_the_mean_over_the_test_sets_without_interval() -> None:
    table = made(average=True)
    cell = column(table, 4)["Ours"]
    assert table.groups()[-1] == ("Average", [4, 5])
    assert cell.value == pytest.approx((0.6 + 0.4) / 2)
    assert math.isnan(cell.low)


def test_the_average_over_a_missing_test_set_is_undefined() -> None:
    partly = {**RESULTS, "segment@scratch": {"internal": RESULTS["segment@scratch"]["internal"]}}
    assert column(made(partly, average=True), 4)["Scratch"] is None


# -- marks -----------------------------------------------------------------------------------------------------


def test_best_and_second_best_follow_what_is_better() -> None:
    table = made()
    assert {name: cell.rank for name, cell in column(table, 0).items()} == {"Ours": 1, "Scratch": 2, "Only REC": 0}
    assert {name: cell.rank for name, cell in column(table, 1).items()} == {"Ours": 1, "Scratch": 0, "Only REC": 2}


def test_of_two_rows_the_other_is_not_second_best() -> None:
    table = made(rows={"segment": "Ours", "scratch": "Scratch"})
    assert {name: cell.rank for name, cell in column(table, 0).items()} == {"Ours": 1, "Scratch": 0}


def test_rows_that_are_all_equal_are_not_best() -> None:
    table = made(dict.fromkeys(RESULTS, scores(0.5, 1.0)))
    assert [cell.rank for cell in column(table, 0).values()] == [0, 0, 0]


def test_equal_best_rows_share_the_mark() -> None:
    table = made({**RESULTS, "segment@scratch": scores(0.6, 3.0)})
    assert {name: cell.rank for name, cell in column(table, 0).items()} == {"Ours": 1, "Scratch": 1, "Only REC": 2}


def test_only_the_row_that_differs_has_stars() -> None:
    assert {name: cell.stars for name, cell in column(made(), 0).items()} == {
        "Only REC": "",
        "Scratch": "***",
        "Ours": "",
    }


def test_stars_stand_for_p_after_the_correction_for_all_comparisons_of_the_stage() -> None:
    alone = made(plain=recipe(("segment", "segment@scratch")), rows={"scratch": "S"}, splits={"internal": "I"})
    results = {k: v for k, v in RESULTS.items() if k != "segment@only_rec"}
    fewer = made(results, plain=recipe(results), rows={"scratch": "S"}, splits={"internal": "I"})
    assert alone.rows[0].cells[0].p > fewer.rows[0].cells[0].p  # 4 comparisons against 2; both show one cell


def test_rows_on_different_data_are_neither_ranked_nor_tested() -> None:
    plain = recipe()
    plain["stages"][1]["data"] = "other"
    table = made(plain=plain)
    assert all(cell.rank == 0 and cell.p is None for line in table.rows for cell in line.cells)
    assert any("different data" in text for text in table.caption)


# -- references ------------------------------------------------------------------------------------------------


def test_what_the_input_itself_scores_stands_below_the_methods() -> None:
    results = {"segment": {"internal": {"psnr": value(30, True, input=20.0, target=100.0)}}}
    table = made(results, plain=recipe(results), rows={"target": "GT (NDCT)", "input": "Input", "segment": "Ours"})
    assert [(line.name, line.reference) for line in table.rows] == [
        ("Ours", False),
        ("GT (NDCT)", True),
        ("Input", True),
    ]


def test_numbers_of_images_are_shown_with_their_window_and_data_range() -> None:
    results = {"segment": {"internal": {"psnr": value(30, True), "dice": value(0.6, True)}}}
    plain = recipe(results) | {"data": {"ich": {"prepare": [{"use": "medkit:window", "low": -160, "high": 240}]}}}
    told = "in the window of -160 to 240 HU scaled to [0, 1]; data range 1."
    assert any(
        line.startswith("psnr: of whole slices") and line.endswith(told) for line in made(results, plain=plain).caption
    )
    plain["data"]["ich"]["prepare"] = [{"use": "medkit:window"}]
    assert any("window of 0 to 80 HU" in line for line in made(results, plain=plain).caption)
    assert not any("data range" in line for line in made(plain=plain).caption)


def test_a_reference_is_never_the_best() -> None:
    results = {
        "segment": {"internal": {"psnr": value(30, True, target=100.0)}},
        "segment@scratch": {"internal": {"psnr": value(20, True)}},
    }
    table = made(results, plain=recipe(results), rows={})
    assert [line.cells[0].rank for line in table.rows] == [1, 0, 0]


# -- what is missing, what it cost -----------------------------------------------------------------------------


def test_a_failed_row_says_so_and_the_caption_tells_why() -> None:
    results = {k: v for k, v in RESULTS.items() if k != "segment@scratch"}
    table = made(results, failed={"segment@scratch": "loss is nan at step 3"}, plain=recipe())
    assert [line.status for line in table.rows] == ["", "failed", ""]
    assert "Scratch failed: loss is nan at step 3." in table.caption
    assert column(table, 0)["Scratch"] is None


def test_a_row_that_is_not_there_yet_is_named_in_the_caption() -> None:
    results = {k: v for k, v in RESULTS.items() if k != "segment@only_rec"}
    assert "Not finished: Only REC." in made(results, plain=recipe()).caption


def test_without_the_stage_itself_nothing_is_tested() -> None:
    results = {k: v for k, v in RESULTS.items() if k != "segment"}
    assert "No column is tested." in made(results, plain=recipe()).caption


def test_a_table_can_be_made_before_any_row_is_finished() -> None:
    table = made({}, plain=recipe(), metrics={"dice": "DSC"}, splits={"internal": "Internal"})
    assert [line.cells for line in table.rows] == [(None,)] * 3


def test_time_and_memory_are_those_of_the_row_s_own_stage() -> None:
    costs = {"segment@scratch": {"train_seconds": 222.0, "peak_mb": 1234.5, "memory": "process"}}
    columns, rows = as_text(made(costs=costs, cost=True))
    assert columns[-2:] == ["training time", "peak memory, MiB"]
    assert [row[-2:] for row in rows] == [["–", "–"], ["3 min 42 s", "1,234"], ["–", "–"]]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.42, "0.4 s"),
        (9.97, "10 s"),
        (59.7, "1 min 00 s"),
        (222, "3 min 42 s"),
        (3599.9, "1 h 00 min"),
        (7499, "2 h 05 min"),
    ],
)
def test_durations_are_told_in_their_own_size(seconds: float, text: str) -> None:
    assert duration(seconds) == text


# -- the caption -----------------------------------------------------------------------------------------------


def test_the_caption_names_the_test_the_row_it_is_against_and_the_correction() -> None:
    (text,) = (line for line in made(metrics={"dice": "DSC", "fpv": "FPV"}).caption if line.startswith("Stars"))
    assert text.startswith("Stars compare with Ours on the cases both have (paired t for DSC):")
    assert "Holm's correction for all 4 comparisons of this stage" in text


def test_the_caption_names_what_is_not_tested() -> None:
    assert "Not tested: FPV." in made(metrics={"dice": "DSC", "fpv": "FPV"}).caption


def test_the_caption_tells_the_cases_of_each_test_set_and_metric() -> None:
    assert "Cases: internal: dice n = 20, fpv n = 12; external: dice n = 20, fpv n = 12." in made().caption


def test_the_caption_of_numbers_of_slices_counts_slices() -> None:
    of_slices = {
        stage: {split: {m: replace(v, counted="slices") for m, v in found.items()} for split, found in splits.items()}
        for stage, splits in RESULTS.items()
    }
    told = made(of_slices).caption
    assert "Slices: internal: dice n = 20, fpv n = 12; external: dice n = 20, fpv n = 12." in told
    assert any(text.startswith("Stars compare with Ours on the slices both have") for text in told)


def test_the_notices_of_the_run_come_first() -> None:
    assert made().caption[0] == "Phantoms."


# -- forms -----------------------------------------------------------------------------------------------------


def test_csv_has_a_line_for_each_number_with_interval_and_p() -> None:
    rows = list(csv.DictReader(io.StringIO(as_csv(made(average=True)))))
    assert len(rows) == 3 * 6
    (one,) = (r for r in rows if (r["stage"], r["split"], r["metric"]) == ("segment@scratch", "internal", "dice"))
    assert (one["value"], one["low"], one["high"], one["n"]) == ("0.5", "0.4", "0.6", "20")
    assert float(one["p_holm"]) < 0.001


def test_markdown_keeps_stars_and_marks_apart() -> None:
    text = as_markdown(made(splits={"internal": "Internal"}))
    assert "| Scratch | _0.500\\*\\*\\*_ [0.400, 0.600] |" in text
    assert "| Ours | **0.600** [0.500, 0.700] |" in text


def test_json_has_no_numbers_that_json_does_not_know() -> None:
    plain = as_json(made(average=True))
    assert json.loads(json.dumps(plain, allow_nan=False)) == plain


def test_html_names_rows_and_columns_for_those_who_do_not_see_the_table() -> None:
    page = as_html(made())
    assert page.count('scope="row"') == 3
    assert page.count('scope="colgroup"') == 2
    assert page.count('scope="col"') == 5


def test_html_escapes_what_a_recipe_says() -> None:
    assert "<script>" not in as_html(made(title="<script>", rows={"segment": "<script>"}))


def test_a_run_folder_gets_markdown_and_csv(tmp_path: Path) -> None:
    write_tables(tmp_path, [made(title="Table 6 (SEG)")])
    assert {path.name for path in (tmp_path / "tables").iterdir()} == {"table_6_seg.md", "table_6_seg.csv"}


def test_a_recipe_from_before_there_were_tables_has_none(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text("{name: t, stages: [], report: {splits: [test]}}\n")
    assert paper_tables(RunResults.read(tmp_path)) == []
