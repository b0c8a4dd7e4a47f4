"""Hand and wrist: 19 tubular bones, carpals that ossify in order, distal radius and ulna.

Axes: x towards the thumb, y to the back of the hand, z towards the fingertips; the wrist joint is the origin. Sizes are
mm of a grown man.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from medkit_phantoms.radiographs.breaks import Break
from medkit_phantoms.radiographs.long_bones import Child, End, Form, flesh, long_bone
from medkit_phantoms.radiographs.primitives import SPONGE, Ellipsoid

Breaker = Callable[[str, float, tuple[float, float]], Break | None]
"""Given a bone's name, its radius in mm and where along it a fracture may be: the fracture, if this bone is broken."""


def unbroken(*_: Any) -> None:
    """The ``Breaker`` of a body without a fracture."""


# Base (x, y, z), length and degrees towards the thumb of metacarpals, degrees of fingers, phalanges' lengths, girth.
RAYS = (
    ((21.5, -9, 27), 45, 40, 30, (32, 23), 1.06),
    ((11.5, 0, 38), 67, 7, 9, (41, 25, 18), 1.04),
    ((1.0, 1, 40), 65, 0, 2, (45, 29, 19), 1.04),
    ((-8.5, 0, 37), 57, -8, -6, (42, 28, 19), 0.96),
    ((-17.0, -2, 33), 53, -17, -17, (34, 20, 17), 0.9),
)
CARPALS = {  # middle and semi-axes, turn in degrees towards the thumb
    "capitate": ((1, 1, 25), (7.5, 9, 12.0), 2),
    "hamate": ((-10.5, 0, 24), (7.5, 9, 10.0), -14),
    "triquetrum": ((-14.5, 1, 11.5), (7.0, 7, 6.0), -25),
    "lunate": ((-1.5, 0, 7.5), (8.0, 8, 6.5), -8),
    "scaphoid": ((12.5, -1, 11.5), (6.2, 8, 11.0), 38),
    "trapezium": ((20.5, -5, 21), (7.5, 8, 6.5), 25),
    "trapezoid": ((11.5, 0, 28), (5.6, 8, 6.5), 10),
    "pisiform": ((-17, -9, 13), (4.8, 5, 5.5), 0),
}


def upright(degrees: float, forward: float = 0.0) -> np.ndarray:
    """Unit vector ``degrees`` from z towards x, bent ``forward`` degrees towards the palm."""
    a, f = np.deg2rad(degrees), np.deg2rad(forward)
    return np.array([np.sin(a) * np.cos(f), -np.sin(f), np.cos(a) * np.cos(f)])


def turn_y(degrees: float) -> np.ndarray:
    """Rotation (3,3) that takes z ``degrees`` towards x."""
    a = np.deg2rad(degrees)
    return np.array([[np.cos(a), 0, np.sin(a)], [0, 1, 0], [-np.sin(a), 0, np.cos(a)]])


def hand(child: Child, rng: np.random.Generator, breaker: Breaker, fan: float = 0.0) -> list[Any]:
    """All solids of a hand and the distal forearm; ``fan`` degrees spread the fingers' flexion for a lateral view."""
    scale = child.length
    parts: list[Any] = [*carpus(child, rng), *_forearm_end(child)]
    spread, lean = rng.uniform(0.4, 1.5), rng.normal(0, 3)
    for k, (base, length, own, fingers, lengths, girth) in enumerate(RAYS):
        grown = 1 + rng.normal(0, 0.02)
        direction = upright(own + lean * 0.3 + rng.normal(0, 1), (10 + fan * 0.2) if k == 0 else fan * 0.1 * (k - 2))
        a = np.array(base) * scale
        b = a + direction * length * scale * grown
        thick = girth * (1 + rng.normal(0, 0.02))
        thumb = k == 0
        own_end = End("first metacarpal", 0.16, 1.5, 0.3) if thumb else End("metacarpal", 0.15, 1.5, 0.75)
        parts += long_bone(
            child, a, b,
            Form((0, 0.05, 0.2, 0.5, 0.78, 0.9, 1), np.array((6.8, 7.4, 5.0, 4.2, 5.4, 7.0, 6.2)) * thick, 0.42),
            (own_end, None) if thumb else (None, own_end), breaker(f"metacarpal {k + 1}", 4.4, (0.35, 0.7)),
        )  # fmt: skip
        joints = [a, b]
        for j, own_length in enumerate(lengths):
            last = j == len(lengths) - 1
            name = "distal phalanx" if last else "middle phalanx" if j == 1 else "proximal phalanx"
            bend = fan * (0.6 + 0.5 * j) * (1.4 - 0.3 * k) if not thumb else 12 + fan * 0.1
            direction = upright(fingers * (0.55 + 0.45 * spread) + lean + rng.normal(0, 1.2), bend)
            gap = 1.2 * scale
            start = joints[-1] + direction * gap
            stop = start + direction * own_length * scale * grown
            size = np.array(_PHALANX[name]) * thick
            parts += long_bone(
                child, start, stop, Form(_PLACES, size, 0.36, flat=0.85),
                (End(name, 0.17 if own_length > 22 else 0.2, 1.4, 0.3), None),
                breaker(f"{name} {k + 1}", float(size[3]), (0.3, 0.7)),
            )  # fmt: skip
            joints.append(stop)
        tip = joints[-1] + direction * 3 * scale
        girths = np.linspace(10.5, 7.2, len(joints)) * thick * child.thick
        girths[0] = 12 * child.thick
        parts += flesh([*joints[:-1], tip], list(girths), flat=0.9)
    sesamoid = child.size("sesamoid")
    if sesamoid:
        at = np.array(RAYS[0][0]) * scale + upright(RAYS[0][2]) * 42 * scale + np.array([-7, -6, 0]) * scale
        parts.append(Ellipsoid(at, np.full(3, 2.4) * sesamoid * child.thick, SPONGE, wall=0.7))
    palm = [(2 * scale, 0, 10 * scale), (-1 * scale, 0, 50 * scale), (-3 * scale, 0, 92 * scale)]
    parts += flesh(palm, [27 * scale, 37 * scale, 38 * scale], flat=0.36)
    return [
        *parts,
        *flesh([(2 * scale, 0, -90 * scale), (1 * scale, 0, 12 * scale)], [29 * scale, 26 * scale], flat=0.7),
    ]


_PLACES = (0, 0.08, 0.25, 0.55, 0.82, 0.93, 1)
_PHALANX = {
    "proximal phalanx": (7.0, 7.4, 5.4, 4.6, 5.2, 5.8, 4.6),
    "middle phalanx": (6.2, 6.5, 4.6, 3.9, 4.6, 5.1, 4.0),
    "distal phalanx": (5.4, 5.5, 3.6, 2.6, 2.9, 3.6, 2.8),
}


def carpus(child: Child, rng: np.random.Generator) -> list[Any]:
    """The carpal bones that have appeared, each an ellipsoid that grows into its final shape."""
    parts: list[Any] = []
    for name, (middle, half, turn) in CARPALS.items():
        size = child.size(name)
        jitter = rng.normal(0, 0.4, 3)
        if not size:
            continue
        # A young centre is round, a grown bone has its own axes.
        shape = np.array(half) * size
        shape = shape + (1 - size) * (float(np.prod(shape)) ** (1 / 3) - shape)
        at = (np.array(middle) + jitter) * child.length
        grown = shape * (0.35 * child.thick + 0.65 * child.length)
        parts.append(Ellipsoid(at, grown, SPONGE * 1.05, turn=turn_y(turn), wall=0.55 + 0.35 * size))
    return parts


def _forearm_end(child: Child) -> list[Any]:
    scale = child.length
    places, shaft = (0, 0.35, 0.6, 0.8, 0.9, 1), np.array((7.2, 7.4, 8.6, 12.5, 15.5, 15.0))
    radius = long_bone(
        child, np.array((7.5, 0, -160)) * scale, np.array((6.5, 0, 1)) * scale,
        Form(places, shaft, 0.42, flat=0.72, bow=(0, 0, 0, 0, 0.6, 1.2)),
        (None, End("distal radius", 0.075, 2.0, 0.3)),
    )  # fmt: skip
    ulna = long_bone(
        child, np.array((-13.5, 2, -160)) * scale, np.array((-15.5, 2, -4)) * scale,
        Form(places, np.array((7.5, 6.4, 5.8, 6.2, 7.6, 7.2)), 0.42), (None, End("distal ulna", 0.06, 1.8, 0.4)),
    )  # fmt: skip
    styloid = child.size("distal ulna")
    tip = np.array((-20.5, 2, 0.5)) * scale
    extra = [Ellipsoid(tip, np.array((2, 2, 4.5)) * styloid * child.thick, SPONGE, wall=0.8)] if styloid > 0.6 else []
    return [*radius, *ulna, *extra]
