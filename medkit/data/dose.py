"""Low-dose CT simulated by physical noise insertion in the projection domain.

A scan in HU is turned into attenuation and projected (parallel beam). For each ray the noise that a lower tube
current would add to what the scan already has is drawn, filtered back-projection of that noise *alone* gives an image
of it, and that image is added to the scan. Voxels therefore keep their own resolution, structure and noise.

Numbers of rays, photons and the electronic noise describe a generic scanner, not a vendor's. Source: noise insertion
after Yu et al. 2012 and Zabic et al. 2013, with the approximation ``var = (1-d)/d e^p/I0 (1 + (1+d)/d s^2 e^p/I0)``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F

from medkit.data.units import doubt
from medkit.data.volume import Volume
from medkit.errors import InputError

WATER = 0.0195
"""Linear attenuation of water in 1/mm at about 70 keV."""
OUTSIDE = -1500.0
"""HU below which nothing was reconstructed: padding around the field (-2000, -3024) that the file does not declare."""
UNWINDOWED = "give HU that have not been windowed or scaled"
STARVED = 60.0
"""Expected counts at the lower dose below which noise is drawn from counts instead of from the approximation."""
Kernel = Literal["soft", "sharp", "ramp"]
CUTOFF = {"soft": 0.58, "sharp": 0.85, "ramp": math.inf}


@dataclass(frozen=True)
class Scanner:
    """What the noise depends on.

    Parameters
    ----------
    photons:
        Photons a detector element (a pixel wide, a slice thick) and view receives in air at full dose (I0). With the
        default a quarter of the dose adds 10 HU to a head of 0.49 mm pixels, as published brain pairs have.
    electronic:
        Standard deviation of the electronic noise, in photons.
    bow_tie:
        Share of the photons that a bow-tie filter leaves at the edge of the field of view; 1 is no filter.
    kernel:
        Reconstruction kernel that colours the noise: a ramp times ``exp(-(f/f0)^4)`` with f0 = 0.58 cycles/mm
        (``soft``, fitted to the autocorrelation of 3 mm brain images), 0.85 (``sharp``) or none (``ramp``).
    views:
        Projection angles over half a turn.
    """

    photons: float = 2e6
    electronic: float = 5.0
    bow_tie: float = 1.0
    kernel: Kernel = "soft"
    views: int = 360

    def __post_init__(self) -> None:
        if not 0 < self.photons < math.inf:
            raise InputError(f"photons must be positive and finite, not {self.photons}")
        if not 0 <= self.electronic < math.inf:
            raise InputError(f"electronic noise must not be negative, and finite, but is {self.electronic}")
        if not 0 < self.bow_tie <= 1:
            raise InputError(f"bow_tie is the share of photons left at the edge, in (0, 1], not {self.bow_tie}")
        if self.kernel not in CUTOFF:
            raise InputError(f"kernel '{self.kernel}' is none of {', '.join(CUTOFF)}")
        if self.views < 8:
            raise InputError(f"{self.views} views are too few")


def simulate_low_dose(
    hu: np.ndarray,
    pixel: float,
    dose: float,
    *,
    scanner: Scanner | None = None,
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
        Share of the scan's dose, in (0, 1]; 1 returns the scan.
    scanner:
        Beam, detector and kernel.
    seed:
        The noise of slice z depends on (seed, z) only.
    progress:
        Called with the number of slices done.

    Returns
    -------
    numpy.ndarray
        (D,H,W) float32, whole HU; what lies below -1500 HU is padding and stays.

    Raises
    ------
    InputError
        for a dose outside (0, 1], non-finite voxels, or images that have been windowed already.
    """
    scanner = scanner or Scanner()
    if not 0 < dose <= 1:
        raise InputError(f"the dose must lie in (0, 1], not {dose}", hint="0.25 is a quarter of the dose")
    if dose * scanner.photons < 1:
        what = f"{scanner.photons:g} photons at a dose of {dose:g} are less than one a ray, which is no scan"
        raise InputError(what, hint="raise the dose or the photons")
    if seed < 0:
        raise InputError(f"a seed is 0 or more, not {seed}")
    if hu.ndim != 3:
        raise InputError(f"a scan is (D,H,W), not {hu.shape}")
    if not pixel > 0:
        raise InputError(f"the pixel size must be positive, not {pixel} mm")
    if not np.isfinite(hu).all():
        raise InputError("the scan holds voxels that are not finite")
    why = doubt(float(hu.min()), float(hu.max()))
    if why is not None:
        raise InputError(f"the scan cannot be projected: {why}", hint=UNWINDOWED)
    if dose == 1:
        return np.where(hu < OUTSIDE, hu, np.rint(hu)).astype(np.float32)
    geometry = Geometry(hu.shape[1:], pixel, scanner.views)
    out = np.empty(hu.shape, np.float32)
    for z, image in enumerate(hu):
        generator = torch.Generator().manual_seed(_slice_seed(seed, z))
        attenuation = torch.from_numpy(np.maximum(image.astype(np.float32) / 1000 + 1, 0) * np.float32(WATER))
        lines = geometry.project(attenuation)
        noise = draw_noise(lines, dose, scanner, geometry, generator)
        grain = geometry.backproject(geometry.filter(noise, CUTOFF[scanner.kernel])) * (1000 / WATER)
        out[z] = np.where(image < OUTSIDE, image, np.rint(image + grain.numpy()))
        if progress is not None:
            progress(z + 1)
    return out


def square_pixel(volume: Volume) -> float:
    """The side of a pixel in mm; pixels that are not square, which cannot be projected here, are an InputError."""
    _, down, along = volume.spacing
    if abs(down - along) > 0.01 * along:
        raise InputError(f"pixels of {down:.3f} x {along:.3f} mm are not square", volume.place)
    return along


def draw_noise(
    lines: torch.Tensor, dose: float, scanner: Scanner, geometry: Geometry, generator: torch.Generator
) -> torch.Tensor:
    """Noise of line integrals that a scan at ``dose`` has over one at full dose; shape and units of ``lines``."""
    photons = (scanner.photons * geometry.bow_tie(scanner.bow_tie)).expand_as(lines)
    inverse = torch.exp(lines) / photons  # one over the photons that arrive at full dose
    added = (1 - dose) / dose * inverse * (1 + (1 + dose) / dose * scanner.electronic**2 * inverse)
    noise = torch.randn(lines.shape, generator=generator) * added.sqrt()
    starved = inverse > dose / STARVED
    if bool(starved.any()):
        arriving = (photons * torch.exp(-lines))[starved] * dose
        drawn = starved_noise(arriving, photons[starved] * dose, lines[starved], scanner.electronic, generator)
        # The scan has its own share of this noise already: what is drawn is shrunk to the spread that is to be added.
        total = inverse[starved] / dose * (1 + scanner.electronic**2 * inverse[starved] / dose)
        noise[starved] = drawn * (added[starved] / total).clamp(max=1).sqrt()
    return noise


def starved_noise(
    arriving: torch.Tensor, sent: torch.Tensor, lines: torch.Tensor, electronic: float, generator: torch.Generator
) -> torch.Tensor:
    """All the noise of line integrals where few photons arrive, and their logarithm is skewed: counts are drawn.

    ``arriving`` and ``sent`` are the photons expected behind and before the body, ``lines`` the true integrals.
    """
    counts = torch.poisson(arriving, generator=generator)
    counts += electronic * torch.randn(counts.shape, generator=generator)
    return -torch.log(counts.clamp(min=1) / sent) - lines


def _slice_seed(seed: int, z: int) -> int:
    return int(np.random.SeedSequence([seed, z]).generate_state(1, np.uint64)[0] >> 1)


class Geometry:
    """Parallel-beam projection of one slice, its filter and its adjoint, on square pixels.

    Detector elements have the pixel's size. Line integrals vary slowly, so they are computed from half as many
    pixels, and every second view when there are 200 or more, and interpolated; noise is drawn at full resolution.
    """

    def __init__(self, shape: tuple[int, ...], pixel: float, views: int) -> None:
        self.height, self.width = int(shape[0]), int(shape[1])
        self.pixel, self.views = pixel, views
        self.detectors = 2 * (math.ceil(math.hypot(self.height, self.width) / 2) + 2)
        self.angles = torch.arange(views, dtype=torch.float64) * (math.pi / views)

    def bow_tie(self, edge: float) -> torch.Tensor:
        """(detectors,) share of photons behind the bow-tie filter: 1 at the centre, ``edge`` at the border."""
        position = torch.linspace(-1, 1, self.detectors)
        return edge ** position.square()

    def project(self, image: torch.Tensor) -> torch.Tensor:
        """Line integrals (views, detectors) of an (H,W) image in 1/mm."""
        half = F.avg_pool2d(image[None, None], 2, ceil_mode=True, count_include_pad=False)
        size = self.detectors // 2
        skip = 2 if self.views >= 200 else 1
        canvas = torch.zeros(1, 1, size, size)
        top, left = (size - half.shape[2]) // 2, (size - half.shape[3]) // 2
        canvas[:, :, top : top + half.shape[2], left : left + half.shape[3]] = half
        angles = self.angles[::skip]
        cos, sin = torch.cos(angles).float(), torch.sin(angles).float()
        lines = torch.empty(len(angles), size)
        for start in range(0, len(angles), 16):
            c, s = cos[start : start + 16], sin[start : start + 16]
            zero = torch.zeros_like(c)
            # Output column is the detector position t, output row runs along the ray.
            theta = torch.stack([torch.stack([c, -s, zero], 1), torch.stack([s, c, zero], 1)], 1)
            grid = F.affine_grid(theta, [len(c), 1, size, size], align_corners=False)
            turned = F.grid_sample(canvas.expand(len(c), -1, -1, -1), grid, align_corners=False)
            lines[start : start + 16] = turned.sum(2)[:, 0] * (2 * self.pixel)
        if skip == 2:
            # View 180 degrees is view 0 mirrored: close the half turn before interpolating.
            closed = torch.cat([lines, lines[:1].flip(1)])
            between = (closed[:-1] + closed[1:]) / 2
            lines = torch.stack([lines, between], 1).flatten(0, 1)[: self.views]
        return F.interpolate(lines[None, None], (self.views, self.detectors), mode="bilinear", align_corners=False)[
            0, 0
        ]

    def filter(self, lines: torch.Tensor, cutoff: float) -> torch.Tensor:
        """Ramp filter times the kernel's window, along the detector; ``cutoff`` in cycles/mm."""
        size = 2 ** math.ceil(math.log2(2 * self.detectors))
        position = torch.arange(size, dtype=torch.float64)
        position = torch.minimum(position, size - position)
        # The band-limited ramp's samples in space keep the mean right (Kak and Slaney, eq. 3.61).
        ramp = torch.where(position % 2 == 1, -1 / (math.pi * position * self.pixel).square().clamp(min=1e-12), 0.0)
        ramp[0] = 1 / (4 * self.pixel**2)
        response = torch.fft.rfft(ramp).real * self.pixel
        frequency = torch.fft.rfftfreq(size, d=self.pixel, dtype=torch.float64)
        if math.isfinite(cutoff):
            response = response * torch.exp(-((frequency / cutoff) ** 4))
        spectrum = torch.fft.rfft(lines, n=size, dim=1) * response.float()
        return torch.fft.irfft(spectrum, n=size, dim=1)[:, : self.detectors]

    def backproject(self, filtered: torch.Tensor) -> torch.Tensor:
        """(H,W) image of filtered lines (views, detectors), in units of ``lines`` per mm."""
        # Four-fold linear upsampling along the detector, then the nearest sample: one gather a pixel and view.
        fine = F.interpolate(filtered[:, None], scale_factor=4, mode="linear", align_corners=False)[:, 0]
        x = (torch.arange(self.width, dtype=torch.float32) - (self.width - 1) / 2)[None, :]
        y = (torch.arange(self.height, dtype=torch.float32) - (self.height - 1) / 2)[:, None]
        centre = self.detectors * 2
        image = torch.zeros(self.height * self.width)
        for view in range(self.views):
            angle = float(self.angles[view])
            where = (x * (4 * math.cos(angle)) + (y * (4 * math.sin(angle)) + centre)).to(torch.int32)
            image += fine[view].index_select(0, where.view(-1))
        return image.view(self.height, self.width) * (math.pi / self.views)
