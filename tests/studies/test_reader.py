"""A study's file: what is wrong in it is told with its line, and its trials have the recipes that it asks for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from studies.conftest import recipe, study

from medkit.errors import InputError
from medkit.studies.folder import shared
from medkit.studies.reader import bundled, load_study
from medkit.studies.trials import Expansion, Trial


def trials(path: Path) -> list[Trial]:
    return Expansion(load_study(path)).trials()


def test_there_is_a_trial_for_each_method_and_point(tmp_path: Path, write_study: Any) -> None:
    found = trials(write_study(tmp_path))
    assert len(found) == len({trial.name for trial in found}) == 12
    assert found[0].name == "scratch-seed1-lrslow"
    assert dict(found[1].point) == {"seed": "1", "lr": "fast"}
    assert found[1].recipe is not None
    assert found[1].recipe.stage("finer").optim.arguments["lr"] == 0.01
    assert [stage.name for stage in found[0].recipe.stages] == ["finer"]


def test_trials_share_the_stages_that_nothing_they_vary_changes(tmp_path: Path, write_study: Any) -> None:
    several = shared(trials(write_study(tmp_path)))
    assert sorted(several.values()) == [
        [f"{method}-seed{seed}-lrslow", f"{method}-seed{seed}-lrfast"] for method in ("cls", "rec") for seed in (1, 2)
    ]


def test_keys_beside_each_other_have_the_same_value(tmp_path: Path, write_study: Any) -> None:
    said = study()
    said["vary"] = {"stages.finer.batch, stages.pretext.batch": [2, 3]}
    said["methods"] = {"cls": None}
    del said["compare"]["reference"]
    found = trials(write_study(tmp_path, said))
    assert [trial.name for trial in found] == ["cls-batch2", "cls-batch3"]
    assert [[stage.batch for stage in trial.recipe.stages] for trial in found if trial.recipe] == [[2, 2], [3, 3]]


WRONG = {
    "an unknown key": (lambda s: s.update(varry={}), r"study.yaml:\d+:1: varry: unknown key; did you mean 'vary'\?"),
    "a key that leads nowhere": (
        lambda s: s["vary"].update({"stages.finr.batch": [1, 2]}),
        r"study.yaml:\d+:\d+: stages.finr.batch: 'stages' has no entry 'finr'; did you mean 'finer'\?",
    ),
    "an argument that does not exist": (
        lambda s: s["methods"]["rec"].update({"stages.finer.optim.learning": 1}),
        r"study.yaml:\d+:\d+: stages.finer.optim.learning: 'medkit:adam' takes no argument of that name",
    ),
    "a value of the wrong type": (lambda s: s["vary"].update(seed=["one"]), r"study.yaml:\d+:\d+: vary.seed: .*'one'"),
    "an unknown method": (
        lambda s: s["compare"].update(reference="scrach"),
        r"study.yaml:\d+:\d+: compare.reference: no method is named 'scrach'; did you mean 'scratch'\?",
    ),
    "an unknown metric": (
        lambda s: s["compare"].update(metric="acu"),
        r"study.yaml:\d+:\d+: compare.metric: stage 'finer' has no metric 'acu'; did you mean 'auc'\?",
    ),
    "an unknown split": (
        lambda s: s["compare"].update(split="val"),
        r"compare.split: stage 'finer' is not tested on 'val'; there are: test",
    ),
    "a stage to skip that is not there": (
        lambda s: s["methods"]["scratch"].update(skip=["pretxt"]),
        r"methods.scratch.skip: the recipe has no stage 'pretxt'; did you mean 'pretext'\?",
    ),
    "a part of a stage that is left out": (
        lambda s: s["methods"]["cls"].update(skip=["pretext"]),
        r"methods.cls.skip: 'finer' takes a part of 'pretext', which is left out",
    ),
    "a value without a name": (
        lambda s: s["vary"].update({"stages.pretext.objective.encoder": [{"use": "timm", "model": "test_resnet"}]}),
        r"a mapping has no name; write a mapping: NAME: VALUE for each",
    ),
    "one value twice": (lambda s: s["vary"].update(seed=[1, 1]), r"vary.seed: '1' is there twice"),
    "no recipe of that name": (lambda s: s.update(recipe="tiny_ich_cl"), r"did you mean 'tiny_ich_cls'\?"),
    "a search of nothing": (lambda s: s.update(search={"trials": 0, "over": {}}), r"search.over: no key is searched"),
    "an empty range": (
        lambda s: s.update(search={"trials": 2, "over": {"stages.finer.optim.lr": {"low": 1.0, "high": 0.1}}}),
        r"search.over.stages.finer.optim.lr: 1 to 0.1 is not a range",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_it_is_told_with_its_place(tmp_path: Path, write_study: Any, name: str) -> None:
    change, message = WRONG[name]
    said = study()
    said["methods"]["cls"] = {}
    change(said)
    with pytest.raises(InputError, match=message):
        trials(write_study(tmp_path, said))


def test_every_problem_is_told_once_whichever_trials_have_it(tmp_path: Path, write_study: Any) -> None:
    made = recipe()
    made["stages"][1]["epoch"] = 2
    with pytest.raises(InputError) as caught:
        trials(write_study(tmp_path, None, made))
    assert str(caught.value).count("unknown key") == 1


def test_an_unknown_study_is_told_with_its_near_name() -> None:
    with pytest.raises(InputError, match="did you mean 'tiny'"):
        load_study("tinny")


@pytest.mark.parametrize(("name", "path"), list(bundled()))
def test_a_bundled_study_can_be_planned(name: str, path: Path) -> None:
    assert len(trials(path)) > 1
