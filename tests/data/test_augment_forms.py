"""Both forms of an augmentation do the same: as many images come out so, or so, from the CPU and from the device."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from medkit.data.augment import (
    Blur,
    Brightness,
    Contrast,
    Dihedral,
    Gamma,
    GaussNoise,
    HorizontalFlip,
    Sharpen,
    ShiftIntensity,
    ShiftScaleRotate,
)
from medkit.data.augment_chains import CPUChain, DeviceChain
from medkit.data.augment_crop import RandomResizedCrop

STEPS = [
    ShiftScaleRotate(),
    ShiftScaleRotate(border="zero"),
    HorizontalFlip(),
    ShiftIntensity(),
    Brightness(),
    Contrast(),
    Gamma(),
    Sharpen(),
    GaussNoise(),
    Blur(),
    Dihedral(),
    RandomResizedCrop((0.3, 1.0)),
]
DRAWS, SIZE = 800, 24


def name_of(step: Any) -> str:
    return type(step).__name__


def picture() -> np.ndarray:
    """(SIZE,SIZE): smooth and rough, no symmetry, away from 0 and 1."""
    y, x = np.mgrid[:SIZE, :SIZE] / SIZE
    smooth = 0.5 + 0.3 * np.sin(7 * x + 3 * y * y) * np.cos(5 * y + x)
    return np.clip(smooth + np.random.default_rng(0).normal(0, 0.03, smooth.shape), 0.1, 0.9).astype(np.float32)


def drawn_on_cpu(step: Any, image: np.ndarray) -> np.ndarray:
    chain, rng = CPUChain([step]), np.random.default_rng(1)
    return np.stack([chain({"image": image[None]}, rng)["image"][0] for _ in range(DRAWS)])


def drawn_on_device(step: Any, image: np.ndarray) -> np.ndarray:
    torch.manual_seed(1)
    return DeviceChain([step])({"image": torch.from_numpy(image).repeat(DRAWS, 1, 1, 1)})["image"][:, 0].numpy()


@pytest.mark.parametrize("step", STEPS, ids=name_of)
def test_means_and_deviations_of_every_pixel_agree(step: Any) -> None:
    cpu, device = drawn_on_cpu(step, picture()), drawn_on_device(step, picture())
    error = np.sqrt((cpu.var(0) + device.var(0)) / DRAWS) + 1e-6
    distance = (cpu.mean(0) - device.mean(0)) / error  # in standard errors, of which pixels share some
    assert np.sqrt(np.mean(distance**2)) < 2.5
    assert cpu.std(0).mean() == pytest.approx(device.std(0).mean(), rel=0.08)


@pytest.mark.parametrize("drawn", [drawn_on_cpu, drawn_on_device])
def test_shapes_keep_their_proportions(drawn: Any) -> None:
    """A disc stays a disc: the two axes of its second moments agree, as sampling allows, whatever the scale."""
    y, x = np.mgrid[:SIZE, :SIZE] - (SIZE - 1) / 2
    disc = np.clip(6.5 - np.hypot(y, x), 0, 1).astype(np.float32)
    images = drawn(ShiftScaleRotate(shift=0.0, scale=0.3, rotate=0.0, p=1.0), disc)[:200].astype(np.float64)
    weight = images.sum((1, 2))
    across, down = ((images * a**2).sum((1, 2)) / weight for a in (x, y))
    assert np.abs(np.sqrt(across / down) - 1).max() < 0.02
    assert np.ptp(np.sqrt(across)) > 0.3 * np.sqrt(across).mean()


def correlation(images: np.ndarray) -> float:
    return float(np.corrcoef(images[0].ravel(), images[1].ravel())[0, 1])


def test_noise_differs_between_the_slices_of_a_volume_on_both() -> None:
    flat = np.full((3, 64, 64), 0.5, np.float32)
    cpu = CPUChain([GaussNoise(p=1.0)])({"image": flat, "target": flat}, np.random.default_rng(0))
    torch.manual_seed(0)
    batch = {name: torch.from_numpy(flat)[:, None] for name in ("image", "target")}
    device = DeviceChain([GaussNoise(p=1.0)])({**batch, "lengths": torch.tensor([3])})
    for image, target in ((cpu["image"], cpu["target"]), (device["image"].numpy(), device["target"].numpy())):
        assert abs(correlation(image)) < 0.1
        assert abs(correlation(np.stack([image[0], target[0]]))) < 0.1
        # One draw of the deviation for all of it.
        assert image[0].std() == pytest.approx(image[2].std(), rel=0.1)
        assert image[0].std() == pytest.approx(target[1].std(), rel=0.1)


def test_what_comes_in_from_outside_is_mirrored_or_nothing() -> None:
    bright = np.ones((SIZE, SIZE), np.float32)
    for drawn in (drawn_on_cpu, drawn_on_device):
        assert drawn(ShiftScaleRotate(p=1.0), bright).min() > 0.999
        assert drawn(ShiftScaleRotate(p=1.0, border="zero"), bright).min() == 0


def test_values_outside_0_to_1_are_kept_by_geometry_on_both() -> None:
    scores = picture() * 8 - 4
    for drawn in (drawn_on_cpu, drawn_on_device):
        found = drawn(HorizontalFlip(p=1.0), scores)[0]
        np.testing.assert_allclose(found, scores[:, ::-1], atol=1e-6)
