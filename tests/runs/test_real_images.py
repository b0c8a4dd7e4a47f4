"""From real slices of a head CT to a mask beside them: each command on what a scanner wrote."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import edit_dicom
from pydicom.uid import generate_uid

import medkit
from medkit.cli.new_recipe import write_recipe
from medkit.data.folds import split
from medkit.data.io import read_volume, write_like
from medkit.data.source import read_table
from medkit.data.tree_labels import Labels
from medkit.data.tree_table import Choices
from medkit.data.tree_write import Written
from medkit.data.tree_write import write as write_tree
from medkit.engine.progress import Progress
from medkit.recipe import load_recipe
from medkit.runs.data_check import check_data
from medkit.runs.predict import predict

SLICES = {"A": (8, 15), "B": (15, 22), "C": (22, 29)}
"""Numbers of the slices of one real head that are given to three patients, thin ones and thick ones."""


@dataclass
class Made:
    """What the commands made of the slices."""

    folder: Path
    tree: Written
    recipe: Path
    run: Any


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, shared: Path) -> Iterator[Made]:
    folder = tmp_path_factory.mktemp("real")
    for patient, (first, last) in SLICES.items():
        place = folder / "scans" / patient
        place.mkdir(parents=True)
        own = {"StudyInstanceUID": generate_uid(), "SeriesInstanceUID": generate_uid(), "PatientID": patient}
        for number in range(first, last):
            file = shutil.copy(shared / "realdata" / "head_ct_ge_tilt" / f"{number:02d}.dcm", place)
            edit_dicom(Path(file), SOPInstanceUID=generate_uid(), **own)
        image = read_volume(place)
        bone = image.like((image.voxels > 300).astype(np.uint8))
        write_like(bone, folder / "masks" / patient, kind="mask", description="bone")
    (folder / "labels.csv").write_text("id,mask\n" + "".join(f"{name},masks/{name}\n" for name in SLICES))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MEDKIT_CACHE", str(folder / "cache"))
        labels = Labels(folder / "labels.csv", by="patient")
        tree = write_tree(folder / "scans", folder / "cases.csv", Choices(slices=5), labels=labels)
        split(folder / "cases.csv", shares=(0.4, 0.3, 0.3))
        recipe = write_recipe("segment", folder / "cases.csv", folder / "segment.yaml", size=64)
        settings = ["stages.segment.epochs=1", "report.maps=null"]
        yield Made(folder, tree, recipe, medkit.run(recipe, folder / "run", set=settings, device="cpu", quiet=True))


def test_a_folder_of_real_slices_becomes_cases_by_patient(made: Made) -> None:
    rows = {row["patient"]: row for row in made.tree.rows}
    assert {name: row["slices"] for name, row in rows.items()} == dict.fromkeys(SLICES, 7)
    assert all(row["rows"] == 512 and row["pixel_mm"] == 0.4883 for row in rows.values())
    assert sorted(read_table(made.folder / "cases.csv")["fold"]) == ["test", "train", "val"]


def test_all_of_them_can_be_read_and_prepared(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEDKIT_CACHE", str(made.folder / "cache"))
    (checked,) = check_data(load_recipe(made.recipe), 1, Progress(quiet=True))
    assert (checked.total, checked.before, checked.failures) == (3, 3, [])


def test_a_few_steps_are_measured_on_the_patient_that_is_left(made: Made) -> None:
    assert made.run.results["segment"]["test"]["dice"].n_patients == 1
    assert (made.folder / "run" / "report.html").is_file()


def test_a_mask_lies_on_the_slices_of_the_scan_with_what_it_comes_from(made: Made) -> None:
    scan = made.folder / "scans" / "B"
    predict(made.folder / "run", scan, made.folder / "out", device="cpu")
    written = read_volume(made.folder / "out")
    assert read_volume(scan).same_grid(written) is None
    said = json.loads((made.folder / "out" / "prediction.json").read_text())
    assert said["seen_in_training"] in (True, False)
