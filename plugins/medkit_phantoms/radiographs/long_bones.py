"""Long bones: a shaft that ends in metaphyses, and epiphyses that appear, widen, cap the shaft and fuse with it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from medkit_phantoms.radiographs.breaks import Break
from medkit_phantoms.radiographs.growth import maturity, ossified, plate
from medkit_phantoms.radiographs.primitives import SOFT, SPONGE, Numbers, Point, Solid


@dataclass(frozen=True)
class Child:
    """Whose body it is: skeletal age in months, sex, length and thickness of bones as shares of a grown man's."""

    age: float
    sex: int
    length: float
    thick: float

    def mature(self, centre: str) -> float:
        """0 before a centre appears, 1 when it is closed."""
        return maturity(centre, self.age, self.sex)

    def size(self, centre: str) -> float:
        """How much of a centre is bone, 0 to 1, as a share of its diameter."""
        return ossified(self.mature(centre))


@dataclass(frozen=True)
class End:
    """One end of a long bone: its centre of ossification, share of the bone's length, full width of the plate in mm."""

    centre: str
    share: float
    gap: float
    domed: float = 0.5
    """How round the joint surface is: the dome's height as a share of the epiphysis's thickness."""


def rounded(
    start: float,
    end: float,
    at: Numbers,
    radius: Numbers,
    domes: tuple[float, float],
    tips: tuple[float, float] = (0.0, 0.0),
) -> tuple[np.ndarray, np.ndarray]:
    """Places and radii of the piece from ``start`` to ``end`` of a profile, its ends rounded.

    ``domes`` are the shares of the piece over which its ends are round; ``tips`` what is left of the radius at the very
    end: 0 for a dome, near 1 for a flat end with rounded corners.
    """
    local = np.unique(np.concatenate([np.linspace(0, 1, 25), np.array([0.01, 0.03, 0.97, 0.99])]))
    radii = np.interp(start + local * (end - start), at, radius)
    for distance, dome, tip in zip((local, 1 - local), domes, tips, strict=True):
        if dome > 0:
            radii = radii * (tip + (1 - tip) * np.sqrt(1 - np.square(1 - np.clip(distance / dome, 0.02, 1))))
    return local, radii


def long_bone(
    child: Child,
    start: Point,
    end: Point,
    at: Numbers,
    radius: Numbers,
    wall: float,
    ends: tuple[End | None, End | None],
    flat: float = 1.0,
    wide: Point = (1.0, 0.0, 0.0),
    bow: Numbers | None = None,
    broken: Break | None = None,
) -> list[Solid]:
    """Shaft and epiphyses between two joint surfaces.

    Parameters
    ----------
    child:
        Decides about centres, plates and thickness.
    start, end:
        Proximal and distal joint surface, mm.
    at, radius:
        Radii in mm of a grown man at fractions of the length.
    wall:
        Cortex in the middle of the shaft as a share of the radius; it thins towards the ends.
    ends:
        Proximal and distal end with a growth plate, None for an end without one.
    flat, wide, bow:
        As for ``Solid``.
    broken:
        A fracture; its place is a fraction of the shaft.
    """
    a, b = np.asarray(start, float), np.asarray(end, float)
    length = float(np.linalg.norm(b - a))
    profile = np.asarray(radius, float) * child.thick
    limits, solids = [0.0, 1.0], []
    for k, one in enumerate(ends):
        if one is None:
            continue
        mature = child.mature(one.centre)
        limits[k] = one.share if k == 0 else 1 - one.share
        gap = min(plate(mature, one.gap * (0.5 + 0.5 * child.length)) / length, 0.45 * one.share)
        size = child.size(one.centre)
        if not size:
            continue
        # The centre starts in the middle of the cartilage and fills it; the plate stays at the shaft's side.
        room = one.share - gap
        lower = gap + room * (1 - size) * 0.45
        piece = (one.share - lower - room * size, one.share - lower)
        # A young centre is round; it becomes flat towards the plate and takes the joint's shape on the other side.
        flatness = float(np.clip((size - 0.4) / 0.5, 0, 1))
        shape = (0.5 + flatness * (one.domed - 0.5), 0.5 - 0.3 * flatness)
        fused = mature >= 1
        wall_here = 0.35 + (0.15 + 0.35 * child.thick * min(1, profile.max() / 10)) * (1 - mature)
        tips = (0.45 * flatness, 1.0 if fused else 0.85 * flatness)
        caps = (0.5, 0.1 if fused else 0.5)
        if k == 1:
            piece, shape, tips, caps = (1 - piece[1], 1 - piece[0]), shape[::-1], tips[::-1], caps[::-1]
        local, radii = rounded(*piece, at, profile * size, shape, tips)
        solids.append(
            Solid(
                a + (b - a) * piece[0], a + (b - a) * piece[1], local, radii, SPONGE * (1.15 - 0.35 * mature),
                wall=wall_here, caps=caps, flat=flat, wide=wide,
                bow=None if bow is None else np.interp(piece[0] + local * (piece[1] - piece[0]), at, bow),
            )
        )  # fmt: skip
    low, high = limits
    domes, tips, shut = zip(*(_shaft_end(child, one) for one in ends), strict=True)
    local, radii = rounded(low, high, at, profile, domes, tips)
    middle = float(np.interp(0.5, at, profile))
    walls = np.interp(local, (0, 0.08, 0.4, 0.6, 0.92, 1), np.array([0.14, 0.25, 1, 1, 0.25, 0.14]) * wall * middle)
    solids.append(
        Solid(
            a + (b - a) * low, a + (b - a) * high, local, radii, SPONGE * 0.8, wall=np.maximum(walls, 0.35), caps=shut,
            flat=flat, wide=wide, bow=None if bow is None else np.interp(low + local * (high - low), at, bow),
            broken=broken,
        )
    )  # fmt: skip
    return solids


def _shaft_end(child: Child, end: End | None) -> tuple[float, float, float]:
    """Of a shaft's end: the share that is round, what is left of the radius there, and mm of cortex that close it."""
    if end is None:
        return 0.05, 0.45, 0.6
    return (0.0, 1.0, 0.1) if child.mature(end.centre) >= 1 else (0.015, 0.8, 0.6)


def flesh(
    points: Sequence[Point] | np.ndarray,
    radius: Numbers,
    flat: float = 1.0,
    blunt: float = 0.9,
) -> list[Solid]:
    """Soft tissue around a chain of points: radii in mm; the ends reach ``blunt`` times the radius beyond."""
    solids = []
    for k in range(len(points) - 1):
        a, b = np.asarray(points[k], float), np.asarray(points[k + 1], float)
        length = float(np.linalg.norm(b - a))
        ends = (radius[k], radius[k + 1])
        way = (b - a) / length
        first, last = (blunt * ends[0], blunt * ends[1])
        total = length + first + last
        local, radii = rounded(0, 1, (0, first / total, 1 - last / total, 1), (ends[0], *ends, ends[1]),
                               (first / total, last / total))  # fmt: skip
        solids.append(Solid(a - way * first, b + way * last, local, radii, SOFT, "soft", flat=flat))
    return solids
