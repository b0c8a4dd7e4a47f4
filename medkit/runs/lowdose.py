"""``medkit simulate-dose``: a scan in, the same scan at a lower dose out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from medkit.data.dose import Scanner, simulate_low_dose
from medkit.data.io import check_output, read_volume, write_like
from medkit.engine.progress import Progress
from medkit.errors import InputError


def simulate(input: Path, output: Path, dose: float, *, seed: int = 0, **scanner: Any) -> None:
    """Simulate a lower dose for one DICOM series or NIfTI file and write it in the same format.

    Raises
    ------
    InputError
        for an unreadable or windowed scan, a dose outside (0, 1], or an output that exists.
    """
    settings = Scanner(**scanner)
    if not 0 < dose <= 1:
        raise InputError(f"the dose must lie in (0, 1], not {dose}", "--dose", "0.25 is a quarter of the dose")
    volume = read_volume(input)
    check_output(volume, output)
    _, down, along = volume.spacing
    if abs(down - along) > 0.01 * along:
        raise InputError(f"pixels of {down:.3f} x {along:.3f} mm are not square", str(input))
    with Progress() as progress, progress.task("simulating", total=volume.depth) as advance:
        low = simulate_low_dose(volume.voxels, along, dose, scanner=settings, seed=seed, progress=advance)
    description = f"low dose {dose:g} simulated, seed {seed}, {settings.kernel} kernel"
    write_like(volume.like(low), output, kind="image", description=description)
