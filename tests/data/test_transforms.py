"""Preparation: each step by its definition, the joined chain against the plain one, and the way back."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pytest

from medkit.data.dataset import prepare_record
from medkit.data.transforms import CLAHE, IMAGES, Joined, MinMax, Resize, Window, fuse, prepare, to_bytes
from medkit.data.volume import Volume
from medkit.errors import InputError
from medkit.protocols import Case, Record

CASE = Case("c1", "p1")
CHAIN = [Window(), CLAHE(), Resize((32, 40))]


def head(dtype: type = np.int16, seed: int = 0) -> np.ndarray:
    """Smooth values from -1000 to 300 HU (3,64,64)."""
    noise = np.random.default_rng(seed).normal(size=(3, 64, 64))
    smooth = np.stack([cv2.GaussianBlur(image, (0, 0), 4) for image in noise])
    smooth = (smooth - smooth.min()) / np.ptp(smooth)
    hu = np.where(smooth < 0.3, -1000, smooth * 300 - 60)
    return (np.rint(hu) if np.issubdtype(dtype, np.integer) else hu).astype(dtype)


def step_by_step(steps: list, voxels: np.ndarray) -> np.ndarray:
    arrays = {"image": voxels}
    for step in steps:
        arrays = step.apply(arrays)
    return arrays["image"]


def test_window_maps_its_ends_to_0_and_1_and_clips() -> None:
    hu = np.array([[[-1000, 0, 20, 40, 80, 3000]]], np.int16)
    np.testing.assert_allclose(Window(0, 80).apply({"image": hu})["image"], [[[0, 0, 0.25, 0.5, 1, 1]]], atol=1e-7)


def test_window_with_its_ends_the_wrong_way_round_is_refused() -> None:
    with pytest.raises(ValueError, match="not above"):
        Window(80, 0)


def test_window_and_clahe_leave_the_mask_alone_and_do_the_target_like_the_image() -> None:
    hu, mask = head(), (head() > 0).astype(np.uint8)
    prepared, _ = prepare(CHAIN[:2], {"image": hu, "target": hu, "mask": mask})
    assert np.array_equal(prepared["mask"], mask)
    assert np.array_equal(prepared["image"], prepared["target"])


def test_clahe_is_that_of_opencv_on_8_bits() -> None:
    hu = head()
    expected = cv2.createCLAHE(2.0, (8, 8)).apply(np.rint(np.clip(hu[1] / 80, 0, 1) * 255).astype(np.uint8)) / 255
    np.testing.assert_allclose(step_by_step(CHAIN[:2], hu)[1], expected, atol=1e-6)


def test_window_and_clahe_match_the_published_code(shared: Path) -> None:
    golden = np.load(shared / "golden" / "smart_preprocess_2022.npz")
    windowed = Window().apply({"image": golden["hu"]})["image"]
    np.testing.assert_allclose(windowed, golden["windowed"], atol=1e-6)
    slices = np.moveaxis(golden["resized96_image"], 2, 0)
    equalised = CLAHE().apply({"image": np.ascontiguousarray(slices)})["image"]
    # The published code cuts to bytes where this one rounds: a grey level apart.
    np.testing.assert_allclose(equalised, np.moveaxis(golden["clahe"], 2, 0), atol=1.01 / 255)


def test_min_max_stretches_each_slice_and_makes_a_constant_one_0() -> None:
    image = np.stack([np.linspace(3, 7, 16).reshape(4, 4), np.full((4, 4), 5.0)])
    out = MinMax().apply({"image": image})["image"]
    assert out[0].min() == 0
    assert out[0].max() == 1
    assert not out[1].any()


def test_resize_keeps_masks_binary_and_a_ramp_linear() -> None:
    ramp = np.tile(np.arange(64, dtype=np.float32), (1, 64, 1))
    mask = (ramp > 30).astype(np.uint8)
    out = Resize((32, 32)).apply({"image": ramp, "mask": mask})
    np.testing.assert_allclose(out["image"][0, 5], np.arange(32) * 2 + 0.5, atol=1e-5)
    assert set(np.unique(out["mask"])) == {0, 1}


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16, np.int32, np.int64, np.float64, ">i2", ">f4"])
def test_resize_interpolates_every_kind_of_number_files_hold(dtype: object) -> None:
    voxels = np.abs(head()).clip(0, 200)
    expected = Resize((20, 20)).apply({"image": voxels.astype(np.float32)})["image"]
    np.testing.assert_allclose(Resize((20, 20)).apply({"image": voxels.astype(dtype)})["image"], expected, atol=1e-3)


@pytest.mark.parametrize("dtype", [np.int16, np.int32, np.float32, np.float64, np.uint16])
@pytest.mark.parametrize("window", [Window(), Window(-160, 240), Window(-37.5, 81.25), Window(-40000, 50000)])
@pytest.mark.parametrize("rest", [[], [MinMax()], [Resize((32, 32))], [MinMax(), Resize((40, 24))], [Resize((9, 9))]])
def test_joined_chain_gives_the_numbers_of_the_plain_one(dtype: type, window: Window, rest: list) -> None:
    voxels = np.abs(head()).astype(dtype) if dtype is np.uint16 else head(dtype)
    voxels[2] = 7  # constant
    steps = [window, CLAHE(), *rest]
    prepared, _ = prepare(steps, {"image": voxels})
    np.testing.assert_allclose(prepared["image"], step_by_step(steps, voxels), atol=1e-6)


def test_joined_chain_takes_floats_beyond_16_bits_without_a_warning() -> None:
    voxels = head(np.float32)
    voxels[0, 0, 0] = 1e9
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        prepared, _ = prepare(CHAIN, {"image": voxels})
    np.testing.assert_allclose(prepared["image"], step_by_step(CHAIN, voxels), atol=1e-6)


@pytest.mark.parametrize("high", range(60, 100))
def test_joined_window_gives_the_same_bytes_for_every_hu(high: int) -> None:
    every = np.arange(-1024, 3072, dtype=np.int16)[None, None]
    for window in (Window(0, high), Window(-high, 2 * high), Window(high - 70.5, high)):
        found = Joined(window, CLAHE()).bytes_of(every, -1024, 3071)(every[0])
        assert np.array_equal(found, to_bytes(window.scaled(every))[0])


def test_halving_is_that_of_linear_interpolation() -> None:
    image = np.random.default_rng(0).random((2, 64, 64), np.float32)
    expected = [cv2.resize(i, (32, 32), interpolation=cv2.INTER_LINEAR) for i in image]
    np.testing.assert_allclose(Resize((32, 32)).apply({"image": image})["image"], expected, atol=1e-6)


def test_only_a_window_followed_at_once_by_clahe_is_joined() -> None:
    assert fuse([Crop(), *CHAIN, MinMax()]) == [Crop(), Joined(CHAIN[0], CHAIN[1], None, CHAIN[2]), MinMax()]
    for apart in ([Window(), Resize(), CLAHE()], [CLAHE(), Window()], [Window(), Crop(), CLAHE(), MinMax(), Resize()]):
        assert fuse(apart) == apart


def test_preparation_leaves_the_source_voxels_as_they_were() -> None:
    voxels = head(np.float32)
    before = voxels.copy()
    for steps in (CHAIN, [Window()], [MinMax()], [Resize((32, 32))]):
        prepare(steps, {"image": voxels})
        assert np.array_equal(voxels, before)


@pytest.mark.parametrize(("low", "high"), [(0, 255), (24, 4095), (-300, 300)])
def test_voxels_without_air_under_a_window_in_hu_are_doubted(low: float, high: float) -> None:
    voxels = np.linspace(low, high, 2 * 64 * 64, dtype=np.float32).reshape(2, 64, 64)
    found = f"its values range from {low} to {high}"
    assert found in prepare_record(Record(Volume(voxels)), CASE, CHAIN).doubt
    assert found in prepare_record(Record(Volume(head()[:2]), target=Volume(voxels)), CASE, CHAIN).doubt
    assert not prepare_record(Record(Volume(voxels, units="HU")), CASE, CHAIN).doubt
    assert not prepare_record(Record(Volume(voxels)), CASE, [Window(low, high, "stored")]).doubt


@pytest.mark.parametrize(("high", "units"), [(1, None), (300, "stored")])
def test_what_is_settled_to_be_no_hu_passes_no_window_in_hu(high: float, units: str | None) -> None:
    voxels = np.linspace(0, high, 2 * 64 * 64, dtype=np.float32).reshape(2, 64, 64)
    with pytest.raises(InputError, match=r"window from 0 to 80 HU needs CT in HU.*units: stored"):
        prepare_record(Record(Volume(voxels, units=units)), CASE, CHAIN)


def test_prepared_images_are_float32_and_contiguous_even_from_turned_arrays() -> None:
    voxels = head().transpose(0, 2, 1)
    prepared, _ = prepare(CHAIN, {"image": voxels})
    assert prepared["image"].dtype == np.float32
    assert prepared["image"].flags.c_contiguous
    np.testing.assert_allclose(prepared["image"], step_by_step(CHAIN, np.ascontiguousarray(voxels)), atol=1e-6)


def test_results_return_to_the_source_grid() -> None:
    sample = prepare_record(Record(Volume(head())), CASE, CHAIN)
    ramp = np.tile(np.arange(40, dtype=np.float32), (3, 32, 1))
    back = sample.restore(ramp)
    assert back.shape == (3, 64, 64)
    centre = (np.arange(64) + 0.5) * 40 / 64 - 0.5
    np.testing.assert_allclose(back[0, 10, 2:-2], centre[2:-2], atol=0.02)


@dataclass(frozen=True)
class Crop:
    """Cut 8 pixels from each side, as a plugin's step might."""

    def apply(self, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {name: array[:, 8:-8, 8:-8] for name, array in arrays.items()}

    def restore(self, array: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
        assert array.shape[1:] == (shape[0] - 16, shape[1] - 16)
        return np.pad(array, ((0, 0), (8, 8), (8, 8)))


def test_each_step_is_undone_at_the_shape_it_had() -> None:
    steps = [Window(), CLAHE(), Crop(), Resize((24, 24))]
    sample = prepare_record(Record(Volume(head())), CASE, steps)
    back = sample.restore(np.ones((3, 24, 24), np.float32))
    assert back.shape == (3, 64, 64)
    assert back.sum() == pytest.approx(3 * 48 * 48)


@pytest.mark.parametrize("name", IMAGES)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_voxels_that_are_not_finite_are_refused_naming_the_case(name: str, value: float) -> None:
    bad = head(np.float32)
    bad[1, 2, 3] = value
    volumes = {"image": Volume(head(np.float32)), name: Volume(bad)}
    with pytest.raises(InputError, match=rf"case 'c1': 1 voxels of the {name}"):
        prepare_record(Record(**volumes), CASE, CHAIN)


def test_a_mask_on_another_grid_is_refused() -> None:
    moved = np.eye(4)
    moved[0, 3] = 5
    record = Record(Volume(head()), Volume(np.zeros((3, 64, 64), np.uint8), moved))
    with pytest.raises(InputError, match="different grids"):
        prepare_record(record, CASE, CHAIN)


def test_a_mask_of_other_values_is_refused() -> None:
    record = Record(Volume(head()), Volume(np.full((3, 64, 64), 255, np.uint8)))
    with pytest.raises(InputError, match="255"):
        prepare_record(record, CASE, CHAIN)


@pytest.mark.parametrize(("label", "voxel", "said"), [(1.0, 0, "all empty"), (0.0, 1, "not empty")])
def test_a_label_that_the_mask_contradicts_is_refused(label: float, voxel: int, said: str) -> None:
    mask = np.full((3, 64, 64), voxel, np.uint8)
    with pytest.raises(InputError, match=said):
        prepare_record(Record(Volume(head()), Volume(mask)), Case("c1", "p1", label=label), CHAIN)


def test_the_native_mask_comes_back_bit_for_bit() -> None:
    mask = np.random.default_rng(1).integers(0, 2, (3, 61, 59)).astype(np.uint8)
    sample = prepare_record(Record(Volume(np.zeros((3, 61, 59), np.int16)), Volume(mask)), CASE, [Resize((16, 16))])
    assert np.array_equal(sample.native_mask, mask)
