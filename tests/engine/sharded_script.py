"""Two ranks: MTD-GAN with its generator and its discriminator divided, against whole copies on each rank."""

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
from medkit.runs.trainers import BuiltInTrainer
from medkit.runs.workbench import Workbench

EMA = ("generator", "generator_in_training", "discriminator")


def bench(runtime: Runtime, sets: list[str]) -> tuple[Workbench, Any]:
    always = ["stages.denoise.objective.combine.discriminator=sum", "stages.denoise.epochs=2"]
    recipe = load_recipe("tiny_ldct_mtdgan", set=[*always, *sets])
    return Workbench(recipe, runtime), recipe.stages[0]


def train(
    runtime: Runtime, folder: Path, shard: tuple[str, ...], sets: list[str], stop: bool = False
) -> dict[str, torch.Tensor]:
    """Weights after two epochs; with ``stop`` the second one is lost to a signal."""
    made, stage = bench(runtime, sets)
    objective = made.objective(stage)
    division = Division.of(objective, shard, runtime)
    divided = sum(is_divided(p) for p in division.objective.parameters())
    assert (divided > 0) == bool(shard and runtime.world_size > 1)

    def measure(epoch: int) -> Mapping[str, float]:
        assert not any(is_divided(p) for p in objective.parameters()), "what is measured is whole"
        if stop and epoch == 1:
            raise KeyboardInterrupt
        return {}

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
    sets = ["stages.denoise.objective.ema=0.9"] if mode == "ema" else []
    shard = EMA if mode == "ema" else EMA[::2]
    told = {}
    whole = train(runtime, folder / "whole", (), sets)
    divided = train(runtime, folder / "divided", shard, sets)
    told["divided against whole"] = distance(whole, divided)
    if mode == "resume":
        train(runtime, folder / "stopped", shard, sets, stop=True)
        runtime.strategy.barrier("the checkpoint")
        kept, _ = read_tensors(folder / "stopped" / "last.safetensors")
        (folder / f"kept{runtime.rank}").write_text(str(len(kept)))
        told["resumed against straight"] = distance(divided, train(runtime, folder / "stopped", shard, sets))
        train(runtime, folder / "for one", shard, sets, stop=True)
    (folder / f"told{runtime.rank}").write_text(repr(told))
    runtime.strategy.barrier("the end")
    os._exit(0)
