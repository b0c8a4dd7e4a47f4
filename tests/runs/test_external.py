"""Stages that another program trains, and comparisons of which one method fails."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import plugin_file

import medkit
from medkit.data.nifti import read_nifti, write_nifti
from medkit.engine.progress import Progress
from medkit.errors import InputError, RunError
from medkit.front import resume, run
from medkit.recipe import check_round_trip, load_recipe
from medkit.runs.external import Work
from medkit.runs.measure import evaluate_again
from medkit.runs.predict import predict

DATA = """
medkit: 1
name: outside
data:
  ich:
    source: {use: "phantoms:head_ct", patients: 10, size: [48, 48], slices: 4, smallest: 5}
    splits: {train: {fold: train}, val: {fold: val}, internal: {fold: test, center: A}}
    prepare: [{use: window, low: 0, high: 80}, {use: resize, size: [32, 32]}]
"""
OUTSIDE = """
stages:
  - name: segment
    unit: volume
    epochs: 3
    objective: {use: brightness}
    metrics: [dice, fpv]
report: {maps: {cases: 2}}
"""
ONE_FAILS = """
stages:
  - name: segment
    unit: volume
    epochs: 3
    objective: {use: brightness, stop: 2}
    metrics: [dice]
    repeat:
      other: {objective: {use: brightness}}
"""
UPSTREAM_FAILS = """
stages:
  - name: pretext
    batch: 2
    epochs: 3
    objective:
      use: multitask
      encoder: {use: timm, model: test_resnet, in_channels: 1}
      heads: {cls: {use: "smartnet:slice_class"}}
    repeat:
      wild: {optim: {use: sgd, lr: 1e30}}
  - name: classify
    unit: volume
    batch: 2
    objective:
      use: volume
      encoder: {from: pretext.encoder}
      operator: {use: "smartnet:lstm_classifier", hidden: 4}
      losses: {bce: {use: bce}}
    metrics: [auc]
    repeat:
      wild: {objective.encoder: {from: pretext@wild.encoder}}
"""


@pytest.fixture(scope="module", autouse=True)
def loaded(tmp_path_factory: pytest.TempPathFactory):
    """The test plugin, for this module only."""
    with plugin_file(Path(__file__).with_name("brightness_plugin.py"), tmp_path_factory.mktemp("cache")):
        yield


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    folder = tmp_path_factory.mktemp("recipes")

    def write(stages: str) -> Path:
        path = folder / f"{abs(hash(stages))}.yaml"
        path.write_text(DATA + stages)
        return path

    return write


@pytest.fixture(scope="module")
def finished(written: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory, loaded: None) -> Path:
    folder = tmp_path_factory.mktemp("outside") / "run"
    run(written(OUTSIDE), folder, quiet=True, device="cpu")
    return folder


@pytest.fixture(scope="module")
def failed(written: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory, loaded: None) -> Path:
    folder = tmp_path_factory.mktemp("failed") / "run"
    with pytest.raises(RunError, match=r"segment: .*no more memory"):
        run(written(ONE_FAILS), folder, quiet=True, device="cpu")
    return folder


def test_masks_of_an_external_program_are_measured_on_the_source_grid(finished: Path) -> None:
    low, high = json.loads((finished / "external" / "segment" / "threshold.json").read_text())
    data = load_recipe(finished / "recipe.yaml").data["ich"]
    source = data.source.build()
    dice = []
    for case in source.cases():
        record = source.load(case)
        if case.fold == "test" and case.center == "A" and record.mask.voxels.any():
            found = (record.image.voxels >= low) & (record.image.voxels <= high)
            dice.append(2 * (found & (record.mask.voxels > 0)).sum() / (found.sum() + record.mask.voxels.sum()))
    assert json.loads((finished / "results.json").read_text())["segment"]["internal"]["dice"]["value"] == pytest.approx(
        np.mean(dice)
    )


def test_epochs_of_an_external_program_are_kept_like_others(finished: Path) -> None:
    lines = [json.loads(line) for line in (finished / "metrics.jsonl").read_text().splitlines()]
    assert [(line["stage"], line["epoch"]) for line in lines] == [("segment", 1), ("segment", 2), ("segment", 3)]


def test_the_log_holds_the_command_and_what_it_said(finished: Path) -> None:
    log = (finished / "external" / "segment" / "train.log").read_text()
    assert log.startswith("$ ")
    assert log.endswith("epoch 1\nepoch 2\nepoch 3\n")


def test_the_report_shows_masks_of_an_external_program(finished: Path) -> None:
    assert (finished / "examples" / "segment.internal.npz").exists()


def test_memory_of_an_external_program_is_its_own(finished: Path) -> None:
    found = json.loads((finished / "resources.json").read_text())["segment"]
    assert found["memory"] == "children"
    assert 1 < found["peak_mb"] < 300  # Python with numpy, without torch


def test_another_split_is_evaluated_by_the_external_program(finished: Path) -> None:
    (found,) = evaluate_again(finished, "val", device="cpu", allow_seen="a look at validation")
    assert {case["split"] for case in found.cases} == {"val"}


def test_an_external_program_predicts_a_new_image_on_its_grid(finished: Path, tmp_path: Path) -> None:
    source = medkit.build("source", "phantoms:head_ct", patients=2, size=(48, 48), slices=4)
    image = source.load(source.cases()[0]).image
    write_nifti(image, tmp_path / "image.nii.gz")
    before = sorted(p.name for p in (finished / "external" / "segment").iterdir() if p.is_dir())
    predict(finished, tmp_path / "image.nii.gz", tmp_path / "mask.nii.gz", device="cpu")
    assert read_nifti(tmp_path / "mask.nii.gz").same_grid(read_nifti(tmp_path / "image.nii.gz")) is None
    assert sorted(p.name for p in (finished / "external" / "segment").iterdir() if p.is_dir()) == before


def test_a_failed_method_does_not_cost_the_others(failed: Path) -> None:
    assert set(json.loads((failed / "results.json").read_text())) == {"segment@other"}
    assert (failed / "report.html").exists()


def test_a_failure_is_remembered_with_its_reason(failed: Path) -> None:
    state = json.loads((failed / "state.json").read_text())
    assert state["done"] == ["segment@other"]
    assert "no more memory" in state["failed"]["segment"]


def test_a_failed_stage_is_tried_again_from_where_it_stood(failed: Path) -> None:
    resume(failed, quiet=True, device="cpu")
    assert set(json.loads((failed / "results.json").read_text())) == {"segment", "segment@other"}
    assert json.loads((failed / "state.json").read_text())["failed"] == {}
    assert (failed / "external" / "segment" / "train.log").read_text().count("epoch 1\n") == 1


def test_what_takes_a_part_of_a_failed_stage_is_left_out(written: Callable[[str], Path], tmp_path: Path) -> None:
    with pytest.raises(RunError, match="classify@wild: takes a part of 'pretext@wild', which failed"):
        run(written(UPSTREAM_FAILS), tmp_path / "run", quiet=True, device="cpu")
    assert json.loads((tmp_path / "run" / "state.json").read_text())["done"] == ["pretext", "classify"]


def test_an_interrupted_run_ends_its_program(tmp_path: Path) -> None:
    work = Work(tmp_path, lambda case: None, "cpu", Progress(quiet=True))
    told: list[int] = []

    def interrupt(line: str) -> None:
        told.append(int(line))
        raise KeyboardInterrupt

    program = "import os, time; print(os.getpid(), flush=True); time.sleep(600)"
    with pytest.raises(KeyboardInterrupt):
        work.run([sys.executable, "-c", program], "log.txt", {}, interrupt)
    with pytest.raises(ProcessLookupError):
        os.kill(told[0], 0)


def test_a_skipped_variant_is_neither_trained_nor_in_the_recipe(written: Callable[[str], Path], tmp_path: Path) -> None:
    made = run(written(OUTSIDE.replace("report:", "    repeat: {other: {epochs: 1}}\nreport:")), tmp_path / "run",
               skip=["segment@other"], quiet=True, device="cpu")  # fmt: skip
    assert [stage.name for stage in load_recipe(made.folder / "recipe.yaml").stages] == ["segment"]


def test_a_stage_that_others_need_is_not_skipped(written: Callable[[str], Path]) -> None:
    with pytest.raises(InputError, match="'classify' takes a part of 'pretext'"):
        load_recipe(written(UPSTREAM_FAILS)).without(["pretext"])


def test_metrics_that_only_skipped_stages_have_are_not_compared() -> None:
    recipe = load_recipe("tiny_ich_seg")
    assert recipe.report.compare["metric"] == ["dice", "fpv"]
    left = recipe.without(["segment", "segment@scratch"])
    assert left.report.compare["metric"] == ["dice"]
    check_round_trip(left)


def test_a_skipped_variant_has_no_row_in_tables() -> None:
    recipe = load_recipe("tables/table6_seg").without(["segment@nnunet_2d", "segment@nnunet_3d"])
    assert "nnunet_2d" not in recipe.report.tables[0].rows
    assert "patel" in recipe.report.tables[0].rows


def test_a_gpu_that_is_too_small_is_a_failure_with_a_way_out(
    written: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self, work, *arguments) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")

    monkeypatch.setattr(sys.modules["brightness_plugin"].Brightness, "train_cases", full)
    with pytest.raises(RunError, match=r"Tried to allocate 20.*--set stages\.segment\.batch=1"):
        run(written(OUTSIDE), tmp_path / "run", quiet=True, device="cpu")
