"""Runs on images of several channels: windows and neighbouring slices through all of SMART-Net."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from medkit_phantoms.source import HeadCT

import medkit
from medkit.data.nifti import write_nifti
from medkit.errors import InputError
from medkit.evaluation.results import read_examples, read_results
from medkit.recipe import recipe_from
from medkit.runs.explain import explain
from medkit.runs.predict import predict

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


def test_an_image_alone_is_refused_where_a_case_has_several_files(tmp_path: Path, head: Path):
    (tmp_path / "cases.csv").write_text(f"patient,t1,flair\np,{head},{head}\n")
    source = {"use": "manifest", "path": str(tmp_path / "cases.csv"), "image": ["t1", "flair"]}
    data = {"source": source, "splits": {"train": {}}, "prepare": [{"use": "window"}]}
    heads = {"rec": {"use": "smartnet:pixel_shuffle", "widths": [8, 8, 8, 8, 8]}}
    objective = {"use": "multitask", "encoder": {"use": "timm", "model": "test_resnet"}, "heads": heads}
    stages = [{"name": "s", "batch": 2, "slices": 2, "objective": objective}]
    recipe = recipe_from({"medkit": 1, "name": "c", "data": {"d": data}, "stages": stages})
    medkit.run(recipe, out=tmp_path / "run", device="cpu")
    with pytest.raises(InputError, match="takes 2 images of a case"):
        predict(tmp_path / "run", head, tmp_path / "out.json", device="cpu")
