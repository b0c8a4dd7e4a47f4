"""Runs on declared labels: classes, several at once, ordered ones and measurements, from a table to a report."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import assert_same_run, stopped_after, write_pictures

import medkit
from medkit.data.dataset import Dataset
from medkit.errors import InputError
from medkit.evaluation.results import read_examples, read_results
from medkit.front import export
from medkit.recipe import Recipe, recipe_from
from medkit.reporting.confusion import confusions
from medkit.reporting.figures import severity
from medkit.reporting.run_results import RunResults
from medkit.reporting.tables import results_table
from medkit.runs import built_in_trainer, own_data
from medkit.runs.explain import Question, explain
from medkit.runs.folder import RunFolder
from medkit.runs.predict import predict
from medkit.runs.predictor import PredictSettings
from medkit.runs.run import RunSettings, resume, run

KINDS = ["bar", "dot", "none"]
LABELS: dict[str, dict[str, Any]] = {
    "classification": {"one_of": KINDS, "column": "kind"},
    "multilabel": {"any_of": ["bar", "dot"], "column": ["has_bar", "has_dot"]},
    "ordinal": {"ordered": ["mild", "moderate", "severe"], "column": "grade"},
    "regression": {"unit": "months", "column": "age"},
}
METRICS: dict[str, list[Any]] = {
    "classification": ["top1", "macro_auc", "macro_f1"],
    "multilabel": ["macro_auc", "macro_recall"],
    "ordinal": ["kappa", "mae", "top1"],
    "regression": ["mae", "mse", "r2"],
}


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pictures(tmp_path_factory.mktemp("pictures"))


def recipe(cases: Path, head: str, labels: dict[str, Any] | None = None, **changes: Any) -> Recipe:
    data = {"source": {"use": "manifest", "path": str(cases)}, "prepare": [{"use": "min_max"}]}
    data |= {"splits": {name: {"fold": name} for name in ("train", "val", "test")}}
    data |= {"labels": labels or LABELS[head]}
    heads = {"h": {"use": head, "hidden": 8, "dropout": 0.5}}
    objective = {"use": "multitask", "encoder": {"use": "timm", "model": "test_resnet"}, "heads": heads}
    stage = {"name": "s", "batch": 6, "epochs": 1, "objective": objective, "metrics": METRICS[head], **changes}
    stage["optim"] = {"use": "adam", "lr": 1e-3}
    said = {"medkit": 1, "name": head, "data": {"d": data}, "stages": [stage], "report": {"own_data": 100}}
    return recipe_from(said)


@pytest.fixture(scope="module")
def runs(cases: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    found = {}
    for head in LABELS:
        found[head] = tmp_path_factory.mktemp(head) / "run"
        run(recipe(cases, head), out=found[head], settings=RunSettings(device="cpu"))
    return found


def test_each_class_is_measured_under_its_name(runs: dict[str, Path]) -> None:
    found = read_results(runs["classification"])["s"]["test"]
    assert {"top1", "macro_auc", "auc_bar", "auc_dot", "auc_none", "f1_dot"} <= set(found)
    assert found["macro_auc"].value == pytest.approx(np.mean([found[f"auc_{name}"].value for name in KINDS]))
    assert found["auc_bar"].extras == {"positives": 4, "positive_patients": 4}
    assert sum(v for k, v in found["top1"].extras.items() if " said " in k) == 10


def test_a_label_that_is_not_known_is_left_out_of_its_class_alone(runs: dict[str, Path]) -> None:
    found = read_results(runs["multilabel"])["s"]["test"]
    assert (found["auc_bar"].n, found["auc_dot"].n, found["auc_dot"].n_empty) == (10, 9, 1)
    assert "cases of 'train' for which a class is not known" in (runs["multilabel"] / "log.txt").read_text()


def test_ordered_classes_and_measurements_have_their_metrics_and_units(runs: dict[str, Path]) -> None:
    ordinal, regression = (read_results(runs[name])["s"]["test"] for name in ("ordinal", "regression"))
    assert set(ordinal) == {"kappa_quadratic", "mae", "top1"}
    assert ordinal["mae"].unit == "classes"
    assert [regression[name].unit for name in ("mae", "mse", "r2")] == ["months", "months²", ""]


def test_the_trivial_answer_on_its_own_training_data_is_one_to_declared_labels(
    runs: dict[str, Path], cases: Path
) -> None:
    rows = [row for row in csv.DictReader(cases.open()) if row["fold"] == "train"]
    own = {name: {one.metric: one for one in own_data.read(RunFolder(path))["s"]} for name, path in runs.items()}
    kinds = [row["kind"] for row in rows if row["kind"]]
    assert own["classification"]["top1"].trivial == max(map(kinds.count, KINDS)) / len(kinds)
    ages = np.array([float(row["age"]) for row in rows if row["age"]])
    assert own["regression"]["mae"].trivial == pytest.approx(np.abs(ages - np.median(ages)).mean())
    assert own["multilabel"]["macro_auc"].trivial == 0.5


def test_names_stand_in_cases_and_report(runs: dict[str, Path]) -> None:
    with (runs["classification"] / "cases.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {row["labels"] for row in rows} == set(KINDS)
    assert {row["class"] for row in rows} <= set(KINDS)
    assert all(sum(float(row[f"probability_{name}"]) for name in KINDS) == pytest.approx(1) for row in rows)
    shown = RunResults.read(runs["classification"])
    table = next(confusions(shown, ["s"], ["test"]))
    assert [name for name, _ in table.rows] == list(table.names) == KINDS
    assert [sum(counts) for _, counts in table.rows] == [4, 3, 3]
    notes = [note for cell in results_table("s", ["s"], shown.results).rows[0].cells for note in cell.notes]
    assert notes.count("4 positive, of 4 patients") == 2


def test_examples_are_shown_with_their_declared_label(runs: dict[str, Path]) -> None:
    with (runs["classification"] / "cases.csv").open() as file:
        known = {row["case"].partition("#")[0]: row["labels"] for row in csv.DictReader(file)}
    shown = read_examples(runs["classification"] / "examples" / "s.test.npz")
    assert shown
    assert all(severity(one, shown) == f"label {known[one['case']]}" for one in shown)


def test_a_metric_is_what_the_measured_labels_in_cases_give_again(tmp_path: Path) -> None:
    with write_pictures(tmp_path).open() as file:
        rows = [row | {"count": 1_000_000 + 1000.123 * float(row["age"])} for row in csv.DictReader(file)]
    with (tmp_path / "cases.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    made = recipe(tmp_path / "cases.csv", "regression", {"unit": "cells", "column": "count"})
    run(made, out=tmp_path / "run", settings=RunSettings(device="cpu"))
    with (tmp_path / "run" / "cases.csv").open() as file:
        errors = [abs(float(row["value"]) - float(row["labels"])) for row in csv.DictReader(file)]
    assert read_results(tmp_path / "run")["s"]["test"]["mae"].value == pytest.approx(np.mean(errors), rel=1e-7)


@pytest.mark.parametrize("head", LABELS)
def test_each_class_is_explained_under_its_name(runs: dict[str, Path], cases: Path, tmp_path: Path, head: str) -> None:
    found = explain(
        runs[head], cases.parent / "0.png", tmp_path / "maps", question=Question(target="all"), device="cpu"
    )
    names = [name for kind in ("one_of", "any_of", "ordered") for name in LABELS[head].get(kind, [])]
    pictures = [f"0000.grad_cam.{number}.png" for number in range(len(names))] or ["0000.grad_cam.png"]
    assert sorted(path.name for path in (tmp_path / "maps").glob("*.grad_cam*")) == pictures
    (said,) = found["slices"]
    if names:
        assert said["explained"] == names == list(said.get("class_probability", said.get("label_probability")))
    else:
        assert (found["grad_cam"], list(said)) == ("red raises the value, blue lowers it", ["slice", "value"])


def test_a_network_of_ordered_classes_is_exported_with_their_names(runs: dict[str, Path], tmp_path: Path) -> None:
    said = export(runs["ordinal"], tmp_path / "grades.pt2")
    assert said["label_classes"] == ["mild", "moderate", "severe"]
    assert said["outputs"][0]["axes"] == ["slices", 3]


@pytest.mark.parametrize(
    ("head", "key"),
    [
        ("classification", "class_probability"),
        ("multilabel", "label_probability"),
        ("ordinal", "class_probability"),
        ("regression", None),
    ],
)
def test_a_prediction_says_names_and_unit(
    runs: dict[str, Path], cases: Path, tmp_path: Path, head: str, key: str | None
) -> None:
    predict(runs[head], cases.parent / "0.png", tmp_path / "said.json", device="cpu")
    said = json.loads((tmp_path / "said.json").read_text())
    if key is None:
        assert said["unit"] == "months"
        return
    names = LABELS[head].get("one_of") or LABELS[head].get("any_of") or LABELS[head]["ordered"]
    assert list(said[key]) == names
    assert said["class"] in (*names, "none", ";".join(names))


def test_a_threshold_is_refused_where_there_is_no_mask_that_it_could_change(
    runs: dict[str, Path], cases: Path, tmp_path: Path
) -> None:
    settings = PredictSettings(threshold=0.4)
    with pytest.raises(InputError, match="stage 's' gives label_probability and no mask") as told:
        predict(runs["multilabel"], cases.parent / "0.png", tmp_path / "said.json", settings=settings, device="cpu")
    assert told.value.where == "--threshold"
    assert not (tmp_path / "said.json").exists()


@pytest.mark.parametrize("column", ["kind", "number"])
def test_names_and_numbers_of_classes_are_one(cases: Path, tmp_path: Path, column: str) -> None:
    rows = list(csv.DictReader(cases.open()))
    text = "image,patient,fold,kind,number\n" + "".join(
        f"{cases.parent / r['image']},{r['patient']},{r['fold']},{r['kind']},{KINDS.index(r['kind'])}\n" for r in rows
    )
    (tmp_path / "both.csv").write_text(text)
    made = recipe(tmp_path / "both.csv", "classification", {"one_of": KINDS, "column": column})
    data = Dataset(made.data["d"].source.build(), {"all": {}}, labels=made.data["d"].labels)
    assert data.declared is not None
    assert data.declared.of(data.cases("all"))[:4].tolist() == [0, 1, 2, 0]


def test_a_cell_may_name_several_classes(cases: Path) -> None:
    separate = {"any_of": ["bar", "dot"], "column": ["has_bar", "has_dot"]}
    together = {"any_of": ["bar", "dot"], "column": "found"}
    values = []
    for labels in (separate, together):
        block = recipe(cases, "multilabel", labels).data["d"]
        data = Dataset(block.source.build(), {"all": {}}, labels=block.labels)
        assert data.declared is not None
        values.append(data.declared.of(data.cases("all")))
    known = ~np.isnan(values[0])
    assert known.sum() == 66
    assert np.array_equal(values[0][known], values[1][known])


@pytest.mark.parametrize(
    ("cell", "labels", "message", "hint"),
    [
        ("bars", LABELS["classification"], "kind: 'bars' is not a class of the data block", "did you mean 'bar'"),
        ("1.5", {"one_of": KINDS, "column": "kind"}, "kind: '1.5' is not a class: their numbers go from 0 to 2", ""),
        ("7", {"one_of": KINDS, "column": "kind"}, "kind: '7' is not a class", "classes: bar, dot, none"),
        ("2", {"any_of": ["bar", "dot"], "column": ["kind", "has_dot"]}, "kind: '2' is neither 0 nor 1", "empty"),
        ("bar;;dot", {"any_of": KINDS, "column": "kind"}, "names a class without a name", "separated by one"),
        ("old", {"unit": "months", "column": "kind"}, "kind: 'old' is not a finite number", "an empty cell"),
        ('"4,5"', {"unit": "months", "column": "kind"}, "kind: '4,5' is not a finite number", "write '4.5'"),
    ],
)
def test_a_cell_that_is_no_label_is_refused_with_its_row(
    cases: Path, tmp_path: Path, cell: str, labels: dict[str, Any], message: str, hint: str
) -> None:
    usual = "1" if "unit" in labels or isinstance(labels["column"], list) else "bar"
    (tmp_path / "bad.csv").write_text(
        f"image,patient,fold,kind,has_dot\n{cases.parent / '0.png'},a,train,{usual},1\n{cases.parent / '1.png'},b,val,{cell},1\n"
        f"{cases.parent / '2.png'},c,test,{usual},1\n"
    )
    head = {"one_of": "classification", "any_of": "multilabel", "unit": "regression"}[next(iter(labels))]
    with pytest.raises(InputError) as found:
        medkit.run(recipe(tmp_path / "bad.csv", head, labels), out=tmp_path / "run", device="cpu")
    assert message in str(found.value)
    assert f"{tmp_path / 'bad.csv'}:3" in str(found.value)
    assert hint in str(found.value)
    assert not (tmp_path / "run").exists()


def test_a_class_that_nobody_has_in_training_is_refused(cases: Path, tmp_path: Path) -> None:
    labels = {"one_of": [*KINDS, "ring"], "column": "kind"}
    with pytest.raises(InputError, match="no case of 'train' has ring"):
        medkit.run(recipe(cases, "classification", labels), out=tmp_path / "run", device="cpu")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "head", ["ordinal", *(pytest.param(name, marks=pytest.mark.nightly) for name in LABELS if name != "ordinal")]
)
def test_a_stopped_training_ends_with_the_weights_of_one_that_was_not(
    runs: dict[str, Path], cases: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, head: str
) -> None:
    monkeypatch.setattr(built_in_trainer, "CHECKPOINT_SECONDS", 0.0)
    settings, broken = RunSettings(device="cpu"), tmp_path / "run"
    with stopped_after(2):
        run(recipe(cases, head), out=broken, settings=settings)
    resume(broken, settings)
    assert_same_run(broken, runs[head])


def test_declared_labels_are_learned_beside_smart_net_and_by_volumes(tmp_path: Path) -> None:
    source = {"use": "phantoms:head_ct", "patients": 6, "size": [32, 32], "slices": 4, "smallest": 20}
    data = {"source": source, "splits": {name: {"fold": name} for name in ("train", "val", "test")}}
    data |= {"prepare": [{"use": "window"}], "labels": {"unit": "mL", "column": "volume_ml"}}
    heads = {"cls": {"use": "smartnet:slice_class"}, "size": {"use": "regression", "distance": "huber", "scale": 20}}
    heads["seg"] = {"use": "smartnet:scse_unet", "widths": [8, 8, 8, 8, 8]}
    slices = {"use": "multitask", "encoder": {"use": "timm", "model": "test_resnet"}, "heads": heads}
    slices["ties"] = [{"use": "smartnet:consistency", "between": ["cls", "seg"]}]
    volumes = {"use": "volume", "encoder": {"from": "slices.encoder"}, "losses": {"labels": {"use": "labels"}}}
    volumes["operator"] = {"use": "smartnet:lstm_classifier", "hidden": 8, "layers": 1}
    stages = [
        {"name": "slices", "batch": 4, "objective": slices, "metrics": ["auc", "dice", "mae"]},
        {"name": "volumes", "unit": "volume", "objective": volumes, "metrics": ["mae"]},
    ]
    made = recipe_from({"medkit": 1, "name": "beside", "data": {"d": data}, "stages": stages})
    run(made, out=tmp_path / "run", settings=RunSettings(device="cpu"))
    found = read_results(tmp_path / "run")
    assert set(found["slices"]["test"]) == {"auc", "dice", "mae"}
    assert [found[stage]["test"]["mae"].unit for stage in found] == ["mL", "mL"]
