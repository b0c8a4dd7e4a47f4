"""How far training has got, and its checkpoint: written at a position, read to continue from there bit for bit."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from medkit.engine import checkpoint
from medkit.engine.loss_means import Sums
from medkit.engine.packing import Optimizers, Packed, unpack
from medkit.errors import InputError


@dataclass
class TrainingState:
    """The next step of the current epoch, and what has been gathered so far."""

    epochs: int
    steps: int = 0
    """Batches of an epoch on each of the ranks, and how many ranks there are."""
    world_size: int = 1
    epoch: int = 0
    step: int = 0
    sums: Sums = field(default_factory=dict)
    best: float | None = None
    best_epoch: int | None = None
    judged: float | None = None
    """The best number of the early stop so far, and for how many epochs it has waited for a better one."""
    waited: int = 0
    stopped: bool = False
    seconds: float = 0.0

    @property
    def fresh(self) -> bool:
        """Whether nothing has been trained yet."""
        return self.epoch == 0 and self.step == 0

    @property
    def ended(self) -> bool:
        """Whether the last epoch is over, be it by an early stop."""
        return self.stopped or self.epoch >= self.epochs

    def next_epoch(self) -> None:
        self.epoch, self.step, self.sums, self.seconds = self.epoch + 1, 0, {}, 0.0

    def save(self, folder: Path, stage: str, packed: Packed, key: str = "") -> None:
        """Write the checkpoint of ``stage``, whose training ``key`` identifies; the one before is kept."""
        tensors, plain = packed
        written = {"stage": stage, "key": key, "position": asdict(self), "plain": plain}
        checkpoint.write_tensors(folder / checkpoint.LAST, tensors, written)

    def restore(
        self, folder: Path, stage: str, objective: Any, optimizers: Optimizers, accumulate: int = 1, key: str = ""
    ) -> int | None:
        """Go to the position of the checkpoint in ``folder``, if there is one, and return how many ranks wrote it.

        On another number of ranks an epoch has another number of batches: training continues with the same share of
        them behind it, at the first of the ``accumulate`` batches of a step.

        Raises
        ------
        InputError
            if it is damaged, belongs to another stage or training, or was started for another number of epochs.
        """
        path = next((p for p in (folder / checkpoint.LAST, folder / checkpoint.PREVIOUS) if p.exists()), None)
        if path is None:
            return None
        tensors, written = checkpoint.read_tensors(path)
        if written.get("stage") != stage:
            raise InputError(f"this is a checkpoint of stage '{written.get('stage')}', not '{stage}'", str(path))
        if key and written.get("key") and written["key"] != key:
            what = f"this checkpoint was written by another training of stage '{stage}', not by this run"
            raise InputError(what, str(path), "restore this run's own, or delete it to train the stage from the start")
        try:
            known = {f.name for f in fields(TrainingState)}
            saved = TrainingState(**{key: value for key, value in written["position"].items() if key in known})
        except (KeyError, TypeError, AttributeError) as error:
            raise InputError(f"its metadata do not say how far the stage had got ({error})", str(path)) from error
        if saved.epochs != self.epochs:
            raise InputError(
                f"the stage was begun for {saved.epochs} epochs and is resumed for {self.epochs}",
                str(path),
                "schedules depend on it: keep the number, or start a new run from these weights",
            )
        unpack(tensors, written.get("plain", {}), objective, optimizers, str(path))
        steps, world_size = self.steps, self.world_size
        vars(self).update(vars(saved), steps=steps, world_size=world_size)
        if saved.world_size != world_size and saved.step:
            self.step = steps if saved.step == saved.steps else saved.step * steps // saved.steps
            if self.step < steps:
                self.step -= self.step % accumulate
            share = self.step / saved.step
            self.sums = {name: [total * share, count * share] for name, (total, count) in saved.sums.items() if share}
        return saved.world_size
