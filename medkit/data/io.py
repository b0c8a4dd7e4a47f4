"""One way to read and one to write images, whatever their format, which is found by content."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np

from medkit.data.files import LIST, listed, place
from medkit.data.mend import NOTHING, Mend
from medkit.data.units import establish
from medkit.data.volume import Units, Volume
from medkit.data.whole import check_room
from medkit.errors import InputError, MedkitError, Problems, RunError

GZIP = b"\x1f\x8b"
FILES = (
    ".nii",
    ".gz",
    ".dcm",
    ".ima",
    ".img",
    ".hdr",
    ".nrrd",
    ".nhdr",
    ".mha",
    ".mhd",
    ".png",
    ".zip",
    ".npy",
    ".npz",
)
"""Endings of files that are a mistake for a folder (``.NII.GZ`` too: NIfTI names end in lower case)."""
NIFTI = (b"n+1\0", b"ni1\0")


def read_volume(
    path: str | Path, *, allow_gaps: bool = False, units: Units | None = None, mend: Mend = NOTHING
) -> Volume:
    """Read a volume: a DICOM folder (or ``FOLDER#SERIES_UID``), a DICOM file, a list of DICOM files, NIfTI or PNG.

    Parameters
    ----------
    allow_gaps:
        Read a DICOM series even if slices are missing, interleaved or out of line; each keeps its own position.
    units:
        The voxels' units if the file does not say them: HU or other (stored) ones. Default: what file and voxels say.
    mend:
        What to assume where DICOM headers lack or contradict what reading needs; the volume's notes report it.

    Raises
    ------
    InputError
        naming the file and what is wrong with it. Whatever a file holds, it raises no other error.
    """
    try:
        return establish(_read(str(path), allow_gaps, mend), units)
    except MedkitError as error:
        if error.where is None and not isinstance(error, Problems):
            raise type(error)(error.what, str(path), error.hint) from error
        raise
    except (MemoryError, OverflowError) as error:
        what = "the image is too large for this machine's memory"
        raise InputError(what, str(path), "crop or resample it, or use a larger machine") from error
    except OSError as error:
        raise InputError(f"the file cannot be read ({error.strerror or type(error).__name__})", str(path)) from error
    except Exception as error:
        # Its text may quote the file, and so a patient; its type and the file's name say enough.
        what = f"the file is damaged or of an unknown form ({type(error).__name__})"
        raise InputError(what, str(path), "open and save it again with the program that wrote it") from error


def _read(text: str, allow_gaps: bool, mend: Mend) -> Volume:
    from medkit.data import dicom, png
    from medkit.data.dicom_header import find_header

    path, uid = place(text)
    if uid:
        return dicom.read_series(path, uid, allow_gaps=allow_gaps, mend=mend)
    if path.is_dir():
        return dicom.read_series(path, allow_gaps=allow_gaps, mend=mend)
    if not path.exists():
        raise InputError("there is no such file or folder", text, "check the path")
    if path.suffix == LIST:
        files = listed(path)
        missing = [file for file in files if not file.is_file()]
        if folder := next((file for file in missing if file.is_dir()), None):
            what = f"'{folder}' is a folder, but a list has to name files"
            raise InputError(what, text, "name its files, one per line")
        if missing:
            raise InputError(
                f"{len(missing)} of {len(files)} listed files do not exist, such as {missing[0]}",
                text,
                "paths start at the list's folder",
            )
        return dicom.read_files(files, allow_gaps=allow_gaps, mend=mend)
    with path.open("rb") as file:
        head = file.read(348)
    if not head:
        raise InputError("the file is empty", text, "was it copied completely?")
    if head.startswith(png.SIGNATURE):
        return png.read_png(path)
    if head[:2] == GZIP or head[344:348] in NIFTI or path.name.endswith((".nii", ".nii.gz")):
        from medkit.data.nifti import read_nifti

        return read_nifti(path)
    if find_header(path, mend) is not None:  # raises for a file that lacks DICOM's preamble
        return dicom.read_files([path], allow_gaps=allow_gaps, mend=mend)
    raise InputError("this is neither DICOM nor NIfTI nor PNG", text, _other(head, path))


def _other(head: bytes, path: Path) -> str | None:
    """A hint for an image of a format that is not read."""
    if head.startswith((b"\xff\xd8\xff", b"II*\0", b"MM\0*", b"II+\0", b"MM\0+", b"BM", b"GIF8")):
        return "it is a JPEG, TIFF, BMP or GIF: write it as a grey PNG, or CT slices as NIfTI, keeping their values"
    if head.startswith(b"\x93NUMPY"):
        return "it is a NumPy array: write it as NIfTI with its spacing (nibabel.Nifti1Image(array, affine))"
    if head.startswith((b"\0\0\0\x0cjP", b"\xffO\xffQ")) or head[8:12] in (b"WEBP", b"heic", b"mif1", b"avif"):
        return "it is a JPEG 2000, WebP or HEIF picture: write it as a grey PNG, keeping its values"
    if head[:4] in (b"\x5c\x01\0\0", b"\0\0\x01\x5c") or path.name.lower().endswith(".img"):
        return "it may be Analyze 7.5, which does not tell left from right: convert the original images to NIfTI"
    if path.suffix.lower() in (".nrrd", ".nhdr", ".mha", ".mhd"):
        return "write it as NIfTI (in 3D Slicer or with SimpleITK.WriteImage)"
    return None


def check_output(volume: Volume, output: str | Path, *, resample: bool = False) -> None:
    """Raise, before the work is done, if :func:`write_like` would refuse ``output``.

    ``resample`` says that the result will first be brought to an even grid (:func:`medkit.data.resample.even`).

    Raises
    ------
    InputError
        if ``output`` exists; if it is not a NIfTI file and the volume was not read from DICOM, or from DICOM without
        the UIDs that a derived object has to name; or if it is a NIfTI file, but NIfTI cannot hold the volume's grid.
    """
    from medkit.data.resample import check_resampling, irregular

    output = Path(output)
    if output.exists():
        raise InputError("the output exists already", str(output), "name a new one: nothing is overwritten")
    check_room(output)
    from_dicom = volume.header.get("format") == "dicom"
    if is_nifti_name(output):
        problem = None if resample or volume.header.get("format") == "nifti" else irregular(volume)
        if problem is not None:
            dicom = "name a folder, to get DICOM with every slice in its place, or " if from_dicom else ""
            hint = f"{dicom}give --resample (resample=True), to get an even grid"
            raise InputError(f"{problem}, and NIfTI cannot hold that", str(output), hint)
        if resample:
            check_resampling(volume)
    elif from_dicom and output.suffix.lower() in FILES:
        hint = "name a folder for DICOM, or a file that ends in .nii.gz"
        raise InputError(f"a DICOM series goes into a folder, but this ends in {output.suffix}", str(output), hint)
    elif not from_dicom:
        raise InputError("the input is not DICOM, so the output has to end in .nii or .nii.gz", str(output))
    elif resample:
        hint = "name a file that ends in .nii.gz, or leave out --resample"
        raise InputError("a DICOM series keeps its source's slices and is not resampled", str(output), hint)
    else:
        from medkit.data.dicom_write import check_sources

        check_sources(volume)


def is_nifti_name(output: Path) -> bool:
    return output.name.endswith((".nii", ".nii.gz"))


def write_like(volume: Volume, output: str | Path, *, kind: Literal["mask", "image"], description: str) -> None:
    """Write in the format from which the volume was read: a DICOM folder or a NIfTI file.

    An ``output`` that ends in .nii or .nii.gz is NIfTI whatever was read.

    Raises
    ------
    InputError
        as :func:`check_output`.
    RunError
        if voxels are not finite.
    """
    output = Path(output)
    check_output(volume, output)
    bad = int((~np.isfinite(volume.voxels)).sum()) if volume.voxels.dtype.kind == "f" else 0
    if bad:
        what = f"{bad} voxels of the result are not finite (NaN or infinite): not written"
        raise RunError(what, str(output), "does the input hold such values? If not, the network has diverged")
    if is_nifti_name(output):
        from medkit.data.nifti import write_nifti

        write_nifti(volume, output, kind=kind)
    else:
        from medkit.data.dicom_write import write_series

        write_series(volume, output, kind=kind, description=description)
