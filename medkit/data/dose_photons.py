"""How many photons add a given noise in a region of a scan.

The variance that the simulation adds to a pixel is a weighted sum of the variances of the rays, and a ray's variance
depends only on its attenuation and the photons. So one histogram per slice suffices: the weight that rays of each
attenuation have in the region's mean variance. Photons are found from it, without drawing noise.
"""

from __future__ import annotations

import functools
import math

import numpy as np
import torch

from medkit.data.dose import CUTOFF, STARVED, WATER, Scanner, check_scan, line_integrals, sent, square_pixel
from medkit.data.dose_match import Match
from medkit.data.padding import padding
from medkit.data.projection import Geometry
from medkit.data.region import Region
from medkit.data.volume import Volume
from medkit.errors import InputError

STEP = 0.02
"""Width of the histogram's bins, in nepers."""
EDGES = (-20.0, 60.0)
MOST_PIXELS = 20_000
"""Most pixels of a slice's region to use; if there are more, an evenly spaced selection."""
MOST_PHOTONS = 1e15


def photons_for(scan: Volume, dose: float, match: Match, scanner: Scanner | None = None) -> np.ndarray:
    """Photons per ray at full dose with which a lower dose adds the given noise.

    Parameters
    ----------
    scan:
        In HU, not windowed, with square pixels.
    dose:
        Fraction of the scan's dose, in (0, 1).
    match:
        The noise and its region.
    scanner:
        Its own photons are ignored.

    Returns
    -------
    numpy.ndarray
        (D,) for :func:`medkit.data.dose.simulate_low_dose`. With them, noise is ``match.hu`` on average over seeds; how
        far a single draw differs depends on the region's number of independent pixels.

    Raises
    ------
    InputError
        if no slice has a pixel in the region, or no number of photons adds that much noise.
    """
    scanner, hu, pixel = scanner or Scanner(), scan.voxels, square_pixel(scan)
    check_scan(hu, pixel, dose)
    if dose == 1:
        raise InputError("full dose adds no noise that could be matched", scan.place, "name a dose below 1")
    geometry = Geometry(hu.shape[1:], pixel, scanner.views)
    region = Region.of(match.region)
    found = [_histogram(image, region.of_slice(image, pixel), geometry, scanner) for image in hu]
    counts = np.array([count for _, count in found])
    there = np.flatnonzero(counts)
    if not there.size:
        raise InputError(f"no pixel of the scan is in the region '{match.region}'", scan.place, "name another region")
    try:
        if not match.each_slice:
            together = np.average([weights for weights, _ in found], axis=0, weights=counts)
            return np.full(len(hu), _solve(together, match, dose, scanner))
        own = {z: _solve(found[z][0], match, dose, scanner) for z in there.tolist()}
    except InputError as problem:
        raise InputError(problem.what, scan.place, problem.hint) from problem
    return np.array([own[int(there[np.abs(there - z).argmin()])] for z in range(len(hu))])


def _histogram(image: np.ndarray, region: np.ndarray, geometry: Geometry, scanner: Scanner) -> tuple[np.ndarray, int]:
    """Weights in HU^2, by attenuation, of rays in the region's mean variance; and the region's number of pixels."""
    rows, columns = np.nonzero(region & ~padding(image))
    bins = round((EDGES[1] - EDGES[0]) / STEP)
    if not rows.size:
        return np.zeros(bins), 0
    picked = np.linspace(0, len(rows) - 1, min(len(rows), MOST_PIXELS)).astype(int)
    down, along = (torch.from_numpy(values[picked]) for values in (rows, columns))
    weights = geometry.weights(down, along, CUTOFF[scanner.kernel]) * (1000 / WATER) ** 2
    lines = line_integrals(image, geometry)
    # For one photon of the scanner: minus the logarithm of the fraction that arrives.
    lost = lines - torch.log(sent(lines, scanner, geometry) / scanner.photons)
    index = ((lost.double() - EDGES[0]) / STEP).long().clamp(0, bins - 1)
    return np.bincount(index.flatten().numpy(), weights.flatten().numpy(), bins), len(rows)


def _solve(weights: np.ndarray, match: Match, dose: float, scanner: Scanner) -> float:
    """The largest number of photons that adds the given noise, searched downwards."""
    lost = EDGES[0] + (np.arange(len(weights)) + 0.5) * STEP

    def noise(log_photons: float) -> float:
        variance = ray_variance(np.exp(lost - log_photons), dose, scanner.electronic)
        return math.sqrt(float(weights @ variance) + 1 / 12)  # plus the rounding to integer HU

    ladder = np.arange(math.log(MOST_PHOTONS), math.log(1 / dose), -0.5).tolist()
    level = [noise(step) for step in ladder]
    first = next((i for i, value in enumerate(level) if value >= match.hu), None)
    if not first:
        what = f"{match.hu:g} HU of noise in '{match.region}'"
        raise InputError(f"{what} is not possible: a dose of {dose:g} adds at most {max(level):.3g} HU there")
    high, low = ladder[first - 1], ladder[first]
    for _ in range(40):
        middle = (high + low) / 2
        high, low = (high, middle) if noise(middle) >= match.hu else (middle, low)
    return math.exp(high)


def ray_variance(inverse: np.ndarray, dose: float, electronic: float) -> np.ndarray:
    """Variance that :func:`medkit.data.dose.draw_noise` adds to a line integral.

    ``inverse`` is the reciprocal of the photons that arrive at full dose.
    """
    added: np.ndarray = (1 - dose) / dose * inverse * (1 + (1 + dose) / dose * electronic**2 * inverse)
    starved = inverse > dose / STARVED
    few = inverse[starved]
    total = few / dose * (1 + electronic**2 * few / dose)
    drawn = np.interp(np.log(dose / few), *_of_few(electronic))
    added[starved] = drawn * np.minimum(added[starved] / total, 1)
    return added


@functools.lru_cache(8)
def _of_few(electronic: float) -> tuple[np.ndarray, np.ndarray]:
    """Logarithms of expected counts up to ``STARVED``, and the variance of the logarithm of the counts then."""
    expected = np.geomspace(1e-4, STARVED, 200)
    counts = np.arange(200)
    logs = np.array([math.lgamma(count + 1) for count in counts])
    chance = np.exp(counts * np.log(expected)[:, None] - expected[:, None] - logs)
    nodes = np.linspace(-6, 6, 241)
    share = np.exp(-(nodes**2) / 2)
    value = np.log(np.maximum(counts[:, None] + electronic * nodes, 1))
    mean, square = (value**power @ (share / share.sum()) for power in (1, 2))
    return np.log(expected), chance @ square - (chance @ mean) ** 2
