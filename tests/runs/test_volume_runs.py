"""Encoders of volumes through the front door: a pretext without labels, masks, whole scans predicted."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import assert_same_run, stopped_after

import medkit
from medkit.data.io import read_volume
from medkit.data.nifti import write_nifti
from medkit.data.volume import Volume
from medkit.engine.checkpoint import read_tensors
from medkit.engine.runtime import Runtime
from medkit.errors import InputError
from medkit.parts.sliding import sliding_window
from medkit.runs import trainers
from medkit.runs.embed import Wanted, embed
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
    monkeypatch.setattr(trainers, "CHECKPOINT_SECONDS", 0.0)
    with stopped_after(STEPS + 6):
        medkit.run("tiny_ich_volume", tmp_path / "run", set=LESS, skip=VARIANT, **OPTIONS)
    medkit.resume(tmp_path / "run", **OPTIONS)
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


def test_an_encoder_of_volumes_is_not_embedded_slice_by_slice(run: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="encoder of volumes"):
        embed(str(run), tmp_path / "features.parquet", Wanted(None, "internal"), device="cpu")
