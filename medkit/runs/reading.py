"""What is known about an image that a finished run is applied to, besides what its file says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from medkit.data.volume import Units, Volume


@dataclass(frozen=True)
class Reading:
    """How an image is read, and what is known about it.

    Parameters
    ----------
    fields:
        What a head needs besides the image, such as ``{"sex": 1}``.
    allow_gaps, units:
        As in :func:`medkit.data.io.read_volume`.
    """

    fields: Mapping[str, float] = field(default_factory=dict)
    allow_gaps: bool = False
    units: Units | None = None

    def volume(self, path: str | Path) -> Volume:
        """The image in a DICOM folder or file, a NIfTI file or a PNG."""
        from medkit.data.io import read_volume

        return read_volume(Path(path), allow_gaps=self.allow_gaps, units=self.units)
