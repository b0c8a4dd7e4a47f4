"""Parts that are divided among ranks train as whole ones, and are saved whole."""

from __future__ import annotations

from ast import literal_eval
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from engine.sharded_script import EMA, train
from torch import nn

from medkit.engine.checkpoint import read_tensors
from medkit.engine.divided import separate
from medkit.engine.runtime import Runtime
from medkit.engine.sharded import check_division
from medkit.errors import InputError
from medkit.parts.optimizers import SGD
from medkit.protocols import Turn

SCRIPT = Path(__file__).with_name("sharded_script.py")
FAULTS = Path(__file__).with_name("sharded_faults_script.py")
ROUNDING = 1e-6


@pytest.mark.slow
def test_divided_parts_train_as_whole_ones_and_go_on_on_any_number_of_ranks(
    launch_ranks: Callable[..., Path],
) -> None:
    folder = launch_ranks(SCRIPT, "resume")
    for rank in range(2):
        told = literal_eval((folder / f"told{rank}").read_text())
        assert told["divided against whole"] <= ROUNDING
        assert told["resumed against straight"] == 0.0
    kept, state = read_tensors(folder / "for one" / "last.safetensors")
    whole, _ = read_tensors(folder / "whole" / "last.safetensors")
    assert {name: tensor.shape for name, tensor in kept.items()} == {n: t.shape for n, t in whole.items()}
    assert state["position"]["world_size"] == 2
    before = {name.removeprefix("weights."): tensor for name, tensor in kept.items() if name.startswith("weights.")}
    after = train(Runtime(torch.device("cpu")), folder / "for one", EMA[::2], "resume")
    assert all(torch.isfinite(tensor).all() for tensor in after.values())
    assert any(not torch.equal(after[name], before[name]) for name in before)
    assert not list(folder.rglob("*.distcp"))


@pytest.mark.slow
def test_an_average_follows_a_divided_generator(launch_ranks: Callable[..., Path]) -> None:
    folder = launch_ranks(SCRIPT, "ema")
    assert literal_eval((folder / "told0").read_text())["divided against whole"] <= ROUNDING


def test_a_full_disk_and_an_overflow_on_one_rank_end_all_ranks_with_that_error(
    launch_ranks: Callable[..., Path],
) -> None:
    folder = launch_ranks(FAULTS)
    for rank in range(2):
        assert "best-1.safetensors: cannot be written" in (folder / f"disk{rank}").read_text()
        assert "weights are not finite after epoch 1, step 1: net.weight" in (folder / f"overflow{rank}").read_text()


class Two(nn.Module):
    def __init__(self, combine: str = "sum") -> None:
        super().__init__()
        self.combine, self.body, self.head, self.nothing = combine, nn.Linear(2, 3), nn.Linear(3, 1), nn.ReLU()

    def parts(self) -> dict[str, nn.Module]:
        return {
            "body": self.body,
            "head": self.head,
            "all": nn.Sequential(self.body, self.head),
            "nothing": self.nothing,
        }

    def turns(self) -> list[Turn]:
        return [Turn("train", ("body", "head"), self.combine)]


@pytest.mark.parametrize(
    ("shard", "combine", "said"),
    [
        (["bodi"], "sum", "there is no part 'bodi' to divide"),
        (["nothing"], "sum", "part 'nothing' has no weights to divide"),
        (["all", "head"], "sum", "parts 'all' and 'head' share weights"),
        (["body"], "pcgrad", "turn 'train' wants pcgrad, which needs whole gradients of 'body'"),
    ],
)
def test_what_cannot_be_divided_is_refused_with_the_way_out(shard: list[str], combine: str, said: str) -> None:
    with pytest.raises(InputError, match=said) as found:
        check_division(Two(combine), shard, "stages.s.shard")
    assert found.value.hint


def test_groups_of_an_optimizer_hold_divided_or_whole_weights() -> None:
    two = Two()
    groups = [{"params": [two.head.bias, two.body.weight], "weight_decay": 0.0}, {"params": [two.head.weight]}]
    optimizer = torch.optim.Adam(groups)
    separate(optimizer, list(two.body.parameters()))
    found = [(group["params"], group["weight_decay"]) for group in optimizer.param_groups]
    assert found == [([two.body.weight], 0.0), ([two.head.bias], 0.0), ([two.head.weight], 0)]


def test_divided_weights_take_no_fused_step_of_sgd_for_torch_has_none() -> None:
    two = Two()
    optimizer = SGD(lr=0.1).build(two.parameters())
    separate(optimizer, list(two.body.parameters()))
    assert [group["fused"] for group in optimizer.param_groups] == [False, True]
