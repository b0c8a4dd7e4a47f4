"""Masks with classes: from files to samples, batches and back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from medkit.data.augment import ShiftScaleRotate
from medkit.data.augment_chains import CPUChain, DeviceChain
from medkit.data.augment_crop import RandomResizedCrop
from medkit.data.collate import masks_of, whole
from medkit.data.dataset import Dataset
from medkit.data.loader import Loader
from medkit.data.nifti import write_nifti
from medkit.data.sampler import Sampler
from medkit.data.source import ManifestSource
from medkit.data.transforms import Resize
from medkit.data.volume import Volume
from medkit.errors import InputError, Problems
from medkit.protocols.classes import Classes, classes_of

AXIAL = np.eye(4)[[2, 1, 0, 3]]
FIVE = Classes(("a", "b", "c", "d", "e"))
TWO = Classes(("a", "b"), overlapping=True)
RNG = np.random.default_rng(0)
IMAGE = RNG.integers(-1000, 200, (3, 13, 11)).astype(np.int16)
LABELS = RNG.integers(0, 6, IMAGE.shape).astype(np.uint8)


def dataset(folder: Path, classes: Classes | None, cache: bool = False, **masks: np.ndarray) -> Dataset:
    for name, voxels in {"image": IMAGE, **masks}.items():
        write_nifti(Volume(voxels, AXIAL), folder / f"{name}.nii.gz", kind="mask" if name in masks else "image")
    path = folder / "cases.csv"
    path.write_text(f"patient,image,{','.join(masks)}\np,image.nii.gz,{','.join(f'{name}.nii.gz' for name in masks)}\n")
    names = tuple(masks)
    source = ManifestSource(path, mask=names[0] if len(names) == 1 else names, units="HU")
    return Dataset(source, {"train": {}}, [], folder / "cache" if cache else None, classes=classes)


def test_a_sample_keeps_the_classes_of_its_mask(tmp_path: Path):
    data = dataset(tmp_path, FIVE, cache=True, mask=LABELS)
    (case,) = data.cases("train")
    for sample in (data.sample(case), data.sample(case)):  # as it is prepared, and as the cache keeps it
        np.testing.assert_array_equal(sample.mask, LABELS)
        np.testing.assert_array_equal(sample.native_mask, LABELS)


def test_columns_of_masks_are_overlapping_classes(tmp_path: Path):
    a, b = (RNG.random((2, *IMAGE.shape)) > 0.5).astype(np.uint8)
    sample = (data := dataset(tmp_path, TWO, cache=True, a=a, b=b)).sample(data.cases("train")[0])
    np.testing.assert_array_equal(sample.native_mask, a + 2 * b)
    np.testing.assert_array_equal(whole(sample)["mask"], np.stack([a, b], 1))


def test_a_sample_of_other_classes_is_prepared_anew(tmp_path: Path):
    wide = dataset(tmp_path, FIVE, cache=True, mask=LABELS)
    wide.sample(wide.cases("train")[0])
    narrow = Dataset(wide.source, {"train": {}}, [], tmp_path / "cache", classes=Classes(("a", "b")))
    with pytest.raises(InputError, match="classes have 0 to 2"):
        narrow.sample(narrow.cases("train")[0])


def test_classes_that_nobody_named_are_refused(tmp_path: Path):
    data = dataset(tmp_path, None, mask=LABELS)
    with pytest.raises(InputError, match="a mask holds 0 and 1") as caught:
        data.sample(data.cases("train")[0])
    assert "classes: {1: NAME" in str(caught.value)


def test_a_row_that_lacks_one_of_its_masks_is_refused(tmp_path: Path):
    data = dataset(tmp_path, TWO, a=LABELS > 2, b=LABELS > 3)
    path = Path(data.source.path)
    path.write_text("patient,image,a,b\np,image.nii.gz,a.nii.gz,\n")
    with pytest.raises(Problems, match="no value in 'b'"):
        ManifestSource(path, mask=("a", "b")).cases()


def test_columns_of_masks_without_classes_are_refused(tmp_path: Path):
    data = dataset(tmp_path, None, a=(LABELS > 2).astype(np.uint8), b=(LABELS > 3).astype(np.uint8))
    with pytest.raises(InputError, match="as many overlapping classes"):
        data.sample(data.cases("train")[0])


@pytest.mark.parametrize("kind", ["cpu", "device"])
@pytest.mark.parametrize("step", [ShiftScaleRotate(p=1), RandomResizedCrop()])
def test_augmentation_makes_no_class_between_two(kind: str, step: object):
    mask = np.zeros((1, 32, 32), np.uint8)
    mask[:, 4:14, 4:28], mask[:, 14:28, 4:28] = 1, 5
    image = RNG.random((1, 32, 32), np.float32)
    torch.manual_seed(0)
    for seed in range(3):
        if kind == "cpu":
            moved = CPUChain([step])({"image": image, "mask": mask}, np.random.default_rng(seed))["mask"]
        else:
            batch = {"image": torch.from_numpy(image)[:, None], "mask": torch.from_numpy(mask)[:, None].float()}
            moved = DeviceChain([step])(batch)["mask"].numpy()
        assert set(np.unique(moved)) <= {0, 1, 5}


def test_a_resized_mask_has_the_same_classes():
    made = Resize((7, 5)).apply({"image": IMAGE, "mask": LABELS})
    assert set(np.unique(made["mask"])) <= set(range(6))


def test_batches_hold_numbers_or_a_mask_for_each_overlapping_class(tmp_path: Path):
    data = dataset(tmp_path, FIVE, mask=LABELS)
    batch = Loader(data, data.cases("train"), Sampler(1, 1, 0)).batch((0, 0))
    assert tuple(batch["mask"].shape) == (1, 1, 13, 11)
    assert batch["mask"].max() == 5
    assert tuple(masks_of(LABELS.astype(np.float32) % 4, TWO).shape) == (3, 2, 13, 11)


def test_the_likeliest_class_is_said_where_it_is_likelier_than_none():
    said = Classes(("a", "b")).said(np.array([[0.5, 0.3, 0.2], [0.1, 0.35, 0.2]]))
    assert said.tolist() == [1, 0, 0]  # none has 0.4, 0.35 and 0.6
    assert said.dtype == np.uint8


def test_overlapping_classes_are_said_together():
    assert TWO.said(np.array([[0.6, 0.2, 0.9], [0.1, 0.7, 0.8]])).tolist() == [1, 2, 3]


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_any_class_is_above_one_half_exactly_where_one_is_said(kind: type):
    each = RNG.dirichlet(np.ones(4), 10_000).astype(kind).T[:3]
    each[:, :10] = 0
    each[:, 10] = 1 / 4  # as likely as none
    classes = Classes(("a", "b", "c"))
    any_of = classes.any_of(each)
    np.testing.assert_array_equal(any_of > 0.5, classes.said(each) > 0)
    assert 0 <= any_of.min() <= any_of.max() <= 1


def test_what_is_said_of_true_masks_is_the_mask():
    for classes in (FIVE, Classes(("a", "b", "c"), overlapping=True)):
        mask = RNG.integers(0, classes.largest + 1, (3, 4, 5)).astype(np.uint8)
        np.testing.assert_array_equal(classes.said(classes.planes(mask).astype(np.float32)), mask)


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"1": "a", "3": "b"}, "without gaps"),
        ({"0": "a"}, "from 1"),
        ({"1": "a", "2": "a"}, "two classes are named 'a'"),
        ([str(i) for i in range(9)], "may be 1 to 8"),
        ({}, "0 classes"),
        ("bleed", "a mapping"),
    ],
)
def test_classes_that_cannot_be_are_refused(said: object, message: str):
    with pytest.raises(InputError, match=message):
        classes_of(said)
