"""Elements found without pydicom are those that pydicom finds, with the same values, or the file is left to it."""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    RLELossless,
)

from medkit.data.dicom_elements import Elements, find_elements
from medkit.data.dicom_header import read_header
from medkit.data.io import read_volume

PLAIN = (ExplicitVRLittleEndian, ImplicitVRLittleEndian)


def image(syntax: str = ExplicitVRLittleEndian, **tags: Any) -> bytes:
    """A CT slice of 4x4 pixels with values of many kinds, and ``tags``; None takes one away."""
    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = syntax
    data.SpecificCharacterSet, data.PatientName, data.PatientID = "ISO_IR 100", "Müller^Änne", ""
    data.SOPClassUID, data.SOPInstanceUID, data.SeriesInstanceUID = CTImageStorage, "1.2.3.1", "1.2.3.2"
    data.Modality, data.ImageType, data.SeriesDescription = "CT", ["ORIGINAL", "PRIMARY", "AXIAL"], "Schädel 5 mm "
    data.ImagePositionPatient, data.ImageOrientationPatient = [-12.5, -12, 30], [1, 0, 0, 0, 1, 0]
    data.PixelSpacing, data.SliceThickness, data.InstanceNumber = [0.7, 0.7], "5.0", 12
    data.Rows = data.Columns = 4
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 16, 16, 15, 1
    data.PixelPaddingValue = -2000
    data.RescaleSlope, data.RescaleIntercept, data.RescaleType = 1, -1024, "HU"
    step = Dataset()
    step.CodeValue, step.CodeMeaning = "1", "head"
    data.ProcedureCodeSequence = [step]
    data.private_block(0x0009, "A MAKER", create=True).add_new(1, "UN", b"\0" * 40)
    for name, value in tags.items():
        if value is None:
            delattr(data, name)
        else:
            setattr(data, name, value)
    if "PixelData" not in data and "FloatPixelData" not in data:
        data.PixelData = np.arange(16, dtype="<i2").tobytes()
        data["PixelData"].VR = "OW"
    if syntax == RLELossless:
        data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        data.compress(RLELossless)
    content = io.BytesIO()
    data.save_as(content, enforce_file_format=True)
    return content.getvalue()


def found_in(content: bytes) -> Elements | None:
    return find_elements(io.BytesIO(content))


def shown(ask: Any) -> tuple[str, str]:
    """A value with its type, or the kind of error that asking for it raises."""
    try:
        value = ask()
    except Exception as error:
        return "error", type(error).__name__
    return type(value).__name__, repr(value)


def assert_as_pydicom(found: Elements, content: bytes) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        file = io.BytesIO(content)
        data = pydicom.dcmread(file, stop_before_pixels=True)
        assert len(found.head) == file.tell()
        assert found.implicit == (data.file_meta.TransferSyntaxUID == ImplicitVRLittleEndian)
        assert sorted(found.places) == sorted(data.keys())
        for tag in found.places:
            name = pydicom.datadict.keyword_for_tag(tag)
            if name and found.is_plain(tag):
                expected = shown(lambda name=name: data.get(name))
                assert shown(lambda tag=tag: found.value(tag)) == expected, name


@pytest.mark.parametrize("syntax", PLAIN)
@pytest.mark.parametrize("charset", ["ISO_IR 100", "ISO_IR 192", "", None])
@pytest.mark.parametrize("signed", [0, 1])
def test_values_are_those_of_pydicom(syntax: str, charset: str | None, signed: int) -> None:
    name = "Muller" if charset in ("", None) else "Müller"
    tags = {"SpecificCharacterSet": charset, "PatientName": name, "SeriesDescription": name}
    padding = -2000 if signed else 63536
    content = image(syntax, PixelRepresentation=signed, PixelPaddingValue=padding, **tags)
    found = found_in(content)
    assert found is not None
    assert_as_pydicom(found, content)


@pytest.mark.parametrize("syntax", PLAIN)
def test_pixels_behind_a_long_header_are_found(syntax: str) -> None:
    content = image(syntax, RedPaletteColorLookupTableData=bytes(100_000))
    found = found_in(content)
    assert found is not None
    assert_as_pydicom(found, content)


@pytest.mark.parametrize("syntax", PLAIN)
def test_damaged_files_are_as_pydicom_reads_them_or_left_to_it(syntax: str) -> None:
    whole = image(syntax)

    @settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)
    @given(
        st.lists(
            st.tuples(st.integers(132, len(whole) - 1), st.integers(0, 3), st.binary(min_size=0, max_size=12)),
            min_size=1,
            max_size=3,
        )
    )
    def holds(changes: list[tuple[int, int, bytes]]) -> None:
        content = whole
        for at, dropped, put in changes:
            content = content[:at] + put + content[at + dropped :]
        found = found_in(content)
        if found is not None:
            assert_as_pydicom(found, content)

    holds()


@pytest.mark.parametrize("syntax", PLAIN)
def test_every_changed_byte_is_read_as_pydicom_does_or_left_to_it(syntax: str) -> None:
    whole = image(syntax)
    end = whole.index(b"\xe0\x7f\x10\x00") + 12
    for at in range(132, end):
        content = whole[:at] + bytes([whole[at] ^ (1 << at % 8)]) + whole[at + 1 :]
        found = found_in(content)
        if found is not None:
            assert_as_pydicom(found, content)


def _undefined_length() -> bytes:
    data = pydicom.dcmread(io.BytesIO(image()))
    data["ProcedureCodeSequence"].is_undefined_length = True
    content = io.BytesIO()
    data.save_as(content, enforce_file_format=True)
    return content.getvalue()


def _swapped() -> bytes:
    content, first, second = image(), b"\x28\0\x10\0US\2\0", b"\x28\0\x11\0US\2\0"
    return content.replace(first, b"1").replace(second, first).replace(b"1", second, 1)


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(lambda: image(DeflatedExplicitVRLittleEndian), id="deflated"),
        pytest.param(lambda: image(ExplicitVRBigEndian, PixelData=bytes(32)), id="big endian"),
        pytest.param(lambda: image(RLELossless), id="compressed"),
        pytest.param(_undefined_length, id="undefined length"),
        pytest.param(lambda: image(SpecificCharacterSet=["", "ISO 2022 IR 87"]), id="several character sets"),
        pytest.param(lambda: image().replace(b"\x28\0\x10\0US", b"\x28\0\x10\0XX"), id="unknown representation"),
        pytest.param(lambda: image().replace(b"\x28\0\x11\0US", b"\x28\0\x10\0US"), id="a tag twice"),
        pytest.param(lambda: image()[:-50], id="cut short"),
        pytest.param(lambda: image()[:200], id="cut in the middle"),
        pytest.param(lambda: image()[: image().index(b"\xe0\x7f\x10\x00") + 8], id="cut before the pixels' length"),
        pytest.param(lambda: image().replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.77"), id="unknown syntax"),
        pytest.param(lambda: image(RedPaletteColorLookupTableData=bytes(2_000_000)), id="a header of megabytes"),
    ],
)
def test_what_is_unusual_is_left_to_pydicom(content: Any) -> None:
    assert found_in(content()) is None


def test_real_files_are_as_pydicom_reads_them(shared: Path) -> None:
    seen = 0
    for path in sorted((shared / "realdata").rglob("*")):
        if not path.is_file() or path.read_bytes()[128:132] != b"DICM":
            continue
        content = path.read_bytes()
        found = found_in(content)
        if found is not None:
            seen += 1
            assert_as_pydicom(found, content)
    assert seen > 30


def test_a_value_of_a_nested_kind_is_asked_of_pydicom(tmp_path: Path) -> None:
    (tmp_path / "1.dcm").write_bytes(image())
    header = read_header(tmp_path / "1.dcm")
    assert header.elements is not None
    assert header.has("ProcedureCodeSequence")
    assert not header.has("StudyDate")
    assert header.get("ProcedureCodeSequence")[0].CodeMeaning == "head"
    assert header.data.PatientName == "Müller^Änne"


def test_pixels_stored_as_fractions_stay_fractions(tmp_path: Path) -> None:
    wanted = np.arange(16, dtype="<f4").reshape(4, 4) / 8
    tags = dict.fromkeys(["BitsStored", "HighBit", "PixelRepresentation", "PixelPaddingValue"])
    content = image(FloatPixelData=wanted.tobytes(), BitsAllocated=32, Modality="MR", RescaleIntercept=0, **tags)
    (tmp_path / "1.dcm").write_bytes(content)
    assert np.array_equal(read_volume(tmp_path / "1.dcm").voxels[0], wanted)


@pytest.mark.parametrize("syntax", PLAIN)
def test_a_series_is_the_same_whoever_finds_its_elements(
    syntax: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for z in range(3):
        place = {"ImagePositionPatient": [-12.5, -12, 5 * z], "SOPInstanceUID": f"1.2.3.1.{z}", "InstanceNumber": z}
        (tmp_path / f"{z}.dcm").write_bytes(image(syntax, **place))
    found = read_volume(tmp_path)
    monkeypatch.setattr("medkit.data.dicom_header.find_elements", lambda file: None)
    parsed = read_volume(tmp_path)
    assert np.array_equal(found.voxels, parsed.voxels)
    assert np.array_equal(found.affine, parsed.affine)
    assert (found.units, found.header, found.notes) == (parsed.units, parsed.header, parsed.notes)
