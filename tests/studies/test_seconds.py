"""Methods that get the same seconds: epochs that fit, settled once, and the same for whoever goes on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from studies.conftest import Write, recipe, study

from medkit.errors import InputError, Problems
from medkit.runs.pace import _Few, step_seconds
from medkit.studies.checks import plan_and_check
from medkit.studies.fairness import check_fairness
from medkit.studies.options import Options
from medkit.studies.reader import load_study
from medkit.studies.seconds import Paced, kept_paces, planned_apart
from medkit.studies.trials import Expansion


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    monkeypatch.setenv("MEDKIT_CACHE", str(tmp_path_factory.getbasetemp() / "seconds"))


CPU = Options(device="cpu")


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
    trials, checked, _ = plan_and_check(read, Expansion(read), CPU, settled(2, 5))
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
    _, checked, _ = plan_and_check(read, Expansion(read), CPU, settled(2, 5))
    with pytest.raises(InputError, match="get different steps in stage 'finer'"):
        check_fairness(read, {method: one.bench for method, one in checked.items()})


def test_a_step_always_takes_some_time() -> None:
    assert step_seconds(1.0, 1.0 + 3 * 0.2) == pytest.approx(0.2)
    assert step_seconds(1.0, 0.8) == pytest.approx(0.2)


def test_more_steps_are_timed_as_many_as_are_asked() -> None:
    assert step_seconds(1.0, 1.0 + 40 * 0.2, 40) == pytest.approx(0.2)


def test_batches_of_a_measured_pace_are_made_while_it_runs_and_a_short_epoch_is_repeated() -> None:
    made: list[int] = []

    class Short:
        device_augment = None

        def epoch(self, epoch: int) -> Iterator[int]:
            for i in range(2):
                made.append(i)
                yield i

    few = _Few(Short(), 5).epoch(0)
    assert (next(few), made) == (0, [0])
    assert [*few] == [1, 0, 1, 0]


def test_epochs_that_do_not_fill_the_seconds_alike_are_told_before_anything_is_run() -> None:
    coarse = [Paced("cls", "pretext", 60.0, 11.0, 5), Paced("rec", "pretext", 60.0, 40.0, 1)]
    (told,) = planned_apart(coarse)
    assert told.startswith("In stage 'pretext' whole epochs take 'cls' 55 s and 'rec' 40 s, more than 20 % apart: give")
    assert planned_apart(settled(50, 57)) == []


def test_other_seconds_are_measured_anew(write_study: Write, tmp_path: Path) -> None:
    about = {"name": "small_study", "seconds": [vars(one) for one in settled(2, 5)]}
    read = load_study(write_study(tmp_path / "a", timed(pretext=60)))
    assert kept_paces(about, read) == settled(2, 5)
    assert kept_paces(about | {"name": "another"}, read) == []
    assert kept_paces(about, load_study(write_study(tmp_path / "b", timed(pretext=61)))) == []


@pytest.mark.parametrize(
    ("seconds", "told"),
    [
        (
            {"pretxt": 60.0},
            r"study\.yaml:\d+:\d+: compare\.seconds: no stage is named 'pretxt'; did you mean 'pretext'",
        ),
        (
            {"pretext": 1e-6},
            r"an epoch of 'pretext' takes method '(cls|rec)' [\d.e-]+ s, longer than 1e-06 s; "
            r"write seconds: \{pretext: [\d.]+\} for 5 epochs of it, or give it fewer cases per epoch",
        ),
    ],
)
def test_seconds_that_cannot_be_given_are_refused(
    seconds: dict[str, float], told: str, write_study: Write, tmp_path: Path
) -> None:
    said = timed(**seconds)
    del said["methods"]["scratch"], said["compare"]["reference"]
    read = load_study(write_study(tmp_path, said))
    with pytest.raises(InputError, match=told):
        plan_and_check(read, Expansion(read), CPU)


def test_seconds_for_a_stage_without_steps_are_refused(write_study: Write, tmp_path: Path) -> None:
    said, made = timed(finer=60), recipe()
    probe = {"use": "probe", "encoder": {"from": "pretext.encoder"}, "classifier": "logistic"}
    made["stages"][1] = {"name": "finer", "objective": probe, "metrics": ["auc"]}
    del said["methods"]["scratch"], said["compare"]["reference"]
    read = load_study(write_study(tmp_path, said, made))
    with pytest.raises(InputError, match=r"compare\.seconds: stage 'finer' is not trained in medkit's own steps"):
        plan_and_check(read, Expansion(read), CPU)


@pytest.mark.parametrize("seconds", [0, -1, "long"])
def test_seconds_are_a_positive_number(seconds: Any, write_study: Write, tmp_path: Path) -> None:
    with pytest.raises(Problems, match=r"compare\.seconds\.pretext"):
        load_study(write_study(tmp_path, timed(pretext=seconds)))


def test_seconds_and_a_search_exclude_each_other(write_study: Write, tmp_path: Path) -> None:
    said = {**timed(pretext=60), "search": {"trials": 2, "over": {"stages.finer.batch": [2, 4]}}}
    with pytest.raises(Problems, match="same seconds are not searched"):
        load_study(write_study(tmp_path, said))
