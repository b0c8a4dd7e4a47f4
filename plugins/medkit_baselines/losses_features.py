"""Losses on features of networks trained on ImageNet: VGG19's for WGAN-VGG, ResNet-50's for EDCNN.

The networks are not part of the loss: they are loaded once per process and device, are never trained, and are in no
checkpoint. Grey images are repeated to three channels and not normalised.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medkit.api import Weights
from medkit.parts.encoders import TimmEncoder
from medkit.parts.features import RANDOM, VGG19, RandomTestFeatures, check_weights, load_by_name, read_tensors

STAGES = 4


class VGGLoss(nn.Module):
    """Mean square difference of VGG19's conv5_4, before its activation (WGAN-VGG; 20,024,384 frozen parameters).

    Images are (N,1,H,W) in [0,1], at least 16 pixels per side.

    Parameters
    ----------
    weights:
        ``PATH.safetensors`` with the names of torchvision's VGG19, ``hub:IMAGENET1K_V1`` (downloaded), or
        ``random_test_features``: a small untrained network, for tests.
    """

    def __init__(self, weights: Weights) -> None:
        super().__init__()
        self.weights = weights
        _network("vgg19", weights, "cpu")

    def forward(self, prediction: Tensor, target: Tensor, **context: Any) -> Tensor:
        return _distance("vgg19", self.weights, prediction, target)


class ResNetLoss(nn.Module):
    """Mean over the four stages of ResNet-50 of the mean square difference of their maps (EDCNN).

    Images are (N,1,H,W) in [0,1].

    Parameters
    ----------
    weights:
        ``PATH.safetensors`` with the names of timm's or torchvision's ResNet-50, ``hub:TAG`` (downloaded by timm;
        ``hub:tv_in1k`` are torchvision's), or ``random_test_features``: a small untrained network, for tests.
    """

    def __init__(self, weights: Weights) -> None:
        super().__init__()
        self.weights = weights
        _network("resnet50", weights, "cpu")

    def forward(self, prediction: Tensor, target: Tensor, **context: Any) -> Tensor:
        return _distance("resnet50", self.weights, prediction, target)


Kind = Literal["vgg19", "resnet50"]


def _distance(kind: Kind, weights: str, prediction: Tensor, target: Tensor) -> Tensor:
    """Mean over the last maps (one of VGG19, four of ResNet-50) of their mean square difference."""
    network = _network(kind, weights, str(prediction.device))
    with torch.no_grad():
        wanted = _last(kind, network(target))
    found = _last(kind, network(prediction))
    return torch.stack([F.mse_loss(a, b) for a, b in zip(found, wanted, strict=True)]).mean()


def _last(kind: Kind, maps: Iterable[Tensor]) -> list[Tensor]:
    return list(maps)[-1 if kind == "vgg19" else -STAGES :]


# Outside inference mode: a network made inside it could not be differentiated later.


@functools.cache
@torch.inference_mode(False)
def _network(kind: Kind, weights: str, device: str) -> nn.Module:
    if weights == RANDOM:
        network: nn.Module = RandomTestFeatures()
    elif kind == "vgg19":
        check_weights(weights)
        with torch.device("meta"):
            network = _VGG19()
        load_by_name(network, read_tensors("vgg19", weights), weights)
    else:
        # One channel: the weights of three are summed, which equals repeating a grey image. Its random start,
        # overwritten at once, must not move the numbers that the run draws.
        with torch.random.fork_rng(devices=[]):
            check_weights(weights)
            network = TimmEncoder("resnet50", in_channels=1, weights=weights)
    return network.eval().requires_grad_(False).to(device)


class _VGG19(VGG19):
    """VGG19 up to conv5_4."""

    def __init__(self) -> None:
        super().__init__()
        for _ in range(3):
            self.features.append(nn.Conv2d(512, 512, 3, padding=1))
            self.features.append(nn.ReLU())
        self.features.pop(-1)

    def forward(self, x: Tensor) -> Iterator[Tensor]:
        yield self.features(x.expand(-1, 3, -1, -1))
