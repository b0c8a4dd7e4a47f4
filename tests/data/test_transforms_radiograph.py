"""Preparation of radiographs against the published chain, and its rules for awkward images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from medkit.data.io import read_volume
from medkit.data.transforms import CLAHE, MinMax, prepare, restore
from medkit.data.transforms_radiograph import ClipPercentiles, PadResize

OFFICIAL = [ClipPercentiles(stretch=False), PadResize(official_order=True), MinMax(), CLAHE(), MinMax()]
OURS = [ClipPercentiles(), PadResize((128, 128)), CLAHE()]


@pytest.fixture(scope="module")
def published(golden: Path) -> dict[str, np.ndarray]:
    with np.load(golden / "pedxnet_preprocess.npz") as file:
        return {name: file[name] for name in file.files}


@pytest.mark.parametrize(
    ("steps", "key", "tolerance"),
    [
        (2, "after_clip_pad_resize_512_every4", 2.0),
        (3, "after_minmax_every4", 1e-4),
        (5, "final_every4", 2 / 255),
    ],
)
def test_the_official_order_gives_the_published_numbers(
    published: dict[str, np.ndarray], steps: int, key: str, tolerance: float
) -> None:
    found = prepare(OFFICIAL[:steps], {"image": published["in"][None]})[0]["image"][0, ::4, ::4]
    np.testing.assert_allclose(found, published[key], rtol=1e-4, atol=tolerance)


def test_clahe_of_the_official_chain_is_the_published_one(published: dict[str, np.ndarray]) -> None:
    found = prepare(OFFICIAL[:4], {"image": published["in"][None]})[0]["image"][0, ::2, ::2]
    np.testing.assert_allclose(np.rint(found * 255), published["after_clahe_uint8"], atol=2)


def test_percentiles_are_those_of_the_whole_image(published: dict[str, np.ndarray]) -> None:
    found = ClipPercentiles(stretch=False).apply({"image": published["in"][None]})["image"]
    np.testing.assert_allclose((found.min(), found.max()), published["pct"], rtol=1e-6)


def test_a_few_extreme_pixels_do_not_decide_the_range() -> None:
    image = np.tile(np.linspace(100, 200, 100, dtype=np.float32), (100, 1))[None]
    image[0, :2, :10] = 30000  # a side mark, 0.2 % of the pixels
    found = ClipPercentiles().apply({"image": image})["image"]
    assert np.ptp(found[0, 50]) > 0.95


def test_a_constant_image_becomes_zero_not_nan() -> None:
    prepared = prepare(OURS[:2], {"image": np.full((1, 50, 30), 700, np.int16)})[0]["image"]
    assert np.array_equal(prepared, np.zeros((1, 128, 128), np.float32))


def test_each_image_has_percentiles_of_its_own() -> None:
    ramp = np.arange(10_000, dtype=np.float32).reshape(1, 100, 100)
    found = ClipPercentiles().apply({"image": np.concatenate([ramp, ramp * 7 + 3])})["image"]
    np.testing.assert_allclose(found[0], found[1], atol=1e-5)


def test_the_aspect_is_kept_and_the_image_centred() -> None:
    found = PadResize((100, 100)).apply({"image": np.ones((1, 200, 101), np.float32)})["image"][0]
    filled = np.flatnonzero(found[50] > 0.5)
    assert (filled[0], filled[-1]) == (25, 74)
    assert (found[:, 40] > 0.99).all()


def test_cubic_overshoot_is_cut() -> None:
    image = np.zeros((1, 40, 40), np.float32)
    image[0, 10:30, 10:30] = 1
    given = {"image": image.copy()}, {"image": image.copy()}
    cut = PadResize((64, 64)).apply(given[0])["image"]
    uncut = PadResize((64, 64), official_order=True).apply(given[1])["image"]
    assert uncut.max() > 1.01
    assert (cut.min(), cut.max()) == (0, 1)


def test_masks_follow_the_image_and_stay_zero_and_one() -> None:
    mask = np.zeros((1, 60, 31), np.uint8)
    mask[0, 20:40, 10:20] = 1
    found = PadResize((120, 120)).apply({"image": mask.astype(np.float32), "mask": mask})
    assert set(np.unique(found["mask"])) == {0, 1}
    assert (found["mask"] != (found["image"] > 0.5)).mean() < 0.01


@pytest.mark.parametrize("shape", [(60, 31), (31, 60), (48, 48), (301, 7)])
def test_restore_undoes_padding_and_size(shape: tuple[int, int]) -> None:
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    image = ((rows + columns) / (sum(shape) - 2)).astype(np.float32)[None]
    step = PadResize((256, 256))
    back = step.restore(step.apply({"image": image.copy()})["image"], shape)
    assert back.shape == image.shape
    inside = (slice(None), slice(2, -2), slice(2, -2))
    np.testing.assert_allclose(back[inside], image[inside], atol=0.03)


def test_the_target_may_be_of_another_aspect_than_square() -> None:
    found = PadResize((50, 100)).apply({"image": np.ones((1, 80, 80), np.float32)})["image"][0]
    assert found.shape == (50, 100)
    assert np.flatnonzero(found[25] > 0.5).size == 50


def test_percentiles_in_the_wrong_order_are_refused() -> None:
    with pytest.raises(ValueError, match="is not above the lower"):
        ClipPercentiles(low=60, high=40)


@pytest.mark.parametrize("name", ["cxr_nih/00000001_000.png", "dicom_awkward_pydicom/RG3_J2KI.dcm"])
def test_real_radiographs_go_through_preparation_and_back(shared: Path, name: str) -> None:
    volume = read_volume(shared / "realdata" / name)
    prepared, shapes = prepare(OURS, {"image": volume.voxels})
    image = prepared["image"]
    assert image.shape == (1, 128, 128)
    assert image.min() >= 0
    assert image.max() <= 1
    assert image.std() > 0.1
    assert restore(OURS, image, shapes).shape == volume.voxels.shape


def test_a_monochrome1_radiograph_shows_bone_bright(shared: Path) -> None:
    """The shaft of the tibia against the air beside the lower leg, inside the collimator's edges."""
    voxels = read_volume(shared / "realdata/dicom_awkward_pydicom/RG3_J2KI.dcm").voxels
    image = prepare(OURS[:2], {"image": voxels})[0]["image"][0, 40:55]
    assert image[:, 59:64].mean() > image[:, 35:42].mean() + 0.3
