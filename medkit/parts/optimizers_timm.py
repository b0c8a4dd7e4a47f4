"""Any optimizer of timm.optim by its name there."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import timm.optim
import torch

from medkit.errors import InputError, did_you_mean
from medkit.parts.optimizers import NotNegative, Positive

MOMENTUM = 0.9  # timm's own factory gives it to every optimizer that has a momentum


@dataclass(frozen=True)
class TimmOptimizer:
    """An optimizer of timm.optim, such as ``lamb``, ``lion``, ``adan`` or ``muon``.

    Defaults are timm's, including a momentum of 0.9.

    Parameters
    ----------
    name:
        Its name in timm.optim.
    lr:
        Learning rate after warm-up.
    weight_decay:
        Decay of the weights; whether it is decoupled is up to the optimizer (``lambw`` versus ``lamb``).
    options:
        Further arguments of this optimizer, such as ``{betas: [0.9, 0.98], trust_clip: true}``.
    """

    name: str
    lr: Positive = 1e-4
    weight_decay: NotNegative = 0.0
    options: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        known = [str(name) for name in timm.optim.list_optimizers()]
        if self.name not in known:
            hint = did_you_mean(self.name, known) or "timm.optim.list_optimizers() names them all"
            raise InputError(f"timm has no optimizer named '{self.name}'", hint=hint)
        info = timm.optim.get_optimizer_info(self.name)
        if isinstance(info.opt_class, str):
            needs = info.opt_class.partition(".")[0]
            raise InputError(f"timm's '{self.name}' comes from '{needs}', which medkit does not use")
        if info.second_order:
            raise InputError(f"timm's '{self.name}' needs second derivatives, for which no turn keeps a graph")
        try:
            self.build([torch.nn.Parameter(torch.zeros(2, 2))])
        except (TypeError, ValueError, AssertionError) as error:
            raise InputError(f"timm's '{self.name}' does not take {self.options or 'this'}: {error}") from error

    def build(self, parameters: Iterable[Any]) -> torch.optim.Optimizer:
        info = timm.optim.get_optimizer_info(self.name)
        options = {**({"momentum": MOMENTUM} if info.has_momentum else {}), **(self.options or {})}
        # Its class and not timm's factory, which drops some of the options that an optimizer does not have.
        make: Any = timm.optim.get_optimizer_class(self.name)
        made: torch.optim.Optimizer = make(parameters, lr=self.lr, weight_decay=self.weight_decay, **options)
        return made
