"""Studies that cross factors: their runs, and what each factor does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from studies.conftest import study

from medkit.errors import InputError
from medkit.evaluation.results import MetricValue
from medkit.evaluation.statistics import holm
from medkit.studies.effects import conflicts, effects
from medkit.studies.factorial import plan_of
from medkit.studies.folder import StudyFolder
from medkit.studies.reader import load_study
from medkit.studies.results import Measured, StudyResults
from medkit.studies.trials import Expansion, Trial


def crossed() -> dict[str, Any]:
    """Three pretexts crossed: all eight sets of them."""
    said = study()
    scratch = said.pop("methods")["scratch"]
    heads = {"cls": "smartnet:slice_class", "rec": "smartnet:pixel_shuffle", "genesis": "baselines:model_genesis"}
    said["cross"] = {
        "base": {"stages.pretext.objective.heads": {}, "stages.pretext.metrics": []},
        "none": scratch,
        "factors": {name: {"stages.pretext.objective.heads": {name: {"use": use}}} for name, use in heads.items()},
    }
    said["vary"] = {"seed": [1]}
    del said["compare"]["reference"]
    return said


def test_each_run_of_the_plan_is_a_method_with_the_parts_of_its_factors(tmp_path: Path, write_study: Any) -> None:
    trials = {trial.method: trial.recipe for trial in Expansion(load_study(write_study(tmp_path, crossed()))).trials()}
    assert len(trials) == 8
    recipe = trials["cls+genesis"]
    assert recipe is not None
    assert list(recipe.stage("pretext").objective.arguments["heads"]) == ["cls", "genesis"]
    assert trials["none"] is not None
    assert [stage.name for stage in trials["none"].stages] == ["finer"]


def test_methods_beside_factors_and_a_single_factor_are_refused(tmp_path: Path, write_study: Any) -> None:
    said = crossed() | {"methods": {"a": None}}
    with pytest.raises(InputError, match=r"cross: its runs are the methods; leave 'methods' out"):
        load_study(write_study(tmp_path, said))
    said = crossed()
    del said["cross"]["factors"]["rec"], said["cross"]["factors"]["genesis"]
    with pytest.raises(InputError, match=r"cross.factors: 1 factors cannot be crossed; 2 to 16 can"):
        load_study(write_study(tmp_path, said))


def results(without: str = "") -> StudyResults:
    """Four factors in eight runs, of which ``a`` brings 0.1; 3 seeds, 8 patients."""
    plan, rng = plan_of("abcd"), np.random.default_rng(0)
    measured = []
    for run in plan.runs:
        for seed in ("1", "2", "3"):
            trial = Trial(f"{plan.name(run)}-{seed}", plan.name(run), {"seed": seed}, {})
            cases = [
                {"case": f"c{i}", "patient": f"p{i}", "dice": 0.5 + 0.1 * ("a" in run) + 0.01 * rng.standard_normal()}
                for i in range(8)
            ]
            if plan.name(run) != without:
                measured.append(Measured(trial, {"dice": MetricValue(0.5, 0, 1, 8, 0)}, cases))
    return crossed_results("abcd", measured)


def crossed_results(factors: str, measured: list[Measured]) -> StudyResults:
    said = {"cross": {"factors": dict.fromkeys(factors)}}
    compare = {"metric": "dice", "stage": "s", "split": "test"}
    return StudyResults(Path(), {}, said, compare, [one.trial for one in measured], {}, measured, [])


def test_an_effect_is_what_runs_with_a_factor_have_over_those_without() -> None:
    (found,) = effects(results())
    by_factor = {one.a: one for one in found.verdicts}
    assert by_factor["a"].estimate == pytest.approx(0.1, abs=0.01)
    assert by_factor["a"].better == "a"
    assert all(abs(by_factor[name].estimate) < 0.01 and by_factor[name].better is None for name in "bcd")
    assert "'a' is better than 'without a'" in found.sentences[0]
    assert [one.comparisons for one in found.verdicts] == [4] * 4
    assert [one.p_holm for one in found.verdicts] == pytest.approx(holm([one.p for one in found.verdicts]))


def test_eight_factors_that_do_nothing_seldom_seem_to_do_something() -> None:
    """Without a correction some factor seems to in 13 of these 60 studies."""
    plan, rng, wrong = plan_of("abcdefgh"), np.random.default_rng(0), 0
    for _ in range(60):
        measured = []
        for run in plan.runs:
            for seed in ("1", "2", "3"):
                trial = Trial(f"{plan.name(run)}-{seed}", plan.name(run), {"seed": seed}, {})
                cases = [{"case": f"c{i}", "patient": f"p{i}", "dice": rng.normal()} for i in range(8)]
                measured.append(Measured(trial, {"dice": MetricValue(0.5, 0, 1, 8, 0)}, cases))
        (found,) = effects(crossed_results("abcdefgh", measured))
        wrong += any(one.better for one in found.verdicts)
    assert wrong <= 6


def test_without_a_run_of_the_plan_no_effect_is_told() -> None:
    (found,) = effects(results(without="a+b+c+d"))
    assert not found.verdicts
    assert "run 'a+b+c+d' of the plan lacks seed 1, patient p0" in found.why_not


def test_conflicts_are_the_last_cosines_of_every_training_of_its_own(tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path)
    lines = []
    for seed, cosine in ((1, -0.5), (2, 0.1)):
        trial = Trial(f"t{seed}", "m", {"seed": str(seed)}, {"pretext": str(seed)})
        lines.append(trial)
        folder.run_folder(trial).path.mkdir(parents=True)
        for epoch, value in ((1, 0.9), (2, cosine)):
            folder.run_folder(trial).append_metrics({"stage": "pretext", "epoch": epoch, "train/cosine/cls~rec": value})
    linked = Trial("t3", "m", {"seed": "3"}, {"pretext": "1"})
    folder.run_folder(linked).path.mkdir(parents=True)
    folder.run_folder(linked).append_metrics({"stage": "pretext", "epoch": 1, "train/cosine/cls~rec": -1.0})
    folder.run_folder(linked).keep_key("pretext", {"from": "elsewhere"})
    folder.add([*lines, linked])
    (found,) = conflicts(folder)
    assert (found.tasks, found.trainings, found.low, found.high) == (("cls", "rec"), 2, -0.5, 0.1)
