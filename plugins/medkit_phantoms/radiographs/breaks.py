"""Fractures of a shaft: a line, a step-off or a torus bulge, as changes close to one place of a solid of revolution."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

Array = np.ndarray

KINDS = ("line", "displaced", "torus")


@dataclass(frozen=True)
class Break:
    """One fracture.

    Attributes
    ----------
    kind:
        ``line`` (a dark gap with a slight step), ``displaced`` (a gap with a step-off) or ``torus`` (a bulge of the
        cortex with a dense band, as in a buckled metaphysis).
    at:
        Place as a fraction of the bone's length.
    tilt:
        Slope of the line relative to the cross-section: 0 transverse, 1 at 45 degrees.
    gap:
        Width of the gap in mm.
    step:
        Step-off in mm; the far piece returns to its axis within ``reach``.
    bulge:
        Greatest widening of a torus fracture as a share of the radius.
    reach:
        mm along the bone within which anything changes by more than a trace.
    jags:
        Amplitude in mm of the line's irregularities.
    """

    kind: str
    at: float
    tilt: float
    gap: float
    step: float
    bulge: float
    reach: float
    jags: float

    def bend(self, along: Array, d: Array, radius: Array) -> tuple[Array, Array, Array]:
        """New distances from the axis, new radii, and the share of bone left.

        ``along`` is the distance in mm along the bone from the fracture, ``d`` from the axis, ``radius`` the bone's.
        """
        if self.kind == "torus":
            near = np.exp(-np.square(along * np.float32(3 / self.reach)))
            uneven = 1 + np.float32(0.35) * np.sign(d) * np.float32(np.sign(self.tilt))
            return d, radius * (1 + np.float32(self.bulge) * near * uneven), 1 + np.float32(0.45) * near
        rough = np.float32(self.jags) * (np.sin(d * np.float32(2.6 / max(self.gap, 0.3))) + np.sin(d * np.float32(1.1)))
        along = along - np.float32(self.tilt) * d - rough
        beyond = np.clip(along * np.float32(4 / self.gap) + np.float32(0.5), 0, 1)
        d = d - np.float32(self.step) * beyond * np.exp(-np.square(along * np.float32(1.6 / self.reach)))
        open_ = np.exp(-np.square(np.square(along * np.float32(1.7 / self.gap))))
        return d, radius, 1 - np.float32(0.9) * open_


def draw(kind: str, radius: float, pixel: float, places: tuple[float, float], rng: np.random.Generator) -> Break:
    """A fracture of a bone of that ``radius`` (mm), wide enough to be seen with pixels of ``pixel`` mm."""
    gap = max(1.1, 0.11 * radius, 1.7 * pixel) * rng.uniform(0.9, 1.5)
    side = rng.choice([-1.0, 1.0])
    share = rng.uniform(0.35, 0.8) if kind == "displaced" else rng.uniform(0.05, 0.18)
    return Break(
        kind=kind,
        at=float(rng.uniform(*places)),
        tilt=float(side * rng.uniform(0.05, 0.9)),
        gap=float(gap),
        step=float(rng.choice([-1.0, 1.0]) * max(share * radius, pixel * (1.5 if kind == "displaced" else 0.4))),
        bulge=float(max(rng.uniform(0.28, 0.5), 1.6 * pixel / radius)),
        reach=float(max(3 * radius, 5 * gap) if kind != "torus" else max(2.2 * radius, 4 * pixel)),
        jags=float(rng.uniform(0.1, 0.3) * gap),
    )
