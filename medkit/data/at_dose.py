"""Scans of a source as they would be at a lower dose, optionally denoised."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Protocol

import numpy as np

from medkit.data.dose import UNWINDOWED, Scanner, simulate_low_dose, square_pixel
from medkit.data.units import require_hu
from medkit.data.volume import Volume
from medkit.errors import InputError
from medkit.protocols import Case, Record, Source


class Denoiser(Protocol):
    """Denoises scans in HU; ``identity`` differs whenever its results may."""

    @property
    def identity(self) -> str: ...

    def denoise(self, scan: Volume) -> Volume:
        """The denoised scan, on the same grid and in the same units."""
        ...


class AtDose:
    """Every scan of another source with the noise of a lower dose; masks, labels and targets are unchanged.

    At dose 1 a scan is unchanged unless it is denoised. The noise of a case depends only on the seed and its id.

    Parameters
    ----------
    source:
        Where scans come from, in HU, not windowed.
    dose:
        Fraction of the scans' own dose, in (0, 1].
    scanner:
        Beam, detector and kernel of the noise.
    seed:
        For the noise.
    denoiser:
        Denoises every scan, whatever its dose; None: no denoising.
    """

    def __init__(
        self, source: Source, dose: float, scanner: Scanner, seed: int = 0, denoiser: Denoiser | None = None
    ) -> None:
        self.source, self.dose, self.scanner, self.seed, self.denoiser = source, dose, scanner, seed, denoiser

    def __getattr__(self, name: str) -> Any:
        """Anything else that the source offers, such as groups of cases, which have masks, where they are listed."""
        if name == "source" or name.startswith("__"):
            raise AttributeError(name)
        return getattr(self.source, name)

    def cases(self) -> Sequence[Case]:
        return self.source.cases()

    def load(self, case: Case) -> Record:
        record = self.source.load(case)
        scan = record.image
        if record.channels:
            what = f"case '{case.id}' has {1 + len(record.channels)} images, but noise is inserted into one CT scan"
            raise InputError(what, scan.place, "name one image column in the source")
        if self.dose < 1:
            require_hu(scan, "noise insertion", f"case '{case.id}'", UNWINDOWED)
            seed = zlib.crc32(f"{self.seed}/{case.id}".encode())
            full = np.rint(scan.voxels).astype(np.float32)
            low = simulate_low_dose(full, square_pixel(scan), self.dose, scanner=self.scanner, seed=seed)
            scan = scan.like(low)
        if self.denoiser is not None:
            scan = self.denoiser.denoise(scan)
        return replace(record, image=scan)

    def identity(self, case: Case) -> str:
        # Noise is drawn by the case's id: a file that is listed twice has two draws.
        own = "" if self.dose == 1 else f"at dose {self.dose!r} of {self.scanner!r}, seed {self.seed}/{case.id}, "
        own += "" if self.denoiser is None else f"denoised by {self.denoiser.identity}, "
        return f"{own}{self.source.identity(case)}"
