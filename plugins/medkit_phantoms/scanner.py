"""The scanner: grid, blur and overshoot of the kernel, correlated noise, beam hardening, motion."""

from __future__ import annotations

import cv2
import numpy as np
from scipy import fft

from medkit_phantoms.centers import Center

Array = np.ndarray


def grid(center: Center, size: tuple[int, int], depth: int, thickness: float, bottom: float) -> Array:
    """4x4 affine, LPS, from (slice, row, column) to mm; a tilted gantry shears it: the table still moves along z."""
    rows, columns = size
    pixel = center.field / min(rows, columns)
    tilt = np.deg2rad(center.tilt)
    down = np.array([0, np.cos(tilt), np.sin(tilt)]) * pixel
    along = np.array([pixel, 0, 0])
    across = np.array([0, 0, thickness / np.cos(tilt)])
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 1], affine[:3, 2] = across, down, along
    affine[:3, 3] = np.array([0, 4.0, bottom]) - down * (rows - 1) / 2 - along * (columns - 1) / 2
    return affine


def kernel(center: Center, size: tuple[int, int], pixel: float) -> Array:
    """Noise amplitude (H, W//2+1) of filtered back-projection: a ramp under the kernel's window; unit variance."""
    f = np.hypot(fft.fftfreq(size[0], pixel)[:, None], fft.rfftfreq(size[1], pixel)[None])
    amplitude = np.sqrt(f + 0.01) * np.exp(-np.square(f / center.cutoff)) * (1 + center.edge * f / center.cutoff)
    weight = np.full(amplitude.shape[1], 2.0)
    weight[0] = 1
    if size[1] % 2 == 0:
        weight[-1] = 1
    return (amplitude / np.sqrt((np.square(amplitude) * weight).sum() / (size[0] * size[1]))).astype(np.float32)


def correlated(amplitude: Array, size: tuple[int, int], rng: np.random.Generator) -> Array:
    """One slice (H,W) of unit-variance noise with that spectrum."""
    white = rng.standard_normal(size, dtype=np.float32)
    return fft.irfft2(fft.rfft2(white) * amplitude, s=size).astype(np.float32)


def noise_std(center: Center, pixel: float, thickness: float) -> float:
    """HU: fewer photons in a thinner slice; a coarse grid averages over part of the noise."""
    return center.noise * np.sqrt(5.0 / thickness) * min(1.0, (0.82 / pixel) ** 0.5)


def sharpen(image: Array, center: Center, pixel: float) -> Array:
    """Blur by the kernel's point spread, then its overshoot at edges; image (H,W)."""
    sigma = 0.19 / center.cutoff / pixel
    image = cv2.GaussianBlur(image, (0, 0), max(sigma, 0.3))
    if center.edge:
        image = image + np.float32(0.5 * center.edge) * (image - cv2.GaussianBlur(image, (0, 0), 1.0 / pixel))
    return image


def hardening(depth: Array, bone: Array, y: Array, strength: float, rng: np.random.Generator) -> Array:
    """Beam hardening in HU (H,W): cupping under the vault, and bands and streaks between the petrous bones.

    ``depth`` mm inside the skull, ``bone`` (H,W) bool, ``y`` (H,W) head coordinate in mm.
    """
    inside = depth > 0
    effect = np.float32(3.5 * strength) * np.exp(-np.clip(depth, 0, None) * np.float32(1 / 7)) * inside
    middle = np.nonzero(np.abs(depth - depth.max()) < 1e9)[1]
    left, right = int(middle.min()), int(middle.max())
    centre = (left + right) // 2
    # Bone met by a ray along x within each half: there is a band only where both sides have much of it.
    amount = np.minimum(bone[:, :centre].sum(1), bone[:, centre:].sum(1)).astype(np.float32)
    dense = np.clip(amount / bone.shape[1] - 0.10, 0, 0.16) / 0.16
    if dense.max() > 0 and inside.any():
        rows = cv2.GaussianBlur(rng.standard_normal((bone.shape[0], 1)).astype(np.float32), (1, 5), 0, sigmaY=1.2)[:, 0]
        angle = rng.uniform(-0.15, 0.15)
        shift = (np.arange(bone.shape[1]) - centre) * angle
        band = dense * (-9 + 14 * rows) * strength
        at = np.clip(np.arange(bone.shape[0])[:, None] + shift[None], 0, bone.shape[0] - 1).astype(np.float32)
        columns = np.broadcast_to(np.zeros(bone.shape[1], np.float32), at.shape)
        streak = cv2.remap(
            np.ascontiguousarray(band[:, None], np.float32), np.ascontiguousarray(columns), at, cv2.INTER_LINEAR
        )
        effect += streak * inside * np.clip(depth / 6, 0.2, 1)
    return effect.astype(np.float32)


def motion(image: Array, rng: np.random.Generator, pixel: float) -> Array:
    """The slice (H,W) with a doubled outline and streaks, as when the patient moved during it."""
    h, w = image.shape
    turn = cv2.getRotationMatrix2D((w / 2, h / 2), rng.uniform(1.5, 4) * rng.choice([-1, 1]), 1)
    turn[:, 2] += rng.uniform(-3, 3, 2) / pixel
    moved = cv2.warpAffine(image, turn, (w, h), flags=cv2.INTER_LINEAR, borderValue=-1000)
    difference = moved - image
    lines = cv2.blur(np.clip(difference, -500, 500), (max(3, w // 3) | 1, 1))
    return image + 0.25 * difference + 0.12 * lines
