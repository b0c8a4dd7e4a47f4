"""Two ranks: parts divided among them against whole copies on each: MTD-GAN, and SMART-Net's encoder beside its heads."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from medkit.engine.checkpoint import read_tensors
from medkit.engine.divided import is_divided
from medkit.engine.events import Events
from medkit.engine.runtime import Runtime
from medkit.engine.sharded import Division
from medkit.engine.trainer import Trainer
from medkit.recipe import load_recipe
from medkit.runs.built_in_trainer import BuiltInTrainer
from medkit.runs.workbench import Workbench

EMA = ("generator", "generator_in_training", "discriminator")


def bench(runtime: Runtime, mode: str) -> tuple[Workbench, Any]:
    name, sets = "tiny_ldct_mtdgan", ["stages.denoise.objective.combine.discriminator=sum", "stages.denoise.epochs=2"]
    if mode == "ema":
        sets.append("stages.denoise.objective.ema=0.9")
    if mode == "encoder":
        name = "tiny_ich_seg"
        # Without the momentum and the roots of others, by which what is a rounding of a gradient is none of a weight.
        keys = ("epochs=3", "clip=0.2", "unfreeze={part: encoder, after: 1}", "optim={use: sgd, lr: 0.05, momentum: 0}")
        sets = [f"stages.pretext.{key}" for key in keys]
    recipe = load_recipe(name, set=sets)
    return Workbench(recipe, runtime), recipe.stages[0]


def train(
    runtime: Runtime, folder: Path, shard: tuple[str, ...], mode: str, stop: bool = False
) -> dict[str, torch.Tensor]:
    """Weights after some epochs; with ``stop`` the second one is lost to a signal."""
    made, stage = bench(runtime, mode)
    objective = made.objective(stage)
    division = Division.of(objective, shard, runtime)
    divided = sum(is_divided(p) for p in division.objective.parameters())
    assert (divided > 0) == bool(shard and runtime.world_size > 1)

    def measure(epoch: int) -> Mapping[str, float]:
        assert not any(is_divided(p) for p in objective.parameters()), "what is measured is whole"
        if stop and epoch == 1:
            raise KeyboardInterrupt
        return {"val/auc": 0.9 if epoch == 1 else 0.1}  # the recipe of the encoder keeps the best epoch

    settings = replace(BuiltInTrainer(made, stage, objective).settings(), shard=shard)
    validate = division.measuring(measure)
    trainer = Trainer(division.objective, made.loader(stage), settings, division.runtime, folder, Events(), validate)
    try:
        trainer.fit()
    except KeyboardInterrupt:
        assert stop
    return {name: tensor.clone() for name, tensor in division.put_together().state_dict().items()}


def distance(one: Mapping[str, torch.Tensor], other: Mapping[str, torch.Tensor]) -> float:
    return max(float((one[name].double() - other[name].double()).abs().max()) for name in one)


if __name__ == "__main__":
    mode, folder = sys.argv[1], Path(sys.argv[2])
    runtime = Runtime.start(device="cpu")
    shard = {"ema": EMA, "encoder": ("encoder",)}.get(mode, EMA[::2])
    told = {}
    whole = train(runtime, folder / "whole", (), mode)
    divided = train(runtime, folder / "divided", shard, mode)
    told["divided against whole"] = distance(whole, divided)
    if mode == "resume":
        train(runtime, folder / "stopped", shard, mode, stop=True)
        runtime.strategy.barrier("the checkpoint")
        kept, _ = read_tensors(folder / "stopped" / "last.safetensors")
        (folder / f"kept{runtime.rank}").write_text(str(len(kept)))
        told["resumed against straight"] = distance(divided, train(runtime, folder / "stopped", shard, mode))
        train(runtime, folder / "for one", shard, mode, stop=True)
    (folder / f"told{runtime.rank}").write_text(repr(told))
    runtime.strategy.barrier("the end")
    os._exit(0)
