"""Training of one stage: epochs of steps, validation, checkpoints, exact resume."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

import torch

from medkit.engine import interrupt
from medkit.engine.agreement import Votes, together
from medkit.engine.best import BestWeights
from medkit.engine.clock import CheckpointClock
from medkit.engine.divided import own_slice
from medkit.engine.early_stop import EarlyStop
from medkit.engine.events import EpochEnded, Events, Message, StageStarted, StepEnded
from medkit.engine.loss_means import add_to, means_of
from medkit.engine.packing import Packed, pack, weights_in
from medkit.engine.runtime import Runtime, seed_step
from medkit.engine.settings import TrainingSettings
from medkit.engine.state import TrainingState
from medkit.engine.step import Place, Step, mean_of, to_device
from medkit.engine.unfreeze import stages_of, unfreeze
from medkit.errors import RunError, some
from medkit.protocols import Batch, Objective, offered


class Batches(Protocol):
    """A training loader: a pure function of (seed, epoch, position)."""

    @property
    def steps(self) -> int: ...

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]: ...


Validate = Callable[[int], Mapping[str, float]]
"""Maps an epoch (from 0) to numbers such as ``{"val/auc": 0.9}``; called on every rank; the main one's are used."""


class Trainer:
    """Trains an objective on a loader's batches, continuing from the checkpoint in ``folder`` if there is one.

    On several ranks each has a trainer, and the main one's ``events`` have listeners.

    Raises
    ------
    RunError
        if a loss is not finite; the checkpoint from before is kept.
    KeyboardInterrupt
        if the process is asked to stop (:mod:`medkit.engine.interrupt`), after a checkpoint.
    """

    def __init__(
        self,
        objective: Any,
        loader: Batches,
        settings: TrainingSettings,
        runtime: Runtime,
        folder: Path,
        events: Events,
        validate: Validate | None = None,
    ) -> None:
        self.objective, self.loader, self.settings, self.runtime = objective, loader, settings, runtime
        self.folder, self.events, self.validate = folder, events, validate
        turn_of: dict[str, str] = {}
        self.steps = [Step(objective, turn, settings, runtime, turn_of) for turn in objective.turns()]
        self.state = TrainingState(settings.epochs, loader.steps, runtime.world_size)
        self.clock = CheckpointClock(settings.checkpoint_seconds)
        self.votes = Votes(runtime, self.clock)
        self.patience = None
        if settings.early_stop is not None:
            self.patience = EarlyStop(settings.early_stop, self.state, self.say)
        self.best = None
        if settings.keep_best is not None:
            self.best = BestWeights(settings.keep_best, self.state, folder, runtime.is_main, self.say)
        self.opened: set[str] = set()
        self.steps_heard = False

    def fit(self) -> TrainingState:
        """Train to the end of the last epoch and return how far the training has got."""
        self.restore()
        self.start()
        while not self.state.ended:
            self.train_epoch()
            self.end_epoch(self.measure())
        self.take_best()
        return self.state

    def restore(self) -> None:
        """Go to the checkpoint, if there is one, on every rank alike."""
        if self.settings.unfreeze is not None:
            stages_of(self.objective, self.settings.unfreeze.part)
        settings, world_size = self.settings, self.runtime.world_size
        before = self.state.restore(
            self.folder, settings.stage, self.objective, self._optimizers(), settings.accumulate, settings.key
        )
        if before not in (None, world_size):
            what = f"begun on {before} ranks, continued on {world_size}: batches have another size in all, and numbers"
            self.say(f"{settings.stage}: {what} differ from those of a run that was not interrupted")
        self.runtime.strategy.broadcast([*self.objective.parameters(), *self.objective.buffers()])

    def start(self) -> None:
        """Announce that the training begins, and where; a new training is saved before its first step."""
        state = self.state
        self.steps_heard = self.events.wants(StepEnded)
        # Even at the very start: a run may end between the first epoch's line and its checkpoint.
        self.events.emit(StageStarted(self.settings.stage, state.epochs, self.loader.steps, state.epoch))
        if state.fresh:
            self.save(f"the first checkpoint of stage {self.settings.stage}")
        elif state.ended:
            self.say(f"{self.settings.stage}: training had finished before the interruption")
        else:
            self.say(f"{self.settings.stage}: going on at epoch {state.epoch + 1}, step {state.step + 1}")

    def train_epoch(self) -> None:
        """Take the remaining steps of an epoch, saving when it is time and stopping when asked to."""
        state, begun, before = self.state, time.monotonic(), self.state.seconds
        self._open_stages()
        for step in self.steps:
            step.begin_epoch(*self._schedule_place())
        self.clock.restart()
        with interrupt.deferred():
            for batches in self._groups():
                losses = self.train_step(batches)
                if state.fresh:
                    self._tell_untrained()
                state.step += len(batches)
                state.seconds = before + time.monotonic() - begun
                self._tell_step(losses)
                if self.votes.stop or (self.votes.save and state.step < self.loader.steps):
                    self.save_inside()
            if self.votes.stopping():
                self.save_inside(stop=True)
        self._refuse_broken()
        self.runtime.strategy.broadcast_buffers(self.objective)

    def _groups(self) -> Iterator[list[Batch]]:
        """The epoch's remaining batches, as many at a time as make a step; one that cannot read its own tells all."""
        batches = self.loader.epoch(self.state.epoch, self.state.step)
        while True:
            with self.votes.guarded():
                group = list(islice(batches, self.settings.accumulate))
            if not group:
                return
            yield group

    def _schedule_place(self) -> tuple[int, int, int]:
        """The epoch, the optimizer step in it, and how many steps it has."""
        size = self.settings.accumulate
        steps = -(-self.loader.steps // size)
        # Training that continues at the very end of an epoch reports the rate of its last step.
        return self.state.epoch, min(self.state.step // size, steps - 1), steps

    def train_step(self, batches: Sequence[Batch]) -> dict[str, float]:
        """Take every turn's steps on the batches of one step; returns the losses."""
        state = self.state
        self.votes.open()
        with self.votes.guarded():
            batches = [self._placed(batch, state.step + i) for i, batch in enumerate(batches)]
        losses: dict[str, float] = {}
        for step in self.steps:
            step.begin_step(*self._schedule_place())
            for repetition in range(step.turn.steps):
                each = step.take(batches, Place(state.epoch, state.step, repetition), self.votes)
                for values in each:
                    add_to(state.sums, values)
                add_to(state.sums, step.cosines)
                losses |= mean_of(each)
        return losses

    def _placed(self, batch: Batch, position: int) -> Batch:
        """A batch on the device, augmented there; every random draw from here on is the batch's own."""
        seed_step(self.settings.seed, self.state.epoch, position, self.runtime.rank)
        batch = to_device(batch, self.runtime.device)
        augment = getattr(self.loader, "device_augment", None)
        return batch if augment is None else augment(batch)

    def measure(self) -> dict[str, float]:
        """The numbers of the epoch: its losses, learning rates and seconds, and what validation finds."""
        metrics: dict[str, float] = {"seconds": round(self.state.seconds, 3)}
        for step in self.steps:
            metrics["lr" if len(self.steps) == 1 else f"lr/{step.turn.name}"] = step.rate
        metrics |= {f"train/{key}": value for key, value in means_of(self.state.sums).items()}
        told = offered(Objective, self.objective, "epoch_numbers")()
        metrics |= {f"train/{key}": value for key, value in told.items()}
        if self.validate is not None:
            # Ranks may round differently, and have to decide alike.
            found = dict(self.validate(self.state.epoch))
            metrics |= self.runtime.strategy.share(found, f"validation of {self.settings.stage}")
        return metrics

    def end_epoch(self, metrics: Mapping[str, float]) -> None:
        """Keep the best weights, report the numbers, and save the position at the start of the next epoch."""
        event = EpochEnded(self.settings.stage, self.state.epoch + 1, metrics)
        what = f"the end of epoch {event.epoch} of stage {event.stage}"
        with interrupt.deferred():  # what was measured is saved too
            packed = self.packed()
            with together(self.runtime, what):
                if self.best is not None:
                    self.best.epoch_ended(event, weights_in(packed[0]))
                self.events.emit(event)
                if self.patience is not None:
                    self.patience.epoch_ended(event)
                self.state.next_epoch()
                self.write(packed)
                if self.best is not None:
                    self.best.remove_older()

    def take_best(self) -> None:
        """End with the best epoch's weights if they are asked for."""
        self.runtime.strategy.barrier(f"the end of stage {self.settings.stage}")
        if self.best is not None:
            self.best.take(self.settings.stage, self.objective)

    def packed(self) -> Packed:
        """What a checkpoint holds; ranks put it together before anything can fail on one of them alone."""
        return pack(self.objective, self._optimizers(), self.runtime.strategy.whole)

    def write(self, packed: Packed) -> None:
        """Write the checkpoint, on the main rank."""
        if self.runtime.is_main:
            self.state.save(self.folder, self.settings.stage, packed, self.settings.key)
        self.clock.restart()

    def save(self, what: str) -> None:
        packed = self.packed()
        with together(self.runtime, what):
            self.write(packed)

    def save_inside(self, stop: bool = False) -> None:
        """Save inside an epoch, and end there if asked to."""
        self._refuse_broken()
        self.save(f"a checkpoint of stage {self.settings.stage}")
        if stop or self.votes.stop:
            raise KeyboardInterrupt

    def say(self, text: str) -> None:
        self.events.emit(Message(text))

    def _optimizers(self) -> dict[str, torch.optim.Optimizer]:
        return {step.turn.name: step.optimizer for step in self.steps}

    def _open_stages(self) -> None:
        plan = self.settings.unfreeze
        opened = unfreeze(self.objective, plan, self.state.epoch)
        if plan is not None and opened != self.opened:
            names = ", ".join(sorted(opened))
            self.say(f"{self.settings.stage}: of {plan.part}, {names} train from epoch {self.state.epoch + 1} on")
        self.opened = opened

    def _tell_step(self, losses: Mapping[str, float]) -> None:
        if self.steps_heard:
            state = self.state
            rates = {step.turn.name: step.rate for step in self.steps}
            self.events.emit(StepEnded(self.settings.stage, state.epoch + 1, state.step, losses, rates))

    def _tell_untrained(self) -> None:
        """Say once which trainable tensors the first batch left without a gradient, and which belong to no turn."""
        trained = {id(p) for step in self.steps for p in step.parameters}
        named = [(n, p) for n, p in self.objective.named_parameters() if p.requires_grad]
        if idle := [n for n, p in named if id(p) in trained and p.grad is None]:
            self.say(f"{self.settings.stage}: no loss reaches {some(idle, 5)}")
        if left := [n for n, p in named if id(p) not in trained]:
            self.say(f"{self.settings.stage}: no turn trains {some(left, 5)}, though it could be trained")

    def _refuse_broken(self) -> None:
        """Keep weights that are not finite (a gradient overflowed under a finite loss) out of checkpoints."""
        with together(self.runtime, f"a look at the weights of stage {self.settings.stage}"):
            held = ((name, own_slice(p.detach())) for name, p in self.objective.named_parameters())
            bad = [name for name, values in held if not bool(torch.isfinite(values).all())]
            if bad:
                raise RunError(
                    f"weights are not finite after epoch {self.state.epoch + 1}, step {self.state.step}: "
                    f"{', '.join(bad[:3])}",
                    f"stage {self.settings.stage}",
                    "lower the learning rate; the checkpoint from before is kept",
                )
