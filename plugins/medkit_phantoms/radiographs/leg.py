"""Femur, knee, lower leg, ankle and foot.

Axes of the left leg: x to the side, y to the back, z up. The knee joint is the origin of ``leg``, the top of the talus
that of ``foot``. Sizes are mm of a grown man.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from medkit_phantoms.radiographs.arm import first_of
from medkit_phantoms.radiographs.frame import cross
from medkit_phantoms.radiographs.hand import Breaker
from medkit_phantoms.radiographs.long_bones import Child, End, Form, flesh, long_bone
from medkit_phantoms.radiographs.primitives import CORTEX, SPONGE, Ellipsoid, Solid, Strand

THIGH, SHIN = 415.0, 366.0


def femur(child: Child, head: np.ndarray, down: np.ndarray, side: np.ndarray, breaker: Breaker) -> list[Any]:
    """Femur with its head centred at ``head`` (mm), the shaft along ``down``, the trochanter towards ``side``."""
    scale, thick = child.length, child.thick
    top = head + (side * 44 - down * 2) * scale
    knee = head + (side * 14 + down * (THIGH + 18)) * scale
    parts: list[Any] = long_bone(
        child, top + down * 12 * scale, knee,
        Form((0, 0.05, 0.13, 0.25, 0.5, 0.72, 0.86, 0.93, 0.97, 1), (11, 18, 17, 14.5, 13.5, 15, 24, 35, 39, 33), 0.42,
             flat=0.85, wide=side, bow=np.array((0, 0, 0, 1, 2, 1, 0, 0, 0, 0)) * thick),
        (None, End("distal femur", 0.085, 2.6, 0.25)),
        first_of(breaker("femoral shaft", 14.0, (0.3, 0.65)), breaker("distal femur", 17.0, (0.88, 0.94))),
    )  # fmt: skip
    back = cross(down, side)
    back = back if back[1] > 0 else -back
    size = child.size("distal femur")
    for x in (-19, 19):
        at = knee + (side * x + back * 9 - down * 15) * scale
        parts.append(
            Ellipsoid(at, np.array((16, 27, 17)) * size * thick, SPONGE * 0.3, wall=0.5, turn=_axes(side, back, down))
        )
    parts += long_bone(
        child, head + (side * 4 + down * 3) * scale, top + (down * 32 + side * 2) * scale,
        Form((0, 0.2, 0.5, 1), (20, 19, 15.5, 19), 0.2, flat=0.9, wide=down), (None, None),
    )  # fmt: skip
    ball = child.size("femoral head")
    if ball:
        lift = (side * -3 - down * 2) * scale * (1 - child.mature("femoral head"))
        radius = 23.5 * ball * thick
        parts.append(Ellipsoid(head + lift, (radius, radius, radius * (0.8 + 0.2 * ball)), SPONGE * 0.8, wall=0.9,
                               turn=_axes(side, back, down)))  # fmt: skip
    horn = child.size("greater trochanter")
    if horn:
        at = top + (side * 8 + down * 8) * scale
        parts.append(
            Ellipsoid(at, np.array((10, 14, 16)) * horn * thick, SPONGE, wall=0.7, turn=_axes(side, back, down))
        )
    lesser = top + (down * 52 - side * 13 + back * 8) * scale
    return [*parts, Ellipsoid(lesser, np.array((8, 8, 11)) * thick, SPONGE, wall=0.7)]


def _axes(*columns: np.ndarray) -> np.ndarray:
    return np.stack([column / np.linalg.norm(column) for column in columns], 1)


def shin(child: Child, breaker: Breaker) -> list[Any]:
    """Tibia and fibula below a knee at the origin."""
    scale, thick = child.length, child.thick
    parts: list[Any] = long_bone(
        child, np.array((0, 2, -4)) * scale, np.array((0, 4, -SHIN)) * scale,
        Form((0, 0.03, 0.07, 0.13, 0.25, 0.55, 0.82, 0.93, 1), (36, 37, 34, 25, 16, 12.5, 14, 22, 23), 0.4, flat=0.85,
             bow=np.array((0, 0, 0, -1, -1, 0, 0, -1, -2)) * thick),
        (End("proximal tibia", 0.06, 2.4, 0.12), End("distal tibia", 0.05, 2.2, 0.12)),
        first_of(breaker("tibial shaft", 13.0, (0.35, 0.75)), breaker("proximal tibia", 20.0, (0.12, 0.17)),
                 breaker("distal tibia", 17.0, (0.86, 0.91))),
    )  # fmt: skip
    parts += long_bone(
        child, np.array((30, 17, -16)) * scale, np.array((25, 10, -SHIN - 18)) * scale,
        Form((0, 0.04, 0.1, 0.2, 0.6, 0.88, 0.95, 1), (9, 11, 8, 6.2, 6.2, 7.5, 11, 8), 0.42),
        (End("proximal fibula", 0.055, 2.0, 0.4), End("distal fibula", 0.065, 2.0, 0.5)),
        first_of(breaker("fibular shaft", 6.2, (0.4, 0.7)), breaker("distal fibula", 8.0, (0.85, 0.9))),
    )  # fmt: skip
    malleolus = child.size("distal tibia")
    parts.append(
        Ellipsoid(np.array((-22, 1, -SHIN - 2)) * scale, np.array((6.5, 11, 13)) * malleolus * thick, SPONGE, wall=1.0)
    )
    for x in (-5, 5):
        parts.append(
            Ellipsoid(
                np.array((x, 4, -4)) * scale,
                np.array((3, 5, 7)) * child.size("proximal tibia") * thick,
                SPONGE,
                wall=0.8,
            )
        )
    knob = child.size("tubercle")
    if knob:
        parts.append(Ellipsoid(np.array((4, -27, -36)) * scale, np.array((8, 6, 13)) * knob * thick, SPONGE, wall=0.8))
    return parts


def lower_leg(child: Child, fat: float, breaker: Breaker) -> list[Any]:
    """Tibia and fibula with their flesh, ``fat`` times as thick as usual."""
    scale = child.length
    calf = np.array(((0, 0, 10), (4, 18, -110), (2, 6, -SHIN + 40), (0, 6, -SHIN))) * scale
    return [*shin(child, breaker), *flesh(calf, np.array([57, 60, 36, 37]) * scale * fat)]


def leg(
    child: Child, rng: np.random.Generator, breaker: Breaker, bend: float = 0.0, foot_down: float = 0.0
) -> list[Any]:
    """Thigh, knee and lower leg with its foot; the thigh is bent back by ``bend`` degrees at the knee."""
    scale, thick, a = child.length, child.thick, np.deg2rad(bend)
    down = np.array((-0.08, np.sin(a), -np.cos(a)))
    down /= np.linalg.norm(down)
    side = np.array((1.0, 0, 0)) - down[0] * down
    side /= np.linalg.norm(side)
    head = -down * (THIGH + 20) * scale - side * 14 * scale
    fat = rng.uniform(0.9, 1.2)
    parts = [*femur(child, head, down, side, breaker), *lower_leg(child, fat, breaker)]
    cap = child.size("patella")
    if cap:
        front = cross(side, down)
        front = front if front[1] < 0 else -front
        at = (front * 44 - down * (14 - 0.1 * bend)) * scale
        parts.append(
            Ellipsoid(at, np.array((21, 9, 21)) * cap * thick, SPONGE * 0.8, wall=1.2, turn=_axes(side, front, down))
        )
    parts += flesh([head + (side * 20) * scale, head + (side * 22 + down * 210) * scale, np.array((0, 0, 20)) * scale],
                   np.array([98, 82, 60]) * scale * fat)  # fmt: skip
    return [*parts, *foot(child, rng, np.array((0, 4, -SHIN - 4)) * scale, foot_down)]


TARSALS = {  # middle and semi-axes
    "talus": ((0, 2, -12), (19, 23, 12)),
    "navicular": ((-9, -47, -24), (17, 7.5, 12)),
    "cuboid": ((14, -44, -41), (12, 16, 11)),
    "medial cuneiform": ((-16, -65, -33), (8.5, 12, 14)),
    "intermediate cuneiform": ((-5, -62, -25), (7, 9, 9)),
    "lateral cuneiform": ((5, -61, -29), (7.5, 11, 9)),
}
RAYS = (  # base and head of the metatarsal, phalanges, girth
    ((-18, -79, -36), (-23, -139, -52), (32, 24), 1.55),
    ((-6, -73, -27), (-9, -147, -51), (27, 13, 11), 0.95),
    ((4, -74, -31), (5, -142, -52), (25, 11, 10), 0.92),
    ((13, -64, -37), (18, -132, -53), (23, 9, 9), 0.9),
    ((24, -52, -45), (31, -119, -55), (21, 8, 9), 0.95),
)


def foot(child: Child, rng: np.random.Generator, ankle: np.ndarray, dip: float = 0.0) -> list[Any]:
    """Tarsals, metatarsals and toes of a foot whose talus tops at ``ankle``; ``dip`` degrees point the toes down."""
    scale, thick, a = child.length, child.thick, np.deg2rad(dip)
    turn = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])

    def at(*point: float) -> np.ndarray:
        return ankle + turn @ (np.array(point) * scale)

    parts: list[Any] = []
    for name, (middle, half) in TARSALS.items():
        size = child.size(name)
        if size:
            shape = np.array(half) * size * (0.4 * thick + 0.6 * scale)
            parts.append(Ellipsoid(at(*middle), shape, SPONGE * 0.9, turn=turn, wall=0.6 + 0.5 * size))
    talus, heel = child.size("talus"), child.size("calcaneus")
    neck = at(-1, -8, -14)
    parts.append(Solid(neck, neck + (at(-6, -40, -22) - neck) * talus, (0, 0.4, 0.75, 1),
                       np.array((13, 12, 13.5, 7)) * talus * thick, SPONGE * 0.8, wall=0.9))  # fmt: skip
    places = (0, 0.06, 0.2, 0.45, 0.62, 0.85, 0.97, 1)
    body, half = at(6, 12, -44), 0.5 * (at(2, 54, -50) - at(10, -30, -38)) * (0.4 + 0.6 * heel)
    parts.append(Solid(body + half, body - half, places,
                       np.array((12, 19, 20, 17, 20, 15, 13, 8)) * (0.4 + 0.6 * heel) * thick, SPONGE * 0.8, wall=1.2,
                       caps=(1.0, 1.0), flat=0.78, wide=turn @ np.array((0, 0, 1.0))))  # fmt: skip
    edge = child.size("heel")
    if edge:
        gap = 3.0 * (1 - child.mature("heel")) * scale
        parts.append(Ellipsoid(at(2, 57, -51) + turn @ np.array((0, gap, 0)), np.array((12, 5, 17)) * edge * thick,
                               SPONGE * 1.4, turn=turn, wall=1.0))  # fmt: skip
    for k, (base, tip, lengths, girth) in enumerate(RAYS):
        a0, b0 = at(*base), at(*tip)
        big = k == 0
        centre = End("metatarsal", 0.15, 1.6, 0.5)
        parts += long_bone(
            child, a0, b0,
            Form((0, 0.05, 0.2, 0.5, 0.8, 0.92, 1), np.array((7, 7.4, 4.8, 4.0, 4.8, 6.4, 5)) * girth, 0.42),
            (centre, None) if big else (None, centre),
        )  # fmt: skip
        joint = b0
        way = turn @ np.array((0.04 * (k - 2) + (0.12 if big else 0) + rng.normal(0, 0.02), -1, 0.02))
        way /= np.linalg.norm(way)
        last = joint
        for j, long in enumerate(lengths):
            start, stop = joint + way * 1.2 * scale, joint + way * (1.2 + long) * scale
            parts += long_bone(
                child, start, stop,
                Form((0, 0.1, 0.3, 0.6, 0.9, 1),
                     np.array((6.2, 6.4, 4.2, 3.6, 4.6, 3.6)) * girth * (1, 0.85, 0.72)[j], 0.4),
                (End("toe", 0.2, 1.3, 0.3), None),
            )  # fmt: skip
            joint, last = stop, stop
        parts += flesh([b0, last], [11.5 * girth**0.5 * scale, 8.5 * girth**0.5 * scale])
    parts += flesh([at(-3, -50, -34), at(2, -132, -48)], [32 * scale, 41 * scale], flat=0.5)
    parts += flesh([at(0, 14, -8), at(0, -50, -34)], [34 * scale, 28 * scale])
    parts += flesh([at(2, 44, -50), at(4, 0, -46)], [30 * scale, 30 * scale], flat=0.9)
    return [
        *parts,
        Strand([np.array([at(2, 40, -64), at(0, -60, -60), at(0, -138, -62)])], 3.0 * scale, CORTEX * 0.05, "other"),
    ]
