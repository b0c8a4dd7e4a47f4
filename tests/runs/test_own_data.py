"""What stages are worth on their own training data: beside the results, never among them, and told where it is nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import train

import medkit
from medkit.errors import Problems
from medkit.evaluation.results import read_results
from medkit.recipe import Recipe, recipe_from
from medkit.runs.folder import RunFolder
from medkit.runs.own_data import Guess, OwnData, read


def block(patients: int, size: int, task: str) -> dict[str, Any]:
    source = {"use": "phantoms:radiographs", "patients": patients, "size": size, "task": task}
    splits = {split: {"fold": split} for split in ("train", "val", "test")}
    prepare = [{"use": "clip_percentiles"}, {"use": "pad_resize", "size": [32, 32]}]
    return {"source": source, "splits": splits, "prepare": prepare}


def stage(name: str, head: dict[str, Any], metrics: list[str], **more: Any) -> dict[str, Any]:
    objective = {"use": "multitask", "encoder": {"use": "timm", "model": "test_resnet"}, "heads": {"h": head}}
    made = {"name": name, "data": name, "unit": "slice", "batch": 8, "epochs": 1, "objective": objective}
    return {**made, "metrics": metrics, **more}


def recipe(*changes: str) -> Recipe:
    """Bone age and fractures, the latter also by a network that is not moved at all."""
    age = stage("age", {"use": "pedxnet:bone_age", "hidden": 8, "dropout": 0, "start": 127}, ["mae"])
    still = {"still": {"optim": {"use": "sgd", "lr": 1e-12}}}
    fracture = stage("fracture", {"use": "pedxnet:fracture", "hidden": 8}, ["auc", "accuracy"], repeat=still)
    data = {"age": {**block(30, 32, "bone_age"), "fields": ["sex"]}, "fracture": block(60, 32, "fracture")}
    said = {"medkit": 1, "name": "own", "data": data, "stages": [age, fracture], "report": {"own_data": 20}}
    return recipe_from(said, changes)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("own")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MEDKIT_CACHE", str(folder / "cache"))
        medkit.run(recipe(), folder / "run", quiet=True, device="cpu")
    return folder / "run"


def test_each_metric_stands_beside_the_best_answer_that_is_the_same_for_all(run: Path) -> None:
    found = {stage: {one.metric: one for one in kept} for stage, kept in read(RunFolder(run)).items()}
    assert found.keys() == {"age", "fracture", "fracture@still"}
    assert found["fracture"]["auc"].trivial == 0.5
    chosen = found["fracture"]["accuracy"]
    assert chosen.trivial == pytest.approx(max(0.57, 0.43), abs=0.2)
    assert chosen.n_patients == 20
    assert not found["age"]["mae"].higher_is_better


def test_the_trivial_answer_of_an_error_is_the_median(run: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MEDKIT_CACHE", str(run.parent / "cache"))
        source = medkit.build("source", "phantoms:radiographs", patients=30, size=32, task="bone_age")
    ages = np.array([case.label for case in source.cases() if case.fold == "train"])
    mean = np.abs(ages - np.median(ages)).mean()
    # 20 of the 21 training cases were drawn.
    assert read(RunFolder(run))["age"][0].trivial == pytest.approx(mean, rel=0.1)


def test_own_data_is_never_among_the_results(run: Path) -> None:
    assert all(set(splits) == {"test"} for splits in read_results(run).values())
    assert "train" not in (run / "cases.csv").read_text().split("\n", 1)[0]


def test_one_that_did_not_learn_is_flagged_in_the_report_and_the_log(run: Path) -> None:
    html = (run / "report.html").read_text()
    assert "<b>fracture@still</b> does not beat the trivial answer on its own training data: auc" in html
    assert "On its own training data" in html
    assert "fracture@still, training data: auc" in (run / "log.txt").read_text()


def test_a_stage_taken_from_another_run_brings_it_along(run: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MEDKIT_CACHE", str(run.parent / "cache"))
        train(recipe(), run.parent / "linked", quiet=True, device="cpu", link=True)
    linked = run.parent / "linked"
    assert "linked with its results" in (linked / "log.txt").read_text()
    assert json.loads((linked / "own_data.json").read_text()) == json.loads((run / "own_data.json").read_text())


def test_nothing_is_measured_unasked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEDKIT_CACHE", str(tmp_path / "cache"))
    made = recipe("report.own_data=null").without(["fracture", "fracture@still"])
    medkit.run(made, tmp_path / "run", quiet=True, device="cpu")
    assert not (tmp_path / "run" / "own_data.json").exists()
    assert "own training data" not in (tmp_path / "run" / "report.html").read_text()


def test_no_case_at_all_is_refused() -> None:
    with pytest.raises(Problems, match=r"report\.own_data"):
        recipe("report.own_data=0")


@pytest.mark.parametrize(
    ("own", "beaten"),
    [
        (OwnData("auc", 0.6, 0.5, 0.45, 0.7), False),
        (OwnData("auc", 0.6, 0.5, 0.55, 0.7), True),
        (OwnData("auc", 0.6, 0.5), True),
        (OwnData("mae", 20.0, 30.0, 15.0, 31.0, higher_is_better=False), False),
        (OwnData("mae", 20.0, 30.0, 15.0, 25.0, higher_is_better=False), True),
    ],
)
def test_beaten_means_by_more_than_chance(own: OwnData, beaten: bool) -> None:
    assert own.beaten is beaten


class Everything:
    """Predicts something of each kind."""

    def predict(self, batch: Any) -> dict[str, torch.Tensor]:
        n = len(batch["image"])
        return {
            "probability": torch.rand(n),
            "value": torch.rand(n),
            "class_probability": torch.rand(n, 3),
            "mask_probability": torch.rand(n, 1, 4, 4),
            "output": torch.rand(n, 1, 4, 4),
            "rows": torch.rand(n, 2),
        }


def test_a_guess_knows_no_image_and_answers_nothing_that_it_does_not_know() -> None:
    batch = {"image": torch.rand(2, 1, 4, 4)}
    said = Guess(Everything(), 1.0, 7.0, 2).predict(batch)
    assert said.keys() == {"probability", "value", "class_probability", "mask_probability", "output"}
    assert said["probability"].tolist() == [1, 1]
    assert said["value"].tolist() == [7, 7]
    assert said["class_probability"].tolist() == [[0, 0, 1]] * 2
    assert bool((said["mask_probability"] == 1).all())
    assert torch.equal(said["output"], batch["image"])
