"""``medkit verdict`` on a table."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """Four trainings of three methods on eight patients."""
    rng = np.random.default_rng(0)
    gains = {"scratch": 0.0, "pretrained": 0.5, "frozen": 0.1}
    lines = [
        f"{method},{seed},p{patient},{gain + rng.normal(0, 0.1):.4f}"
        for method, gain in gains.items()
        for seed in range(4)
        for patient in range(8)
    ]
    path = tmp_path / "values.csv"
    path.write_text("\n".join(["method,seed,patient,value", *lines, ""]))
    return path


def test_json_has_the_numbers_and_the_sentence_that_is_printed_otherwise(medkit, table):
    printed = medkit("verdict", table, "--a", "pretrained", "--b", "scratch").stdout
    found = json.loads(medkit("verdict", table, "--a", "pretrained", "--b", "scratch", "--json").stdout)
    assert found["low"] < 0.5 < found["high"]
    assert found["probability"] > 0.95
    assert sum(found["shares"].values()) == pytest.approx(1)
    assert printed.startswith(found["sentence"])


def test_without_a_all_others_are_judged_and_corrected(medkit, table):
    found = json.loads(medkit("verdict", table, "--b", "scratch", "--json", "--difference", "0.02").stdout)
    assert [(one["a"], one["comparisons"]) for one in found] == [("pretrained", 2), ("frozen", 2)]
    assert {"seeds", "patients"} == set(found[0]["designs"][0])


def test_a_method_with_another_name_is_refused_with_the_nearest(medkit, table):
    done = medkit("verdict", table, "--a", "pretrain", "--b", "scratch")
    assert done.returncode == 2
    assert done.stderr == f"error: {table}: there is no method 'pretrain'; did you mean 'pretrained'?\n"


def test_other_patients_are_refused_and_may_be_left_out(medkit, table):
    table.write_text(
        "".join(line for line in table.read_text().splitlines(True) if not line.startswith("scratch,0,p3"))
    )
    done = medkit("verdict", table, "--a", "pretrained", "--b", "scratch")
    assert done.returncode == 2
    assert "'scratch' has no patient p3 under seed 0" in done.stderr
    assert "--common" in done.stderr
    assert "7 patients" in medkit("verdict", table, "--a", "pretrained", "--b", "scratch", "--common").stdout


def test_a_run_with_two_patients_is_no_verdict(medkit, finished):
    done = medkit(
        "verdict", finished, "--metric", "auc", "--split", "internal", "--stage", "classify", "--b", "classify"
    )
    assert done.returncode == 2
    assert "'auc' is not defined without one of its 2 patients" in done.stderr


def test_an_area_over_slices_is_not_compared_with_one_over_volumes(medkit, finished):
    for common in ([], ["--common"]):
        words = ("--metric", "auc", "--split", "internal", "--a", "classify", "--b", "pretext", *common)
        done = medkit("verdict", finished, *words)
        assert done.returncode == 2
        assert "no case has a value of 'auc' in all trainings" in done.stderr


def test_a_run_folder_needs_a_metric_and_a_table_has_none(medkit, table, finished):
    assert "--metric NAME" in medkit("verdict", finished, "--b", "x").stderr
    done = medkit("verdict", table, "--metric", "auc", "--b", "scratch")
    assert (done.returncode, "--metric is for run folders" in done.stderr) == (2, True)
