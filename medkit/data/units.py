"""Is this CT in HU? Established from what a file says and what its voxels hold, never assumed."""

from __future__ import annotations

from dataclasses import replace

from medkit.data.volume import Units, Volume
from medkit.errors import InputError

AIR = -500.0
"""HU below which a voxel is air. Every whole CT has air around the patient."""
WAYS_OUT = (
    "`units: stored` of the window takes any units; if these are HU all the same, say so: "
    "`units: HU` of the source, or --units HU"
)


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


def require_hu(volume: Volume, what: str, where: str | None = None, hint: str = WAYS_OUT) -> None:
    """Raise unless ``volume`` is CT in HU; ``what`` needs it to be. ``where`` is named if it was not read from a file.

    Raises
    ------
    InputError
        naming the file, what speaks against HU, and the keys that allow it.
    """
    if volume.units == "HU":
        return
    why = volume.header.get("not_hu")
    if volume.units is None:
        why = doubt(float(volume.voxels.min()), float(volume.voxels.max())) if volume.voxels.size else None
        if why is None:
            return
    raise InputError(
        f"{what} needs CT in HU, and this is none: {why or 'its source says so'}", volume.place or where, hint
    )
