"""Fixtures shared by all tests."""

from __future__ import annotations

import gc
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from commands import places, start_script

# Jobs of a background shell and of nohup ignore these two, and all that they start would too.
signal.signal(signal.SIGINT, signal.default_int_handler)
if hasattr(signal, "SIGHUP"):
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
for name in [name for name in os.environ if name.startswith("PYTEST_XDIST")]:
    del os.environ[name]  # benchmarks that a test starts would take themselves for a worker's, and not run
os.environ["MEDKIT_LINK"] = "0"  # a stage that is linked would agree with itself in every test of determinism
ROOT = Path(__file__).resolve().parents[1]
GOLDEN = Path(__file__).resolve().parent / "golden"


def pytest_xdist_auto_num_workers() -> int:
    """For ``-n auto``: one more than cores, as a test that waits for its processes leaves a core idle."""
    from medkit.data.processes import default_jobs

    return min(default_jobs() + 1, 8)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if os.environ.get("MEDKIT_NIGHTLY"):
        return
    for item in items:
        if item.get_closest_marker("nightly"):
            item.add_marker(pytest.mark.skip(reason="takes minutes: .ci/nightly runs it (MEDKIT_NIGHTLY=1)"))


def pytest_collection_finish() -> None:
    """Every run collects garbage before it measures memory: among what it has made, not among all tests."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of reference data beside the checkout (``MEDKIT_SHARED`` names another place)."""
    folder = Path(os.environ.get("MEDKIT_SHARED", ROOT.parent / "shared"))
    if not (folder / "golden").is_dir():
        pytest.skip(f"no reference data at {folder}; set MEDKIT_SHARED to a copy")
    return folder


@pytest.fixture(scope="session")
def golden() -> Path:
    """Vendored golden vectors."""
    return GOLDEN


@pytest.fixture(scope="session")
def write_ct() -> Callable[..., None]:
    """``write_ct(folder, hu, name="{i:04d}.dcm")`` writes (D,H,W) HU as a DICOM series; tags come as keywords."""
    import pydicom
    from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

    def write(folder: Path, hu: np.ndarray, name: str = "{i:04d}.dcm", **tags: object) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        series = generate_uid()
        for i, image in enumerate(hu):
            data = pydicom.Dataset()
            data.file_meta = pydicom.dataset.FileMetaDataset()
            data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
            data.SOPClassUID, data.SOPInstanceUID, data.SeriesInstanceUID = CTImageStorage, generate_uid(), series
            data.Modality, data.Manufacturer, data.ConvolutionKernel = "CT", "SIEMENS", "B30f"
            data.InstanceNumber, data.SliceThickness, data.PixelSpacing = i + 1, 3, [0.7, 0.7]
            data.ImagePositionPatient, data.ImageOrientationPatient = [-12, -12, 3.0 * i], [1, 0, 0, 0, 1, 0]
            data.Rows, data.Columns = image.shape
            data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
            data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 16, 12, 11, 0
            data.RescaleSlope, data.RescaleIntercept = 1, -1024
            for key, value in tags.items():
                setattr(data, key, value)
            data.PixelData = np.clip(image + 1024, 0, 4095).astype("<u2").tobytes()
            data["PixelData"].VR = "OW"
            data.save_as(folder / name.format(i=i + 1), enforce_file_format=True)

    return write


@pytest.fixture
def launch_ranks(tmp_path: Path) -> Callable[..., Path]:
    """``launch_ranks(script, *arguments)`` runs a script on ``count`` gloo ranks and returns the folder it was given last.

    A rank that fails ends the others.
    """

    def launch(script: Path, *arguments: str, count: int = 2) -> Path:
        folder = tmp_path / "ranks"
        folder.mkdir()
        ranks = [start_script(script, [*arguments, folder], environ) for environ in places(tmp_path, count)]
        end = time.monotonic() + 600
        while None in [rank.poll() for rank in ranks] and not any(rank.returncode for rank in ranks):
            assert time.monotonic() < end
            time.sleep(0.01)
        failed = [rank for rank in ranks if rank.returncode]
        for rank in ranks:
            rank.kill()
        assert not failed, failed[0].communicate()[1][-4000:]
        return folder

    return launch
