"""Nothing in a study's file is overwritten by something else in it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from commands import run_command
from studies.conftest import Write, study
from studies.test_effects import crossed

from medkit.errors import InputError
from medkit.studies.reader import load_study
from medkit.studies.search import check_search
from medkit.studies.trials import Expansion

LR = "stages.finer.optim.lr"
OPTIM = "stages.finer.optim"


def told(path: Path) -> str:
    with pytest.raises(InputError) as refused:
        Expansion(load_study(path)).trials()
    return str(refused.value)


def test_a_method_with_a_seed_of_its_own_beside_varied_seeds_is_refused_with_both_places(
    write_study: Write, tmp_path: Path
) -> None:
    said = study()
    said["methods"]["cls"] = {"seed": 5}
    done = run_command(["study", "run", write_study(tmp_path, said), "--dry"], tmp_path)
    assert done.returncode == 2
    assert "seed: method 'cls' would overwrite what 'vary.seed' gives" in done.stderr
    assert f"{tmp_path}/study.yaml:19:5" in done.stderr
    assert f"leave out one of the two; the other is at {tmp_path}/study.yaml:5:3" in done.stderr


@pytest.mark.parametrize(
    ("varied", "own"),
    [
        ({LR: [0.1, 0.2]}, {LR: 0.3}),
        ({LR: [0.1, 0.2]}, {OPTIM: {"use": "sgd", "lr": 0.3}}),
        ({LR: [0.1, 0.2]}, {"stages.1.optim.lr": 0.3}),
        ({f"{LR}, stages.pretext.optim.lr": [0.1, 0.2]}, {LR: 0.3}),
        ({OPTIM: {"a": {"use": "adam", "lr": 0.1}, "b": {"use": "sgd", "lr": 0.2}}}, {LR: 0.3}),
        ({"stages.finer.train": ["train", "val"]}, {"stages.finer.train.split": "test"}),
        ({LR: [0.1, 0.2], OPTIM: {"a": {"use": "adam", "lr": 0.1}}}, {}),
    ],
    ids=["the key", "its parent", "by number", "one of several", "its child", "short for a child", "another axis"],
)
def test_what_an_axis_gives_is_not_overwritten(
    varied: dict[str, Any], own: dict[str, Any], write_study: Write, tmp_path: Path
) -> None:
    said = study()
    said["vary"], said["methods"] = {"seed": [1, 2], **varied}, {"scratch": None, "cls": own}
    assert "would overwrite what 'vary.stages." in told(write_study(tmp_path, said))


@pytest.mark.parametrize(
    ("key", "values", "own"),
    [
        (OPTIM, {"a": {"use": "adam"}, "b": {"use": "sgd"}}, {LR: 0.3}),
        ("stages.finer.train.fraction", [0.5, 1.0], {"stages.finer.batch": 4}),
    ],
)
def test_what_only_adds_to_an_axis_is_taken(
    key: str, values: Any, own: dict[str, Any], write_study: Write, tmp_path: Path
) -> None:
    said = study()
    said["vary"], said["methods"] = {key: values}, {"scratch": None, "cls": own}
    assert len(Expansion(load_study(write_study(tmp_path, said))).trials()) == 4


@pytest.mark.parametrize("part", ["base", "none", "rec"])
def test_crossed_methods_do_not_overwrite_an_axis_either(part: str, write_study: Write, tmp_path: Path) -> None:
    said = crossed()
    (said["cross"] if part in said["cross"] else said["cross"]["factors"])[part]["seed"] = 5
    assert "would overwrite what 'vary.seed' gives" in told(write_study(tmp_path, said))


def test_two_factors_that_set_one_key_to_different_values_are_refused(write_study: Write, tmp_path: Path) -> None:
    said = crossed()
    for factor, batch in (("cls", 2), ("rec", 4)):
        said["cross"]["factors"][factor]["stages.finer.batch"] = batch
    assert "factor 'cls' sets this to something else, and runs with both can have only one" in told(
        write_study(tmp_path, said)
    )
    for factor in ("cls", "rec"):
        said["cross"]["factors"][factor]["stages.finer.batch"] = 4
    assert Expansion(load_study(write_study(tmp_path, said))).trials()


@pytest.mark.parametrize(("where", "who"), [("vary", "'vary.stages.finer.optim.lr'"), ("methods", "method 'cls'")])
def test_a_search_overwrites_neither_an_axis_nor_a_method(
    where: str, who: str, write_study: Write, tmp_path: Path
) -> None:
    pytest.importorskip("optuna")
    said = study()
    said["vary"], said["methods"] = {"seed": [1, 2]}, {"scratch": said["methods"]["scratch"], "cls": {}}
    (said["vary"] if where == "vary" else said["methods"]["cls"])[LR] = [0.1, 0.2] if where == "vary" else 0.1
    said["search"] = {"trials": 2, "over": {LR: {"low": 0.01, "high": 0.1}}}
    read = load_study(write_study(tmp_path, said))
    recipes = {trial.method: trial.recipe for trial in Expansion(read).trials() if trial.recipe is not None}
    with pytest.raises(InputError, match=f"'search.over' would overwrite what {who} gives"):
        check_search(read, recipes)
