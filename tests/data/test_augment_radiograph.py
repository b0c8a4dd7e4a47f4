"""Gamma and sharpening: what they do to values, on the CPU and on the training device."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from medkit.data.augment import Gamma, Sharpen
from medkit.data.augment_chains import CPUChain, DeviceChain


def on_cpu(step: Any, image: np.ndarray, seed: int = 0) -> np.ndarray:
    return CPUChain([step])({"image": image}, np.random.default_rng(seed))["image"]


def on_device(step: Any, image: np.ndarray, seed: int = 0) -> np.ndarray:
    torch.manual_seed(seed)
    return DeviceChain([step])({"image": torch.from_numpy(image)[:, None]})["image"][:, 0].numpy()


RAMP = np.linspace(0.05, 0.95, 48 * 48, dtype=np.float32).reshape(1, 48, 48)


@pytest.mark.parametrize("where", [on_cpu, on_device])
def test_gamma_raises_all_values_to_one_power_within_a_tenth_of_1(where: Any) -> None:
    powers = []
    for seed in range(12):
        power = np.log(where(Gamma(p=1.0), RAMP, seed)) / np.log(RAMP)
        assert np.ptp(power) < 1e-3
        powers.append(float(power.mean()))
    assert min(powers) >= 0.899
    assert max(powers) <= 1.101
    assert min(powers) < 1 < max(powers)


@pytest.mark.parametrize("where", [on_cpu, on_device])
def test_gamma_keeps_black_and_white(where: Any) -> None:
    image = np.zeros((1, 16, 16), np.float32)
    image[0, 8:] = 1
    np.testing.assert_allclose(where(Gamma(p=1.0), image), image, atol=1e-6)


@pytest.mark.parametrize("where", [on_cpu, on_device])
def test_sharpening_steepens_edges_and_keeps_the_mean(where: Any) -> None:
    step = np.full((1, 32, 32), 0.3, np.float32)
    step[0, :, 16:] = 0.7
    found = where(Sharpen(p=1.0), step)
    assert found[0, 16, 15] < 0.3 - 0.05
    assert found[0, 16, 16] > 0.7 + 0.05
    assert found.mean() == pytest.approx(step.mean(), abs=0.005)


@pytest.mark.parametrize("where", [on_cpu, on_device])
def test_sharpening_leaves_even_regions_alone(where: Any) -> None:
    np.testing.assert_allclose(where(Sharpen(p=1.0), RAMP)[0, 2:-2, 2:-2], RAMP[0, 2:-2, 2:-2], atol=1e-3)


@pytest.mark.parametrize("where", [on_cpu, on_device])
def test_sharpening_mixes_the_share_it_was_told(where: Any) -> None:
    """A kernel of 9 amid -1 takes 3 x 0.2 from the dark side of an edge of height 0.2; mixed at 0.1 to 0.3."""
    edge = np.full((1, 32, 32), 0.4, np.float32)
    edge[0, :, 16:] = 0.6
    drops = [float(0.4 - where(Sharpen(p=1.0), edge, seed)[0, 16, 15]) for seed in range(12)]
    assert min(drops) >= 0.1 * 3 * 0.2 - 1e-4
    assert max(drops) <= 0.3 * 3 * 0.2 + 1e-4


def test_shares_in_the_wrong_order_are_refused() -> None:
    with pytest.raises(ValueError, match="above the largest"):
        Sharpen(low=0.5, high=0.2)
