"""nnU-Net, the real one: planned, trained, resumed and predicted with by the bridge, on phantoms, on a CPU."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import numpy as np
import pytest

from medkit.data.nifti import read_nifti, write_nifti
from medkit.recipe import load_recipe

pytestmark = pytest.mark.skipif(shutil.which("nnUNetv2_train") is None, reason="nnU-Net is not installed")

EPOCHS = 5
RECIPE = """
medkit: 1
name: nnunet_CONFIGURATION
seed: 1
data:
  ich:
    source: {use: "phantoms:head_ct", patients: 40, size: [64, 64], slices: 8, smallest: 20, folds: [0.7, 0.1, 0.2]}
    splits: {train: {fold: train}, val: {fold: val}, internal: {fold: test, center: A}, external: {center: [B, C]}}
    prepare: [{use: window, low: 0, high: 80}]
stages:
  - name: segment
    unit: volume
    epochs: EPOCHS
    objective:
      use: "baselines:nnunet"
      configuration: CONFIGURATION
      iterations: 50
      batch_size: BATCH
      spacing: [16, 3.5, 3.5]
      mirror: false
    metrics: [dice, fpv]
report: {splits: [internal, external], maps: {cases: 2}}
"""
# nnU-Net plans for a GPU: more than a hundred slices of this size in a batch of 2d.
BATCH = {"2d": 12, "3d_fullres": 2}


@pytest.fixture(scope="session", params=["2d", "3d_fullres"])
def trained(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    command: Callable[..., CompletedProcess[str]],
) -> Path:
    """The run folder of a training that was killed once on its way."""
    configuration = request.param
    folder = tmp_path_factory.mktemp(configuration)
    text = RECIPE.replace("CONFIGURATION", configuration).replace("EPOCHS", str(EPOCHS))
    (folder / "recipe.yaml").write_text(text.replace("BATCH", str(BATCH[configuration])))
    program = subprocess.Popen(
        [sys.executable, "-m", "medkit", "run", "recipe.yaml", "--out", "run"],
        cwd=folder,
        env=os.environ | {"MEDKIT_CACHE": str(folder / "cache")},
        stderr=subprocess.PIPE,
        text=True,
    )
    while _epochs(folder / "run") < 2 and program.poll() is None:
        time.sleep(0.5)
    program.send_signal(signal.SIGINT)
    _, said = program.communicate(timeout=600)
    assert program.returncode == 130, said
    done = command("resume", folder / "run")
    if logs := os.environ.get("MEDKIT_NIGHTLY_LOGS"):
        for name in ("plan.log", "train.log", "predict-internal.log"):
            shutil.copy(folder / "run" / "external" / "segment" / name, Path(logs) / f"nnunet-{configuration}-{name}")
        shutil.copy(folder / "run" / "results.json", Path(logs) / f"nnunet-{configuration}-results.json")
    assert done.returncode == 0, done.stderr
    return folder / "run"


def _epochs(run: Path) -> int:
    path = run / "metrics.jsonl"
    return len(path.read_text().splitlines()) if path.exists() else 0


def _masks(run: Path, split: str) -> list[Path]:
    return sorted((run / "external" / "segment" / "predicted" / split / "masks").glob("*.nii.gz"))


def test_every_epoch_is_told_once(trained: Path) -> None:
    lines = [json.loads(line) for line in (trained / "metrics.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == list(range(1, EPOCHS + 1))


def test_the_loss_falls(trained: Path) -> None:
    losses = [json.loads(line)["train/loss"] for line in (trained / "metrics.jsonl").read_text().splitlines()]
    assert losses[-1] < losses[0] - 0.2


def test_an_interrupted_training_went_on(trained: Path) -> None:
    log = (trained / "external" / "segment" / "train.log").read_text()
    assert log.count("nnUNetv2_train") >= 2
    assert log.count(": Epoch 0") == 1


def test_it_trained_on_our_splits(trained: Path) -> None:
    splits = json.loads((trained / "external/segment/preprocessed/Dataset001_medkit/splits_final.json").read_text())
    cases = json.loads((trained / "external/segment/raw/Dataset001_medkit/cases.json").read_text())
    folds = [{cases[name]["fold"] for name in splits[0][kind]} for kind in ("train", "val")]
    assert folds == [{"train"}, {"val"}]


def test_its_masks_lie_on_our_grid_exactly(trained: Path) -> None:
    source = load_recipe(trained / "recipe.yaml").data["ich"].source.build()
    tested = [case for case in source.cases() if case.fold == "test" and case.center == "A"]
    masks = _masks(trained, "internal")
    assert len(masks) == len(tested)
    for case, path in zip(tested, masks, strict=True):
        mask, image = read_nifti(path), source.load(case).image
        assert mask.voxels.shape == image.voxels.shape
        np.testing.assert_allclose(mask.affine, image.affine, atol=1e-4)


def test_its_dice_is_that_of_its_masks(trained: Path) -> None:
    source = load_recipe(trained / "recipe.yaml").data["ich"].source.build()
    tested = [case for case in source.cases() if case.center in ("B", "C")]
    found = []
    for case, path in zip(tested, _masks(trained, "external"), strict=True):
        said, truth = read_nifti(path).voxels > 0, source.load(case).mask.voxels > 0
        if truth.any():
            found.append(2 * (said & truth).sum() / (said.sum() + truth.sum()))
    told = json.loads((trained / "results.json").read_text())["segment"]["external"]["dice"]
    assert told["n"] == len(found) >= 5
    assert told["value"] == pytest.approx(np.mean(found), abs=1e-6)


def test_it_predicts_a_new_scan(trained: Path, tmp_path: Path, command: Callable[..., CompletedProcess[str]]) -> None:
    source = load_recipe(trained / "recipe.yaml").data["ich"].source.build()
    write_nifti(source.load(source.cases()[0]).image, tmp_path / "scan.nii.gz")
    done = command("predict", trained, "--input", tmp_path / "scan.nii.gz", "--output", tmp_path / "mask.nii.gz")
    assert done.returncode == 0, done.stderr
    assert read_nifti(tmp_path / "mask.nii.gz").same_grid(read_nifti(tmp_path / "scan.nii.gz")) is None
