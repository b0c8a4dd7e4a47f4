"""Images of several channels: steps that make them, all other steps, augmentation, draws and batches."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from medkit.data.augment import HorizontalFlip, ShiftScaleRotate
from medkit.data.augment_chains import CPUChain, DeviceChain
from medkit.data.channels import Neighbours, Windows, channels_after
from medkit.data.collate import whole
from medkit.data.dataset import Dataset, prepare_record
from medkit.data.draws import PatchDraw, draw_of
from medkit.data.loader import Loader
from medkit.data.nifti import write_nifti
from medkit.data.sampler import Sampler
from medkit.data.source import ManifestSource
from medkit.data.transforms import CLAHE, Resize, Window, prepare
from medkit.data.volume import Volume
from medkit.errors import InputError, Problems
from medkit.protocols import Case, Record

CASE = Case("c1", "p1")
AXIAL = np.eye(4)[[2, 1, 0, 3]]
BOTH = Windows(((0, 80), (-1000, 1000)))


def scan(seed: int = 0, depth: int = 4) -> np.ndarray:
    """(depth,24,20) HU with air."""
    return np.random.default_rng(seed).integers(-1000, 200, (depth, 24, 20)).astype(np.int16)


def test_each_window_is_a_channel():
    prepared, _ = prepare([BOTH], {"image": scan()})
    for channel, ends in enumerate(BOTH.windows):
        alone, _ = prepare([Window(*ends)], {"image": scan()})
        np.testing.assert_array_equal(prepared["image"][:, channel], alone["image"])


def test_other_steps_do_to_each_channel_what_they_do_to_an_image():
    steps = [CLAHE(), Resize((16, 12))]
    mask = (scan(1) > 0).astype(np.uint8)
    prepared, shapes = prepare([BOTH, *steps], {"image": scan(), "mask": mask})
    for channel, ends in enumerate(BOTH.windows):
        alone, _ = prepare([Window(*ends), *steps], {"image": scan(), "mask": mask})
        np.testing.assert_allclose(prepared["image"][:, channel], alone["image"], atol=2 / 255)
    np.testing.assert_array_equal(prepared["mask"], alone["mask"])
    assert shapes == [(24, 20)] * 3


def test_neighbours_lie_from_below_to_above_with_the_edge_slice_repeated():
    image = np.arange(4, dtype=np.float32)[:, None, None] * np.ones((1, 2, 2), np.float32)
    prepared, _ = prepare([Neighbours()], {"image": image})
    assert prepared["image"][:, :, 0, 0].tolist() == [[0, 0, 1], [0, 1, 2], [1, 2, 3], [2, 3, 3]]


def test_nothing_beside_the_edges_is_zero_if_wanted():
    prepared, _ = prepare([Neighbours(2, "zero")], {"image": np.ones((2, 1, 1), np.float32)})
    assert prepared["image"][:, :, 0, 0].tolist() == [[0, 0, 1, 1, 0], [0, 1, 1, 0, 0]]


def test_neighbours_of_several_channels_keep_those_of_a_slice_together():
    prepared, _ = prepare([BOTH, Neighbours()], {"image": scan()})
    single, _ = prepare([BOTH], {"image": scan()})
    assert prepared["image"].shape == (4, 6, 24, 20)
    np.testing.assert_array_equal(prepared["image"][1].reshape(3, 2, 24, 20), single["image"][:3])
    assert channels_after([BOTH, Neighbours()]) == 6


def test_people_are_shown_the_slice_itself():
    sample = prepare_record(Record(Volume(scan(), units="HU")), CASE, [Window(), Neighbours()])
    np.testing.assert_array_equal(sample.shown, sample.image[:, 1])


def test_windows_of_several_channels_are_refused():
    with pytest.raises(InputError, match="needs an image of one channel"):
        channels_after([Neighbours(), BOTH])


@pytest.mark.parametrize("kind", ["cpu", "device"])
def test_augmentation_moves_all_channels_and_the_mask_alike(kind: str):
    image = np.random.default_rng(0).random((1, 32, 32), np.float32)
    image = np.repeat(image[:, None], 5, 1)
    mask = (image[:, 0] > 0.5).astype(np.uint8)
    steps = [ShiftScaleRotate(rotate=0, scale=0, p=1), HorizontalFlip(p=1)]
    torch.manual_seed(0)
    if kind == "cpu":
        moved = CPUChain(steps)({"image": image, "target": image, "mask": mask}, np.random.default_rng(1))
    else:
        batch = {"image": torch.from_numpy(image), "target": torch.from_numpy(image)}
        batch["mask"] = torch.from_numpy(mask[:, None].astype(np.float32))
        moved = {name: tensor.numpy() for name, tensor in DeviceChain(steps)(batch).items()}
    assert moved["image"].shape == image.shape
    assert not np.array_equal(moved["image"], image)
    for channel in range(5):
        np.testing.assert_allclose(moved["image"][:, channel], moved["image"][:, 0], atol=1e-6)
    np.testing.assert_allclose(moved["target"], moved["image"], atol=1e-6)


def test_patches_are_cut_at_one_place_in_all_channels():
    image = np.random.default_rng(0).random((1, 3, 20, 20), np.float32)
    cut = PatchDraw(4, 8).cut({"image": image, "target": image.copy()}, np.random.default_rng(0))
    assert cut["image"].shape == (4, 3, 8, 8)
    np.testing.assert_array_equal(cut["image"], cut["target"])


def manifest(folder: Path, others: dict[str, np.ndarray], depth: int = 4) -> Path:
    """A manifest of one case with an image and further ones."""
    for name, voxels in {"image": scan(0, depth), **others}.items():
        write_nifti(Volume(voxels, AXIAL), folder / f"{name}.nii.gz", kind="image")
    names = ["image", *others]
    path = folder / "cases.csv"
    path.write_text(f"patient,{','.join(names)}\np,{','.join(f'{name}.nii.gz' for name in names)}\n")
    return path


def test_several_files_of_a_case_are_its_channels(tmp_path: Path):
    source = ManifestSource(manifest(tmp_path, {"flair": scan(1)}), image=("image", "flair"), units="HU")
    dataset = Dataset(source, {"train": {}}, [Window(-1000, 200)], cache_dir=tmp_path / "cache")
    (case,) = dataset.cases("train")
    for sample in (dataset.sample(case), dataset.sample(case)):  # as it is prepared, and as the cache keeps it
        assert sample.image.shape == (4, 2, 24, 20)
        np.testing.assert_allclose(sample.image[:, 1], (scan(1) + 1000) / 1200, atol=1e-6)
    assert source.channels == 2


def test_files_of_a_case_on_different_grids_are_refused(tmp_path: Path):
    source = ManifestSource(manifest(tmp_path, {"flair": scan(1, 3)}), image=("image", "flair"), units="HU")
    with pytest.raises(InputError, match="images lie on different grids"):
        Dataset(source, {"train": {}}, [Window()]).sample(source.cases()[0])


def test_a_case_that_lacks_one_of_its_files_is_refused(tmp_path: Path):
    path = manifest(tmp_path, {"flair": scan(1)})
    path.write_text("patient,image,flair\np,image.nii.gz,\n")
    with pytest.raises(Problems, match="no value in 'flair'"):
        ManifestSource(path, image=("image", "flair")).cases()


@pytest.mark.parametrize("unit", ["slice", "volume", "patch"])
def test_batches_have_channels_after_their_items(tmp_path: Path, unit: str):
    dataset = Dataset(ManifestSource(manifest(tmp_path, {}), units="HU"), {"train": {}}, [BOTH])
    cases = dataset.cases("train")
    batch = Loader(dataset, cases, Sampler(1, 1, 0), draw_of(unit, patches=3, patch_size=8)).batch((0, 0))
    assert (
        tuple(batch["image"].shape) == {"slice": (1, 2, 24, 20), "volume": (4, 2, 24, 20), "patch": (3, 2, 8, 8)}[unit]
    )
    assert tuple(whole(dataset.sample(cases[0]))["image"].shape) == (4, 2, 24, 20)
