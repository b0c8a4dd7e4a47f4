"""The source of head CT phantoms: which patients there are, and their voxels."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from pydantic import Field
from scipy.special import ndtr, ndtri

from medkit.api import Case, InputError, Record
from medkit.data.volume import Volume
from medkit_phantoms import scanner
from medkit_phantoms.anatomy import Head
from medkit_phantoms.bleeds import LARGEST, SMALLEST, SUBTYPES, Anatomy, draw, draw_hu, paint, side_of
from medkit_phantoms.centers import CENTERS, Center

VERSION = 2
"""Part of every identity: raise it whenever the voxels change."""

BODY, LESION, SCAN = 1, 2, 3
"""A case's streams of random numbers."""

BOTTOM, TOP = -46.0, 84.0
"""What a scan covers, mm from the middle of the brain."""
OEDEMA = 2.0, 7.0
"""Least and largest width of the oedema around a bleed in the parenchyma, mm."""
SHIFTING = ("CPH", "EDH", "SDH")
"""Subtypes whose mass pushes the midline away."""


def quantiles(n: int, rng: np.random.Generator) -> np.ndarray:
    """n stratified uniform numbers in random order: even a few patients span the whole range."""
    return rng.permutation((np.arange(n) + rng.random(n)) / max(n, 1))


class HeadCT:
    """Head CT phantoms in HU, half of them with one of five haemorrhage subtypes, from several centres.

    Parameters
    ----------
    patients:
        Cases in all (one per patient); other centres have the share ``external``, and A, the training centre, the rest.
    size:
        Rows and columns of a slice; the field of view is the centre's, so pixels grow as this shrinks.
    seed:
        Seed of everything. The same arguments always give the same voxels, in any order of loading.
    centers:
        Names among A, B, C, D. All but the first appear only in the fold ``test``.
    positive_fraction:
        Share of cases with a bleed, kept in every centre and fold as well as it can be.
    slices:
        At most this many slices per volume; slices become thicker if a centre would take more.
    folds:
        Shares of train, val and test among the first centre's patients.
    hard_negatives:
        Beam hardening and motion; calcifications belong to the anatomy and are always there.
    external:
        Share of the cases that the other centres have together.
    smallest:
        Smallest bleed in mL. A thin subdural is narrower than a pixel when the image is small; raise this there.
    subtypes:
        Masks hold the number of the subtype in place of 1: 1 CPH, 2 IVH, 3 EDH, 4 SDH, 5 SAH.
    """

    notice = "All images are synthetic phantoms: the numbers compare methods and say nothing about patients."

    def __init__(
        self,
        patients: Annotated[int, Field(ge=1)] = 24,
        size: tuple[Annotated[int, Field(ge=32)], Annotated[int, Field(ge=32)]] = (256, 256),
        seed: int = 0,
        centers: tuple[str, ...] = ("A", "B", "C"),
        positive_fraction: Annotated[float, Field(ge=0, le=1)] = 0.5,
        slices: Annotated[int, Field(ge=4)] | None = None,
        folds: tuple[float, float, float] = (0.5, 0.17, 0.33),
        hard_negatives: bool = True,
        external: Annotated[float, Field(ge=0, lt=1)] = 0.4,
        smallest: Annotated[float, Field(ge=SMALLEST, le=40)] = SMALLEST,
        subtypes: bool = False,
    ) -> None:
        unknown = [name for name in centers if name not in CENTERS]
        if unknown or not centers or len(set(centers)) != len(centers):
            raise InputError(f"centers {list(centers)} are not distinct names of centres",
                             hint=f"centres: {', '.join(CENTERS)}")  # fmt: skip
        if min(folds) < 0 or abs(sum(folds) - 1) > 1e-6:
            raise InputError(f"folds {list(folds)} are not shares that add up to 1", hint="e.g. [0.5, 0.17, 0.33]")
        self.patients, self.size, self.seed = patients, (int(size[0]), int(size[1])), seed
        self.centers, self.positive_fraction, self.slices = tuple(centers), positive_fraction, slices
        self.folds, self.hard_negatives = tuple(folds), hard_negatives
        self.external, self.smallest, self.subtypes = external, smallest, subtypes
        self.space = f"phantoms:head_ct {seed}"
        self._cases: list[Case] | None = None

    def cases(self) -> Sequence[Case]:
        """All cases, without generating a voxel; fields: subtype, volume_ml, hu, age."""
        if self._cases is None:
            self._cases = [case for name, n in self._counts().items() for case in self._centre_cases(name, n)]
        return self._cases

    def _counts(self) -> dict[str, int]:
        if len(self.centers) == 1:
            return {self.centers[0]: self.patients}
        first = min(self.patients, max(1, round((1 - self.external) * self.patients)))
        share, extra = divmod(self.patients - first, len(self.centers) - 1)
        return {self.centers[0]: first} | {name: share + (i < extra) for i, name in enumerate(self.centers[1:])}

    def _fold_names(self, n: int) -> list[str]:
        least = 2 if n >= 6 else 1 if n >= 3 else 0
        val, test = (max(least if share else 0, round(share * n)) for share in self.folds[1:])
        test = min(test, n)
        val = min(val, n - test)
        return ["train"] * (n - val - test) + ["val"] * val + ["test"] * test

    def _centre_cases(self, name: str, n: int) -> list[Case]:
        rng = np.random.default_rng([self.seed, ord(name), 0])
        center = CENTERS[name]
        folds = self._fold_names(n) if name == self.centers[0] else ["test"] * n
        labels: list[int] = []
        for fold in dict.fromkeys(folds):
            count = folds.count(fold)
            bleeding = int(count * self.positive_fraction + 0.5)
            labels += [1] * bleeding + [0] * (count - bleeding)
        positives = sum(labels)
        weights = np.cumsum(center.subtypes) / sum(center.subtypes)
        kinds = [SUBTYPES[int(np.searchsorted(weights, q))] for q in quantiles(positives, rng)]
        # Log-normal, cut off below: the quantiles are spread over what is left.
        least = float(ndtr(np.log(self.smallest / center.volume) / center.spread))
        volumes = center.volume * np.exp(center.spread * ndtri(least + (1 - least) * quantiles(positives, rng)))
        old = quantiles(positives, rng) < center.old
        ages = np.clip(center.age + 17 * ndtri(quantiles(n, rng)), 18, 92)
        cases, k = [], 0
        for i, (fold, label) in enumerate(zip(folds, labels, strict=True)):
            fields: dict[str, Any] = {"age": round(float(ages[i]), 1), "subtype": "", "volume_ml": 0.0, "hu": 0.0}
            if label:
                volume = float(np.clip(volumes[k], self.smallest, LARGEST[kinds[k]]))
                fields |= {
                    "subtype": kinds[k],
                    "volume_ml": round(volume, 3),
                    "hu": round(draw_hu(bool(old[k]), rng), 1),
                }
                k += 1
            ident = f"{name}{i:04d}"
            cases.append(Case(ident, ident, name, fold, float(label), fields))
        return cases

    def _arguments(self) -> dict[str, Any]:
        return {"version": VERSION, "patients": self.patients, "size": self.size, "seed": self.seed,
                "centers": self.centers, "positive_fraction": self.positive_fraction, "slices": self.slices,
                "folds": self.folds, "smallest": self.smallest, "hard_negatives": self.hard_negatives}  # fmt: skip

    def identity(self, case: Case) -> str:
        """Hash of the code version, all arguments and the case."""
        numbered = ["subtypes"] if self.subtypes else []
        key = json.dumps([self._arguments(), case.id, dict(case.fields), *numbered], sort_keys=True)
        return "phantoms:head_ct:" + hashlib.sha256(key.encode()).hexdigest()[:24]

    def load(self, case: Case) -> Record:
        """Generate one case: image (D,H,W) float32 in HU and mask uint8."""
        body, lesion, scan = (self._stream(case, number) for number in (BODY, LESION, SCAN))
        center, fields = CENTERS[case.center], case.fields
        subtype, volume = fields["subtype"], float(fields["volume_ml"])
        side = side_of(lesion) if subtype else 0.0
        head = Head(body, float(fields["age"]), midline_shift(subtype, volume, side), ventricles(subtype, volume))
        grid = Grid.of(center, self.size, self.slices, body)
        image, anatomy = voxels(head, grid)
        mask = np.zeros(grid.shape, np.uint8)
        if subtype:
            bleed = draw(anatomy, subtype, volume, float(fields["hu"]), side, lesion)
            image = paint(image, bleed, anatomy, lesion, lesion.uniform(*OEDEMA))
            mask = bleed.mask.astype(np.uint8)
            mask *= SUBTYPES.index(subtype) + 1 if self.subtypes else 1
        image = self._scan(image, anatomy, center, grid.thickness, scan)
        return Record(Volume(image, grid.affine, units="HU"), Volume(mask, grid.affine))

    def _stream(self, case: Case, number: int) -> np.random.Generator:
        """The random numbers of one part of a case, whatever its other parts draw."""
        return np.random.default_rng([self.seed, ord(case.center), int(case.id[1:]), number])

    def _scan(
        self, image: np.ndarray, a: Anatomy, center: Center, thickness: float, rng: np.random.Generator
    ) -> np.ndarray:
        """What the scanner makes of the tissue: blur, artefacts, noise; in HU as they are stored."""
        pixel = center.field / min(self.size)
        amplitude = scanner.kernel(center, self.size, pixel)
        std = scanner.noise_std(center, pixel, thickness)
        strength = rng.uniform(0.3, 1.4)
        moves = set(rng.choice(len(image), 2, replace=False).tolist()) if rng.random() < 0.2 else set()
        for s in range(len(image)):
            slice_ = scanner.sharpen(image[s], center, pixel)
            if self.hard_negatives:
                slice_ = slice_ + scanner.hardening(a.depth[s], image[s] > 400, a.y[s], strength, rng)
                if s in moves:
                    slice_ = scanner.motion(slice_, rng, pixel)
            local = std * (0.55 + 0.5 * np.clip((a.depth[s] + 10) / 50, 0, 1))
            slice_ = slice_ + center.bias + local * scanner.correlated(amplitude, self.size, rng)
            image[s] = np.clip(slice_, -1024, 3071)
        return image


def midline_shift(subtype: str, volume: float, side: float) -> float:
    """mm along x by which a bleed of ``volume`` mL on ``side`` pushes the midline away from it."""
    return min(volume / 12, 8.0) * -side if subtype in SHIFTING else 0.0


def ventricles(subtype: str, volume: float) -> float:
    """How much wider than usual the ventricles are: 60 % with 50 mL of blood inside them."""
    return 1 + 0.012 * volume if subtype == "IVH" else 1.0


@dataclass(frozen=True)
class Grid:
    """Where the voxels of a scan are, and how the head lies in the scanner.

    ``affine`` leads from (slice, row, column) to mm in the scanner; ``rotation`` (3,3) and ``place`` in mm from there
    to the head.
    """

    shape: tuple[int, int, int]
    thickness: float
    affine: np.ndarray
    rotation: np.ndarray
    place: np.ndarray

    @classmethod
    def of(cls, center: Center, size: tuple[int, int], slices: int | None, rng: np.random.Generator) -> Grid:
        """A centre's protocol, in ``slices`` thicker slices where it would take more; the table and the head vary."""
        thickness, tilt = center.thickness, abs(center.tilt)
        cover = TOP - BOTTOM + tilt * 1.2
        depth = int(np.ceil(cover / thickness))
        if slices is not None and depth > slices:
            depth, thickness = slices, cover / slices
        affine = scanner.grid(center, size, depth, thickness, BOTTOM - tilt * 0.6 + rng.uniform(-3, 3))
        rotation = _rotation(rng.normal(0, [3.0, 2.0, 3.5]))
        return cls((depth, *size), thickness, affine, rotation, rng.normal(0, [2.0, 2.0, 1.0]))

    def points(self, s: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """x, y and z of the voxels of slice ``s`` in the head, each (H,W) in mm."""
        across, down, along, origin = (self.affine[:3, axis] for axis in range(4))
        j, i = np.arange(self.shape[1])[:, None], np.arange(self.shape[2])[None]
        p = [across[a] * s + down[a] * j + along[a] * i + origin[a] - self.place[a] for a in range(3)]
        r = self.rotation
        x, y, z = (r[a, 0] * p[0] + r[a, 1] * p[1] + r[a, 2] * p[2] for a in range(3))
        return x, y, z


def voxels(head: Head, grid: Grid) -> tuple[np.ndarray, Anatomy]:
    """The tissue of a head on a grid (D,H,W), in HU, and what a bleed has to know about it.

    Every voxel is the mean of two points a quarter of a slice from its middle: partial volume.
    """
    image = np.empty(grid.shape, np.float32)
    axes = np.empty((3, *grid.shape), np.float32)
    maps = np.empty((3, *grid.shape), np.float32)
    dx, dy, dz = grid.rotation @ (grid.affine[:3, 0] * 0.25)
    for s in range(grid.shape[0]):
        x, y, z = grid.points(s)
        low = head.tissue(x - dx, y - dy, z - dz)
        high = head.tissue(x + dx, y + dy, z + dz)
        axes[:, s] = x, y, z
        image[s] = (low.hu + high.hu) * 0.5
        maps[0, s] = np.minimum(low.depth, high.depth)
        maps[1, s] = (low.ventricle + high.ventricle) * 0.5
        maps[2, s] = (low.csf + high.csf) * 0.5
    voxel = abs(np.linalg.det(grid.affine[:3, :3]))
    return image, Anatomy(*axes, *maps, np.full(grid.shape[0], voxel))


def _rotation(degrees: np.ndarray) -> np.ndarray:
    """Rotation about x, y and z, one after another."""
    a, b, c = np.deg2rad(degrees)
    about_x = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    about_y = np.array([[np.cos(b), 0, np.sin(b)], [0, 1, 0], [-np.sin(b), 0, np.cos(b)]])
    about_z = np.array([[np.cos(c), -np.sin(c), 0], [np.sin(c), np.cos(c), 0], [0, 0, 1]])
    return about_z @ about_y @ about_x
