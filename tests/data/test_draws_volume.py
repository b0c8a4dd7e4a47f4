"""Patches of volumes: where they lie, and what batches of them look like."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from medkit.data.augment import HorizontalFlip
from medkit.data.channels import Windows
from medkit.data.dataset import Dataset
from medkit.data.draws import PatchDraw3d
from medkit.data.loader import Augmentation, Loader
from medkit.data.sample import Sample
from medkit.data.sampler import Sampler
from medkit.protocols.classes import Classes

Make = Callable[..., Any]


def sample(source: Any, case: int = 1) -> Sample:
    data = Dataset(source, {"train": {}})
    return data.sample(data.cases("train")[case])


def drawn(given: Sample, draw: PatchDraw3d, seed: int = 0) -> dict[str, np.ndarray]:
    return draw.draw(given, np.random.default_rng(seed)).arrays


def test_image_mask_and_target_are_cut_at_one_place(source: Make) -> None:
    found = drawn(sample(source(paired=True)), PatchDraw3d(4, (3, 8, 10), "positive"))
    assert {name: array.shape for name, array in found.items()} == dict.fromkeys(found, (4, 3, 8, 10))
    np.testing.assert_array_equal(found["target"], found["image"] - 5)


def test_patches_are_boxes_of_their_volume(source: Make) -> None:
    given = sample(source())
    windows = np.lib.stride_tricks.sliding_window_view(given.image, (3, 8, 10)).reshape(-1, 3, 8, 10)
    for patch in drawn(given, PatchDraw3d(6, (3, 8, 10)))["image"]:
        assert (windows == patch).all((1, 2, 3)).any()


def test_a_third_of_the_patches_hold_a_positive_voxel_where_these_are_preferred(source: Make) -> None:
    given = sample(source(shape=(12, 60, 60)))
    masks = [drawn(given, PatchDraw3d(6, (2, 4, 4), "positive"), seed)["mask"].any((1, 2, 3)) for seed in range(40)]
    shares = np.mean(masks, 0)
    assert (shares[:2] == 1).all()
    assert (shares[2:] < 0.2).all()


def test_patches_reach_every_corner_of_a_volume(source: Make) -> None:
    given = sample(source())
    given.image = np.arange(given.image.size, dtype=np.float32).reshape(given.image.shape)
    found = drawn(given, PatchDraw3d(3000, (4, 20, 20)))["image"]
    assert found.min() == 0
    assert found.max() == given.image.size - 1


def test_a_volume_smaller_than_a_patch_lies_in_its_middle(source: Make) -> None:
    given = sample(source())
    depth = len(given.image)
    (image,) = drawn(given, PatchDraw3d(1, (depth + 3, 30, 8)))["image"]
    inside = image[1 : 1 + depth, 3:27]
    assert (given.image[:, :, :8].shape) == inside.shape
    assert image[0].any() == image[-2:].any() == image[:, :3].any() == image[:, 27:].any() == False  # noqa: E712


def batch(source: Any, classes: Classes | None = None, steps: tuple[Any, ...] = (), on: str = "cpu") -> dict[str, Any]:
    data = Dataset(source, {"train": {}}, steps, classes=classes)
    cases = data.cases("train")
    flip = [HorizontalFlip(p=1.0)] if on == "device" else []
    loader = Loader(data, cases, Sampler(len(cases), 2, 0), PatchDraw3d(3, (3, 8, 10)), Augmentation(flip, on))
    made = next(iter(loader.epoch(0)))
    return made if loader.device_augment is None else {"before": made, "after": loader.device_augment(made)}


def test_a_batch_has_every_patch_with_the_name_and_label_of_its_case(source: Make) -> None:
    made = batch(source())
    assert made["image"].shape == made["mask"].shape == (6, 1, 3, 8, 10)
    assert made["ids"] == [made["ids"][0]] * 3 + [made["ids"][3]] * 3
    assert made["label"].tolist() == [float(int(name[1:]) % 2) for name in made["ids"]]


def test_channels_come_before_the_depth(source: Make) -> None:
    low, high = (batch(source(), steps=(Windows([(0, 80), (-20, 180)]),))["image"][:, i] for i in range(2))
    assert low.shape == (6, 3, 8, 10)
    assert not torch.equal(low, high)


def test_overlapping_classes_have_a_plane_each(source: Make) -> None:
    assert batch(source(), Classes(("a", "b"), True))["mask"].shape == (6, 2, 3, 8, 10)


def test_on_the_device_all_slices_of_a_patch_move_alike(source: Make) -> None:
    made = batch(source(), on="device")
    for name in ("image", "mask"):
        torch.testing.assert_close(made["after"][name], made["before"][name].flip(-1))
