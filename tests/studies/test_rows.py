"""``rows`` makes a stage's variants the methods of a study: each is trained alone, as its row of the table is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from studies.conftest import recipe

from medkit.errors import InputError
from medkit.recipe import load_recipe
from medkit.reporting.study_report import write_study_report
from medkit.studies.folder import StudyFolder
from medkit.studies.reader import load_study
from medkit.studies.results import StudyResults
from medkit.studies.trials import Expansion, Trial
from medkit.studies.work import settings_of, work


def made() -> dict[str, Any]:
    """A table's recipe: the second stage with the first one's encoder or from scratch, quickly or slowly."""
    said = recipe()
    pretext, finer = said["stages"]
    pretext["repeat"] = {"twice": {"epochs": 2}}
    scratch = {"objective.encoder": {"use": "timm", "model": "test_resnet"}, "optim.lr": 0.01}
    finer["repeat"] = {"scratch": scratch, "twice": {"objective.encoder": {"from": "pretext@twice.encoder"}}}
    said["report"]["tables"] = [{"title": "T", "stage": "finer", "rows": {"finer": "A", "scratch": "B"}}]
    return said


def study(rows: Any = "finer") -> dict[str, Any]:
    compare = {"metric": "auc", "stage": "finer", "split": "test", "reference": "finer"}
    return {
        "medkit": 1,
        "name": "rows",
        "recipe": "small.yaml",
        "vary": {"seed": [1]},
        "rows": rows,
        "compare": compare,
    }


def trials(path: Path) -> dict[str, Trial]:
    return {trial.method: trial for trial in Expansion(load_study(path)).trials()}


def test_the_stage_and_its_variants_are_methods_with_the_stages_that_they_need(
    tmp_path: Path, write_study: Any
) -> None:
    found = trials(write_study(tmp_path, study(), made()))
    assert {name: list(trial.stages) for name, trial in found.items()} == {
        "finer": ["pretext", "finer"],
        "scratch": ["finer"],
        "twice": ["pretext@twice", "finer"],
    }


def test_a_method_trains_what_its_row_trains(tmp_path: Path, write_study: Any) -> None:
    path = write_study(tmp_path, study(), made())
    table, alone = load_recipe(tmp_path / "small.yaml"), trials(path)["scratch"].recipe
    assert alone is not None
    resolved = {stage["name"]: stage for stage in table.resolved()["stages"]}
    mine = alone.resolved()["stages"][0]
    assert {**mine, "name": "finer@scratch"} == resolved["finer@scratch"]
    assert mine["optim"] != resolved["finer"]["optim"]


def test_several_stages_give_one_method_for_each_variant(tmp_path: Path, write_study: Any) -> None:
    said = made()
    del said["stages"][1]["repeat"]["scratch"]
    del said["report"]["tables"]
    found = trials(write_study(tmp_path, study(["finer", "pretext"]), said))
    assert {name: list(trial.stages) for name, trial in found.items()} == {
        "finer": ["pretext", "finer"],
        "twice": ["pretext", "finer"],
    }
    twice = found["twice"].recipe
    assert twice is not None
    assert twice.stage("pretext").epochs == 2
    assert twice.stage("finer").takes_from() == {"pretext"}


def test_a_study_of_rows_runs_to_its_report(
    tmp_path: Path, planned: Callable[..., StudyFolder], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEDKIT_CACHE", str(tmp_path / "cache"))
    said = made()
    del said["stages"][1]["repeat"]["twice"]
    folder = planned(tmp_path, study(), said)
    work(folder, settings_of(folder, device="cpu", precision="fp32", threads=1), print)
    assert set(StudyResults.read(folder.path).values()) == {("finer", ()), ("scratch", ())}
    assert write_study_report(folder.path).path.is_file()


WRONG: dict[str, tuple[Any, str]] = {
    "an unknown stage": ("finr", r"study.yaml:\d+:\d+: rows: the recipe has no stage 'finr'; did you mean 'finer'\?"),
    "stages with different variants": (
        ["finer", "pretext"],
        "stage 'finer' has a variant 'scratch', and 'pretext' has",
    ),
    "nothing": ([], "rows: no stage is named"),
    "a number": (3, "rows: "),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_rows_are_told_with_their_place(tmp_path: Path, write_study: Any, name: str) -> None:
    rows, told = WRONG[name]
    with pytest.raises(InputError, match=told):
        load_study(write_study(tmp_path, study(rows), made()))


def test_a_stage_without_variants_is_no_table(tmp_path: Path, write_study: Any) -> None:
    with pytest.raises(InputError, match="stage 'finer' has no variants, so it is a single row"):
        load_study(write_study(tmp_path, study(), recipe()))


def test_rows_and_methods_exclude_each_other(tmp_path: Path, write_study: Any) -> None:
    with pytest.raises(InputError, match="rows: its rows are the methods; leave 'methods' out"):
        load_study(write_study(tmp_path, study() | {"methods": {"a": None}}, made()))
