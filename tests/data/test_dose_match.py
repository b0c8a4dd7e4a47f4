"""Photons that add a wanted noise at a place, and how the noise compares with real quarter-dose slices."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from medkit.data.dose import CUTOFF, Scanner, simulate_low_dose
from medkit.data.dose_match import Match, match_of
from medkit.data.dose_photons import photons_for, ray_variance
from medkit.data.io import read_volume
from medkit.data.projection import Geometry
from medkit.data.region import Region
from medkit.data.volume import Volume
from medkit.errors import InputError

PIXEL = 1.4


def body(wide: float, high: float, size: int = 256, pixel: float = PIXEL) -> np.ndarray:
    """(size,size) HU: an ellipse of fat with soft tissue of 50 HU inside; half axes in mm."""
    y, x = (np.mgrid[:size, :size] - (size - 1) / 2) * pixel
    hu = np.full((size, size), -1000.0, np.float32)
    hu[(x / wide) ** 2 + (y / high) ** 2 < 1] = -90
    hu[(x / (wide - 18)) ** 2 + (y / (high - 18)) ** 2 < 1] = 50
    hu[np.hypot(x, y - (high - 55)) < 20] = 250
    return hu


def scan(*slices: np.ndarray, pixel: float = PIXEL) -> Volume:
    return Volume(np.stack(slices), np.array(np.diag([5.0, pixel, pixel, 1.0])), units="HU")


def added(volume: Volume, photons: np.ndarray, seeds: int, scanner: Scanner | None = None) -> np.ndarray:
    """(seeds,D,H,W) HU that a quarter of the dose adds."""
    hu, pixel = volume.voxels, volume.spacing[2]
    low = [simulate_low_dose(hu, pixel, 0.25, scanner=scanner, photons=photons, seed=seed) for seed in range(seeds)]
    return np.stack(low) - hu


def test_a_rays_variance_reaches_a_pixel_as_filter_and_back_projection_carry_it() -> None:
    geometry = Geometry((24, 24), PIXEL, 8)
    variance = 0.5 + torch.rand(8, geometry.detectors, generator=torch.Generator().manual_seed(0)).double()
    rows, columns = torch.tensor([3, 12, 20]), torch.tensor([5, 12, 9])
    wanted = 0.0
    for view in range(8):  # one ray after the other: independent ones add their variances
        for ray in range(geometry.detectors):
            lines = torch.zeros(8, geometry.detectors)
            lines[view, ray] = 1
            image = geometry.backproject(geometry.filter(lines, CUTOFF["soft"]))
            wanted += float(image[rows, columns].double().square().mean() * variance[view, ray])
    found = (geometry.weights(rows, columns, CUTOFF["soft"]) * variance).sum()
    assert float(found) == pytest.approx(wanted, rel=1e-4)


def test_the_variance_of_few_counts_is_that_of_counts_drawn() -> None:
    rng = np.random.default_rng(1)
    for counts in (2.0, 12.0, 40.0):
        drawn = np.log(np.maximum(rng.poisson(counts, 300_000) + rng.normal(0, 5, 300_000), 1)).var()
        dose = 0.01  # of so low a dose nearly all noise is new
        inverse = np.array([dose / counts])
        share = (1 - dose) * (1 + (1 + dose) * 25 / counts) / (1 + 25 / counts)
        assert ray_variance(inverse, dose, 5.0)[0] == pytest.approx(drawn * share, rel=0.02)


def test_without_electronic_noise_photons_go_with_one_over_the_variance() -> None:
    volume, scanner = scan(body(90, 70, 128)), Scanner(electronic=0.0)
    one, two = (photons_for(volume, 0.25, Match(math.sqrt(v + 1 / 12)), scanner)[0] for v in (100, 400))
    assert one / two == pytest.approx(4, rel=1e-4)


@pytest.mark.parametrize("region", ["hu=10:70", "disc=60,40,30", "box=40:90,70:110"])
@pytest.mark.parametrize("settings", [{}, {"modulation": 0.5, "kernel": "sharp", "electronic": 20.0, "bow_tie": 0.5}])
def test_the_noise_that_is_added_in_the_region_is_the_one_wanted(region: str, settings: dict[str, float]) -> None:
    volume, scanner = scan(body(85, 60, 128)), Scanner(**settings)  # type: ignore[arg-type]
    photons = photons_for(volume, 0.25, Match(12.0, region), scanner)
    there = Region.of(region).of_slice(volume.voxels[0], PIXEL)
    found = np.sqrt(np.square(added(volume, photons, 12, scanner)[:, 0, there]).mean())
    assert found == pytest.approx(12, rel=0.04)


def test_a_whole_scan_has_one_number_and_each_slice_its_own_if_that_is_said() -> None:
    volume = scan(body(70, 50, 128), body(85, 75, 128), np.full((128, 128), -1000, np.float32))
    whole = photons_for(volume, 0.25, Match(15.0))
    assert np.unique(whole).size == 1
    each = photons_for(volume, 0.25, Match(15.0, each_slice=True))
    assert each[1] > 1.5 * each[0]
    assert each[2] == each[1]  # air has that of its neighbour
    tissue = Region.of("hu=10:70")
    for photons, wanted in ((whole, None), (each, 15.0)):
        change = added(volume, photons, 4)
        squares = [np.square(change[:, z, tissue.of_slice(volume.voxels[z], PIXEL)]) for z in (0, 1)]
        assert np.sqrt(np.concatenate([s.ravel() for s in squares]).mean()) == pytest.approx(15, rel=0.05)
        if wanted is not None:
            assert [np.sqrt(s.mean()) for s in squares] == pytest.approx([wanted] * 2, rel=0.07)


def anisotropy(noise: np.ndarray, tissue: np.ndarray, pixel: float = PIXEL) -> float:
    """Power of the noise within 22.5 degrees of vertical frequencies over that of horizontal ones."""
    values = np.where(tissue, noise - noise[tissue].mean(), 0)
    power = np.abs(np.fft.fft2(values)) ** 2
    down, along = np.meshgrid(*(np.fft.fftfreq(n, pixel) for n in noise.shape), indexing="ij")
    angle = np.degrees(np.arctan2(np.abs(along), np.abs(down)))
    there = np.hypot(down, along) > 0.03
    return float(power[there & (angle < 22.5)].sum() / power[there & (angle > 67.5)].sum())


# Four slices of patient L506 of the Mayo 2016 set at a quarter of the dose: noise in soft tissue in HU and power of
# vertical over horizontal frequencies as measured on the real pair, and that power as simulated with a constant current.
# The half axes in mm are those of an ellipse of 0.7 mm pixels whose simulation with a constant current has it too.
REAL = {
    18: (21.05, 4.8, 10.9, (160.6, 85.6)),
    88: (22.9, 4.0, 7.4, (161.8, 98.5)),
    167: (31.1, 2.5, 3.3, (159.8, 122.1)),
    176: (36.9, 2.3, 3.0, (164.1, 130.0)),
}


@pytest.mark.parametrize("z", sorted(REAL))
def test_noise_and_streaks_are_those_of_real_quarter_dose_slices_on_bodies_of_their_shape(z: int) -> None:
    noise, streaks, constant, axes = REAL[z]
    hu = body(*axes, 512, 0.7)
    tissue = Region.of("hu=0:100").of_slice(hu, 0.7)
    found = {}
    for modulation in (0.0, 0.3):
        scanner, volume = Scanner(modulation=modulation), scan(hu, pixel=0.7)
        photons = photons_for(volume, 0.25, Match(noise, "hu=0:100"), scanner)
        change = added(volume, photons, 1, scanner)[0, 0]
        assert change[tissue].std() == pytest.approx(noise, rel=0.03)
        middle = (slice(128, 384), slice(128, 384))
        found[modulation] = anisotropy(change[middle], tissue[middle], 0.7)
    assert found[0.0] == pytest.approx(constant, rel=0.1)
    assert 1 / 1.2 < found[0.3] / streaks < 1.2


@pytest.mark.parametrize("name", ["thin1mm_bone_I530", "thin1mm_ub_idose_I530"])
def test_a_quarter_of_the_dose_doubles_the_noise_that_a_real_scan_of_a_phantom_has(shared: Path, name: str) -> None:
    """Variance goes with one over the dose: three times the scan's own is added, and four times is there."""
    file = shared / "realdata" / "phantom_ct_philips_noise" / f"{name}.dcm"
    if not file.is_file():
        pytest.skip(f"{file} is not there")
    volume = read_volume(file)
    flat = (0, slice(256, 304), slice(194, 256))  # plastic without holes

    def noise(voxels: np.ndarray) -> float:
        values = voxels[flat].astype(float)
        return float((values - gaussian_filter(values, 8)).std())

    own = noise(volume.voxels)
    scanner = Scanner(kernel="sharp" if "bone" in name else "soft")
    photons = photons_for(volume, 0.25, Match(math.sqrt(3) * own, "box=256:304,194:256"), scanner)
    low = [
        simulate_low_dose(volume.voxels, volume.spacing[2], 0.25, scanner=scanner, photons=photons, seed=seed)
        for seed in range(2)
    ]
    for voxels in low:
        assert noise(voxels) == pytest.approx(2 * own, rel=0.1)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("brain", "'brain' is not a region"),
        ("hu=10", "is not a region"),
        ("hu=10,70", "is not a region"),
        ("hu=70:10", "the region .* is empty"),
        ("hu=nan:10", "not finite"),
        ("disc=10,10,0", "the region .* is empty"),
        ("box=10:10,5:9", "the region .* is empty"),
        ("box=1,2,3,4", "is not a region"),
    ],
)
def test_what_is_no_region_is_refused(text: str, why: str) -> None:
    with pytest.raises(InputError, match=why):
        Match(10.0, text)


def test_noise_that_cannot_be_had_is_refused_with_what_can() -> None:
    volume = scan(body(70, 50, 64, 2.8), pixel=2.8)
    with pytest.raises(
        InputError, match=r"1e\+06 HU of noise in 'hu=10:70' is not possible: a dose of 0.25 adds at most [\d.e+]+ HU"
    ):
        photons_for(volume, 0.25, Match(1e6))
    with pytest.raises(InputError, match="no pixel of the scan is in the region 'hu=900:901'"):
        photons_for(volume, 0.25, Match(10.0, "hu=900:901"))
    with pytest.raises(InputError, match="full dose adds no noise"):
        photons_for(volume, 1.0, Match(10.0))
    with pytest.raises(InputError, match=r"noise to match is 0.5 HU or more, not 0.1"):
        Match(0.1)


def test_options_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(InputError, match="photons are given too"):
        match_of(10.0, None, False, 2e6)
    with pytest.raises(InputError, match="but no noise; give match_hu too"):
        match_of(None, "hu=10:70", False, None)
    assert match_of(None, None, False, 2e6) is None
