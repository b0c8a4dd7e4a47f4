"""Derived DICOM objects are no worse than their sources, as the field's validators see it (dicom3tools, DCMTK)."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom import uid
from pydicom.dataset import Dataset, FileMetaDataset

from medkit.data.io import read_volume, write_like

pytestmark = pytest.mark.skipif(
    not (shutil.which("dciodvfy") and shutil.which("dcmftest")),
    reason="dciodvfy and dcmftest are not installed (apt-get install dicom3tools dcmtk)",
)
REAL = ("head_ct_ge_tilt", "phantom_ct_philips_tilt", "ct_transfer_syntaxes/jpeg_ll_sv1.dcm")
PLANE = {
    "ImagePositionPatient": [-12, -12, 0],
    "ImageOrientationPatient": [1, 0, 0, 0, 1, 0],
    "PixelSpacing": [0.5, 0.5],
    "SliceThickness": 5,
    "FrameOfReferenceUID": "1.2.3.4",
    "PositionReferenceIndicator": "",
    "PatientPosition": "HFS",
}


def code(value: str, scheme: str, meaning: str) -> Dataset:
    made = Dataset()
    made.CodeValue, made.CodingSchemeDesignator, made.CodeMeaning = value, scheme, meaning
    return made


def base(sop_class: str, modality: str, image: np.ndarray, **tags: object) -> Dataset:
    """An image that dciodvfy takes for whole."""
    made = Dataset()
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian
    made.SOPClassUID, made.Modality = sop_class, modality
    for name in ("SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID"):
        setattr(made, name, uid.generate_uid())
    made.PatientName, made.PatientID, made.PatientBirthDate, made.PatientSex = "Test^A", "P1", "", ""
    made.StudyDate, made.StudyTime, made.StudyID, made.AccessionNumber = "20200101", "101010", "1", ""
    made.ReferringPhysicianName, made.SeriesNumber, made.InstanceNumber, made.Laterality = "", 2, 1, "L"
    made.Manufacturer, made.SoftwareVersions, made.DeviceSerialNumber = "MAKER", "1", "9"
    made.ImageType, made.PatientOrientation = ["ORIGINAL", "PRIMARY", "AXIAL"], ["L", "P"]
    made.Rows, made.Columns = image.shape
    made.SamplesPerPixel, made.PhotometricInterpretation = 1, "MONOCHROME2"
    bits = 8 * image.dtype.itemsize
    made.BitsAllocated, made.BitsStored, made.HighBit = bits, bits, bits - 1
    made.PixelRepresentation = int(image.dtype.kind == "i")
    made.AcquisitionDate = made.ContentDate = made.SeriesDate = "20200101"
    made.AcquisitionTime = made.ContentTime = "101010"
    for name, value in tags.items():
        setattr(made, name, value)
    made.PixelData = image.tobytes()
    made["PixelData"].VR = "OW" if bits > 8 else "OB"
    return made


def ct(image: np.ndarray) -> Dataset:
    rescale = {"RescaleSlope": "1", "RescaleIntercept": "-1024"}
    return base(uid.CTImageStorage, "CT", image, **PLANE, **rescale, KVP="120", AcquisitionNumber="1")


def mr(image: np.ndarray) -> Dataset:
    sequence = {"ScanningSequence": "SE", "SequenceVariant": "NONE", "ScanOptions": "", "MRAcquisitionType": "2D"}
    times = {"EchoTime": "10", "EchoTrainLength": "1", "RepetitionTime": "500"}
    return base(uid.MRImageStorage, "MR", image.astype("<i2"), **PLANE, **sequence, **times)


def cr(image: np.ndarray) -> Dataset:
    found = {"BodyPartExamined": "CHEST", "ViewPosition": "PA", "PhotometricInterpretation": "MONOCHROME1"}
    return base(uid.ComputedRadiographyImageStorage, "CR", image, **found)


def dx(image: np.ndarray) -> Dataset:
    made = base(uid.DigitalXRayImageStorageForPresentation, "DX", image, PhotometricInterpretation="MONOCHROME1")
    made.PresentationIntentType, made.ImageType = "FOR PRESENTATION", ["ORIGINAL", "PRIMARY", ""]
    made.RescaleSlope, made.RescaleIntercept, made.RescaleType = "1", "0", "US"
    made.PresentationLUTShape, made.PixelIntensityRelationship = "INVERSE", "LOG"
    made.PixelIntensityRelationshipSign, made.BurnedInAnnotation, made.LossyImageCompression = 1, "NO", "00"
    made.ImagerPixelSpacing, made.ImageLaterality, made.DetectorType = [0.14, 0.14], "U", "DIRECT"
    made.PositionerType, made.WindowCenter, made.WindowWidth = "", "1000", "2000"
    made.BodyPartExamined, made.BitsStored, made.HighBit = "CHEST", 12, 11
    made.AnatomicRegionSequence = [code("51185008", "SCT", "Chest")]
    made.ViewCodeSequence = [code("399348003", "SCT", "antero-posterior")]
    made.ViewCodeSequence[0].ViewModifierCodeSequence = []
    made.PatientOrientation, made.AcquisitionContextSequence = ["L", "F"], []
    return made


def sc(image: np.ndarray) -> Dataset:
    tags = {"ConversionType": "WSD", "ImageType": ["ORIGINAL", "SECONDARY"]}
    return base(uid.SecondaryCaptureImageStorage, "OT", (image // 16).astype("u1"), **tags)


def errors(file: Path) -> set[str]:
    said = subprocess.run(["dciodvfy", str(file)], capture_output=True, text=True, check=False)
    return {line for line in (said.stdout + said.stderr).splitlines() if line.startswith("Error")}


def new_errors(source: Path, folder: Path) -> dict[str, set[str]]:
    """Errors that derived masks and images have and their source does not."""
    volume = read_volume(source)
    before = errors(Path(volume.header["files"][0]))
    results = {
        "mask": (volume.voxels > volume.voxels.mean()).astype(np.uint8),
        "image": volume.voxels + np.float32(3.3),
        "untouched": volume.voxels,
    }
    found = {}
    for name, voxels in results.items():
        kind = "mask" if name == "mask" else "image"
        write_like(volume.like(voxels), folder / name, kind=kind, description=f"{name}: test")
        for file in sorted((folder / name).iterdir())[:2]:
            found[f"{name}/{file.name}"] = errors(file) - before
            said = subprocess.run(["dcmftest", str(file)], capture_output=True, text=True, check=False)
            assert said.stdout.startswith("yes:")
    first = pydicom.dcmread(volume.header["files"][0])
    again = pydicom.dcmread(folder / "untouched" / "0001.dcm")
    if "ModalityLUTSequence" not in first:
        assert np.array_equal(again.pixel_array, first.pixel_array)
    return {name: what for name, what in found.items() if what}


@pytest.mark.parametrize("kind", [ct, mr, cr, dx, sc])
def test_derived_objects_have_no_error_that_their_source_has_not(kind, tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    image = np.random.default_rng(0).integers(0, 2000, (16, 16)).astype("<u2")
    kind(image).save_as(tmp_path / "source" / "1.dcm", enforce_file_format=True)
    assert new_errors(tmp_path / "source", tmp_path) == {}


@pytest.mark.parametrize("source", REAL)
def test_objects_derived_from_real_scans_have_no_new_error(source: str, shared: Path, tmp_path: Path) -> None:
    assert new_errors(shared / "realdata" / source, tmp_path) == {}
