"""Probes of declared labels, and heads of declared labels beside pretexts, from a table to a prediction."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import train, write_pictures

import medkit
from medkit.errors import InputError
from medkit.evaluation.results import read_results
from medkit.recipe import recipe_from
from medkit.runs.predict import predict

OPTIONS: dict[str, Any] = {"device": "cpu", "quiet": True}
KINDS = ["bar", "dot", "none"]
LABELS: dict[str, dict[str, Any]] = {
    "kind": {"one_of": KINDS, "column": "kind"},
    "found": {"any_of": ["bar", "dot"], "column": ["has_bar", "has_dot"]},
    "grade": {"ordered": ["mild", "moderate", "severe"], "column": "grade"},
    "age": {"unit": "months", "column": "age"},
}
METRICS: dict[str, list[str]] = {
    "kind": ["top1", "macro_auc"],
    "found": ["macro_auc"],
    "grade": ["kappa"],
    "age": ["mae"],
}


def plain(cases: Path) -> dict[str, Any]:
    """Contrasted views and declared classes in one stage; a probe of its encoder for each kind of labels."""
    block = {"source": {"use": "manifest", "path": str(cases)}, "prepare": [{"use": "min_max"}]}
    block |= {"splits": {name: {"fold": name} for name in ("train", "val", "test")}}
    data = {name: block | {"labels": labels} for name, labels in LABELS.items()}
    data["kind"]["views"] = {"count": 2, "augment": [{"use": "horizontal_flip", "p": 0.5}, {"use": "brightness"}]}
    heads = {"kind": {"use": "classification"}, "views": {"use": "ssl:simclr", "width": 8}}
    objective = {"use": "multitask", "encoder": {"use": "timm", "model": "test_resnet"}, "heads": heads}
    stages: list[dict[str, Any]] = [
        {"name": "learn", "data": "kind", "batch": 6, "objective": objective, "metrics": METRICS["kind"]}
    ]
    probe = {"use": "label_probe", "encoder": {"from": "learn.encoder"}}
    stages += [{"name": name, "data": name, "objective": probe, "metrics": METRICS[name]} for name in LABELS]
    return {"medkit": 1, "name": "probes", "data": data, "stages": stages}


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pictures(tmp_path_factory.mktemp("pictures"))


@pytest.fixture(scope="module")
def run(cases: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    made = tmp_path_factory.mktemp("probes")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MEDKIT_CACHE", str(made / "cache"))
        train(recipe_from(plain(cases)), made / "run", **OPTIONS)
        yield made / "run"


def test_declared_classes_are_learned_beside_a_pretext_of_views(run: Path) -> None:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    (line,) = [line for line in lines if line["stage"] == "learn" and "train/kind" in line]
    assert line["train/views"] > 0
    assert {"top1", "macro_auc", "auc_bar"} <= set(read_results(run)["learn"]["test"])


def test_probes_are_measured_by_the_names_and_units_of_their_labels(run: Path) -> None:
    found = {name: read_results(run)[name]["test"] for name in LABELS}
    assert {"auc_bar", "auc_dot", "auc_none"} <= set(found["kind"])
    assert (found["found"]["auc_bar"].n, found["found"]["auc_dot"].n) == (10, 9)  # one cell is empty
    assert found["age"]["mae"].unit == "months"
    assert np.isfinite(found["grade"]["kappa_quadratic"].value)


def test_settings_are_chosen_for_each_of_several_classes(run: Path) -> None:
    kept = json.loads((run / "choices.json").read_text())["found"]
    assert sorted(kept["settings"]) == ["C_bar", "C_dot"]
    assert kept["split"] == "val"


@pytest.mark.parametrize("name", LABELS)
def test_a_probe_predicts_by_the_names_of_its_classes(run: Path, cases: Path, tmp_path: Path, name: str) -> None:
    said = predict(run, cases.parent / "0.png", tmp_path / "said.json", stage=name, device="cpu")
    if name == "age":
        assert said["unit"] == "months"
        return
    names = next(value for key, value in LABELS[name].items() if key != "column")
    key = "label_probability" if name == "found" else "class_probability"
    assert list(said[key]) == names
    assert name == "found" or sum(said[key].values()) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize(
    ("stage", "change", "message"),
    [
        (1, {"classifier": "ridge"}, "'ridge' does not take one of 3 classes"),
        (4, {"classifier": "knn"}, "'knn' does not take a measurement in months"),
        (1, None, "label_probe' takes labels that are .*declares none"),
    ],
)
def test_a_probe_of_other_labels_is_refused(
    cases: Path, tmp_path: Path, stage: int, change: dict[str, Any] | None, message: str
) -> None:
    said = plain(cases)
    if change is None:
        said["data"]["bare"] = {key: value for key, value in said["data"]["kind"].items() if key != "labels"}
        said["stages"][stage]["data"] = "bare"
    else:
        said["stages"][stage]["objective"] = said["stages"][stage]["objective"] | change
    with pytest.raises(InputError, match=message):
        medkit.run(recipe_from(said), tmp_path / "run", **OPTIONS)
