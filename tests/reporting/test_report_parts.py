"""What the report says first, what it has room for, and what it says of runs that lack what it shows."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medkit.evaluation.results import Evaluation, MetricValue, write_results
from medkit.evaluation.slices import Stack
from medkit.reporting import report_cases
from medkit.reporting.page import inline_json, page, policy
from medkit.reporting.report import write_report
from medkit.reporting.report_answer import answer
from medkit.reporting.report_cases import shown_cases
from medkit.reporting.room import Room
from medkit.reporting.run_results import RunResults
from medkit.reporting.viewer import viewer
from medkit.reporting.worst_cases import worst_cases


def stack(case: str, size: int) -> Stack:
    """Slices of a case whose picture has so many bytes, other ones for each case."""
    return Stack(case, 1, [0], 0, 8, 8, 1, 0.0, 1.0, (), {"image": case.encode() + b"x" * (size - len(case))})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A run of stage ``s`` and a variant, tested on eight patients, with a stack of each of three cases."""
    stages = [{"name": n, "data": "d", "unit": "volume", "objective": {"use": "x"}} for n in ("s", "s@v")]
    report = {"compare": {"test": "paired_t", "metric": ["dice"]}}
    (tmp_path / "recipe.yaml").write_text(json.dumps({"medkit": 1, "name": "r", "stages": stages, "report": report}))
    (tmp_path / "environment.json").write_text(json.dumps({"medkit": "0"}))
    (tmp_path / "state.json").write_text(json.dumps({"done": ["s", "s@v"]}))
    rng = np.random.default_rng(0)
    for stage, dice in (("s", 0.5), ("s@v", 0.3)):
        known = {"stage": stage, "split": "test", "center": "A"}
        each = 0.01 * rng.random(8)
        rows: list[dict[str, Any]] = [
            {**known, "case": f"c{i}", "patient": f"secret{i}", "dice": dice + each[i] - each.mean()} for i in range(8)
        ]
        value = MetricValue(dice, dice - 0.1, dice + 0.1, 8, 0, n_patients=8, patients=8, cases=8, slices=80)
        stacks = [stack(f"c{i}", 3000) for i in range(3)]
        write_results(tmp_path, Evaluation(stage, "test", {"dice": value}, rows, [], stacks=stacks))
    return tmp_path


def test_the_answer_says_what_was_compared_on_whom_and_what_came_out(folder: Path) -> None:
    found = answer(RunResults.read(folder), {})
    assert found.compared == ["s and s@v: tested on test (8 patients, 80 slices)."]
    (sentence,) = found.found
    assert sentence.startswith(
        "dice on test is 0.500 (95 % interval 0.400 to 0.600) for s and 0.300 (95 % interval 0.200 to 0.400) for s@v: "
        "s is better (difference 0.2"
    )
    assert sentence.endswith("; 8 patients, 8 cases).")
    assert (
        found.seen[0]
        == "No patient of any test set was trained or validated on, in any stage that these results depend on."
    )


def test_the_answer_calls_slices_slices(folder: Path) -> None:
    path = folder / "results.json"
    path.write_text(path.read_text().replace('"counted": "cases"', '"counted": "slices"'))
    (sentence,) = answer(RunResults.read(folder), {}).found
    assert sentence.endswith("; 8 patients, 8 slices).")


def test_a_patient_who_was_seen_in_training_is_told_first(folder: Path) -> None:
    seen = {"s": {"test": {"patients": 8, "seen": 2, "how": ["trained on in stage 's'"], "reason": "few scans"}}}
    (folder / "seen.json").write_text(json.dumps(seen))
    assert "2 of 8 patients" in answer(RunResults.read(folder), {}).seen[0]


def test_the_worst_case_comes_first(folder: Path) -> None:
    (found,) = worst_cases(RunResults.read(folder), "s", "test")
    values = [float(text) for _, text in found.cases]
    assert values == sorted(values)
    assert found.of == "of 8 cases, 8 patients"


def test_no_name_of_a_patient_is_in_the_page(folder: Path) -> None:
    assert "secret" not in write_report(folder).read_text(encoding="utf-8")


def test_pictures_of_variants_that_are_alike_are_in_the_page_once(folder: Path) -> None:
    found = viewer(RunResults.read(folder), folder, 1_000_000)
    assert found is not None
    data = json.loads(found.data)
    assert (len(data["cases"]), len(data["pictures"])) == (6, 3)


def test_the_viewer_shows_the_declared_label_of_a_case_and_not_that_of_the_source(tmp_path: Path) -> None:
    data = {"d": {"labels": {"ordered": ["mild", "severe"], "column": "grade"}}}
    stage = {"name": "s", "data": "d", "unit": "volume", "objective": {"use": "x"}}
    recipe = {"medkit": 1, "name": "r", "data": data, "stages": [stage], "report": {}}
    (tmp_path / "recipe.yaml").write_text(json.dumps(recipe))
    row = {"stage": "s", "split": "test", "case": "c", "patient": "p", "center": "", "label": 0.0, "labels": "severe"}
    evaluation = Evaluation("s", "test", {"mae": MetricValue(1, 1, 1, 1, 0)}, [row | {"mae": 1.0}], [])
    write_results(tmp_path, replace(evaluation, stacks=[stack("c", 300)]))
    found = viewer(RunResults.read(tmp_path), tmp_path, 10_000)
    assert found is not None
    assert "label severe, mae 1.000" in str(found.data)


def test_what_the_viewer_has_no_room_for_is_said(folder: Path) -> None:
    found = viewer(RunResults.read(folder), folder, 11_000)
    assert found is not None
    assert found.left_out == "2 of 6 were left out: the page has no room for more."
    assert len(json.loads(found.data)["cases"]) == 4


def test_a_page_with_more_slices_than_fit_stays_below_its_size(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("medkit.reporting.report.MOST_BYTES", 80_000)
    many = [stack(f"c{i}", 20_000) for i in range(8)]
    for stage in ("s", "s@v"):
        value = MetricValue(0.5, 0.4, 0.6, 8, 0)
        write_results(folder, Evaluation(stage, "test", {"dice": value}, [], [], stacks=many))
    path = write_report(folder)
    assert path.stat().st_size <= 80_000
    assert "were left out: the page has no room for more" in path.read_text(encoding="utf-8")


def test_rows_that_the_table_has_no_room_for_are_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report_cases, "MOST_BYTES", 500)
    found = shown_cases(RunResults.read(folder), "r")
    assert found is not None
    assert found.left_out == "Left out for lack of room: rows of s@v on test (8)."


def test_pictures_that_do_not_fit_are_left_out_by_name() -> None:
    class Drawn:
        def __init__(self, title: str, size: int) -> None:
            self.title, self.image = title, "x" * size

    room = Room(10)
    assert [one.title for one in room.kept([Drawn("a", 6), Drawn("b", 6), Drawn("c", 4)])] == ["a", "c"]
    assert room.left_out == ["b"]


def test_the_report_of_an_earlier_run_says_what_it_lacks_and_how_to_add_it(folder: Path) -> None:
    for path in (folder / "slices").iterdir():
        path.unlink()
    text = " ".join(write_report(folder).read_text(encoding="utf-8").split())
    assert "This run has kept no slices" in text
    assert f"<code>medkit evaluate {folder.name} --split SPLIT</code>" in text


def test_the_policy_allows_the_pages_own_script_and_no_other() -> None:
    assert policy("") == "default-src 'none'; style-src 'unsafe-inline'; img-src data:; font-src data:"
    # printf '%s' 'alert(1)' | openssl dgst -sha256 -binary | base64
    assert "script-src 'sha256-bhHHL3z2vDgxUt0W3dWQOrprscmda2Y5pLsLg4GF+pI='" in policy("alert(1)")


def test_no_text_ends_the_element_that_holds_data() -> None:
    assert "<" not in inline_json({"case": "</script><script>alert(1)</script>"})
    assert json.loads(inline_json({"case": "</script>é"})) == {"case": "</script>é"}


def test_names_in_a_page_are_escaped() -> None:
    made = page("study.html", name="<b>", about={"libraries": {}})
    assert "&lt;b&gt;" in made
