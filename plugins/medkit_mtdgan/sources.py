"""Pairs of low- and normal-dose scans, made by physical noise insertion."""

from __future__ import annotations

import functools
import hashlib
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from medkit.api import Case, InputError, Record, Slot
from medkit.data.dose_match import Match, match_of
from medkit.data.ledger import space_of_scan
from medkit.data.volume import Volume

VERSION = 2
PHOTONS = 2e6
Dose = Annotated[float, Field(gt=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]
NoiseHU = Annotated[float, Field(ge=0.5)]
RegionText = Annotated[str, Field(pattern=r"^(hu|disc|box)=[-+.,:e0-9]+$")]


@dataclass(frozen=True)
class Insertion:
    """How much noise is inserted, and from what scanner."""

    dose: float
    photons: float
    electronic: float
    kernel: Any
    modulation: float = 0.0
    match: Match | None = None

    @property
    def identity(self) -> tuple[Any, ...]:
        more = () if self.modulation == 0 and self.match is None else (self.modulation, self.match)
        return (self.dose, self.photons, self.electronic, self.kernel, *more)

    @property
    def scanner(self) -> Any:
        from medkit.data.dose import Scanner

        return Scanner(self.photons, self.electronic, kernel=self.kernel, modulation=self.modulation)


class LowDose:
    """Every scan of another source, paired with itself at a lower dose: the image is the low dose, the target the scan.

    Noise is inserted in the projection domain (``medkit.data.dose``); the target keeps its own voxels, rounded to whole
    HU like the image, so that pixels without noise are equal.

    Parameters
    ----------
    source:
        Where scans come from, in HU, unwindowed.
    dose:
        Fraction of the scan's dose.
    photons:
        Photons per ray in air at full dose; default: 2e6.
    electronic:
        Electronic noise, in photons.
    kernel:
        Reconstruction kernel that colours the noise.
    seed:
        A case's noise depends on the seed and the case's id.
    modulation:
        Strength of the angular modulation of the tube current, from 0 (none) to 1.
    match_hu:
        Noise in HU that the dose should add in the region, instead of ``photons``.
    region:
        ``hu=LOW:HIGH`` (default ``hu=10:70``), ``disc=ROW,COLUMN,RADIUS_MM`` or ``box=TOP:BOTTOM,LEFT:RIGHT``.
    each_slice:
        Match every slice separately; otherwise the scan as a whole.
    """

    notice = "Low-dose images are simulated by noise insertion."

    def __init__(
        self,
        source: Annotated[Any, Slot("source")],
        dose: Dose = 0.25,
        photons: Positive | None = None,
        electronic: NotNegative = 5.0,
        kernel: Literal["soft", "sharp", "ramp"] = "soft",
        seed: int = 0,
        modulation: Share = 0.0,
        match_hu: NoiseHU | None = None,
        region: RegionText | None = None,
        each_slice: bool = False,
    ) -> None:
        self.source, self.seed = source, seed
        match = match_of(match_hu, region, each_slice, photons)
        self.noise = Insertion(dose, photons or PHOTONS, electronic, kernel, modulation, match)

    def cases(self) -> Sequence[Case]:
        return self.source.cases()

    def load(self, case: Case) -> Record:
        return pair(self.source.load(case).image, self.noise, _seed(self.seed, case.id))

    def identity(self, case: Case) -> str:
        settings = (VERSION, *self.noise.identity, self.seed, case.id)  # noise is drawn by the case's id
        return f"low_dose {settings} of {self.source.identity(case)}"


class LowDoseScan:
    """One real CT scan and low-dose versions of it, cut into blocks of slices for training, validation and testing.

    All cases show one patient, in blocks of slices that do not touch. Numbers show that the method works on real
    voxels, on slices it was not trained on, and say nothing about other patients. Each slice of the test block is a
    case and counts as a patient of its own, so that there are intervals; these describe slices of this scan.

    Parameters
    ----------
    path:
        DICOM folder or NIfTI file, in HU.
    dose:
        Fraction of the scan's dose.
    repeats:
        Noise realisations of the training block.
    shares:
        Fractions of the slices for train, val and test, from the first slice on; one slice between blocks is left out.
    photons:
        Photons per ray in air at full dose; default: 2e6.
    electronic:
        Electronic noise, in photons.
    kernel:
        Reconstruction kernel that colours the noise.
    seed:
        Seed of the noise.
    modulation:
        Strength of the angular modulation of the tube current, from 0 (none) to 1.
    match_hu:
        Noise in HU that the dose should add in the region, instead of ``photons``.
    region:
        ``hu=LOW:HIGH`` (default ``hu=10:70``), ``disc=ROW,COLUMN,RADIUS_MM`` or ``box=TOP:BOTTOM,LEFT:RIGHT``.
    each_slice:
        Match every slice separately; otherwise the scan as a whole.
    """

    notice = (
        "All cases are slices of one real scan, and low-dose images are simulated by noise insertion: the numbers show "
        "how the method works on real voxels and say nothing about other patients. Intervals are over slices."
    )

    def __init__(
        self,
        path: Path,
        dose: Dose = 0.25,
        repeats: Annotated[int, Field(gt=0)] = 4,
        shares: tuple[float, float, float] = (0.6, 0.1, 0.3),
        photons: Positive | None = None,
        electronic: NotNegative = 5.0,
        kernel: Literal["soft", "sharp", "ramp"] = "soft",
        seed: int = 0,
        modulation: Share = 0.0,
        match_hu: NoiseHU | None = None,
        region: RegionText | None = None,
        each_slice: bool = False,
    ) -> None:
        if abs(sum(shares) - 1) > 1e-6 or min(shares) <= 0:
            raise InputError(f"shares {list(shares)} do not add up to 1")
        self.path, self.repeats, self.shares, self.seed = path, repeats, shares, seed
        match = match_of(match_hu, region, each_slice, photons)
        self.noise = Insertion(dose, photons or PHOTONS, electronic, kernel, modulation, match)
        self._scan: Volume | None = None

    def cases(self) -> Sequence[Case]:
        """Repeats of the training block, the validation block, and each slice of the test block."""
        found = [Case(f"train{i}", "train block", "scan", "train", fields={"repeat": i}) for i in range(self.repeats)]
        found.append(Case("val0", "val block", "scan", "val", fields={"repeat": 0}))
        for z in range(*self.block("test").indices(self.scan().depth)):
            found.append(Case(f"slice{z}", f"slice {z}", "scan", "test", fields={"repeat": 0}))
        return found

    @property
    def space(self) -> str:
        """The scan."""
        return space_of_scan(self.scan().voxels)

    def person(self, case: Case) -> str:
        """The one patient that every case shows."""
        return "the patient of the scan"

    def scan(self) -> Volume:
        from medkit.data.io import read_volume

        if self._scan is None:
            self._scan = read_volume(self.path)
            if self._scan.depth < 8:
                raise InputError(f"{self._scan.depth} slices are too few for three blocks", str(self.path))
        return self._scan

    def block(self, fold: str) -> slice:
        """The slices of a fold."""
        depth = self.scan().depth
        edges = np.rint(np.cumsum((0.0, *self.shares)) * depth).astype(int)
        index = ("train", "val", "test").index(fold)
        # The slice at a border shares structures with both sides, so the later block starts one slice further.
        return slice(int(edges[index]) + (index > 0), int(max(edges[index + 1], edges[index] + 2)))

    def load(self, case: Case) -> Record:
        from medkit.data.dose import square_pixel

        scan, part = self.scan(), self.block(case.fold)
        square_pixel(scan)  # here, where the file is known
        if case.fold == "test":
            z = int(case.id.removeprefix("slice"))
            part = slice(z, z + 1)
        affine = scan.affine.copy()
        affine[:3, 3] += affine[:3, 0] * part.start
        positions = None if scan.positions is None else scan.positions[part]
        block = replace(scan, voxels=scan.voxels[part], affine=affine, positions=positions, header={})
        photons = None if self._photons is None else self._photons[part]
        return pair(block, self.noise, _seed(self.seed, case.id), photons)

    @functools.cached_property
    def _photons(self) -> np.ndarray | None:
        """Noise matched on the whole scan, so that all blocks have the same scanner."""
        return _matched(self.scan(), self.noise)

    def identity(self, case: Case) -> str:
        settings = (VERSION, *self.noise.identity, self.seed, self.shares, case.id)
        return f"low_dose_scan {settings} of {self._voxels}"

    @functools.cached_property
    def _voxels(self) -> str:
        """Digest of the scan's voxels, which are read once."""
        return hashlib.blake2b(np.ascontiguousarray(self.scan().voxels), digest_size=16).hexdigest()


def pair(scan: Volume, noise: Insertion, seed: int, photons: np.ndarray | None = None) -> Record:
    """A scan and its low-dose version on the same grid; ``photons`` of each slice are matched here if not given."""
    from medkit.data.dose import UNWINDOWED, simulate_low_dose, square_pixel
    from medkit.data.units import require_hu

    require_hu(scan, "noise insertion", hint=UNWINDOWED)
    pixel = square_pixel(scan)
    full = np.rint(scan.voxels).astype(np.float32)
    photons = _matched(scan.like(full), noise) if photons is None else photons
    low = simulate_low_dose(full, pixel, noise.dose, scanner=noise.scanner, photons=photons, seed=seed)
    return Record(scan.like(low), target=scan.like(full))


def _matched(scan: Volume, noise: Insertion) -> np.ndarray | None:
    from medkit.data.dose_photons import photons_for

    return None if noise.match is None else photons_for(scan, noise.dose, noise.match, noise.scanner)


def _seed(seed: int, name: str) -> int:
    return zlib.crc32(f"{seed}/{name}".encode())
