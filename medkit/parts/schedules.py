"""Learning-rate schedules: the rate of an epoch as a pure function of its number, so that resuming is exact.

With ``by: step`` beside a schedule the engine counts optimizer steps: what is said about epochs here holds for steps.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated

from annotated_types import Ge, Gt, Le

Epochs = Annotated[int, Ge(0)]


@dataclass(frozen=True)
class Constant:
    """The same learning rate throughout."""

    def rate(self, lr: float, epoch: int, epochs: int) -> float:
        """Learning rate of ``epoch`` (from 0) of ``epochs``."""
        return lr


@dataclass(frozen=True)
class Poly:
    """Linear warm-up, a plateau, then polynomial decay to zero: the thesis' schedule.

    The multiplier is ``(e+1)/warmup`` during warm-up, 1 until a share ``decay_from`` of the epochs is over, then
    ``(1 - (e - s)/(epochs - s))^power`` with s that epoch. The published schedulers start at zero and are stepped at
    the end of an epoch, so that their first two epochs train nothing; ``official`` reproduces them.

    Parameters
    ----------
    warmup:
        Epochs of warm-up; optimizer steps with ``by: step``.
    power:
        1 is linear.
    min_lr:
        Smallest learning rate (absolute; with ``official``, smallest multiplier, as published).
    decay_from:
        Share of the epochs after which decay starts.
    official:
        The published behaviour, with its two idle epochs.
    """

    warmup: Epochs = 5
    power: Annotated[float, Gt(0)] = 1.0
    min_lr: Annotated[float, Ge(0)] = 0.0
    decay_from: Annotated[float, Ge(0), Le(1)] = 0.1
    official: bool = False

    def multiplier(self, epoch: int, epochs: int) -> float:
        """Share of the full rate by the formula, before any floor."""
        if epoch < self.warmup:
            return (epoch if self.official else epoch + 1) / self.warmup
        start = self.decay_from * epochs
        if epochs <= start:
            return 1.0
        return max(0.0, 1 - max(0.0, epoch - start) / (epochs - start)) ** self.power

    def published(self, epoch: int, epochs: int) -> float:
        """The published multiplier: its floor applies only after warm-up."""
        multiplier = self.multiplier(epoch, epochs)
        return multiplier if epoch < self.warmup else max(multiplier, self.min_lr)

    def rate(self, lr: float, epoch: int, epochs: int) -> float:
        """Learning rate of ``epoch`` (from 0) of ``epochs``."""
        if self.official:
            # Stepped after each epoch: epoch e trains with the value of epoch e - 1, the first with that of 0.
            return lr * self.published(max(epoch - 1, 0), epochs)
        return max(lr * self.multiplier(epoch, epochs), self.min_lr)


@dataclass(frozen=True)
class Cosine:
    """Linear warm-up, then half a cosine to ``min_lr`` (Loshchilov and Hutter 2017, without restarts).

    Parameters
    ----------
    warmup:
        Epochs of warm-up; optimizer steps with ``by: step``.
    min_lr:
        Learning rate at the end.
    """

    warmup: Epochs = 0
    min_lr: Annotated[float, Ge(0)] = 0.0

    def rate(self, lr: float, epoch: int, epochs: int) -> float:
        """Learning rate of ``epoch`` (from 0) of ``epochs``."""
        if epoch < self.warmup:
            return lr * (epoch + 1) / self.warmup
        share = (epoch - self.warmup) / max(1, epochs - self.warmup)
        return self.min_lr + (lr - self.min_lr) * 0.5 * (1 + math.cos(math.pi * share))
