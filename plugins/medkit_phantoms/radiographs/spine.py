"""The spine from atlas to sacrum.

Axes: x to the left, y to the back, z up; z = 0 is the top of the iliac crests. Sizes are mm of a grown man.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from medkit_phantoms.radiographs.long_bones import Child
from medkit_phantoms.radiographs.primitives import CORTEX, SPONGE, Ellipsoid, Solid, Strand

NAMES = (*(f"L{k}" for k in range(5, 0, -1)), *(f"T{k}" for k in range(12, 0, -1)), *(f"C{k}" for k in range(7, 0, -1)))
_RISE = {"L": 35.5, "T": 24.6, "C": 17.2}
BASE = -38.0
"""z of the top of the sacrum."""


def middles(scoliosis: float = 0.0) -> dict[str, np.ndarray]:
    """Middle of each vertebral body, mm: lordosis below, kyphosis in the chest, lordosis in the neck."""
    z, found = BASE, {}
    for name in NAMES:
        rise = _RISE[name[0]] * (1.0 if name[0] != "T" else 0.82 + 0.03 * int(name[1:]))
        z += rise / 2
        y = np.interp(z, (-40, 10, 70, 140, 260, 380, 440, 500, 560), (46, 24, 16, 30, 58, 50, 34, 20, 22))
        found[name] = np.array((scoliosis * np.sin((z - 60) / 110), y, z))
        z += rise / 2
    return found


def spine(child: Child, rng: np.random.Generator, tall: float, low: str = "L5", high: str = "C1") -> list[Any]:
    """Vertebrae from ``low`` up to ``high`` (with the sacrum below L5); ``tall`` scales the axis in mm."""
    at = middles(rng.normal(0, 3))
    chosen = NAMES[NAMES.index(low) : NAMES.index(high) + 1]
    grown = min(1.0, child.age / 190)
    parts: list[Any] = []
    for name in chosen:
        region, number = name[0], int(name[1:])
        rise = _RISE[region] * (1.0 if region != "T" else 0.82 + 0.03 * number) * tall
        middle = at[name] * tall
        i = NAMES.index(name)
        up = at[NAMES[min(i + 1, 23)]] - at[NAMES[max(i - 1, 0)]]
        up = up / np.linalg.norm(up)
        if name == "C1":
            parts += _atlas(middle, child, tall)
            continue
        width = {"L": 24 + 0.9 * number, "T": 13.5 + 0.75 * number, "C": 9.5 + 0.5 * number}[region] * child.thick
        deep = {"L": 0.72, "T": 0.85, "C": 0.78}[region]
        high_ = rise * (0.66 + 0.12 * grown if region != "T" else 0.74 + 0.1 * grown)
        parts += _body(middle, up, high_, width, deep, grown)
        if name == "C2":
            parts.append(
                Solid(
                    middle + up * high_ * 0.4,
                    middle + up * (high_ * 0.5 + 17 * tall),
                    (0, 0.7, 1),
                    np.array((5.5, 5, 2.5)) * child.thick,
                    SPONGE,
                    wall=1.2,
                )
            )
        parts += _arch(Vertebra(region, middle, up, width, high_, rise), child, tall)
    if low == "L5":
        parts += _sacrum(child, tall)
    return parts


def _body(middle: np.ndarray, up: np.ndarray, high: float, width: float, deep: float, grown: float) -> list[Any]:
    a, b = middle - up * high / 2, middle + up * high / 2
    # Bodies of small children have round corners; grown ones have sharp ones and a waist.
    corner = 0.92 - 0.2 * (1 - grown)
    at = (0, 0.06, 0.16, 0.5, 0.84, 0.94, 1)
    radius = (
        np.array((corner * 0.96, corner + 0.05, 0.97, 0.88 + 0.06 * (1 - grown), 0.97, corner + 0.05, corner * 0.96))
        * width
    )
    return [
        Solid(a, b, at, radius, SPONGE * 0.75, wall=0.035 * width + 0.3, caps=(max(1.0, 0.045 * high),) * 2, flat=deep)
    ]


@dataclass(frozen=True)
class Vertebra:
    """A cervical (C), thoracic (T) or lumbar (L) vertebra: the middle of its body and the axis of the spine there.

    ``width`` is half of the body's, ``high`` its height, ``rise`` the distance to the next one, all in mm.
    """

    region: str
    middle: np.ndarray
    up: np.ndarray
    width: float
    high: float
    rise: float


def _arch(vertebra: Vertebra, child: Child, tall: float) -> list[Any]:
    """Pedicles, lamina, articular, transverse and spinous processes behind a body."""
    region, middle, up, width = vertebra.region, vertebra.middle, vertebra.up, vertebra.width
    high, rise = vertebra.high, vertebra.rise
    back = np.array((0, up[2], -up[1]))
    depth = width * {"L": 0.72, "T": 0.85, "C": 0.78}[region]
    thick = child.thick
    parts: list[Any] = []
    lean = {"L": 0.15, "T": 0.95, "C": 0.45}[region]
    reach = {"L": 46, "T": 40, "C": 32}[region] * tall
    tip = middle + back * (depth + reach) - up * rise * (0.2 + lean * 0.6)
    root = middle + back * (depth + 0.4 * reach) - up * rise * 0.15
    height = {"L": 9.5, "T": 4.5, "C": 4.0}[region] * thick
    parts.append(
        Solid(root, tip, (0, 0.1, 0.8, 1), np.array((0.6, 0.9, 1, 0.5)) * height, SPONGE, wall=0.8, flat=0.34, wide=up)
    )
    across = {"L": 0.66, "T": 0.62, "C": 0.95}[region] * width
    size = np.array({"L": (5.2, 12, 7.5), "T": (3.4, 9, 5.6), "C": (3.2, 7, 4.2)}[region]) * thick
    for s in (-1.0, 1.0):
        side = np.array((s, 0, 0))
        parts.append(
            Ellipsoid(
                middle + side * across + back * (depth + 0.4 * size[1]) + up * 0.12 * high, size, SPONGE, wall=1.1
            )
        )
        facet = middle + side * (across + 2 * thick) + back * (depth + 12 * thick) - up * rise * 0.3
        half = np.array({"L": (5.5, 6.5, 15), "T": (4.5, 4.5, 10), "C": (5, 5.5, 7.5)}[region]) * thick
        parts.append(Ellipsoid(facet, half, SPONGE * 1.4, wall=0.8))
        start = middle + side * (across + 2 * thick) + back * (depth + 6 * thick)
        long = {"L": 24, "T": 22, "C": 6}[region] * tall
        end = start + side * long + back * (0.35 * long if region == "T" else 0) + up * 0.1 * long
        parts.append(
            Solid(
                start,
                end,
                (0, 0.8, 1),
                np.array((1, 0.9, 0.4)) * {"L": 4.5, "T": 4.5, "C": 3.5}[region] * thick,
                SPONGE,
                wall=0.7,
                flat=0.7,
                wide=up,
            )
        )
        parts.append(
            Solid(
                middle + side * across + back * (depth + 8 * thick),
                root,
                (0, 1),
                (height * 0.8, height * 0.9),
                SPONGE,
                wall=0.7,
                flat=0.4,
                wide=up,
            )
        )
    return parts


def _atlas(middle: np.ndarray, child: Child, tall: float) -> list[Any]:
    turns = np.linspace(0, 2 * np.pi, 40)
    ring = np.stack([18 * np.sin(turns), 10 + 19 * np.cos(turns), 0 * turns], 1) * tall + middle
    parts: list[Any] = [Strand([ring], 3.6 * child.thick, SPONGE, wall=1.2)]
    for s in (-1, 1):
        parts.append(
            Ellipsoid(middle + np.array((16 * s, 3, 0)) * tall, np.array((8, 8, 8)) * child.thick, SPONGE, wall=1.2)
        )
        parts.append(
            Solid(
                middle + np.array((18 * s, 6, 0)) * tall,
                middle + np.array((38 * s, 10, -2)) * tall,
                (0, 1),
                (4.0 * child.thick, 3.0 * child.thick),
                SPONGE,
                wall=0.8,
            )
        )
    return parts


def _sacrum(child: Child, tall: float) -> list[Any]:
    """Five fused segments that curve back and forward again, foramina between them, and the coccyx."""
    thick = child.thick
    path = np.array(((0, 44, -40), (0, 58, -62), (0, 70, -84), (0, 78, -104), (0, 80, -122), (0, 76, -138))) * tall
    widths = (57, 52, 42, 31, 21, 13)
    parts: list[Any] = []
    for k in range(5):
        a, b = path[k], path[k + 1]
        gap = (b - a) * (0.05 if child.age > 170 else 0.1)
        parts.append(Solid(a + gap, b - gap * 0.5, (0, 1), np.array(widths[k : k + 2]) * thick,
                           SPONGE * 0.6, wall=1.0, caps=(0.9, 0.9), flat=0.32))  # fmt: skip
        crest = (a + b) / 2 + np.array((0, 14 * thick, 0))
        parts.append(Ellipsoid(crest, np.array((3, 6, 9)) * thick, SPONGE, wall=0.8))
        if k < 4:
            for s in (-1, 1):
                parts.append(
                    Ellipsoid(
                        b + np.array((s * (20 - 2 * k) * thick, 0, 0)), np.array((5.0, 10, 4.0)) * thick, -CORTEX * 0.12
                    )
                )
    parts.append(Strand([np.array(((0, 75, -140), (0, 70, -150), (0, 60, -160))) * tall], 5 * thick, SPONGE, wall=0.9))
    return parts
