"""The optimizers of core, beside torch's plain ones."""

import pytest
import torch
from torch import nn

from medkit.parts.optimizers import SGD, Adam, AdamW


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 1)).double()


def train(model: nn.Module, optimizer: torch.optim.Optimizer, opened: int) -> None:
    """Six steps; the first layer trains from step ``opened`` on."""
    x = torch.arange(12, dtype=torch.float64).reshape(4, 3) / 12
    for step in range(6):
        model[0].requires_grad_(step >= opened)
        optimizer.zero_grad(set_to_none=True)
        model(x).square().mean().backward()
        optimizer.step()


@pytest.mark.parametrize("settings", [SGD(), SGD(nesterov=True, weight_decay=0.1), SGD(momentum=0), Adam(), AdamW()])
@pytest.mark.parametrize("opened", [0, 3])
def test_a_layer_that_is_opened_later_trains_as_by_torch_s_plain_optimizer(settings, opened):
    model, plain = network(), network()
    train(model, settings.build(model.parameters()), opened)
    options = vars(settings)
    train(plain, getattr(torch.optim, type(settings).__name__)(plain.parameters(), **options, foreach=False), opened)
    for ours, theirs in zip(model.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)
