"""Steps of a training: bounds on gradients, several batches a step, rates by step, an end before the last epoch."""

from __future__ import annotations

import math
import signal
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import Told, fit
from torch import nn

from medkit.engine import checkpoint, interrupt
from medkit.engine.events import StepEnded
from medkit.engine.loss_means import means_of
from medkit.engine.optimizers import Optimization
from medkit.engine.packing import pack
from medkit.engine.settings import Criterion, Patience
from medkit.engine.state import TrainingState
from medkit.errors import RunError
from medkit.parts.clipping import Norm
from medkit.parts.optimizers import SGD, Adam
from medkit.parts.schedules import Constant, Cosine
from medkit.protocols import Turn


class Task(nn.Module):
    """Two losses on one layer; they pull against each other."""

    def __init__(self, combine: str = "sum", size: float = 1.0) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
        self.combine, self.size = combine, size

    def turns(self) -> list[Turn]:
        return [Turn("train", ("net",), self.combine)]

    def parts(self) -> dict[str, nn.Module]:
        return {"net": self.net}

    def shared_parameters(self, turn: str) -> list[nn.Parameter]:
        return list(self.net[0].parameters())

    def losses(self, turn: str, batch: Mapping[str, Any]) -> dict[str, torch.Tensor]:
        output = self.net(batch["x"]) * self.size
        return {"up": (output[:, 0] - 1).square().mean(), "down": (output[:, 1] + output[:, 0]).square().mean()}


class Loader:
    """The items of an epoch, in batches of one size."""

    def __init__(self, batch: int, items: int = 8) -> None:
        self.batch, self.items = batch, items
        self.steps = items // batch

    def epoch(self, epoch: int, start: int = 0) -> Iterator[dict[str, Any]]:
        x = torch.randn(self.items, 3, generator=torch.Generator().manual_seed(epoch))
        for step in range(start, self.steps):
            yield {"x": x[step * self.batch : (step + 1) * self.batch], "ids": [str(step)]}


class Steps(Told):
    """Keeps steps too, and may do something at each."""

    def __init__(self, at_step: Any = None) -> None:
        super().__init__()
        self.steps: list[StepEnded] = []
        self.at_step = at_step

    def step_ended(self, event: StepEnded) -> None:
        self.steps.append(event)
        if self.at_step is not None:
            self.at_step(event)


def train(task: Task, folder: Path, loader: Loader | None = None, **options: Any) -> Any:
    settings: dict[str, Any] = {
        "epochs": 1,
        "optimizers": {"train": SGD(lr=0.1, momentum=0.0)},
        "schedules": {"train": Constant()},
    }
    return fit(task, loader or Loader(8), folder, **(settings | options))


def moved(task: Task) -> float:
    """How far a task's weights are from where they began."""
    pairs = zip(task.parameters(), Task().parameters(), strict=True)
    return math.sqrt(sum(float((a - b).detach().square().sum()) for a, b in pairs))


def test_a_gradient_is_shortened_to_the_norm_that_clip_allows(tmp_path: Path) -> None:
    free, bounded = Task(size=100), Task(size=100)
    train(free, tmp_path / "free")
    train(bounded, tmp_path / "bounded", clip=Norm(0.5))
    assert moved(free) > 1
    assert moved(bounded) == pytest.approx(0.1 * 0.5, rel=1e-4)


class Seldom(Task):
    """Every third batch has a loss more."""

    def losses(self, turn: str, batch: Mapping[str, Any]) -> dict[str, torch.Tensor]:
        more = {"more": self.net(batch["x"]).square().mean() * 0 + 5} if int(batch["ids"][0]) % 3 == 0 else {}
        return super().losses(turn, batch) | more


@pytest.mark.parametrize("accumulate", [1, 3])
def test_a_loss_that_only_some_batches_have_is_a_mean_over_those(tmp_path: Path, accumulate: int) -> None:
    told = Told()
    train(Seldom(), tmp_path, Loader(2), accumulate=accumulate, listeners=[told])
    assert told.epochs[0].metrics["train/more"] == 5.0


@pytest.mark.parametrize(
    ("before", "after", "accumulate", "step", "goes_on"),
    [
        ((2, 5), (1, 10), 1, 3, 6),
        ((2, 5), (1, 10), 4, 3, 4),  # a step is of four batches
        ((1, 10), (2, 5), 1, 1, 0),
        ((4, 3), (1, 10), 1, 3, 10),  # the last batch of the four is smaller
        ((2, 5), (3, 4), 3, 5, 4),
    ],
)
def test_on_other_ranks_a_training_goes_on_at_a_step_with_the_same_share_behind_it(
    tmp_path: Path, before: tuple[int, int], after: tuple[int, int], accumulate: int, step: int, goes_on: int
) -> None:
    task = Task()
    begun = TrainingState(2, before[1], before[0], step=step, sums={"up": [6.0, step]})
    begun.save(tmp_path, "small", pack(task, {}))
    found = TrainingState(2, after[1], after[0])
    assert found.restore(tmp_path, "small", task, {}, accumulate) == before[0]
    assert (found.step, found.steps, found.world_size) == (goes_on, after[1], after[0])
    assert means_of(found.sums) == pytest.approx({"up": 6.0 / step} if goes_on else {})
    assert [count for _, count in found.sums.values()] == pytest.approx([goes_on] if goes_on else [])


@pytest.mark.parametrize("combine", ["sum", "pcgrad"])
def test_batches_of_one_step_train_as_the_batch_that_holds_them(tmp_path: Path, combine: str) -> None:
    whole, parts = Task(combine), Task(combine)
    told = [Told(), Told()]
    train(whole, tmp_path / "whole", Loader(8), epochs=2, listeners=[told[0]])
    train(parts, tmp_path / "parts", Loader(2), epochs=2, accumulate=4, listeners=[told[1]])
    for a, b in zip(whole.parameters(), parts.parameters(), strict=True):
        assert torch.allclose(a, b, rtol=1e-5, atol=1e-7)
    assert moved(whole) > 0.01
    for a, b in zip(told[0].epochs, told[1].epochs, strict=True):
        assert b.metrics["train/up"] == pytest.approx(a.metrics["train/up"], rel=1e-5)


def test_the_last_step_of_an_epoch_may_have_fewer_batches(tmp_path: Path) -> None:
    steps = Steps()
    train(Task(), tmp_path, Loader(2, items=6), accumulate=2, listeners=[steps])
    assert [event.step for event in steps.steps] == [2, 3]


def test_a_rate_by_step_falls_inside_an_epoch_and_goes_on_in_the_next(tmp_path: Path) -> None:
    steps, epochs = Steps(), 2
    for by, wanted in (("epoch", [1.0, 1.0, 0.5, 0.5]), ("step", [1.0, 0.853553, 0.5, 0.146447])):
        steps = Steps()
        how = Optimization(SGD(lr=1.0, momentum=0.0), Cosine(), by=by)  # type: ignore[arg-type]
        options = {"optimizations": {"train": how}, "optimizers": {}, "schedules": {}}
        train(Task(), tmp_path / by, Loader(2), epochs=epochs, accumulate=2, listeners=[steps], **options)
        assert [event.rates["train"] for event in steps.steps] == pytest.approx(wanted, abs=1e-6)


@pytest.mark.parametrize("higher", [True, False])
def test_a_training_ends_when_its_number_has_not_improved_for_some_epochs(tmp_path: Path, higher: bool) -> None:
    sign = 1 if higher else -1
    values = [sign * value for value in (0.1, 0.5, 0.505, 0.4, math.nan, 0.9)]
    told = Told()
    patience = Patience(Criterion("val/score", higher), 3, min_delta=0.01)
    options: dict[str, Any] = {"validate": lambda epoch: {"val/score": values[epoch]}, "early_stop": patience}
    state = train(Task(), tmp_path, epochs=6, listeners=[told], **options)
    assert [event.epoch for event in told.epochs] == [1, 2, 3, 4, 5]
    assert state.stopped
    again = Told()
    assert train(Task(), tmp_path, epochs=6, listeners=[again], **options).ended
    assert again.epochs == [], "what has ended is not trained again"


def test_patience_goes_on_where_an_interrupted_training_had_it(tmp_path: Path) -> None:
    patience = Patience(Criterion("val/score", True), 3)

    def validate(epoch: int) -> dict[str, float]:
        if epoch == 2 and not (tmp_path / "again").exists():
            (tmp_path / "again").touch()
            raise KeyboardInterrupt
        return {"val/score": 1.0}

    options: dict[str, Any] = {"validate": validate, "early_stop": patience, "epochs": 9}
    with pytest.raises(KeyboardInterrupt):
        train(Task(), tmp_path, **options)
    assert train(Task(), tmp_path, **options).epoch == 4


@pytest.mark.parametrize("accumulate", [1, 2])
def test_who_is_asked_to_stop_saves_at_the_next_step_and_goes_on_from_there(tmp_path: Path, accumulate: int) -> None:
    options: dict[str, Any] = {"optimizers": {"train": Adam(lr=0.01)}, "epochs": 2, "accumulate": accumulate}
    straight, broken = Task("pcgrad"), Task("pcgrad")
    train(straight, tmp_path / "straight", Loader(1), **options)

    def ask(event: StepEnded) -> None:
        if event.step == 2:
            signal.raise_signal(signal.SIGTERM)

    first = Steps(ask)
    before = {number: signal.getsignal(number) for number in interrupt.STOPPING}
    interrupt.install()
    interrupt.begin("")
    try:
        with pytest.raises(KeyboardInterrupt):
            train(broken, tmp_path / "broken", Loader(1), listeners=[first], **options)
    finally:
        interrupt.clear()
        for number, handler in before.items():
            signal.signal(number, handler)
    _, state = checkpoint.read_tensors(tmp_path / "broken" / checkpoint.LAST)
    assert state["position"]["step"] == first.steps[-1].step == 2 + accumulate
    again = Task("pcgrad")
    train(again, tmp_path / "broken", Loader(1), **options)
    for a, b in zip(straight.parameters(), again.parameters(), strict=True):
        assert torch.equal(a, b)


class Forgetful(Task):
    """Leaves a loss out after the first batch."""

    def losses(self, turn: str, batch: Mapping[str, Any]) -> dict[str, torch.Tensor]:
        found = super().losses(turn, batch)
        return found if batch["ids"] == ["0"] else {"down": found["down"]}


def test_losses_that_come_and_go_are_refused_where_gradients_are_projected(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"a batch gives the losses down, the first one gave up, down.*pcgrad"):
        train(Forgetful("pcgrad"), tmp_path / "a", Loader(4))
    train(Forgetful("sum"), tmp_path / "b", Loader(4))
