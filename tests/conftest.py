"""Fixtures shared by all tests."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[1]
GOLDEN = Path(__file__).resolve().parent / "golden"


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
