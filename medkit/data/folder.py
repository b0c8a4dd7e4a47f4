"""A folder of images as a source: each image is a case."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from medkit.data.files import LIST, stamp
from medkit.data.io import read_volume
from medkit.data.volume import Units
from medkit.errors import InputError
from medkit.protocols import Case, Record

IMAGES = (".nii", ".nii.gz", ".png", LIST)
"""Endings of files that are one case each; a subfolder is a DICOM series."""


class FolderSource:
    """Cases of a folder without a manifest: every NIfTI file, PNG and subfolder of DICOM slices is one.

    A folder that holds DICOM slices itself is one case. Cases are named like their files and folders; whose images
    these are is not known, so each case is a patient of its own.

    Raises
    ------
    InputError
        if there is no such folder, or no image in it.
    """

    def __init__(self, path: Path, allow_gaps: bool = False, units: Units | None = None) -> None:
        self.path, self.allow_gaps, self.units = Path(path), allow_gaps, units
        if not self.path.is_dir():
            raise InputError("there is no such folder", str(path), "check the path")
        items = [item for item in sorted(self.path.iterdir()) if not item.name.startswith(".")]
        found = [item for item in items if item.is_dir() or item.name.lower().endswith(IMAGES)]
        if not found and items:
            found = [self.path]  # slices of one series
        if not found:
            raise InputError("there is no image in this folder", str(path), "NIfTI, PNG, or folders of DICOM slices")
        self._places = {item.name: item for item in found}

    def cases(self) -> Sequence[Case]:
        return [Case(name, name) for name in self._places]

    def load(self, case: Case) -> Record:
        return Record(read_volume(self._places[case.id], allow_gaps=self.allow_gaps, units=self.units))

    def identity(self, case: Case) -> str:
        return f"{stamp(self._places[case.id])} {self.allow_gaps} {self.units}"
