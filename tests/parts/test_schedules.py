"""Learning-rate schedules against the published schedulers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from medkit.parts.schedules import Constant, Cosine, Poly


@pytest.mark.parametrize(
    ("warmup", "epochs", "floor"), [(5, 50, 1e-6), (10, 50, 1e-5), (5, 500, 1e-6), (5, 1000, 1e-6)]
)
def test_official_multiplier_equals_the_published_one(golden: Path, warmup: int, epochs: int, floor: float) -> None:
    with np.load(golden / "lr_poly_warmup.npz") as file:
        expected = file[f"smart_2022/mult_w{warmup}_T{epochs}_min{floor:g}"]
    schedule = Poly(warmup=warmup, min_lr=floor, official=True)
    found = [schedule.published(epoch, epochs) for epoch in range(epochs)]
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-8)


def test_official_rate_keeps_the_two_idle_epochs_of_the_published_loop(golden: Path) -> None:
    with np.load(golden / "lr_schedule.npz") as file:
        expected = file["lr_actually_used"]
    schedule = Poly(warmup=10, min_lr=1e-6, official=True)
    found = [schedule.rate(1e-4, epoch, 500) for epoch in range(500)]
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1.1e-10)


def test_default_rate_trains_from_the_first_epoch_and_never_below_the_floor() -> None:
    schedule = Poly(warmup=5, min_lr=1e-7)
    rates = [schedule.rate(1e-4, epoch, 100) for epoch in range(100)]
    assert rates[0] == pytest.approx(2e-5)
    assert rates[4] == pytest.approx(1e-4)
    assert min(rates) >= 1e-7


def test_cosine_ends_near_its_floor_and_constant_never_moves() -> None:
    assert Cosine(min_lr=1e-6).rate(1e-3, 999, 1000) == pytest.approx(1e-6, rel=0.1)
    assert {Constant().rate(1e-3, epoch, 10) for epoch in range(10)} == {1e-3}
