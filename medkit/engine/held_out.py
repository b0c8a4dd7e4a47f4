"""Losses on cases that are not trained on, so that every objective has a curve that shows when it overfits."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch

from medkit.engine.agreement import FailedTogether
from medkit.engine.runtime import Runtime, seed_step
from medkit.engine.step import numbers_of, to_device
from medkit.errors import ElsewhereError
from medkit.guard import cause
from medkit.protocols import Batch

EPOCH = -1
"""Takes the place of the epoch in seeds: no training epoch draws the same, and all epochs are judged alike."""


class HeldOutLosses:
    """Means of an objective's losses over batches that are the same after every epoch; every case counts the same.

    The objective is in evaluation mode. Nothing that is trained is touched: its buffers are put back, and every step of
    the training seeds what it draws from. Gradients can be asked for, as a gradient penalty does, and none is kept.

    Parameters
    ----------
    batches:
        Gives (number, batch, items in it) for this rank's share of the batches; together the ranks have each once.
    on_device:
        What is done to a batch on its device, such as making the views that heads compare.
    needed:
        Whether anything in the training depends on them: then whatever an objective raises ends it. Otherwise the
        failure is reported once, and the training goes on; the next epoch tries again, as a resumed run does.
    """

    def __init__(
        self,
        objective: Any,
        batches: Callable[[], Iterator[tuple[int, Batch, int]]],
        seed: int,
        runtime: Runtime,
        say: Callable[[str], None],
        needed: bool = False,
        on_device: Callable[[Batch], Batch] | None = None,
    ) -> None:
        self.objective, self.batches, self.seed, self.runtime = objective, batches, seed, runtime
        self.say, self.needed, self.on_device = say, needed, on_device
        self.turns = [turn.name for turn in objective.turns()]
        self.told = False

    def __call__(self) -> dict[str, float]:
        """The losses by name, and their sum as ``loss`` if a single turn has them all."""
        sums: dict[str, float] = {}
        items, error = 0.0, None
        try:
            with self._untouched():
                for number, batch, count in self.batches():
                    for key, value in self._of(number, batch).items():
                        sums[key] = sums.get(key, 0.0) + value * count
                    items += count
        except Exception as caught:
            error = caught
        if self.runtime.strategy.any_true([error is not None])[0]:
            self._without(error)
            return {}
        return self._means(sums, items)

    def names(self) -> list[str]:
        """The names of the losses, from one batch; no other rank is asked."""
        with self._untouched():
            number, batch, _ = next(self.batches())
            return list(self._with_total(self._of(number, batch)))

    def _of(self, number: int, batch: Batch) -> dict[str, float]:
        seed_step(self.seed, EPOCH, number, 0)
        batch = to_device(batch, self.runtime.device)
        if self.on_device is not None:
            batch = self.on_device(batch)
        found: dict[str, float] = {}
        for turn in self.turns:
            with self.runtime.autocast():
                losses = self.objective.losses(turn, batch)
            found |= numbers_of(losses)
        return found

    def _means(self, sums: dict[str, float], items: float) -> dict[str, float]:
        strategy = self.runtime.strategy
        names = strategy.share(list(sums), "the names of the losses")  # a rank without any case has found none
        *totals, items = strategy.sum([*(sums.get(name, 0.0) for name in names), items])
        means = {name: total / items for name, total in zip(names, totals, strict=True)} if items else {}
        return self._with_total(means)

    def _with_total(self, losses: dict[str, float]) -> dict[str, float]:
        if len(self.turns) == 1 and losses:
            losses.setdefault("loss", sum(losses.values()))
        return losses

    def _without(self, error: Exception | None) -> None:
        """Say that there are no such losses, or end a training that needs them."""
        if self.needed and self.runtime.world_size > 1:
            raise FailedTogether from error or ElsewhereError()
        if self.needed and error is not None:
            raise error
        if not self.told:
            why = cause(error or ElsewhereError())
            self.say(f"the losses of validation are left out, they cannot be computed: {why}")
        self.told = True

    @contextlib.contextmanager
    def _untouched(self) -> Iterator[None]:
        """Evaluation mode; afterwards buffers, modes and generators are as they were."""
        modules = list(self.objective.modules())
        modes = [module.training for module in modules]
        kept = [
            (module, name, buffer, buffer.clone())
            for module in modules
            for name, buffer in module._buffers.items()
            if buffer is not None
        ]
        drawn = random.getstate(), np.random.get_state()
        self.objective.eval()
        try:
            with torch.random.fork_rng([self.runtime.device] if self.runtime.device.type == "cuda" else []):
                yield
        finally:
            random.setstate(drawn[0])
            np.random.set_state(drawn[1])
            with torch.no_grad():
                for module, name, buffer, value in kept:
                    buffer.copy_(value)
                    module._buffers[name] = buffer  # a different one may have been put in its place
            for module, training in zip(modules, modes, strict=True):
                module.training = training
