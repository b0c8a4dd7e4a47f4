"""Many images at once: each case whole or not at all, gone on with, and a failing one costs only itself."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pydicom
import pytest
from helpers import edit_dicom, grouped, small_recipe, train
from typer.testing import CliRunner

import medkit
from medkit.cli.app import app
from medkit.data.inputs import Input
from medkit.data.io import read_volume
from medkit.errors import InputError
from medkit.runs.predict import PredictSettings, predict
from medkit.runs.predict_many import predict_many
from medkit.runs.prediction_workers import by_processes

SECRET = "SECRET^PATIENT"
MASKS = {"seg": {"use": "smartnet:scse_unet"}, "cls": {"use": "smartnet:slice_class"}}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A finished run that segments, whose masks are not empty."""
    folder = tmp_path_factory.mktemp("segments")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MEDKIT_CACHE", str(folder / "cache"))
        encoder = {"use": "timm", "model": "test_resnet", "in_channels": 1}
        objective = {"use": "multitask", "encoder": encoder, "heads": MASKS}
        recipe = small_recipe(
            "segments", objective=objective, metrics=["dice", "auc"], optim={"use": "adam", "lr": 1e-3}
        )
        yield train(recipe, folder / "run", device="cpu", quiet=True).folder


@pytest.fixture
def hu() -> np.ndarray:
    head = np.full((3, 32, 32), -1000, np.int16)
    head[:, 6:26, 6:26] = np.random.default_rng(0).integers(0, 80, (3, 20, 20))
    return head


@pytest.fixture
def study(tmp_path: Path, hu: np.ndarray, write_ct: Callable[..., None]) -> Path:
    """Two CT series in one folder, one in another, a NIfTI, a scout, and a series that lacks a slice."""
    root = tmp_path / "study"
    for number in (2, 3):
        write_ct(
            root / "a",
            hu,
            name=f"{number}-{{i}}.dcm",
            SeriesNumber=number,
            StudyInstanceUID="1.2.3",
            PatientName=SECRET,
        )
    write_ct(root / "b", hu, SeriesNumber=4, StudyInstanceUID="1.2.4", PatientName=SECRET)
    write_ct(root / "c", np.concatenate([hu, hu]), SeriesNumber=5, StudyInstanceUID="1.2.5", PatientName=SECRET)
    (root / "c" / "0003.dcm").unlink()
    write_ct(root / "d", hu[:1], StudyInstanceUID="1.2.6", ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    nibabel.save(nibabel.Nifti1Image(hu.transpose(2, 1, 0), np.diag([-0.7, -0.7, 3, 1])), root / "e.nii.gz")
    return root


def cases(output: Path) -> dict[str, dict]:
    return {path.parent.name: json.loads(path.read_text(encoding="utf-8")) for path in output.glob("*/prediction.json")}


def stamps(output: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in output.glob("*/*") if path.is_file()}


@pytest.mark.parametrize("jobs", [1, 2])
def test_every_volume_of_a_folder_is_predicted_and_one_that_fails_costs_only_itself(run, study, tmp_path, jobs) -> None:
    found = predict_many(run, study, tmp_path / "out", device="cpu", jobs=jobs, quiet=True)
    assert sorted(found.new) == ["a-2", "a-3", "b", "e"]
    assert list(found.failed) == ["c"]
    assert "slices are missing" in found.failed["c"]
    assert found.left_out == {"scout": 1}
    assert sorted(cases(tmp_path / "out")) == ["a-2", "a-3", "b", "e"]


def test_many_predictions_are_those_of_each_alone(run, study, tmp_path) -> None:
    predict_many(run, study, tmp_path / "out", device="cpu", jobs=2, quiet=True)
    predict(run, study / "b", tmp_path / "b", device="cpu")
    many, alone = read_volume(tmp_path / "out" / "b" / "prediction"), read_volume(tmp_path / "b")
    assert many.voxels.any()
    assert np.array_equal(many.voxels, alone.voxels)
    alone_said = json.loads((tmp_path / "b" / "prediction.json").read_text(encoding="utf-8"))
    said = cases(tmp_path / "out")["b"]
    for name in ("volume_ml", "slices", "weights", "ledger", "input", "threshold"):
        assert said[name] == alone_said[name]


def test_prediction_json_says_that_probabilities_and_masks_are_on_different_grids(run, study, tmp_path) -> None:
    predict(run, study / "b", tmp_path / "b", device="cpu")
    said = json.loads((tmp_path / "b" / "prediction.json").read_text(encoding="utf-8"))
    assert "probability" in said
    assert said["numbers_are"].startswith("what the network says of the prepared image; the mask, its volume")


def test_processes_are_refused_where_one_image_leaves_them_nothing_to_do(run, study, tmp_path) -> None:
    command = ["predict", str(run), "--input", str(study / "e.nii.gz"), "--output", str(tmp_path / "out.nii.gz")]
    done = CliRunner().invoke(app, [*command, "--jobs", "2"])
    assert isinstance(done.exception, InputError)
    assert done.exception.where == "--jobs"


def test_prediction_json_says_where_it_comes_from_and_names_nobody(run, study, tmp_path) -> None:
    predict_many(run, study, tmp_path / "out", device="cpu", quiet=True)
    said = cases(tmp_path / "out")["b"]
    assert said["medkit"] == medkit.__version__
    assert said["use"] == "for research only, not for clinical use"
    assert any("phantom" in notice for notice in said["notices"])
    assert all(digest.startswith("sha256:") for digest in said["weights"].values())
    assert said["ledger"]["trained on"]["patients"] > 0
    assert said["input"]["study"] == "1.2.4"
    assert said["seen_in_training"] == "unknown"  # phantoms have no PatientID
    assert SECRET not in (tmp_path / "out" / "b" / "prediction.json").read_text(encoding="utf-8")


def test_a_second_call_keeps_what_is_whole_and_makes_the_rest_again(run, study, tmp_path) -> None:
    predict_many(run, study, tmp_path / "out", device="cpu", quiet=True)
    before = stamps(tmp_path / "out")
    (tmp_path / "out" / "e" / "prediction.nii.gz").write_bytes(b"half")
    shutil.rmtree(tmp_path / "out" / "a-2")
    (tmp_path / "out" / ".0123abcd.a-3").mkdir()
    edit_dicom(study / "b" / "0001.dcm", RescaleIntercept=-1000)
    found = predict_many(run, study, tmp_path / "out", device="cpu", quiet=True)
    assert (sorted(found.new), found.kept, list(found.failed)) == (["a-2", "b", "e"], ["a-3"], ["c"])
    after = stamps(tmp_path / "out")
    assert {path for path in before if before[path] == after[path]} == {path for path in before if "/a-3/" in path}
    assert not [path for path in (tmp_path / "out").iterdir() if path.name.startswith(".")]


def test_other_settings_are_refused_where_predictions_are(run, study, tmp_path) -> None:
    predict_many(run, study, tmp_path / "out", device="cpu", quiet=True)
    with pytest.raises(InputError, match=r"predictions of another kind: threshold 0\.5 there, 0\.3 now"):
        predict_many(run, study, tmp_path / "out", settings=PredictSettings(threshold=0.3), device="cpu", quiet=True)


def test_a_folder_of_something_else_is_not_written_to(run, study, tmp_path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").write_text("mine")
    with pytest.raises(InputError, match="holds no predictions to continue"):
        predict_many(run, study, tmp_path / "out", device="cpu", quiet=True)
    with pytest.raises(InputError, match="the output is inside the input"):
        predict_many(run, study, study / "out", device="cpu", quiet=True)


def test_a_manifest_names_its_cases_and_the_exit_code_tells_a_failure(run, study, tmp_path) -> None:
    lines = ["case,image", "one,study/b", "two,study/e.nii.gz", "a/b c,study/nowhere"]
    (tmp_path / "cases.csv").write_text("\n".join(lines), encoding="utf-8")
    out = tmp_path / "out"
    command = ["predict", str(run), "--input", str(tmp_path / "cases.csv"), "--output", str(out), "--device", "cpu"]
    done = CliRunner().invoke(app, command)
    assert done.exit_code != 0
    assert "1 case was not predicted" in str(done.exception)
    assert sorted(cases(out)) == ["one", "two"]
    with (out / "predictions.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["case"] for row in rows] == ["one", "two", "a/b c"]
    assert "there is no" in rows[2]["error"]
    assert float(rows[0]["volume_ml"]) == cases(out)["one"]["volume_ml"]


def test_a_study_in_one_folder_becomes_segmentations(run, study, tmp_path) -> None:
    pytest.importorskip("highdicom", reason="the extra 'seg' is not installed")
    for path in (study / "a").iterdir():
        grouped(path)
    settings = PredictSettings(format="dicom-seg")
    found = predict_many(run, study / "a", tmp_path / "out", settings=settings, device="cpu", quiet=True)
    assert len(found.new) == 2
    made = pydicom.dcmread(sorted((tmp_path / "out").glob("*/prediction.dcm"))[0])
    assert (made.Modality, int(made.NumberOfFrames)) == ("SEG", 3)


@pytest.mark.parametrize(
    ("name", "format", "match"),
    [
        ("out.dcm", "nifti", "a NIfTI file ends in"),
        ("out.nii.gz", "dicom-seg", r"one file, which ends in \.dcm"),
        ("out.nii.gz", "dicom", "goes into a folder"),
    ],
)
def test_a_name_that_does_not_fit_the_format_is_refused_at_once(run, study, tmp_path, name, format, match) -> None:
    with pytest.raises(InputError, match=match):
        predict(run, study / "b", tmp_path / name, settings=PredictSettings(format=format), device="cpu")
    assert not (tmp_path / name).exists()


@pytest.mark.parametrize("name", ["taken/out.nii.gz", "taken/out"])
def test_an_output_below_a_file_is_refused_before_anything_is_read(run, tmp_path, name) -> None:
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(InputError, match=r"'.*taken' is a file, so nothing can be written below it"):
        predict(run, tmp_path / "there is no such scan", tmp_path / name, device="cpu")


def test_a_stage_without_a_mask_is_told_before_what_segmentations_need(study, tmp_path, monkeypatch) -> None:
    encoder = {"use": "timm", "model": "test_resnet", "in_channels": 1}
    objective = {"use": "multitask", "encoder": encoder, "heads": {"cls": {"use": "smartnet:slice_class"}}}
    folder = train(small_recipe("classifies", objective=objective), tmp_path / "run", device="cpu", quiet=True).folder
    monkeypatch.setitem(sys.modules, "highdicom", None)  # as if the extra 'seg' were not installed
    settings = PredictSettings(format="dicom-seg")
    with pytest.raises(InputError, match="and no image"):
        predict(folder, study / "b", tmp_path / "out.dcm", settings=settings, device="cpu")


def test_a_nifti_has_no_images_that_a_segmentation_could_name(run, study, tmp_path) -> None:
    pytest.importorskip("highdicom", reason="the extra 'seg' is not installed")
    settings = PredictSettings(format="dicom-seg")
    with pytest.raises(InputError, match="refers to DICOM images, which this is not"):
        predict(run, study / "e.nii.gz", tmp_path / "out.dcm", settings=settings, device="cpu")


def test_a_process_that_is_killed_costs_the_case_that_it_was_at() -> None:
    def work(image: Input) -> None:
        if image.case == "bad":
            os.kill(os.getpid(), signal.SIGKILL)

    images = [Input(name, name) for name in ("a", "bad", "c", "d", "e")]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        answers = {image.case: problem for image, problem in by_processes(work, images, 2, "fork")}
    assert {case for case, problem in answers.items() if problem is None} == {"a", "c", "d", "e"}
    assert "was ended by SIGKILL" in answers["bad"]


def test_no_name_of_a_patient_reaches_what_is_printed(run, study, tmp_path, capfd) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        predict_many(run, study, tmp_path / "out", device="cpu", jobs=2)
    said = capfd.readouterr()
    assert "c: " in said.err
    assert SECRET not in said.out + said.err
    assert SECRET not in (tmp_path / "out" / "predictions.csv").read_text(encoding="utf-8")


# -- headers that are mended ---------------------------------------------------------------------------------------


@pytest.fixture
def bare(tmp_path: Path, hu: np.ndarray, write_ct: Callable[..., None]) -> Path:
    """A CT series whose headers do not say what its numbers are."""
    write_ct(tmp_path / "bare", hu, PatientName=SECRET)
    for path in (tmp_path / "bare").iterdir():
        edit_dicom(path, RescaleSlope=None, RescaleIntercept=None)
    return tmp_path / "bare"


def mended(command: str, run: Path, bare: Path, output: Path, *options: str) -> Any:
    arguments = [command, str(run), "--input", str(bare), "--output", str(output), "--device", "cpu", *options]
    return CliRunner().invoke(app, arguments)


@pytest.mark.parametrize("command", ["predict", "explain"])
def test_headers_are_mended_where_that_is_said_and_it_is_told(run, bare, study, tmp_path, command) -> None:
    name = {"predict": "mask.nii.gz", "explain": "maps"}[command]
    said = {"predict": "mask.nii.gz.json", "explain": "maps/explanation.json"}[command]
    assert "'mend: [rescale]' (for a command: --mend rescale" in str(
        mended(command, run, bare, tmp_path / name).exception
    )
    assert mended(command, run, bare, tmp_path / name, "--mend", "rescale=1,-1024").exit_code == 0
    told = json.loads((tmp_path / said).read_text(encoding="utf-8"))
    assert told["input"]["mended"] == ["rescale"]
    assert "were read with slope 1 and intercept -1024" in told["input_notes"][0]
    if command == "predict":
        predict(run, study / "b", tmp_path / "whole.nii.gz", device="cpu")
        whole, found = read_volume(tmp_path / "whole.nii.gz"), read_volume(tmp_path / name)
        assert np.array_equal(found.voxels, whole.voxels)


def test_what_was_mended_becomes_no_dicom_series(run, bare, tmp_path) -> None:
    done = mended("predict", run, bare, tmp_path / "series", "--mend", "rescale")
    assert "its headers were repaired (rescale)" in str(done.exception)
    assert "name a file that ends in .nii.gz" in str(done.exception)
    assert not (tmp_path / "series").exists()


@pytest.mark.parametrize(
    ("mend", "message"),
    [("rescal", "did you mean 'rescale'"), ("rescale=1", "is not rescale=SLOPE,INTERCEPT"), ("signed=1", "'signed=1'")],
)
def test_a_mend_that_does_not_exist_is_refused(run, bare, tmp_path, mend, message) -> None:
    assert message in str(mended("predict", run, bare, tmp_path / "out", "--mend", mend).exception)


def test_many_images_are_mended_alike_and_a_call_without_it_is_another_kind(run, bare, tmp_path) -> None:
    (tmp_path / "cases.csv").write_text("case,image\none,bare\n", encoding="utf-8")
    done = mended("predict", run, tmp_path / "cases.csv", tmp_path / "out", "--format", "nifti", "--mend", "rescale")
    assert done.exit_code == 0
    assert cases(tmp_path / "out")["one"]["input"]["mended"] == ["rescale"]
    again = mended("predict", run, tmp_path / "cases.csv", tmp_path / "out", "--format", "nifti")
    assert "predictions of another kind: mend ['rescale=1,-1024'] there" in str(again.exception)
