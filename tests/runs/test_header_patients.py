"""Patients by the PatientID of DICOM headers: told where the manifest names them otherwise, known in predictions."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import recipe_on

import medkit
from medkit.runs.predict import predict

FOLDS = ["train", "train", "train", "val", "test", "test"]
SHARED = "share a PatientID in their DICOM headers"


@pytest.fixture
def run(tmp_path: Path, write_ct: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    monkeypatch.setenv("MEDKIT_CACHE", str(tmp_path / "cache"))

    def go(*identities: str, name: str = "run") -> Path:
        lines = ["image,patient,label,fold"]
        for i, (identity, fold) in enumerate(zip(identities, FOLDS, strict=True)):
            if not (tmp_path / f"s{i}").exists():
                write_ct(tmp_path / f"s{i}", noise(i), PatientID=identity, StudyInstanceUID=f"1.2.{i + 1}")
            lines.append(f"s{i},p{i},{i % 2},{fold}")
        (tmp_path / "m.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
        source: dict[str, Any] = {"use": "manifest", "path": str(tmp_path / "m.csv"), "label": "label"}
        return medkit.run(recipe_on(source), tmp_path / name, quiet=True).folder

    return go


def noise(seed: int) -> np.ndarray:
    voxels = np.random.default_rng(seed).normal(30, 9, (4, 32, 32)).round()
    voxels[:, :4] = -1000
    return voxels


def test_one_patient_id_in_several_splits_is_told_beside_the_numbers_and_not_named(run, tmp_path: Path) -> None:
    for name in ("first", "from_the_cache"):
        folder = run(*["SECRET-7"] * 5, "OTHER", name=name)
        for file in ("log.txt", "report.html"):
            text = (folder / file).read_text(encoding="utf-8")
            assert f"5 patients in different splits (train, val, test) {SHARED}, such as row 2 and row 5" in text
        said = b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())
        assert b"SECRET-7" not in said


@pytest.mark.parametrize(("number", "seen"), [("ID-1", True), ("ID-3", True), ("ID-9", False)])
def test_a_patient_trained_on_under_another_name_is_known_by_the_header(
    run, tmp_path: Path, write_ct: Callable[..., None], number: str, seen: bool
) -> None:
    folder = run(*(f"ID-{i}" for i in range(6)))
    assert SHARED not in (folder / "log.txt").read_text(encoding="utf-8")
    write_ct(tmp_path / "new", noise(99), PatientID=number)
    assert predict(folder, tmp_path / "new", tmp_path / "out", device="cpu")["seen_in_training"] is seen


def test_whoever_cannot_be_compared_may_have_been_seen(run, tmp_path: Path, write_ct: Callable[..., None]) -> None:
    folder = run("ID-0", "", "ANON", "ANON", "ID-4", "ID-5")
    for number in ("ID-9", "ANON", ""):
        write_ct(tmp_path / f"new{number}", noise(99), PatientID=number)
        said = predict(folder, tmp_path / f"new{number}", tmp_path / f"out{number}", device="cpu")
        assert said["seen_in_training"] == "unknown"
