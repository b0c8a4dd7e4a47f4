"""Hyper-parameters are chosen by validation alone, with as many attempts for each method, alike however interrupted."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from studies.conftest import study

from medkit.errors import InputError
from medkit.recipe import load_recipe
from medkit.studies.folder import Outcome, StudyFolder
from medkit.studies.reader import load_study
from medkit.studies.search import check_search, run_search, validated_only
from medkit.studies.study import Study
from medkit.studies.trials import Expansion, Trial

Write = Callable[..., Path]


def searched(folder: Path, write_study: Write, attempts: int = 6) -> Study:
    said = study()
    said["vary"] = {"seed": [1]}
    del said["methods"]["scratch"], said["compare"]["reference"]
    said["search"] = {"trials": attempts, "over": {"stages.finer.optim.lr": {"low": 1e-4, "high": 1e-1, "log": True}}}
    return load_study(write_study(folder, said))


def ends_well(folder: StudyFolder, said: Study, stop: int = 10**9) -> Callable[[list[Trial]], None]:
    """As if the attempts had run: a rate of 0.01 is best on validation. After ``stop`` of them it is interrupted."""
    done = [0]

    def run(trials: list[Trial]) -> None:
        folder.add(trials, replace=False)
        for trial in trials:
            if done[0] == stop:
                raise KeyboardInterrupt
            done[0] += 1
            assert trial.recipe is not None
            rate = trial.recipe.stage("finer").optim.arguments["lr"]  # type: ignore[union-attr]
            place = folder.run_folder(trial)
            place.path.mkdir(parents=True)
            place.append_metrics({"stage": "finer", "epoch": 0, "val/auc": 1 - abs(rate - 0.01), "test/auc": rate})
            folder.keep_outcome(trial, Outcome("finished"))

    return run


def planned_folder(path: Path, said: Study) -> StudyFolder:
    folder = StudyFolder(path)
    path.mkdir()
    folder.write_plan(said, None, {})
    return folder


def test_every_method_gets_as_many_attempts_and_what_validation_likes_best(tmp_path: Path, write_study: Write) -> None:
    pytest.importorskip("optuna")
    said = searched(tmp_path, write_study)
    folder = planned_folder(tmp_path / "out", said)
    chosen = run_search(said, folder, ends_well(folder, said))
    assert [(one.method, one.attempts, one.failed) for one in chosen] == [
        ("cls", 6, 0),
        ("rec", 6, 0),
    ]
    trials = [trial for trial in folder.trials() if trial.method == "cls"]
    rates = [load_recipe(folder.recipe_file(trial)).stage("finer").optim.arguments["lr"] for trial in trials]
    best = min(rates, key=lambda rate: abs(rate - 0.01))
    assert chosen[0].values["stages.finer.optim.lr"].plain() == pytest.approx(best)


def test_an_interrupted_search_chooses_what_a_straight_one_does(tmp_path: Path, write_study: Write) -> None:
    pytest.importorskip("optuna")
    said = searched(tmp_path, write_study)
    straight = planned_folder(tmp_path / "straight", said)
    other = planned_folder(tmp_path / "other", said)
    expected = run_search(said, straight, ends_well(straight, said))
    for stop in (1, 5):
        with pytest.raises(KeyboardInterrupt):
            run_search(said, other, ends_well(other, said, stop))
    found = run_search(said, other, ends_well(other, said))
    assert [one.plain() for one in found] == [one.plain() for one in expected]


def test_attempts_are_run_without_any_test_split(tmp_path: Path, write_study: Write) -> None:
    recipe = Expansion(searched(tmp_path, write_study)).trials()[0].recipe
    assert recipe is not None
    found = validated_only(recipe)
    assert set(found.data["d"].splits) == {"train", "val"}
    assert [found.evaluated_splits(stage) for stage in found.stages] == [[], []]


def test_a_search_without_validation_is_refused(tmp_path: Path, write_study: Write) -> None:
    pytest.importorskip("optuna")
    said = searched(tmp_path, write_study)
    recipes: dict[str, Any] = {trial.method: trial.recipe for trial in Expansion(said).trials()}
    check_search(said, recipes)
    recipes["rec"].stage("finer").validate = None
    with pytest.raises(InputError, match="stage 'finer' of method 'rec' has no validation split to choose by"):
        check_search(said, recipes)


def test_without_optuna_the_way_to_it_is_told(
    tmp_path: Path, write_study: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "optuna", None)
    said = searched(tmp_path, write_study)
    with pytest.raises(InputError, match=r"pip install 'medkit-imaging\[search\]'"):
        check_search(said, {})
