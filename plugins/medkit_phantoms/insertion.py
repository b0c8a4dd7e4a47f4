"""The source of bleeds inserted into one real head CT."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

import cv2
import numpy as np
from pydantic import Field
from scipy.special import ndtri

from medkit.api import Case, InputError, Record
from medkit.data.files import stamp
from medkit.data.ledger import space_of_scan
from medkit.data.volume import Volume
from medkit_phantoms.bleeds import SMALLEST, SUBTYPES, Anatomy, draw, draw_hu, paint, side_of
from medkit_phantoms.segment import anatomy_of, positions
from medkit_phantoms.source import quantiles

VERSION = 1
SHARE = {"CPH": 0.10, "IVH": 0.012, "EDH": 0.09, "SDH": 0.09, "SAH": 0.03}
"""Largest bleed as a share of the intracranial volume that the scan covers."""


class InsertedBleeds:
    """Lesions drawn into one real head CT (DICOM folder or NIfTI file); every case shares that one head.

    Cases differ in lesion, mirroring and added noise, never in anatomy, so scores show how a pipeline
    works on real voxels and say nothing about other patients. With ``split: blocks`` train and val use the lower slices
    and test the upper ones, so at least no tested slice was trained on; with ``split: whole`` every case has all
    slices and test cases share them with training.

    Parameters
    ----------
    path:
        Folder with one DICOM series, or a NIfTI file, in HU.
    cases:
        Number of cases, half of them with a bleed.
    split:
        ``blocks`` or ``whole``, see above.
    block:
        Share of the slices, from below, that train and val use; one slice at the border is left out.
    mirror:
        Whether half of the cases are mirrored left to right.
    noise:
        Std in HU of white noise, blurred to the scan's own grain, added on top of the scan's noise.
    scale:
        ``hu``, or ``cormack`` for templates of the clinical toolbox, converted to HU.
    """

    notice = (
        "Lesions in these images are synthetic and inserted into one real head. The numbers show how the method works "
        "on real voxels; they say nothing about patients."
    )

    def __init__(
        self,
        path: Path,
        cases: Annotated[int, Field(ge=1)] = 24,
        seed: int = 0,
        split: Literal["blocks", "whole"] = "blocks",
        block: Annotated[float, Field(gt=0.2, lt=0.8)] = 0.6,
        mirror: bool = True,
        noise: Annotated[float, Field(ge=0)] = 1.0,
        positive_fraction: Annotated[float, Field(ge=0, le=1)] = 0.5,
        scale: Literal["hu", "cormack"] = "hu",
    ) -> None:
        self.path, self.count, self.seed, self.split = Path(path), cases, seed, split
        self.block, self.mirror, self.noise = block, mirror, noise
        self.positive_fraction, self.scale = positive_fraction, scale
        self._cases: list[Case] | None = None
        self._head: Volume | None = None
        self._space = ""
        self._anatomy: dict[str, tuple[Volume, Anatomy, float]] = {}

    def cases(self) -> Sequence[Case]:
        """All cases, each a separate patient although all are one head; fields: subtype, volume_ml, hu, mirrored."""
        if self._cases is not None:
            return self._cases
        if not self.path.exists():
            raise InputError("no such file or folder", str(self.path), "give a DICOM folder or a NIfTI file")
        rng = np.random.default_rng([self.seed, 77, 0])
        n = self.count
        least = 2 if n >= 6 else 1 if n >= 3 else 0
        val, test = max(least, round(0.17 * n)), max(least, round(0.33 * n))
        out: list[Case] = []
        for fold, count in (("train", n - val - test), ("val", val), ("test", test)):
            bleeding = int(count * self.positive_fraction + 0.5)
            kinds = [self._kinds(fold)[int(q * len(self._kinds(fold)))] for q in quantiles(bleeding, rng)]
            volumes = 8 * np.exp(1.1 * ndtri(quantiles(bleeding, rng)))
            old = quantiles(bleeding, rng) < 0.15
            mirrored = quantiles(count, rng) < (0.5 if self.mirror else 0)
            for i in range(count):
                fields: dict[str, Any] = {"subtype": "", "volume_ml": 0.0, "hu": 0.0, "mirrored": bool(mirrored[i])}
                if i < bleeding:
                    volume = float(np.clip(volumes[i], SMALLEST, self._largest(fold, kinds[i])))
                    fields |= {"subtype": kinds[i], "volume_ml": round(volume, 3),
                               "hu": round(draw_hu(bool(old[i]), rng), 1)}  # fmt: skip
                ident = f"R{len(out):04d}"
                out.append(Case(ident, ident, "real", fold, float(i < bleeding), fields))
        self._cases = out
        return out

    @property
    def space(self) -> str:
        """The scan."""
        self._whole()
        return self._space

    def person(self, case: Case) -> str:
        """The one patient that every case shows."""
        return "the patient of the scan"

    def load(self, case: Case) -> Record:
        """Image (D,H,W) float32 in HU and mask uint8 on the scan's grid, or on that of the case's block of slices."""
        volume, anatomy, grain = self._part(case.fold)
        rng = np.random.default_rng([self.seed, 77, int(case.id[1:]) + 1])
        image = volume.voxels
        mask = np.zeros(image.shape, np.uint8)
        mirrored = bool(case.fields["mirrored"])
        if case.fields["subtype"]:
            fields = case.fields
            bleed = draw(anatomy, fields["subtype"], fields["volume_ml"], fields["hu"], side_of(rng), rng)
            painted = paint(image, bleed, anatomy, rng, rng.uniform(2, 6))
            # The scan's own noise stays on top of the bleed: what is finer than 1.5 mm is kept.
            sigma = 1.5 / volume.spacing[2]
            fine = np.stack([s - cv2.GaussianBlur(s, (0, 0), sigma) for s in image])
            within = (bleed.blend > 0) & (anatomy.depth > 1)
            painted[within] += (bleed.blend * np.clip(fine, -3 * grain, 3 * grain))[within]
            image, mask = painted, bleed.mask.astype(np.uint8)
        else:
            image = image.copy()
        image = self._vary(image, volume, rng)
        if mirrored:
            image, mask = image[:, :, ::-1], mask[:, :, ::-1]
        return Record(volume.like(np.ascontiguousarray(image)), volume.like(np.ascontiguousarray(mask)))

    def identity(self, case: Case) -> str:
        """Hash of the code version, the arguments, the case, and names, sizes and times of the scan's files."""
        key = json.dumps([VERSION, self.count, self.seed, self.split, self.block, self.mirror, self.noise,
                          self.positive_fraction, self.scale, case.id, case.fold, dict(case.fields), stamp(self.path)],
                         sort_keys=True)  # fmt: skip
        return "phantoms:inserted_bleeds:" + hashlib.sha256(key.encode()).hexdigest()[:24]

    def _vary(self, image: np.ndarray, volume: Volume, rng: np.random.Generator) -> np.ndarray:
        """Another noise realisation inside the patient; nothing in the air, where padding must stay padding."""
        if self.noise:
            for s in range(len(image)):
                white = rng.standard_normal(image[s].shape, dtype=np.float32)
                white = cv2.GaussianBlur(white, (0, 0), 0.45 / volume.spacing[2])
                white *= self.noise / max(float(white.std()), 1e-6)
                image[s] += white * (image[s] > -300)
        return image

    def _whole(self) -> Volume:
        """The scan as float32 HU."""
        if self._head is None:
            volume = read_scan(self.path)
            self._space = space_of_scan(volume.voxels)
            hu = np.asarray(volume.voxels, np.float32)
            if self.scale == "cormack":
                # 0-900 is HU + 1000, 900-3100 stretches the next 200 HU elevenfold, the rest follows 1:1.
                hu = np.where(hu < 900, hu, np.where(hu < 3100, 900 + (hu - 900) / 11, hu - 2000)) - np.float32(1024)
                volume = replace(volume, units="HU")
            self._head = volume.like(hu.astype(np.float32))
        return self._head

    def _part(self, fold: str) -> tuple[Volume, Anatomy, float]:
        """Slices of a fold, their anatomy, and the scan's noise std in HU in the brain."""
        part = "upper" if self.split == "blocks" and fold == "test" else "lower" if self.split == "blocks" else "whole"
        if part not in self._anatomy:
            whole = self._whole()
            if "whole" not in self._anatomy:
                anatomy = anatomy_of(whole)
                sigma = 1.0 / whole.spacing[2]
                fine = np.concatenate(
                    [
                        (image - cv2.GaussianBlur(image, (0, 0), sigma))[depth > 8]
                        for image, depth in zip(whole.voxels, anatomy.depth, strict=True)
                    ]
                )
                grain = float(np.median(np.abs(fine)) * 1.48) if fine.size else 3.0
                self._anatomy["whole"] = whole, anatomy, grain
            whole, a, grain = self._anatomy["whole"]
            if part != "whole":
                # Slices with brain in them count; the border slice belongs to neither block.
                cut = round(self.block * whole.depth)
                up = positions(whole)[-1, 2] > positions(whole)[0, 2]
                low, high = slice(0, cut), slice(cut + 1, None)
                if not up:
                    low, high = slice(whole.depth - cut, None), slice(0, whole.depth - cut - 1)
                rows = low if part == "lower" else high
                self._anatomy[part] = subvolume(whole, rows), Anatomy(
                    a.x[rows], a.y[rows], a.z[rows], a.depth[rows], a.ventricle[rows], a.csf[rows], a.voxel[rows]
                ), grain  # fmt: skip
        return self._anatomy[part]

    def _room(self, fold: str) -> dict[str, float]:
        """mL of the scan that each subtype may take in a fold's slices."""
        _, a, _ = self._part(fold)
        voxel = a.voxel[:, None, None]
        brain = float(((a.depth > 0) * voxel).sum()) / 1000
        room = {kind: brain * share for kind, share in SHARE.items()}
        room["IVH"] = 0.8 * float(((a.ventricle < 0) * voxel).sum()) / 1000
        room["SAH"] = 0.6 * float(((a.csf > 0.5) * voxel).sum()) / 1000
        return room

    def _kinds(self, fold: str) -> list[str]:
        """Subtypes with room for at least the smallest bleed."""
        room = self._room(fold)
        return [kind for kind in SUBTYPES if room[kind] > 2 * SMALLEST]

    def _largest(self, fold: str, kind: str) -> float:
        return max(SMALLEST, self._room(fold)[kind])


def subvolume(volume: Volume, rows: slice) -> Volume:
    """Some neighbouring slices of a volume, in their place; the header is not carried over."""
    place = positions(volume)[rows]
    affine = volume.affine.copy()
    affine[:3, 3] = place[0]
    if len(place) > 1:
        affine[:3, 0] = (place[-1] - place[0]) / (len(place) - 1)
    return Volume(volume.voxels[rows], affine, place if volume.positions is not None else None, units=volume.units)


def read_scan(path: Path) -> Volume:
    """Read a DICOM folder or a NIfTI file with the core's readers."""
    if not path.exists():
        raise InputError("no such file or folder", str(path), "give a DICOM folder or a NIfTI file")
    from medkit.data.io import read_volume

    return read_volume(path)
