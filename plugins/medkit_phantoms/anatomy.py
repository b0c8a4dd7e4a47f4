"""One person's head as implicit functions of position: HU and the distances that bleeds need.

Head coordinates are in mm, axes LPS (x to the left, y to the back, z up), origin in the middle of the brain at the
height of the interventricular foramina. The HU of tissues are the usual ones at 120 kV: grey matter 37-41,
white matter 25-32, CSF 0-15, clotted or flowing blood above 40, cortical bone above 1000.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np

from medkit_phantoms.noise import SmoothNoise

Array = np.ndarray

# Lateral ventricle as tapered capsules: (|x|, y, z, radius) at both ends, mm, for an average ventricle.
LATERAL = (
    ((13, -39, 7, 3.0), (8, -24, 11, 4.6)),
    ((8, -24, 11, 4.6), (9, 0, 20, 4.2)),
    ((9, 0, 20, 4.2), (15, 21, 20, 5.0)),
    ((15, 21, 20, 5.0), (23, 34, 11, 6.4)),
    ((23, 34, 11, 6.4), (21, 55, 5, 2.4)),
    ((23, 34, 11, 6.4), (31, 20, -6, 2.4)),
    ((31, 20, -6, 2.4), (29, -3, -17, 1.4)),
)
CISTERNS = (
    ((0, -14, -21, 6.0), (0, -6, -21, 5.5)),  # suprasellar
    ((4, -15, -21, 3.5), (26, -18, -17, 2.0)),  # to the Sylvian fissure
    ((3, -3, -21, 3.0), (17, 8, -17, 2.0)),  # crural
    ((17, 8, -16, 2.2), (14, 22, -8, 2.2)),  # ambient
    ((0, 24, -7, 3.6), (14, 22, -8, 2.2)),  # quadrigeminal
    ((0, 2, -30, 3.0), (0, 3, -46, 3.0)),  # prepontine
    ((40, -22, -6, 2.0), (39, 6, 4, 1.6)),  # insula
    ((40, -16, -4, 2.0), (58, -18, -3, 2.4)),  # Sylvian fissure, outward
    ((39, 2, 3, 1.6), (60, 10, 10, 1.8)),
    ((0, 62, -46, 6.0), (0, 70, -52, 8.0)),  # cisterna magna
)
DEEP_GREY = (  # centre |x|, y, z and semi-axes
    (14, -22, 9, 4.5, 9, 8),  # head of the caudate nucleus
    (24, -4, 3, 6.5, 15, 9),  # lentiform nucleus
    (11, 10, 5, 8.0, 13, 9),  # thalamus
)


@dataclass
class Tissue:
    """What is at a set of points; every field has the points' shape, float32."""

    hu: Array
    depth: Array
    """Distance in mm inside the inner table of the skull; negative in bone and outside."""
    ventricle: Array
    """Distance in mm outside the ventricles' wall; negative inside."""
    csf: Array
    """Fraction of cerebrospinal fluid outside the ventricles (sulci, fissures, cisterns), 0 to 1."""


def ramp(value: Array, width: float) -> Array:
    """0 to 1 across ``width`` around 0: a partial-volume edge."""
    return np.clip(value * (1 / width) + np.float32(0.5), 0, 1)


def capsule(x: Array, y: Array, z: Array, ends: tuple, scale: float) -> Array:
    """Distance to the surface of a tapered capsule; radii are multiplied by ``scale``."""
    (ax, ay, az, ar), (bx, by, bz, br) = ends
    dx, dy, dz = bx - ax, by - ay, bz - az
    px, py, pz = x - np.float32(ax), y - np.float32(ay), z - np.float32(az)
    t = np.clip((px * dx + py * dy + pz * dz) * np.float32(1 / (dx * dx + dy * dy + dz * dz)), 0, 1)
    px, py, pz = px - t * dx, py - t * dy, pz - t * dz
    return np.sqrt(px * px + py * py + pz * pz) - (np.float32(ar) + t * np.float32(br - ar)) * np.float32(scale)


def blob(x: Array, y: Array, z: Array, shape: tuple) -> Array:
    """Rough distance in mm inside an ellipsoid."""
    cx, cy, cz, a, b, c = shape
    u, v, w = (x - cx) / a, (y - cy) / b, (z - cz) / c
    return (1 - np.sqrt(u * u + v * v + w * w)) * np.float32(min(a, b, c))


@dataclass
class Outside:
    """Points in and around the skull, and where they are; all arrays of one shape, distances in mm.

    ``x y z`` and ``ax`` = |x| are head coordinates; ``shell`` is the distance inside the vault's inner table, ``skin``
    how far outside it the skin is, ``temple`` the temporal muscle's part of that; ``above`` the distance above the
    skull base and ``ridge`` how much of that is petrous bone, 0 to 1; ``rough`` is noise.
    """

    x: Array
    ax: Array
    y: Array
    z: Array
    shell: Array
    skin: Array
    temple: Array
    above: Array
    ridge: Array
    rough: Array

    def at(self, index: Array) -> Outside:
        """Those of the points."""
        return Outside(*(getattr(self, one.name)[index] for one in fields(self)))


class Head:
    """A head drawn from ``rng``: size, shape, atrophy with ``age`` (years), ventricles, gyri, calcifications.

    Parameters
    ----------
    shift:
        Midline shift in mm towards +x, from mass effect.
    ventricles:
        Factor on the ventricles' radii in addition to that of age, above 1 for hydrocephalus.
    """

    def __init__(self, rng: np.random.Generator, age: float, shift: float = 0.0, ventricles: float = 1.0) -> None:
        self.noise = SmoothNoise(rng)
        self.atrophy = float(np.clip((age - 35) / 55 + rng.normal(0, 0.12), 0, 1))
        size = rng.normal(1, 0.025)
        self.half_width = 67 * size * rng.normal(1, 0.025)
        self.half_length = 83 * size * rng.normal(1, 0.025)
        self.height = 80 * size * rng.normal(1, 0.02)
        self.front = rng.uniform(0.06, 0.13)  # how much narrower the forehead is
        self.bone = rng.normal(6.6, 0.9)
        self.scalp = rng.uniform(4.0, 7.0)
        self.grey, self.white, self.fluid = rng.uniform(37.5, 40.5), rng.uniform(26, 29), rng.uniform(4, 9)
        self.fat = rng.uniform(0.3, 0.9)
        self.ventricles = float(ventricles * (0.85 + 0.75 * self.atrophy) * rng.normal(1, 0.08))
        self.asymmetry = rng.normal(0, 0.06)
        self.shift = float(shift)
        self.sinus = rng.uniform(0.4, 1.0)
        # Calcifications: the everyday hard negatives, more of them with age.
        old = age / 100
        self.calcified: list[tuple[float, float, float, float, float]] = []  # x, y, z, radius mm, HU
        if rng.random() < 0.2 + 0.6 * old:
            self.calcified.append((rng.normal(0, 0.5), 21, 1, rng.uniform(1.4, 2.8), rng.uniform(90, 260)))
        if rng.random() < 0.2 + 0.7 * old:
            for side in (-1, 1):
                self.calcified.append((side * 23.5, 36 + rng.normal(0, 2), 10 + rng.normal(0, 2),
                                       rng.uniform(1.5, 4.0), rng.uniform(80, 300)))  # fmt: skip
        if rng.random() < 0.35 * old:
            for side in (-1, 1):
                self.calcified.append((side * rng.uniform(17, 22), rng.uniform(-8, 0), rng.uniform(0, 5),
                                       rng.uniform(2.0, 4.5), rng.uniform(55, 130)))  # fmt: skip
        if rng.random() < 0.45 * old:
            self.calcified.append((0, rng.uniform(-55, -20), rng.uniform(38, 60),
                                   rng.uniform(1.5, 3.5), rng.uniform(110, 300)))  # fmt: skip

    def shell(self, x: Array, y: Array, z: Array) -> Array:
        """Distance in mm inside the vault's inner table (an egg-shaped boxy ellipsoid), along the radius."""
        wide = 1 + np.float32(self.front) * np.clip((y + 5) * np.float32(1 / 60), -1.1, 0.35)
        u = x / (np.float32(self.half_width) * wide)
        v = y * np.float32(1 / self.half_length)
        w = np.where(z > 0, z * np.float32(1 / self.height), z * np.float32(1 / 125))
        u, v, w = u * u, v * v, w * w
        rho = np.sqrt(0.72 * (u + v + w) + 0.28 * np.sqrt(u * u + v * v + w * w)) + np.float32(1e-4)
        return np.sqrt(x * x + y * y + z * z) * (1 / rho - 1)

    @staticmethod
    def floor(ax: Array, y: Array) -> tuple[Array, Array]:
        """Height in mm of the skull base under each point, and how much of it is petrous ridge (0 to 1)."""
        behind = (y - (1 + (ax - 16) * np.float32(0.60))) * np.float32(0.86)  # behind the petrous ridge
        ridge = np.exp(-np.square(behind * np.float32(1 / 8))) * ramp(ax - 17, 8)
        posterior = ramp(behind, 8)
        middle = -41 + 15 * ramp(17 - ax, 8)
        height = middle + posterior * (-66 - middle)
        clivus = np.exp(-np.square((y + 1) * np.float32(1 / 7))) * ramp(15 - ax, 8)
        ridge_top = -27 - np.clip(ax - 50, 0, 20) * np.float32(0.1)
        height = height + ridge * np.maximum(ridge_top - height, 0)
        height = height + clivus * np.maximum(-28 - height, 0)
        roof = -25 + 11 * np.exp(-np.square((ax - 30) * np.float32(1 / 13)) - np.square((y + 58) * np.float32(1 / 18)))
        anterior = ramp(-(y + 33) - np.clip(ax - 20, 0, 30) * np.float32(0.28), 7)
        return height + anterior * (roof - height), ridge

    def tissue(self, x: Array, y: Array, z: Array) -> Tissue:
        """HU, without noise, and distances at points (x, y, z) in mm, arrays of one shape."""
        x, y, z = (np.asarray(axis, np.float32) for axis in (x, y, z))
        hu = np.full(x.shape, -1000, np.float32)
        depth = self.shell(x, y, z)
        ventricle = np.full(x.shape, 99, np.float32)
        csf = np.zeros(x.shape, np.float32)
        temple = np.exp(-np.square((y + 18) / 30) - np.square((z + 25) / 38)) * 11 * ramp(np.abs(x) - 35, 30)
        skin = self.bone + self.scalp + temple
        inside = depth > -skin - 1
        if inside.any():
            parts = self._inside(x[inside], y[inside], z[inside], depth[inside], skin[inside], temple[inside])
            for whole, part in zip((hu, depth, ventricle, csf), parts, strict=True):
                whole[inside] = part
        return Tissue(hu, depth, ventricle, csf)

    def _inside(self, x: Array, y: Array, z: Array, shell: Array, skin: Array, temple: Array) -> tuple[Array, ...]:
        ax = np.abs(x)
        floor, ridge = self.floor(ax, y)
        above = (z - floor) * np.float32(0.8)
        depth = np.minimum(shell, above)
        rough = self.noise(x, y, z, 3.2, 5.0)
        hu = self._outside_brain(Outside(x, ax, y, z, shell, skin, temple, above, ridge, rough))
        ventricle = np.full(x.shape, 99, np.float32)
        csf = np.zeros(x.shape, np.float32)
        brain = depth > -0.6
        if brain.any():
            index = np.nonzero(brain)[0]
            tissue, ventricle[index], csf[index] = self._brain(
                x[index], y[index], z[index], depth[index], shell[index], rough[index]
            )
            hu[index] += ramp(depth[index], 1.2) * (tissue - hu[index])
        return hu, depth, ventricle, csf

    def _outside_brain(self, at: Outside) -> Array:
        """Scalp, vault with diploe, skull base with petrous bone, mastoid cells, orbits and sinuses."""
        ax, y, z, shell, temple, rough = at.ax, at.y, at.z, at.shell, at.temple, at.rough
        outer = shell + at.skin  # inside the skin
        hu = np.where(outer < 2.2, np.float32(25), np.float32(-75) + 12 * rough)
        muscle = ramp(temple - 2.2, 2) * ramp(outer - 4.5, 1.5) + ramp(-34 - z, 6) * ramp(y - 30, 10) * ramp(
            outer - 4, 2
        )
        hu += np.minimum(muscle, 1) * (56 - hu)
        hu += ramp(-outer, 1) * (-1000 - hu)
        # Vault: two tables with diploe between them.
        wall = self.bone * (1 + 0.12 * np.cos(0.04 * y) + 0.02 * rough)
        into = shell + wall
        tables = np.minimum(into, -shell) * (1 / wall)
        bone = 1350 - ramp(tables - 0.33, 0.12) * (620 - 140 * rough)
        vault = ramp(into, 1.0) * ramp(-shell, 1.0)
        face = ramp(-46 - y, 6) * ramp(-17 - z, 5) * ramp(ax - 14, 4) * ramp(45 - ax, 4)
        vault *= 1 - face
        hu += vault * (bone - hu)
        low = np.nonzero((at.above < 1) & (shell > -3 - 12 * face))[0]
        if low.size:
            hu[low] = self._base(hu[low], replace(at, shell=shell + 9 * face).at(low))
        frontal = (
            ramp(-(y + 68), 5) * ramp(15 * self.sinus + 3 * rough - ax, 3) * ramp(-shell - 1.5, 1) * ramp(into - 1.5, 1)
        )
        frontal *= ramp(5 - z, 6)
        return hu + frontal * (-950 - hu)

    def _base(self, hu: Array, at: Outside) -> Array:
        """``hu`` with the skull base, what is below it, and the orbits, inside ``shell``."""
        ax, y, z, shell, above, ridge, rough = at.ax, at.y, at.z, at.shell, at.above, at.ridge, at.rough
        soft = np.where(rough > 0.5, np.float32(-60), np.float32(48))
        thick = 2.6 + 1.6 * ramp(y + 33, 8) + 20 * ridge + 8 * ramp(12 - ax, 5) * ramp(20 - np.abs(y), 8)
        bone = 900 + 250 * rough
        cells = ridge * ramp(ax - 40, 8) * ramp(-above - 3, 2) * ramp(rough - 0.1, 0.5)
        bone += cells * (-700 - bone)
        bone += np.exp(-np.square((ax - 26) / 3.2) - np.square(above + 9)) * (-900) * ridge  # inner ear canal
        under = soft + ramp(above + thick, 1.5) * (bone - soft)
        # Orbits: fat, globes with a lens, muscles as a cone; ethmoid and sphenoid cells between them.
        ox, oy, oz = ax - 31, y + 68, z + 37
        eye = np.sqrt(ox * ox + oy * oy + oz * oz)
        orbit = 18 - np.sqrt(ox * ox + oz * oz) - np.clip(oy, 0, 40) * 0.33
        orbit = np.minimum(orbit, -above - 3)
        cone = np.abs(np.sqrt(ox * ox + oz * oz) - (12.5 - oy * 0.25)) - 1.6
        fat = (
            -85 + ramp(np.minimum(-cone, oy - 3), 1) * 130 + ramp(2 - np.sqrt(ox * ox + oz * oz), 1) * 120 * ramp(oy, 2)
        )
        inside = ramp(orbit, 1.5) * ramp(-(y + 36), 4)
        under += inside * (fat - under)
        under += ramp(12 - eye, 1.0) * (14 - under) + ramp(1.2 - np.abs(eye - 12), 1.0) * 22
        under += ramp(3.4 - np.sqrt(ox * ox + np.square((oy + 9) * 1.6) + oz * oz), 1) * (75 - under)
        air = (
            ramp(8 + 0.09 * np.clip(y + 66, 0, 45) - ax, 2)
            * ramp(-(y + 12), 4)
            * ramp(-above - 3.5, 2)
            * ramp(y + 64, 3)
        )
        septum = (np.abs(np.sin(y * 0.3 + 0.4 * rough)) < 0.12) | (ax < 0.6) | (np.abs(ax - 5.5) < 0.6)
        under += air * (np.where(septum, np.float32(350), np.float32(-930)) - under)
        return hu + ramp(shell + 0.5, 1.5) * ramp(-above, 1.5) * (under - hu)

    def _brain(self, x: Array, y: Array, z: Array, depth: Array, shell: Array, rough: Array) -> tuple[Array, ...]:
        """HU inside the skull, ventricle distance, extraventricular CSF fraction."""
        x = x - np.float32(self.shift) * np.clip(depth * (1 / 40), 0, 1)
        radius = np.sqrt(x * x + y * y + z * z) + 1
        rho = radius / np.maximum(radius + shell, 1)
        wide = self.noise(x, y, z, 11.0, 9.0)
        warp = 3.0 * wide
        fold = self.noise(x / rho * 0.8 + x * 0.2 + warp, y / rho * 0.8 + y * 0.2, z / rho * 0.8 + z * 0.2 - warp, 5.4)
        groove = np.abs(fold) * 4.6  # about the distance in mm to the middle of a sulcus
        cerebellum = ramp(y - 14 - np.abs(x) * 0.3, 6) * ramp(-19 - z - (y - 45) * 0.12, 4)
        groove += cerebellum * (np.abs(np.sin((shell + 0.6 * z + 1.5 * wide) * 0.75)) * 2.6 + 1.1 - groove)
        reach = (15 + 4 * wide) * (1 - 0.75 * cerebellum)
        width = (0.2 + 0.95 * self.atrophy) * np.clip((reach - depth) * 0.16, 0, 1)
        near = 0.6 + 2.4 * self.atrophy + 0.5 * wide
        csf = np.maximum(ramp(near - depth, 1.2), ramp(width - groove, 0.9) * ramp(reach - depth, 3))
        # Grey matter follows the surface and the sulci; nuclei; white matter elsewhere.
        cortex = np.minimum(depth - near, groove - width + np.clip(depth - reach + 2, 0, 50))
        grey = ramp(3.6 + 0.5 * rough - cortex, 1.4)
        ax = np.abs(x)
        for shape in DEEP_GREY:
            grey = np.maximum(grey, ramp(blob(ax, y, z, shape), 2.0))
        stem = blob(ax, y, z, (0, 12, -30, 15, 13, 26))
        grey = np.maximum(grey, 0.55 * ramp(stem, 3))
        # Fissure, falx and sinuses in the midline; cisterns at the base.
        middle = ramp(np.maximum(z - 17 - np.abs(y) * 0.05, np.abs(y + 4) - 47), 4) * ramp(z + 20, 4)
        gap = (0.5 + 1.4 * self.atrophy + 0.6 * wide) * ramp(26 - np.abs(depth - 12), 20) + 0.2
        csf = np.maximum(csf, middle * ramp(gap - ax, 0.9))
        for i, ends in enumerate(CISTERNS):
            side = ax if ends[0][0] or ends[1][0] else x
            size = (0.8 + 0.8 * self.atrophy) if i > 0 else (0.8 + 0.4 * self.atrophy)
            csf = np.maximum(csf, ramp(-capsule(side, y, z, ends, size) + 0.3 * wide, 1.2))
        hu = self.white + grey * np.float32(self.grey - self.white) + 0.6 * rough
        hu += csf * (self.fluid - hu)
        falx = middle * ramp(0.75 - ax, 0.7) * ramp(42 - depth, 6)
        hu += falx * (48 - hu)
        sinus = (
            ramp(4.2 - np.sqrt(ax * ax * 1.1 + np.square(depth - 1.5)), 1.2)
            * ramp(z + 12, 4)
            * ramp(z * 0.6 + y - 12, 6)
        )
        transverse = ramp(3.4 - np.abs(z + 16), 1.2) * ramp(4.5 - depth, 1.2) * ramp(y - 32, 8)
        hu += np.maximum(sinus, transverse) * (54 - hu)
        # Ventricles with a slightly different left and right.
        wall = np.full(x.shape, 99, np.float32)
        size = self.ventricles
        skew = ax * (1 + np.float32(self.asymmetry) * np.tanh(x * 0.2))
        for ends in LATERAL:
            wall = np.minimum(wall, capsule(skew, y, z, ends, size))
        wall = np.maximum(wall, 0.9 - np.abs(x))  # septum pellucidum
        third = np.maximum(
            ax - 1.3 - 2.4 * self.atrophy * min(size, 1.5), np.maximum(np.abs(y - 1) - 13, np.abs(z + 1) - 9)
        )
        fourth = -blob(ax, y, z, (0, 31, -32, 7.5 * min(size, 1.3), 6.0, 9.5))
        wall = np.minimum(np.minimum(wall, third), fourth) + 0.35 * wide
        hu += ramp(-wall, 1.3) * (self.fluid - hu)
        for cx, cy, cz, r, value in self.calcified:
            near_it = np.sqrt(np.square(x - cx) + np.square(y - cy) + np.square(z - cz))
            hu = np.maximum(hu, value * ramp(r + 0.9 * rough - near_it, 1.6))
        return hu, wall.astype(np.float32), csf * (wall > 0)
