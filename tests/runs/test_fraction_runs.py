"""Stages that train on a fraction of a split: the same patients everywhere, told, and no others in the ledger."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import medkit
from medkit.data.ledger import read_ledger
from medkit.engine.runtime import Runtime
from medkit.errors import InputError, Problems
from medkit.recipe import Recipe, load_recipe, recipe_from
from medkit.recipe.json_schema import json_schema
from medkit.recipe.training import training_in_words
from medkit.registry.plugins import registry
from medkit.runs.workbench import Workbench


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    monkeypatch.setenv("MEDKIT_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


def recipe(train: Any = None, *changes: str, **stage: Any) -> Recipe:
    """Classification of slices of twenty phantoms, a variant with half of the patients and one from scratch."""
    source = {"use": "phantoms:head_ct", "patients": 20, "size": [32, 32], "slices": 4}
    splits = {split: {"fold": split} for split in ("train", "val", "test")}
    encoder = {"use": "timm", "model": "test_resnet"}
    objective = {"use": "multitask", "encoder": encoder, "heads": {"cls": {"use": "smartnet:slice_class"}}}
    block = {"source": source, "splits": splits, "prepare": [{"use": "window", "low": 0, "high": 80}]}
    repeat = {"half": {"train.fraction": 0.5}, "sgd": {"optim": {"use": "sgd", "lr": 0.01}}}
    made = {"name": "s", "batch": 2, "objective": objective, "repeat": repeat, **stage}
    made |= {} if train is None else {"train": train}
    return recipe_from({"medkit": 1, "name": "part", "data": {"d": block}, "stages": [made]}, changes)


def bench(made: Recipe) -> Workbench:
    return Workbench(made, Runtime(torch.device("cpu")))


def patients(found: Workbench, name: str) -> set[str]:
    return {case.patient for case in found.cases.train(found.recipe.stage(name))}


def test_all_stages_and_variants_have_the_same_patients_and_smaller_fractions_lie_inside() -> None:
    found = bench(recipe({"split": "train", "fraction": 0.3}))
    every = {case.patient for case in found.dataset(found.recipe.stages[0]).cases("train")}
    assert patients(found, "s") == patients(found, "s@sgd") < patients(found, "s@half") < every
    assert {
        name.split("#")[0] for batch in found.loader(found.recipe.stage("s")).epoch(0) for name in batch["ids"]
    } == {case.id for case in found.cases.train(found.recipe.stage("s"))}
    other = bench(recipe({"split": "train", "fraction": 0.3}).with_seed(7))
    assert patients(other, "s") != patients(found, "s")


def test_a_plain_split_name_stays_valid_and_trains_on_all() -> None:
    made = recipe("train").without(["s@half"])
    assert made.resolved()["stages"][0]["train"] == "train"
    assert len(bench(made).cases.train(made.stages[0])) == len(bench(made).dataset(made.stages[0]).cases("train"))


@pytest.mark.parametrize("train", [None, "train", {"split": "train", "fraction": 0.9}])
def test_the_command_line_sets_a_fraction_whatever_the_recipe_says(train: Any) -> None:
    made = recipe(train, "stages.s.train.fraction=0.25")
    assert (made.stages[0].train, made.stages[0].fraction) == ("train", 0.25)
    again = recipe_from(made.resolved())
    assert again.resolved() == made.resolved()
    assert made.resolved()["stages"][0]["train"] == {"split": "train", "fraction": 0.25}
    assert "0.25 of the patients of 'train'" in training_in_words(made.stages[0])


@pytest.mark.parametrize(
    ("train", "told"),
    [
        ({"split": "train", "fraction": 0}, r"stages\.s\.train\.fraction: 0 is not .*> 0"),
        ({"split": "train", "fraction": 1.5}, r"stages\.s\.train\.fraction: 1\.5 is not"),
        ({"split": "train", "share": 0.5}, r"stages\.s\.train\.share: unknown key"),
        ({"split": "trian", "fraction": 0.5}, r"stages\.s\.train: no split is named 'trian'; did you mean 'train'"),
    ],
)
def test_what_cannot_be_meant_is_told_by_check(train: Any, told: str) -> None:
    with pytest.raises(Problems, match=told):
        recipe(train)


def test_the_schema_for_editors_knows_both_forms() -> None:
    stage = json_schema(registry())["properties"]["stages"]["items"]["properties"]
    assert [option["type"] for option in stage["train"]["anyOf"]] == ["string", "object"]
    assert "fraction" not in stage


@pytest.mark.parametrize(
    ("fraction", "told"),
    [
        (0.01, r"stages\.s\.train\.fraction.*is less than one.*the smallest fraction with one is 0\.0"),
        (0.09, r"have no case with label = .*the smallest fraction with every class is 0\."),
    ],
)
def test_too_small_a_fraction_is_refused_before_anything_is_written(tmp_path: Path, fraction: float, told: str) -> None:
    made = recipe({"split": "train", "fraction": fraction}).without(["s@half", "s@sgd"])
    with pytest.raises(InputError, match=told):
        medkit.run(made, tmp_path / "run", quiet=True)
    assert not (tmp_path / "run").exists()


def test_patients_that_a_fraction_leaves_out_may_be_tested_on_and_are_not_in_the_ledger(tmp_path: Path) -> None:
    small = {"split": "train", "fraction": 0.5}
    made = recipe(small, metrics=["auc"], validate=None).without(["s@half", "s@sgd"])
    inside = patients(bench(made), "s")
    every = {case.patient for case in bench(made).dataset(made.stages[0]).cases("train")}
    plain = made.resolved()
    plain["data"]["d"]["splits"]["rest"] = {"patient": sorted(every - inside)}
    plain["stages"][0]["evaluate"] = ["rest", "test"]
    run = medkit.run(recipe_from(plain), tmp_path / "run", quiet=True)
    ledger = read_ledger(run.folder / "weights" / "s.encoder.safetensors")
    assert [len(entry.patients) for entry in ledger.entries if entry.role == "train"] == [len(inside)]
    result = json.loads((run.folder / "results.json").read_text())["s"]["rest"]["auc"]
    assert (result["seen"], result["trained_on"], result["trained_of"]) == (0, len(inside), len(every))
    told = f"it trains on {len(inside)} of {len(every)} patients of 'train' (fraction 0.5, stratified by label"
    assert told in (run.folder / "log.txt").read_text()
    report = run.report.read_text()
    assert f"trained on {len(inside)} of {len(every)} patients" in report
    assert load_recipe(run.folder / "recipe.yaml").stages[0].fraction == 0.5
    plain["data"]["d"]["splits"]["rest"] = {"patient": sorted(inside)[:1]}
    with pytest.raises(InputError, match="1 of 1 patients was trained on"):
        medkit.run(recipe_from(plain), tmp_path / "other", quiet=True)
