"""Solids whose line integrals along a viewing direction are known: ellipsoids, solids of revolution, strands, sheets.

Every solid adds its chord lengths, in mm times a linear attenuation coefficient in 1/mm, to a layer of a ``Canvas``.
Coefficients are differences from what surrounds the solid (bone minus soft tissue, air minus soft tissue), so that
layers add up to the integral of attenuation. Soft tissue is a thickness in mm; where two segments of a limb meet,
the larger one counts.

The projection is parallel. Body axes are x to the left of the patient, y to the back, z up; detector axes u to the
right, v down, w away from the source, all in mm.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import cv2
import numpy as np

from medkit_phantoms.radiographs.breaks import Break
from medkit_phantoms.radiographs.frame import Canvas, Frame, cross

Array = np.ndarray
Point = Sequence[float] | Array
"""x, y, z in mm."""
Numbers = Sequence[float] | Array

SOFT = 0.0205
"""Soft tissue at an effective energy near 60 keV, 1/mm; the others below are differences from it."""
CORTEX = 0.046
SPONGE = 0.0085
AIR = -0.0205
LUNG = -0.0150
STEEP = 0.45
"""Sine between axis and beam below which a solid of revolution is drawn as a stack of discs."""


@dataclass
class Ellipsoid:
    """An ellipsoid with semi-axes ``size``, turned by ``turn`` (3,3), with a wall of cortex if ``wall`` is given.

    ``without`` are ellipsoids cut out of it, which is exact as long as they do not overlap each other.
    """

    centre: Point
    size: Point
    mu: float
    layer: str = "bone"
    turn: Array | None = None
    wall: float = 0.0
    without: Sequence[Ellipsoid] = ()

    def _shape(self, frame: Frame, shrink: float = 0.0) -> tuple[Array, Array, Array, float]:
        """Middle (u, v, w), quadratic form (2,2) of the outline, slope (2,) of the middle depth, half chord there."""
        axes = frame.rotation if self.turn is None else frame.rotation @ self.turn
        half = np.maximum(np.asarray(self.size, float) - shrink, 0.05)
        form = (axes / np.square(half)) @ axes.T
        outline = form[:2, :2] - np.outer(form[:2, 2], form[2, :2]) / form[2, 2]
        return frame.rotation @ np.asarray(self.centre, float), outline, -form[:2, 2] / form[2, 2], form[2, 2] ** -0.5

    def _half(self, shape: tuple[Array, Array, Array, float], u: Array, v: Array) -> Array:
        middle, outline, _, longest = shape
        du, dv = u - np.float32(middle[0]), v - np.float32(middle[1])
        q = np.float32(outline[0, 0]) * du * du + np.float32(outline[1, 1]) * dv * dv
        if abs(outline[0, 1]) > 1e-9:
            q = q + np.float32(2 * outline[0, 1]) * du * dv
        return np.float32(longest) * np.sqrt(np.maximum(1 - q, 0))

    def _depth(self, shape: tuple[Array, Array, Array, float], u: Array, v: Array) -> Array:
        middle, _, slope, _ = shape
        return np.float32(middle[2]) + np.float32(slope[0]) * (u - middle[0]) + np.float32(slope[1]) * (v - middle[1])

    def paint(self, canvas: Canvas, frame: Frame) -> None:
        """Add chord times attenuation to its layer."""
        shape = self._shape(frame)
        middle, outline = shape[:2]
        reach = np.sqrt(np.diag(np.linalg.inv(outline)))
        pixels = frame.window(
            (middle[0] - reach[0], middle[0] + reach[0]), (middle[1] - reach[1], middle[1] + reach[1])
        )
        if pixels is None:
            return
        where, u, v = pixels
        half = self._half(shape, u, v)
        chord = 2 * half
        if self.without:
            depth = self._depth(shape, u, v)
            for other in self.without:
                theirs = other._shape(frame)
                away, reach_away = other._depth(theirs, u, v), other._half(theirs, u, v)
                overlap = np.minimum(depth + half, away + reach_away) - np.maximum(depth - half, away - reach_away)
                chord = chord - np.clip(overlap, 0, 2 * np.minimum(half, reach_away))
            chord = np.maximum(chord, 0)
        if self.layer == "soft":
            canvas.add("soft", where, chord)
            return
        integral = np.float32(self.mu) * chord
        if self.wall:
            inner = 2 * self._half(self._shape(frame, self.wall), u, v)
            integral = np.float32(CORTEX) * (chord - inner) + np.float32(self.mu) * inner
        canvas.add(self.layer, where, integral)


@dataclass
class Solid:
    """A solid of revolution from ``start`` to ``end``: radii in mm at fractions ``at`` of its length.

    Sections are ellipses: ``flat`` is how much thinner they are across ``wide`` (a direction at right angles to the
    axis). ``bow`` in mm at ``at`` shifts the middle along ``wide``. ``wall`` (mm, at ``at``) of cortex surrounds
    ``mu``; ``caps`` mm of cortex close its two ends. Seen from the side, a chord is that of the section divided by the
    sine between axis and beam; seen nearly end on, it is the sum over a stack of discs.
    """

    start: Point
    end: Point
    at: Numbers
    radius: Numbers
    mu: float
    layer: str = "bone"
    wall: Numbers | float = 0.0
    caps: tuple[float, float] = (0.0, 0.0)
    flat: float = 1.0
    wide: Point = (1.0, 0.0, 0.0)
    bow: Numbers | None = None
    broken: Break | None = field(default=None)

    def paint(self, canvas: Canvas, frame: Frame) -> None:
        """Add chord times attenuation to its layer."""
        a, b = (frame.rotation @ np.asarray(point, float) for point in (self.start, self.end))
        along = b - a
        length = float(np.linalg.norm(along))
        seen = max(float(np.hypot(along[0], along[1])), 1e-3)
        sine = seen / length
        du, dv = along[0] / seen, along[1] / seen
        section = np.stack(self._section(frame, along / length))[:, :2] @ np.array([[du, -dv], [dv, du]])
        lean, width = float(section[0, 1]), float(np.hypot(section[0, 1], section[1, 1]))
        radius, bow = np.asarray(self.radius, float), np.asarray(self.bow if self.bow is not None else [0.0], float)
        broad = 1.0 if sine < STEEP else width
        reach = radius.max() * broad * (1.0 if self.broken is None else 1.6) + float(np.abs(bow).max())
        pixels = frame.window(
            (min(a[0], b[0]) - reach, max(a[0], b[0]) + reach), (min(a[1], b[1]) - reach, max(a[1], b[1]) + reach)
        )
        if pixels is None:
            return
        where, u, v = pixels
        pu, pv = u - np.float32(a[0]), v - np.float32(a[1])
        s = (pu * np.float32(du) + pv * np.float32(dv)) * np.float32(1 / seen)
        d = pv * np.float32(du) - pu * np.float32(dv)
        if sine < STEEP:
            self._pile(canvas, where, s * np.float32(seen), d, section, seen, length)
            return
        index = np.clip(s * np.float32(_STEPS), 0, _STEPS)
        radii = _look_up(self.at, radius, index)
        if self.bow is not None and abs(lean) > 0.05:
            d = d - np.float32(lean) * _look_up(self.at, bow, index)
        to_end = np.minimum(s, 1 - s)
        inside = np.clip(to_end * np.float32(seen / frame.pixel) + np.float32(0.5), 0, 1)
        filled = None
        if self.broken is not None:
            d, radii, filled = self.broken.bend((s - np.float32(self.broken.at)) * np.float32(length), d, radii)
        # A section of half width r k and area pi flat r^2 is 2 flat r / k deep in the middle.
        depth = np.float32(2 * self.flat / (width * width) / sine)
        outer = radii * np.float32(width)
        chord = np.sqrt(np.maximum(outer * outer - d * d, 0)) * inside * depth
        if self.layer == "soft":
            canvas.add("soft", where, chord)
            return
        integral = np.float32(self.mu) * chord
        if np.any(self.wall):
            wall = np.asarray(self.wall, float)
            walls = np.float32(wall) if wall.ndim == 0 else _look_up(self.at, wall, index)
            shut = inside
            if self.caps[0] or self.caps[1]:
                share = np.minimum(s - np.float32(self.caps[0] / length), np.float32(1 - self.caps[1] / length) - s)
                shut = np.clip(share * np.float32(seen / frame.pixel) + np.float32(0.5), 0, 1)
            hollow = np.maximum(radii - walls, 0) * np.float32(width)
            inner = np.sqrt(np.maximum(hollow * hollow - d * d, 0)) * shut * depth
            integral += np.float32(CORTEX - self.mu) * (chord - inner)
        if filled is not None:
            integral *= filled
        canvas.add(self.layer, where, integral)

    def _pile(
        self,
        canvas: Canvas,
        where: tuple[slice, slice],
        along: Array,
        d: Array,
        section: Array,
        seen: float,
        length: float,
    ) -> None:
        """Add the solid as discs whose faces are seen.

        ``along`` and ``d`` are detector coordinates in mm from its start, ``section`` (2,2) the semi-axes of a unit
        section in them.
        """
        cosine = float(np.sqrt(max(1 - (seen / length) ** 2, 0)))
        form = np.linalg.inv(section.T @ section)
        number = int(np.clip(seen / (0.12 * max(self.radius)), 4, 16))
        at = (np.arange(number) + 0.5) / number
        radii = np.interp(at, self.at, self.radius)
        wall = np.asarray(self.wall, float)
        walls = np.full(number, wall) if wall.ndim == 0 else np.interp(at, self.at, wall)
        total = np.zeros(d.shape, np.float32)
        for share, radius, shell in zip(at, radii, walls, strict=True):
            x = along - np.float32(share * seen)
            q = np.float32(form[0, 0]) * x * x + np.float32(2 * form[0, 1]) * x * d + np.float32(form[1, 1]) * d * d
            q = np.sqrt(np.maximum(q, 0))
            soft = np.float32(1 / (0.12 * radius + 1e-3))
            disc = np.clip((radius - q) * soft + np.float32(0.5), 0, 1)
            if self.layer == "soft":
                total += disc
                continue
            total += np.float32(self.mu) * disc
            if shell:
                hollow = np.clip((radius - shell - q) * soft + np.float32(0.5), 0, 1)
                total += np.float32(CORTEX - self.mu) * (disc - hollow)
        canvas.add(self.layer, where, total * np.float32(length / number / cosine))

    def _section(self, frame: Frame, axis: Array) -> tuple[Array, Array]:
        """Semi-axes (3,) of a unit section in detector axes, at right angles to ``axis``: the wide and the thin one."""
        wide = frame.rotation @ np.asarray(self.wide, float)
        wide = wide - (wide @ axis) * axis
        size = float(np.linalg.norm(wide))
        if size < 1e-6:
            # Along the axis no direction is wider: any will do.
            wide = cross(axis, np.array((0.0, 0, 1) if abs(axis[2]) < 0.9 else (1.0, 0, 0)))
            size = float(np.linalg.norm(wide))
        wide /= size
        return wide, self.flat * cross(axis, wide)


_STEPS = 64
_GRID = np.linspace(0, 1, _STEPS + 1)


def _look_up(at: Numbers, values: Array, index: Array) -> Array:
    """Linear interpolation of ``values`` at fractions ``at``, for ``index`` from 0 to ``_STEPS``; float32."""
    table = np.interp(_GRID, at, values).astype(np.float32) if values.size > 1 else None
    if table is None:
        return np.full_like(index, values.item())
    # Round off the corners of the profile, but not its ends.
    table[1:-1] = 0.25 * table[:-2] + 0.5 * table[1:-1] + 0.25 * table[2:]
    low = np.minimum(index.astype(np.int32), _STEPS - 1)
    base = table[low]
    return base + (table[low + 1] - base) * (index - low)


@dataclass
class Strand:
    """Tubes along curves in space, ``curves`` a list of (n,3) mm: ribs, vessels, rims, sutures.

    A tube's projection is its axis, each piece weighted by its true length, convolved with a uniform disc (with a
    ring where it is hollow): a convolution with a disc along a line is the chord of a cylinder.
    """

    curves: Sequence[Array]
    radius: float
    mu: float
    layer: str = "bone"
    wall: float = 0.0

    def paint(self, canvas: Canvas, frame: Frame) -> None:
        """Add chord times attenuation to its layer."""
        points, masses = [], []
        for curve in self.curves:
            curve = np.asarray(curve, float)
            run = np.concatenate([[0], np.cumsum(np.sqrt(np.square(np.diff(curve, axis=0)).sum(1)))])
            seen = curve @ frame.rotation[:2].T
            # Half a pixel between points: fewer of them where the curve runs along the beam.
            n = max(2, int(np.sqrt(np.square(np.diff(seen, axis=0)).sum(1)).sum() / (0.5 * frame.pixel)))
            at = (np.arange(n) + 0.5) * (run[-1] / n)
            points.append(np.stack([np.interp(at, run, seen[:, k]) for k in range(2)], 1))
            masses.append(np.full(n, run[-1] / n / frame.pixel**2))
        where, mass = np.concatenate(points), np.concatenate(masses)
        kernel = self._section(frame.pixel)
        margin = len(kernel) * frame.pixel
        low, high = where.min(0) - margin, where.max(0) + margin
        pixels = frame.window((low[0], high[0]), (low[1], high[1]))
        if pixels is None:
            return
        window = pixels[0]
        # Points outside the picture still reach into it by their radius: keep a border around the window.
        border = len(kernel) // 2
        height, width = (side.stop - side.start + 2 * border + 1 for side in window)
        start = frame.corner + frame.pixel * (np.array((window[1].start, window[0].start)) - border)
        where = (where - start) / frame.pixel
        inside = (where >= 0).all(1) & (where[:, 0] < width - 1) & (where[:, 1] < height - 1)
        where, mass = where[inside], mass[inside]
        corner = where.astype(int)
        right, down = (where - corner).T
        flat = corner[:, 1] * width + corner[:, 0]
        weights = np.bincount(
            np.concatenate((flat, flat + 1, flat + width, flat + width + 1)),
            np.concatenate(((1 - right) * (1 - down) * mass, right * (1 - down) * mass,
                            (1 - right) * down * mass, right * down * mass)),
            height * width,
        ).reshape(height, width).astype(np.float32)  # fmt: skip
        drawn = cv2.filter2D(weights, -1, kernel, borderType=cv2.BORDER_CONSTANT)
        canvas.add(self.layer, window, drawn[border : height - border - 1, border : width - border - 1])

    def _section(self, pixel: float) -> Array:
        """Attenuation per mm of length over the tube's disc or ring, on an odd grid of pixels."""
        kernel = _disc(self.radius, pixel) * np.float32(CORTEX if self.wall else self.mu)
        if self.wall:
            inner = _disc(max(self.radius - self.wall, 0.0), pixel) * np.float32(CORTEX - self.mu)
            margin = (len(kernel) - len(inner)) // 2
            kernel[margin : margin + len(inner), margin : margin + len(inner)] -= inner
        return kernel


def _disc(radius: float, pixel: float) -> Array:
    """Share of each pixel inside a disc, times the pixel's area in mm^2, on an odd grid."""
    reach = int(np.ceil(radius / pixel + 0.5))
    fine = (np.arange((2 * reach + 1) * 4) + 0.5) / 4 - reach - 0.5
    inside = (np.hypot(fine[:, None], fine[None]) * pixel <= radius).astype(np.float32)
    n = 2 * reach + 1
    return inside.reshape(n, 4, n, 4).mean((1, 3)) * np.float32(pixel * pixel)


@dataclass
class Sheet:
    """A flat plate: ``corners`` (n,3) mm of its outline, ``thickness`` in mm, edges softened over ``soften`` mm."""

    corners: Array
    thickness: float
    mu: float
    layer: str = "bone"
    soften: float = 1.5

    def paint(self, canvas: Canvas, frame: Frame) -> None:
        """Add thickness over the cosine between normal and beam, times attenuation, inside the outline."""
        corners = np.asarray(self.corners, float)
        points = (corners @ frame.rotation[:2].T - frame.corner) / frame.pixel
        normal = sum(np.cross(corners[i] - corners[0], corners[i + 1] - corners[0]) for i in range(1, len(corners) - 1))
        cosine = abs(float(frame.rotation[2] @ normal)) / max(float(np.linalg.norm(normal)), 1e-9)
        mask = np.zeros(frame.shape, np.uint8)
        cv2.fillPoly(mask, [np.round(points * 16).astype(np.int32)], 255, cv2.LINE_AA, shift=4)
        if not mask.any():
            return
        filled: Array = mask.astype(np.float32) * np.float32(1 / 255)
        sigma = self.soften / frame.pixel
        if sigma > 0.4:
            filled = cv2.GaussianBlur(filled, (0, 0), sigma)
        canvas.add(
            self.layer, (slice(None), slice(None)), filled * np.float32(self.mu * self.thickness / max(cosine, 0.3))
        )


def placed(parts: Sequence[Ellipsoid | Solid | Strand | Sheet], shift: Point, mirror: bool = False) -> list[Any]:
    """The same solids, mirrored left to right if asked, then moved by ``shift`` mm."""
    flip = np.array((-1.0 if mirror else 1.0, 1, 1))

    def point(p: Point | Array) -> Array:
        return np.asarray(p, float) * flip + np.asarray(shift, float)

    moved: list[Any] = []
    for part in parts:
        if isinstance(part, Ellipsoid):
            turn = None if part.turn is None else flip[:, None] * part.turn
            moved.append(
                replace(part, centre=point(part.centre), turn=turn, without=placed(part.without, shift, mirror))
            )
        elif isinstance(part, Solid):
            moved.append(replace(part, start=point(part.start), end=point(part.end), wide=np.asarray(part.wide) * flip))
        elif isinstance(part, Strand):
            moved.append(replace(part, curves=[point(curve) for curve in part.curves]))
        else:
            moved.append(replace(part, corners=point(part.corners)))
    return moved
