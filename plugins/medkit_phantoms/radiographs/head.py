"""Skull, face, jaw and the top of the neck.

Axes: x to the left, y to the back, z up; the origin is the middle of the cranium. Sizes are mm of a grown man; the face
grows with the body, the cranium earlier.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from medkit_phantoms.radiographs.growth import head_scale
from medkit_phantoms.radiographs.long_bones import Child, flesh
from medkit_phantoms.radiographs.primitives import AIR, CORTEX, SPONGE, Ellipsoid, Sheet, Solid, Strand


def skull(child: Child, rng: np.random.Generator) -> list[Any]:
    """All solids of a head, with the upper cervical spine left to ``trunk``."""
    c = head_scale(child.age, child.sex)
    f = c * (0.72 + 0.28 * min(1.0, child.age / 200))
    wide, long = rng.normal(1, 0.025), rng.normal(1, 0.025)
    wall = (3.0 + 3.2 * min(1.0, child.age / 200)) * c

    def cranial(*point: float) -> np.ndarray:
        return np.array(point) * c

    def face(*point: float) -> np.ndarray:
        return cranial(0, -60, -40) + (np.array(point) - (0, -60, -40)) * f

    size = np.array((72 * wide, 91 * long, 70)) * c
    # The base rises in front: face and orbits take the place of the vault there.
    front = (Ellipsoid(cranial(0, -74, -95), np.array((110, 84, 62)) * c, 0),)
    shells = ((wall, 1.0), (0.68 * wall, -0.45), (0.32 * wall, 0.45), (0.0, -1.0))  # outer table, diploe, inner table
    parts: list[Any] = [
        Ellipsoid((0, 0, 0), size + 9 * c, 0, "soft", without=front),
        *(Ellipsoid((0, 0, 0), size + more, CORTEX * share, without=front) for more, share in shells),
        *_base(c, cranial, child),
        *_face(c, f, face, child),
        *_jaw(f, face, child),
        *_sutures(size + 0.5 * wall, child, rng),
    ]
    parts += [Ellipsoid(face(0, -62, -70), np.array((62, 42, 58)) * f, 0, "soft")]
    parts += [Ellipsoid(face(0, -52, -40), np.array((66, 50, 48)) * f, 0, "soft")]
    return parts + flesh([cranial(0, 22, -60), cranial(0, 30, -190)], [54 * f, 56 * f])


def _base(c: float, at: Any, child: Child) -> list[Any]:
    thick = 0.5 + 0.5 * min(1.0, child.age / 180)
    parts: list[Any] = [
        Ellipsoid(at(0, -2, -46), np.array((14, 28, 9)) * c, 0.35 * CORTEX),  # sphenoid body and clivus
        Ellipsoid(at(0, -16, -44), np.array((13, 11, 8)) * c * thick, 0.8 * AIR, "other"),  # sphenoid sinus
        Strand([np.array([at(0, y, z) for y, z in ((-12, -36), (-7, -40), (0, -42), (5, -37), (7, -32))])], 1.6 * c,
               CORTEX * 0.9),  # sella
    ]  # fmt: skip
    for s in (-1, 1):
        parts += [
            Ellipsoid(at(38 * s, 12, -46), np.array((29, 8, 9)) * c, 0.4 * CORTEX, turn=_about_z(22 * s)),
            Ellipsoid(at(58 * s, 26, -56), np.array((9, 12, 17)) * c * thick, 0.25 * CORTEX),
            Ellipsoid(at(57 * s, 27, -52), np.array((6, 9, 12)) * c * thick, 0.7 * AIR, "other"),  # mastoid cells
            Strand(
                [np.array([at(18 * s, -34, -28), at(40 * s, -38, -22), at(62 * s, -30, -8)])], 2.2 * c, CORTEX * 0.7
            ),
            Strand(
                [np.array([at(30 * s, -84, -24), at(30 * s, -60, -24), at(26 * s, -34, -32)])], 1.8 * c, CORTEX * 0.8
            ),
        ]
    occiput = np.linspace(-0.9, 0.9, 15)
    ring = np.stack([40 * np.sin(occiput), 30 + 46 * np.cos(occiput), -52 - 6 * np.cos(occiput)], 1) * c
    return [*parts, Strand([ring], 3.5 * c, CORTEX * 0.5)]


def _about_z(degrees: float) -> np.ndarray:
    a = np.deg2rad(degrees)
    return np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]])


def _face(c: float, f: float, at: Any, child: Child) -> list[Any]:
    air = min(1.0, 0.25 + 0.75 * child.age / 190)
    parts: list[Any] = []
    turns = np.linspace(0, 2 * np.pi, 40)
    for s in (-1, 1):
        ring = np.stack([33 * s + 21 * np.cos(turns), -72 + 8 * s * np.cos(turns), -36 + 18 * np.sin(turns)], 1)
        parts += [
            Strand([np.array([at(*p) for p in ring])], 2.8 * f, CORTEX),
            Ellipsoid(at(33 * s, -60, -36), np.array((18, 26, 16)) * f, -0.005, "other"),  # orbit: fat
            Ellipsoid(at(28 * s, -62, -66), np.array((15, 15, 17)) * f * (0.45 + 0.55 * air), 0.85 * AIR, "other"),
            Ellipsoid(at(29 * s, -62, -66), np.array((18, 18, 20)) * f, CORTEX * 0.22),  # maxilla
            Strand([np.array([at(44 * s, -70, -56), at(58 * s, -52, -52), at(66 * s, -25, -50), at(66 * s, -4, -50)])],
                   3.4 * f, CORTEX * 0.75),  # zygoma
            Strand([np.array([at(52 * s, -62, -34), at(54 * s, -64, -50), at(40 * s, -70, -62)])], 3.6 * f,
                   CORTEX * 0.6),
            Ellipsoid(at(8 * s, -68, -62), np.array((6, 22, 18)) * f, 0.8 * AIR, "other"),  # nasal cavity
            Ellipsoid(at(12 * s, -82, -8), np.array((10, 5, 11)) * f * max(0.0, air - 0.45) * 1.8 + 0.1, 0.85 * AIR,
                      "other"),  # frontal sinus
        ]  # fmt: skip
    parts += [
        Sheet(np.array([at(0, -80, -46), at(0, -84, -74), at(0, -46, -74), at(0, -46, -46)]), 1.6, CORTEX, soften=1.0),
        Strand([np.array([at(0, -84, -30), at(0, -94, -42), at(0, -101, -52)])], 2.4 * f, CORTEX * 0.6),  # nose
        *flesh([at(0, -90, -36), at(0, -103, -60)], [6 * f, 11 * f]),
        Sheet(np.array([at(-22, -84, -80), at(22, -84, -80), at(24, -44, -80), at(-24, -44, -80)]), 3.0, CORTEX * 0.7),
        Strand(
            [np.array([at(-22, -78, -32), at(-8, -84, -24), at(8, -84, -24), at(22, -78, -32)])], 2.0 * f, CORTEX * 0.6
        ),
        Ellipsoid(at(0, -10, -90), np.array((12, 9, 30)) * f, 0.9 * AIR, "other"),  # pharynx
    ]
    return parts


def _jaw(f: float, at: Any, child: Child) -> list[Any]:
    phi = np.linspace(-1.25, 1.25, 30)
    arch = np.stack([46 * np.sin(phi), -38 - 52 * np.cos(phi), -112 - 4 * np.cos(phi)], 1)
    curves = [
        np.array([at(*p) for p in level]) for level in (arch, arch + np.array((0, 0, 5)), arch + np.array((0, 0, 10)))
    ]
    parts: list[Any] = [Strand(curves, 4.6 * f, SPONGE, wall=1.4)]
    for s in (-1, 1):
        ramus = np.array(
            [
                at(44 * s, -30, -112),
                at(48 * s, -8, -106),
                at(54 * s, 0, -62),
                at(53 * s, -8, -60),
                at(50 * s, -22, -72),
                at(46 * s, -42, -92),
            ]
        )
        parts += [Sheet(ramus, 7.0 * f, CORTEX * 0.45), Strand([ramus[1:3]], 3.5 * f, SPONGE, wall=1.2)]
        parts.append(Ellipsoid(at(54 * s, -1, -58), np.array((7, 4.5, 6)) * f, 0.5 * CORTEX))
    # Teeth: the second set comes in from the sixth year on; before that its germs are in the jaws.
    number = 10 if child.age < 80 else 12 if child.age < 144 else 14
    for k, angle in enumerate(np.linspace(-1.05, 1.05, number)):
        for row, z in ((0, -88), (1, -98)):
            x, y = (43 - 3 * row) * np.sin(angle), -40 - (49 - 3 * row) * np.cos(angle)
            root = 9.0 if row == 0 else -9.0
            parts.append(
                Solid(
                    at(x, y, z - root * 0.55),
                    at(x, y, z + root),
                    (0, 0.35, 0.6, 1),
                    np.array((3.6, 3.9, 2.6, 1)) * f,
                    CORTEX * 1.1,
                )
            )
            if child.age < 120 and k % 2 == 0:
                parts.append(Ellipsoid(at(x * 0.95, y + 3, z + 1.7 * root), np.full(3, 3.6) * f, CORTEX * 0.8))
    return parts


def _sutures(size: np.ndarray, child: Child, rng: np.random.Generator) -> list[Any]:
    """Coronal, lambdoid and sagittal sutures as thin dark lines, wider in small children."""
    clear = 0.9 + 1.6 * max(0.0, 1 - child.age / 100)
    t = np.linspace(-1.15, 1.15, 60)
    jag = np.convolve(rng.normal(0, 1, 66), np.ones(3) / 3, "same")[3:63] * 1.6
    curves = []
    for tilt, shift in ((-0.32, -0.1), (0.85, 0.1)):
        back = tilt + shift * np.abs(t)
        direction = np.stack([np.sin(t), np.cos(t) * np.sin(back), np.cos(t) * np.cos(back)], 1)
        points = direction * size
        points[:, 1] += jag
        curves.append(points)
    b = np.linspace(-0.35, 0.85, 50)
    curves.append(np.stack([jag[:50], np.sin(b) * size[1], np.cos(b) * size[2]], 1))
    return [Strand(curves, clear, -CORTEX * 0.5)]
