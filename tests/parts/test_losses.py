"""General losses against published numbers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from medkit.parts.losses import BCE, L1, MSE, Dice
from medkit.parts.losses_image import Charbonnier, LaplacianEdge
from medkit.testing import check_loss

CLOSE = {"rtol": 1e-5, "atol": 1e-6}


def tensors(path: Path) -> dict[str, torch.Tensor]:
    with np.load(path) as file:
        return {n: torch.from_numpy(np.asarray(file[n], np.float32)) for n in file.files}


def test_dice_and_its_gradient_equal_the_published_ones(golden: Path) -> None:
    arrays = tensors(golden / "smart_dice.npz")
    logits = arrays["logits"].requires_grad_()
    loss = Dice()(logits, arrays["mask"])
    loss.backward()
    torch.testing.assert_close(loss, arrays["c1b1573_dice"], **CLOSE)
    torch.testing.assert_close(logits.grad, arrays["c1b1573_dice_grad"], **CLOSE)
    torch.testing.assert_close(loss + BCE()(logits, arrays["mask"]), arrays["c1b1573_dice_bce"], **CLOSE)


def test_dice_of_a_batch_without_positives_is_zero_with_no_gradient() -> None:
    logits = torch.randn(2, 1, 4, 4, requires_grad=True)
    loss = Dice()(logits, torch.zeros(2, 1, 4, 4))
    loss.backward()
    assert loss == 0
    assert logits.grad is not None
    assert not logits.grad.any()


def test_bce_equals_the_published_one(golden: Path) -> None:
    arrays = tensors(golden / "smart_dice.npz")
    torch.testing.assert_close(BCE()(arrays["logits"], arrays["mask"]), arrays["bce_with_logits"], **CLOSE)


@pytest.mark.parametrize(("loss", "key"), [(Charbonnier(), "charbonnier"), (LaplacianEdge(), "edge")])
def test_image_losses_and_gradients_equal_the_published_ones(golden: Path, loss: torch.nn.Module, key: str) -> None:
    arrays = tensors(golden / "losses.npz")
    prediction = arrays["ldct"].requires_grad_()
    value = loss(prediction, arrays["ndct"])
    value.backward()
    torch.testing.assert_close(value, arrays[key], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(prediction.grad, arrays[f"{key}_grad"], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("loss", [BCE, Dice, L1, MSE, Charbonnier, LaplacianEdge])
def test_losses_keep_every_promise_of_a_loss(loss: type) -> None:
    torch.manual_seed(0)
    check_loss(loss, torch.randn(2, 1, 9, 8), (torch.rand(2, 1, 9, 8) > 0.5).float())


def test_dice_passes_gradcheck_in_float64() -> None:
    logits = torch.randn(2, 1, 3, 3, dtype=torch.float64, requires_grad=True)
    mask = (torch.rand(2, 1, 3, 3) > 0.5).double()
    assert torch.autograd.gradcheck(lambda x: Dice()(x, mask), (logits,))
