"""From line integrals to stored units: scatter, photon noise, blur, logarithm, collimation, side marker, exposure."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

Array = np.ndarray

TOP = 4095
"""Largest stored unit of a 12-bit image."""


@dataclass(frozen=True)
class Exposure:
    """How one image was taken and stored.

    ``photons`` per pixel without a body; ``scatter`` as a share of the primary beam; ``blur`` of the detector, pixels;
    ``even`` is the share of the coarse contrast that the reader's processing takes out;
    ``toe`` the percentile of the body's attenuation that is stored as black;
    ``low`` and ``high`` stored units there and at the greatest attenuation; ``gamma`` of the tone curve;
    ``shutter`` whether what the collimator shades is stored as 0 (else as bright as lead).
    """

    photons: float
    scatter: float
    blur: float
    even: float
    toe: float
    low: float
    high: float
    gamma: float
    shutter: bool


def draw(thick: float, rng: np.random.Generator) -> Exposure:
    """An exposure for a body whose thickest part has line integral ``thick``: automatic, so thick parts get more."""
    reach = rng.uniform(0.55, 1.0)
    low = rng.uniform(50, 500)
    return Exposure(
        photons=float(2500 * np.exp(0.75 * min(thick, 7.0)) * np.exp(rng.normal(0, 0.35))),
        scatter=float(rng.uniform(0.15, 0.5)),
        blur=float(rng.uniform(0.4, 0.7)),
        even=float(rng.uniform(0.2, 0.7)),
        toe=float(rng.uniform(0.3, 9.0)),
        low=float(low),
        high=float(low + reach * (TOP - 150 - low)),
        gamma=float(rng.uniform(0.85, 1.2)),
        shutter=bool(rng.random() < 0.8),
    )


def expose(integral: Array, exposure: Exposure, lit: Array, lead: Array, rng: np.random.Generator) -> Array:
    """Stored units (H,W) float32, whole numbers from 0 to 4095, bone bright.

    ``integral`` (H,W) of attenuation; ``lit`` (H,W) share of the beam that the collimator lets through; ``lead`` (H,W)
    attenuation of the side marker.
    """
    beam = np.exp(-integral - lead) * (0.004 + 0.996 * lit)
    small = cv2.resize(beam, None, fx=0.125, fy=0.125, interpolation=cv2.INTER_AREA)
    glow = cv2.resize(cv2.GaussianBlur(small, (0, 0), 3), integral.shape[::-1], interpolation=cv2.INTER_LINEAR)
    # Only what crossed a body scatters: weight the glow by how much was absorbed.
    absorbed = 1 - np.exp(-cv2.GaussianBlur(integral, (0, 0), 4))
    signal = cv2.GaussianBlur(beam + np.float32(exposure.scatter) * glow * absorbed, (0, 0), exposure.blur)
    counts = np.maximum(signal, 1e-6) * np.float32(exposure.photons)
    # Poisson noise as a normal one: counts are in the hundreds where anything is to be seen.
    counts += np.sqrt(counts + 4) * rng.standard_normal(counts.shape, dtype=np.float32)
    attenuation = -np.log(np.maximum(counts / np.float32(exposure.photons), 0.3 / exposure.photons))
    attenuation -= np.float32(exposure.even) * _coarse(attenuation, (lit > 0.9) & (lead < 0.1))
    body = (integral > 0.05) & (lit > 0.9) & (lead < 0.1)
    seen = attenuation[body] if body.sum() > 50 else attenuation.ravel()
    least, most = np.percentile(seen[:: max(1, seen.size // 8192)], (exposure.toe, 99.7))
    tone = np.clip((attenuation - least) / (most - least), 0, 1.15)
    stored = exposure.low + (exposure.high - exposure.low) * tone ** np.float32(exposure.gamma)
    if exposure.shutter:
        stored = np.where(lit > 0.95, stored, 0)
    return np.clip(np.rint(stored), 0, TOP).astype(np.float32)


def _coarse(attenuation: Array, seen: Array) -> Array:
    """Attenuation (H,W) averaged over about a tenth of the picture, over ``seen`` (H,W) pixels only."""
    sigma = max(attenuation.shape) / 14 / 8
    weight = seen.astype(np.float32)
    both = [
        cv2.resize(layer, None, fx=0.125, fy=0.125, interpolation=cv2.INTER_AREA)
        for layer in (attenuation * weight, weight)
    ]
    value, share = (cv2.GaussianBlur(layer, (0, 0), sigma) for layer in both)
    mean = value / np.maximum(share, 1e-3)
    return cv2.resize(mean, attenuation.shape[::-1], interpolation=cv2.INTER_LINEAR)


def collimate(shape: tuple[int, int], rng: np.random.Generator) -> Array:
    """Share of the beam let through (H,W): often a slightly turned rectangle smaller than the detector, else all."""
    lit = np.ones(shape, np.float32)
    if rng.random() < 0.35:
        return lit
    h, w = shape
    margins = rng.uniform(-0.03, 0.07, 4) * (w, w, h, h)
    corners = np.array([[margins[0], margins[2]], [w - margins[1], margins[2]],
                        [w - margins[1], h - margins[3]], [margins[0], h - margins[3]]])  # fmt: skip
    angle = np.deg2rad(rng.normal(0, 1.5))
    middle = np.array([w / 2, h / 2])
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    mask = np.zeros(shape, np.uint8)
    corners = (corners - middle) @ turn.T + middle
    cv2.fillPoly(mask, [np.round(corners * 16).astype(np.int32)], 255, cv2.LINE_AA, shift=4)
    return cv2.GaussianBlur(mask.astype(np.float32) * np.float32(1 / 255), (0, 0), 0.7)


def marker(shape: tuple[int, int], side: str, rng: np.random.Generator) -> Array:
    """Attenuation (H,W) of a lead letter L or R near an edge, sometimes turned or seen from behind."""
    h, w = shape
    size = max(10, int(rng.uniform(0.055, 0.09) * max(h, w)))
    glyph: Array = np.zeros((size * 2, size * 2), np.uint8)
    scale = size / 24
    cv2.putText(glyph, side, (size // 2, size + size // 2), cv2.FONT_HERSHEY_SIMPLEX, scale, 255,
                max(1, round(1.8 * scale)), cv2.LINE_AA)  # fmt: skip
    if rng.random() < 0.25:
        cv2.rectangle(glyph, (size // 3, size // 3), (size * 2 - size // 3, size * 2 - size // 3), 255, 1, cv2.LINE_AA)
    if rng.random() < 0.1:
        glyph = glyph[:, ::-1].copy()
    turn = cv2.getRotationMatrix2D((size, size), rng.normal(0, 8), 1)
    glyph = cv2.warpAffine(glyph, turn, glyph.shape[::-1], flags=cv2.INTER_LINEAR)
    high = int(rng.choice([rng.uniform(0.06, 0.2), rng.uniform(0.8, 0.92)]) * h)
    across = int(rng.choice([rng.uniform(0.08, 0.16), rng.uniform(0.84, 0.92)]) * w)
    lead = np.zeros((h + 4 * size, w + 4 * size), np.float32)
    lead[high + size : high + 3 * size, across + size : across + 3 * size] = glyph.astype(np.float32) * (3.0 / 255)
    return lead[2 * size : 2 * size + h, 2 * size : 2 * size + w]
