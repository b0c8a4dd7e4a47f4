"""``medkit simulate-dose``: a scan in, the same scan at a lower dose out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from medkit.data.dose import UNWINDOWED, Scanner, simulate_low_dose, square_pixel
from medkit.data.dose_match import Match
from medkit.data.dose_photons import photons_for
from medkit.data.io import check_output, read_volume, write_like
from medkit.data.resample import even, resampling
from medkit.data.units import require_hu
from medkit.engine.progress import Progress
from medkit.errors import InputError

STANDARD = Scanner()


def simulate(
    input: Path,
    output: Path,
    dose: float,
    *,
    scanner: Scanner = STANDARD,
    match: Match | None = None,
    seed: int = 0,
    resample: bool = False,
    **reading: Any,
) -> tuple[str, ...]:
    """Simulate a lower dose for one DICOM series or NIfTI file and write it in the same format.

    Photons, noise and kernel are those of ``scanner``; ``match`` finds the photons that add the wanted noise.
    ``resample`` writes uneven or tilted DICOM slices as NIfTI on an even grid (:func:`medkit.data.resample.even`);
    noise is drawn on the true slices before that. ``reading`` is for :func:`medkit.data.io.read_volume`.

    Returns
    -------
    tuple of str
        In words: the photons that were found, and whether and how the scan was resampled.

    Raises
    ------
    InputError
        for an unreadable or windowed scan, a dose outside (0, 1], noise that cannot be matched, or an output that
        exists or cannot hold the grid.
    """
    if not 0 < dose <= 1:
        raise InputError(f"the dose must lie in (0, 1], not {dose}", "--dose", "0.25 is a quarter of the dose")
    volume = read_volume(input, **reading)
    require_hu(volume, "noise insertion", hint=UNWINDOWED)
    check_output(volume, output, resample=resample)
    pixel = square_pixel(volume)
    told = [f"low dose {dose:g} simulated", f"seed {seed}", f"{scanner.kernel} kernel"]
    said, photons = [], None
    if match is not None:
        photons = photons_for(volume, dose, match, scanner)
        said.append(match.found(photons))
        told.append(f"{match.hu:g} HU in {match.region}")
    if scanner.modulation:
        told.append(f"modulation {scanner.modulation:g}")
    with Progress() as progress, progress.task("simulating", total=volume.depth) as advance:
        low = simulate_low_dose(
            volume.voxels, pixel, dose, scanner=scanner, photons=photons, seed=seed, progress=advance
        )
    made = even(volume.like(low), nearest=False) if resample else volume.like(low)
    write_like(made, output, kind="image", description=", ".join(told))
    how = resampling(made)
    return tuple(said) if how is None else (*said, how)
