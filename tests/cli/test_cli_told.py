"""Rows that no split has, and what the reader warned of, stand beside the numbers, from cached samples too."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from helpers import recipe_on, write_noise

import medkit as toolkit

FOLDS = ["train", "train", "val", "val", "test", "test"]
DROPPED = "2 of 8 cases are in no split (fold: nan, trian)"
APART = "sform and qform place it up to 40 mm apart"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEDKIT_CACHE", str(tmp_path / "cache"))


def files(run: Path) -> list[str]:
    return [(run / name).read_text(encoding="utf-8") for name in ("log.txt", "report.html")]


def test_rows_whose_fold_no_split_names_are_told(medkit: Callable[..., Any], tmp_path: Path) -> None:
    source = write_noise(tmp_path / "data", [f"p{i}" for i in range(8)], [*FOLDS, "trian", "nan"])
    path = recipe_on({**source, "units": "HU"}).write(tmp_path / "r.yaml")
    assert DROPPED in medkit("check", path, "--data", "--jobs", "1").stdout
    log, report = files(toolkit.run(path, tmp_path / "run", quiet=True).folder)
    assert log.count(DROPPED) == 1
    assert DROPPED in report


def test_rows_that_a_split_takes_are_not_told(medkit: Callable[..., Any], tmp_path: Path) -> None:
    source = write_noise(tmp_path / "data", [f"p{i}" for i in range(6)], FOLDS)
    path = recipe_on({**source, "units": "HU"}).write(tmp_path / "r.yaml")
    assert "in no split" not in medkit("check", path, "--data", "--jobs", "1").stdout


def test_warnings_of_the_reader_are_told_on_the_first_run_and_on_the_second(
    medkit: Callable[..., Any], tmp_path: Path
) -> None:
    source = write_noise(tmp_path / "data", [f"p{i}" for i in range(6)], FOLDS)
    for path in (tmp_path / "data" / "0.nii", tmp_path / "data" / "4.nii"):
        image = nibabel.load(path)
        moved = image.affine.copy()
        moved[0, 3] += 40
        image = nibabel.Nifti1Image(np.array(image.dataobj), image.affine)
        image.set_sform(image.affine, 1)
        image.set_qform(moved, 1)
        nibabel.save(image, path)
    path = recipe_on(source).write(tmp_path / "r.yaml")
    for name in ("first", "from_the_cache"):
        for text in files(toolkit.run(path, tmp_path / name, quiet=True).folder):
            assert "2 cases read with a warning, such as: " in text
            assert APART in text
    assert f"case '0.nii': {APART}" in medkit("check", path, "--data").stdout
