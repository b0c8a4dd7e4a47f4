"""Runs on masks with classes: the five kinds of bleed of the phantoms through all of SMART-Net, and overlapping masks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import train
from medkit_phantoms.source import HeadCT

import medkit
from medkit.data.io import read_volume
from medkit.data.nifti import write_nifti
from medkit.data.volume import Volume
from medkit.errors import InputError
from medkit.evaluation.results import read_results
from medkit.recipe import Recipe, load_recipe, recipe_from
from medkit.runs.explain import Question, explain
from medkit.runs.predict import PredictSettings, predict

NAMES = ["CPH", "IVH", "EDH", "SDH", "SAH"]
CLASSES = {str(i): name for i, name in enumerate(NAMES, 1)}
NARROW = {"widths": [8, 8, 8, 8, 8]}
METRICS: list[Any] = ["dice", "hd95", {"use": "nsd", "tolerance": 2}, "lesion_false_positives", "fpv"]


def stages(*metrics: Any) -> list[dict[str, Any]]:
    heads: dict[str, Any] = {"cls": {"use": "smartnet:slice_class"}, "seg": {"use": "smartnet:scse_unet", **NARROW}}
    slices = {"use": "multitask", "encoder": {"use": "timm", "model": "test_resnet"}, "heads": heads}
    slices["ties"] = [{"use": "smartnet:consistency", "between": ["cls", "seg"]}]
    losses = {"ce": {"use": "cross_entropy"}, "dice": {"use": "class_dice"}}
    volumes: dict[str, Any] = {"use": "volume", "encoder": {"from": "slices.encoder"}, "losses": losses}
    volumes["operator"] = {"use": "smartnet:conv3d_segmenter", **NARROW}
    best = {"metric": "dice", "split": "val"}
    return [
        {"name": "slices", "batch": 4, "objective": slices, "metrics": list(metrics), "keep_best": best},
        {"name": "volumes", "unit": "volume", "objective": volumes, "metrics": ["dice"]},
    ]


def recipe(source: dict[str, Any], classes: Any, *metrics: Any) -> Recipe:
    data = {"source": source, "splits": {name: {"fold": name} for name in ("train", "val", "test")}}
    data |= {"prepare": [{"use": "window"}], "classes": classes, "augment": [{"use": "shift_scale_rotate"}]}
    made = {"medkit": 1, "name": "c", "data": {"d": data}, "stages": stages(*metrics)}
    return recipe_from({**made, "report": {"compare": {"metric": ["dice"]}}})


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    source = {
        "use": "phantoms:head_ct",
        "patients": 8,
        "size": [32, 32],
        "slices": 4,
        "subtypes": True,
        "smallest": 20,
    }
    source["positive_fraction"] = 1.0
    folder = tmp_path_factory.mktemp("classes") / "run"
    medkit.run(recipe(source, CLASSES, *METRICS), out=folder, device="cpu")
    return folder


@pytest.fixture(scope="module")
def head(tmp_path_factory: pytest.TempPathFactory) -> Path:
    source = HeadCT(patients=6, size=(32, 32), slices=4)
    path = tmp_path_factory.mktemp("head") / "head.nii.gz"
    write_nifti(source.load(source.cases()[0]).image, path, kind="image")
    return path


@pytest.mark.parametrize("stage", ["slices", "volumes"])
def test_results_have_each_class_by_name(run: Path, stage: str):
    measured = read_results(run)[stage]["test"]
    assert {"dice", *(f"dice_{name}" for name in NAMES)} <= set(measured)
    there = [value.value for name, value in measured.items() if name.startswith("dice_") and value.n]
    assert measured["dice"].value == pytest.approx(np.mean(there))
    assert stage == "volumes" or {"fpv", "nsd_2mm_SDH", "hd95_EDH"} <= set(measured)


def test_the_report_names_classes(run: Path):
    assert "dice_EDH" in (run / "report.html").read_text()


def test_a_run_s_recipe_says_its_classes(run: Path):
    assert load_recipe(run / "recipe.yaml").data["d"].classes.names == tuple(NAMES)


@pytest.mark.parametrize("stage", ["slices", "volumes"])
def test_prediction_writes_the_numbers_of_classes(run: Path, head: Path, tmp_path: Path, stage: str):
    found = predict(run, head, tmp_path / "mask.nii.gz", stage=stage, device="cpu")
    mask = read_volume(tmp_path / "mask.nii.gz")
    assert set(np.unique(mask.voxels)) <= set(range(6))
    assert {name: one["value"] for name, one in found["classes"].items()} == {n: i for i, n in enumerate(NAMES, 1)}
    volumes = [one["volume_ml"] for one in found["classes"].values()]
    assert found["volume_ml"] == pytest.approx(sum(volumes), abs=1e-3)
    assert "inferior to superior" in found["slices_are"]
    expected = [(mask.voxels == i).sum() * mask.voxel_volume / 1000 for i in range(1, 6)]
    assert volumes == pytest.approx(expected, rel=1e-3, abs=1e-3)
    assert json.loads((tmp_path / "mask.nii.gz.json").read_text())["classes"] == found["classes"]


@pytest.mark.parametrize(("stage", "name"), [("slices", "seg"), ("volumes", "operator")])
def test_each_class_of_a_mask_is_explained(run: Path, head: Path, tmp_path: Path, stage: str, name: str):
    question = Question("seg" if stage == "slices" else None, "all")
    found = explain(run, head, tmp_path / "maps", stage=stage, question=question, device="cpu")
    assert found["head"] == name
    assert [one["explained"] for one in found["slices"]] == [NAMES] * 4
    assert set(found["empty_grad_cam"]) == set(NAMES)
    assert len(list((tmp_path / "maps").glob("*.grad_cam.*.png"))) == 4 * len(NAMES)


def test_a_class_of_a_mask_is_explained_by_its_name(run: Path, head: Path, tmp_path: Path):
    found = explain(run, head, tmp_path / "maps", stage="volumes", question=Question(target="SDH"), device="cpu")
    assert {one["explained"] for one in found["slices"]} == {"SDH"}
    assert set(found["slices"][0]["adds"]) == {"SDH"}
    with pytest.raises(InputError, match="there is no class SDG; did you mean 'SDH'"):
        explain(run, head, tmp_path / "more", stage="volumes", question=Question(target="SDG"), device="cpu")


def test_a_threshold_of_classes_is_refused(run: Path, head: Path, tmp_path: Path):
    with pytest.raises(InputError, match="masks of classes have no threshold"):
        predict(run, head, tmp_path / "m.nii.gz", settings=PredictSettings(threshold=0.3), device="cpu")


def test_overlapping_masks_are_trained_on_and_written(tmp_path: Path, head: Path):
    source = HeadCT(patients=6, size=(32, 32), slices=4, positive_fraction=1, smallest=20, centers=("A",))
    rows = ["patient,image,bleed,left,fold"]
    for i, case in enumerate(source.cases()):
        record = source.load(case)
        left = np.zeros(record.image.voxels.shape, np.uint8)
        left[:, :, 16:] = record.mask.voxels[:, :, 16:]
        for name, voxels in {"image": record.image.voxels, "bleed": record.mask.voxels, "left": left}.items():
            kind = "image" if name == "image" else "mask"
            write_nifti(Volume(voxels, record.image.affine), tmp_path / f"{i}{name}.nii.gz", kind=kind)
        rows.append(
            f"p{i},{i}image.nii.gz,{i}bleed.nii.gz,{i}left.nii.gz,{('train', 'train', 'train', 'val', 'test', 'test')[i]}"
        )
    (tmp_path / "cases.csv").write_text("\n".join(rows) + "\n")
    manifest = {"use": "manifest", "path": str(tmp_path / "cases.csv"), "mask": ["bleed", "left"], "units": "HU"}
    train(recipe(manifest, ["bleed", "left"], "dice", "assd"), out=tmp_path / "run", device="cpu")
    assert {"dice_bleed", "dice_left", "assd_left"} <= set(read_results(tmp_path / "run")["slices"]["test"])
    found = predict(tmp_path / "run", head, tmp_path / "mask.nii.gz", stage="slices", device="cpu")
    assert [one["value"] for one in found["classes"].values()] == [1, 2]
    assert set(np.unique(read_volume(tmp_path / "mask.nii.gz").voxels)) <= {0, 1, 2, 3}
