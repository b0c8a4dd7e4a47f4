"""Draws that no seed of a step decides are found, wherever a component makes them."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
import torch
from seam.test_conformance_broken import SoundEncoder, SoundHead

from medkit.parts.losses import L1
from medkit.testing import check_encoder, check_loss, check_pretext

SEEDS, OTHERS = "sets torch's seed or state", "draws from Python's or numpy's generator"


class SeededView(SoundHead):
    """Seeds torch before it draws."""

    def view(self, batch: Any) -> Any:
        torch.manual_seed(0)
        return super().view(batch)


class ForkedView(SoundHead):
    """Draws under a seed of its own, and puts torch's state back."""

    def view(self, batch: Any) -> Any:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            return super().view(batch)


class PythonView(SoundHead):
    """Draws from Python's generator, but makes nothing of it that can be seen."""

    def view(self, batch: Any) -> Any:
        random.random()
        return super().view(batch)


class SeededLoss(SoundHead):
    """Seeds torch in its loss."""

    def loss(self, output: Any, target: Any) -> Any:
        torch.manual_seed(0)
        return super().loss(output, target)


class NumpyLoss(SoundHead):
    """Draws from numpy's generator in its loss."""

    def loss(self, output: Any, target: Any) -> Any:
        return {name: term * (1 + np.random.rand()) for name, term in super().loss(output, target).items()}


@pytest.mark.parametrize(
    ("head", "where", "message"),
    [
        (SeededView, "view", SEEDS),
        (ForkedView, "view", SEEDS),
        (PythonView, "view", OTHERS),
        (SeededLoss, "loss", SEEDS),
        (NumpyLoss, "loss", OTHERS),
    ],
)
def test_a_head_that_seeds_or_draws_elsewhere_is_told_where(head: Any, where: str, message: str) -> None:
    with pytest.raises(AssertionError, match=rf"{where}\(\) {message}"):
        check_pretext(head)


class LayerDrop(SoundEncoder):
    """Leaves out a layer at random, by Python's generator, in training: recomputation draws anew."""

    def forward(self, x: Any) -> Any:
        keep = random.random() > 0.5 if self.training else True
        return [maps * keep for maps in super().forward(x)]


class Forked(SoundEncoder):
    """Adds noise under a seed of its own, and puts torch's state back."""

    def forward(self, x: Any) -> Any:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            return [maps + torch.rand_like(maps) for maps in super().forward(x)]


@pytest.mark.parametrize(("encoder", "message"), [(LayerDrop, OTHERS), (Forked, SEEDS)])
def test_an_encoder_that_seeds_or_draws_elsewhere_is_told_so(encoder: Any, message: str) -> None:
    with pytest.raises(AssertionError, match=rf"forward\(\) {message}"):
        check_encoder(encoder)


class SeededLossOnly(L1):
    """Draws the weights of voxels under a seed of its own."""

    def forward(self, prediction: Any, target: Any, **context: Any) -> Any:
        torch.manual_seed(0)
        return ((prediction - target).abs() * torch.rand(())).mean()


def test_a_loss_that_seeds_torch_is_told_so() -> None:
    with pytest.raises(AssertionError, match=f"the loss {SEEDS}"):
        check_loss(SeededLossOnly)
