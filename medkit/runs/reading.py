"""What is known about an image that a finished run is applied to, besides what its file says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from medkit.data.mend import NOTHING, Mend
from medkit.data.volume import Units, Volume
from medkit.protocols import Record

Images = str | Path | Sequence[str | Path]
"""A DICOM folder or file, a NIfTI file or a PNG; or several, which are channels of one case."""


@dataclass(frozen=True)
class Reading:
    """How an image is read, and what is known about it.

    Parameters
    ----------
    fields:
        What a head needs besides the image, such as ``{"sex": 1}``.
    allow_gaps, units, mend:
        As in :func:`medkit.data.io.read_volume`.
    """

    fields: Mapping[str, float] = field(default_factory=dict)
    allow_gaps: bool = False
    units: Units | None = None
    mend: Mend = NOTHING

    def record(self, images: Images) -> Record:
        """A case of one image, or of several on one grid."""
        first, *others = (self._volume(path) for path in paths_of(images))
        return Record(first, channels=others)

    def _volume(self, path: Path) -> Volume:
        from medkit.data.io import read_volume

        return read_volume(path, allow_gaps=self.allow_gaps, units=self.units, mend=self.mend)


def paths_of(images: Images) -> list[Path]:
    """The images of a case as paths, one or several."""
    return [Path(images)] if isinstance(images, str | Path) else [Path(path) for path in images]
