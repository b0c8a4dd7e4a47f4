"""Shoulder, arm, elbow and forearm.

Axes of the left arm hanging down, palm forwards: x to the side (towards the thumb), y to the back, z up. Sizes are mm
of a grown man.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from medkit_phantoms.radiographs.breaks import Break
from medkit_phantoms.radiographs.hand import Breaker
from medkit_phantoms.radiographs.long_bones import Child, End, Form, flesh, long_bone, rounded
from medkit_phantoms.radiographs.primitives import CORTEX, LUNG, SPONGE, Ellipsoid, Sheet, Solid, Strand

UPPER, FORE = 318.0, 245.0


def humerus(child: Child, breaker: Breaker) -> list[Any]:
    """Humerus from its head at the origin to the elbow at (0, 0, -318)."""
    scale, thick = child.length, child.thick
    parts: list[Any] = long_bone(
        child, (0, 0, 14 * scale), (0, 0, -(UPPER - 8) * scale),
        Form((0, 0.06, 0.14, 0.25, 0.55, 0.8, 0.92, 0.97, 1), (17, 21, 19, 12.5, 11, 11.5, 11, 12, 10), 0.4, flat=0.8,
             bow=np.array((1, 1, 3, 4, 4, 2, 0, 0, 0)) * thick),
        (End("humeral head", 0.1, 2.4, 0.6), None), first_of(
            breaker("proximal humerus", 13.0, (0.13, 0.24)), breaker("humeral shaft", 11.0, (0.35, 0.65)),
            breaker("distal humerus", 13.0, (0.84, 0.9))),
    )  # fmt: skip
    head = child.size("humeral head")
    parts.append(
        Ellipsoid(np.array((-7, 2, -5)) * scale, np.array((20, 20, 20)) * head * thick, SPONGE * 0.4, wall=0.5)
    )
    # The lower end is broad from side to side and thin from front to back.
    spread = np.array(((-27, 2, 12), (-26, 2, 24), (-12, 0, 72), (12, 0, 72), (20, 0, 28), (19, 0, 12)), float) * scale
    spread[:, 2] -= UPPER * scale
    parts.append(Sheet(spread, 5.0 * thick, SPONGE * 0.4, soften=1.0))
    parts.append(Strand([spread[:3], spread[3:]], 3.0 * thick, SPONGE, wall=0.5))
    for centre, at, half in (
        ("capitellum", (11, -7, -UPPER + 3), (10, 10.5, 10)),
        ("capitellum", (-10, -4, -UPPER + 4), (11, 11, 10)),
        ("medial epicondyle", (-29, 5, -UPPER + 18), (6, 6, 10)),
    ):
        size = child.size(centre)
        if at[0] == -10:  # the trochlea appears years after the capitellum
            size = child.size("olecranon")
        if size:
            parts.append(Ellipsoid(np.array(at) * scale, np.array(half) * size * thick, SPONGE, wall=0.8))
    return parts


def first_of(*breaks: Break | None) -> Break | None:
    """The one fracture of a bone in which several places were tried."""
    return next((one for one in breaks if one is not None), None)


def forearm(child: Child, bend: float, breaker: Breaker) -> list[Any]:
    """Radius and ulna below an elbow at (0, 0, -318), bent ``bend`` degrees forwards."""
    scale, a = child.length, np.deg2rad(bend)
    elbow = np.array((0, 0, -UPPER)) * scale
    down, behind, side = (
        np.array((0, -np.sin(a), -np.cos(a))),
        np.array((0, np.cos(a), -np.sin(a))),
        np.array((1.0, 0, 0)),
    )

    def at(x: float, y: float, z: float) -> np.ndarray:
        return elbow + scale * (side * x + behind * y + down * z)

    parts: list[Any] = long_bone(
        child, at(13, -2, 10), at(8, -1, 10 + FORE),
        Form((0, 0.03, 0.08, 0.18, 0.5, 0.8, 0.9, 0.96, 1), (11.5, 11.5, 7.4, 8.4, 7.6, 8.6, 12.5, 16, 15), 0.42,
             flat=0.85, bow=np.array((0, 0, 0, 1, 5, 2, 0, 0, 0)) * scale),
        (End("radial head", 0.035, 1.8, 0.25), End("distal radius", 0.055, 2.0, 0.3)), first_of(
            breaker("radial shaft", 7.8, (0.35, 0.7)), breaker("radial neck", 8.0, (0.08, 0.1)),
            breaker("distal radius", 10.0, (0.84, 0.9))),
    )  # fmt: skip
    parts += long_bone(
        child, at(-8, 13, -25), at(-14, 2, 6 + FORE),
        Form((0, 0.04, 0.1, 0.16, 0.3, 0.6, 0.9, 0.97, 1), (9, 11.5, 9, 11.5, 8.5, 7, 5.8, 7.5, 7), 0.42, wide=behind),
        (End("olecranon", 0.03, 1.8, 0.5), End("distal ulna", 0.045, 1.8, 0.4)),
        first_of(breaker("ulnar shaft", 7.0, (0.35, 0.7)), breaker("olecranon", 9.0, (0.09, 0.12))),
    )  # fmt: skip
    parts.append(Ellipsoid(at(-6, -4, 17), np.array((9, 9, 6)) * child.thick, SPONGE, wall=0.8))  # coronoid
    return parts


def lower_arm(child: Child, bend: float, fat: float, breaker: Breaker) -> list[Any]:
    """Forearm with its flesh, ``fat`` times as thick as usual."""
    scale, a = child.length, np.deg2rad(bend)
    elbow = np.array((0, 0, -UPPER)) * scale
    down = np.array((0, -np.sin(a), -np.cos(a)))
    chain = [elbow, elbow + down * 70 * scale, elbow + down * (FORE + 60) * scale]
    return [*forearm(child, bend, breaker), *flesh(chain, np.array([38, 43, 27]) * scale * fat, flat=0.85)]


def arm(child: Child, rng: np.random.Generator, breaker: Breaker, bend: float) -> list[Any]:
    """Humerus, forearm and their flesh, without the shoulder girdle; the elbow is bent ``bend`` degrees."""
    fat = rng.uniform(0.9, 1.2)
    chain = np.array(((0, 0, 0), (0, -3, -0.45 * UPPER), (0, 0, -UPPER))) * child.length
    above = [*humerus(child, breaker), *flesh(chain, np.array([58, 46, 38]) * child.length * fat, flat=0.95)]
    return above + lower_arm(child, bend, fat, breaker)


def shoulder(child: Child, rng: np.random.Generator, breaker: Breaker) -> list[Any]:
    """The arm with scapula, clavicle, upper ribs, lung and chest wall."""
    scale, thick = child.length, child.thick
    fat = scale * rng.uniform(0.9, 1.2)

    def at(*points: tuple[float, float, float]) -> np.ndarray:
        return np.array(points) * scale

    parts = [
        *humerus(child, breaker),
        *flesh(at((0, 0, 10), (0, 0, -160), (0, 0, -320)), np.array((60, 48, 40)) * fat),
    ]
    blade = at(
        (-32, 12, 18), (-60, 32, 44), (-104, 46, 34), (-108, 52, -20), (-92, 48, -112), (-80, 44, -112), (-46, 16, -28)
    )
    parts.append(Sheet(blade, 2.2 * thick, CORTEX * 0.7))
    border = np.concatenate([blade[3:6], at((-60, 26, -66), (-36, 12, -22))])
    spine = at((-104, 52, 22), (-60, 52, 34), (-14, 38, 40), (10, 24, 36), (16, 8, 30))
    parts += [Strand([border], 4.5 * thick, SPONGE, wall=1.6), Strand([spine], 5 * thick, SPONGE, wall=1.3)]
    parts.append(Strand([blade[1:4]], 2.0 * thick, CORTEX))
    parts.append(Ellipsoid(at((-33, 6, -4))[0], np.array((6, 13, 19)) * thick, SPONGE, wall=1.2))
    if child.size("coracoid"):
        parts.append(
            Strand(
                [at((-40, 4, 20), (-34, -14, 24), (-22, -24, 16))], 5 * thick * child.size("coracoid"), SPONGE, wall=1.2
            )
        )
    clavicle = at((6, 8, 40), (-30, 10, 46), (-70, -4, 46), (-110, -24, 38), (-150, -34, 32))
    parts.append(Strand([clavicle], 6.2 * thick, SPONGE, wall=1.7))
    ribs = []
    for k in range(7):
        phi = np.linspace(0.25, 2.5, 30)
        width, deep = (60 + 11 * k) * scale, (62 + 6 * k) * scale
        x, y = -160 * scale + width * np.sin(phi), 10 * scale - deep * -np.cos(phi)
        ribs.append(np.stack([x, y, (62 - 28 * k) * scale - 0.5 * (y.max() - y)], 1))
    parts.append(Strand(ribs, 4.6 * thick, SPONGE, wall=1.0))
    parts.append(Ellipsoid(at((-160, 0, -70))[0], np.array((94, 82, 150)) * scale, 0.75 * LUNG, layer="other"))
    trunk = flesh(at((-150, 0, 0), (-150, 0, -320)), [128 * scale, 118 * scale], flat=0.75)
    local, radii = rounded(0, 1, (0, 1), (62 * scale, 70 * scale), (0.5, 0.4))
    top = Solid(at((20, 6, 6))[0], at((-175, 6, 80))[0], local, radii, 0.0, "soft")
    return [*parts, *trunk, top]
