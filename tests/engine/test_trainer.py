"""One stage: unfreezing, bad losses, the best epoch."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import fit
from torch import nn

from medkit.engine.events import EpochEnded
from medkit.engine.progress import Progress
from medkit.engine.settings import Criterion
from medkit.engine.unfreeze import open_stages, unfreeze
from medkit.errors import InputError, RunError
from medkit.parts.optimizers import AdamW
from medkit.parts.schedules import Constant
from medkit.protocols import Turn
from medkit.recipe.model import Unfreeze
from medkit.runs.listeners import ShowProgress


class Encoder(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(nn.Linear(2, 4), nn.BatchNorm1d(4), nn.Linear(4, 4))

    def stages(self) -> list[tuple[str, nn.Module]]:
        return [("first", nn.ModuleList([self[0], self[1]])), ("second", self[2])]


class Task(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.encoder, self.head = Encoder(), nn.Linear(4, 1)

    def turns(self) -> list[Turn]:
        return [Turn("train", ("encoder", "head"))]

    def parts(self) -> dict[str, nn.Module]:
        return {"encoder": self.encoder, "head": self.head}

    def losses(self, turn: str, batch: dict[str, Any]) -> dict[str, torch.Tensor]:
        return {"square": (self.head(self.encoder(batch["x"])) - 1).square().mean() * batch.get("factor", 1.0)}


class Loader:
    steps = 2

    def __init__(self, factor: float = 1.0) -> None:
        self.factor = factor

    def epoch(self, epoch: int, start: int = 0) -> Iterator[dict[str, Any]]:
        for step in range(start, 2):
            x = torch.randn(8, 2, generator=torch.Generator().manual_seed(10 * epoch + step))
            yield {"x": x, "ids": [f"case{step}"], "factor": self.factor if epoch else 1.0}


def train(task: Task, folder: Path, *, loader: Loader | None = None, epochs: int = 3, **options: Any) -> Any:
    optimizers, schedules = {"train": AdamW(lr=1e-2, weight_decay=0.1)}, {"train": Constant()}
    return fit(task, loader or Loader(), folder, epochs=epochs, optimizers=optimizers, schedules=schedules, **options)


def test_open_stages_is_a_function_of_the_epoch() -> None:
    plan = Unfreeze("encoder", after=100, every=10)
    names = ["stem", "layer1", "layer2", "layer3", "layer4"]
    assert open_stages(plan, 99, names) == set()
    assert open_stages(plan, 100, names) == {"layer4"}
    assert open_stages(plan, 125, names) == {"layer4", "layer3", "layer2"}
    assert open_stages(plan, 400, names) == set(names)


def test_frozen_stages_keep_weights_and_batch_norm_statistics(tmp_path: Path) -> None:
    task = Task()
    before = {name: tensor.clone() for name, tensor in task.encoder.state_dict().items()}
    train(task, tmp_path, epochs=2, unfreeze=Unfreeze("encoder", after=9))
    assert all(torch.equal(tensor, before[name]) for name, tensor in task.encoder.state_dict().items())
    assert not torch.equal(task.head.weight, Task().head.weight)


def test_opened_stages_train_and_closed_ones_stay_in_evaluation_mode() -> None:
    task = Task()
    unfreeze(task, Unfreeze("encoder", after=0, every=5), 0)
    assert not task.encoder[1].training
    assert task.encoder[2].weight.requires_grad
    assert not task.encoder[0].weight.requires_grad


class Dropping(nn.Module):
    """Drops by its own mode, outside its stages; one of its filters was frozen by its author."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(2, 2), nn.Linear(2, 2)
        self.fixed = nn.Linear(2, 2).requires_grad_(False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.dropout(self.fixed(self.second(self.first(x))), 0.5, self.training)

    def stages(self) -> list[tuple[str, nn.Module]]:
        return [("first", self.first), ("last", nn.Sequential(self.second, self.fixed))]


def test_a_frozen_part_is_in_evaluation_mode_as_a_whole_until_a_stage_opens() -> None:
    task = Task()
    task.encoder = Dropping()
    unfreeze(task, Unfreeze("encoder", after=2), 1)
    assert not any(module.training for module in task.encoder.modules())
    assert torch.equal(task.encoder(torch.ones(4, 2)), task.encoder(torch.ones(4, 2)))
    unfreeze(task, Unfreeze("encoder", after=2), 2)
    assert task.encoder.training
    assert not task.encoder.first.training


def test_what_its_author_froze_stays_frozen_when_its_stage_opens() -> None:
    task = Task()
    task.encoder = Dropping()
    for epoch in range(4):
        unfreeze(task, Unfreeze("encoder", after=1), epoch)
    trained = {name for name, p in task.encoder.named_parameters() if p.requires_grad}
    assert trained == {"first.weight", "first.bias", "second.weight", "second.bias"}


def test_a_parameter_outside_all_stages_is_refused(tmp_path: Path) -> None:
    task = Task()
    task.encoder = Dropping()
    task.encoder.token = nn.Parameter(torch.zeros(2))
    with pytest.raises(InputError, match="'token' of part 'encoder' is in none of its stages"):
        train(task, tmp_path, unfreeze=Unfreeze("encoder"))


def test_unfreezing_an_unknown_part_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="unfreeze names the part 'encodr'"):
        train(Task(), tmp_path, unfreeze=Unfreeze("encodr"))


def test_a_loss_that_is_not_finite_names_the_samples_and_keeps_the_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"square = nan.*epoch 2, step 1; samples: case0"):
        train(Task(), tmp_path, loader=Loader(float("nan")))
    assert (tmp_path / "last.safetensors").exists()


def test_the_best_epoch_is_the_one_kept(tmp_path: Path) -> None:
    task, seen = Task(), []

    def validate(epoch: int) -> dict[str, float]:
        seen.append(task.head.weight.detach().clone())
        return {"val/score": [0.1, 0.9, 0.5][epoch]}

    position = train(task, tmp_path, validate=validate, keep_best=Criterion("val/score", True))
    assert position.best_epoch == 2
    assert torch.equal(task.head.weight, seen[1])


class Killed:
    """Ends the training after an epoch's weights are kept, before its checkpoint is written."""

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch

    def epoch_ended(self, event: EpochEnded) -> None:
        if event.epoch == self.epoch:
            raise KeyboardInterrupt


@pytest.mark.parametrize("lost", ["the last checkpoint was not written", "the last checkpoint is deleted"])
def test_the_weights_taken_are_those_of_the_best_epoch_that_the_checkpoint_names(tmp_path: Path, lost: str) -> None:
    """Trained again, on another number of ranks say, an epoch may be judged otherwise."""
    scores = [0.5, 0.9, 0.1]

    def validate(epoch: int) -> dict[str, float]:
        first.setdefault(epoch, task.head.weight.detach().clone())
        return {"val/score": scores[epoch]}

    first: dict[int, torch.Tensor] = {}
    task, written = Task(), lost.endswith("deleted")
    options: dict[str, Any] = {"validate": validate, "keep_best": Criterion("val/score", True)}
    with pytest.raises(KeyboardInterrupt):
        train(task, tmp_path, listeners=[Killed(3 if written else 2)], **options)
    if written:
        (tmp_path / "last.safetensors").unlink()
    scores[1], task = 0.2, Task()
    assert train(task, tmp_path, **options).best_epoch == 1
    assert torch.equal(task.head.weight, first[0])
    assert [path.name for path in tmp_path.glob("best*")] == ["best-1.safetensors"]


def test_a_best_epoch_that_nothing_decides_is_told(tmp_path: Path) -> None:
    said: list[str] = []
    shown = ShowProgress(Progress(quiet=True, log=said.append))
    options: dict[str, Any] = {"validate": lambda epoch: {"val/auc": float("nan")}, "listeners": [shown]}
    position = train(Task(), tmp_path, keep_best=Criterion("val/auc", True), **options)
    assert position.best_epoch is None
    assert "small: val/auc is nan after epoch 1, which cannot be kept as the best" in said
    assert said[-1].startswith("small: val/auc was nan after every epoch, so no epoch was the best")
