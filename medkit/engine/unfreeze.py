"""Gradual unfreezing as a pure function of the epoch, so that a resumed run opens what an unbroken one would."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol
from weakref import WeakKeyDictionary

from torch import nn

from medkit.errors import InputError
from medkit.protocols import Encoder, offered


class Plan(Protocol):
    """What a recipe's ``unfreeze`` says."""

    @property
    def part(self) -> str: ...

    @property
    def after(self) -> int: ...

    @property
    def every(self) -> int: ...

    @property
    def order(self) -> str: ...


def open_stages(plan: Plan, epoch: int, names: Sequence[str]) -> set[str]:
    """The stages, of ``names`` from input to output, that train in ``epoch``.

    None before epoch ``after``; then one, and one more every ``every`` epochs, starting with the last or the first.
    """
    if epoch < plan.after:
        return set()
    count = min(len(names), 1 + (epoch - plan.after) // plan.every)
    return set(names[-count:] if plan.order == "last_first" else names[:count])


def unfreeze(objective: Any, plan: Plan | None, epoch: int) -> set[str]:
    """Put ``objective`` into training mode for ``epoch`` and return the names of the open stages.

    Frozen stages get no gradient and stay in evaluation mode, so that their batch-norm statistics are frozen too. What
    belongs to no stage (the part itself, its dropout and pooling) trains once a stage does. Parameters that their
    author has frozen stay frozen when their stage opens.

    Raises
    ------
    InputError
        if the part does not exist, has no parameters, or has some outside all of its stages.
    """
    objective.train()
    if plan is None:
        return set()
    stages = stages_of(objective, plan.part)
    opened = open_stages(plan, epoch, [name for name, _ in stages])
    part = objective.parts()[plan.part]
    trainable = _trainable(part)
    part.train(bool(opened))
    for name, module in stages:
        training = name in opened
        module.train(training)
        for p in module.parameters():
            p.requires_grad_(training and id(p) in trainable)
    return opened


_TRAINABLE: WeakKeyDictionary[nn.Module, frozenset[int]] = WeakKeyDictionary()


def _trainable(part: nn.Module) -> frozenset[int]:
    """The parameters that trained before anything was frozen here."""
    if part not in _TRAINABLE:
        _TRAINABLE[part] = frozenset(id(p) for p in part.parameters() if p.requires_grad)
    return _TRAINABLE[part]


def stages_of(objective: Any, part: str) -> list[tuple[str, nn.Module]]:
    """The ordered stages of a named part; one that names none is a single stage."""
    parts = objective.parts()
    if part not in parts:
        raise InputError(f"unfreeze names the part '{part}'", hint=f"the objective's parts: {', '.join(parts)}")
    stages = list(offered(Encoder, parts[part], "stages")())
    if not stages:
        raise InputError(
            f"part '{part}' has no parameters, so there is nothing to unfreeze", hint="leave 'unfreeze' out"
        )
    inside = {p for _, module in stages for p in module.parameters()}
    left = [name for name, p in parts[part].named_parameters() if p not in inside]
    if left:
        hint = "'stages()' has to list modules that hold every parameter together"
        raise InputError(
            f"'{left[0]}' of part '{part}' is in none of its stages, so it would never be frozen", hint=hint
        )
    return stages
