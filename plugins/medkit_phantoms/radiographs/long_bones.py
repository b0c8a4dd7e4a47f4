"""Long bones: a shaft that ends in metaphyses, and epiphyses that appear, widen, cap the shaft and fuse with it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

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


@dataclass(frozen=True)
class Form:
    """The outline of a long bone of a grown man.

    Parameters
    ----------
    at, radius:
        Radii in mm at fractions of the length, the epiphyses included.
    wall:
        Cortex in the middle of the shaft as a share of the radius; it thins towards the ends.
    flat, wide, bow:
        As for ``Solid``.
    """

    at: Numbers
    radius: Numbers
    wall: float
    flat: float = 1.0
    wide: Point = (1.0, 0.0, 0.0)
    bow: Numbers | None = None

    def bow_at(self, places: np.ndarray) -> np.ndarray | None:
        """The bow at fractions of the length, in mm."""
        return None if self.bow is None else np.interp(places, self.at, self.bow)


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
    form: Form,
    ends: tuple[End | None, End | None],
    broken: Break | None = None,
) -> list[Solid]:
    """Shaft and epiphyses between two joint surfaces.

    Parameters
    ----------
    child:
        Decides centres, plates and thickness.
    start, end:
        Proximal and distal joint surface, mm.
    ends:
        Proximal and distal end with a growth plate, None for an end without one.
    broken:
        A fracture; its place is a fraction of the shaft.
    """
    bone = _Bone(child, np.asarray(start, float), np.asarray(end, float), form)
    proximal, distal = ends
    solids = []
    if proximal is not None and child.size(proximal.centre):
        solids.append(bone.epiphysis(proximal, _cap(child, proximal, bone.length)))
    if distal is not None and child.size(distal.centre):
        solids.append(bone.epiphysis(distal, _cap(child, distal, bone.length).turned()))
    low = 0.0 if proximal is None else proximal.share
    high = 1.0 if distal is None else 1 - distal.share
    return [*solids, bone.shaft(low, high, ends, broken)]


@dataclass(frozen=True)
class _Cap:
    """An epiphysis along its bone, from the joint inwards: where it is, and how either end of it is formed.

    ``piece`` has fractions of the bone's length; ``domes`` and ``tips`` are as for ``rounded``; ``shut`` is the mm of
    cortex that close it at the joint and at the plate.
    """

    piece: tuple[float, float]
    domes: tuple[float, float]
    tips: tuple[float, float]
    shut: tuple[float, float]

    def turned(self) -> _Cap:
        """The same at the bone's other end."""
        first, last = self.piece
        return _Cap((1 - last, 1 - first), self.domes[::-1], self.tips[::-1], self.shut[::-1])


def _cap(child: Child, end: End, length: float) -> _Cap:
    """The epiphysis of a proximal end, of a bone of ``length`` mm.

    Its centre starts in the middle of the cartilage and fills it; the plate stays at the shaft's side. A young centre
    is round; it becomes flat towards the plate and takes the joint's shape on the other side.
    """
    mature, size = child.mature(end.centre), child.size(end.centre)
    gap = min(plate(mature, end.gap * (0.5 + 0.5 * child.length)) / length, 0.45 * end.share)
    room = end.share - gap
    lower = gap + room * (1 - size) * 0.45
    flatness = float(np.clip((size - 0.4) / 0.5, 0, 1))
    fused = mature >= 1
    return _Cap(
        piece=(end.share - lower - room * size, end.share - lower),
        domes=(0.5 + flatness * (end.domed - 0.5), 0.5 - 0.3 * flatness),
        tips=(0.45 * flatness, 1.0 if fused else 0.85 * flatness),
        shut=(0.5, 0.1 if fused else 0.5),
    )


class _Bone:
    """A child's long bone between two joint surfaces, whose solids are cut out of one profile."""

    def __init__(self, child: Child, start: np.ndarray, end: np.ndarray, form: Form) -> None:
        self.child, self.start, self.end, self.form = child, start, end, form
        self.length = float(np.linalg.norm(end - start))
        self.profile = np.asarray(form.radius, float) * child.thick

    def epiphysis(self, end: End, cap: _Cap) -> Solid:
        """Spongy bone, densest when young, within a shell that becomes as thin as a joint's when it is mature."""
        child, mature = self.child, self.child.mature(end.centre)
        local, radii = rounded(*cap.piece, self.form.at, self.profile * child.size(end.centre), cap.domes, cap.tips)
        wall = 0.35 + (0.15 + 0.35 * child.thick * min(1, self.profile.max() / 10)) * (1 - mature)
        return self._solid(cap.piece, local, radii, SPONGE * (1.15 - 0.35 * mature), wall, cap.shut)

    def shaft(self, low: float, high: float, ends: tuple[End | None, End | None], broken: Break | None) -> Solid:
        """From ``low`` to ``high``, its cortex thickest in the middle."""
        form = self.form
        domes, tips, shut = zip(*(_shaft_end(self.child, one) for one in ends), strict=True)
        local, radii = rounded(low, high, form.at, self.profile, domes, tips)
        middle = float(np.interp(0.5, form.at, self.profile))
        thickness = np.array([0.14, 0.25, 1, 1, 0.25, 0.14]) * form.wall * middle
        walls = np.maximum(np.interp(local, (0, 0.08, 0.4, 0.6, 0.92, 1), thickness), 0.35)
        return replace(self._solid((low, high), local, radii, SPONGE * 0.8, walls, shut), broken=broken)

    def _solid(
        self,
        piece: tuple[float, float],
        local: np.ndarray,
        radii: np.ndarray,
        mu: float,
        wall: Numbers | float,
        shut: tuple[float, float],
    ) -> Solid:
        first, last = piece
        way, form = self.end - self.start, self.form
        return Solid(
            self.start + way * first, self.start + way * last, local, radii, mu, wall=wall, caps=shut, flat=form.flat,
            wide=form.wide, bow=form.bow_at(first + local * (last - first)),
        )  # fmt: skip


def _shaft_end(child: Child, end: End | None) -> tuple[float, float, float]:
    """For a shaft's end: the share that is round, what is left of the radius there, and mm of cortex that close it."""
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
