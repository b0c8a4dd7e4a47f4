"""All methods of a comparison are given the same, or it is said why not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from studies.conftest import recipe, study

from medkit.errors import InputError
from medkit.studies.checks import check_trials
from medkit.studies.fairness import Given, check_fairness
from medkit.studies.measures import check_measures
from medkit.studies.reader import load_study
from medkit.studies.trials import Expansion


@pytest.fixture(autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEDKIT_CACHE", str(tmp_path_factory.getbasetemp() / "fair"))


def given(path: Path) -> list[Given]:
    read = load_study(path)
    trials = Expansion(read).trials()
    return check_fairness(read, {name: one.bench for name, one in check_trials(trials, "cpu", "fp32").items()})


def test_what_each_method_is_given_is_counted(tmp_path: Path, write_study: Any) -> None:
    rows = {(row.method, row.stage): row for row in given(write_study(tmp_path))}
    assert set(rows) == {
        ("scratch", "finer"),
        ("cls", "pretext"),
        ("cls", "finer"),
        ("rec", "pretext"),
        ("rec", "finer"),
    }
    row = rows["cls", "finer"]
    assert (row.steps, row.batch, row.draws) == (row.cases // 2, 2, "unit slice, draw uniform")


@pytest.mark.parametrize(
    ("kind", "key", "value"),
    [
        ("steps", "stages.pretext.epochs", 2),
        ("draws", "stages.pretext.draw", "positive"),
        ("data", "data.d.prepare", [{"use": "window", "low": 0, "high": 90}]),
    ],
)
def test_what_only_one_method_is_given_needs_a_reason(
    tmp_path: Path, write_study: Any, kind: str, key: str, value: Any
) -> None:
    said = study()
    said["methods"]["cls"] = {key: value}
    with pytest.raises(InputError, match=f"get different {kind} in stage .*unequal: {{{kind}: REASON"):
        given(write_study(tmp_path, said))
    said["compare"]["unequal"] = {kind: "this is what is asked"}
    assert given(write_study(tmp_path, said))


def test_a_fraction_without_a_class_is_refused_with_the_trial_and_the_least_that_works(
    tmp_path: Path, write_study: Any
) -> None:
    made, said = recipe(), study()
    made["data"]["d"]["source"] |= {"patients": 24}
    del said["vary"]["stages.finer.optim.lr"]
    said["vary"]["stages.finer.train"] = {"few": {"split": "train", "fraction": 0.1}}
    with pytest.raises(InputError) as refused:
        given(write_study(tmp_path, said, made))
    assert refused.value.what.startswith("trial 'scratch-seed1-trainfew': 1 of 7 patients have no case")
    assert refused.value.where == "stages.finer.train.fraction"
    assert "the smallest fraction with every class is 0." in str(refused.value.hint)


def test_a_metric_with_other_arguments_needs_a_reason(tmp_path: Path, write_study: Any) -> None:
    def check() -> None:
        read = load_study(write_study(tmp_path, said))
        check_measures(read, {trial.method: trial.recipe for trial in Expansion(read).trials() if trial.recipe})

    said = study()
    said["compare"]["metric"] = "rmse"
    for method, width in (("cls", 80), ("scratch", 40), ("rec", 40)):
        said["methods"][method] = (said["methods"][method] or {}) | {
            "stages.finer.metrics": [{"use": "rmse", "window_width": width}, "auc"]
        }
    told = "'scratch' and 'cls' are measured differently: 'rmse_hu' has window_width 40.0 and 80.0 in stage 'finer'"
    with pytest.raises(InputError, match=f"{told}; .*unequal: {{metric: REASON"):
        check()
    said["compare"]["unequal"] = {"metric": "this is what is asked"}
    check()
    del said["compare"]["unequal"]
    said["compare"]["metric"] = "auc"
    check()
    said["compare"]["also"] = [{"metric": "rmse", "stage": "finer", "split": "test"}]
    with pytest.raises(InputError, match=told):
        check()
