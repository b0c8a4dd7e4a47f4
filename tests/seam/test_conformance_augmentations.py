"""An augmentation is applied by its check: what would make a run unrepeatable, or part image and mask, is named."""

from __future__ import annotations

from typing import Any

import albumentations
import kornia.augmentation
import numpy as np
import pytest
import torch
from torch import nn

from medkit.registry.plugins import registry
from medkit.testing import check_augmentation, check_component


class CPU:
    """On the CPU only; a subclass names its transform."""

    made: Any = None

    def cpu(self) -> Any:
        return self.made()


class Device:
    """On the device only; a subclass names its module."""

    made: Any = None

    def device(self) -> Any:
        return self.made()


class OwnGenerator(CPU):
    """Noise from a generator of its own."""

    def __init__(self) -> None:
        self.rng = np.random.default_rng(0)

    def cpu(self) -> Any:
        return albumentations.Lambda(
            image=lambda x, **more: x + self.rng.normal(0, 0.1, x.shape).astype(np.float32), p=1
        )


class NumpyNoise(albumentations.ImageOnlyTransform):
    """Noise from numpy's generator."""

    def apply(self, img: Any, **more: Any) -> Any:
        return img + np.random.normal(0, 0.1, img.shape).astype(np.float32)


class GivenNoise(albumentations.ImageOnlyTransform):
    """Noise from the generator that albumentations seeds."""

    def apply(self, img: Any, **more: Any) -> Any:
        return img + self.random_generator.normal(0, 0.1, img.shape).astype(np.float32)


class ImageFlip(albumentations.ImageOnlyTransform):
    """Flips images, not masks."""

    def apply(self, img: Any, **more: Any) -> Any:
        return np.ascontiguousarray(img[:, ::-1])


class Double(albumentations.ImageOnlyTransform):
    """Computes in float64."""

    def apply(self, img: Any, **more: Any) -> Any:
        return img * np.float64(0.5)


class Root(albumentations.ImageOnlyTransform):
    """A root below zero."""

    def apply(self, img: Any, **more: Any) -> Any:
        return np.sqrt(img - 0.5)


class BlurredMask(albumentations.DualTransform):
    """Scales masks too."""

    def apply(self, img: Any, **more: Any) -> Any:
        return img * 0.5

    def apply_to_mask(self, mask: Any, **more: Any) -> Any:
        return mask * 2


class Wiping(albumentations.DualTransform):
    """Empties the mask that it was given."""

    def apply(self, img: Any, **more: Any) -> Any:
        return img * 0.5

    def apply_to_masks(self, masks: Any, **more: Any) -> Any:
        masks[:] = 0
        return masks


class NumpyScale(nn.Module):
    """Draws a factor from numpy's generator."""

    def forward(self, x: Any) -> Any:
        return x * float(np.random.uniform(0.5, 1))


class Seeded(kornia.augmentation.IntensityAugmentationBase2D):
    """Draws under a seed of its own."""

    def apply_transform(self, input: Any, params: Any, flags: Any, transform: Any = None) -> Any:
        torch.manual_seed(0)
        return input * torch.rand(())


class Turned(nn.Module):
    """Turns images, not masks."""

    def forward(self, x: Any) -> Any:
        return x.flip(-1)


def of(base: Any, made: Any) -> Any:
    return type(made.__name__, (base,), {"made": lambda self: made(p=1) if base is CPU else made()})()


@pytest.mark.parametrize(
    ("augmentation", "message"),
    [
        (OwnGenerator(), "another result under the same seed: it draws from a generator of its own"),
        (of(CPU, NumpyNoise), "another result under the same seed"),
        (of(CPU, ImageFlip), "does not move image and mask together"),
        (of(CPU, Double), "an image of float64"),
        (of(CPU, Root), "not finite"),
        (of(CPU, BlurredMask), "no longer 0 and 1"),
        (of(CPU, Wiping), "changes its input"),
        (of(Device, Turned), "does not move image and mask together"),
        (of(Device, NumpyScale), "another result under the same seed"),
        (of(Device, Seeded), "sets torch's seed or state"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_an_augmentation_s_mistake_is_named(augmentation: Any, message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        check_augmentation(augmentation)


def test_noise_from_the_generator_that_albumentations_seeds_passes() -> None:
    check_augmentation(of(CPU, GivenNoise))


@pytest.mark.parametrize(
    "made",
    [
        albumentations.CoarseDropout,
        albumentations.ElasticTransform,
        albumentations.GridDistortion,
        albumentations.RandomBrightnessContrast,
        albumentations.HorizontalFlip,
        albumentations.Equalize,
        albumentations.GaussianBlur,
    ],
)
def test_what_albumentations_has_passes(made: Any) -> None:
    check_augmentation(of(CPU, made))


@pytest.mark.parametrize("name", ["shift_scale_rotate", "random_resized_crop", "gauss_noise"])
def test_stronger_settings_of_medkit_s_own_pass(name: str) -> None:
    more = {"gauss_noise": {"high": 0.3, "p": 1.0}, "shift_scale_rotate": {"rotate": 180.0, "shift": 0.3, "p": 1.0}}
    assert registry().resolve("transform", name)
    check_component("transform", name, **more.get(name, {}))
