"""Methods that get the same seconds: epochs that fit, settled once, and the same for whoever goes on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from studies.conftest import Write, study

from medkit.engine.progress import Progress
from medkit.errors import InputError, Problems
from medkit.recipe import load_recipe
from medkit.runs.pace import step_seconds
from medkit.studies.checks import plan_and_check
from medkit.studies.fairness import check_fairness
from medkit.studies.reader import load_study
from medkit.studies.run import Options, run_study
from medkit.studies.seconds import Paced, kept_paces
from medkit.studies.trials import Expansion


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    monkeypatch.setenv("MEDKIT_CACHE", str(tmp_path_factory.getbasetemp() / "seconds"))


def timed(**seconds: float) -> dict[str, Any]:
    """One trial a method, with seconds for some stages."""
    said = study()
    said["vary"] = {"seed": [1]}
    said["compare"]["seconds"] = seconds
    return said


def settled(*epochs: int) -> list[Paced]:
    return [Paced(name, "pretext", 60.0, 60.0 / n, n) for name, n in zip(("cls", "rec"), epochs, strict=True)]


def test_each_method_gets_the_epochs_that_fit_and_steps_may_differ(write_study: Write, tmp_path: Path) -> None:
    read = load_study(write_study(tmp_path, timed(pretext=60)))
    trials, checked, _ = plan_and_check(read, Expansion(read), "cpu", "fp32", settled(2, 5))
    recipes = {trial.method: trial.recipe for trial in trials}
    assert [recipes[name].stage("pretext").epochs for name in ("cls", "rec")] == [2, 5]
    rows = check_fairness(read, {method: one.bench for method, one in checked.items()})
    given = {(row.method, row.stage): row for row in rows}
    assert given["rec", "pretext"].steps == 2.5 * given["cls", "pretext"].steps
    assert given["rec", "pretext"].seconds == 60
    assert given["rec", "finer"].seconds is None


def test_steps_still_have_to_be_equal_in_all_other_stages(write_study: Write, tmp_path: Path) -> None:
    said = timed(pretext=60)
    said["methods"]["cls"] = {"stages.finer.epochs": 3}
    read = load_study(write_study(tmp_path, said))
    _, checked, _ = plan_and_check(read, Expansion(read), "cpu", "fp32", settled(2, 5))
    with pytest.raises(InputError, match="get different steps in stage 'finer'"):
        check_fairness(read, {method: one.bench for method, one in checked.items()})


@pytest.mark.nightly
def test_paces_are_measured_once_and_whoever_goes_on_keeps_the_epochs(write_study: Write, tmp_path: Path) -> None:
    said = timed(pretext=1.5)
    said["methods"] = {name: said["methods"][name] for name in ("cls", "rec")}
    said["compare"].pop("reference")
    read = load_study(write_study(tmp_path, said))
    out = tmp_path / "out"
    with Progress(quiet=True) as progress:
        folder = run_study(read, out, Options(device="cpu"), progress)
        first = json.loads((out / "study.json").read_text())["seconds"]
        run_study(read, out, Options(device="cpu"), progress)
    assert json.loads((out / "study.json").read_text())["seconds"] == first
    for one in first:
        assert one["epochs"] >= 1
        assert one["epochs"] * one["epoch"] <= 1.5 < (one["epochs"] + 1) * one["epoch"] + 1e-3
        assert load_recipe(out / f"recipes/{one['method']}-seed1.yaml").stage("pretext").epochs == one["epochs"]
    assert all(folder.outcome(trial).status == "finished" for trial in folder.trials())


def test_a_step_always_takes_some_time() -> None:
    assert step_seconds(1.0, 1.0 + 3 * 0.2) == pytest.approx(0.2)
    assert step_seconds(1.0, 0.8) == pytest.approx(0.2)


def test_other_seconds_are_measured_anew(write_study: Write, tmp_path: Path) -> None:
    about = {"seconds": [vars(one) for one in settled(2, 5)]}
    read = load_study(write_study(tmp_path / "a", timed(pretext=60)))
    assert kept_paces(about, read) == settled(2, 5)
    assert kept_paces(about, load_study(write_study(tmp_path / "b", timed(pretext=61)))) == []


@pytest.mark.parametrize(
    ("seconds", "told"),
    [
        (
            {"pretxt": 60.0},
            r"study\.yaml:\d+:\d+: compare\.seconds: no stage is named 'pretxt'; did you mean 'pretext'",
        ),
        ({"pretext": 1e-6}, r"an epoch of 'pretext' takes method 'cls' .* longer than 1e-06 s"),
    ],
)
def test_seconds_that_cannot_be_given_are_refused(
    seconds: dict[str, float], told: str, write_study: Write, tmp_path: Path
) -> None:
    said = timed(**seconds)
    said["methods"] = {"cls": None}
    said["compare"].pop("reference")
    read = load_study(write_study(tmp_path, said))
    with pytest.raises(InputError, match=told):
        plan_and_check(read, Expansion(read), "cpu", "fp32")


@pytest.mark.parametrize("seconds", [0, -1, "long"])
def test_seconds_are_a_positive_number(seconds: Any, write_study: Write, tmp_path: Path) -> None:
    with pytest.raises(Problems, match=r"compare\.seconds\.pretext"):
        load_study(write_study(tmp_path, timed(pretext=seconds)))


def test_seconds_and_a_search_exclude_each_other(write_study: Write, tmp_path: Path) -> None:
    said = {**timed(pretext=60), "search": {"trials": 2, "over": {"stages.finer.batch": [2, 4]}}}
    with pytest.raises(Problems, match="same seconds are not searched"):
        load_study(write_study(tmp_path, said))
