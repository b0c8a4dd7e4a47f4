"""``simulate-dose``, ``data mayo``, ``data ldct-projection``, and ``predict`` with a denoiser.

Most calls are made inside this process, where torch is imported once: ``main`` is the same, and so are its exit codes.
"""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import nibabel
import numpy as np
import pydicom
import pytest
from medkit_phantoms.source import HeadCT

from medkit.cli.main import main
from medkit.data.io import read_volume
from medkit.errors import InputError
from medkit.front import run
from medkit.recipe import load_recipe
from medkit.runs.lowdose import simulate
from medkit.runs.predict import PredictSettings, predict

WINDOW = (0, 80)


class Called(NamedTuple):
    returncode: int
    stdout: str
    stderr: str


@pytest.fixture
def call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Called]:
    """``call("data", "mayo", ...)`` in a folder of its own."""

    def command(*arguments: object) -> Called:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", ["medkit", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        return Called(int(ended.value.code or 0), *capsys.readouterr())

    return command


@pytest.fixture(scope="module")
def hu() -> np.ndarray:
    """(4,64,64) whole HU of a head phantom."""
    source = HeadCT(patients=1, size=(64, 64), slices=4)
    return np.rint(source.load(source.cases()[0]).image.voxels).astype(np.int16)


def nifti(path: Path, voxels: np.ndarray, pixel: tuple[float, float] = (3.0, 3.0)) -> Path:
    nibabel.save(nibabel.Nifti1Image(voxels.transpose(2, 1, 0), np.diag([*pixel, 5.0, 1.0])), path)
    return path


def test_from_python_a_scan_needs_no_more_than_a_dose_and_is_that_of_the_command(
    call: Callable[..., Called], tmp_path: Path, hu: np.ndarray
) -> None:
    scan = nifti(tmp_path / "scan.nii", hu)
    assert simulate(scan, tmp_path / "python.nii", 0.25) == ()
    assert call("simulate-dose", "--input", scan, "--output", "command.nii", "--dose", 0.25).returncode == 0
    python, command = (read_volume(tmp_path / f"{name}.nii").voxels for name in ("python", "command"))
    assert np.array_equal(python, command)
    assert not np.array_equal(python, hu)


@pytest.fixture
def scans(tmp_path: Path, hu: np.ndarray, write_ct: Callable[..., None]) -> Path:
    """A folder with scans, good and bad, in both formats."""
    folder = tmp_path / "scans"
    write_ct(folder / "dicom", hu)
    write_ct(folder / "dicom_windowed", np.clip(hu, 0, 80))
    write_ct(folder / "dicom_oblong", hu, PixelSpacing=[0.7, 0.9])
    (folder / "empty").mkdir()
    nifti(folder / "nifti.nii.gz", hu)
    nifti(folder / "fractions.nii.gz", hu + np.float32(0.25))
    nifti(folder / "windowed.nii.gz", np.clip(hu, 0, 80))
    nifti(folder / "oblong.nii.gz", hu, (3.0, 2.0))
    return folder


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["dicom", "out", "--dose", "0"], "the dose must lie in (0, 1], not 0.0; 0.25 is a quarter"),
        (["nifti.nii.gz", "out.nii", "--dose", "1.01"], "the dose must lie in (0, 1], not 1.01"),
        (["nifti.nii.gz", "out.nii", "--dose", "nan"], "the dose must lie in (0, 1], not nan"),
        (["nifti.nii.gz", "out.nii", "--dose", "much"], "--dose"),
        (["dicom_windowed", "out", "--dose", "0.25"], "noise insertion needs CT in HU, which this is not"),
        (["windowed.nii.gz", "out.nii", "--dose", "0.25"], "noise insertion needs CT in HU, which this is not"),
        (["dicom_oblong", "out", "--dose", "0.25"], "pixels of 0.700 x 0.900 mm are not square"),
        (["oblong.nii.gz", "out.nii", "--dose", "0.25"], "mm are not square"),
        (["dicom", ".", "--dose", "0.25"], "the output exists"),
        (["nifti.nii.gz", "scans/nifti.nii.gz", "--dose", "0.25"], "the output exists"),
        (["nifti.nii.gz", "out.img", "--dose", "0.25"], "has to end in .nii or .nii.gz"),
        (["nowhere", "out", "--dose", "0.25"], "there is no such file or folder"),
        (["empty", "out", "--dose", "0.25"], "no DICOM image was found here"),
        (["dicom", "out", "--dose", "0.25", "--kernel", "softer"], "kernel 'softer' is not one of soft, sharp, ramp"),
        (["dicom", "out", "--dose", "0.25", "--photons", "0"], "photons must be positive"),
        (["dicom", "out", "--dose", "0.25", "--electronic", "-1"], "electronic noise must be finite and not negative"),
        (["dicom", "out", "--dose", "0.25", "--bow-tie", "2"], "bow_tie is the fraction of photons"),
        (["dicom", "out", "--dose", "0.25", "--modulation", "2"], "modulation is a power of the attenuation"),
        (["dicom", "out", "--dose", "0.25", "--match-hu", "9", "--photons", "1e6"], "photons are given too"),
        (["dicom", "out", "--dose", "0.25", "--region", "hu=0:9"], "give match_hu too"),
        (
            ["dicom", "out", "--dose", "0.25", "--match-hu", "9", "--region", "brain"],
            "'brain' is not a region; hu=LOW:HIGH",
        ),
        (
            ["dicom", "out", "--dose", "0.25", "--match-hu", "9", "--region", "hu=2999:3000"],
            "dicom: no pixel of the scan",
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_cannot_be_simulated_exits_with_2_and_writes_nothing(call, scans, tmp_path, arguments, message):
    before = sorted(tmp_path.rglob("*"))
    scan, output, *others = arguments
    done = call("simulate-dose", "--input", scans / scan, "--output", output, *others)
    assert done.returncode == 2, done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(("scan", "output"), [("dicom", "low"), ("nifti.nii.gz", "low.nii.gz")])
def test_a_low_dose_scan_is_written_in_its_own_format_and_alike_for_one_seed(call, scans, tmp_path, hu, scan, output):
    for name in (output, f"again_{output}"):
        done = call("simulate-dose", "--input", scans / scan, "--output", name, "--dose", "0.25", "--seed", "7")
        assert done.returncode == 0, done.stderr
    low, again = read_volume(tmp_path / output), read_volume(tmp_path / f"again_{output}")
    assert low.same_grid(read_volume(scans / scan), 1e-4) is None
    assert np.array_equal(low.voxels, again.voxels)
    assert 1 < (low.voxels - read_volume(scans / scan).voxels.astype(float)).std() < 200


@pytest.mark.parametrize("said", [(), ("--each-slice", "--modulation", "0.3")], ids=["scan", "slices"])
def test_a_wanted_noise_is_added_and_the_photons_that_do_it_are_told(call, scans, tmp_path, said):
    wanted = ("--match-hu", "12", "--region", "hu=10:70")
    done = call("simulate-dose", "--input", scans / "dicom", "--output", "low", "--dose", "0.25", *wanted, *said)
    assert done.returncode == 0, done.stderr
    assert re.search(r"note: \S+( to \S+)? photons per ray add 12 HU in hu=10:70", done.stderr)
    old, new = (read_volume(place).voxels.astype(float) for place in (scans / "dicom", tmp_path / "low"))
    assert (new - old)[(old >= 10) & (old <= 70)].std() == pytest.approx(12, rel=0.1)
    told = str(pydicom.dcmread(tmp_path / "low" / "0001.dcm").DerivationDescription)
    assert "12 HU in hu=10:70" in told
    assert ("modulation 0.3" in told) == bool(said)


def test_padding_stays_where_dicom_becomes_nifti(call, tmp_path, hu, write_ct):
    padded = hu.copy()
    y, x = np.mgrid[:64, :64] - 31.5
    padded[:, np.hypot(x, y) > 33] = -2000
    write_ct(tmp_path / "head", padded)
    for file in (tmp_path / "head").iterdir():
        data = pydicom.dcmread(file)
        data.add_new("PixelPaddingValue", "SS", -2000 - int(data.RescaleIntercept))
        data.save_as(file)
    done = call("simulate-dose", "--input", "head", "--output", "low.nii.gz", "--dose", "0.1")
    assert done.returncode == 0, done.stderr
    low = read_volume(tmp_path / "low.nii.gz").voxels
    assert (low[:, np.hypot(x, y) > 33] == -1024).all()


def test_data_mayo_writes_a_manifest_and_says_how_many(call, tmp_path, hu, write_ct):
    for patient in ("L067", "L333"):
        for dose in ("quarter_3mm", "full_3mm"):
            write_ct(tmp_path / "mayo" / patient / dose, hu, "{i:04d}.IMA")
    done = call("data", "mayo", "mayo", "--out", "ldct.csv")
    assert done.returncode == 0, done.stderr
    assert done.stdout == "ldct.csv: 2 cases of 2 patients\n"
    assert "L333_3mm,L333,mayo,val," in (tmp_path / "ldct.csv").read_text()


def test_data_ldct_projection_names_patients_that_are_left_out(call, tmp_path, hu, write_ct):
    write_ct(tmp_path / "d" / "C001" / "s" / "1-Low Dose Images-1", hu)
    write_ct(tmp_path / "d" / "C001" / "s" / "2-Full Dose Images-2", hu)
    write_ct(tmp_path / "d" / "N002" / "s" / "2-Full Dose Images-2", hu, Manufacturer="GE MEDICAL SYSTEMS")
    done = call("data", "ldct-projection", "d", "--out", "ldct.csv")
    assert done.returncode == 0, done.stderr
    assert "1 cases of 1 patients" in done.stdout
    assert "left out" in done.stdout
    assert "N002" in done.stdout


@pytest.mark.parametrize("layout", ["mayo", "ldct-projection"])
def test_a_pair_that_does_not_match_exits_with_2_and_writes_nothing(call, tmp_path, hu, write_ct, layout):
    names = {"mayo": ("quarter_3mm", "full_3mm"), "ldct-projection": ("1-Low Dose Images-1", "2-Full Dose Images-2")}
    for dose, depth in zip(names[layout], (3, 4), strict=True):
        write_ct(tmp_path / "data" / "L067" / dose, hu[:depth])
    before = sorted(tmp_path.rglob("*"))
    done = call("data", layout, "data", "--out", "ldct.csv")
    assert done.returncode == 2, done.stderr
    assert "ImagePositionPatient: patient L067: 3 low-dose and 4 full-dose slices" in done.stderr
    assert sorted(tmp_path.rglob("*")) == before


@pytest.fixture(scope="module")
def denoiser(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished tiny denoising run."""
    folder = tmp_path_factory.mktemp("denoiser")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MEDKIT_CACHE", str(folder / "cache"))
        return run(load_recipe("tiny_ldct"), folder / "run", device="cpu").folder


def inside(voxels: np.ndarray) -> np.ndarray:
    return (voxels >= WINDOW[0]) & (voxels <= WINDOW[1])


@pytest.mark.parametrize("tiles", [(), ("--tile", "64", "--overlap", "0.3")], ids=["whole", "tiles"])
def test_a_denoised_dicom_series_has_new_values_in_the_window_only(call, denoiser, shared, tmp_path, tiles):
    for number in (16, 17):
        target = tmp_path / "head" / f"{number}.dcm"
        target.parent.mkdir(exist_ok=True)
        target.write_bytes((shared / "realdata" / "head_ct_ge_tilt" / f"{number}.dcm").read_bytes())
    done = call("predict", denoiser, "--input", "head", "--output", "clean", *tiles)
    assert done.returncode == 0, done.stderr
    source, clean = read_volume(tmp_path / "head"), read_volume(tmp_path / "clean")
    assert source.same_grid(clean, 1e-6) is None
    changed = inside(source.voxels)
    assert np.array_equal(clean.voxels[~changed], source.voxels[~changed])
    assert inside(clean.voxels[changed]).all()
    assert (clean.voxels[changed] != source.voxels[changed]).mean() > 0.5
    assert json.loads((tmp_path / "clean" / "prediction.json").read_text())["stage"] == "denoise"


def test_a_denoised_dicom_series_says_what_it_was_made_from(call, denoiser, scans, tmp_path):
    done = call("predict", denoiser, "--input", scans / "dicom", "--output", "clean")
    assert done.returncode == 0, done.stderr
    old, new = (pydicom.dcmread(folder / "0001.dcm") for folder in (scans / "dicom", tmp_path / "clean"))
    assert new.ImageType[0] == "DERIVED"
    assert "tiny_ldct denoise, made by medkit" in new.DerivationDescription
    assert new.SourceImageSequence[0].ReferencedSOPInstanceUID == old.SOPInstanceUID
    assert new.SOPInstanceUID != old.SOPInstanceUID
    assert new.file_meta.MediaStorageSOPInstanceUID == new.SOPInstanceUID
    assert new.SeriesInstanceUID != old.SeriesInstanceUID


@pytest.mark.parametrize("scan", ["nifti.nii.gz", "fractions.nii.gz"])
def test_a_denoised_nifti_file_keeps_type_affine_and_values_outside_the_window(call, denoiser, scans, tmp_path, scan):
    done = call("predict", denoiser, "--input", scans / scan, "--output", "clean.nii.gz", "--tile", "32")
    assert done.returncode == 0, done.stderr
    old, new = nibabel.load(scans / scan), nibabel.load(tmp_path / "clean.nii.gz")
    before, after = np.asanyarray(old.dataobj), np.asanyarray(new.dataobj)
    assert np.array_equal(old.affine, new.affine)
    assert after.dtype == before.dtype
    assert np.array_equal(after[~inside(before)], before[~inside(before)])
    assert (after != before)[inside(before)].any()


@pytest.mark.parametrize("command", ["simulate-dose", "predict"])
def test_uneven_slices_become_nifti_only_on_an_even_grid_and_that_is_said(
    call, denoiser, tmp_path, hu, write_ct, command
):
    write_ct(tmp_path / "head", hu[[0, 1, 2, 3, 3]])
    for file, height in zip(sorted((tmp_path / "head").iterdir()), (0, 3, 6, 12, 18), strict=True):
        data = pydicom.dcmread(file)
        data.ImagePositionPatient, data.SliceThickness = [0, 0, height], 3 if height < 12 else 6
        data.save_as(file)
    given = ("predict", denoiser) if command == "predict" else ("simulate-dose", "--dose", "0.5")
    done = call(*given, "--input", "head", "--output", "even.nii.gz")
    assert done.returncode == 2, done.stderr
    assert "even.nii.gz: its slices lie 3 to 6 mm apart, and NIfTI cannot hold that; name a folder" in done.stderr
    assert not (tmp_path / "even.nii.gz").exists()
    done = call(*given, "--input", "head", "--output", "even.nii.gz", "--resample")
    assert done.returncode == 0, done.stderr
    assert "its slices lie 3 to 6 mm apart: resampled to 8 slices of 64 x 64, 3 x 0.7 x 0.7 mm apart" in done.stderr
    written = nibabel.load(tmp_path / "even.nii.gz")
    assert written.header.get_zooms() == pytest.approx((0.7, 0.7, 3))
    source = read_volume(tmp_path / "head").voxels
    found = read_volume(tmp_path / "even.nii.gz").voxels
    far = (source < -500).all(0)
    if command == "predict":  # what lies outside the window is the source's own where a slice of the source lies
        assert np.array_equal(found[[0, 1, 2, 4, 6]][:, far], source[:, far])
        summary = json.loads((tmp_path / "even.nii.gz.json").read_text())
        assert summary["resampled"]["spacing_mm"] == [3, 0.7, 0.7]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--output", "clean.img"], "has to end in .nii or .nii.gz"),
        (["--output", "scans"], "the output exists"),
        (["--output", "clean.nii", "--overlap", "0.5"], "an overlap without tiles changes nothing"),
        (["--output", "clean.nii", "--tile", "32", "--overlap", "1"], "the overlap must lie in [0, 1), not 1.0"),
        (["--output", "clean.nii", "--tile", "0"], "--tile"),
        (["--output", "clean.nii", "--tile", "4096"], "would be filled up to tiles of 4096"),
        (["--output", "clean.nii", "--field", "sex=1"], "--field: no head needs the field 'sex'"),
        (["--output", "clean.nii", "--field", "sex=1", "--field", "sex=0"], "--field: 'sex' is given twice"),
        (["--output", "scans/kept.nii"], "kept.nii.json: the output exists"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_cannot_be_denoised_exits_with_2_and_writes_nothing(call, denoiser, scans, tmp_path, arguments, message):
    (scans / "kept.nii.json").write_text("of another program")
    before = sorted(tmp_path.rglob("*"))
    done = call("predict", denoiser, "--input", scans / "nifti.nii.gz", *arguments)
    assert done.returncode == 2, done.stderr
    assert message in done.stderr
    assert sorted(tmp_path.rglob("*")) == before


def test_a_preparation_that_cannot_be_undone_is_told(call, denoiser, scans, tmp_path):
    recipe = Path(shutil.copytree(denoiser, tmp_path / "run")) / "recipe.yaml"
    text = recipe.read_text()
    assert "prepare:\n" in text
    assert "high: 80" in text
    stretched = text.replace("prepare:\n", "prepare:\n    - use: min_max\n", 1).replace("high: 80", "high: 1", 1)
    recipe.write_text(stretched)
    done = call("predict", tmp_path / "run", "--input", scans / "nifti.nii.gz", "--output", "clean.nii")
    assert done.returncode == 2, done.stderr
    assert "images prepared by MinMax, Window cannot be converted back" in done.stderr
    assert not (tmp_path / "clean.nii").exists()


def test_a_classifier_has_no_tiles(call, finished, scans):
    done = call("predict", finished, "--input", scans / "nifti.nii.gz", "--output", "out", "--tile", "32")
    assert done.returncode == 2, done.stderr
    assert "stage 'classify' does not predict in tiles" in done.stderr


def test_a_classifier_still_gives_its_probability_in_one_piece(call, finished, scans, tmp_path):
    done = call("predict", finished, "--input", scans / "nifti.nii.gz", "--output", "out")
    assert done.returncode == 0, done.stderr
    assert 0 <= json.loads((tmp_path / "out" / "prediction.json").read_text())["probability"] <= 1


@pytest.mark.parametrize("name", ["clean.NII.GZ", "clean.dcm", "clean.nrrd"])
def test_a_dicom_series_goes_into_no_folder_that_is_named_as_a_file(call, scans, tmp_path, name):
    done = call("simulate-dose", "--input", scans / "dicom", "--output", name, "--dose", "0.5")
    assert done.returncode == 2, done.stderr
    assert f"a DICOM series goes into a folder, but this ends in .{name.split('.')[-1]}" in done.stderr
    assert not (tmp_path / name).exists()


@pytest.mark.parametrize("threshold", [float("nan"), 5, -0.1])
def test_a_threshold_that_is_no_probability_is_refused_from_python_too(denoiser, scans, tmp_path, threshold):
    with pytest.raises(InputError, match=r"a probability lies in \[0, 1\]"):
        predict(denoiser, scans / "nifti.nii.gz", tmp_path / "out.nii", settings=PredictSettings(threshold))
