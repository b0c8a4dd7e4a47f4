"""Runs on cases of which some are unlabelled: trained on where no label is read, else left out and counted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import torch

import medkit
from medkit.engine.runtime import Runtime
from medkit.errors import InputError
from medkit.recipe import Recipe, recipe_from
from medkit.runs.workbench import Workbench

LABELS = {"train": [None, 1, 0, None, 1, 0], "val": [1, None, 0], "test": [None, 0, 1]}


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve scans of 32 x 32 x 3, four of them without label and mask; masks of normal scans are not written."""
    folder = tmp_path_factory.mktemp("scans")
    rows, made = ["image,mask,patient,fold,bleed"], np.random.default_rng(0)
    for fold, labels in LABELS.items():
        for i, label in enumerate(labels):
            name, mask = f"{fold}{i}", np.zeros((32, 32, 3), np.uint8)
            image = made.normal(30, 5, mask.shape).astype(np.int16)
            if label:
                mask[8:14, 8:14, 1] = 1
                image[mask > 0] = 70
                nibabel.save(nibabel.Nifti1Image(mask, np.diag([1, 1, 5, 1])), folder / f"{name}_mask.nii")
            nibabel.save(nibabel.Nifti1Image(image, np.diag([1, 1, 5, 1])), folder / f"{name}.nii")
            rows.append(
                f"{name}.nii,{f'{name}_mask.nii' if label else ''},{name},{fold},{'' if label is None else label}"
            )
    (folder / "m.csv").write_text("\n".join(rows) + "\n")
    return folder / "m.csv"


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    monkeypatch.setenv("MEDKIT_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


def recipe(manifest: Path, *heads: str, splits: dict[str, Any] | None = None, **stage: Any) -> Recipe:
    source = {"use": "manifest", "path": str(manifest), "label": "bleed", "units": "HU"}
    block = {"source": source, "splits": splits or {name: {"fold": name} for name in LABELS}}
    block["prepare"] = [{"use": "window", "low": 0, "high": 80}]
    encoder = {"use": "timm", "model": "test_resnet"}
    objective = {"use": "multitask", "encoder": encoder, "heads": {head.split(":")[1]: {"use": head} for head in heads}}
    stages = [{"name": "s", "batch": 2, "objective": objective, **stage}]
    return recipe_from({"medkit": 1, "name": "partly", "data": {"d": block}, "stages": stages})


def bench(made: Recipe) -> Workbench:
    return Workbench(made, Runtime(torch.device("cpu")))


def trained(made: Recipe) -> list[str]:
    found = bench(made)
    loader = found.loader(found.recipe.stages[0])
    return sorted({name.split(".")[0] for batch in loader.epoch(0) for name in batch["ids"]})


def test_a_pretext_that_reads_no_label_trains_on_all_cases(manifest: Path) -> None:
    assert len(trained(recipe(manifest, "smartnet:pixel_shuffle"))) == 6


@pytest.mark.parametrize("head", ["smartnet:slice_class", "smartnet:scse_unet"])
def test_a_head_that_reads_labels_trains_on_those_that_have_them(manifest: Path, head: str) -> None:
    assert trained(recipe(manifest, head, "smartnet:pixel_shuffle")) == ["train1", "train2", "train4", "train5"]
    assert len(trained(recipe(manifest, head, balance=True))) == 4


def test_balance_among_cases_without_labels_is_refused(manifest: Path) -> None:
    with pytest.raises(InputError, match="2 of 6 cases have no label"):
        trained(recipe(manifest, "smartnet:pixel_shuffle", balance=True))


def test_slices_of_a_case_without_a_mask_are_drawn_evenly_and_have_no_label(manifest: Path) -> None:
    found = bench(recipe(manifest, "smartnet:pixel_shuffle", draw="positive", slices=8, batch=1))
    batches = list(found.loader(found.recipe.stages[0]).epoch(0))
    slices = {batch["ids"][0] for batch in batches if batch["ids"][0].startswith("train0")}
    assert len(slices) > 1
    assert all(torch.isnan(batch["label"]).all() for batch in batches if batch["ids"][0].startswith("train0"))


def test_a_stage_that_is_left_with_no_case_is_refused_before_anything_is_written(
    manifest: Path, tmp_path: Path
) -> None:
    splits = {"train": {"patient": ["train0", "train3"]}, "test": {"fold": "test"}}
    with pytest.raises(InputError, match="stage 's' reads label, which no case of 'train' has"):
        medkit.run(recipe(manifest, "smartnet:slice_class", splits=splits), tmp_path / "run", quiet=True)
    assert not (tmp_path / "run").exists()


def test_a_metric_whose_truth_no_case_has_is_refused(manifest: Path, tmp_path: Path) -> None:
    splits = {"train": {"fold": "train"}, "test": {"patient": ["test0", "val1"]}}
    made = recipe(manifest, "smartnet:scse_unet", splits=splits, metrics=["dice"], validate=None)
    with pytest.raises(InputError, match="metric 'dice' needs the mask, which no case of 'test' has"):
        medkit.run(made, tmp_path / "run", quiet=True)


def test_what_was_left_out_is_counted_in_log_report_and_results(manifest: Path, tmp_path: Path) -> None:
    metrics = ["auc", "dice", {"use": "concurrence", "on": "all"}]
    made = recipe(manifest, "smartnet:slice_class", "smartnet:scse_unet", metrics=metrics)
    run = medkit.run(made, tmp_path / "run", quiet=True)
    told = "2 of 6 cases of 'train' are left out, without the label and mask that it reads"
    assert told in (run.folder / "log.txt").read_text()
    assert told in run.report.read_text().replace("&#x27;", "'").replace("&#39;", "'")
    results = json.loads((run.folder / "results.json").read_text())["s"]["test"]
    assert (results["auc"]["n"], results["auc"]["n_empty"]) == (6, 3)  # slices: three cases, one of them unlabelled
    assert results["dice"]["n"] == 1
    line = json.loads((run.folder / "metrics.jsonl").read_text().splitlines()[0])
    assert line["val/slice_class"] == line["val/slice_class"]  # no nan
