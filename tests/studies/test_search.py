"""Hyper-parameters are chosen by validation alone, with as many attempts for each method, alike however interrupted."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from studies.conftest import recipe, study

from medkit.errors import InputError
from medkit.recipe import load_recipe
from medkit.studies.folder import Outcome, StudyFolder
from medkit.studies.reader import load_study
from medkit.studies.search import check_attempts, check_search, run_search, validated_only
from medkit.studies.search_begun import CHOSEN, KEPT, asked
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


def scored(folder: Path, write_study: Write, changes: dict[str, Any], lines: list[dict[str, Any]]) -> float:
    """The score of the only attempt of a method whose compared stage has left these lines, one per epoch."""
    said = study()
    said["vary"], said["methods"] = {"seed": [1]}, {"cls": None}
    del said["compare"]["reference"]
    said["search"] = {"trials": 1, "over": {"stages.finer.batch": [2, 3]}}
    made = recipe()
    made["stages"][1] |= changes
    read = load_study(write_study(folder, said, made))
    there = planned_folder(folder / "out", read)

    def run(trials: list[Trial]) -> None:
        there.add(trials, replace=False)
        for trial in trials:
            there.run_folder(trial).path.mkdir(parents=True)
            for epoch, line in enumerate(lines, 1):
                there.run_folder(trial).append_metrics({"stage": "finer", "epoch": epoch, **line})
            there.keep_outcome(trial, Outcome("finished"))

    return run_search(read, there, run)[0].score


def test_a_search_does_not_take_a_loss_for_the_metric_whose_name_it_begins_with(
    tmp_path: Path, write_study: Write
) -> None:
    pytest.importorskip("optuna")
    changes = {"epochs": 2, "keep_best": {"metric": "auc"}}
    lines = [{"val/auc": 0.6, "val/auc_loss": 0.9}, {"val/auc": 0.7, "val/auc_loss": 0.8}]
    assert scored(tmp_path, write_study, changes, lines) == 0.7


def test_a_search_scores_the_epoch_whose_weights_are_kept(tmp_path: Path, write_study: Write) -> None:
    pytest.importorskip("optuna")
    changes = {"epochs": 3, "keep_best": {"metric": "loss"}}
    lines = [{"val/auc": a, "val/loss": loss} for a, loss in ((0.9, 0.5), (0.6, 0.2), (0.8, 0.3))]
    assert scored(tmp_path, write_study, changes, lines) == 0.6


def began(folder: Path, write_study: Write, attempts: int = 4) -> tuple[Study, StudyFolder]:
    """A study, and a folder in which its search has made its attempts and nothing has been chosen yet."""
    said = searched(folder, write_study, attempts)
    there = planned_folder(folder / "out", said)
    there.write_plan(said, None, {KEPT: asked(said)})
    run_search(said, there, ends_well(there, said))
    return said, there


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"over": {"stages.finer.optim.lr": {"low": 1e-3, "high": 1e-1, "log": True}}}, "search.over.stages.finer"),
        ({"over": {"stages.finer.batch": [2, 3]}}, r"search.over.stages.finer.optim.lr: .* says nothing"),
        ({"trials": 3}, "search.trials: the search in the folder was begun with 4, and this study says 3"),
        ({"seed": 7}, "search.seed"),
    ],
    ids=["range", "key", "fewer", "seed"],
)
def test_a_begun_search_is_not_gone_on_with_as_another(
    changes: dict[str, Any], told: str, tmp_path: Path, write_study: Write
) -> None:
    pytest.importorskip("optuna")
    said, there = began(tmp_path, write_study)
    written = yaml.safe_load(said.text)
    written["search"] |= changes
    edited = load_study(write_study(tmp_path, written))
    with pytest.raises(InputError, match=told) as refused:
        check_attempts(edited, there, Expansion(edited))
    assert "--out" in str(refused.value.hint)


def test_attempts_of_another_recipe_are_not_gone_on_with(tmp_path: Path, write_study: Write) -> None:
    pytest.importorskip("optuna")
    said, there = began(tmp_path, write_study)
    made = recipe()
    made["stages"][1]["batch"] = 3
    edited = load_study(write_study(tmp_path, yaml.safe_load(said.text), made))
    with pytest.raises(InputError, match=r"trial 'search-cls-000' of another recipe: stages.finer.batch is 2 there"):
        check_attempts(edited, there, Expansion(edited))


def test_more_attempts_are_other_ones(tmp_path: Path, write_study: Write) -> None:
    pytest.importorskip("optuna")
    _, there = began(tmp_path, write_study, attempts=6)
    more = searched(tmp_path, write_study, attempts=8)
    check_attempts(more, there, Expansion(more))
    assert [one.attempts for one in run_search(more, there, ends_well(there, more))] == [8, 8]
    recipes = [load_recipe(there.recipe_file(trial)) for trial in there.trials() if trial.method == "cls"]
    assert len({one.stage("finer").optim.arguments["lr"] for one in recipes}) == 8


def test_more_attempts_are_refused_once_values_have_been_chosen(tmp_path: Path, write_study: Write) -> None:
    pytest.importorskip("optuna")
    _, there = began(tmp_path, write_study)
    there.write_json("study.json", {**there.about(), CHOSEN: []})
    more = searched(tmp_path, write_study, attempts=8)
    with pytest.raises(InputError, match=r"search\.trials"):
        check_attempts(more, there, Expansion(more))


def test_a_search_is_not_begun_among_trials_without_one(tmp_path: Path, write_study: Write) -> None:
    said = searched(tmp_path, write_study)
    plain = yaml.safe_load(said.text)
    del plain["search"]
    without = load_study(write_study(tmp_path, plain))
    folder = StudyFolder(tmp_path / "out")
    folder.path.mkdir()
    folder.write_plan(without, Expansion(without).trials(), {})
    with pytest.raises(InputError, match="the folder has trials of this study without a search"):
        check_attempts(said, folder, Expansion(said))
