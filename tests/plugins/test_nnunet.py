"""The bridge to nnU-Net, as far as it goes without nnU-Net; tests/nightly trains the real one."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import numpy as np
import pytest
from medkit_baselines.nnunet import program
from medkit_baselines.nnunet.dataset import manifest, read_mask, write_case, write_raw, write_splits
from medkit_baselines.nnunet.objective import NNUNet
from medkit_baselines.nnunet.program import REQUIREMENT, TrainingLog, environment

import medkit
from medkit.data.nifti import read_nifti, write_nifti
from medkit.data.source import ManifestSource
from medkit.data.volume import Volume
from medkit.errors import InputError
from medkit.protocols import Case, Record

# As nnU-Net 2.8.1 prints them with numpy 2.
LINES = """\
2026-11-25 21:22:19.201231: Epoch 0
2026-11-25 21:22:19.201351: Current learning rate: 0.01
2026-11-25 21:22:37.119231: train_loss 0.8138
2026-11-25 21:22:37.119319: val_loss 0.2534
2026-11-25 21:22:37.119355: Pseudo dice [np.float32(0.125)]
2026-11-25 21:22:37.119399: Epoch time: 15.62 s
2026-11-25 21:22:37.409568: Yayy! New best EMA pseudo Dice: 0.0
2026-11-25 21:22:38.126743: Epoch 1
2026-11-25 21:22:55.438022: train_loss -0.1434
2026-11-25 21:22:55.438196: val_loss nan
2026-11-25 21:22:55.438234: Pseudo dice [np.float32(0.0)]
2026-11-25 21:22:55.438282: Epoch time: 17.31 s
"""


@pytest.fixture
def phantoms():
    return medkit.build("source", "phantoms:head_ct", patients=4, size=(32, 32), slices=4)


@pytest.fixture
def raw(phantoms, tmp_path: Path) -> Path:
    folder = tmp_path / "Dataset001_ICH"
    folder.mkdir()
    write_raw(folder, phantoms.cases(), phantoms.load)
    return folder


def grid(**changes) -> Volume:
    affine = np.array([[0, 0, 0.5, -10], [0, 0.5, 0, -20], [5.0, 0, 0, 30], [0, 0, 0, 1]])
    volume = Volume(np.arange(60, dtype=np.int16).reshape(3, 4, 5), affine)
    return Volume(changes.get("voxels", volume.voxels), changes.get("affine", affine), changes.get("positions"))


def test_images_of_a_raw_data_set_keep_their_hounsfield_units(raw: Path, phantoms) -> None:
    written = read_nifti(raw / "imagesTr" / "case_00001_0000.nii.gz")
    expected = phantoms.load(phantoms.cases()[1]).image
    np.testing.assert_array_equal(written.voxels, expected.voxels)
    assert written.same_grid(expected) is None


def test_a_raw_data_set_is_described_as_nnu_net_wants_it(raw: Path) -> None:
    assert json.loads((raw / "dataset.json").read_text()) == {
        "channel_names": {"0": "CT"},
        "labels": {"background": 0, "lesion": 1},
        "numTraining": 4,
        "file_ending": ".nii.gz",
    }


def test_a_manifest_of_a_raw_data_set_has_patients_centres_and_folds_back(raw: Path, phantoms) -> None:
    table = manifest(raw)
    expected = [(c.id, c.patient, c.center, c.fold) for c in phantoms.cases()]
    assert list(table[["case", "patient", "center", "fold"]].itertuples(index=False, name=None)) == expected


def test_cases_read_by_that_manifest_are_the_same(raw: Path, phantoms, tmp_path: Path) -> None:
    manifest(raw).to_csv(tmp_path / "ich.csv", index=False)
    source = ManifestSource(str(tmp_path / "ich.csv"), case="case")
    for case, original in zip(source.cases(), phantoms.cases(), strict=True):
        found, expected = source.load(case), phantoms.load(original)
        np.testing.assert_array_equal(found.image.voxels, expected.image.voxels)
        np.testing.assert_array_equal(found.mask.voxels, expected.mask.voxels)


def test_a_strangers_raw_data_set_gets_folds_and_each_case_a_patient(raw: Path) -> None:
    (raw / "cases.json").unlink()
    table = manifest(raw)
    assert table["patient"].tolist() == table["case"].tolist()
    assert set(table["fold"]) <= {"train", "val", "test"}


def test_a_raw_data_set_of_many_labels_is_refused(raw: Path) -> None:
    described = json.loads((raw / "dataset.json").read_text())
    (raw / "dataset.json").write_text(json.dumps(described | {"labels": {"background": 0, "liver": 1, "tumour": 2}}))
    with pytest.raises(InputError, match="tumour"):
        manifest(raw)


def test_an_interrupted_writing_goes_on(raw: Path, phantoms) -> None:
    mask = raw / "labelsTr" / "case_00002.nii.gz"
    kept = (raw / "labelsTr" / "case_00001.nii.gz").stat().st_mtime_ns
    mask.unlink()
    (raw / "labelsTr" / ".half.case_00002.nii.gz").write_bytes(b"half")
    write_raw(raw, phantoms.cases(), phantoms.load)
    assert sorted(p.name for p in (raw / "labelsTr").iterdir()) == [f"case_0000{i}.nii.gz" for i in range(4)]
    assert (raw / "labelsTr" / "case_00001.nii.gz").stat().st_mtime_ns == kept


def test_a_case_without_a_mask_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="case 'lonely' has no mask"):
        write_raw(tmp_path, [Case("lonely", "p")], lambda case: Record(grid()))


def test_splits_are_ours(tmp_path: Path) -> None:
    write_splits(tmp_path, ["case_00000"], ["case_00001", "case_00002"])
    found = json.loads((tmp_path / "splits_final.json").read_text())
    assert found == [{"train": ["case_00000"], "val": ["case_00001", "case_00002"]}]


SHEARED = np.array([[0, 0, 0.5, 0], [1.5, 0.5, 0, 0], [5.0, 0, 0, 0], [0, 0, 0, 1]])
UNEVEN = np.array([[0, 0, 0.0], [0, 0, 5], [0, 0, 7.5]])


@pytest.mark.parametrize(
    "volume",
    [grid(), grid(affine=SHEARED), grid(positions=UNEVEN)],
    ids=["even", "gantry tilt", "varying distances"],
)
def test_a_mask_comes_back_voxel_by_voxel(volume: Volume, tmp_path: Path) -> None:
    mask = (volume.voxels % 7 == 0).astype(np.uint8)
    write_case(volume, mask, tmp_path / "mask.nii.gz")
    np.testing.assert_array_equal(read_mask(tmp_path / "mask.nii.gz", volume), mask)


def test_spacing_survives_where_the_grid_cannot(tmp_path: Path) -> None:
    volume = grid(affine=SHEARED)
    write_case(volume, volume.voxels, tmp_path / "image.nii.gz")
    assert read_nifti(tmp_path / "image.nii.gz").spacing == pytest.approx(volume.spacing)


def test_a_mask_of_another_grid_is_refused(tmp_path: Path) -> None:
    moved = grid(affine=grid().affine + np.array([[0, 0, 0, 3.0], [0] * 4, [0] * 4, [0] * 4]))
    write_nifti(Volume(np.zeros((3, 4, 5), np.uint8), moved.affine), tmp_path / "mask.nii.gz")
    with pytest.raises(InputError, match="different grids"):
        read_mask(tmp_path / "mask.nii.gz", grid())


def test_an_epoch_is_told_when_its_time_is_printed() -> None:
    told, begun = [], []
    log = TrainingLog(lambda epoch, values: told.append((epoch, dict(values))), begun.append)
    for line in LINES.splitlines():
        log(line)
    first = {"train/loss": 0.8138, "val/loss": 0.2534, "val/pseudo_dice": 0.125, "seconds": 15.62}
    assert begun == [1, 2]
    assert told[0] == (1, first)
    assert told[1][1]["train/loss"] == -0.1434
    assert np.isnan(told[1][1]["val/loss"])


def test_all_files_of_nnu_net_stay_in_the_run_folder(tmp_path: Path) -> None:
    found = environment(tmp_path, "cpu", 5, 10, 1)
    assert {found[f"nnUNet_{name}"] for name in ("raw", "preprocessed", "results")} == {
        str(tmp_path / name) for name in ("raw", "preprocessed", "results")
    }


def test_without_nnu_net_the_line_that_installs_it_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("sys.executable", str(tmp_path / "python"))
    with pytest.raises(InputError, match=r'nnU-Net is not installed.*pip install "nnunetv2>=2.8,<3"'):
        NNUNet()


def test_an_old_nnu_net_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(program.metadata, "version", lambda name: "2.4.1")
    with pytest.raises(InputError, match=r"nnunetv2 2\.4\.1 is installed"):
        program.check_version()


def test_the_extra_and_the_message_ask_for_the_same_version() -> None:
    root = Path(__file__).parents[2]
    extras = tomllib.loads((root / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert extras["nnunet"] == [REQUIREMENT]
