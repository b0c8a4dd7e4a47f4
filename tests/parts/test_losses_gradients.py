"""Gradients of the general losses in double precision."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from medkit.parts.losses import BCE, L1, MSE, Dice


@pytest.mark.parametrize("loss", [BCE(), BCE(positive_weight=3.0), Dice(), Dice(smooth=1.0), L1(), MSE()])
def test_gradients_are_those_of_finite_differences(loss: nn.Module) -> None:
    made = torch.Generator().manual_seed(0)
    prediction = torch.randn(2, 1, 3, 4, dtype=torch.float64, generator=made).requires_grad_()
    target = (torch.rand(2, 1, 3, 4, generator=made) > 0.5).double()
    assert torch.autograd.gradcheck(lambda x: loss(x, target), (prediction,))
