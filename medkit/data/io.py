"""One way in and one way out for images, whatever their format; the format is found by content."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from medkit.data.volume import Volume
from medkit.errors import InputError

LIST = ".txt"  # a text file that lists the files of one series, one a line, relative to itself


def read_volume(path: str | Path) -> Volume:
    """Read a volume: a DICOM folder (or ``FOLDER#SERIES_UID``), a DICOM file, a list of DICOM files, NIfTI or PNG.

    Raises
    ------
    InputError
        naming the file and what is wrong with it.
    """
    from medkit.data import dicom, png

    text = str(path)
    place, _, uid = text.partition("#")
    path = Path(text)
    if uid and not path.exists() and Path(place).is_dir():
        return dicom.read_series(Path(place), uid)
    if path.is_dir():
        return dicom.read_series(path)
    if not path.exists():
        raise InputError("there is no such file or folder", text)
    if path.suffix == LIST:
        files = [path.parent / line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
        missing = [file for file in files if not file.is_file()]
        if missing or not files:
            raise InputError(f"{len(missing)} of {len(files)} listed files do not exist", text)
        return dicom.read_files(files)
    if dicom.is_dicom(path):
        return dicom.read_files([path])
    with path.open("rb") as file:
        head = file.read(348)
    if not head:
        raise InputError("the file is empty", text)
    if head.startswith(png.SIGNATURE):
        return png.read_png(path)
    if head[:2] == b"\x1f\x8b" or head[344:348] in (b"n+1\0", b"ni1\0") or path.name.endswith((".nii", ".nii.gz")):
        from medkit.data.nifti import read_nifti

        return read_nifti(path)
    raise InputError("this is neither DICOM nor NIfTI nor PNG", text)


def check_output(volume: Volume, output: str | Path, *, resample: bool = False) -> None:
    """Say before the work is done that :func:`write_like` would refuse ``output``.

    ``resample`` says that the result will be brought to an even grid (:func:`medkit.data.resample.even`) first.

    Raises
    ------
    InputError
        if ``output`` exists; if it is no NIfTI file and the volume was not read from DICOM, or from DICOM without the
        UIDs that a derived object has to name; or if it is a NIfTI file, which cannot hold the volume's grid.
    """
    from medkit.data.resample import irregular

    output = Path(output)
    if output.exists():
        raise InputError("the output exists", str(output), "name a new one: nothing is overwritten")
    from_dicom = volume.header.get("format") == "dicom"
    if is_nifti_name(output):
        problem = None if resample or volume.header.get("format") == "nifti" else irregular(volume)
        if problem is not None:
            dicom = "name a folder, to get DICOM with every slice in its place, or " if from_dicom else ""
            hint = f"{dicom}give --resample (resample=True), to get an even grid"
            raise InputError(f"{problem}, and NIfTI cannot hold that", str(output), hint)
    elif not from_dicom:
        raise InputError("the input is no DICOM, so the output has to end in .nii or .nii.gz", str(output))
    elif resample:
        hint = "name a file that ends in .nii.gz, or leave --resample out"
        raise InputError("a DICOM series keeps its source's slices and is not resampled", str(output), hint)
    else:
        from medkit.data.dicom_write import check_sources

        check_sources(volume)


def is_nifti_name(output: Path) -> bool:
    return output.name.endswith((".nii", ".nii.gz"))


def write_like(volume: Volume, output: str | Path, *, kind: Literal["mask", "image"], description: str) -> None:
    """Write in the format the volume was read from: a DICOM folder or a NIfTI file.

    ``output`` ending in .nii or .nii.gz is NIfTI whatever was read.

    Raises
    ------
    InputError
        as :func:`check_output`.
    """
    output = Path(output)
    check_output(volume, output)
    if is_nifti_name(output):
        from medkit.data.nifti import write_nifti

        write_nifti(volume, output, kind=kind)
    else:
        from medkit.data.dicom_write import write_series

        write_series(volume, output, kind=kind, description=description)
