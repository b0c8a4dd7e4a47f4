"""The five subtypes of intracranial haemorrhage, grown on distance maps of any head, phantom or real.

A bleed is the set of the n voxels with the smallest value of a growth field, so its volume is exact on the grid it
is drawn on. The field depends on the subtype: distance to a centre (CPH), height above the lowest point of the
ventricles (IVH, blood layers), distance to a centre outside the skull (EDH, a lens), depth under the skull (SDH, a
crescent), and distance along sulci and cisterns (SAH).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from medkit.api import InputError
from medkit_phantoms.noise import SmoothNoise

Array = np.ndarray
SUBTYPES = ("CPH", "IVH", "EDH", "SDH", "SAH")
LARGEST = {"CPH": 150.0, "IVH": 45.0, "EDH": 140.0, "SDH": 150.0, "SAH": 45.0}
"""Largest volume drawn of each subtype, mL."""
SMALLEST = 0.3


@dataclass
class Anatomy:
    """What a bleed has to know about a head; arrays (D,H,W), distances in mm.

    ``x y z`` are head coordinates (0 in the middle of the brain); ``voxel`` is in mm^3, per slice, (D,).
    """

    x: Array
    y: Array
    z: Array
    depth: Array
    ventricle: Array
    csf: Array
    voxel: Array


@dataclass
class Bleed:
    """``mask`` (D,H,W) bool; ``blend`` 0-1 with soft edge; ``rim`` mm outside its edge, roughly; ``hu`` its mean."""

    mask: Array
    blend: Array
    rim: Array
    hu: float
    subtype: str


def grow(field: Array, allowed: Array, volume: float, voxel: Array) -> float:
    """Level of ``field`` under which the allowed voxels make up ``volume`` mm^3 (at least one voxel)."""
    flat = np.nonzero(allowed)
    if flat[0].size == 0:
        raise InputError("there is no room for this bleed in the volume", hint="use more slices or another subtype")
    values = field[flat]
    if np.ptp(voxel) < 1e-6 * voxel[0]:  # equal slices: a partition is enough
        n = int(np.clip(round(volume / float(voxel[0])), 1, values.size))
        return float(np.partition(values, n - 1)[n - 1])
    order = np.argsort(values)
    total = np.cumsum(voxel[flat[0]][order])
    return float(values[order[int(np.clip(np.searchsorted(total, volume), 0, order.size - 1))]])


def centre_of(a: Anatomy, good: Array, rng: np.random.Generator) -> tuple[float, float, float]:
    """A random voxel among the ``good`` ones, as a point in mm."""
    found = np.flatnonzero(good)
    if not found.size:
        found = np.flatnonzero(a.depth > 0.6 * a.depth.max())
    at = found[int(rng.integers(found.size))]
    return float(a.x.flat[at]), float(a.y.flat[at]), float(a.z.flat[at])


def distance(a: Anatomy, point: tuple[float, float, float]) -> Array:
    return np.sqrt(np.square(a.x - point[0]) + np.square(a.y - point[1]) + np.square(a.z - point[2]))


def side_of(rng: np.random.Generator) -> float:
    """The side of a bleed, 1 for the left (+x) or -1: the first number drawn for it."""
    return 1.0 if rng.random() < 0.5 else -1.0


@dataclass
class Site:
    """Where a bleed of ``volume`` mm^3 grows, on one side of the head; draws its noise first."""

    a: Anatomy
    volume: float
    side: float
    rng: np.random.Generator

    def __post_init__(self) -> None:
        self.noise = SmoothNoise(self.rng, 24)
        self.inside = self.a.depth > 0.8
        self.radius = (self.volume * 3 / (4 * np.pi)) ** (1 / 3)  # of a ball of this volume, mm
        self.away = self.a.x * self.side  # mm from the midline, towards the bleed's side

    def roughness(self, wavelength: float) -> Array:
        """Smooth noise (D,H,W) of unit size, ``wavelength`` in mm."""
        return self.noise(self.a.x, self.a.y, self.a.z, wavelength)


Growth = tuple[Array, Array]
"""Growth field (D,H,W), in about mm, and the voxels that a bleed may take."""


def parenchymal(site: Site) -> Growth:
    """CPH: a lumpy ellipsoid in the basal ganglia, a lobe or the cerebellum."""
    a, rng, radius, away = site.a, site.rng, site.radius, site.away
    where = rng.random()
    room = (
        (a.depth > min(4 + 0.75 * radius, 30)) & (a.ventricle > min(1 + 0.4 * radius, 8)) & (a.csf < 0.5) & (away > 4)
    )
    if where < 0.55:  # basal ganglia and thalamus, where hypertension bleeds
        ax = np.abs(a.x)
        good = room & (ax > 8) & (ax < 34) & (np.abs(a.y) < 26) & (np.abs(a.z - 3) < 14)
    elif where < 0.9:
        good = room & (a.z > 5)
    else:
        good = room & (a.z < -20) & (a.y > 15)
    centre = centre_of(a, good, rng)
    stretch = rng.uniform(0.75, 1.3, 3)
    dx, dy, dz = (a.x - centre[0]) / stretch[0], (a.y - centre[1]) / stretch[1], (a.z - centre[2]) / stretch[2]
    field = np.sqrt(dx * dx + dy * dy + dz * dz)
    field += 0.16 * radius * site.roughness(max(radius * 0.55, 3.0))
    # Ventricle and falx yield only to the middle of a large bleed; the tentorium does not.
    field += 0.3 * radius * (a.ventricle < 0.5) + 1.2 * np.clip(1 - away, 0, None)
    above = a.z > -20 if centre[2] > -17 else a.z < -14
    return field, site.inside & (a.depth > 1.5) & above & ((a.ventricle > 0.5) | (radius > 14))


def intraventricular(site: Site) -> Growth:
    """IVH: a level of blood at the back of the ventricles, or a cast of one side."""
    a, rng = site.a, site.rng
    if rng.random() < 0.6:  # a blood-fluid level: the patient lies on his back
        field = -a.y + 0.8 * site.roughness(8.0) + 6 * (site.away < 0) * rng.random()
    else:  # a cast that fills one side first
        field = 0.4 * distance(a, centre_of(a, (a.ventricle < 0) & (site.away > 0), rng)) + site.roughness(8.0)
    return field + 60 * np.clip(a.ventricle + 0.4, 0, None), site.inside & (a.depth > 4) & (a.ventricle < 12)


def epidural(site: Site) -> Growth:
    """EDH: a lens under the skull, part of a ball whose centre is outside."""
    a = site.a
    good = (a.depth > 0.3) & (a.depth < 3) & (site.away > 18) & (a.z > -12) & (a.z < 45)
    p = np.array(centre_of(a, good, site.rng))
    out = p / np.linalg.norm(p * [1, 1, 0.8])
    c = p + out * 0.62 * site.radius
    return distance(a, (c[0], c[1], c[2])) + 0.3 * site.roughness(9.0), site.inside


def subdural(site: Site) -> Growth:
    """SDH: a crescent along the convexity, thick in one direction and tapering away from it."""
    a, rng, volume = site.a, site.rng, site.volume
    turn = rng.uniform(-0.45, 0.35)
    direction = np.array([site.side * np.cos(turn), np.sin(turn), rng.uniform(0.2, 0.6)])
    direction /= np.linalg.norm(direction)
    length = np.sqrt(a.x**2 + a.y**2 + a.z**2) + 1
    angle = np.arccos(np.clip((a.x * direction[0] + a.y * direction[1] + a.z * direction[2]) / length, -1, 1))
    thick = np.clip(1.6 * (volume / 1000) ** 0.45, 1.8, 14)  # mm in the middle
    extent = np.clip(np.sqrt(volume / (1.7 * thick)) / 68, 0.15, 1.25) * rng.uniform(0.9, 1.15)
    taper = np.sqrt(np.clip(1 - (angle / extent) ** 4, 1e-4, None))
    field = (a.depth + 0.4 * site.roughness(12.0)) / taper
    return field, site.inside & (site.away > 2) & (angle < extent + 0.4) & (a.depth < 40) & (a.z > -9)


def subarachnoid(site: Site) -> Growth:
    """SAH: along cisterns and sulci, starting from one place."""
    a, rng = site.a, site.rng
    if rng.random() < 0.5:  # a ruptured aneurysm: suprasellar cistern and Sylvian fissures first
        good = (a.csf > 0.5) & (np.abs(a.x) < 30) & (a.z < 5) & (a.y < 15)
    else:  # trauma: sulci of one convexity
        good = (a.csf > 0.5) & (a.depth > 2) & (a.depth < 15) & (site.away > 20) & (a.z > 0)
    far = distance(a, centre_of(a, good, rng))
    dry = 1 - np.clip(ndimage.gaussian_filter(a.csf, (0, 0.6, 0.6)), 0, 1)
    field = 0.12 * far + 14 * dry + 0.8 * site.roughness(9.0)
    return field, site.inside & (a.ventricle > 1) & (a.depth > 1.5) & (a.depth < 75)


GROWTH: dict[str, Callable[[Site], Growth]] = {
    "CPH": parenchymal,
    "IVH": intraventricular,
    "EDH": epidural,
    "SDH": subdural,
    "SAH": subarachnoid,
}


def growth(a: Anatomy, subtype: str, volume: float, side: float, rng: np.random.Generator) -> Growth:
    """How a bleed of a subtype grows; ``volume`` in mm^3.

    Raises
    ------
    InputError
        for an unknown subtype.
    """
    if subtype not in GROWTH:
        raise InputError(f"'{subtype}' is not a subtype of haemorrhage", hint=f"subtypes: {', '.join(SUBTYPES)}")
    return GROWTH[subtype](Site(a, volume, side, rng))


def draw(a: Anatomy, subtype: str, volume: float, hu: float, side: float, rng: np.random.Generator) -> Bleed:
    """Grow a bleed of ``volume`` mL and mean attenuation ``hu`` into a head, on the ``side`` that :func:`side_of` drew.

    Raises
    ------
    InputError
        If no voxel of the volume could hold it.
    """
    field, allowed = growth(a, subtype, volume * 1000, side, rng)
    level = grow(field, allowed, volume * 1000, a.voxel)
    rim = (field - level).astype(np.float32)
    mask = allowed & (field <= level)
    # Voxels at the edge are partly blood; sharp against bone, since bone keeps its own value.
    blend = ndimage.gaussian_filter(mask.astype(np.float32), (0, 0.6, 0.6))
    blend = np.where(
        mask, np.maximum(blend, np.where(a.depth < 3, 1.0, 0.6)), np.where(a.depth > 0, np.minimum(blend, 0.4), 0)
    ).astype(np.float32)
    return Bleed(mask, blend, rim, hu, subtype)


def paint(image: Array, bleed: Bleed, a: Anatomy, rng: np.random.Generator, oedema: float) -> Array:
    """The image (D,H,W) in HU with the bleed, and perifocal oedema of ``oedema`` mm around a CPH."""
    out = image
    if bleed.subtype == "CPH" and oedema > 0:
        ring = np.clip(1 - bleed.rim / oedema, 0, 1) * (bleed.rim > 0) * (a.depth > 2) * (a.ventricle > 1)
        wet = np.clip(image - np.float32(10), 0, 40) * np.float32(0.42)
        out = out - (ring * wet).astype(np.float32)
    lumps = SmoothNoise(rng, 20)
    inside = np.nonzero(bleed.blend > 0)
    texture = lumps(a.x[inside], a.y[inside], a.z[inside], 4.0) * np.float32(0.035 * bleed.hu)
    if bleed.subtype in ("SDH", "IVH"):  # cells settle: denser at the back
        texture += np.clip(a.y[inside] * 0.06, -4, 4)
    out = out.copy() if out is image else out
    blend = bleed.blend[inside]
    out[inside] += blend * (np.float32(bleed.hu) + texture - out[inside])
    return out


def draw_hu(old: bool, rng: np.random.Generator) -> float:
    """Mean HU of a bleed: 50-80 fresh, 30-44 after one to three weeks."""
    return float(rng.uniform(31, 44) if old else np.clip(rng.normal(66, 7), 50, 80))
