"""The training loop of one stage: turns over batches, validation, checkpoints, exact resume."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from medkit.engine import checkpoint
from medkit.engine.gradients import backward
from medkit.engine.progress import Progress, numbers
from medkit.engine.runtime import Runtime, seed_step, shared_generator
from medkit.engine.state import pack, unpack
from medkit.engine.thaw import Plan, stages_of, thaw
from medkit.errors import InputError, RunError
from medkit.protocols import Batch, Turn


class Batches(Protocol):
    """A training loader: a pure function of (seed, epoch, position)."""

    @property
    def steps(self) -> int: ...

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]: ...


@dataclass
class Position:
    """Where a stage stands: the next step of the current epoch, and what has been gathered so far."""

    epochs: int
    epoch: int = 0
    step: int = 0
    sums: dict[str, float] = field(default_factory=dict)
    turn_steps: dict[str, int] = field(default_factory=dict)
    best: float | None = None
    best_epoch: int | None = None
    seconds: float = 0.0


@dataclass
class _Training:
    """One turn with what it needs."""

    turn: Turn
    parameters: list[nn.Parameter]
    optimizer: torch.optim.Optimizer
    schedule: Any
    lr: float


def train_stage(
    objective: Any,
    loader: Batches,
    *,
    name: str,
    epochs: int,
    optimizers: Mapping[str, Any],
    schedules: Mapping[str, Any],
    seed: int,
    runtime: Runtime,
    folder: Path,
    unfreeze: Plan | None = None,
    progress: Progress | None = None,
    log: Callable[[dict[str, Any]], None] | None = None,
    on_resume: Callable[[int], None] | None = None,
    validate: Callable[[int], dict[str, float]] | None = None,
    keep_best: tuple[str, bool] | None = None,
    checkpoint_seconds: float = 60.0,
) -> Position:
    """Train ``objective`` for ``epochs``, going on from the checkpoint in ``folder`` if there is one.

    Parameters
    ----------
    optimizers, schedules:
        One of each a turn.
    unfreeze:
        Part to open stage by stage; all its parameters are in the optimizer from the start.
    log:
        Gets one line (a dictionary) an epoch; on every rank.
    on_resume:
        Told the epoch (from 1) that is trained again, at least in part, after an interruption.
    validate:
        Maps the epoch to numbers such as ``{"val/auc": 0.9}``; called on the main rank.
    keep_best:
        Key of a validated number and whether higher is better; the best weights are the ones kept.
    checkpoint_seconds:
        Least time between checkpoints inside an epoch; there is always one at its end.

    Raises
    ------
    RunError
        if a loss is not finite; the checkpoint from before is kept.
    """
    progress = progress or Progress(quiet=True)
    turns = _turns(objective, optimizers, schedules)
    if unfreeze is not None:
        stages_of(objective, unfreeze.part)
    position = Position(epochs)
    _restore(objective, turns, position, folder, name)
    if position.epoch or position.step:
        progress.say(f"{name}: going on at epoch {position.epoch + 1}, step {position.step + 1}")
    if on_resume is not None:
        # Also at the very start: a run may end between the first epoch's line and its checkpoint.
        on_resume(position.epoch + 1)
    runtime.broadcast([*objective.parameters(), *objective.buffers()])

    def save() -> None:
        if runtime.main:
            tensors, plain = pack(objective, {t.turn.name: t.optimizer for t in turns})
            state = {"stage": name, "position": asdict(position), "plain": plain}
            checkpoint.write_tensors(folder / checkpoint.LAST, tensors, state)

    if position.epoch == 0 and position.step == 0:
        save()
    with progress.task(name, total=epochs * loader.steps) as advance:
        while position.epoch < epochs:
            opened = thaw(objective, unfreeze, position.epoch)
            for t in turns:
                for group in t.optimizer.param_groups:
                    group["lr"] = t.schedule.rate(t.lr, position.epoch, epochs)
            _epoch(objective, loader, turns, position, seed, runtime, progress, advance, save, checkpoint_seconds, name)
            runtime.broadcast_buffers(objective)
            line = _line(name, position, turns, loader.steps, opened if unfreeze is not None else None)
            if runtime.main and validate is not None:
                values = validate(position.epoch)
                line |= values
                _keep_best(objective, position, values, keep_best, folder, name, progress)
            runtime.barrier()
            if log is not None:
                log(line)
            told = {k: v for k, v in line.items() if "/" in k and not k.startswith("lr/")}
            shown = {k: v for k, v in told.items() if isinstance(v, float) and not math.isnan(v)}
            progress.say(f"{name} {position.epoch + 1}/{epochs}: {numbers(shown)}")
            position.epoch, position.step, position.sums, position.seconds = position.epoch + 1, 0, {}, 0.0
            save()
    runtime.barrier()
    if keep_best is not None and (folder / checkpoint.BEST).exists():
        checkpoint.load_weights(folder / checkpoint.BEST, objective)
    elif keep_best is not None and runtime.main:
        progress.say(no_best(name, keep_best[0]))
    return position


def no_best(name: str, key: str) -> str:
    """What is said where ``keep_best`` found nothing to keep."""
    return f"{name}: {key} was nan after every epoch, so no epoch was the best and the weights of the last one are kept"


def _turns(objective: Any, optimizers: Mapping[str, Any], schedules: Mapping[str, Any]) -> list[_Training]:
    parts = objective.parts()
    found = []
    for turn in objective.turns():
        parameters = list({id(p): p for name in turn.parts for p in parts[name].parameters()}.values())
        settings = optimizers[turn.name]
        # Frozen parameters are in the optimizer too: it skips those without a gradient, whatever their decay.
        found.append(_Training(turn, parameters, settings.build(parameters), schedules[turn.name], settings.lr))
    return found


def _restore(objective: Any, turns: list[_Training], position: Position, folder: Path, name: str) -> None:
    path = folder / checkpoint.LAST
    if not path.exists():
        path = folder / checkpoint.PREVIOUS
    if not path.exists():
        return
    tensors, state = checkpoint.read_tensors(path)
    if state.get("stage") != name:
        raise InputError(f"this is a checkpoint of stage '{state.get('stage')}', not '{name}'", str(path))
    try:
        saved = Position(**state["position"])
    except (KeyError, TypeError) as error:
        raise InputError(f"its metadata do not say how far the stage came ({error})", str(path)) from error
    if saved.epochs != position.epochs:
        raise InputError(
            f"the stage was begun for {saved.epochs} epochs and is resumed for {position.epochs}",
            str(path),
            "schedules depend on it: keep the number, or start a new run from these weights",
        )
    unpack(tensors, state.get("plain", {}), objective, {t.turn.name: t.optimizer for t in turns}, str(path))
    for key, value in asdict(saved).items():
        setattr(position, key, value)


def _epoch(
    objective: Any,
    loader: Batches,
    turns: list[_Training],
    position: Position,
    seed: int,
    runtime: Runtime,
    progress: Progress,
    advance: Callable[..., None],
    save: Callable[[], None],
    checkpoint_seconds: float,
    name: str,
) -> None:
    begun = saved = time.monotonic()
    before = position.seconds
    augment = getattr(loader, "device_augment", None)
    for batch in loader.epoch(position.epoch, position.step):
        seed_step(seed, position.epoch, position.step, runtime.rank)
        batch = to_device(batch, runtime.device)
        if augment is not None:
            batch = augment(batch)
        for t in turns:
            for repetition in range(t.turn.steps):
                values = step(objective, t, batch, seed, position, runtime, name, repetition)
                for key, value in values.items():
                    position.sums[key] = position.sums.get(key, 0.0) + value / t.turn.steps
                position.turn_steps[t.turn.name] = position.turn_steps.get(t.turn.name, 0) + 1
        if position.epoch == 0 and position.step == 0 and runtime.main:
            _tell_untrained(objective, turns, progress, name)
        position.step += 1
        position.seconds = before + time.monotonic() - begun
        means = {key: value / position.step for key, value in position.sums.items()}
        advance(position.epoch * loader.steps + position.step, note=numbers(means))
        if time.monotonic() - saved >= checkpoint_seconds and position.step < loader.steps:
            _refuse_broken(objective, position, name)
            save()
            saved = time.monotonic()
    _refuse_broken(objective, position, name)


def _refuse_broken(objective: Any, position: Position, name: str) -> None:
    """Keep weights that are not finite (a gradient overflowed under a finite loss) out of checkpoints."""
    bad = [n for n, p in objective.named_parameters() if not bool(torch.isfinite(p.detach()).all())]
    if bad:
        raise RunError(
            f"weights are not finite after epoch {position.epoch + 1}, step {position.step}: {', '.join(bad[:3])}",
            f"stage {name}",
            "lower the learning rate; the checkpoint from before is kept",
        )


def _refuse_no_losses(losses: Any, name: str, turn: str) -> None:
    """Losses of a turn are scalars by name, and one at least can be trained by."""
    wrong = [key for key, loss in losses.items() if not isinstance(loss, Tensor) or loss.dim() != 0]
    if wrong:
        found = losses[wrong[0]]
        is_a = f"a tensor of {tuple(found.shape)}" if isinstance(found, Tensor) else f"a {type(found).__name__}"
        raise RunError(f"loss '{wrong[0]}' is {is_a}, not a scalar tensor", f"stage {name}", "docs/plugins.md#loss")
    if not any(loss.requires_grad for loss in losses.values()):
        what = f"no loss of turn '{turn}' depends on weights: {', '.join(losses) or 'there is none'}"
        raise RunError(what, f"stage {name}", "a loss keeps its graph (no detach(), item() or no_grad)")


def step(
    objective: Any,
    t: _Training,
    batch: Batch,
    seed: int,
    position: Position,
    runtime: Runtime,
    name: str,
    repetition: int = 0,
) -> dict[str, float]:
    """One optimizer step of one turn, the ``repetition``-th on this batch; returns its losses."""
    t.optimizer.zero_grad(set_to_none=True)
    with runtime.autocast():
        losses: dict[str, Tensor] = objective.losses(t.turn.name, batch)
    _refuse_no_losses(losses, name, t.turn.name)
    values = dict(zip(losses, torch.stack([loss.detach().float() for loss in losses.values()]).tolist(), strict=True))
    finite = all(math.isfinite(value) for value in values.values())
    if not runtime.all_true(finite):
        bad = ", ".join(f"{key} = {value}" for key, value in values.items() if not math.isfinite(value))
        samples = f"; samples: {', '.join(batch.get('ids', []))}" if bad else ""
        raise RunError(
            f"a loss is not finite ({bad or 'on another rank, which names them'}) in epoch {position.epoch + 1}, "
            f"step {position.step + 1}{samples}",
            f"stage {name}",
            "look at these samples or lower the learning rate; the checkpoint from before is kept",
        )
    surgery = t.turn.combine == "pcgrad"
    backward(
        losses,
        t.parameters,
        runtime,
        combine=t.turn.combine,
        shared=objective.shared_parameters(t.turn.name) if surgery else (),
        generator=shared_generator(seed, position.epoch, position.step, repetition) if surgery else None,
    )
    t.optimizer.step()
    if hasattr(objective, "after_step"):
        objective.after_step(t.turn.name)
    return values


def to_device(batch: Batch, device: torch.device) -> Batch:
    """The batch with its tensors on ``device``."""
    if device.type == "cpu":
        return batch
    return {k: v.to(device, non_blocking=True) if isinstance(v, Tensor) else v for k, v in batch.items()}


def _tell_untrained(objective: Any, turns: list[_Training], progress: Progress, name: str) -> None:
    """Say once which trainable tensors the first batch left without a gradient."""
    trained = {id(p) for t in turns for p in t.parameters}
    idle = [n for n, p in objective.named_parameters() if p.requires_grad and id(p) in trained and p.grad is None]
    if idle:
        more = f" and {len(idle) - 5} more" if len(idle) > 5 else ""
        progress.say(f"{name}: no loss reaches {', '.join(idle[:5])}{more}")


def _line(name: str, position: Position, turns: list[_Training], steps: int, opened: set[str] | None) -> dict[str, Any]:
    line: dict[str, Any] = {"stage": name, "epoch": position.epoch + 1, "seconds": round(position.seconds, 3)}
    for t in turns:
        line["lr" if len(turns) == 1 else f"lr/{t.turn.name}"] = t.optimizer.param_groups[0]["lr"]
    line |= {f"train/{key}": value / max(steps, 1) for key, value in position.sums.items()}
    if opened is not None:
        line["open"] = sorted(opened)
    return line


def _keep_best(
    objective: Any,
    position: Position,
    values: dict[str, float],
    keep_best: tuple[str, bool] | None,
    folder: Path,
    name: str,
    progress: Progress,
) -> None:
    if keep_best is None:
        return
    key, higher = keep_best
    if key not in values:
        raise InputError(f"keep_best names '{key}', and validation gives {', '.join(values)}", f"stage {name}")
    value = values[key]
    if math.isnan(value):
        progress.say(f"{name}: {key} is nan after epoch {position.epoch + 1}, which cannot be kept as the best")
        return
    if position.best is None or (value > position.best if higher else value < position.best):
        position.best, position.best_epoch = value, position.epoch + 1
        checkpoint.save_weights(folder / checkpoint.BEST, objective)
