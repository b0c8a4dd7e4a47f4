"""The commands from a folder to a prediction, on real radiographs and real scans, each as a process of its own."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

RADIOGRAPHS = ("cxr_nih/00000001_000.png", "cxr_nih/00027426_000.png", "dicom_awkward_pydicom/RG3_J2KI.dcm")
SCANS = ("head_ct_ge_tilt", "ct_body_nnunet", "ct_template_scct")


@pytest.fixture
def medkit(command: Callable[..., Any]) -> Callable[..., str]:
    """``medkit("data", "split", ...)``: what it prints; it has to end well."""

    def run(*words: object) -> str:
        done = command(*words)
        assert done.returncode == 0, done.stdout + done.stderr
        return str(done.stdout)

    return run


def test_radiographs_are_classified(medkit: Callable[..., str], shared: Path, tmp_path: Path) -> None:
    for name in RADIOGRAPHS:
        place = tmp_path / "scans" / Path(name).stem
        place.mkdir(parents=True)
        shutil.copy(shared / "realdata" / name, place)
    (tmp_path / "labels.csv").write_text("id,label\n00000001_000,1\n00027426_000,0\nRG3_J2KI,0\n")
    cases, recipe, run = (tmp_path / name for name in ("cases.csv", "classify.yaml", "run"))
    told = medkit("data", "folder", tmp_path / "scans", "--labels", tmp_path / "labels.csv", "--out", cases)
    assert "3 cases of 3 patients" in told
    medkit("data", "split", cases, "--by", "patient")
    medkit("new", "recipe", "--task", "classify", "--data", cases, "--out", recipe)
    assert "3 of 3 cases can be read and prepared" in medkit("check", recipe, "--data")
    medkit("run", recipe, "--out", run, "--set", "stages.classify.epochs=1", "--device", "cpu")
    image = tmp_path / "scans" / "RG3_J2KI" / "RG3_J2KI.dcm"
    medkit("predict", run, "--input", image, "--output", tmp_path / "leg.json")
    assert 0 <= json.loads((tmp_path / "leg.json").read_text())["probability"] <= 1


def test_an_encoder_learns_from_scans_of_two_formats(medkit: Callable[..., str], shared: Path, tmp_path: Path) -> None:
    for name in SCANS:
        shutil.copytree(shared / "realdata" / name, tmp_path / "scans" / name)
    cases, recipe, run = (tmp_path / name for name in ("cases.csv", "views.yaml", "run"))
    told = medkit("data", "folder", tmp_path / "scans", "--patient", "folder", "--out", cases)
    assert "3 cases of 3 patients" in told
    medkit("data", "split", cases)
    medkit("new", "recipe", "--task", "views", "--data", cases, "--out", recipe)
    checked = medkit("check", recipe, "--data", "--leave-out", tmp_path / "sound.csv")
    assert "cases can be read and prepared" in checked
    medkit("run", recipe, "--out", run, "--set", "stages.views.epochs=1", "--device", "cpu")
    assert (run / "report.html").is_file()
