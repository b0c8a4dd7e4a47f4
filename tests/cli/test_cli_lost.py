"""A finished run from whose folder somebody has taken files is resumed with a word about them, or refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "run"))


@pytest.mark.parametrize("gone", ["*", "classify.encoder.*"])
def test_without_weights_it_says_what_is_gone_what_works_and_how_to_get_them_back(medkit, run, gone):
    for path in (run / "weights").glob(gone):
        path.unlink()
    done = medkit("resume", "run")
    assert done.returncode == 0, done.stderr
    text = "weights of finished stages are missing (weights/"
    assert text in done.stderr
    assert "weights/classify.encoder.safetensors" in done.stderr
    assert text in (run / "log.txt").read_text()
    again = "medkit run run/recipe.yaml --out NEW_FOLDER"
    assert f"train again in a new folder: {again}" in done.stderr
    assert done.stderr.splitlines()[-1] == f"next: {again}"
    assert "medkit predict" not in done.stderr
    assert "'medkit report run'" in done.stderr
    assert medkit("report", "run").returncode == 0


def test_lost_epochs_are_told_in_the_log_and_above_the_results_once(medkit, run):
    (run / "metrics.jsonl").unlink()
    text = "metrics.jsonl has lost the epochs of pretext, classify: there are no curves of their training."
    for _ in range(2):
        done = medkit("resume", "run")
        assert done.returncode == 0, done.stderr
        assert text in done.stderr
    assert text in (run / "log.txt").read_text()
    assert json.loads((run / "environment.json").read_text())["notices"].count(text) == 1
    assert text in (run / "report.html").read_text()


def test_lost_cases_are_refused_until_they_have_been_measured_again(medkit, run):
    before = (run / "cases.csv").read_text().splitlines()
    (run / "cases.csv").unlink()
    for split in ("internal", "external1"):
        done = medkit("resume", "run")
        assert done.returncode == 1
        assert f"the cases of finished stage 'pretext' on '{split}' are missing" in done.stderr
        command = f"evaluate run --split {split}"
        assert f"'medkit {command}' measures them again" in done.stderr
        assert medkit(*command.split()).returncode == 0
    assert medkit("resume", "run").returncode == 0
    assert sorted((run / "cases.csv").read_text().splitlines()) == sorted(before)
