"""One optimizer step of one turn: losses, gradients, their combination and bound, the update, the learning rate."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from medkit.engine.agreement import FailedTogether, Votes
from medkit.engine.divided import separate
from medkit.engine.gradients import Earlier, accumulate, backward, cosines
from medkit.engine.loss_means import LossMeans, Sums, add_to, items_of, means_of
from medkit.engine.optimizers import set_rate, turn_parameters
from medkit.engine.rows import Rows
from medkit.engine.runtime import Runtime, shared_generator
from medkit.engine.settings import TrainingSettings
from medkit.errors import ElsewhereError, RunError
from medkit.parts.across_ranks import gathering
from medkit.protocols import Batch, Turn


@dataclass(frozen=True)
class Place:
    """Where in training a step is taken: the epoch, the batch in it, and how often its turn has had it before."""

    epoch: int
    step: int
    repetition: int = 0


class Step:
    """One turn of an objective, with its optimizer and schedule."""

    def __init__(
        self,
        objective: Any,
        turn: Turn,
        settings: TrainingSettings,
        runtime: Runtime,
        turn_of: dict[str, str] | None = None,
    ) -> None:
        self.objective, self.turn, self.settings, self.runtime = objective, turn, settings, runtime
        self.parameters = turn_parameters(objective, turn)
        self.optimization = settings.optimizations[turn.name]
        self.optimizer = self.optimization.build(objective, turn)
        if settings.shard:
            parts = objective.parts()
            separate(self.optimizer, [p for name in settings.shard for p in parts[name].parameters()])
        self.rate = self.optimization.optimizer.lr
        self.means = LossMeans(runtime.strategy)
        self.tasks: list[str] = []
        self.turn_of = {} if turn_of is None else turn_of
        """The turn that each loss belongs to; all turns of a trainer share it."""
        self.cosines: dict[str, float] = {}
        """Between the gradients of the tasks of the last step, if they were projected."""

    def begin_epoch(self, epoch: int, step: int, steps: int) -> None:
        """Set the learning rate of an epoch that begins, or goes on, at optimizer step ``step`` of ``steps``."""
        self._set_rate(epoch, step, steps)

    def begin_step(self, epoch: int, step: int, steps: int) -> None:
        """Tell the objective about an optimizer step, and set its learning rate if that is scheduled by steps."""
        if self.optimization.by == "step":
            self._set_rate(epoch, step, steps)
        if hasattr(self.objective, "before_step"):
            self.objective.before_step(self.turn.name, epoch * steps + step, self.settings.epochs * steps)

    def _set_rate(self, epoch: int, step: int, steps: int) -> None:
        self.rate = self.optimization.rate(epoch, step, self.settings.epochs, steps)
        set_rate(self.optimizer, self.rate)

    def take(self, batches: Sequence[Batch], place: Place, votes: Votes) -> list[dict[str, float]]:
        """Train on batches, whose gradients are averaged; returns, for each, its losses' means over all ranks' items.

        Raises
        ------
        RunError
            if a loss is not finite, is not a scalar, or depends on no weights.
        FailedTogether
            on several ranks, wherever it fails on one of them.
        """
        self.optimizer.zero_grad(set_to_none=True)
        self.runtime.strategy.gathers = False
        earlier: Earlier | None = None
        means = []
        for i, batch in enumerate(batches):
            losses, values = self._losses(batch, replace(place, step=place.step + i) if i else place, votes)
            means.append(self.means.send(values, items_of(batch)))
            how: dict[str, Any] = {"shared": self._shared(), "weight": votes.weight / len(batches)}
            if i + 1 < len(batches):
                with self._guarded(votes):
                    earlier = accumulate(losses, self.parameters, earlier=earlier, **how)
            else:
                drawn = self._generator(place)
                products = backward(losses, self.parameters, self.runtime, generator=drawn, earlier=earlier, **how)
                self.cosines = {} if products is None else cosines(products, list(losses))
        if self.settings.clip is not None:
            self.runtime.strategy.clip(self.settings.clip, [p for p in self.parameters if p.grad is not None])
        self.optimizer.step()
        self.runtime.strategy.stepped()
        if hasattr(self.objective, "after_step"):
            with self.runtime.strategy.computing():
                self.objective.after_step(self.turn.name)
        return [found() for found in means]

    def _guarded(self, votes: Votes) -> AbstractContextManager[None]:
        """Around gradients that are kept: the next batch's vote covers them too.

        Those of divided parts are messages, after which nobody votes any more, and so are those of rows of all ranks.
        """
        return nullcontext() if self.settings.shard or self.runtime.strategy.gathers else votes.guarded()

    def _losses(self, batch: Batch, place: Place, votes: Votes) -> tuple[dict[str, Tensor], dict[str, float]]:
        """The losses of a batch, also as numbers, once every rank has found its own to be finite."""
        with votes.guarded():
            with self.runtime.strategy.computing(), self.runtime.autocast(), self._gathering(votes):
                losses: dict[str, Tensor] = self.objective.losses(self.turn.name, batch)
            self._refuse_no_losses(losses)
            self._refuse_other_tasks(losses)
            self._refuse_shared_names(losses)
            values = numbers_of(losses)
            bad = [f"{key} = {value}" for key, value in values.items() if not math.isfinite(value)]
            if bad:
                raise self._not_finite(bad, batch, place)
        if not votes.sound(True, items_of(batch), self.means.has_news(values)):
            raise FailedTogether from ElsewhereError()
        if votes.news:
            self.means.agree(values, f"losses of stage {self.settings.stage}")
        return losses, values

    def _gathering(self, votes: Votes) -> AbstractContextManager[None]:
        """Around losses that may ask for the rows of all ranks."""
        strategy = self.runtime.strategy
        return nullcontext() if strategy.world_size == 1 else gathering(Rows(strategy, votes))

    def _refuse_other_tasks(self, losses: Mapping[str, Tensor]) -> None:
        """Projected gradients belong to tasks by position, so every batch has to give the same losses."""
        if self.turn.combine != "pcgrad":
            return
        if self.tasks and list(losses) != self.tasks:
            what = f"a batch gives the losses {', '.join(losses)}, the first one gave {', '.join(self.tasks)}"
            hint = "pcgrad needs the same losses from every batch: give 0 where there is nothing to compute"
            raise RunError(what, f"stage {self.settings.stage}", hint)
        self.tasks = list(losses)

    def _refuse_shared_names(self, losses: Mapping[str, Tensor]) -> None:
        """Losses of all turns are recorded side by side."""
        for name in losses:
            other = self.turn_of.setdefault(name, self.turn.name)
            if other != self.turn.name:
                what = f"the turns '{other}' and '{self.turn.name}' both have a loss '{name}'"
                hint = "a loss needs a name of its own among those of all turns: docs/plugins.md#loss"
                raise RunError(what, f"stage {self.settings.stage}", hint)

    def _shared(self) -> Sequence[nn.Parameter] | None:
        """The parameters whose task gradients are projected; None if gradients are summed."""
        return self.objective.shared_parameters(self.turn.name) if self.turn.combine == "pcgrad" else None

    def _generator(self, place: Place) -> torch.Generator | None:
        if self.turn.combine != "pcgrad":
            return None
        return shared_generator(self.settings.seed, place.epoch, place.step, place.repetition)

    def _refuse_no_losses(self, losses: Any) -> None:
        """Losses of a turn are scalars by name, and at least one of them can be trained on."""
        where = f"stage {self.settings.stage}"
        wrong = [key for key, loss in losses.items() if not isinstance(loss, Tensor) or loss.dim() != 0]
        if wrong:
            found = losses[wrong[0]]
            is_a = f"a tensor of {tuple(found.shape)}" if isinstance(found, Tensor) else f"a {type(found).__name__}"
            raise RunError(f"loss '{wrong[0]}' is {is_a}, not a scalar tensor", where, "docs/plugins.md#loss")
        if not any(loss.requires_grad for loss in losses.values()):
            what = f"no loss of turn '{self.turn.name}' depends on weights: {', '.join(losses) or 'there is none'}"
            raise RunError(what, where, "a loss keeps its graph (no detach(), item() or no_grad)")

    def _not_finite(self, bad: list[str], batch: Batch, place: Place) -> RunError:
        return RunError(
            f"a loss is not finite ({', '.join(bad)}) in epoch {place.epoch + 1}, step {place.step + 1}; "
            f"samples: {', '.join(batch.get('ids', []))}",
            f"stage {self.settings.stage}",
            "look at these samples or lower the learning rate; the checkpoint from before is kept",
        )


def numbers_of(losses: dict[str, Tensor]) -> dict[str, float]:
    """Losses as numbers; waits for the device once."""
    found = [loss.detach().float() for loss in losses.values()]
    values = [found[0].item()] if len(found) == 1 else torch.stack(found).tolist()
    return dict(zip(losses, values, strict=True))


def mean_of(each: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The mean of each loss over the batches that have it."""
    sums: Sums = {}
    for losses in each:
        add_to(sums, losses)
    return means_of(sums)


def to_device(batch: Batch, device: torch.device) -> Batch:
    """The batch with its tensors on ``device``."""
    if device.type == "cpu":
        return batch
    return {k: v.to(device, non_blocking=True) if isinstance(v, Tensor) else v for k, v in batch.items()}
