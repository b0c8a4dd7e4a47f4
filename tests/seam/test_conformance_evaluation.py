"""In evaluation mode an image has one output, alone or in a batch: each check finds a part that breaks this."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from seam.test_conformance_broken import SoundDiscriminator, SoundEncoder, SoundGenerator, SoundHead, SoundOperator
from torch import nn

from medkit.api import Placed
from medkit.objectives.restoration import Restoration
from medkit.objectives.volume import VolumeTask
from medkit.parts.losses import L1
from medkit.testing import (
    check_discriminator,
    check_encoder,
    check_generator,
    check_objective,
    check_operator,
    check_pretext,
)

RANDOM, TOGETHER = "in evaluation mode the output is random", "depends on the others in its batch"


class Dropped(SoundHead):
    """Calls F.dropout without training=self.training."""

    def forward(self, features: Any) -> Any:
        return self.layers(F.dropout(features[-1].mean((2, 3)), 0.5))


class Standardised(SoundHead):
    """Standardises over the batch."""

    def forward(self, features: Any) -> Any:
        rows = features[-1].mean((2, 3))
        return self.layers((rows - rows.mean(0)) / (rows.std(0, unbiased=False) + 1e-5))


class Ranked(SoundHead):
    """Predicts how an image compares with the others of its batch."""

    def predict(self, output: Any) -> Any:
        return {"value": output[:, 0] - output[:, 0].mean()}


@pytest.mark.parametrize(("head", "message"), [(Dropped, RANDOM), (Standardised, TOGETHER), (Ranked, TOGETHER)])
def test_a_head_whose_prediction_of_an_image_is_not_one_is_told_so(head: Any, message: str) -> None:
    check_pretext(SoundHead)
    with pytest.raises(AssertionError, match=message):
        check_pretext(head)


class Recurrent(SoundEncoder):
    """A GRU over patches that goes over the batch: batch_first was forgotten. The first image has none before it."""

    def __init__(self, in_channels: int = 1) -> None:
        super().__init__(in_channels)
        self.gru = nn.GRU(4, 4)

    def forward(self, x: Any) -> Any:
        one, two = super().forward(x)
        rows, _ = self.gru(two.flatten(2).transpose(1, 2))
        return [one, rows.transpose(1, 2).reshape(two.shape)]


class Delayed(SoundGenerator):
    """Adds a share of the image before."""

    def forward(self, x: Any) -> Any:
        return super().forward(x + 0.5 * torch.cat([torch.zeros_like(x[:1]), x[:-1]]))


class Compared(SoundDiscriminator):
    """Scores an image by how it differs from the batch."""

    def forward(self, x: Any) -> Any:
        return super().forward(x - x.mean(0))


@pytest.mark.parametrize(
    ("check", "network"),
    [(check_encoder, Recurrent), (check_generator, Delayed), (check_discriminator, Compared)],
)
def test_a_network_in_which_images_of_a_batch_meet_is_told_so(check: Any, network: Any) -> None:
    with pytest.raises(AssertionError, match=TOGETHER):
        check(network)


class Mixing(SoundOperator):
    """Standardises over the slices of a chunk."""

    def slices(self, features: Any) -> Any:
        rows = super().slices(features)
        return (rows - rows.mean(0)) / (rows.std(0, unbiased=False) + 1e-5)


class Smoothing(SoundOperator):
    """Mixes each slice with the one before, whichever volume that belongs to."""

    def slices(self, features: Any) -> Any:
        rows = super().slices(features)
        return torch.cat([rows[:1], (rows[1:] + rows[:-1]) / 2])


@pytest.mark.parametrize("operator", [Mixing, Smoothing])
def test_an_operator_in_which_slices_of_a_chunk_meet_is_told_so(operator: Any) -> None:
    check_operator(SoundOperator)
    with pytest.raises(AssertionError, match=r"slices\(\) gives something else of a slice if others come with it"):
        check_operator(operator)


class FirstOnly(SoundEncoder):
    """Takes images of any number of channels, and looks at the first."""

    def __init__(self, in_channels: int = 1) -> None:
        super().__init__(1)

    def forward(self, x: Any) -> Any:
        return super().forward(x[:, :1])


def test_an_encoder_that_ignores_a_channel_is_told_which() -> None:
    check_encoder(SoundEncoder, in_channels=3)
    check_encoder(FirstOnly)
    with pytest.raises(AssertionError, match="channel 1 of 3 changes no map"):
        check_encoder(FirstOnly, in_channels=3)


def placed(part: Any, **keys: Any) -> Placed:
    return Placed(part, {"weight": 1.0, **keys})


class Sampled(Restoration):
    """Adds noise to what it predicts."""

    def predict(self, batch: Any) -> Any:
        return {"output": super().predict(batch)["output"] + torch.rand(())}


class Scaled(Restoration):
    """Divides by the brightest value of the batch."""

    def predict(self, batch: Any) -> Any:
        output = super().predict(batch)["output"]
        return {"output": output / (output.max() + 1)}


class Spoilt(Restoration):
    """Changes the image that metrics compare with."""

    def predict(self, batch: Any) -> Any:
        batch["image"].mul_(0.5)
        return super().predict(batch)


class Joined(VolumeTask):
    """Compares volumes with each other."""

    def predict(self, batch: Any) -> Any:
        found = super().predict(batch)
        return {name: value / value.sum() for name, value in found.items()}


@pytest.mark.parametrize(
    ("objective", "message"),
    [(Sampled, RANDOM), (Scaled, TOGETHER), (Spoilt, r"predict\(\) changes the batch")],
)
def test_an_objective_whose_prediction_of_an_image_is_not_one_is_told_so(objective: Any, message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        check_objective(objective, generator=SoundGenerator(), losses={"l1": placed(L1())})


def test_an_objective_whose_prediction_of_a_volume_depends_on_the_others_is_told_so() -> None:
    torch.manual_seed(0)
    encoder = SoundEncoder()
    parts = {"encoder": encoder, "operator": SoundOperator(channels=encoder.channels), "losses": {"l1": placed(L1())}}
    check_objective(VolumeTask, **parts)
    with pytest.raises(AssertionError, match=TOGETHER):
        check_objective(Joined, **parts)
