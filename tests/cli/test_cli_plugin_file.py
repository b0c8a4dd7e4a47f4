"""A run made with ``--plugin FILE`` keeps the file, and later commands know it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

PLUGIN = """
from medkit.api import hookimpl

@hookimpl
def medkit_register(registry):
    registry.schedule("half", "sections:Half", "half the rate")

@hookimpl
def medkit_report(run):
    return [("Mine", "<p>a section of mine</p>")]

class Half:
    '''Half the rate.'''
    def __init__(self) -> None: ...
    def rate(self, lr, epoch, epochs):
        return lr / 2
"""
RECIPE = """
medkit: 1
name: kept
data:
  d:
    source: {use: "phantoms:head_ct", patients: 6, size: [32, 32], slices: 4}
    splits: {train: {fold: train}, test: {fold: test}}
    prepare: [{use: window, low: 0, high: 80}]
stages:
  - name: s
    batch: 4
    objective: {use: multitask, encoder: {use: timm, model: test_resnet}, heads: {cls: {use: slice_class}}}
    schedule: half
    metrics: [auc]
report: {maps: {cases: 0}}
"""


@pytest.fixture
def made(medkit, tmp_path: Path) -> Path:
    (tmp_path / "sections.py").write_text(PLUGIN)
    (tmp_path / "r.yaml").write_text(RECIPE)
    done = medkit("run", "r.yaml", "--out", "run", "--plugin", "sections.py")
    assert done.returncode == 0, done.stderr
    return tmp_path / "run"


def test_later_commands_load_the_file_that_the_run_has_kept(medkit, made: Path, tmp_path: Path) -> None:
    kept = json.loads((made / "environment.json").read_text())["plugin_files"]
    assert kept == {"sections": hashlib.sha256(PLUGIN.encode()).hexdigest()}
    (tmp_path / "sections.py").unlink()
    (made / "report.html").unlink()
    done = medkit("report", "run")
    assert done.returncode == 0, done.stderr
    assert "a section of mine" in (made / "report.html").read_text()
    done = medkit("evaluate", "run", "--split", "test", "--json")
    assert json.loads(done.stdout)["s"]["auc"]["n"] == 12
    (made / "plugins" / "sections.py").write_text(PLUGIN.replace("mine", "yours"))
    done = medkit("report", "run")
    assert done.returncode == 2
    assert "has been edited since" in done.stderr
    assert f"--plugin {Path('run') / 'plugins' / 'sections.py'}" in done.stderr
    done = medkit("report", "run", "--plugin", "run/plugins/sections.py")
    assert done.returncode == 0
    assert "not the one that the run was made with" in done.stderr
    assert "a section of yours" in (made / "report.html").read_text()


def test_the_code_of_somebody_else_s_run_is_not_run_unasked(medkit, made: Path, tmp_path: Path) -> None:
    done = medkit("report", "run", MEDKIT_CACHE=str(tmp_path / "another"))
    assert done.returncode == 2
    assert "never used here" in done.stderr
    assert "--plugin run/plugins/sections.py" in done.stderr
