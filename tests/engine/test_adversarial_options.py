"""Several critic steps and an averaged generator: what is trained how often, predicted, saved, resumed, shared."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from commands import run_script
from helpers import Told, fit
from torch import Tensor, nn

from medkit.engine import checkpoint
from medkit.objectives.adversarial import Adversarial, Average
from medkit.parts.optimizers import SGD
from medkit.parts.schedules import Constant
from medkit.registry.marks import Placed

SCRIPT = Path(__file__).with_name("adversarial_script.py")


class Scale(nn.Module):
    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(factor))

    def forward(self, x: Tensor) -> Tensor:
        return self.factor * x


class Judge(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {"cls": x.mean((2, 3)) + self.bias}

    def shared_parameters(self) -> list[nn.Parameter]:
        return [self.bias]


class Down(nn.Module):
    """Pulls the judge's bias down by the learning rate a step; counts how often it is asked."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[float] = []

    def forward(self, real: Any, fake: Any, *, discriminator: Judge, **context: Any) -> Tensor:
        self.seen.append(discriminator.bias.item())
        return discriminator.bias


class Up(nn.Module):
    """Pulls the generator's factor up by the learning rate a step."""

    def forward(self, output: Tensor, target: Tensor, **context: Any) -> Tensor:
        return -output.mean()


class Ones:
    def __init__(self, steps: int) -> None:
        self.steps = steps

    def epoch(self, epoch: int, start: int = 0) -> Iterator[dict[str, Any]]:
        for _ in range(start, self.steps):
            yield {"image": torch.ones(1, 1, 4, 4), "target": torch.ones(1, 1, 4, 4), "ids": ["a"]}


def adversarial(**options: Any) -> tuple[Adversarial, Down]:
    down = Down()
    losses = {"up": Placed(Up(), {"weight": 1.0})}, {"down": Placed(down, {"weight": 1.0})}
    return Adversarial(Scale(0.0), Judge(), *losses, **options), down


def train(task: Adversarial, folder: Path, steps: int, listeners: Sequence[Any] = ()) -> None:
    descent = SGD(lr=0.125, momentum=0.0)
    fit(
        task,
        Ones(steps),
        folder,
        listeners=listeners,
        epochs=1,
        optimizers={"discriminator": descent, "generator": descent},
        schedules={"discriminator": Constant(), "generator": Constant()},
    )


def test_the_critic_takes_its_steps_before_each_of_the_generator(tmp_path: Path) -> None:
    task, down = adversarial(critic_steps=4)
    train(task, tmp_path, steps=2)
    # Gradients do not pile up over the steps of a batch: each moves the bias by the same amount.
    assert down.seen == [-0.125 * i for i in range(8)]
    assert task.generator.factor.item() == 2 * 0.125


def test_a_turn_of_several_steps_is_logged_as_their_mean(tmp_path: Path) -> None:
    task, _ = adversarial(critic_steps=4)
    told = Told()
    train(task, tmp_path, steps=1, listeners=[told])
    assert told.epochs[0].metrics["train/down"] == -0.125 * (0 + 1 + 2 + 3) / 4


def test_without_the_options_nothing_is_added_to_the_objective() -> None:
    task, _ = adversarial()
    assert [(turn.name, turn.steps) for turn in task.turns()] == [("discriminator", 1), ("generator", 1)]
    assert set(task.state_dict()) == {"generator.factor", "discriminator.bias"}


def test_the_average_follows_the_generator_once_a_step_of_it(tmp_path: Path) -> None:
    task, _ = adversarial(critic_steps=2, ema=0.25)
    train(task, tmp_path, steps=3)
    expected, factor = 0.0, 0.0
    for n in (1, 2, 3):
        factor += 0.125
        decay = min(0.25, (1 + n) / (10 + n))
        expected = decay * expected + (1 - decay) * factor
    assert task.parts()["generator"].factor.item() == pytest.approx(expected, rel=1e-6)
    assert task.parts()["generator_in_training"].factor.item() == 3 * 0.125


def test_the_average_predicts_and_is_what_is_saved_as_the_generator() -> None:
    task, _ = adversarial(ema=0.5)
    with torch.no_grad():
        task.generator.factor.fill_(0.75)
    task.after_step("generator")
    found = task.predict({"image": torch.ones(2, 1, 4, 4)})["output"]
    assert torch.equal(found, task.parts()["generator"](torch.ones(2, 1, 4, 4)))
    assert 0 < found.max().item() < 0.75


def test_the_discriminator_s_steps_leave_the_average_alone() -> None:
    task, _ = adversarial(ema=0.5)
    with torch.no_grad():
        task.generator.factor.fill_(1.0)
    task.after_step("discriminator")
    assert task.average.module.factor.item() == 0


def test_an_averaged_network_has_the_newest_statistics_of_its_batch_norm() -> None:
    net = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2))
    average = Average(net, 0.999)
    net(torch.rand(2, 1, 4, 4))
    average.follow(net)
    assert torch.equal(average.module[1].running_mean, net[1].running_mean)
    assert average.module[1].num_batches_tracked == 1


def test_a_generator_taken_from_an_averaged_stage_can_be_trained() -> None:
    task, _ = adversarial(ema=0.5)
    assert all(p.requires_grad for p in task.parts()["generator"].parameters())


class Bordered(nn.Module):
    """Adds one at the border of what it sees."""

    def forward(self, x: Tensor) -> Tensor:
        out = x + 1
        out[..., 1:-1, 1:-1] -= 1
        return out


def test_an_adversarial_generator_predicts_in_tiles_when_told() -> None:
    losses = {"up": Placed(Up(), {"weight": 1.0})}, {"down": Placed(Down(), {"weight": 1.0})}
    batch = {"image": torch.zeros(1, 1, 16, 16)}
    whole = Adversarial(Bordered(), Judge(), *losses).predict(batch)["output"]
    tiled = Adversarial(Bordered(), Judge(), *losses, tile=8, overlap=0.0).predict(batch)["output"]
    assert whole[0, 0, 8, 8] == 0
    assert tiled[0, 0, 8, 8] == 1


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return run_script(SCRIPT, [folder, *arguments])


def test_a_killed_run_with_an_average_goes_on_bit_for_bit(tmp_path: Path) -> None:
    straight = run(tmp_path / "straight")
    assert straight.returncode == 0, straight.stderr
    assert run(tmp_path / "killed", "--kill", "4").returncode == -signal.SIGKILL
    resumed = run(tmp_path / "killed")
    assert resumed.returncode == 0, resumed.stderr
    assert "going on at epoch 2, step 2" in resumed.stderr
    first, second = (checkpoint.read_tensors(tmp_path / way / checkpoint.LAST)[0] for way in ("straight", "killed"))
    assert first.keys() == second.keys()
    assert int(first["weights.average.steps"]) == 6
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_two_ranks_hold_the_same_average_and_critic(launch_ranks: Callable[..., Path]) -> None:
    assert (launch_ranks(SCRIPT) / "spread1").read_text() == "0.0"
