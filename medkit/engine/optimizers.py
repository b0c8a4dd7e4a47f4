"""The optimizer of a turn: which weights decay, at what rate each layer learns, and the rate of every step."""

from __future__ import annotations

import fnmatch
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn

from medkit.engine.packing import pack
from medkit.errors import InputError, RunError
from medkit.protocols import Encoder, Turn, offered
from medkit.recipe import Block

By = Literal["epoch", "step"]


@dataclass(frozen=True)
class Optimization:
    """How the parameters of one turn are optimized.

    Parameters
    ----------
    optimizer, schedule:
        The settings that the recipe names (:class:`medkit.protocols.Optimizer`, :class:`medkit.protocols.Schedule`).
    no_decay:
        Weights that are not matrices (norms, biases) do not decay, nor do those that a module names in
        ``no_weight_decay()``.
    layer_decay:
        Each stage of an encoder learns at this share of the rate of the stage after it; null: all at the same rate.
    by:
        Whether the schedule counts epochs or optimizer steps.
    """

    optimizer: Any
    schedule: Any
    no_decay: bool = False
    layer_decay: float | None = None
    by: By = "epoch"

    @classmethod
    def of(cls, optimizer: Block, schedule: Block) -> Optimization:
        """As the two blocks of a recipe say."""
        return cls(optimizer.build(), schedule.build(), **optimizer.keys, **schedule.keys)

    def build(self, objective: Any, turn: Turn) -> torch.optim.Optimizer:
        """The optimizer over all parameters of the turn, frozen ones too: it skips those without a gradient.

        Raises
        ------
        InputError
            if no part of the turn has layers to decay by, or the optimizer does not hold what it is given.
        """
        parameters = turn_parameters(objective, turn)
        if not self.no_decay and self.layer_decay is None:
            made: torch.optim.Optimizer = self.optimizer.build(parameters)
            _check_held(made, [{"params": [p for p in parameters if p.requires_grad]}])
            return made
        groups = parameter_groups(objective, turn, no_decay=self.no_decay, layer_decay=self.layer_decay)
        made = self.optimizer.build([dict(group) for group in groups])
        _check_held(made, groups)
        return made

    def rate(self, epoch: int, step: int, epochs: int, steps: int) -> float:
        """The learning rate of optimizer step ``step`` of ``steps`` in ``epoch`` of ``epochs``, all from 0."""
        done, of = (epoch, epochs) if self.by == "epoch" else (epoch * steps + step, epochs * steps)
        return float(self.schedule.rate(self.optimizer.lr, done, of))


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Give every group its share of ``rate``."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group.get("lr_scale", 1.0)


def turn_parameters(objective: Any, turn: Turn) -> list[nn.Parameter]:
    """The parameters that a turn trains, each once."""
    return [parameter for _, parameter in _named(objective, turn)]


def parameter_groups(
    objective: Any, turn: Turn, *, no_decay: bool = False, layer_decay: float | None = None
) -> list[dict[str, Any]]:
    """The turn's parameters in groups as torch's optimizers take them, from the encoder's input to the heads.

    A group has ``params``, a ``name``, with ``layer_decay`` an ``lr_scale`` and, where nothing decays, a
    ``weight_decay`` of 0. Of n stages of an encoder the i-th (from 1) has the scale ``layer_decay ** (n + 1 - i)``, and
    what comes after the encoder 1: as timm counts layers, with the head as the last one.

    Raises
    ------
    InputError
        with ``layer_decay``, if the turn trains no encoder.
    """
    layers = _layers(objective, turn, layer_decay) if layer_decay is not None else {}
    exempt = _exempt(objective) if no_decay else frozenset()
    behind = (len(layers), "all" if layer_decay is None else "the rest", 1.0)
    groups: dict[tuple[int, str, bool], dict[str, Any]] = {}
    for name, parameter in _named(objective, turn):
        position, place, scale = layers.get(id(parameter), behind)
        rests = no_decay and (parameter.ndim <= 1 or name.endswith(".bias") or id(parameter) in exempt)
        named = {"params": [], "name": f"{place}, no decay" if rests else place}
        group = groups.setdefault((position, place, rests), named)
        group["params"].append(parameter)
        if layer_decay is not None:
            group["lr_scale"] = scale
        if rests:
            group["weight_decay"] = 0.0
    return [groups[key] for key in sorted(groups)]


def table(groups: Sequence[Mapping[str, Any]]) -> list[tuple[str, int, int, str, str]]:
    """Groups as rows of a table: name, tensors, weights, whether they decay, share of the learning rate."""
    return [
        (
            group["name"],
            len(group["params"]),
            sum(p.numel() for p in group["params"]),
            "no" if group.get("weight_decay") == 0.0 else "yes",
            f"{group.get('lr_scale', 1.0):.4g}",
        )
        for group in groups
    ]


def check_rates(settings: Optimization, epochs: int, steps: int, where: str) -> None:
    """Refuse a schedule whose rate is not a number, or negative, at the ends or in the middle of training."""
    for epoch in sorted({0, epochs // 2, epochs - 1}):
        rate = settings.rate(epoch, 0, epochs, steps)
        if not math.isfinite(rate) or rate < 0:
            what = f"the schedule gives the learning rate {rate} in epoch {epoch + 1} of {epochs}"
            raise InputError(what, where, "a rate is a number of at least 0")


def check_resumable(optimizer: torch.optim.Optimizer) -> None:
    """Refuse an optimizer that keeps what no checkpoint can hold, before it has trained for an hour."""
    try:
        pack(nn.Module(), {"it": optimizer})
    except RunError as error:
        raise InputError(error.what, hint=error.hint) from error


def _named(objective: Any, turn: Turn) -> Iterator[tuple[str, nn.Parameter]]:
    parts = objective.parts()
    seen: set[int] = set()
    for part in turn.parts:
        for name, parameter in parts[part].named_parameters():
            if id(parameter) not in seen:
                seen.add(id(parameter))
                yield f"{part}.{name}", parameter


def _layers(objective: Any, turn: Turn, decay: float) -> dict[int, tuple[int, str, float]]:
    """Position, name and share of the rate of every parameter of the turn's encoders."""
    parts = objective.parts()
    found: dict[int, tuple[int, str, float]] = {}
    for part in turn.parts:
        module = parts[part]
        if not hasattr(module, "stages") and not (hasattr(module, "channels") and hasattr(module, "strides")):
            continue
        stages = list(offered(Encoder, module, "stages")())
        for i, (name, stage) in enumerate(stages):
            for parameter in stage.parameters():
                found.setdefault(id(parameter), (i, f"{part}.{name}", decay ** (len(stages) - i)))
        if stages:  # what no stage holds, such as a positional embedding, comes before the first one
            for parameter in module.parameters():
                found.setdefault(id(parameter), (0, f"{part}.{stages[0][0]}", decay ** len(stages)))
    if not found:
        what = f"layer_decay goes by an encoder's stages, and turn '{turn.name}' trains {', '.join(turn.parts)}"
        raise InputError(what, hint="leave 'layer_decay' out")
    return found


def _exempt(objective: nn.Module) -> frozenset[int]:
    """Parameters that a module itself exempts from weight decay: ``no_weight_decay()`` gives names or patterns."""
    found = set()
    for module in objective.modules():
        names = getattr(module, "no_weight_decay", None)
        if not callable(names):
            continue
        patterns = list(names())
        for name, parameter in module.named_parameters():
            if any(fnmatch.fnmatch(name, pattern) for pattern in patterns):
                found.add(id(parameter))
    return frozenset(found)


def _check_held(optimizer: torch.optim.Optimizer, groups: Sequence[Mapping[str, Any]]) -> None:
    """Whether an optimizer holds the parameters it was given, in groups that say the same of them."""
    held = {id(p): group for group in optimizer.param_groups for p in group["params"]}
    for group in groups:
        missing = [p for p in group["params"] if id(p) not in held]
        if missing:
            what = f"the optimizer does not hold {len(missing)} of the parameters that it was given"
            raise InputError(what, hint="all are in it from the first epoch; those without a gradient it skips")
        for key in ("lr_scale", "weight_decay"):
            if key in group and any(held[id(p)].get(key) != group[key] for p in group["params"]):
                what = f"the optimizer does not keep '{key}' of the groups that it is given"
                hint = "build(parameters) hands groups on to torch; or leave 'no_decay' and 'layer_decay' out"
                raise InputError(what, hint=hint)
