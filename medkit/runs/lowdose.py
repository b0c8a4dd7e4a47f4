"""``medkit simulate-dose``: a scan in, the same scan at a lower dose out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from medkit.data.dose import UNWINDOWED, Scanner, simulate_low_dose, square_pixel
from medkit.data.io import check_output, read_volume, write_like
from medkit.data.resample import even, resampling
from medkit.data.units import require_hu
from medkit.data.volume import Units
from medkit.engine.progress import Progress
from medkit.errors import InputError


def simulate(
    input: Path,
    output: Path,
    dose: float,
    *,
    seed: int = 0,
    resample: bool = False,
    allow_gaps: bool = False,
    units: Units | None = None,
    **scanner: Any,
) -> str | None:
    """Simulate a lower dose for one DICOM series or NIfTI file and write it in the same format.

    ``resample`` writes NIfTI of uneven or tilted DICOM slices on an even grid (:func:`medkit.data.resample.even`);
    noise is drawn on the true slices before. ``allow_gaps`` and ``units`` are those of
    :func:`medkit.data.io.read_volume`.

    Returns
    -------
    str or None
        In words that and how the scan was resampled, if it was.

    Raises
    ------
    InputError
        for an unreadable or windowed scan, a dose outside (0, 1], or an output that exists or cannot hold the grid.
    """
    settings = Scanner(**scanner)
    if not 0 < dose <= 1:
        raise InputError(f"the dose must lie in (0, 1], not {dose}", "--dose", "0.25 is a quarter of the dose")
    volume = read_volume(input, allow_gaps=allow_gaps, units=units)
    require_hu(volume, "noise insertion", hint=UNWINDOWED)
    check_output(volume, output, resample=resample)
    pixel = square_pixel(volume)
    with Progress() as progress, progress.task("simulating", total=volume.depth) as advance:
        low = simulate_low_dose(volume.voxels, pixel, dose, scanner=settings, seed=seed, progress=advance)
    description = f"low dose {dose:g} simulated, seed {seed}, {settings.kernel} kernel"
    made = even(volume.like(low), nearest=False) if resample else volume.like(low)
    write_like(made, output, kind="image", description=description)
    return resampling(made)
