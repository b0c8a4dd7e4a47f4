"""Cases that share an identity: copies get one sample, others are refused before one gets another's voxels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medkit.data.at_dose import AtDose
from medkit.data.cases import CaseTable
from medkit.data.dataset import Dataset
from medkit.data.dose import Scanner
from medkit.data.nifti import write_nifti
from medkit.data.source import ManifestSource
from medkit.data.volume import Volume
from medkit.errors import InputError
from medkit.protocols import Case, Record
from medkit.testing import check_source


class TwoScans:
    """Two scans of each patient; the second one has another ``what``."""

    def __init__(self, what: str) -> None:
        self.what, self.loads = what, 0

    def cases(self) -> list[Case]:
        return [Case(f"p{i}-{scan}", f"p{i}") for scan in "ab" for i in range(3)]

    def identity(self, case: Case) -> str:
        return case.patient

    def load(self, case: Case) -> Record:
        self.loads += 1
        second = case.id.endswith("b")
        voxels = np.full((2, 16, 16), float(case.patient[1]), np.float32)
        voxels[:, 4:8] += 10
        mask = np.zeros(voxels.shape, np.uint8)
        if second and self.what == "voxels":
            voxels[0, 0, 0] += 1
        mask[0, 0, 0] = second and self.what == "mask"
        affine = np.diag([5.0 if second and self.what == "grid" else 4.0, 1, 1, 1])
        return Record(Volume(voxels, affine), mask=Volume(mask, affine))


def dataset(source: Any, folder: Path | None) -> Dataset:
    return Dataset(source, {"all": {}}, cache_dir=folder)


@pytest.mark.parametrize(("what", "named"), [("voxels", "voxels"), ("grid", "voxels"), ("mask", "mask")])
def test_cases_that_would_get_each_other_s_voxels_from_the_cache_are_refused(
    tmp_path: Path, what: str, named: str
) -> None:
    made = dataset(TwoScans(what), tmp_path)
    said = rf"cases 'p0-a' and 'p0-b' have the same identity\(\), but not the same {named}"
    for ask in (made.check_identities, made.prepare_all, made.missing):
        with pytest.raises(InputError, match=said) as caught:
            ask(made.cases("all"))
        assert "TwoScans.identity() has to differ" in str(caught.value.hint)
    one, _, _, other, *_ = made.cases("all")
    made.sample(one)
    with pytest.raises(InputError, match=said):
        made.sample(other)


class Table(TwoScans):
    """The same, as columns."""

    def cases(self) -> Any:
        cases = super().cases()
        return CaseTable({"id": [case.id for case in cases], "patient": [case.patient for case in cases]})


def test_cases_of_a_table_are_compared_once(tmp_path: Path) -> None:
    made = dataset(Table("voxels"), tmp_path)
    for _ in range(2):
        with pytest.raises(InputError, match=r"cases 'p\d-a' and 'p\d-b' have the same identity"):
            made.check_identities(made.cases("all"))
    source = Table("nothing")
    made = dataset(source, tmp_path)
    made.check_identities(made.cases("all")[:5])
    made.check_identities(made.cases("all"))
    made.missing(made.cases("all"))
    assert source.loads == 6


@pytest.mark.parametrize("what", ["voxels", "mask"])
def test_the_check_of_a_source_compares_all_identities(what: str) -> None:
    with pytest.raises(AssertionError, match="two cases share an identity: cases 'p0-a' and 'p0-b'"):
        check_source(TwoScans(what))


def test_copies_may_share_an_identity(tmp_path: Path) -> None:
    check_source(TwoScans("nothing"))
    made = dataset(TwoScans("nothing"), tmp_path)
    made.check_identities(made.cases("all"))
    made.prepare_all(made.cases("all"))
    one, _, _, other, *_ = made.cases("all")
    assert np.array_equal(made.sample(one).image, made.sample(other).image)


def test_without_a_cache_nothing_is_kept_by_identity() -> None:
    made = dataset(TwoScans("voxels"), None)
    made.check_identities(made.cases("all"))
    one, _, _, other, *_ = made.cases("all")
    assert not np.array_equal(made.sample(one).image, made.sample(other).image)


def test_a_file_that_a_table_lists_twice_is_not_read_to_learn_that_it_is_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    write_nifti(Volume(rng.normal(30, 5, (2, 16, 16)).astype(np.float32)), tmp_path / "a.nii.gz")
    (tmp_path / "cases.csv").write_text("id,patient,image\none,p,a.nii.gz\ntwo,p,a.nii.gz\n")
    made = dataset(ManifestSource(tmp_path / "cases.csv", case="id"), tmp_path / "cache")
    monkeypatch.setattr(ManifestSource, "load", None)
    made.check_identities(made.cases("all"))
    assert made.missing(made.cases("all")) == [0, 1]


def test_noise_drawn_by_a_case_s_id_makes_two_identities_of_one_file() -> None:
    one, _, _, other, *_ = TwoScans("nothing").cases()
    noisy = AtDose(TwoScans("nothing"), 0.5, Scanner())
    assert noisy.identity(one) != noisy.identity(other)
