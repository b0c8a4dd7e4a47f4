"""Parallel-beam projection of a CT slice, filtering and back-projection."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F

FINE = 4
"""Samples per detector element; back-projection takes the nearest one."""


class Geometry:
    """Parallel-beam projection of one slice, its filter and its adjoint, on square pixels of ``pixel`` mm.

    Detector elements have the pixel's size. Line integrals vary slowly, so they are computed at half the resolution,
    and only for every second of 200 or more views, and interpolated; noise is drawn at full resolution.
    """

    def __init__(self, shape: tuple[int, ...], pixel: float, views: int) -> None:
        self.height, self.width = int(shape[0]), int(shape[1])
        self.pixel, self.views = pixel, views
        self.detectors = 2 * (math.ceil(math.hypot(self.height, self.width) / 2) + 2)
        self.angles = torch.arange(views, dtype=torch.float64) * (math.pi / views)

    def bow_tie(self, edge: float) -> torch.Tensor:
        """(detectors,) fraction of photons after the bow-tie filter: 1 at the centre, ``edge`` at the border."""
        position = torch.linspace(-1, 1, self.detectors)
        return edge ** position.square()

    def project(self, image: torch.Tensor) -> torch.Tensor:
        """Line integrals (views, detectors), without unit, of an (H,W) image in 1/mm."""
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
            # The view at 180 degrees is view 0 mirrored: close the half turn before interpolating.
            closed = torch.cat([lines, lines[:1].flip(1)])
            between = (closed[:-1] + closed[1:]) / 2
            lines = torch.stack([lines, between], 1).flatten(0, 1)[: self.views]
        return F.interpolate(lines[None, None], (self.views, self.detectors), mode="bilinear", align_corners=False)[
            0, 0
        ]

    def filter(self, lines: torch.Tensor, cutoff: float) -> torch.Tensor:
        """Ramp filter times the kernel's window, along the detector; ``cutoff`` in cycles/mm, inf for no window."""
        size = 2 ** math.ceil(math.log2(2 * self.detectors))
        position = torch.arange(size, dtype=torch.float64)
        position = torch.minimum(position, size - position)
        # Sampling the band-limited ramp in space keeps the mean right (Kak and Slaney, eq. 3.61).
        ramp = torch.where(position % 2 == 1, -1 / (math.pi * position * self.pixel).square().clamp(min=1e-12), 0.0)
        ramp[0] = 1 / (4 * self.pixel**2)
        response = torch.fft.rfft(ramp).real * self.pixel
        frequency = torch.fft.rfftfreq(size, d=self.pixel, dtype=torch.float64)
        if math.isfinite(cutoff):
            response = response * torch.exp(-((frequency / cutoff) ** 4))
        spectrum = torch.fft.rfft(lines, n=size, dim=1) * response.float()
        return torch.fft.irfft(spectrum, n=size, dim=1)[:, : self.detectors]

    def backproject(self, filtered: torch.Tensor) -> torch.Tensor:
        """(H,W) image from filtered lines (views, detectors), in units of ``lines`` per mm."""
        # Upsampling along the detector and taking the nearest sample needs only one gather per pixel and view.
        fine = upsample(filtered)
        x = (torch.arange(self.width, dtype=torch.float32) - (self.width - 1) / 2)[None, :]
        y = (torch.arange(self.height, dtype=torch.float32) - (self.height - 1) / 2)[:, None]
        image = torch.zeros(self.height * self.width)
        for view in range(self.views):
            image += fine[view].index_select(0, self._sample(view, x, y).view(-1))
        return image.view(self.height, self.width) * (math.pi / self.views)

    def weights(self, rows: torch.Tensor, columns: torch.Tensor, cutoff: float) -> torch.Tensor:
        """The weight of each ray's variance in the mean variance of some pixels of the image.

        Parameters
        ----------
        rows, columns:
            (N,) indices of the pixels.
        cutoff:
            As for :meth:`filter`.

        Returns
        -------
        torch.Tensor
            (views, detectors): the mean over the pixels of the variance of ``backproject(filter(n, cutoff))`` is the
            sum of these times the variances of ``n``, if ``n`` is independent from ray to ray.
        """
        x, y = columns.float() - (self.width - 1) / 2, rows.float() - (self.height - 1) / 2
        met = torch.stack(
            [torch.bincount(self._sample(view, x, y), minlength=FINE * self.detectors) for view in range(self.views)]
        )
        met = met.view(self.views, self.detectors, FINE).double() / len(rows)
        impulse = torch.zeros(1, self.detectors)
        middle = self.detectors // 2
        impulse[0, middle] = 1
        # (detectors, FINE): the squared response of upsampled, filtered samples to the ray in the middle.
        answer = upsample(self.filter(impulse, cutoff)).view(self.detectors, FINE).double().square()
        size = 2 * self.detectors
        spectrum = torch.fft.rfft(met, n=size, dim=1) * torch.fft.rfft(answer, n=size, dim=0).conj()
        found = torch.fft.irfft(spectrum.sum(2), n=size, dim=1).roll(middle, 1)[:, : self.detectors]
        return found.clamp(min=0) * (math.pi / self.views) ** 2

    def _sample(self, view: int, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """The upsampled detector sample onto which pixels project; ``x`` and ``y`` from the image's centre."""
        angle, centre = float(self.angles[view]), self.detectors * FINE // 2
        return (x * (FINE * math.cos(angle)) + (y * (FINE * math.sin(angle)) + centre)).to(torch.int32)


def upsample(lines: torch.Tensor) -> torch.Tensor:
    """(views, detectors) to (views, FINE * detectors), linear along the detector."""
    return F.interpolate(lines[:, None], scale_factor=FINE, mode="linear", align_corners=False)[:, 0]
