"""Chest, abdomen and pelvis around the spine.

Axes: x to the left, y to the back, z up; z = 0 is the top of the iliac crests. Sizes are mm of a grown man.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from medkit_phantoms.radiographs.frame import cross
from medkit_phantoms.radiographs.hand import turn_y, unbroken
from medkit_phantoms.radiographs.leg import femur
from medkit_phantoms.radiographs.long_bones import Child, flesh
from medkit_phantoms.radiographs.primitives import AIR, CORTEX, LUNG, SPONGE, Ellipsoid, Sheet, Solid, Strand
from medkit_phantoms.radiographs.spine import middles, spine


def trunk(child: Child, rng: np.random.Generator, stand: bool, need: str, arms: bool = True) -> list[Any]:
    """The solids for a picture of ``need`` (chest, abdomen or spine).

    ``stand`` gives fluid levels under gas; without ``arms`` they are raised out of the picture.
    """
    tall = child.length
    fat = rng.uniform(0.9, 1.15)
    low, high = {"chest": ("L2", "C5"), "abdomen": ("L5", "T6"), "spine": ("L5", "C1")}[need]
    parts = spine(child, rng, tall, low, high)
    parts += flesh(np.array(((0, 6, -190), (0, 6, -110), (0, 4, 20), (0, 4, 150), (0, 6, 270), (0, 10, 345))) * tall,
                   np.array((150, 172, 138, 142, 158, 150)) * tall * fat, flat=0.66, blunt=0.3)  # fmt: skip
    wide = 135 if arms else 60
    parts += flesh(
        np.array(((-wide, 14, 348), (0, 14, 362), (wide, 14, 348))) * tall, np.array((60, 72, 60)) * tall * fat
    )
    parts += flesh(np.array(((0, 24, 400), (0, 16, 560))) * tall, np.array((62, 56)) * tall)
    parts += cage(child, tall) + lungs(child, rng, tall)
    if arms:
        parts += girdle(child, tall)
    if need == "chest":
        return parts
    return parts + bowel(child, rng, tall, stand, need) + pelvis(child, rng, tall, 0.0)


def cage(child: Child, tall: float) -> list[Any]:
    """Ribs and sternum."""
    at = middles()
    ribs = []
    for k in range(1, 13):
        middle = at[f"T{k}"]
        width = np.interp(k, (1, 2, 4, 8, 10, 12), (62, 84, 112, 134, 132, 118))
        deep = np.interp(k, (1, 3, 8, 12), (46, 68, 94, 88))
        last = np.interp(k, (1, 7, 10, 11, 12), (2.55, 2.45, 2.15, 1.45, 1.05))
        phi = np.linspace(0.14, last, 40)
        centre = np.interp(k, (1, 8), (18, 6))
        x, y = width * np.sin(phi), centre + deep * np.cos(phi) * (0.9 if k > 1 else 0.8)
        drop = np.interp(k, (1, 4, 9, 12), (34, 62, 84, 62)) * (phi / np.pi) ** 1.15
        z = middle[2] + 6 + 5 * np.sin(np.minimum(phi * 3, np.pi)) - drop
        ribs += [np.stack([s * x, y, z], 1) * tall for s in (-1, 1)]
    thick = child.thick
    parts: list[Any] = [
        Strand(ribs[:8], 4.4 * thick, SPONGE, wall=1.0),
        Strand(ribs[8:], 5.0 * thick, SPONGE, wall=1.0),
    ]
    breast = np.array(((0, -52, 345), (0, -70, 300), (0, -84, 250), (0, -90, 205))) * tall
    joints = 2 if child.age > 150 else 4
    for a, b in zip(np.linspace(0, 0.98, joints + 1)[:-1], np.linspace(0, 0.98, joints + 1)[1:], strict=True):
        ends = [
            np.array([np.interp(t, np.linspace(0, 1, 4), breast[:, i]) for i in range(3)])
            for t in (a + 0.015, b - 0.015)
        ]
        parts.append(
            Solid(
                ends[0],
                ends[1],
                (0, 0.15, 0.85, 1),
                np.array((11, 16, 14, 11)) * thick,
                SPONGE * 0.9,
                wall=0.8,
                flat=0.4,
            )
        )
    return parts


def girdle(child: Child, tall: float) -> list[Any]:
    """Clavicles, scapulae and hanging upper arms."""
    thick = child.thick
    parts: list[Any] = []
    for s in (-1, 1):
        clavicle = np.array(((14 * s, -52, 352), (50 * s, -44, 366), (95 * s, -14, 374), (150 * s, 12, 380))) * tall
        parts.append(Strand([clavicle], 5.8 * thick, SPONGE, wall=1.5))
        blade = (
            np.array(
                (
                    (150, 40, 350),
                    (122, 62, 372),
                    (82, 86, 362),
                    (80, 94, 312),
                    (104, 92, 232),
                    (116, 88, 232),
                    (142, 58, 312),
                )
            )
            * (s, 1, 1)
            * tall
        )
        parts += [
            Sheet(blade, 2.0 * thick, CORTEX * 0.6),
            Strand([blade[4:], blade[1:4]], 2.6 * thick, SPONGE, wall=1.0),
        ]
        parts.append(
            Strand(
                [np.array(((88 * s, 92, 348), (130 * s, 70, 366), (165 * s, 30, 376))) * tall],
                4.2 * thick,
                SPONGE,
                wall=1.0,
            )
        )
        ball = np.array((174 * s, 20, 346)) * tall
        parts.append(
            Ellipsoid(ball, np.full(3, 22.0) * thick * max(child.size("humeral head"), 0.3), SPONGE * 0.7, wall=0.9)
        )
        parts.append(
            Solid(
                ball + np.array((4 * s, 0, -12)) * tall,
                ball + np.array((14 * s, 0, -150)) * tall,
                (0, 0.15, 0.4, 1),
                np.array((19, 15, 12, 11)) * thick,
                SPONGE * 0.6,
                wall=2.6 * thick,
            )
        )
        parts += flesh(np.array(((176 * s, 16, 344), (198 * s, 16, 160))) * tall, np.array((56, 46)) * tall)
    return parts


def lungs(child: Child, rng: np.random.Generator, tall: float) -> list[Any]:
    """Air of the lungs around heart, great vessels and diaphragm, with branching vessels and the windpipe."""
    breath = rng.normal(0, 6) + (-10 if child.age < 36 else 0)
    parts: list[Any] = []
    broad = 1.0 + 0.12 * max(0.0, 1 - child.age / 60)  # the heart of a small child fills more of the chest
    heart = [
        Ellipsoid(np.array((24, -26, 207)) * tall, np.array((66 * broad, 46, 49)) * tall, 0, turn=turn_y(28)),
        Ellipsoid(np.array((2, -6, 300)) * tall, np.array((25 * broad, 36, 82)) * tall, 0),
    ]
    for s in (-1, 1):
        top = (176 if s < 0 else 168) - breath
        dome = Ellipsoid(np.array((70 * s, -8, top - 84)) * tall, np.array((70, 86, 88)) * tall, 0)
        whole = Ellipsoid(np.array((64 * s, 6, 232)) * tall, np.array((62, 90, 142)) * tall, LUNG, "other",
                          without=(dome, heart[0], heart[1]))  # fmt: skip
        parts.append(whole)
        vessels = []
        root = np.array((26 * s, 4, 252)) * tall
        for _ in range(16):
            angle, tilt = rng.uniform(-1.35, 1.5), rng.uniform(-0.9, 0.9)
            way = np.array((s * np.cos(angle), np.sin(tilt) * 0.9, -np.sin(angle) * 1.1)) * rng.uniform(40, 78) * tall
            bend = rng.normal(0, 5, 3) * tall
            vessels.append(np.stack([root, root + way * 0.5 + bend, root + way]))
            vessels.append(np.stack([root + way * 0.45 + bend, root + way * 0.8 + 3.5 * bend]))
        parts.append(Strand(vessels, 1.5 * tall, -0.9 * LUNG, "other"))
        parts.append(Strand([v[:2] for v in vessels[::2]], 2.9 * tall, -0.8 * LUNG, "other"))
    windpipe = np.array(((0, 18, 440), (0, 16, 360), (0, 18, 292))) * tall
    forks = [np.array(((0, 18, 292), (22 * s, 12, 262))) * tall for s in (-1, 1)]
    parts += [Strand([windpipe], 8.0 * tall, 0.9 * AIR, "other"), Strand(forks, 6.0 * tall, 0.6 * AIR, "other")]
    return parts


def bowel(child: Child, rng: np.random.Generator, tall: float, stand: bool, need: str) -> list[Any]:
    """Gas in stomach, colon and small bowel; with levels when standing; liver, kidneys' fat, psoas."""
    parts: list[Any] = [
        Ellipsoid(np.array((-64, -10, 110)) * tall, np.array((70, 70, 62)) * tall, 0.0011, "other"),
        Ellipsoid(np.array((0, -30, -40)) * tall, np.array((110, 50, 70)) * tall, -0.0012, "other"),
    ]
    for s in (-1, 1):
        parts.append(
            Solid(
                np.array((24 * s, 30, 110)) * tall,
                np.array((58 * s, 20, -60)) * tall,
                (0, 0.5, 1),
                np.array((8, 22, 24)) * tall,
                0.0012,
                "other",
            )
        )
        parts.append(Ellipsoid(np.array((56 * s, 50, 78)) * tall, np.array((24, 18, 46)) * tall, 0.001, "other"))
    deep = 0.55 * AIR
    loops: list[tuple[tuple[float, float, float], float]] = []
    for x, y, z, r in (
        (98, 10, 70, 17),
        (104, 10, 30, 16),
        (96, 6, -20, 15),
        (-98, 6, -30, 20),
        (-104, 8, 15, 18),
        (-92, 0, 55, 16),
        (-40, -50, 40, 14),
        (0, -52, 34, 14),
        (44, -50, 46, 14),
        (10, 36, -110, 13),
    ):
        if rng.random() < 0.7:
            jitter = rng.normal(0, 9, 3)
            loops.append(((x + jitter[0], y, z + jitter[2]), r * rng.uniform(0.7, 1.15)))
    for _ in range(int(rng.integers(8, 18))):
        loops.append(((rng.uniform(-70, 70), rng.uniform(-50, 0), rng.uniform(-70, 60)), rng.uniform(6, 12)))
    stomach = ((58, -30, 124), 30 * rng.uniform(0.8, 1.2))
    for spot, wide in [*loops, stomach]:
        if need == "pelvis" and spot[2] > 40:
            continue
        half = np.array((wide * rng.uniform(1, 1.6), wide, wide)) * tall
        middle = np.array(spot) * tall
        fluid: tuple[Ellipsoid, ...] = ()
        if stand and wide > 9:
            # Fluid fills the lower part: the gas ends at a level.
            fluid = (Ellipsoid(middle - np.array((0, 0, 60.0)) * tall, np.array((900, 900, 60)) * tall, 0),)
        parts.append(Ellipsoid(middle, half, deep if wide < 25 else 0.8 * AIR, "other", without=fluid))
    return parts


def pelvis(child: Child, rng: np.random.Generator, tall: float, spread: float) -> list[Any]:
    """Ilia, ischia, pubic bones, hips and thighs; ``spread`` degrees of abduction and outward turn (frog leg)."""
    thick = child.thick
    open_ = 1 - child.mature("triradiate")
    parts: list[Any] = []
    for s in (-1.0, 1.0):
        mirror = np.array((s, 1, 1))

        def at(*points: tuple[float, float, float], mirror: np.ndarray = mirror) -> np.ndarray:
            return np.array(points) * mirror * tall

        wing = at(
            (46, 60, -14),
            (68, 52, 6),
            (98, 22, 14),
            (130, -16, -4),
            (142, -40, -36),
            (126, -36, -62),
            (110, -16, -86),
            (86, 4, -98),
            (60, 32, -84),
            (40, 56, -58),
        )
        parts += [
            Sheet(wing, 8.0 * thick, CORTEX * 0.36, soften=2.5),
            Strand([wing[:6]], 5.0 * thick, SPONGE, wall=1.1),
        ]
        parts.append(Strand([wing[[8, 7]], wing[[5, 6]]], 6.0 * thick, SPONGE, wall=1.4))
        hip = at((90, -6, -118))[0]
        ring = np.linspace(0.15, 2.85, 24)
        r = (30 - 2 * open_) * thick
        for shift in (-9, 7):
            parts.append(
                Strand(
                    [hip + np.stack([s * r * np.cos(ring), np.full(24, shift * thick), r * np.sin(ring)], 1)],
                    3.0 * thick,
                    SPONGE * 1.2,
                    wall=1.0,
                )
            )
        gap = 4.0 * open_
        parts.append(Ellipsoid(at((74, -2, -96 + gap))[0], np.array((17, 18, 15)) * thick, SPONGE, wall=1.0))
        pubis = at((66 - gap, -30, -122), (40, -46, -118), (12, -54, -130))
        lower = at((12, -54, -136), (22, -44, -152), (44, -18, -168))
        ischium = at((70 - gap, 14, -126 - gap), (64, 22, -150), (52, 10, -170), (45, -14, -170))
        parts += [Strand([pubis], 8.0 * thick, SPONGE, wall=1.4), Strand([ischium], 9.5 * thick, SPONGE, wall=1.3)]
        if child.size("ischiopubic") < 1:
            lower = lower[0] + (lower - lower[0]) * 0.85
        parts.append(Strand([lower], 6.0 * thick, SPONGE, wall=1.2))
        if child.size("iliac crest"):
            parts.append(Strand([wing[1:5] + at((3, 0, 6))[0]], 2.2 * thick, SPONGE, wall=1.0))
        a = np.deg2rad(spread)
        down = np.array((s * (np.sin(a) - 0.06), -0.25 * np.sin(a), -np.cos(a)))
        down /= np.linalg.norm(down)
        side = np.array((s, 0, 0)) - s * down[0] * down
        # Turned outwards, the trochanter goes behind the neck.
        turned = cross(down, side) * np.sin(0.9 * a)
        side = side / np.linalg.norm(side) * np.cos(0.9 * a) + turned * np.sign(turned[1] or 1.0)
        side /= np.linalg.norm(side)
        parts += femur(child, hip, down, side, unbroken)
        thigh = [hip + down * d * tall + at((6, 0, 0))[0] for d in (10, 150, 330)]
        parts += flesh(thigh, np.array((92, 86, 66)) * tall)
    parts.append(Ellipsoid(np.array((0, -40, -105)) * tall, np.array((38, 32, 30)) * tall, 0.0011, "other"))
    return parts


def lying(child: Child, rng: np.random.Generator, spread: float) -> list[Any]:
    """The pelvis with the lower spine and thighs, for pictures of the hips."""
    tall = child.length
    parts = spine(child, rng, tall, "L5", "L3") + pelvis(child, rng, tall, spread)
    parts += bowel(child, rng, tall, False, "pelvis")
    return parts + flesh(
        np.array(((0, 6, -150), (0, 6, -100), (0, 4, 120))) * tall,
        np.array((150, 172, 142)) * tall * rng.uniform(0.9, 1.15),
        flat=0.66,
        blunt=0.15,
    )
