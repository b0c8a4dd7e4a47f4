"""Verdicts on run folders: a run a seed, its stages and variants the methods."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from medkit.errors import InputError
from medkit.evaluation.case_table import CaseTable, merge_cases
from medkit.evaluation.pseudo_values import pseudo_values
from medkit.evaluation.results import Evaluation, MetricValue, write_results
from medkit.evaluation.verdict import verdict
from medkit.evaluation.verdict_runs import patient_values, run_values, shared_values
from medkit.parts.metrics_classification import AUC, F1

STAGES = {"grade": 1.2, "grade@scratch": 0.6}
RMSE = MetricValue(0.5, 0.4, 0.6, 24, 0, higher_is_better=False)
AREA = replace(RMSE, higher_is_better=True)


def run(folder: Path, seed: int, recipe: str = "bones", splits: tuple[str, ...] = ("test",)) -> Path:
    """A run folder with two stages: 12 patients of two cases each, one of which is empty for ``rmse_hu``."""
    folder.mkdir(parents=True)
    (folder / "recipe.yaml").write_text(f"name: {recipe}\nseed: {seed}\nstages: []\nreport: null\n")
    rng = np.random.default_rng(seed)
    for stage, gain in STAGES.items():
        for split in splits:
            cases: list[dict[str, Any]] = []
            for i in range(24):
                label = float(i // 2 % 2)
                probability = float(1 / (1 + np.exp(-rng.normal(gain * (2 * label - 1)))))
                value = "" if i == 0 else float(rng.normal(3 - gain, 0.1))
                names = {"stage": stage, "split": split, "case": f"c{i}", "patient": f"p{i // 2}", "center": ""}
                cases.append(names | {"label": label, "probability": probability, "rmse_hu": value})
            values = {"auc": AREA, "rmse_hu": RMSE, "f1": AREA}
            write_results(folder, Evaluation(stage, split, values, cases, []))
    return folder


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("runs")
    return [run(folder / str(seed), seed) for seed in range(3)]


def test_variants_are_methods_and_runs_are_seeds(runs: list[Path]) -> None:
    found = run_values(runs, "rmse")
    assert (found.metric, found.split, found.higher_is_better) == ("rmse_hu", "test", False)
    judged = verdict(found.rows, "grade", "grade@scratch", higher_is_better=found.higher_is_better)
    assert (judged.seeds, judged.patients, judged.better) == (3, 12, "grade")
    assert judged.estimate == pytest.approx(-0.6, abs=0.1)


def test_an_area_under_a_curve_is_judged_by_pseudo_values_of_patients(runs: list[Path]) -> None:
    judged = verdict(run_values(runs, "auc").rows, "grade", "grade@scratch")
    assert judged.patients == 12
    assert judged.low < judged.estimate < judged.high


def test_a_mean_over_classes_is_judged_by_values_whose_mean_it_is() -> None:
    rng = np.random.default_rng(0)
    lines = with_classes({"A": range(24), "B": range(6)}, rng)
    values = {row["patient"]: row["value"] for row in patient_values(lines, "dice")}
    of_class = [np.mean([line[name] for line in lines if line[name] != ""]) for name in ("dice_A", "dice_B")]
    assert len(values) == 24
    assert np.mean(list(values.values())) == pytest.approx(np.mean(of_class))


def test_a_damaged_cell_is_refused_and_not_passed_over() -> None:
    lines = [{"patient": f"p{i}", "case": f"c{i}", "rmse": 1.5} for i in range(6)]
    with pytest.raises(InputError, match=r"'rmse' of case 'c2' is not a number: '1,5'") as refused:
        patient_values([*lines[:2], lines[2] | {"rmse": "1,5"}, *lines[3:]], "rmse")
    assert "medkit evaluate" in str(refused.value.hint)


@pytest.mark.parametrize("digits", [2, 4])
def test_a_rounded_mean_over_classes_is_not_taken_for_a_mean_over_cases(digits: int) -> None:
    lines = with_classes({"A": range(24), "B": range(8)}, np.random.default_rng(0))
    lines = [{k: round(v, digits) if isinstance(v, float) else v for k, v in line.items()} for line in lines]
    with pytest.raises(InputError, match=r"'dice' of case 'c\d' is not the mean of its classes"):
        patient_values(lines, "dice")


def test_one_edited_mean_over_classes_is_named() -> None:
    lines = with_classes({"A": range(24), "B": range(8)}, np.random.default_rng(0))
    lines[3]["dice"] = 7.1
    with pytest.raises(InputError, match="'dice' of case 'c3' is not the mean of its classes"):
        patient_values(lines, "dice")


def test_metrics_whose_names_begin_alike_are_no_mean_over_classes() -> None:
    rng = np.random.default_rng(0)
    lines = [{"patient": f"p{i}", "case": f"c{i}"} | dict(zip(("e", "e_hu", "e_rel"), rng.random(3).tolist(), strict=True))
             for i in range(24)]  # fmt: skip
    assert [row["value"] for row in patient_values(lines, "e")] == [line["e"] for line in lines]
    near = [line | {name: 30 + line[name] / 10 for name in ("e", "e_hu", "e_rel")} for line in lines]
    assert [row["value"] for row in patient_values(near, "e")] == [line["e"] for line in near]


def test_no_verdict_is_made_of_a_class_of_few_patients() -> None:
    lines = with_classes({"A": range(24), "B": range(5)}, np.random.default_rng(0))
    with pytest.raises(InputError, match="'dice' is a mean over classes, and 'dice_B' has 5 patients"):
        patient_values(lines, "dice")


def with_classes(patients: Mapping[str, range], rng: np.random.Generator) -> list[dict[str, Any]]:
    """Lines of 24 patients with the Dice of the classes that each has, and its mean."""
    lines = []
    for i in range(24):
        each = {f"dice_{name}": rng.random() if i in those else "" for name, those in patients.items()}
        found = [value for value in each.values() if value != ""]
        lines.append({"patient": f"p{i}", "case": f"c{i}", "dice": float(np.mean(found)), **each})
    return lines


def test_areas_of_other_cases_of_the_same_patients_are_not_compared(tmp_path: Path) -> None:
    folders = [without_a_case(tmp_path / str(seed), seed) for seed in range(3)]
    with pytest.raises(InputError, match="'grade' has no case 'c1' of patient 'p0' under seed 0") as refused:
        run_values(folders, "auc")
    assert "--common" in str(refused.value.hint)
    with pytest.raises(InputError, match="'grade' has no case 'c1'"):
        run_values(folders, "auc", methods=["grade", "grade@scratch"])
    assert run_values(folders, "auc", methods=["grade@scratch"]).rows


def test_common_takes_the_area_over_the_cases_that_all_have(tmp_path: Path) -> None:
    folders = [without_a_case(tmp_path / str(seed), seed) for seed in range(3)]
    found = run_values(folders, "auc", common=True)
    assert found.left_out == ["Cases of which not all trainings have the values were left out: 1."]
    lines = [line for line in CaseTable.of_folder(folders[0]).of("grade@scratch", "test") if line["case"] != "c1"]
    values = [row["value"] for row in found.rows if (row["method"], row["seed"]) == ("grade@scratch", "0")]
    assert values == [row["value"] for row in patient_values(lines, "auc")]


def test_a_class_that_only_some_trainings_have_numbers_of_is_not_compared() -> None:
    rng = np.random.default_rng(0)
    trainings = {
        ("a", "0"): with_classes({"A": range(24), "B": range(12)}, rng),
        ("b", "0"): with_classes({"A": range(24)}, rng),
    }
    with pytest.raises(InputError, match="'b' has no case 'c0' of patient 'p0' with 'dice_B'"):
        shared_values(trainings, "dice")
    found, _ = shared_values(trainings, "dice", common=True)
    for method in ("a", "b"):
        mean = np.mean([line["dice_A"] for line in trainings[method, "0"]])
        assert np.mean([row["value"] for row in found[method, "0"]]) == pytest.approx(mean)


def without_a_case(folder: Path, seed: int) -> Path:
    """A run in which ``grade`` was not tested on the second case of the first patient."""
    run(folder, seed)
    merge_cases(folder)
    table = folder / "cases.csv"
    lines = table.read_text().splitlines(keepends=True)
    table.write_text("".join(line for line in lines if not line.startswith("grade,test,c1,")))
    return folder


def test_pseudo_values_of_an_area_have_the_area_as_their_mean() -> None:
    rng = np.random.default_rng(0)
    rows = {"label": np.repeat([0.0, 1.0], 15), "probability": np.round(rng.random(30), 1)}
    names = [f"p{i}" for i in range(30)]
    assert np.mean(list(pseudo_values(AUC(), rows, names).values())) == pytest.approx(AUC().compute(rows))


def test_pseudo_values_leave_out_all_rows_of_a_patient() -> None:
    rng = np.random.default_rng(0)
    rows = {"label": np.tile([0.0, 1.0], 10), "probability": rng.random(20)}
    names = [f"p{i // 4}" for i in range(20)]
    left = {name: column[4:] for name, column in rows.items()}
    for metric in (AUC(), F1()):
        found = pseudo_values(metric, rows, names)
        assert found["p0"] == pytest.approx(5 * metric.compute(rows) - 4 * metric.compute(left))


def test_a_metric_that_is_not_defined_without_a_patient_is_refused() -> None:
    rows = {"label": np.array([1.0, 0, 0, 0]), "probability": np.arange(4.0)}
    with pytest.raises(InputError, match="'auc' is not defined without one of its 4 patients"):
        pseudo_values(AUC(), rows, list("abcd"))


def test_cases_of_the_same_names_with_other_labels_are_not_the_same_cases(runs: list[Path], tmp_path: Path) -> None:
    other = run(tmp_path / "3", 3)
    merge_cases(other)
    table = other / "cases.csv"
    table.write_text(table.read_text().replace(",0.0,", ",7.0,"))
    with pytest.raises(
        InputError, match=r"'test' has different cases than in .*: of 24 cases of the same names 12 have"
    ):
        run_values([*runs, other], "auc")


def test_recipes_of_different_names_are_part_of_the_methods_names(runs: list[Path], tmp_path: Path) -> None:
    other = [run(tmp_path / str(seed), seed, "wrists") for seed in range(3)]
    methods = {row["method"] for row in run_values([*runs, *other], "rmse", stage="grade@scratch").rows}
    assert methods == {"bones:grade@scratch", "wrists:grade@scratch"}


def test_a_seed_that_two_runs_have_is_refused(runs: list[Path], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="'grade' was trained with seed 0 in"):
        run_values([*runs, run(tmp_path / "again", 0)], "rmse")


def test_of_several_test_sets_one_has_to_be_chosen(tmp_path: Path) -> None:
    folder = run(tmp_path / "r", 0, splits=("internal", "external"))
    with pytest.raises(InputError, match="was measured on internal, external; choose one: --split"):
        run_values([folder], "rmse")
    assert run_values([folder], "rmse", split="external").split == "external"


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ({"metric": "f1"}, "'f1' is not a mean over cases"),
        ({"metric": "rmes_hu"}, "no stage has the metric 'rmes_hu'; did you mean 'rmse_hu'"),
        ({"metric": "auc", "stage": "grad"}, "no stage is named 'grad'; did you mean 'grade'"),
        ({"metric": "auc", "split": "tests"}, "was not measured on a split 'tests'; did you mean 'test'"),
    ],
)
def test_what_runs_do_not_have_is_refused_with_the_nearest(runs: list[Path], wanted: Any, message: str) -> None:
    with pytest.raises(InputError) as error:
        run_values(runs, **wanted)
    assert message in str(error.value)


def trained(folder: Path, seed: int, change: dict[str, Any] | None = None, name: str = "bones") -> Path:
    """A run with a whole recipe: two stages on an encoder of a third; ``change`` has dotted keys."""
    run(folder, seed, name)
    source, objective = {"use": "table", "manifest": f"/data/{seed}/hands.csv"}, {"use": "multitask"}
    data = {"source": source, "splits": {name: {"fold": name} for name in ("train", "test", "other")}, "cache": True}
    stages: dict[str, Any] = {"pretext": {"objective": objective, "metrics": [{"use": "medkit:auc"}]}}
    for method in STAGES:
        metrics = [{"use": "medkit:rmse", "level": 40}, {"use": "medkit:f1"}]
        stages[method] = {"objective": {**objective, "encoder": {"from": "pretext.encoder"}}, "metrics": metrics}
    same = {"data": "d", "unit": "slice", "train": "train", "epochs": 2, "workers": 0, "evaluate": []}
    recipe = {"name": name, "seed": seed, "data": {"d": data}, "report": None}
    recipe["stages"] = [{"name": stage, **same, **own} for stage, own in stages.items()]
    for key, value in (change or {}).items():
        *above, last = key.split(".")
        node: Any = recipe
        for word in above:
            node = (
                next(one for one in node if one.get("name") == word or one.get("use") == word)
                if isinstance(node, list)
                else node[word]
            )
        node[last] = value
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    return folder


def three(folder: Path, change: dict[str, Any], **more: Any) -> list[Path]:
    """Three seeds, of which the last has another recipe."""
    return [trained(folder / str(seed), seed, change if seed == 2 else None, **more) for seed in range(3)]


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("stages.grade.epochs", 4, "stages.grade.epochs is 4 here, 2 there"),
        ("stages.pretext.epochs", 4, "stages.pretext.epochs is 4 here, 2 there"),
        ("data.d.splits.test", {"fold": "val"}, "data.d.splits.test.fold is 'val' here, 'test' there"),
        ("data.d.source.manifest", "/data/wrists.csv", "manifest is 'wrists.csv' here, 'hands.csv' there"),
        ("stages.grade.metrics.medkit:rmse.level", 80, "level is 80 here, 40 there"),
    ],
)
def test_runs_of_another_recipe_are_no_seeds_of_a_method(key: str, value: Any, told: str, tmp_path: Path) -> None:
    folders = three(tmp_path, {key: value})
    with pytest.raises(InputError) as refused:
        run_values(folders, "rmse")
    assert refused.value.what.startswith(f"'grade' has another recipe than in {folders[0]}: ")
    assert told in refused.value.what
    assert refused.value.where == str(folders[2])
    named = [trained(tmp_path / f"named{seed}", seed, {key: value}, "longer") for seed in range(3)]
    if "metrics" not in key:  # recipes of other names are other methods
        assert len({row["method"] for row in run_values([*folders[:2], *named], "rmse").rows}) == 4


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("stages.grade.workers", 4),
        ("stages.grade.evaluate", ["test"]),
        ("stages.grade.metrics.medkit:f1.level", 1),
        ("data.d.splits.other", {"fold": "val"}),
        ("data.d.cache", False),
        ("report", {"splits": ["test"]}),
    ],
)
def test_what_no_number_depends_on_may_differ(key: str, value: Any, tmp_path: Path) -> None:
    found = run_values(three(tmp_path, {key: value}), "rmse")
    note = "Runs of 'grade' have other files: data.d.source.manifest is '/data/0/hands.csv' and '/data/1/hands.csv'."
    assert found.notes["grade"] == [note]


def test_methods_that_nobody_asks_for_may_differ(tmp_path: Path) -> None:
    folders = three(tmp_path, {"stages.grade@scratch.epochs": 4})
    assert run_values(folders, "rmse", methods=["grade"]).trainings["grade"][0] == (folders[0], "grade")


def test_a_metric_with_other_arguments_does_not_compare_methods(tmp_path: Path) -> None:
    change = {"stages.grade@scratch.metrics.medkit:rmse.level": 80}
    folders = [trained(tmp_path / str(seed), seed, change) for seed in range(3)]
    with pytest.raises(
        InputError, match="'grade' and 'grade@scratch' are measured differently: 'rmse_hu' has level 40"
    ):
        run_values(folders, "rmse")
