"""Distances of slices in the features of VGG19: perceptual loss (PL) and texture matching loss (TML).

As the published evaluation of low-dose CT denoising computes them: features relu1_1, 2_1, 3_1, 4_1 and 5_1 of grey
slices without ImageNet normalisation, mean absolute differences weighted 1/32, 1/16, 1/8, 1/4 and 1, and summed.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from medkit.errors import InputError
from medkit.parts.features import RANDOM, Remembered, digest, network, slices_at_once
from medkit.parts.metrics_image import Pairs, SliceMetric
from medkit.registry.marks import Weights

WEIGHTS = (1 / 32, 1 / 16, 1 / 8, 1 / 4, 1.0)
PATCH = 16
"""Cells of a feature map along the side of a patch of texture."""

REMEMBERED = 50_000
PERCEPTUAL, TEXTURE = 0, 1


def grams(maps: Tensor) -> Tensor:
    """Textures of feature maps: (N,C,H,W) to (N,P,C,C), the Gram matrix of each 16x16 patch of cells, not normalised.

    Patches do not overlap; rows and columns that do not fill a patch are dropped, so P may be 0.
    """
    down, along = maps.shape[2] // PATCH, maps.shape[3] // PATCH
    cut = maps[:, :, : down * PATCH, : along * PATCH].unflatten(2, (down, PATCH)).unflatten(4, (along, PATCH))
    # Cells by channels, as maps stored channels last have them.
    patches = cut.permute(0, 2, 4, 3, 5, 1).flatten(3, 4).flatten(1, 2)
    return patches.mT @ patches


class Distances:
    """PL and TML of pairs of slices by one network.

    Both come from one pass, and pairs seen before are remembered by their content: a stage with both metrics computes
    features once, and the input's own distances are computed in the first epoch only.
    """

    def __init__(self, features: nn.Module) -> None:
        self.features: Any = features
        self.device = next(features.parameters()).device
        self.known = Remembered(REMEMBERED)

    def __call__(self, pairs: Pairs) -> list[tuple[float, float]]:
        """(PL, TML) of each pair of (H,W) slices in [0,1]; TML is nan if a feature map holds no patch."""
        keys = [(digest(a), digest(b)) for a, b in pairs]
        return self.known.all(keys, lambda new: self._measure([pairs[i] for i in new], [keys[i] for i in new]))

    @torch.inference_mode()
    def _measure(self, pairs: Pairs, keys: Sequence[tuple[bytes, bytes]]) -> list[tuple[float, float]]:
        # An output and an input share their target, so two pairs are three slices.
        step = 2 * slices_at_once(pairs[0][0].shape)
        found: list[tuple[float, float]] = []
        for start in range(0, len(pairs), step):
            slices: dict[bytes, np.ndarray] = {}
            for pair, key in zip(pairs[start : start + step], keys[start : start + step], strict=True):
                slices |= zip(key, pair, strict=True)
            place = {name: i for i, name in enumerate(slices)}
            images = np.stack([np.asarray(image, np.float32) for image in slices.values()])
            maps = self.features(torch.from_numpy(images)[:, None].to(self.device))
            index = [(place[a], place[b]) for a, b in keys[start : start + step]]
            terms = [
                weight * torch.stack([_differences(level, index), _differences(grams(level), index)], 1)
                for weight, level in zip(WEIGHTS, maps, strict=True)
            ]
            found += [(pl, tml) for pl, tml in torch.stack(terms).sum(0).tolist()]
        return found


def _differences(x: Tensor, index: Sequence[tuple[int, int]]) -> Tensor:
    """(P,) mean absolute differences of the entries of ``x`` that ``index`` pairs."""
    return torch.stack([(x[a] - x[b]).abs().mean() for a, b in index])


_shared = functools.cache(Distances)


class _Perceptual(SliceMetric):
    """One of the two distances."""

    higher_is_better = False
    which = PERCEPTUAL
    cells = 1

    def __init__(self, weights: Weights) -> None:
        self.weights = weights
        self.name = f"{self.name}_random" if weights == RANDOM else self.name
        self.to(torch.device("cpu"))

    def to(self, device: torch.device) -> None:
        """Compute on ``device`` from now on."""
        self.distances = _shared(network("vgg19", self.weights, device))

    def measure(self, pairs: Pairs) -> Sequence[float]:
        needed = self.cells * self.distances.features.stride
        for image, _ in pairs:
            if min(image.shape) < needed:
                raise InputError(
                    f"slices of {image.shape[0]}x{image.shape[1]} are too small for metric '{self.name}'",
                    hint=f"it needs at least {needed}x{needed}: remove it from 'metrics', or use larger slices",
                )
        return [found[self.which] for found in self.distances(pairs)]


class PL(_Perceptual):
    """Perceptual loss: mean absolute difference of VGG19's features (Johnson et al. 2016, five layers).

    Slices need 16x16 pixels. With random_test_features the metric is named ``pl_random``.

    Parameters
    ----------
    weights:
        PATH.safetensors, hub:IMAGENET1K_V1 (downloaded) or random_test_features (for tests only).
    """

    name = "pl"


class TML(_Perceptual):
    """Texture matching loss: mean absolute difference of Gram matrices of patches (Sajjadi et al. 2017, five layers).

    A patch is 16x16 cells of a feature map, so slices need 256x256 pixels with VGG19. With random_test_features the
    metric is named ``tml_random``.

    Parameters
    ----------
    weights:
        PATH.safetensors, hub:IMAGENET1K_V1 (downloaded) or random_test_features (for tests only).
    """

    name = "tml"
    which = TEXTURE
    cells = PATCH
