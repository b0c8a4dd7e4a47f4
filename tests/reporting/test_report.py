"""What the report says of a run that did not come out as it was meant to, and of how it was trained."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from helpers import small_recipe

import medkit
from medkit.errors import InputError, RunError
from medkit.evaluation.results import Evaluation, MetricValue, write_results
from medkit.reporting.report import write_report
from medkit.reporting.run_results import RunResults


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A run folder before anything is evaluated: stages ``s`` and ``s@v``."""
    stages = [
        {"name": name, "data": "d", "unit": "slice", "batch": 4, "objective": {"use": "x"}} for name in ("s", "s@v")
    ]
    recipe = {
        "medkit": 1,
        "name": "r",
        "stages": stages,
        "report": {"compare": {"test": "paired_t", "metric": ["dice"]}},
    }
    (tmp_path / "recipe.yaml").write_text(json.dumps(recipe))
    (tmp_path / "environment.json").write_text(json.dumps({"medkit": "0", "ranks": 2}))
    (tmp_path / "state.json").write_text(json.dumps({"done": []}))
    return tmp_path


def evaluated(folder: Path, stage: str, dice: float) -> None:
    known = {"stage": stage, "split": "test", "center": "A"}
    rows: list[dict[str, Any]] = [
        {**known, "case": str(i), "patient": str(i), "dice": dice + 0.01 * (i * i % 7)} for i in range(8)
    ]
    write_results(folder, Evaluation(stage, "test", {"dice": MetricValue(dice, 0, 1, 8, 0)}, rows, []))


def text_of(folder: Path) -> str:
    page = write_report(folder).read_text(encoding="utf-8")
    return " ".join(re.sub(r"<[^>]*>", " ", page.partition("</style>")[2]).split())


def test_a_stage_that_failed_is_named_with_the_reason_and_what_to_do(folder: Path) -> None:
    (folder / "state.json").write_text(json.dumps({"done": ["s"], "failed": {"s@v": "a loss is not finite <nan>"}}))
    evaluated(folder, "s", 0.5)
    said = text_of(folder)
    assert "s@v : a loss is not finite &lt;nan&gt;" in said
    assert f"medkit resume {folder.name}" in said


def test_a_box_plot_says_of_how_many_slices_and_patients_it_is(folder: Path) -> None:
    rows = [
        {"stage": "s", "split": "test", "center": "A", "case": f"{i}", "patient": f"p{i // 2}", "fpv": 10.0 + i}
        for i in range(6)
    ]
    rows += [{**rows[0], "case": "6", "patient": "p9", "fpv": None}]
    write_results(folder, Evaluation("s", "test", {"fpv": MetricValue(12, 0, 20, 6, 1)}, rows, []))
    assert "every dot is one (test: 6 slices of 3 patients)" in text_of(folder)


def test_a_table_of_results_says_what_its_metrics_and_variants_are(folder: Path) -> None:
    recipe = json.loads((folder / "recipe.yaml").read_text())
    for stage in recipe["stages"]:
        stage["metrics"] = ["dice"]
    (folder / "recipe.yaml").write_text(json.dumps(recipe))
    for name in ("s", "s@v"):
        evaluated(folder, name, 0.5)
    said = text_of(folder)
    assert "dice : Dice similarity of positive cases" in said
    assert "s@v: the variant &#39;v&#39; of stage &#39;s&#39;" in said


def test_a_run_whose_stages_all_failed_has_a_report_that_says_why(folder: Path) -> None:
    (folder / "state.json").write_text(json.dumps({"done": [], "failed": {"s": "no memory"}}))
    assert "s : no memory" in text_of(folder)


def test_a_run_without_any_result_says_how_to_go_on(folder: Path) -> None:
    with pytest.raises(InputError, match="medkit resume"):
        write_report(folder)


def test_how_many_items_a_step_sees_counts_all_ranks(folder: Path) -> None:
    evaluated(folder, "s", 0.5)
    assert ": 8 items per step (4 per batch, 2 ranks)." in text_of(folder)


def test_variants_are_compared_with_the_stage_whichever_was_finished_first(folder: Path) -> None:
    for stage, dice in (("s@v", 0.3), ("s", 0.5)):
        evaluated(folder, stage, dice)
    (found,) = RunResults.read(folder).comparisons("s")
    assert (found.first, found.second, round(found.test.difference, 6)) == ("s", "s@v", 0.2)


def test_a_run_that_fails_altogether_ends_with_its_error_and_a_report_that_says_it(tmp_path: Path) -> None:
    diverging = small_recipe("r", epochs=2, optim={"use": "sgd", "lr": 1e30})
    with pytest.raises(RunError, match="not finite"):
        medkit.run(diverging, tmp_path / "run", device="cpu", quiet=True)
    page = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert "Stages that failed" in page
    assert "not finite" in page
