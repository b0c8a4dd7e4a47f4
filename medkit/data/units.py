"""Is this CT in HU? Decided from what a file says and what its voxels hold, never assumed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from medkit.data.air import LOWEST as AIR
from medkit.data.air import has_air
from medkit.data.volume import Units, Volume
from medkit.errors import InputError

SAY_SO = "if these are HU, say so: `units: HU` in the source, or --units HU"
WAYS_OUT = f"`units: stored` in the window accepts any units; {SAY_SO}"


def doubt(voxels: np.ndarray) -> str | None:
    """Why voxels may not be CT in HU, or None: they have to include air."""
    if has_air(voxels):
        return None
    return f"{_range(voxels)}, and there is no air (about -1000) among them"


def doubt_of_ct(voxels: np.ndarray, padded: bool) -> str | None:
    """Why voxels of a DICOM series may not be CT in HU, or None.

    A header that says CT with a rescale is evidence: then voxels may lack air, but not everything below water. Padding
    is no such voxel: it lies below -1024 HU or, where it is declared (``padded``), was read as -1024.
    """
    for image in voxels:  # one slice settles it, so the others need not be read
        low = image[image < 0]
        if (low > AIR).any() or (not padded and (low == AIR).any()):
            return None
    return f"{_range(voxels)}, and apart from padding there is no air, fat or noise below 0"


def _range(voxels: np.ndarray) -> str:
    low, high = (float(voxels.min()), float(voxels.max())) if voxels.size else (0.0, 0.0)
    return f"its values range from {low:.4g} to {high:.4g}"


def establish(volume: Volume, said: Units | None) -> Volume:
    """The volume as read, with the units that the user says it has, if any."""
    if said is None:
        return volume
    if said not in ("HU", "stored"):
        raise InputError(f"units are HU or stored, not '{said}'", "units")
    header = {key: value for key, value in volume.header.items() if key != "not_hu"}
    if said == "stored":
        header["not_hu"] = "it was given with `units: stored`"
    noted = () if volume.units == said else (f"read as {said} values, as requested",)
    return replace(volume, units=said, header=header, notes=(*volume.notes, *noted))


def normalised(low: float, high: float) -> bool:
    """True for voxels in [0, 1], which cannot be HU."""
    return low >= 0 and high <= 1


def require_hu(volume: Volume, what: str, where: str | None = None, hint: str = WAYS_OUT) -> None:
    """Raise unless ``volume`` is CT in HU, as ``what`` needs it; ``where`` is named if it was not read from a file.

    Raises
    ------
    InputError
        naming the file, why these may not be HU, and the keys that allow it.
    """
    why = doubt_of(volume, what, where, hint)
    if why is not None:
        raise _refused(volume, what, why, where, hint)


def doubt_of(volume: Volume, what: str, where: str | None = None, hint: str = WAYS_OUT) -> str | None:
    """Why ``volume`` may not be CT in HU, if nothing settles it, to be reported with every number; or None.

    A NIfTI file does not say its units, and a cropped or skull-stripped scan holds no air: it is read, and the doubt
    reported.

    Raises
    ------
    InputError
        if these are certainly not HU: another modality, a PNG, voxels in [0, 1], ``units: stored``.
    """
    if volume.units == "HU":
        return None
    low, high = (float(volume.voxels.min()), float(volume.voxels.max())) if volume.voxels.size else (0.0, 0.0)
    why = volume.header.get("not_hu")
    if volume.units == "stored" or normalised(low, high):
        raise _refused(volume, what, why or ("its values are in [0, 1]" if volume.units is None else None), where, hint)
    return why or doubt(volume.voxels)


def _refused(volume: Volume, what: str, why: str | None, where: str | None, hint: str) -> InputError:
    found = f"{what} needs CT in HU, which this is not: {why or 'its source says so'}"
    return InputError(found, volume.place or where, hint)
