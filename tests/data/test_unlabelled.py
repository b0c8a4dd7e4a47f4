"""A case without a label is unlabelled, and never a normal one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest

from medkit.data.dataset import Dataset
from medkit.data.layouts import physionet_ct_ich
from medkit.data.source import ManifestSource
from medkit.data.splits import assign_folds
from medkit.errors import InputError, Problems
from medkit.evaluation.measure import measured
from medkit.parts.metrics_classification import AUC
from medkit.parts.metrics_segmentation import DiceScore, FalsePositiveVolume


def nifti(path: Path, voxels: np.ndarray) -> None:
    nibabel.save(nibabel.Nifti1Image(voxels, np.diag([0.5, 0.5, 5, 1])), path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("a", "b", "c", "d"):
        nifti(tmp_path / f"{name}.nii", np.full((8, 8, 2), ord(name), np.int16))
    drawn = np.zeros((8, 8, 2), np.uint8)
    nifti(tmp_path / "empty.nii", drawn)
    drawn[2:4, 2:4] = 1
    nifti(tmp_path / "drawn.nii", drawn)
    return tmp_path


def source(folder: Path, *rows: str, header: str = "image,mask,patient,bleed", **arguments: Any) -> ManifestSource:
    (folder / "m.csv").write_text("\n".join([header, *rows]) + "\n")
    return ManifestSource(folder / "m.csv", **arguments)


MIXED = ("a.nii,drawn.nii,p,1", "b.nii,,q,0", "c.nii,,r,", "d.nii,empty.nii,s,0")


def test_no_mask_is_a_normal_scan_by_its_label_and_none_at_all_without_one(folder: Path) -> None:
    made = source(folder, *MIXED, label="bleed")
    masks = [made.load(case).mask for case in made.cases()]
    assert [None if mask is None else bool(mask.voxels.any()) for mask in masks] == [True, False, None, False]
    assert [case.label for case in made.cases()] == [1.0, 0.0, None, 0.0]
    assert made.have_masks(made.cases()).tolist() == [True, True, False, True]
    assert made.have_masks([made.cases()[2], made.cases()[0]]).tolist() == [False, True]


def test_no_mask_without_any_label_has_to_be_explained(folder: Path) -> None:
    rows = ("a.nii,drawn.nii,p,1", "b.nii,,q,0", "c.nii,,r,")
    with pytest.raises(Problems, match=r"m\.csv:3: no mask: 2 of 3 rows have none.*'no_mask: normal' or"):
        source(folder, *rows).cases()
    normal, unlabelled = (source(folder, *rows, no_mask=how) for how in ("normal", "unlabelled"))
    assert [case.label for case in normal.cases()] == [None, 0.0, 0.0]
    assert [case.label for case in unlabelled.cases()] == [None, None, None]
    assert [normal.load(case).mask is None for case in normal.cases()] == [False, False, False]
    assert [unlabelled.load(case).mask is None for case in unlabelled.cases()] == [False, True, True]


def test_a_positive_scan_without_a_mask_is_refused_unless_masks_are_said_to_be_missing(folder: Path) -> None:
    row = "a.nii,,p,1"
    with pytest.raises(Problems, match=r"m\.csv:2: labelled 1, but has no mask.*no_mask: unlabelled"):
        source(folder, row, label="bleed").cases()
    made = source(folder, row, label="bleed", no_mask="unlabelled")
    assert made.load(made.cases()[0]).mask is None
    assert made.cases()[0].label == 1.0


def test_a_row_that_is_labelled_later_is_another_sample(folder: Path) -> None:
    before = source(folder, "a.nii,,p,", label="bleed")
    identity = before.identity(before.cases()[0])
    after = source(folder, "a.nii,,p,0", label="bleed")
    assert after.identity(after.cases()[0]) != identity


@pytest.mark.parametrize("cached", [False, True])
@pytest.mark.parametrize("knows", [False, True])
def test_who_has_a_label_and_who_a_mask(folder: Path, cached: bool, knows: bool, monkeypatch: Any) -> None:
    made = source(folder, *MIXED[:3], "d.nii,,s,1", label="bleed", no_mask="unlabelled")
    if not knows:
        monkeypatch.delattr(ManifestSource, "have_masks")
    data = Dataset(made, {"all": {}}, cache_dir=folder / "cache" if cached else None)
    cases = data.cases("all")
    assert data.labelled(cases).tolist() == [True, True, False, True]
    assert data.labelled(cases, ["mask"]).tolist() == [True, True, False, False]
    assert data.labelled(cases, ["label", "mask"]).tolist() == [True, True, False, False]
    with pytest.raises(InputError, match=r"1 of 4 cases have no label, such as 'c\.nii'.*leave out 'balance'"):
        data.positive(cases)


# -- metrics -------------------------------------------------------------------------------------------------------

ITEM = {"id": "x", "probability": 0.9, "mask_probability": np.ones((1, 2, 2)), "slice_volumes": np.ones(1)}
UNKNOWN = {**ITEM, "label": float("nan")}


class Careless:
    """Takes every label that is not above 0 for a negative one."""

    name = "careless"

    def per_case(self, case: Any) -> dict[str, Any]:
        return {"value": float((case["label"] > 0) == (case["probability"] > 0.5))}


class Copies:
    """Looks at no label, but copies the case."""

    name = "copies"

    def per_case(self, case: Any) -> dict[str, Any]:
        return {"value": {**case}["probability"]}


@pytest.mark.parametrize("metric", [AUC(), DiceScore(), FalsePositiveVolume(), Careless()], ids=lambda m: m.name)
def test_a_metric_gets_no_row_of_a_case_without_the_truth_that_it_reads(metric: Any) -> None:
    assert measured(metric, UNKNOWN, "s") is None


def test_what_reads_no_truth_measures_unlabelled_cases_too() -> None:
    assert measured(Copies(), UNKNOWN, "s") == {"value": 0.9}


# -- layouts and folds ---------------------------------------------------------------------------------------------


def test_a_slice_without_a_diagnosis_is_no_normal_slice(tmp_path: Path) -> None:
    for kind in ("ct_scans", "masks"):
        (tmp_path / kind).mkdir()
        nifti(tmp_path / kind / "049.nii", np.zeros((4, 4, 2), np.uint8))
    header = "PatientNumber,SliceNumber,Intraventricular,Intraparenchymal,Subarachnoid,Epidural,Subdural"
    (tmp_path / "hemorrhage_diagnosis_raw_ct.csv").write_text(f"{header}\n49,1,0,0,0,0,0\n49,2,0,,0,0,0\n")
    with pytest.raises(InputError, match="patient 049 has slices without a diagnosis"):
        physionet_ct_ich(tmp_path)


def test_folds_are_drawn_among_the_unlabelled_by_themselves() -> None:
    patients = [f"p{i}" for i in range(40)]
    labels = [None, float("nan"), 0, 1] * 10
    folds = assign_folds(patients, labels, {"train": 0.5, "test": 0.5})
    for kind in (slice(0, None, 4), slice(2, None, 4), slice(3, None, 4)):
        assert folds[kind].count("train") in range(3, 8)
    unlabelled = [fold for fold, label in zip(folds, labels, strict=True) if label is None or label != label]
    assert unlabelled.count("train") == 10
    assert assign_folds(["p", "p"], [float("nan"), 1], {"train": 1.0}) == ["train", "train"]
