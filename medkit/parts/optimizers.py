"""Optimizers as recipe blocks: settings now, the torch optimizer once the parameters are known.

All use torch's fused step: with 18 million parameters on two CPU cores it takes 0.02 s instead of 0.09 s.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated

import torch
from annotated_types import Ge, Gt

Positive = Annotated[float, Gt(0)]
NotNegative = Annotated[float, Ge(0)]


@dataclass(frozen=True)
class Adam:
    """Adam (Kingma and Ba 2015) with L2 weight decay added to the gradient.

    Parameters
    ----------
    lr:
        Learning rate after warm-up.
    betas:
        Decay of the first and second moment.
    weight_decay:
        L2 factor.
    eps:
        Added to the denominator.
    """

    lr: Positive = 1e-4
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: NotNegative = 0.0
    eps: Positive = 1e-8

    def build(self, parameters: Iterable[torch.nn.Parameter]) -> torch.optim.Optimizer:
        return torch.optim.Adam(parameters, self.lr, self.betas, self.eps, self.weight_decay, fused=True)


@dataclass(frozen=True)
class AdamW:
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019).

    Parameters
    ----------
    lr:
        Learning rate after warm-up.
    betas:
        Decay of the first and second moment.
    weight_decay:
        Decay of the weights, times the learning rate.
    eps:
        Added to the denominator.
    """

    lr: Positive = 1e-4
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: NotNegative = 5e-4
    eps: Positive = 1e-8

    def build(self, parameters: Iterable[torch.nn.Parameter]) -> torch.optim.Optimizer:
        return torch.optim.AdamW(parameters, self.lr, self.betas, self.eps, self.weight_decay, fused=True)


@dataclass(frozen=True)
class SGD:
    """Stochastic gradient descent with momentum.

    Parameters
    ----------
    lr:
        Learning rate after warm-up.
    momentum:
        0 is plain descent.
    weight_decay:
        L2 factor.
    nesterov:
        Look ahead.
    """

    lr: Positive = 1e-2
    momentum: NotNegative = 0.9
    weight_decay: NotNegative = 0.0
    nesterov: bool = False

    def build(self, parameters: Iterable[torch.nn.Parameter]) -> torch.optim.Optimizer:
        optimizer = torch.optim.SGD(
            parameters, self.lr, self.momentum, weight_decay=self.weight_decay, nesterov=self.nesterov, fused=True
        )
        if self.momentum:
            # The fused step takes velocities of all weights or of none, and some weights are unfrozen later. From zero,
            # the first velocity is the gradient, as it is without one.
            for group in optimizer.param_groups:
                for p in group["params"]:
                    optimizer.state[p]["momentum_buffer"] = torch.zeros_like(p, requires_grad=False)
        return optimizer
