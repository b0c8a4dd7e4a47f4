"""Runs on images of several channels: windows and neighbouring slices through all of SMART-Net."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import train
from medkit_phantoms.source import HeadCT
from typer.testing import CliRunner

import medkit
from medkit.cli.app import app
from medkit.data.io import read_volume
from medkit.data.nifti import write_nifti
from medkit.errors import InputError
from medkit.evaluation.results import read_examples, read_results
from medkit.recipe import recipe_from
from medkit.runs.explain import explain
from medkit.runs.predict import predict
from medkit.runs.predict_many import predict_many

PREPARE = [{"use": "windows", "windows": [[0, 80], [-20, 180]]}, {"use": "neighbours"}]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("channels")
    heads = {"cls": {"use": "smartnet:slice_class"}, "seg": {"use": "smartnet:scse_unet", "widths": [8, 8, 8, 8, 8]}}
    heads |= {"rec": {"use": "smartnet:pixel_shuffle", "widths": [8, 8, 8, 8, 8]}}
    slices = {"use": "multitask", "encoder": {"use": "timm", "model": "test_resnet"}, "heads": heads}
    volumes: dict[str, Any] = {
        "use": "volume",
        "encoder": {"from": "slices.encoder"},
        "losses": {"bce": {"use": "bce"}},
    }
    volumes["operator"] = {"use": "smartnet:lstm_classifier"}
    source = {"use": "phantoms:head_ct", "patients": 6, "size": [32, 32], "slices": 4}
    data = {"source": source, "splits": {name: {"fold": name} for name in ("train", "val", "test")}}
    data |= {"prepare": PREPARE, "augment": [{"use": "shift_scale_rotate"}, {"use": "gauss_noise"}]}
    stages = [
        {"name": "slices", "batch": 4, "objective": slices, "metrics": ["auc", "dice"], "evaluate": ["test"]},
        {"name": "volumes", "unit": "volume", "objective": volumes, "metrics": ["auc"]},
    ]
    recipe = recipe_from({"medkit": 1, "name": "c", "data": {"d": data}, "stages": stages})
    medkit.run(recipe, out=folder / "run", device="cpu")
    return folder / "run"


@pytest.fixture(scope="module")
def head(tmp_path_factory: pytest.TempPathFactory) -> Path:
    source = HeadCT(patients=6, size=(32, 32), slices=4)
    path = tmp_path_factory.mktemp("head") / "head.nii.gz"
    write_nifti(source.load(source.cases()[0]).image, path, kind="image")
    return path


def test_all_stages_are_measured(run: Path):
    results = read_results(run)
    assert np.isfinite(results["slices"]["test"]["dice"].value)
    assert set(results) == {"slices", "volumes"}


def test_the_report_shows_the_slice_itself_in_the_first_window(run: Path):
    example = read_examples(run / "examples" / "slices.test.npz")[0]
    assert example["image"].shape == example["reconstruction"].shape == (32, 32)


def test_a_new_image_is_prepared_alike(run: Path, head: Path, tmp_path: Path):
    found = predict(run, head, tmp_path / "mask.nii.gz", stage="slices", device="cpu")
    assert (tmp_path / "mask.nii.gz").is_file()
    assert "volume_ml" in found


def test_maps_are_laid_over_one_channel(run: Path, head: Path, tmp_path: Path):
    explain(run, head, tmp_path / "maps", stage="slices", device="cpu")
    assert len(list((tmp_path / "maps").glob("*.png"))) == 8


def test_a_volume_is_explained_as_a_whole_on_one_scale(run: Path, head: Path, tmp_path: Path):
    found = explain(run, head, tmp_path / "maps", device="cpu")
    assert (found["stage"], found["head"]) == ("volumes", "operator")
    said = predict(run, head, tmp_path / "out.json", device="cpu")
    assert found["volume"]["probability"] == pytest.approx(said["probability"], abs=1e-5)
    adds = [one["adds"] for one in found["slices"]]
    assert len(list((tmp_path / "maps").glob("*.png"))) == 2 * len(adds) == 8
    assert np.isfinite(adds).all()
    assert len(set(adds)) == len(adds)


# -- several files a case ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def brighter(head: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A second image on the grid of the first."""
    image = read_volume(head)
    path = tmp_path_factory.mktemp("brighter") / "brighter.nii.gz"
    write_nifti(image.like(image.voxels + 20), path, kind="image")
    return path


@pytest.fixture(scope="module")
def of_files(head: Path, brighter: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose cases have two files each."""
    folder = tmp_path_factory.mktemp("files")
    (folder / "cases.csv").write_text(f"patient,t1,flair,size\np,{head},{brighter},3\n")
    source = {"use": "manifest", "path": str(folder / "cases.csv"), "image": ["t1", "flair"]}
    data = {"source": source, "splits": {"train": {}}, "prepare": [{"use": "window"}]}
    data |= {"labels": {"unit": "mL", "column": "size"}}
    objective = {"use": "multitask", "encoder": {"use": "timm", "model": "test_resnet"}}
    objective["heads"] = {"size": {"use": "regression"}}
    stages = [{"name": "s", "batch": 2, "slices": 2, "objective": objective}]
    recipe = recipe_from({"medkit": 1, "name": "c", "data": {"d": data}, "stages": stages})
    train(recipe, out=folder / "run", device="cpu")
    return folder / "run"


def test_an_image_alone_is_refused_where_a_case_has_several_files(of_files: Path, tmp_path: Path, head: Path):
    with pytest.raises(InputError, match=r"takes 2 images of a case.*give --input once for each.*t1, flair"):
        predict(of_files, head, tmp_path / "out.json", device="cpu")
    with pytest.raises(InputError, match=r"a folder does not say which are one case.*columns t1, flair"):
        predict_many(of_files, head.parent, tmp_path / "out", device="cpu", quiet=True)


def test_a_case_of_several_files_is_predicted_alike_alone_and_from_a_manifest(
    of_files: Path, tmp_path: Path, head: Path, brighter: Path
):
    inputs = ["--input", str(head), "--input", str(brighter)]
    arguments = ["predict", str(of_files), *inputs, "--output", str(tmp_path / "one.json"), "--device", "cpu"]
    assert CliRunner().invoke(app, arguments).exit_code == 0
    one = json.loads((tmp_path / "one.json").read_text())
    assert [one["input"]["file"], *(other["file"] for other in one["channels"])] == [head.name, brighter.name]
    (tmp_path / "new.csv").write_text(f"case,t1,flair\nA,{head},{brighter}\nB,{brighter},{head}\nC,{head},nowhere\n")
    found = predict_many(of_files, tmp_path / "new.csv", tmp_path / "many", device="cpu", quiet=True)
    assert (found.new, list(found.failed)) == (["A", "B"], ["C"]), found.failed
    many = {name: json.loads((tmp_path / "many" / name / "prediction.json").read_text()) for name in "AB"}
    assert many["A"]["value"] == one["value"] != many["B"]["value"]


def test_a_case_of_several_files_is_explained_over_its_first(
    of_files: Path, tmp_path: Path, head: Path, brighter: Path
):
    found = explain(of_files, [head, brighter], tmp_path / "maps", device="cpu")
    assert len(list((tmp_path / "maps").glob("*.png"))) == 8
    assert found["channels"][0]["file"] == brighter.name
