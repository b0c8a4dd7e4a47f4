"""Small valid inputs of every kind that medkit reads: what the fuzz tests start from."""

from __future__ import annotations

from pathlib import Path

import cv2
import nibabel
import numpy as np
import pandas
import pydicom
from pydicom.uid import (
    ComputedRadiographyImageStorage,
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    RLELossless,
)

SIZE, SLICES = 24, 4


def head(slices: int = SLICES) -> np.ndarray:
    """(slices, SIZE, SIZE) HU: air around a disc of 35 HU with noise."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:SIZE, :SIZE] - (SIZE - 1) / 2
    hu = np.where(np.hypot(y, x) < SIZE * 0.4, 35.0, -1000.0) + rng.normal(0, 4, (slices, SIZE, SIZE))
    return np.rint(hu).astype(np.int16)


def write_all(folder: Path) -> dict[str, Path]:
    """Write one input of each kind; name to its path."""
    folder.mkdir(parents=True, exist_ok=True)
    found = {}
    for name, syntax in (
        ("explicit", ExplicitVRLittleEndian),
        ("implicit", ImplicitVRLittleEndian),
        ("deflated", DeflatedExplicitVRLittleEndian),
        ("rle", RLELossless),
    ):
        found[f"dicom-{name}"] = _dicom(folder / f"{name}.dcm", syntax)
    found["dicom-radiograph"] = _dicom(folder / "radiograph.dcm", ExplicitVRLittleEndian, radiograph=True)
    affine = np.diag([-0.5, -0.5, 5, 1.0])
    voxels = head().transpose(2, 1, 0)
    for name, data in (("int16.nii", voxels), ("int16.nii.gz", voxels), ("float.nii", voxels.astype(np.float32) + 0.5)):
        nibabel.save(nibabel.Nifti1Image(data, affine), folder / name)
        found[f"nifti-{name}"] = folder / name
    for name, kind in (("png-8", np.uint8), ("png-16", np.uint16)):
        found[name] = folder / f"{name}.png"
        cv2.imwrite(str(found[name]), ((head(1)[0] + 1024) / 16).astype(kind))
    table = pandas.DataFrame(
        {
            "image": ["int16.nii"] * 6,
            "case": [f"c{i}" for i in range(6)],
            "patient": [f"p{i:02d}" for i in range(6)],
            "fold": ["train", "train", "train", "val", "test", "test"],
            "center": ["A", "B"] * 3,
            "sick": ["0", "1"] * 3,
            "age": ["40", "51.5", "62", "7", "80", "33"],
        }
    )
    found["csv"], found["parquet"] = folder / "table.csv", folder / "table.parquet"
    table.to_csv(found["csv"], index=False)
    table.astype({"sick": int, "age": float}).to_parquet(found["parquet"])
    return found


def _dicom(path: Path, syntax: pydicom.uid.UID, radiograph: bool = False) -> Path:
    data = pydicom.Dataset()
    data.file_meta = pydicom.dataset.FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian if syntax == RLELossless else syntax
    data.SOPClassUID = ComputedRadiographyImageStorage if radiograph else CTImageStorage
    data.SOPInstanceUID, data.SeriesInstanceUID, data.StudyInstanceUID = "1.2.3.1", "1.2.3.2", "1.2.3.3"
    data.FrameOfReferenceUID, data.Modality, data.PatientID = "1.2.3.4", "CR" if radiograph else "CT", "P1"
    data.InstanceNumber, data.PixelSpacing, data.ImageType = 1, [0.7, 0.7], ["ORIGINAL", "PRIMARY", "AXIAL"]
    image = head(1)[0].astype(np.int32) + 1024
    data.Rows, data.Columns = image.shape
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 16, 12, 11, 0
    if radiograph:
        data.PhotometricInterpretation, data.PixelPaddingValue = "MONOCHROME1", 4095
        image[:, :4] = 4095
    else:
        data.SliceThickness, data.RescaleSlope, data.RescaleIntercept, data.RescaleType = 3, 1, -1024, "HU"
        data.ImagePositionPatient, data.ImageOrientationPatient = [-12, -12, 30], [1, 0, 0, 0, 1, 0]
    data.PixelData = np.clip(image, 0, 4095).astype("<u2").tobytes()
    data["PixelData"].VR = "OW"
    if syntax == RLELossless:
        data.compress(RLELossless)
    data.save_as(path, enforce_file_format=True)
    return path
