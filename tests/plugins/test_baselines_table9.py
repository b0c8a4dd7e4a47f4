"""The recipes of Table 9: eight methods that differ in nothing but the method, at three sizes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

import medkit
from medkit.engine.checkpoint import LAST, read_tensors
from medkit.engine.runtime import Runtime
from medkit.recipe import load_recipe, recipe_from
from medkit.runs.folder import RunFolder
from medkit.runs.workbench import Workbench

METHODS = ["red_cnn", "edcnn", "restormer", "ctformer", "wgan_vgg", "map_nn", "du_gan"]
STAGES = ["denoise", *(f"denoise@{method}" for method in METHODS)]
RECIPES = ["tiny_table9", "tables/table9", "thesis/tables/table9"]
RANDOM = "random_test_features"


@pytest.fixture(autouse=True)
def _places(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MEDKIT_LDCT_MANIFEST", "ldct.csv")
    for name in ("MEDKIT_VGG19", "MEDKIT_RESNET50", "MEDKIT_FID_INCEPTION"):
        monkeypatch.setenv(name, RANDOM)
    monkeypatch.setenv("MEDKIT_CACHE", str(tmp_path / "cache"))


@pytest.mark.parametrize("name", RECIPES)
def test_the_methods_share_everything_but_the_objective(name: str) -> None:
    first, *others = load_recipe(name).stages
    assert [first.name, *(stage.name for stage in others)] == STAGES
    for stage in others:
        same = replace(stage, name=first.name, objective=first.objective)
        assert {k: v for k, v in vars(same).items() if k != "metrics"} == {
            k: v for k, v in vars(first).items() if k != "metrics"
        }
        assert [m.plain() for m in same.metrics] == [m.plain() for m in first.metrics]


@pytest.mark.parametrize("name", ["tiny_table9", "tables/table9"])
def test_every_method_is_built_with_its_steps_of_the_critic(name: str) -> None:
    bench = Workbench(load_recipe(name), Runtime(torch.device("cpu")))
    found = {stage.name: bench.objective(stage).turns()[0].steps for stage in bench.recipe.stages}
    assert found == {name: 4 if name in ("denoise@wgan_vgg", "denoise@map_nn") else 1 for name in STAGES}


def test_the_thesis_s_generators_have_the_published_sizes() -> None:
    with torch.device("meta"):
        built = [stage.objective.arguments["generator"].build() for stage in load_recipe("thesis/tables/table9").stages]
    published = [467_137, 1_848_865, 80_961, 26_109_076, 1_382_413, 92_480, 62_016, 185_569]
    assert [sum(p.numel() for p in generator.parameters()) for generator in built] == published


@pytest.mark.nightly
def test_all_methods_train_and_are_compared(tmp_path: Path) -> None:
    done = medkit.run("tiny_table9", tmp_path / "run", device="cpu", quiet=True)
    assert list(done.results) == STAGES
    assert all(0 < done.results[stage]["test"]["psnr"].value < 100 for stage in STAGES)
    assert done.report.is_file()
    saved, _ = read_tensors(tmp_path / "run" / "weights" / "denoise@wgan_vgg.generator.safetensors")
    assert set(saved) == {"convs.0.weight", "convs.1.weight", "convs.2.weight", "out.weight"}


def test_an_averaged_generator_comes_back_from_a_run_s_folder_to_predict(tmp_path: Path) -> None:
    data = load_recipe("tiny_table9").resolved()
    (stage,) = (stage for stage in data["stages"] if stage["name"] == "denoise@du_gan")
    stage |= {"name": "denoise", "objective": {**stage["objective"], "ema": 0.9}}
    recipe = recipe_from({**data, "stages": [stage], "report": {"splits": ["test"]}})
    medkit.run(recipe, tmp_path / "run", device="cpu", quiet=True)
    folder = RunFolder.open(tmp_path / "run")
    objective = Workbench(recipe, Runtime(torch.device("cpu")), folder).trained(recipe.stages[0]).eval()
    last, _ = read_tensors(folder.checkpoints("denoise") / LAST)
    averaged = {name: last[f"weights.average.module.{name}"] for name in objective.generator.state_dict()}
    assert any(not torch.equal(averaged[name], last[f"weights.generator.{name}"]) for name in averaged)
    x = torch.rand(1, 1, 64, 64)
    with torch.no_grad():
        expected = torch.func.functional_call(objective.generator, averaged, (x,)).clamp(0, 1)
        assert torch.equal(objective.predict({"image": x})["output"], expected)
