"""Each check of a module finds the fault it is there for: a sound component passes, one broken promise is named."""

from __future__ import annotations

from typing import Annotated

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from medkit.api import Channels
from medkit.testing import (
    check_component,
    check_discriminator,
    check_encoder,
    check_generator,
    check_operator,
    check_pretext,
)


class SoundEncoder(nn.Module):
    """Two convolutions."""

    def __init__(self, in_channels: int = 1, width: Annotated[int, Field(gt=0)] = 4) -> None:
        super().__init__()
        self.channels, self.strides = (width, width), (2, 4)
        self.first = nn.Conv2d(in_channels, width, 3, 2, 1)
        self.second = nn.Conv2d(width, width, 3, 2, 1)

    def forward(self, x: Tensor) -> list[Tensor]:
        one = self.first(x)
        return [one, self.second(one.relu())]

    def stages(self) -> list[tuple[str, nn.Module]]:
        return [("first", self.first), ("second", self.second)]


class SoundHead(nn.Module):
    """Which quarter turn?"""

    def __init__(self, channels: Channels, hidden: int = 4) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(channels[-1], hidden), nn.ReLU(), nn.Linear(hidden, 4))

    def view(self, batch):
        turns = torch.randint(4, (len(batch["image"]),))
        return torch.stack([x.rot90(int(k), (-2, -1)) for x, k in zip(batch["image"], turns, strict=True)]), turns

    def forward(self, features):
        return self.layers(features[-1].mean((2, 3)))

    def loss(self, output, target):
        return {"ce": F.cross_entropy(output, target)}

    def predict(self, output):
        return {"probability": output.softmax(1)[:, 0]}


class SoundOperator(nn.Module):
    """Mean over the slices that are there."""

    task = "classification"

    def __init__(self, channels: Channels) -> None:
        super().__init__()
        self.layer = nn.Linear(channels[-1], 1)

    def slices(self, features):
        return features[-1].mean((2, 3))

    def forward(self, features, lengths):
        there = (torch.arange(features.shape[1])[None] < lengths[:, None]).to(features.dtype)
        pooled = (torch.where(there[..., None] > 0, features, 0)).sum(1) / there.sum(1, keepdim=True)
        return self.layer(pooled)[:, 0]


class SoundGenerator(nn.Module):
    """One convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(1, 1, 3, padding=1)

    def forward(self, x):
        return self.layer(x)


class SoundDiscriminator(nn.Module):
    """Two tasks on one trunk."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk, self.cls, self.rec = nn.Conv2d(1, 2, 3, padding=1), nn.Linear(2, 1), nn.Conv2d(2, 1, 1)

    def forward(self, x):
        h = self.trunk(x).relu()
        return {"cls": self.cls(h.mean((2, 3))), "rec": self.rec(h)}

    def shared_parameters(self):
        return list(self.trunk.parameters())


@pytest.mark.parametrize(
    ("kind", "component"),
    [
        ("encoder", SoundEncoder),
        ("pretext", SoundHead),
        ("operator", SoundOperator),
        ("generator", SoundGenerator),
        ("discriminator", SoundDiscriminator),
    ],
)
def test_a_sound_component_passes(kind, component):
    check_component(kind, component)


class UnannotatedHead(SoundHead):
    def __init__(self, channels: Channels, hidden=4) -> None:
        super().__init__(channels, hidden)


class OpenHead(SoundHead):
    """Takes anything."""

    def __init__(self, channels: Channels, **options: int) -> None:
        super().__init__(channels)


class SilentHead(SoundHead):
    def __init__(self, channels: Channels) -> None:
        super().__init__(channels)


class IdleHead(SoundHead):
    """One layer takes no part."""

    def __init__(self, channels: Channels) -> None:
        super().__init__(channels)
        self.idle = nn.Linear(3, 3)


class UnseededHead(SoundHead):
    """Draws from numpy's global generator."""

    def view(self, batch):
        return batch["image"] + float(np.random.rand()), torch.zeros(len(batch["image"]), dtype=torch.long)


class OwnGeneratorHead(SoundHead):
    """Draws from a generator of its own."""

    def __init__(self, channels: Channels, hidden: int = 4) -> None:
        super().__init__(channels, hidden)
        self.made = torch.Generator().manual_seed(0)

    def view(self, batch):
        moved = torch.rand((), generator=self.made)
        return batch["image"] + moved, torch.zeros(len(batch["image"]), dtype=torch.long)


class UnsavedHead(SoundHead):
    """A random projection that the state dict does not hold."""

    def __init__(self, channels: Channels) -> None:
        super().__init__(channels)
        self.projection = [torch.randn(channels[-1])]

    def forward(self, features):
        return self.layers(features[-1].mean((2, 3)) * self.projection[0].to(features[-1].dtype))


class StrayTensorHead(SoundHead):
    """A tensor that is no buffer."""

    def __init__(self, channels: Channels) -> None:
        super().__init__(channels)
        self.scale = torch.ones(1)


class SingleHead(SoundHead):
    """Makes float32 tensors whatever it is given."""

    def forward(self, features):
        return self.layers(features[-1].mean((2, 3)) @ torch.eye(features[-1].shape[1]))


class NumpyWeights(SoundHead):
    """Weights drawn outside torch's generator."""

    def __init__(self, channels: Channels) -> None:
        super().__init__(channels)
        nn.init.constant_(self.layers[0].bias, np.random.rand())


class VectorLossHead(SoundHead):
    """Forgets to reduce."""

    def loss(self, output, target):
        return {"ce": F.cross_entropy(output, target, reduction="none")}


class NanHead(SoundHead):
    """Divides by nothing."""

    def loss(self, output, target):
        return {"ce": F.cross_entropy(output, target) / 0}


class LogitHead(SoundHead):
    """Calls a logit a probability."""

    def predict(self, output):
        return {"probability": output[:, 0] * 100}


class EvenHead(SoundHead):
    """Works on even sizes only."""

    def forward(self, features):
        halves = F.pixel_unshuffle(F.interpolate(features[0], scale_factor=1), 2)
        return super().forward(features) + 0 * halves.mean((1, 2, 3))[:, None]


@pytest.mark.parametrize(
    ("head", "message"),
    [
        (UnannotatedHead, "no annotation"),
        (OpenHead, "names all its arguments"),
        (SilentHead, "no docstring"),
        (IdleHead, "no gradient reaches 'idle.weight'"),
        (UnseededHead, "draws from Python's or numpy's generator"),
        (OwnGeneratorHead, "differs under the same seed"),
        (UnsavedHead, "after a round trip"),
        (StrayTensorHead, "'scale' is neither parameter nor buffer"),
        (SingleHead, "float64"),
        (NumpyWeights, "two constructions under one seed"),
        (VectorLossHead, "not a scalar"),
        (NanHead, "not finite"),
        (LogitHead, "'probability'"),
    ],
)
def test_a_broken_pretext_is_told_what_it_breaks(head, message):
    with pytest.raises(AssertionError, match=message):
        check_pretext(head)


def test_a_pretext_for_even_sizes_only_fails():
    with pytest.raises((AssertionError, RuntimeError)):
        check_pretext(EvenHead)


class LyingEncoder(SoundEncoder):
    """Declares more channels than there are."""

    def __init__(self, in_channels: int = 1) -> None:
        super().__init__(in_channels)
        self.channels = (4, 8)


class WrongStrideEncoder(SoundEncoder):
    """Declares a stride of 8."""

    def __init__(self, in_channels: int = 1) -> None:
        super().__init__(in_channels)
        self.strides = (2, 8)


class ForgetfulEncoder(SoundEncoder):
    """Leaves a stage out."""

    def stages(self):
        return super().stages()[:1]


class RepeatingEncoder(SoundEncoder):
    """Names a stage twice."""

    def stages(self):
        return [*super().stages(), ("again", self.second)]


@pytest.mark.parametrize(
    ("encoder", "message"),
    [
        (LyingEncoder, "4 channels, but 8 are declared"),
        (WrongStrideEncoder, "stride 8"),
        (ForgetfulEncoder, "leaves parameters out"),
        (RepeatingEncoder, "twice"),
    ],
)
def test_a_broken_encoder_is_told_what_it_breaks(encoder, message):
    with pytest.raises(AssertionError, match=message):
        check_encoder(encoder)


class TasklessOperator(SoundOperator):
    """Says no task."""

    task = ""


class LeakyOperator(SoundOperator):
    """Looks at padding."""

    def forward(self, features, lengths):
        return self.layer(features.mean(1))[:, 0]


class CrowdOperator(SoundOperator):
    """Subtracts the batch's mean."""

    def forward(self, features, lengths):
        logits = super().forward(features, lengths)
        return logits - 0.5 * logits.mean()


@pytest.mark.parametrize(
    ("operator", "message"),
    [
        (TasklessOperator, "task must be .*, not ''"),
        (LeakyOperator, "padded slices change the result"),
        (CrowdOperator, "depends on the others in its batch"),
    ],
)
def test_a_broken_operator_is_told_what_it_breaks(operator, message):
    with pytest.raises(AssertionError, match=message):
        check_operator(operator)


class ShrinkingGenerator(SoundGenerator):
    """Loses an odd row."""

    def forward(self, x):
        return self.layer(x)[..., : x.shape[-2] // 2 * 2, : x.shape[-1] // 2 * 2]


def test_a_generator_that_changes_the_shape_is_told_so():
    with pytest.raises(AssertionError, match="became"):
        check_generator(ShrinkingGenerator)


class BareDiscriminator(SoundDiscriminator):
    """Returns one tensor."""

    def forward(self, x):
        return super().forward(x)["rec"]


class StrangerDiscriminator(SoundDiscriminator):
    """Shares what is not its own."""

    def shared_parameters(self):
        return list(nn.Linear(1, 1).parameters())


class DetachedDiscriminator(SoundDiscriminator):
    """One task does not reach the trunk."""

    def forward(self, x):
        h = self.trunk(x).relu()
        return {"cls": self.cls(h.mean((2, 3))), "rec": self.rec(h.detach())}


@pytest.mark.parametrize(
    ("discriminator", "message"),
    [
        (BareDiscriminator, "dictionary"),
        (StrangerDiscriminator, "not its own"),
        (DetachedDiscriminator, "task 'rec' reaches none"),
    ],
)
def test_a_broken_discriminator_is_told_what_it_breaks(discriminator, message):
    with pytest.raises(AssertionError, match=message):
        check_discriminator(discriminator)
