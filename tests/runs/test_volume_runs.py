"""Encoders of volumes through the front door: a pretext without labels, masks, whole scans predicted."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet
import pytest
import torch
from helpers import assert_same_run, go_on, stopped_after, train

import medkit
from medkit.data.io import read_volume
from medkit.data.nifti import write_nifti
from medkit.data.volume import Volume
from medkit.engine.checkpoint import read_tensors
from medkit.engine.runtime import Runtime
from medkit.errors import InputError
from medkit.parts.sliding import sliding_window
from medkit.recipe import recipe_from
from medkit.runs import built_in_trainer
from medkit.runs.card import card
from medkit.runs.embed import EmbedRequest, embed
from medkit.runs.explain import explain
from medkit.runs.folder import RunFolder
from medkit.runs.predict import predict
from medkit.runs.workbench import Workbench

AXIAL = np.array([[0, 0, 0.6, 0], [0, 0.5, 0, 0], [5.0, 0, 0, 0], [0, 0, 0, 1]])
OPTIONS: dict[str, Any] = {"device": "cpu", "quiet": True}
VARIANT = ["segment@resnet"]
STEPS = 8
"""Of a stage."""
LESS = ["report.splits=[internal]", "report.maps={cases: 1}"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The bundled recipe without its variant, tested on one split."""
    made = tmp_path_factory.mktemp("volumes")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MEDKIT_CACHE", str(made / "cache"))
        medkit.run("tiny_ich_volume", made / "run", set=LESS, skip=VARIANT, **OPTIONS)
        yield made / "run"


def test_a_run_on_patches_stopped_inside_its_epochs_ends_as_one_that_was_not(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the second epoch of the segmentation, whose patches are drawn by masks."""
    monkeypatch.setattr(built_in_trainer, "CHECKPOINT_SECONDS", 0.0)
    with stopped_after(STEPS + 6):
        train("tiny_ich_volume", tmp_path / "run", set=LESS, skip=VARIANT, **OPTIONS)
    go_on(tmp_path / "run", **OPTIONS)
    assert_same_run(tmp_path / "run", run)


def lines(run: Path, stage: str) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [line for line in found if line["stage"] == stage]


def bench(run: Path) -> Workbench:
    return Workbench(medkit.load_recipe(run / "recipe.yaml"), Runtime(torch.device("cpu")), RunFolder(run))


def test_a_pretext_of_volumes_learns_to_restore_patches(run: Path) -> None:
    first, last = lines(run, "pretext")[0], lines(run, "pretext")[-1]
    assert last["train/restore"] < 0.95 * first["train/restore"]
    assert last["val/restore"] < 0.95 * first["val/restore"]


def test_the_segmentation_starts_from_the_weights_of_the_pretext(run: Path) -> None:
    made = bench(run)
    mine = made.fresh(made.recipe.stage("segment")).encoder.state_dict()
    saved = read_tensors(run / "weights" / "pretext.encoder.safetensors")[0]
    assert all(torch.equal(mine[name], saved[name]) for name in saved)
    trained = read_tensors(run / "weights" / "segment.encoder.safetensors")[0]
    assert any(not torch.equal(trained[name], saved[name]) for name in saved)


def test_masks_are_measured_on_whole_scans(run: Path) -> None:
    results = json.loads((run / "results.json").read_text())["segment"]
    assert results["internal"]["dice"]["n"] == 1
    assert 0 < results["internal"]["dice"]["value"] <= 1
    assert results["internal"]["auc"]["counted"] == "cases"


def test_patches_are_drawn_by_masks_where_a_head_reads_them_and_anywhere_where_none_does(run: Path) -> None:
    draws = {stage.name: stage.draw for stage in medkit.load_recipe(run / "recipe.yaml").stages}
    assert draws == {"pretext": "uniform", "segment": "positive"}
    assert "patches lie anywhere in their volumes" in (run / "report.html").read_text()


def test_a_window_is_as_large_as_the_patches_unless_the_recipe_says_otherwise(run: Path) -> None:
    made = bench(run)
    assert made.trained(made.recipe.stage("segment")).window == (8, 32, 32)


def test_a_scan_of_another_size_is_predicted_on_its_own_grid(run: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    scan = Volume(rng.integers(-1000, 100, (5, 70, 41)).astype(np.int16), AXIAL)
    write_nifti(scan, tmp_path / "scan.nii.gz")
    told = predict(run, tmp_path / "scan.nii.gz", tmp_path / "mask.nii.gz", stage="segment", device="cpu")
    mask = read_volume(tmp_path / "mask.nii.gz", units="stored")
    assert mask.voxels.shape == (5, 70, 41)
    assert 0 <= told["probability"] <= 1
    made = bench(run)
    task = made.trained(made.recipe.stage("segment")).eval()
    image = torch.from_numpy(np.clip(scan.voxels / 80, 0, 1).astype(np.float32))[None, None]
    with torch.no_grad():
        logits = sliding_window(lambda x: task.heads["seg"](task.encoder(x)), image, (8, 32, 32), overlap=0.5)
    torch.testing.assert_close(told["probability"], float(torch.sigmoid(logits).max()), rtol=1e-4, atol=1e-5)


def test_features_of_a_volume_are_the_mean_over_its_windows(run: Path, tmp_path: Path) -> None:
    told = embed(str(run), tmp_path / "features.parquet", EmbedRequest(None, "internal"), device="cpu")
    rows = pyarrow.parquet.read_table(tmp_path / "features.parquet").to_pylist()
    made = bench(run)
    cases = made.dataset(made.recipe.stages[0]).cases("internal")
    assert (told["volumes"], told["window"]) == (len(cases), [8, 32, 32])
    assert [(row["case"], row["slice"]) for row in rows] == [(case.id, None) for case in cases]
    encoder = made.trained(made.recipe.stage("segment")).eval().encoder
    sample = made.dataset(made.recipe.stages[0]).sample(cases[0])
    volume = torch.from_numpy(np.array(sample.image))[None, None]
    with torch.no_grad():
        each = [
            encoder(volume[..., z : z + 8, y : y + 32, x : x + 32])[-1].mean((2, 3, 4))
            for z in (0, 2)
            for y in (0, 16)
            for x in (0, 16)
        ]
    torch.testing.assert_close(torch.tensor(rows[0]["features"])[None], torch.cat(each).mean(0, keepdim=True))
    assert rows[0]["label"] == float(sample.native_mask.any())


def test_a_card_judges_no_encoder_of_volumes(run: Path) -> None:
    with pytest.raises(InputError, match="panels judge encoders of slices"):
        card(str(run), "phantoms", device="cpu", quiet=True)


def test_a_mask_of_a_volume_is_explained_slice_by_slice(run: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    write_nifti(Volume(rng.integers(-1000, 100, (9, 40, 36)).astype(np.int16), AXIAL), tmp_path / "scan.nii.gz")
    told = explain(run, tmp_path / "scan.nii.gz", tmp_path / "maps", device="cpu")
    assert (told["head"], len(told["slices"])) == ("seg", 9)
    assert len(list((tmp_path / "maps").glob("*.png"))) == 2 * 9


# -- labels of volumes ---------------------------------------------------------------------------------------------

ENCODER = {"use": "resenc", "widths": [4, 6, 8, 8], "blocks": [1] * 4}
ENCODER |= {"strides": [[1, 1, 1], [1, 2, 2], [2, 2, 2], [1, 2, 2]], "kernels": [[1, 3, 3], *[[3, 3, 3]] * 3]}


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Views contrasted, the size regressed and masks drawn at two resolutions in one stage; then a probe of the size."""
    made = tmp_path_factory.mktemp("labelled")
    source = {"use": "phantoms:head_ct", "patients": 6, "size": [32, 32], "slices": 8, "smallest": 20}
    data = {"source": source, "splits": {name: {"fold": name} for name in ("train", "val", "test")}}
    data |= {"prepare": [{"use": "window"}], "labels": {"unit": "mL", "column": "volume_ml"}}
    data |= {"views": {"count": 2, "augment": [{"use": "horizontal_flip", "p": 0.5}, {"use": "brightness"}]}}
    heads = {"views": {"use": "ssl:simclr", "width": 8}, "size": {"use": "regression", "scale": 20}}
    heads |= {"seg": {"use": "unet3d", "deep_supervision": True}}
    patches = {"unit": "patch3d", "batch": 2, "patches": 2, "patch_size": [4, 32, 32]}
    stages: list[dict[str, Any]] = [
        {"name": "learn", **patches, "objective": {"use": "multitask3d", "encoder": ENCODER, "heads": heads}},
        {"name": "probe", "unit": "volume", "objective": {"use": "label_probe", "encoder": {"from": "learn.encoder"}}},
    ]
    stages[0]["metrics"], stages[1]["metrics"] = ["dice", "mae"], ["mae"]
    stages[1]["objective"]["window"] = [4, 32, 32]
    recipe = recipe_from({"medkit": 1, "name": "labelled", "data": {"d": data}, "stages": stages})
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MEDKIT_CACHE", str(made / "cache"))
        train(recipe, made / "run", **OPTIONS)
        yield made / "run"


def test_labels_views_and_masks_are_learned_together_from_patches(labelled: Path) -> None:
    (line,) = [one for one in lines(labelled, "learn") if "train/size" in one]
    assert {"train/views", "train/size", "train/seg", "train/views_spread"} <= set(line)
    results = json.loads((labelled / "results.json").read_text())
    assert results["learn"]["test"]["mae"]["unit"] == results["probe"]["test"]["mae"]["unit"] == "mL"
    assert results["learn"]["test"]["mae"]["counted"] == "cases"


def test_a_value_of_a_volume_is_predicted_and_explained_in_colours_of_both_signs(
    labelled: Path, tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    write_nifti(Volume(rng.integers(-1000, 100, (8, 32, 32)).astype(np.int16), AXIAL), tmp_path / "scan.nii.gz")
    said = predict(labelled, tmp_path / "scan.nii.gz", tmp_path / "mask.nii.gz", stage="learn", device="cpu")
    told = explain(labelled, tmp_path / "scan.nii.gz", tmp_path / "maps", stage="learn", device="cpu")
    assert (said["unit"], told["head"], told["grad_cam"]) == ("mL", "size", "red raises the value, blue lowers it")
    assert told["volume"]["value"] == pytest.approx(said["value"], abs=1e-3)
    assert len({one["adds"] for one in told["slices"]}) > 1
    probed = predict(labelled, tmp_path / "scan.nii.gz", tmp_path / "probe.json", device="cpu")
    assert probed["unit"] == "mL"
    assert np.isfinite(probed["value"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"objective": {"window": None}}, "is asked in windows, and how large they are is not known"),
        ({"unit": "slice"}, "features of volumes alone"),
    ],
)
def test_a_probe_of_volumes_says_what_it_needs(
    labelled: Path, tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    plain = medkit.load_recipe(labelled / "recipe.yaml").resolved()
    probe = plain["stages"][1]
    probe |= {**change, "objective": probe["objective"] | change.get("objective", {})}
    with pytest.raises(InputError, match=message):
        medkit.run(recipe_from(plain), tmp_path / "run", **OPTIONS)
    assert not (tmp_path / "run").exists()
