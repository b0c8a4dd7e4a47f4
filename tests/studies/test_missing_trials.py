"""A claim is not settled while a trial that it rests on has failed or has not been measured yet."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from commands import run_command
from studies.conftest import measure, recipe, study

from medkit.studies.folder import Outcome, StudyFolder
from medkit.studies.trials import Trial

Planned = Callable[..., StudyFolder]
GAINS = (0.0, 9.0)
CLAIMS: dict[str, dict[str, Any]] = {
    "better": {"better": ["cls"]},
    "worse": {"worse": ["cls"]},
    "steadier": {"steadier": ["cls"]},
    "loses_less": {"better": ["cls"], "loses_less": ["cls"], "than_on": "before"},
}


def begun(planned: Planned, folder: Path, claim: dict[str, Any]) -> StudyFolder:
    """A study with five seeds at two learning rates."""
    said, made = study(), None
    said["vary"]["seed"] = [1, 2, 3, 4, 5]
    del said["methods"]["rec"]
    if "than_on" in claim:
        made = recipe()
        made["data"]["d"]["splits"]["before"] = {"fold": "test"}
        made["report"]["splits"].append("before")
        said["compare"]["also"] = [{"metric": "auc", "stage": "finer", "split": "before"}]
    said["claim"] = {"says": "It helps.", **claim}
    return planned(folder, said, made)


def reported(folder: StudyFolder, tmp_path: Path) -> tuple[str, dict[str, Any], str]:
    """What the terminal shows, ``summary.json`` and the page."""
    done = run_command(["study", "report", folder.path], tmp_path)
    assert done.returncode == 0, done.stderr
    return (
        done.stdout,
        json.loads((folder.path / "summary.json").read_text()),
        (folder.path / "report.html").read_text(),
    )


def finish(
    folder: StudyFolder,
    wanted: Callable[[Trial], bool],
    splits: tuple[str, ...] = ("test", "before"),
    better: str = "cls",
) -> None:
    for trial in folder.trials():
        if wanted(trial):
            measure(folder, trial, GAINS[trial.method == better], splits)


def test_a_point_whose_trials_all_failed_leaves_a_claim_undecided_and_is_named(
    planned: Planned, tmp_path: Path
) -> None:
    folder = begun(planned, tmp_path, CLAIMS["better"])
    finish(folder, lambda trial: trial.point["lr"] == "slow")
    for trial in folder.trials():
        if trial.point["lr"] == "fast":
            folder.keep_outcome(trial, Outcome("failed", "a loss is not finite"))
    shown, summary, page = reported(folder, tmp_path)
    why = (
        "shown in 1 of 2 comparisons; 1 could not be judged: no result of 'scratch-seed1-lrfast', 'cls-seed1-lrfast', "
    )
    assert (summary["claim"]["found"], len(summary["claim"]["missing"])) == ("undecided", 10)
    assert summary["claim"]["why"].startswith(why)
    assert summary["claim"]["why"].endswith("and 7 more (failed)")
    assert f"undecided: It helps. ({why}" in shown
    assert "lr fast: No verdict: nothing has been measured here." in shown
    assert "The claim is undecided" in page
    slow, fast = summary["compared"][0]["verdicts"]
    assert (len(slow["verdicts"]), slow["missing"], fast["verdicts"]) == (1, [], [])
    assert fast["missing"][0] == {"trial": "scratch-seed1-lrfast", "method": "scratch", "why": "failed"}


@pytest.mark.parametrize("claim", CLAIMS)
@pytest.mark.parametrize("missing", ["a point", "a seed"])
def test_no_claim_is_supported_before_all_its_trials_are_measured(
    claim: str, missing: str, planned: Planned, tmp_path: Path
) -> None:
    folder = begun(planned, tmp_path, CLAIMS[claim])
    there = ("lr", "slow") if missing == "a point" else ("seed", "5")
    better = "scratch" if claim == "worse" else "cls"
    finish(folder, lambda trial: (there in trial.point.items()) == (missing == "a point"), better=better)
    _, summary, _ = reported(folder, tmp_path)
    assert summary["claim"]["found"] == "undecided"
    assert "(not measured yet)" in summary["claim"]["why"]


def test_a_test_set_that_nothing_was_measured_on_is_missed_too(planned: Planned, tmp_path: Path) -> None:
    folder = begun(planned, tmp_path, CLAIMS["loses_less"])
    finish(folder, lambda trial: True, ("test",))
    _, summary, _ = reported(folder, tmp_path)
    assert summary["claim"]["found"] == "undecided"
    assert "(without a result on 'before')" in summary["claim"]["why"]


def test_with_all_trials_the_claim_is_supported(planned: Planned, tmp_path: Path) -> None:
    folder = begun(planned, tmp_path, CLAIMS["better"])
    finish(folder, lambda trial: True)
    _, summary, _ = reported(folder, tmp_path)
    assert (summary["claim"]["found"], summary["claim"]["missing"]) == ("supported", [])


def test_verdicts_on_patients_seen_in_training_say_so_at_every_number(planned: Planned, tmp_path: Path) -> None:
    folder = begun(planned, tmp_path, CLAIMS["better"])
    for trial in folder.trials():
        measure(folder, trial, GAINS[trial.method == "cls"], seen=4)
    shown, summary, page = reported(folder, tmp_path)
    line = "finer on test is no test of new patients: 4 of 16 patients were trained by stage 'finer'. Allowed because: a test"
    (verdict,) = summary["compared"][0]["verdicts"][0]["verdicts"]
    assert verdict["seen"] == [line]
    assert f"is {verdict['estimate']:.3g}† (95 % interval {verdict['low']:.3g}† to" in verdict["sentence"]
    assert summary["compared"][0]["summaries"][0]["seen"] is True
    assert f"† {line}" in summary["claim"]["why"]
    assert f"† {line}" in shown
    assert "patients: 4 of 16 patients were trained by" in page
    runs = [folder.path / "trials" / f"cls-seed{seed}-lrslow" for seed in (1, 2, 3)]
    others = [folder.path / "trials" / f"scratch-seed{seed}-lrslow" for seed in (1, 2, 3)]
    for name, paths in (("a", runs), ("b", others)):
        for seed, path in enumerate(paths):
            (path / "recipe.yaml").write_text(f"name: {name}\nseed: {seed}\nstages: []\nreport: null\n")
    words = ["verdict", *runs, *others, "--metric", "auc", "--a", "a:finer", "--b", "b:finer"]
    told = run_command(words, tmp_path).stdout
    assert "† (95 % interval" in told
    assert f"† {line}" in told
    with (folder.path / "cases.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["lr"] == "slow"]
    with (tmp_path / "slow.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    assert f"† {line}" in run_command(["verdict", tmp_path / "slow.csv", "--b", "scratch"], tmp_path).stdout
