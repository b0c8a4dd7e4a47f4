"""Is this CT in HU? Established from what a file says and what its voxels hold, never assumed."""

from __future__ import annotations

from dataclasses import replace

from medkit.data.volume import Units, Volume
from medkit.errors import InputError

AIR = -500.0
"""HU below which a voxel is air. Every whole CT has air around the patient."""
SAY_SO = "if these are HU, say so: `units: HU` of the source, or --units HU"
WAYS_OUT = f"`units: stored` of the window takes any units; {SAY_SO}"


def doubt(low: float, high: float, *, header_says_ct: bool = False) -> str | None:
    """What speaks against voxels from ``low`` to ``high`` being CT in HU, or None.

    A header that says CT with a rescale is evidence: voxels may lack air then, but not everything below water.
    """
    found = f"its values lie from {low:.4g} to {high:.4g}"
    if header_says_ct:
        return f"{found}, so there is no air, fat or noise below 0" if low >= 0 else None
    return f"{found}, so there is no air (about -1000)" if low > AIR else None


def establish(volume: Volume, said: Units | None) -> Volume:
    """The volume as read, with what the user says about its units where he says something."""
    if said is None:
        return volume
    if said not in ("HU", "stored"):
        raise InputError(f"units are HU or stored, not '{said}'")
    header = {key: value for key, value in volume.header.items() if key != "not_hu"}
    if said == "stored":
        header["not_hu"] = "`units: stored` was said of it"
    noted = () if volume.units == said else (f"taken for {said} values, as was said",)
    return replace(volume, units=said, header=header, notes=(*volume.notes, *noted))


def normalised(low: float, high: float) -> bool:
    """True for voxels that lie in [0, 1], which are no HU whatever they show."""
    return low >= 0 and high <= 1


def require_hu(volume: Volume, what: str, where: str | None = None, hint: str = WAYS_OUT) -> None:
    """Raise unless ``volume`` is CT in HU; ``what`` needs it to be. ``where`` is named if it was not read from a file.

    Raises
    ------
    InputError
        naming the file, what speaks against HU, and the keys that allow it.
    """
    why = doubt_of(volume, what, where, hint)
    if why is not None:
        raise _refused(volume, what, why, where, hint)


def doubt_of(volume: Volume, what: str, where: str | None = None, hint: str = WAYS_OUT) -> str | None:
    """What speaks against ``volume`` being CT in HU where nothing settles it, to be told beside every number; or None.

    A NIfTI file says nothing of its units, and a scan that was cropped or stripped of the skull holds no air: it is
    read, and told.

    Raises
    ------
    InputError
        where it is settled that these are no HU: another modality, a PNG, voxels in [0, 1], ``units: stored``.
    """
    if volume.units == "HU":
        return None
    low, high = (float(volume.voxels.min()), float(volume.voxels.max())) if volume.voxels.size else (0.0, 0.0)
    why = volume.header.get("not_hu")
    if volume.units == "stored" or normalised(low, high):
        raise _refused(volume, what, why or ("they lie in [0, 1]" if volume.units is None else None), where, hint)
    return why or doubt(low, high)


def _refused(volume: Volume, what: str, why: str | None, where: str | None, hint: str) -> InputError:
    found = f"{what} needs CT in HU, and this is none: {why or 'its source says so'}"
    return InputError(found, volume.place or where, hint)
