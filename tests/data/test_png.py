"""PNG radiographs: grey ones are read as they are, everything doubtful is an error that names the file."""

from __future__ import annotations

import re
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from medkit.data.dataset import Dataset
from medkit.data.io import read_volume
from medkit.data.loader import Loader
from medkit.data.png import read_colours
from medkit.data.sampler import Sampler
from medkit.data.source import ManifestSource
from medkit.errors import InputError


def write(path: Path, image: np.ndarray) -> Path:
    path.write_bytes(cv2.imencode(".png", image)[1].tobytes())
    return path


def test_colours_are_channels_if_wanted(tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 255, (6, 8, 3)).astype(np.uint8)
    write(tmp_path / "a.png", image)  # blue, green, red, as OpenCV has them
    (tmp_path / "cases.csv").write_text("patient,image\np,a.png\n")
    source = ManifestSource(tmp_path / "cases.csv", colour=True)
    dataset = Dataset(source, {"train": {}})
    found = dataset.sample(dataset.cases("train")[0]).image
    np.testing.assert_array_equal(found[0], image.transpose(2, 0, 1)[::-1])
    assert source.channels == 3


@pytest.mark.parametrize(("dtype", "top"), [(np.uint8, 255), (np.uint16, 4095), (np.uint16, 65535)])
def test_grey_values_are_those_of_the_file(tmp_path: Path, dtype: type, top: int) -> None:
    image = np.linspace(0, top, 12 * 9).reshape(12, 9).astype(dtype)
    volume = read_volume(write(tmp_path / "a.png", image))
    assert np.array_equal(volume.voxels, image[None])
    assert volume.voxels.dtype == (np.int16 if top < 32768 else np.float32)


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_greys_of_few_bits_reach_from_0_to_255(tmp_path: Path, bits: int) -> None:
    stored = np.arange(5 * 11).reshape(5, 11) % 2**bits
    path, wanted = packed(tmp_path / "a.png", stored, bits), stored * (255 // (2**bits - 1))
    assert np.array_equal(read_volume(path).voxels[0], wanted)
    assert all(np.array_equal(channel.voxels[0], wanted) for channel in read_colours(path))


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_a_palette_of_greys_stands_for_its_greys_and_one_of_colours_is_refused(tmp_path: Path, bits: int) -> None:
    stored = np.arange(32).reshape(4, 8) % 2
    path = packed(tmp_path / "grey.png", stored, bits, bytes([7, 7, 7, 90, 90, 90]))
    assert np.array_equal(read_volume(path).voxels[0], np.where(stored, 90, 7))
    path = packed(tmp_path / "colour.png", stored, bits, bytes([0, 0, 0, 255, 0, 0]))
    with pytest.raises(InputError, match=r"colour image.*their numbers, not colours of a palette"):
        read_volume(path)


def packed(path: Path, stored: np.ndarray, bits: int, palette: bytes = b"") -> Path:
    """A PNG file of 1, 2, 4 or 8 bits, which OpenCV cannot write."""
    rows = np.unpackbits(stored.astype(np.uint8)[..., None], axis=-1)[..., 8 - bits :].reshape(len(stored), -1)
    raw = b"".join(b"\0" + np.packbits(row).tobytes() for row in rows)
    head = struct.pack(">IIBBBBB", stored.shape[1], stored.shape[0], bits, 3 if palette else 0, 0, 0, 0)
    chunks = [
        (b"IHDR", head),
        *([(b"PLTE", palette)] if palette else []),
        (b"IDAT", zlib.compress(raw)),
        (b"IEND", b""),
    ]
    made = [struct.pack(">I", len(c)) + kind + c + struct.pack(">I", zlib.crc32(kind + c)) for kind, c in chunks]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(made))
    return path


def test_three_equal_channels_are_one_grey_image(tmp_path: Path) -> None:
    image = np.arange(48, dtype=np.uint8).reshape(6, 8)
    volume = read_volume(write(tmp_path / "a.png", np.stack([image] * 3, -1)))
    assert np.array_equal(volume.voxels[0], image)


def test_an_opaque_alpha_channel_does_not_matter(tmp_path: Path) -> None:
    image = np.arange(48, dtype=np.uint8).reshape(6, 8)
    volume = read_volume(write(tmp_path / "a.png", np.stack([image] * 3 + [np.full_like(image, 255)], -1)))
    assert np.array_equal(volume.voxels[0], image)


def test_a_colour_image_is_refused(tmp_path: Path) -> None:
    image = np.zeros((6, 8, 3), np.uint8)
    image[2, 3, 1] = 1
    path = write(tmp_path / "colour.png", image)
    with pytest.raises(InputError, match=re.escape(f"{path}: this is a colour image")):
        read_volume(path)


def test_a_transparent_image_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.png", np.zeros((6, 8, 4), np.uint8))
    with pytest.raises(InputError, match="partly transparent"):
        read_volume(path)


def test_an_empty_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "empty.png"
    path.touch()
    with pytest.raises(InputError, match=re.escape(f"{path}: the file is empty")):
        read_volume(path)


@pytest.mark.parametrize("share", [0.3, 0.9, 0.999])
def test_a_cut_file_is_an_error_not_a_half_black_image(tmp_path: Path, share: float) -> None:
    rng = np.random.default_rng(0)
    data = write(tmp_path / "a.png", rng.integers(0, 255, (64, 64)).astype(np.uint8)).read_bytes()
    (tmp_path / "cut.png").write_bytes(data[: int(len(data) * share)])
    with pytest.raises(InputError, match="cut short"):
        read_volume(tmp_path / "cut.png")


def test_a_damaged_file_is_an_error(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    path = write(tmp_path / "a.png", rng.integers(0, 255, (64, 64)).astype(np.uint8))
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(bytes(data))
    with pytest.raises(InputError, match="checksum of the PNG chunk 'IDAT' is wrong"):
        read_volume(path)


def test_a_file_that_is_no_image_says_what_can_be_read(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_text("not an image")
    with pytest.raises(InputError, match="neither DICOM nor NIfTI nor PNG"):
        read_volume(path)


def test_a_manifest_of_png_files_is_a_source(tmp_path: Path) -> None:
    write(tmp_path / "a.png", np.arange(48, dtype=np.uint8).reshape(6, 8))
    (tmp_path / "list.csv").write_text("image,patient,age,sex\na.png,p1,131.5,1\n")
    source = ManifestSource(str(tmp_path / "list.csv"), label="age")
    case = source.cases()[0]
    assert case.label == 131.5
    assert source.load(case).image.voxels.shape == (1, 6, 8)


def test_numbers_of_a_csv_file_can_be_fields_of_batches(tmp_path: Path) -> None:
    write(tmp_path / "a.png", np.arange(48, dtype=np.uint8).reshape(6, 8))
    write(tmp_path / "b.png", np.arange(48, dtype=np.uint8).reshape(6, 8))
    (tmp_path / "list.csv").write_text("image,patient,age,sex\na.png,p1,131.5,1\nb.png,p2,90,0\n")
    source = ManifestSource(str(tmp_path / "list.csv"), label="age")
    dataset = Dataset(source, {"train": {}}, fields=("sex",))
    batch = next(iter(Loader(dataset, dataset.cases("train"), Sampler(2, 2, seed=0)).epoch(0)))
    assert sorted(batch["sex"].tolist()) == [0.0, 1.0]


def test_cases_without_sex_are_named(tmp_path: Path) -> None:
    write(tmp_path / "a.png", np.zeros((6, 8), np.uint8))
    write(tmp_path / "b.png", np.ones((6, 8), np.uint8))
    (tmp_path / "list.csv").write_text("image,patient,sex\na.png,p1,\nb.png,p2,M\n")
    with pytest.raises(InputError, match=r"a\.png' has no number in field 'sex'; nor have 1 others: .*b\.png"):
        Dataset(ManifestSource(str(tmp_path / "list.csv")), {"train": {}}, fields=("sex",))


def test_real_chest_radiographs_are_read(shared: Path) -> None:
    for name in ("00000001_000.png", "00027426_000.png"):
        volume = read_volume(shared / "realdata" / "cxr_nih" / name)
        assert volume.voxels.shape == (1, 512, 512)
        assert volume.voxels.max() > 200


def test_an_animated_image_is_refused(tmp_path: Path) -> None:
    first, second = (Image.fromarray(np.full((8, 6), grey, np.uint8)) for grey in (10, 20))
    first.save(tmp_path / "a.png", save_all=True, append_images=[second])
    with pytest.raises(InputError, match=r"a\.png: this PNG image is animated"):
        read_volume(tmp_path / "a.png")


def test_an_image_that_viewers_turn_is_read_as_stored_and_told(tmp_path: Path) -> None:
    grey = np.arange(48, dtype=np.uint8).reshape(8, 6)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(grey).save(tmp_path / "a.png", exif=exif)
    with pytest.warns(UserWarning, match=r"a\.png: read as stored, but viewers turn it \(EXIF orientation 6\)"):
        assert np.array_equal(read_volume(tmp_path / "a.png").voxels[0], grey)
