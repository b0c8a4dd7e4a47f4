"""A study that cannot come to a verdict says so before it trains."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from commands import run_command
from studies.conftest import recipe, study

from medkit.engine.runtime import Runtime
from medkit.runs.workbench import Workbench
from medkit.studies.checks import check_trials
from medkit.studies.fairness import check_fairness
from medkit.studies.foresight import without_verdict
from medkit.studies.reader import bundled, load_study
from medkit.studies.trials import Expansion


@pytest.fixture(autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEDKIT_CACHE", str(tmp_path_factory.getbasetemp() / "foresight"))


def foreseen(path: Path) -> list[str]:
    read = load_study(path)
    checked = check_trials(Expansion(read).trials(), "cpu", "fp32")
    return without_verdict(read, {name: one.bench for name, one in checked.items()})


def test_too_few_patients_and_seeds_are_told(tmp_path: Path, write_study: Any) -> None:
    assert foreseen(write_study(tmp_path)) == [
        "no verdict can come of this: 2 seeds, a verdict needs 3",
        "no verdict can come of this: 'test' of stage 'finer' has 4 patients, a verdict needs 6",
    ]


def test_nothing_is_told_where_there_are_enough(tmp_path: Path, write_study: Any) -> None:
    said, made = study(), recipe()
    said["vary"] = {"seed": [1, 2, 3]}
    made["data"]["d"]["source"] |= {"patients": 40, "folds": [0.4, 0.1, 0.5]}
    assert foreseen(write_study(tmp_path, said, made)) == []


def told_of(path: Path) -> list[str]:
    """As :func:`foreseen`, of a study that is not tried out."""
    read, runtime = load_study(path), Runtime.start(device="cpu")
    benches: dict[str, Workbench] = {}
    for trial in Expansion(read).trials():
        assert trial.recipe is not None
        benches.setdefault(trial.method, Workbench(trial.recipe, runtime))
    return without_verdict(read, benches)


def many() -> dict[str, Any]:
    """The recipe with enough patients to test on."""
    made = recipe()
    made["data"]["d"]["source"] |= {"patients": 40, "folds": [0.4, 0.1, 0.5]}
    return made


def test_nothing_is_told_where_there_is_no_reference(tmp_path: Path, write_study: Any) -> None:
    said = study()
    del said["compare"]["reference"]
    assert told_of(write_study(tmp_path, said)) == []


def test_the_effects_of_a_crossed_study_need_seeds_and_patients_too(tmp_path: Path, write_study: Any) -> None:
    said = study()
    del said["methods"], said["compare"]["reference"]
    factors = {"fast": {"stages.finer.optim.lr": 0.1}, "large": {"stages.finer.batch": 3}}
    said |= {"cross": {"none": None, "factors": factors}, "vary": {"seed": [1, 2]}}
    assert len(told_of(write_study(tmp_path, said))) == 2
    said["vary"] = {"seed": [1, 2, 3]}
    assert told_of(write_study(tmp_path, said, many())) == []


def test_patients_are_not_counted_where_they_vary(tmp_path: Path, write_study: Any) -> None:
    said = study()
    said["vary"] = {"seed": [1, 2, 3], "data.d.source.patients": {"few": 7, "many": 40}}
    assert told_of(write_study(tmp_path, said, many())) == []


def test_a_point_of_a_curve_has_the_patients_of_its_split(tmp_path: Path, write_study: Any) -> None:
    said, made = study(), recipe()
    said["vary"] = {"seed": [1, 2, 3]}
    said["compare"]["split"] = "noise@0.5"
    made["report"]["stress"] = {"noise": {"stages": ["finer"], "split": "test", "dose": [1, 0.5]}}
    (told,) = told_of(write_study(tmp_path, said, made))
    assert "'noise@0.5' of stage 'finer' has 4 patients" in told


def test_steadiness_needs_a_seed_more(tmp_path: Path, write_study: Any) -> None:
    said = study() | {"claim": {"says": "it is steadier", "steadier": ["cls"]}}
    said["vary"] = {"seed": [1, 2, 3]}
    (told,) = told_of(write_study(tmp_path, said, many()))
    assert told == "no verdict can come of this: 3 seeds, a verdict on how far they differ needs 4"


@pytest.mark.parametrize("name", [name for name, _ in bundled() if name.partition("/")[0] in ("claims", "tables")])
def test_bundled_claims_and_tables_treat_their_methods_alike_and_can_come_to_a_verdict(name: str) -> None:
    read, runtime = load_study(name), Runtime.start(device="cpu")
    benches: dict[str, Workbench] = {}
    for trial in Expansion(read).trials():
        assert trial.recipe is not None
        benches.setdefault(trial.method, Workbench(trial.recipe, runtime))
    check_fairness(read, benches)
    assert without_verdict(read, benches) == []


def test_a_plan_says_it_on_the_command_line(tmp_path: Path, write_study: Any) -> None:
    write_study(tmp_path)
    done = run_command(["study", "run", "study.yaml", "--out", "out", "--jobs", "1", "--dry"], tmp_path)
    assert done.returncode == 0, done.stderr
    assert "no verdict can come of this" in done.stdout
