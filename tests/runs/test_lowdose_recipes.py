"""MTD-GAN from its recipes: trained end to end, and the ablation's rows."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import medkit
from medkit.evaluation.case_table import read_cases
from medkit.recipe import Stage, load_recipe


@pytest.fixture(scope="module")
def denoised(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ldct")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MEDKIT_CACHE", str(folder / "cache"))
        medkit.run("tiny_ldct_mtdgan", folder / "run", quiet=True)
    return folder / "run"


def test_every_metric_carries_what_the_low_dose_input_scores(denoised: Path) -> None:
    found = json.loads((denoised / "results.json").read_text())["denoise"]["test"]
    assert set(found) == {"psnr", "ssim", "rmse"}
    assert all({"value", "low", "high", "n", "input", "plain"} <= set(value) for value in found.values())


def test_cases_are_kept_with_the_weights_that_make_their_mean_the_value(denoised: Path) -> None:
    found = json.loads((denoised / "results.json").read_text())["denoise"]["test"]
    rows = [case for case in read_cases(denoised) if case["split"] == "test"]
    for name, value in found.items():
        counted = [(float(case[name]), float(case[f"weight_of_{name}"])) for case in rows if case[name]]
        scores, weights = zip(*counted, strict=True)
        assert np.average(scores, weights=weights) == pytest.approx(value["value"])


def test_both_networks_are_kept_and_every_task_is_logged(denoised: Path) -> None:
    kept = {path.name for path in (denoised / "weights").iterdir()}
    assert kept == {"denoise.generator.safetensors", "denoise.discriminator.safetensors"}
    line = json.loads((denoised / "metrics.jsonl").read_text().splitlines()[0])
    assert {f"train/{name}" for name in ("adversarial", "reconstruct", "consist", "fool", "charbonnier")} <= set(line)


def test_the_report_says_that_images_are_phantoms_and_doses_simulated(denoised: Path) -> None:
    page = (denoised / "report.html").read_text()
    assert "All images are synthetic phantoms" in page
    assert "Low-dose images are simulated by noise insertion" in page


def row(name: str) -> Stage:
    return load_recipe("tables/table10").stage(f"denoise@{name}" if name else "denoise")


@pytest.mark.parametrize(
    ("name", "generator", "tasks", "losses"),
    [
        ("a_cls", "conv_generator", ["cls"], ["adversarial"]),
        ("b_seg", "conv_generator", ["cls", "seg"], ["adversarial"]),
        ("c_rec", "conv_generator", None, ["adversarial", "reconstruct"]),
        ("d_nds", "conv_generator", None, ["adversarial", "reconstruct"]),
        ("e_consist", "conv_generator", None, ["adversarial", "reconstruct", "consist"]),
        ("f_fft", "fft_generator", None, ["adversarial", "reconstruct", "consist"]),
        ("", "fft_generator", None, ["adversarial", "reconstruct", "consist"]),
    ],
)
def test_each_row_of_the_ablation_adds_what_table_10_says(
    name: str, generator: str, tasks: list[str] | None, losses: list[str]
) -> None:
    objective = row(name).objective.arguments
    assert objective["generator"].name == f"mtdgan:{generator}"
    assert objective["discriminator"].arguments.get("tasks") == tasks
    assert list(objective["discriminator_losses"]) == losses


@pytest.mark.parametrize(("name", "suppressed"), [("a_cls", False), ("c_rec", False), ("d_nds", True), ("", True)])
def test_non_difference_suppression_comes_with_row_d(name: str, suppressed: bool) -> None:
    losses = row(name).objective.arguments
    for block in (losses["discriminator_losses"]["adversarial"], losses["generator_losses"]["fool"]):
        assert block.arguments.get("suppress", True) is suppressed


def test_only_the_last_row_projects_conflicting_gradients() -> None:
    combines = {name: row(name).objective.arguments["combine"] for name in ("e_consist", "f_fft", "")}
    assert combines == {"e_consist": {}, "f_fft": {}, "": {"discriminator": "pcgrad"}}
