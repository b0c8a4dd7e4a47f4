"""Public low-dose folders as manifests: every published arrangement, every pair that is none."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest

from medkit.data.layouts import write_manifest
from medkit.data.layouts_lowdose import ldct_projection, mayo_2016
from medkit.data.source import ManifestSource
from medkit.errors import InputError
from medkit.testing import check_source

Series = Callable[..., None]
Both = Callable[..., None]


@pytest.fixture
def series(write_ct: Callable[..., None]) -> Series:
    """A little CT series: a block of tissue that grows from slice to slice, with noise in the low dose."""

    def write(folder: Path, low: bool, name: str = "{i:04d}.IMA", depth: int = 4, **tags: object) -> None:
        hu = np.full((depth, 24, 24), -1000.0)
        for z in range(depth):
            hu[z, 6 : 14 + z, 6:16] = 40
        if low:
            hu += np.random.default_rng(1).normal(0, 20, hu.shape)
        write_ct(folder, hu, name, **tags)

    return write


@pytest.fixture
def both(series: Series) -> Both:
    """Both doses of a patient."""

    def write(folder: Path, patient: str, quarter: str = "{p}/quarter_3mm", full: str = "{p}/full_3mm") -> None:
        series(folder / quarter.format(p=patient), low=True)
        series(folder / full.format(p=patient), low=False)

    return write


def change(path: Path, **tags: object) -> None:
    data = pydicom.dcmread(path)
    for name, value in tags.items():
        setattr(data, name, value)
    data.save_as(path)


@pytest.fixture
def mayo(tmp_path: Path, both: Both) -> Path:
    for patient in ("L067", "L333", "L506"):
        both(tmp_path / "data", patient)
    return tmp_path / "data"


@pytest.fixture
def tcia(tmp_path: Path, series: Series) -> Path:
    folder = tmp_path / "LDCT-and-Projection-data"
    for patient in ("C002", "L004", "N005"):
        study = folder / patient / "08-30-2018-NA-NA-12345"
        series(study / "1.000000-Low Dose Images-39882", True, "1-{i:03d}.dcm")
        series(study / "1.000000-Full dose images-71581", False, "1-{i:03d}.dcm")
        (study / "2.000000-Full Dose Projections-1").mkdir()
        (study / "2.000000-Full Dose Projections-1" / "1-1.dcm").write_text("not read")
    return folder


def test_folders_by_patient_get_the_published_folds(mayo: Path) -> None:
    table = mayo_2016(mayo).set_index("patient")
    assert dict(table["fold"]) == {"L067": "train", "L333": "val", "L506": "test"}
    row = table.loc["L067"]
    assert (row["image"], row["target"]) == (str(mayo / "L067" / "quarter_3mm"), str(mayo / "L067" / "full_3mm"))
    assert (row["case"], row["body_part"], row["dose"], row["slices"]) == ("L067_3mm", "abdomen", 0.25, 4)
    assert (row["thickness_mm"], row["kernel"], row["center"]) == (3.0, "B30f", "mayo")


@pytest.mark.parametrize(
    ("quarter", "full"),
    [
        ("{fold}/quarter_3mm/{p}", "{fold}/full_3mm/{p}"),
        ("{fold}/quarter_3mm/{p}/quarter_3mm", "{fold}/full_3mm/{p}/full_3mm"),
    ],
)
def test_folders_by_fold_keep_their_folds(tmp_path: Path, both: Both, quarter: str, full: str) -> None:
    # Not the published ones, so that it shows who decides.
    folds = {"L067": "valid", "L333": "Test", "L506": "train"}
    for patient, fold in folds.items():
        both(tmp_path, patient, *(place.replace("{fold}", fold) for place in (quarter, full)))
    table = mayo_2016(tmp_path).set_index("patient")
    assert dict(table["fold"]) == {"L067": "val", "L333": "test", "L506": "train"}


def test_thicknesses_and_kernels_are_cases_of_their_own(tmp_path: Path, both: Both) -> None:
    for kernel in ("1mm B30", "3mm B30", "3mm D45"):
        mm = kernel[:3]
        both(tmp_path, "L067", f"{kernel}/quarter_{mm}/{{p}}/quarter_{mm}", f"{kernel}/full_{mm}/{{p}}/full_{mm}")
    assert list(mayo_2016(tmp_path)["case"]) == ["L067_1mm_B30", "L067_3mm_B30", "L067_3mm_D45"]


def test_patients_whose_files_lie_together_get_series_lists(tmp_path: Path, series: Series) -> None:
    for patient in ("L067", "L096"):
        series(tmp_path / "quarter_3mm", True, f"{patient}_QD_3_1.CT.{{i:04d}}.IMA")
        series(tmp_path / "full_3mm", False, f"{patient}_FD_3_1.CT.{{i:04d}}.IMA")
    with pytest.raises(InputError, match=r"lists of them are needed.*lists=FOLDER"):
        mayo_2016(tmp_path)
    table = mayo_2016(tmp_path, tmp_path / "lists")
    assert table["image"][1] == str(tmp_path / "lists" / "L096_3mm_low.txt")
    files = Path(table["target"][1]).read_text().splitlines()
    assert [Path(file).name[:7] for file in files] == ["L096_FD"] * 4


def test_the_manifest_loads_as_pairs(mayo: Path, tmp_path: Path) -> None:
    write_manifest(mayo_2016(mayo), tmp_path / "m.csv")
    source = ManifestSource(str(tmp_path / "m.csv"), case="case")
    check_source(source)
    assert [case.fold for case in source.cases()] == ["train", "val", "test"]
    record = source.load(source.cases()[0])
    assert record.target is not None
    assert record.image.voxels.std() != record.target.voxels.std()


def test_slices_are_paired_by_place_not_by_name_or_number(mayo: Path, tmp_path: Path) -> None:
    folder = mayo / "L067" / "quarter_3mm"
    for i, path in enumerate(sorted(folder.iterdir(), reverse=True)):
        change(path, InstanceNumber=i + 50)
        path.rename(folder / f"a{i}.IMA")
    write_manifest(mayo_2016(mayo), tmp_path / "m.csv")
    source = ManifestSource(str(tmp_path / "m.csv"))
    assert source.load(source.cases()[0]).target is not None


def test_a_missing_slice_names_patient_file_tag_and_number(mayo: Path) -> None:
    (mayo / "L333" / "quarter_3mm" / "0003.IMA").unlink()
    with pytest.raises(InputError) as caught:
        mayo_2016(mayo)
    told = str(caught.value)
    assert str(mayo / "L333" / "full_3mm" / "0003.IMA") + " (0020,0032) ImagePositionPatient" in told
    assert "patient L333: 3 low-dose and 4 full-dose slices, 1 without a partner" in told
    assert "InstanceNumber 3) is 3.00 mm from the nearest low-dose slice" in told


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        (
            {"ImagePositionPatient": [-12, -12, 4.0]},
            r"0002\.IMA \(0020,0032\).*L067.*is 1\.00 mm from the nearest full",
        ),
        (
            {"ImagePositionPatient": [-9, -12, 3.0]},
            r"0002\.IMA \(0020,0032\).*L067.*is 3\.00 mm from the nearest full",
        ),
        ({"ImagePositionPatient": None}, r"0002\.IMA \(0020,0032\) ImagePositionPatient"),
        ({"PixelSpacing": [0.8, 0.7]}, r"0002\.IMA \(0028,0030\) PixelSpacing: patient L067: 0\.8\\0\.7 differs"),
        ({"ImageOrientationPatient": [1, 0, 0, 0, -1, 0]}, r"0002\.IMA \(0020,0037\).*patient L067"),
        ({"Rows": 12}, r"0002\.IMA \(0028,0010\) Rows: patient L067: size 12x24 differs from 24x24"),
    ],
)
def test_slices_that_do_not_match_name_patient_file_and_tag(mayo: Path, tags: dict, expected: str) -> None:
    change(mayo / "L067" / "quarter_3mm" / "0002.IMA", **tags)
    with pytest.raises(InputError, match=expected):
        mayo_2016(mayo)


def test_the_same_slice_twice_is_named(mayo: Path) -> None:
    folder = mayo / "L067" / "full_3mm"
    (folder / "again.IMA").write_bytes((folder / "0002.IMA").read_bytes())
    with pytest.raises(InputError, match=r"again\.IMA \(0020,0032\).*patient L067.*2 at one position"):
        mayo_2016(mayo)


def test_a_patient_with_one_dose_is_named(mayo: Path) -> None:
    for path in (mayo / "L506" / "full_3mm").iterdir():
        path.unlink()
    with pytest.raises(InputError, match="patient L506 has no full-dose images"):
        mayo_2016(mayo)


def test_two_series_of_one_dose_are_not_chosen_from(mayo: Path, series: Series) -> None:
    series(mayo / "L067" / "full_3mm", False, "b{i}.IMA")
    with pytest.raises(InputError, match="patient L067 has 2 series of full dose"):
        mayo_2016(mayo)


def test_a_patient_in_two_folds_is_named(tmp_path: Path, both: Both) -> None:
    for fold in ("train", "test"):
        both(tmp_path, "L067", f"{fold}/quarter_3mm/{{p}}", f"{fold}/full_3mm/{{p}}")
    with pytest.raises(InputError, match="patient L067 is in test and train"):
        mayo_2016(tmp_path)


def test_problems_of_several_patients_are_told_at_once_and_nothing_is_written(mayo: Path) -> None:
    for patient in ("L067", "L333"):
        (mayo / patient / "full_3mm" / "0001.IMA").unlink()
    with pytest.raises(InputError, match=r"(?s)L067.*\n.*L333"):
        mayo_2016(mayo)
    assert not (mayo / "series").exists()


def test_another_folder_is_neither(tmp_path: Path) -> None:
    for layout in (mayo_2016, ldct_projection):
        with pytest.raises(InputError, match="there is no image of"):
            layout(tmp_path)


def test_projection_data_give_body_parts_with_their_doses(tcia: Path) -> None:
    table = ldct_projection(tcia).set_index("patient")
    assert dict(table["body_part"]) == {"C002": "chest", "L004": "abdomen", "N005": "head"}
    assert dict(table["dose"]) == {"C002": 0.1, "L004": 0.25, "N005": 0.25}
    assert "Low Dose Images" in table.loc["C002", "image"]
    assert "Full dose images" in table.loc["C002", "target"]


def test_projection_data_are_stratified_by_body_part(tmp_path: Path, series: Series) -> None:
    for letter in "CLN":
        for number in range(4):
            for low, name in ((True, "Low"), (False, "Full")):
                patient = f"{letter}{number:03d}"
                series(tmp_path / patient / "s" / f"1-{name} Dose Images-1", low, "1-{i:03d}.dcm", 2)
    table = ldct_projection(tmp_path, seed=3)
    counts = table.groupby(["body_part", "fold"]).size().unstack(fill_value=0)
    assert len({tuple(row) for row in counts.to_numpy()}) == 1
    assert (table["fold"] == ldct_projection(tmp_path, seed=3)["fold"]).all()


def test_ge_patients_without_low_dose_images_are_left_out_and_named(tcia: Path, series: Series) -> None:
    series(tcia / "C050" / "s" / "1-Full Dose Images-1", False, "1-{i:03d}.dcm", Manufacturer="GE MEDICAL SYSTEMS")
    table = ldct_projection(tcia)
    assert "C050" not in set(table["patient"])
    assert table.attrs["left_out"] == ["C050"]


def test_other_patients_without_low_dose_images_are_an_error(tcia: Path, series: Series) -> None:
    series(tcia / "C050" / "s" / "1-Full Dose Images-1", False, "1-{i:03d}.dcm")
    with pytest.raises(InputError, match=r"patient C050 \(SIEMENS\) has no low-dose images"):
        ldct_projection(tcia)


def test_the_sharp_kernel_of_the_published_folders_is_a_case_of_its_own(tmp_path: Path, both: Both) -> None:
    for kernel, end in (("B30", ""), ("D45", "_sharp")):
        names = [
            f"3mm {kernel}/{d}D_3mm{end}/{n}_3mm{end}/{{p}}/{n}_3mm{end}" for d, n in (("Q", "quarter"), ("F", "full"))
        ]
        both(tmp_path, "L506", *names)
    assert list(mayo_2016(tmp_path)["case"]) == ["L506_3mm_B30", "L506_3mm_D45"]
