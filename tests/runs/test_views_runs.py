"""Recipes with views and crops: checked, made for the stages that read them, and resumed to the same numbers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from helpers import go_on, plugin_file, stopped_after, train

import medkit
from medkit.engine.checkpoint import read_tensors
from medkit.engine.runtime import Runtime
from medkit.errors import InputError, Problems
from medkit.recipe import Recipe, recipe_from
from medkit.recipe.views import views_in_words
from medkit.runs import built_in_trainer
from medkit.runs.workbench import Workbench

VIEWS = {"count": 2, "augment": [{"use": "random_resized_crop", "scale": [0.3, 1]}, {"use": "horizontal_flip"}]}
CROPS = {"count": 3, "size": 16, "scale": [0.1, 0.3]}


@pytest.fixture(autouse=True, scope="module")
def heads(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with plugin_file(Path(__file__).with_name("views_plugin.py"), tmp_path_factory.getbasetemp() / "cache"):
        yield


def recipe(*heads: str, data: dict[str, Any] | None = None, **stage: Any) -> Recipe:
    """A stage of such heads on six phantoms of 32 x 32 x 4, and one on the volumes of the same data block."""
    source = {"use": "phantoms:head_ct", "patients": 6, "size": [32, 32], "slices": 4}
    splits = {split: {"fold": split} for split in ("train", "val", "test")}
    encoder = {"use": "timm", "model": "test_resnet"}
    objective = {"use": "multitask", "encoder": encoder, "heads": {name: {"use": name} for name in heads}}
    segment = {
        "name": "segment",
        "unit": "volume",
        "objective": {
            "use": "volume",
            "encoder": {"from": "pretext.encoder"},
            "operator": "conv3d_segmenter",
            "losses": {"bce": "bce"},
        },
    }
    block = {"source": source, "splits": splits, "prepare": [{"use": "window", "low": 0, "high": 80}]}
    block |= {"views": VIEWS, "crops": CROPS} if data is None else data
    stages = [{"name": "pretext", "batch": 2, "objective": objective, **stage}, segment]
    return recipe_from({"medkit": 1, "name": "viewed", "data": {"d": block}, "stages": stages})


def bench(made: Recipe) -> Workbench:
    return Workbench(made, Runtime(torch.device("cpu")))


def problem(*heads: str, **options: Any) -> str:
    with pytest.raises(Problems) as caught:
        recipe(*heads, **options)
    return str(caught.value)


# -- what a recipe says --------------------------------------------------------------------------------------------


def test_a_head_that_reads_views_without_a_block_that_makes_them_is_refused_before_data_are_read() -> None:
    told = problem("agree", "local", data={"crops": CROPS})
    assert "stages.pretext.objective.heads.agree: 'views_plugin:agree' reads 'views'" in told
    assert "data block 'd' makes none" in told
    assert "write there views: {count: 2" in told
    assert "local" not in told


def test_the_way_out_that_is_named_is_one() -> None:
    from medkit.recipe.views import EXAMPLES

    for name, example in EXAMPLES.items():
        recipe("either", data=yaml.safe_load(example))
        assert name in yaml.safe_load(example)


def test_what_the_source_of_a_head_does_not_show_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"'pretext' reads 'views', and data block 'd' makes none"):
        medkit.run(recipe("hidden", data={}), tmp_path / "run", quiet=True)
    assert not (tmp_path / "run").exists()


def test_a_head_that_asks_whether_there_are_views_does_without(tmp_path: Path) -> None:
    made = bench(recipe("either", data={}))
    assert made.reads.views(made.recipe.stages[0]) == []
    made.reads.check_views(made.recipe.stages[0], made.objective(made.recipe.stages[0]))


@pytest.mark.parametrize(
    ("data", "told"),
    [
        ({"views": {"count": 2}}, "data.d.views: 'augment' is missing"),
        ({"views": {"augment": []}}, "data.d.views.augment: without a random change all views are alike"),
        ({"views": {**VIEWS, "count": 0}}, "data.d.views.count: 0 is not int > 0"),
        ({"views": {**VIEWS, "number": 2}}, "data.d.views.number: unknown key"),
        ({"views": {"augment": [{"use": "clahe"}]}}, "data.d.views.augment: 'medkit:clahe' is not an augmentation"),
        ({"crops": {"count": 2}}, "data.d.crops: 'size' is missing"),
        ({"crops": {"size": 8, "scale": [0.5, 0.1]}}, "data.d.crops.scale: the smallest share 0.5 is above the large"),
        ({"crops": {"size": 8, "scale": [0.0, 0.1]}}, "data.d.crops.scale: [0.0, 0.1] is not tuple"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_its_place(data: dict[str, Any], told: str) -> None:
    assert told in problem("either", data=data)


def test_the_resolved_recipe_reads_back_with_its_views() -> None:
    made = recipe("agree")
    assert recipe_from(made.resolved()).resolved() == made.resolved()
    assert made.resolved()["data"]["d"]["crops"]["count"] == 3


def test_views_are_said_in_words() -> None:
    words = views_in_words(recipe("agree").data["d"])
    assert words == "2 views (random_resized_crop, horizontal_flip) and 3 crops of 16 x 16 (0.1 to 0.3 of the area)"


# -- what a stage is given -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("on", ["cpu", "device"])
def test_only_what_a_stage_reads_is_made_for_it(on: str) -> None:
    made = bench(recipe("local", data={"views": VIEWS, "crops": CROPS, "augment_on": on}))
    pretext, segment = made.recipe.stages
    assert [view.name for view in made.reads.views(pretext)] == ["crops"]
    assert made.reads.views(segment) == []
    assert "crops" not in next(iter(made.loader(segment).epoch(0)))


def test_heads_that_compare_views_get_slices_as_they_lie_in_the_data() -> None:
    made = bench(recipe("agree", "local"))
    assert made.reads.draw(made.recipe.stages[0]) == "uniform"


def test_heads_that_take_the_same_views_share_one_pass_of_the_encoder() -> None:
    made = bench(recipe("agree", "hidden", "local"))
    stage = made.recipe.stages[0]
    objective, passes = made.objective(stage), []
    objective.encoder.register_forward_hook(lambda module, given, output: passes.append(given[0].shape))
    objective.losses("train", next(iter(made.loader(stage).epoch(0))))
    assert [tuple(shape) for shape in passes] == [(4, 1, 32, 32), (6, 1, 16, 16)]


def test_a_run_with_views_validates_by_them_and_is_resumed_to_the_same_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(built_in_trainer, "CHECKPOINT_SECONDS", 0.0)
    data = {"views": VIEWS, "crops": CROPS, "augment_on": "device"}
    made = recipe("agree", "local", data=data, epochs=2, slices=2, keep_best={"metric": "agree"}).without(["segment"])
    train(made, tmp_path / "whole", quiet=True)
    with stopped_after(3):
        train(made, tmp_path / "broken", quiet=True)
    go_on(tmp_path / "broken", quiet=True)
    lines = [(tmp_path / name / "metrics.jsonl").read_text().splitlines() for name in ("whole", "broken")]
    told = [[{k: v for k, v in json.loads(line).items() if k != "seconds"} for line in each] for each in lines]
    assert told[0] == told[1]
    assert told[0][0]["val/agree"] > 0
    weights = [read_tensors(tmp_path / name / "weights/pretext.encoder.safetensors")[0] for name in ("whole", "broken")]
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])
    log = (tmp_path / "whole" / "log.txt").read_text()
    assert "3 crops of 16 x 16 (0.1 to 0.3 of the area); it reads views and crops" in log
