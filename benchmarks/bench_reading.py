"""Reading a DICOM series of CT: medkit against SimpleITK, whose reader is C++ over GDCM.

The series are made here: a head with noise, and headers of 100 tags like those of scanners. medkit looks into every file
of the folder, checks that the slices form one stack, and treats declared padding as air. SimpleITK gets the files in
order; in another variant it finds them in the folder itself, as its users do.

    OMP_NUM_THREADS=1 python benchmarks/bench_reading.py FOLDER...

keeps the medians and the ratios of your own series, by CPU time, over 25 rounds that alternate in one process.
"""

from __future__ import annotations

import importlib.util
import statistics
import tempfile
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from medkit_benchmarks import script
from medkit_benchmarks.bench_data import head
from medkit_benchmarks.kept_table import keep
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

from medkit.bench import Case, Target, Unavailable, Variant, Work
from medkit.bench.ratio import take_turns
from medkit.bench.timing import ratios
from medkit.data.io import read_volume

ROUNDS = 25


def write_series(folder: Path, depth: int, size: int = 512) -> None:
    """A head in 12 bits with an intercept of -1024, one file per slice."""
    for z, hu in enumerate(head(depth, size)):
        data = Dataset()
        data.file_meta = FileMetaDataset()
        data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        data.SpecificCharacterSet, data.Modality, data.PatientID = "ISO_IR 100", "CT", "P1"
        data.SOPClassUID, data.SOPInstanceUID = CTImageStorage, f"1.2.3.4.{z + 1}"
        data.StudyInstanceUID, data.SeriesInstanceUID, data.FrameOfReferenceUID = "1.2.3.1", "1.2.3.2", "1.2.3.3"
        data.ImageType, data.InstanceNumber = ["ORIGINAL", "PRIMARY", "AXIAL"], z + 1
        data.ImagePositionPatient, data.ImageOrientationPatient = [-125, -125, 2.5 * z], [1, 0, 0, 0, 1, 0]
        data.PixelSpacing, data.SliceThickness, data.SliceLocation = [0.48, 0.48], 2.5, 2.5 * z
        data.Rows = data.Columns = size
        data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
        data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 16, 12, 11, 0
        data.RescaleIntercept, data.RescaleSlope, data.RescaleType = -1024, 1, "HU"
        private = data.private_block(0x0019, "MAKER", create=True)
        for i in range(70):
            private.add_new(i, "DS", f"{i * 1.5:.3f}")
        data.PixelData = (hu.astype(np.int32) + 1024).clip(0, 4095).astype("<u2").tobytes()
        data["PixelData"].VR = "OW"
        data.save_as(folder / f"{z:03d}.dcm", enforce_file_format=True)


def medkit(folder: Path) -> Callable[[], np.ndarray]:
    return lambda: read_volume(folder).voxels


def simpleitk(folder: Path, found: bool) -> Callable[[], np.ndarray]:
    """SimpleITK's reader of series; with ``found``, the search for files is not timed."""
    if importlib.util.find_spec("SimpleITK") is None:
        raise Unavailable("SimpleITK is not installed: pip install SimpleITK")
    import SimpleITK

    SimpleITK.ProcessObject.SetGlobalWarningDisplay(False)  # of a tilted gantry, at every reading
    SimpleITK.ProcessObject.SetGlobalDefaultNumberOfThreads(torch.get_num_threads())
    names = SimpleITK.ImageSeriesReader.GetGDCMSeriesFileNames

    def read(files: Any = None) -> np.ndarray:
        reader = SimpleITK.ImageSeriesReader()
        reader.SetFileNames(files or names(str(folder)))
        return np.asarray(SimpleITK.GetArrayFromImage(reader.Execute()))

    return partial(read, names(str(folder))) if found else read


WAYS = {
    "SimpleITK, files given": partial(simpleitk, found=True),
    "SimpleITK, files looked for": partial(simpleitk, found=False),
    "medkit": medkit,
}


def reading(way: str, depth: int, size: int, device: torch.device) -> Callable[[], np.ndarray]:
    folder = tempfile.TemporaryDirectory()
    write_series(Path(folder.name), depth, size)
    read = WAYS[way](Path(folder.name))

    def run() -> np.ndarray:
        assert folder  # kept as long as this function is
        return read()

    return run


def case(depth: int, size: int = 512, target: bool = True, quick: bool = False) -> Case:
    """SimpleITK is the reference if it is installed; otherwise medkit is, and there is no comparison."""
    there = importlib.util.find_spec("SimpleITK") is not None
    names = list(WAYS) if there else ["medkit", *(name for name in WAYS if name != "medkit")]
    return Case(
        f"DICOM series of {depth} slices of {size}x{size}",
        tuple(Variant(name, partial(reading, name, depth, size)) for name in names),
        work=Work(bytes=depth * 4 * size * size),
        targets=(Target("medkit", "speed", 1.0),) if there and target else (),
        quick=quick,
        host=True,
    )


def cases() -> list[Case]:
    return [case(3, 64, target=False, quick=True), case(21), case(40)]


@pytest.mark.parametrize("case", cases(), ids=lambda case: case.name)
def test_reading(case: Case, versus: Callable[[Case], None]) -> None:
    versus(case)


def compare(folder: Path) -> tuple[float, ...]:
    """The median of medkit's CPU time for a series in ms, and those of the rounds' ratios of it to each other way."""
    times = take_turns({name: make(folder) for name, make in WAYS.items()}, rounds=ROUNDS, clock="cpu")
    others = [name for name in WAYS if name != "medkit"]
    found = [statistics.median(ratios(times["medkit"], times[name])) for name in others]
    return 1e3 * statistics.median(times["medkit"]), *found


def main() -> None:
    parser = script.parser(__doc__)
    parser.add_argument("folders", nargs="*", type=Path, metavar="FOLDER", help="a series of your own")
    folders = parser.parse_args().folders
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    rows: list[tuple[object, ...]] = []
    for folder in folders:
        rows.append((folder.name, len(list(folder.glob("*.dcm"))), *compare(folder)))
    with tempfile.TemporaryDirectory() as made:
        write_series(Path(made), 40)
        rows.append(("made here: noise, 100 tags a slice", 40, *compare(Path(made))))
    columns = {"series": "", "slices": "d", "medkit, ms": ".1f"}
    columns |= {f"medkit / {name}": ".2f" for name in WAYS if name != "medkit"}
    keep("reading", columns, rows, f"CPU time of a series of 512x512, medians of {ROUNDS} rounds.")


if __name__ == "__main__":
    main()
