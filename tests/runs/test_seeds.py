"""What is drawn comes from the recipe's seed, the stage's name and the part's path: variants differ in nothing else."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from medkit.engine.runtime import Runtime, seed_all
from medkit.recipe import Block, Recipe, recipe_from
from medkit.registry import Entry
from medkit.runs.workbench import Workbench

ENCODER = {"use": "timm", "model": "test_resnet"}
SCSE = {"use": "smartnet:scse_unet"}


def recipe(seed: int = 7, **changes: Any) -> Recipe:
    """A pretext of two heads with variants, and a second stage that takes its encoder, or not."""
    source = {"use": "phantoms:head_ct", "patients": 6, "size": [32, 32], "slices": 4}
    data = {"source": source, "splits": {s: {"fold": s} for s in ("train", "val", "test")}}
    heads = {"seg": SCSE, "cls": {"use": "smartnet:slice_class"}}
    pretext = {
        "name": "pretext",
        "batch": 2,
        "objective": {"use": "multitask", "encoder": ENCODER, "heads": heads},
        "repeat": {
            "one_head": {"objective.heads": {"cls": {"use": "smartnet:slice_class"}}},
            "turned": {"objective.heads": {"cls": {"use": "smartnet:slice_class"}, "seg": SCSE}},
            "deep": {"objective.encoder": {"use": "timm", "model": "resnet18"}},
        },
        **changes,
    }
    losses = {"bce": {"use": "bce"}}
    operator = {"use": "conv3d_segmenter"}
    segment = {
        "name": "segment",
        "unit": "volume",
        "objective": {"use": "volume", "encoder": {"from": "pretext.encoder"}, "operator": operator, "losses": losses},
        "repeat": {"scratch": {"objective.encoder": ENCODER}},
    }
    return recipe_from({"medkit": 1, "name": "seeds", "seed": seed, "data": {"d": data}, "stages": [pretext, segment]})


def built(stage: str, made: Recipe | None = None) -> dict[str, torch.Tensor]:
    read = made or recipe()
    bench = Workbench(read, Runtime.start("cpu"))
    found: dict[str, torch.Tensor] = bench.objective(read.stage(stage)).state_dict()
    return found


def equal(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor], part: str) -> bool:
    names = [name for name in a if name.startswith(f"{part}.")]
    assert names
    return all(torch.equal(a[name], b[name]) for name in names)


def test_an_operator_starts_alike_whether_or_not_the_encoder_was_trained_before() -> None:
    assert equal(built("segment"), built("segment@scratch"), "operator")


@pytest.mark.parametrize("variant", ["one_head", "turned"])
def test_a_head_starts_alike_whatever_stands_beside_it(variant: str) -> None:
    plain, other = built("pretext"), built(f"pretext@{variant}")
    assert equal(plain, other, "heads.cls")
    assert equal(plain, other, "encoder")


def test_heads_of_one_shape_start_alike_on_another_encoder() -> None:
    made = recipe()
    for stage in made.stages[:4]:
        stage.objective.arguments["heads"] = {"cls": stage.objective.arguments["heads"]["cls"]}
    narrow = {"use": "timm", "model": "resnet18", "depth": 4}
    wide = {"use": "timm", "model": "resnet34", "depth": 4}
    bench = []
    for encoder in (narrow, wide):
        plain = made.resolved()
        plain["stages"] = [plain["stages"][0] | {"objective": plain["stages"][0]["objective"] | {"encoder": encoder}}]
        bench.append(built("pretext", recipe_from(plain)))
    assert equal(*bench, "heads.cls")


def test_parts_of_one_kind_do_not_start_alike() -> None:
    made = recipe()
    made.stages[0].objective.arguments["heads"]["seg2"] = made.stages[0].objective.arguments["heads"]["seg"]
    weights = built("pretext", made)
    drawn = [n for n in weights if n.startswith("heads.seg.") and weights[n].dim() > 1]
    assert drawn
    assert all(not torch.equal(weights[n], weights[n.replace("heads.seg.", "heads.seg2.")]) for n in drawn)


def test_seeds_differ_by_recipe_and_stage() -> None:
    assert not equal(built("pretext"), built("pretext", recipe(seed=8)), "encoder")
    assert not equal(built("pretext"), built("segment@scratch"), "encoder")


def order(stage: str, made: Recipe) -> list[int]:
    bench = Workbench(made, Runtime.start("cpu"))
    return [i for epoch in range(4) for i in bench.loader(made.stage(stage)).sampler.order(epoch).tolist()]


def test_variants_see_the_same_batches_and_other_stages_others() -> None:
    made = recipe(slices=8)
    assert order("pretext", made) == order("pretext@one_head", made)
    bench = Workbench(made, Runtime.start("cpu"))
    seeds = {stage.name: bench.seed(stage) for stage in made.stages}
    assert seeds["segment"] == seeds["segment@scratch"] != seeds["pretext"]


class Drawing(nn.Module):
    """A component that draws from every generator there is."""

    def __init__(self) -> None:
        super().__init__()
        self.drawn = (float(np.random.random()), random.random(), float(torch.rand(())))

    def forward(self, output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return output


def test_constructors_that_draw_from_numpy_or_python_are_seeded_too() -> None:
    block = Block(Entry("loss", "mine", "drawing", f"{__name__}:Drawing", ""))
    one, two = (block.build(seeded=lambda path: seed_all(f"1/{path}")).drawn for _ in range(2))
    assert one == two
