"""Low-dose CT simulated by physical noise insertion in the projection domain.

A scan in HU is converted to attenuation and projected (parallel beam). For each ray, the noise that a lower tube
current would add to the scan's own is drawn; filtered back-projection of that noise *alone* gives a noise image, which
is added to the scan. Voxels therefore keep their own resolution, structure and noise.

Numbers of rays and photons and the electronic noise describe a generic scanner, not a vendor's. Source: noise insertion
after Yu et al. 2012 and Zabic et al. 2013, with the approximation ``var = (1-d)/d e^p/I0 (1 + (1+d)/d s^2 e^p/I0)``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch

from medkit.data.padding import padding
from medkit.data.projection import Geometry
from medkit.data.units import doubt
from medkit.data.volume import Volume
from medkit.errors import InputError

PHOTONS = 2e6
WATER = 0.0195
"""Linear attenuation of water in 1/mm at about 70 keV."""
UNWINDOWED = "give HU that have not been windowed or scaled"
STARVED = 60.0
"""Expected counts at the lower dose below which counts are drawn instead of using the approximation."""
Kernel = Literal["soft", "sharp", "ramp"]
CUTOFF = {"soft": 0.58, "sharp": 0.85, "ramp": math.inf}


@dataclass(frozen=True)
class Scanner:
    """Beam, detector and kernel, on which the noise depends.

    Parameters
    ----------
    photons:
        Photons per detector element (one pixel wide, one slice thick) and view, in air at full dose (I0). With the
        default, a quarter of the dose adds 10 HU to a head with 0.49 mm pixels, as in published brain pairs.
    electronic:
        Standard deviation of the electronic noise, in photons.
    bow_tie:
        Fraction of the photons that a bow-tie filter leaves at the ends of the detector, which spans the image's
        diagonal; 1 means no filter.
    kernel:
        Reconstruction kernel that colours the noise: a ramp times ``exp(-(f/f0)^4)`` with f0 = 0.58 cycles/mm
        (``soft``, fitted to the autocorrelation of 3 mm brain images), 0.85 (``sharp``) or none (``ramp``).
    views:
        Projection angles over half a turn.
    modulation:
        Strength of the angular modulation of the tube current: a view's current is proportional to this power of the
        attenuation of its longest path, and ``photons`` is the mean over the views. 0 is a constant current; 0.5 gives
        the least noise for a dose (Gies et al. 1999, Med. Phys. 26, 2235); with 1, all views are equally noisy there.
    """

    photons: float = PHOTONS
    electronic: float = 5.0
    bow_tie: float = 1.0
    kernel: Kernel = "soft"
    views: int = 360
    modulation: float = 0.0

    def __post_init__(self) -> None:
        if not 0 < self.photons < math.inf:
            raise InputError(f"photons must be positive and finite, not {self.photons}")
        if not 0 <= self.electronic < math.inf:
            raise InputError(f"electronic noise must be finite and not negative, but is {self.electronic}")
        if not 0 < self.bow_tie <= 1:
            raise InputError(f"bow_tie is the fraction of photons left at the edge, in (0, 1], not {self.bow_tie}")
        if self.kernel not in CUTOFF:
            raise InputError(f"kernel '{self.kernel}' is not one of {', '.join(CUTOFF)}")
        if self.views < 8:
            raise InputError(f"{self.views} views are too few", hint="8 or more")
        if not 0 <= self.modulation <= 1:
            raise InputError(f"modulation is a power of the attenuation, in [0, 1], not {self.modulation}")


def simulate_low_dose(
    hu: np.ndarray,
    pixel: float,
    dose: float,
    *,
    scanner: Scanner | None = None,
    photons: Sequence[float] | np.ndarray | None = None,
    seed: int = 0,
    progress: Callable[[int], None] | None = None,
) -> np.ndarray:
    """Add to a CT scan the noise it would have at a lower dose.

    Parameters
    ----------
    hu:
        (D,H,W) HU; unwindowed, air near -1000.
    pixel:
        In-plane pixel size in mm.
    dose:
        Fraction of the scan's dose, in (0, 1]; 1 returns the scan.
    scanner:
        Beam, detector and kernel.
    photons:
        (D,) photons of each slice, instead of the scanner's (:func:`medkit.data.dose_photons.photons_for`).
    seed:
        The noise of slice z depends only on (seed, z).
    progress:
        Called with the number of slices done.

    Returns
    -------
    numpy.ndarray
        (D,H,W) float32, integer HU; padding (:func:`medkit.data.padding.padding`) is unchanged.

    Raises
    ------
    InputError
        for a dose outside (0, 1], non-finite voxels, or images that were windowed.
    """
    scanner = scanner or Scanner()
    check_scan(hu, pixel, dose)
    if photons is not None and len(photons) != len(hu):
        raise InputError(f"{len(photons)} numbers of photons were given for {len(hu)} slices")
    beams = [scanner] * len(hu) if photons is None else [replace(scanner, photons=float(own)) for own in photons]
    for beam in beams:
        if dose * beam.photons < 1:
            what = f"{beam.photons:g} photons at a dose of {dose:g} are less than one per ray"
            raise InputError(what, hint="raise the dose or the photons")
    if seed < 0:
        raise InputError(f"a seed is 0 or more, not {seed}")
    geometry = Geometry(hu.shape[1:], pixel, scanner.views)
    out = np.empty(hu.shape, np.float32)
    for z, (image, beam) in enumerate(zip(hu, beams, strict=True)):
        if dose == 1:
            low = image
        else:
            generator = torch.Generator().manual_seed(_slice_seed(seed, z))
            noise = draw_noise(line_integrals(image, geometry), dose, beam, geometry, generator)
            grain = geometry.backproject(geometry.filter(noise, CUTOFF[beam.kernel])) * (1000 / WATER)
            low = image + grain.numpy()
        out[z] = np.where(padding(image), image, np.rint(low))
        if progress is not None:
            progress(z + 1)
    return out


def check_scan(hu: np.ndarray, pixel: float, dose: float) -> None:
    """Raise :class:`InputError` unless these are a scan (D,H,W) in HU, a pixel size in mm and a dose in (0, 1]."""
    if not 0 < dose <= 1:
        raise InputError(f"the dose must lie in (0, 1], not {dose}", hint="0.25 is a quarter of the dose")
    if hu.ndim != 3:
        raise InputError(f"a scan is (D,H,W), not {hu.shape}")
    if not pixel > 0:
        raise InputError(f"the pixel size must be positive, not {pixel} mm")
    if not np.isfinite(hu).all():
        raise InputError("the scan has voxels that are not finite")
    why = doubt(hu)
    if why is not None:
        raise InputError(f"the scan cannot be projected: {why}", hint=UNWINDOWED)


def line_integrals(image: np.ndarray, geometry: Geometry) -> torch.Tensor:
    """(views, detectors) line integrals of an (H,W) image in HU; values below air count as air."""
    attenuation = np.maximum(image.astype(np.float32) / 1000 + 1, 0) * np.float32(WATER)
    return geometry.project(torch.from_numpy(attenuation))


def square_pixel(volume: Volume) -> float:
    """The side of a pixel in mm; raises :class:`InputError` unless pixels are square, which projection needs."""
    _, down, along = volume.spacing
    if abs(down - along) > 0.01 * along:
        what = f"pixels of {down:.3f} x {along:.3f} mm are not square"
        raise InputError(what, volume.place, "resample them first")
    return along


def draw_noise(
    lines: torch.Tensor, dose: float, scanner: Scanner, geometry: Geometry, generator: torch.Generator
) -> torch.Tensor:
    """The noise of line integrals that a scan at ``dose`` has beyond one at full dose; shape and units of ``lines``."""
    photons = sent(lines, scanner, geometry)
    inverse = torch.exp(lines) / photons  # reciprocal of the photons that arrive at full dose
    added = (1 - dose) / dose * inverse * (1 + (1 + dose) / dose * scanner.electronic**2 * inverse)
    noise = torch.randn(lines.shape, generator=generator) * added.sqrt()
    starved = inverse > dose / STARVED
    if bool(starved.any()):
        arriving = (photons * torch.exp(-lines))[starved] * dose
        drawn = starved_noise(arriving, photons[starved] * dose, lines[starved], scanner.electronic, generator)
        # The scan already has part of this noise, so the draw is scaled down to the spread that is to be added.
        total = inverse[starved] / dose * (1 + scanner.electronic**2 * inverse[starved] / dose)
        noise[starved] = drawn * (added[starved] / total).clamp(max=1).sqrt()
    return noise


def sent(lines: torch.Tensor, scanner: Scanner, geometry: Geometry) -> torch.Tensor:
    """Photons of each ray before the body at full dose; shape of ``lines``."""
    photons = (scanner.photons * geometry.bow_tie(scanner.bow_tie)).expand_as(lines)
    if scanner.modulation == 0:
        return photons
    current = torch.exp(scanner.modulation * lines.amax(1, keepdim=True))
    return photons * (current / current.mean())


def starved_noise(
    arriving: torch.Tensor, emitted: torch.Tensor, lines: torch.Tensor, electronic: float, generator: torch.Generator
) -> torch.Tensor:
    """The whole noise of line integrals where few photons arrive, whose logarithm is skewed, from drawn counts.

    ``arriving`` and ``emitted`` are the expected photons after and before the body, ``lines`` the true integrals.
    """
    counts = torch.poisson(arriving, generator=generator)
    counts += electronic * torch.randn(counts.shape, generator=generator)
    return -torch.log(counts.clamp(min=1) / emitted) - lines


def _slice_seed(seed: int, z: int) -> int:
    return int(np.random.SeedSequence([seed, z]).generate_state(1, np.uint64)[0] >> 1)
