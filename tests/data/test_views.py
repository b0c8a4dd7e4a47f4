"""Views and crops of items: made of the prepared image beside its own augmentation, alike whoever makes them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from medkit.data.augment import GaussNoise, HorizontalFlip, ShiftScaleRotate
from medkit.data.augment_chains import CPUChain, DeviceChain
from medkit.data.augment_crop import RandomResizedCrop, SquareCrop, cut_of
from medkit.data.dataset import Dataset
from medkit.data.draws import draw_of
from medkit.data.loader import Augmentation, Loader
from medkit.data.sampler import Sampler
from medkit.data.transforms import MinMax, Resize
from medkit.data.views import Views, crops
from medkit.errors import InputError

Make = Callable[..., Any]
STEPS = [ShiftScaleRotate(p=1.0), GaussNoise(p=1.0)]


@pytest.fixture
def made(source: Make, tmp_path: Path) -> Iterator[Callable[..., Loader]]:
    """Loaders of eight cases of 16 x 20 with two views and three crops of 8 x 8."""
    loaders = []

    def make(unit: Any = "slice", on: str = "cpu", workers: int = 0, **options: Any) -> Loader:
        data = Dataset(source(n=8), {"train": {}}, [MinMax(), Resize((16, 20))], tmp_path)
        views = options.pop("views", [Views(2, STEPS, on), crops(3, 8, (0.1, 0.4), [HorizontalFlip()], on)])
        augmentation = Augmentation(options.pop("augment", [HorizontalFlip()]), on, views)
        draw = draw_of(unit, patches=3, patch_size=12)
        found = Loader(data, data.cases("train"), Sampler(8, 2, 3, **options), draw, augmentation, workers)
        loaders.append(found)
        return found

    yield make
    for loader in loaders:
        loader.close()


def all_same(a: Any, b: Any) -> bool:
    return all(
        x.keys() == y.keys()
        and all(torch.equal(x[k], y[k]) if isinstance(x[k], torch.Tensor) else x[k] == y[k] for k in x)
        for x, y in zip(a, b, strict=True)
    )


def on_device(loader: Loader, seed: int = 0) -> dict[str, Any]:
    torch.manual_seed(seed)
    assert loader.device_augment is not None
    return loader.device_augment(next(iter(loader.epoch(0))))


@pytest.mark.parametrize("on", ["cpu", "device"])
@pytest.mark.parametrize("unit", ["slice", "patch", "volume"])
def test_every_image_of_a_batch_has_its_views_and_crops(made: Any, unit: str, on: str) -> None:
    loader = made(unit, on)
    batch = next(iter(loader.epoch(0))) if on == "cpu" else on_device(loader)
    count, side = len(batch["image"]), batch["image"].shape[2:]
    assert batch["views"].shape == (count, 2, 1, *side)
    assert batch["crops"].shape == (count, 3, 1, 8, 8)
    assert batch["views"].dtype == batch["crops"].dtype == torch.float32
    views = batch["views"].flatten(0, 1)
    assert len({view.numpy().tobytes() for view in views}) == len(views), "every view is another one"


@pytest.mark.parametrize("workers", [0, 2])
def test_views_are_the_same_bits_whoever_makes_them_and_wherever_an_epoch_is_begun(made: Any, workers: int) -> None:
    straight = list(made().epoch(2))
    assert all_same(made(workers=workers).epoch(2), straight)
    assert all_same(made(workers=workers).epoch(2, start=3), straight[3:])
    assert not torch.equal(straight[0]["views"], next(iter(made().epoch(3)))["views"])


def test_two_ranks_make_the_views_of_one(made: Any) -> None:
    def views(**of: int) -> torch.Tensor:
        return torch.cat([batch["views"] for batch in made(**of).epoch(1)])

    ranks = torch.stack([views(rank=rank, ranks=2) for rank in range(2)], 1)
    assert torch.equal(ranks.flatten(0, 1), views())


@pytest.mark.parametrize("on", ["cpu", "device"])
def test_images_are_those_of_a_loader_without_views(made: Any, on: str) -> None:
    with_views, without = made(on=on), made(on=on, views=[])
    if on == "device":
        first, second = on_device(with_views), on_device(without)
        assert torch.equal(first["image"], second["image"])
    else:
        for a, b in zip(with_views.epoch(0), without.epoch(0), strict=True):
            assert torch.equal(a["image"], b["image"])
            assert torch.equal(a["mask"], b["mask"])


@pytest.mark.parametrize("on", ["cpu", "device"])
def test_views_are_made_of_the_prepared_image_and_not_of_the_augmented_one(made: Any, on: str) -> None:
    plain = next(iter(made(views=[], augment=[]).epoch(0)))["image"]
    given = {"views": [Views(1, [HorizontalFlip(p=1.0)], on)], "augment": [HorizontalFlip(p=1.0)]}
    loader = made(on=on, **given)
    batch = next(iter(loader.epoch(0))) if on == "cpu" else on_device(loader)
    torch.testing.assert_close(batch["views"][:, 0], plain.flip(-1))


@pytest.mark.parametrize("on", ["cpu", "device"])
def test_all_slices_of_a_volume_are_changed_alike_in_a_view(source: Make, on: str) -> None:
    data = Dataset(source(n=1), {"train": {}}, [MinMax(), Resize((16, 20))])
    sample = data.sample(data.cases("train")[0])
    sample.image[:] = sample.image[:1]
    views = [Views(2, [ShiftScaleRotate(p=1.0)], on), crops(2, 8, (0.1, 0.4), [], on)]
    loader = Loader(data, data.cases("train"), Sampler(1, 1, 3), draw_of("volume"), Augmentation(on=on, views=views))
    loader._sample = lambda index: sample  # type: ignore[method-assign]
    batch = next(iter(loader.epoch(0))) if on == "cpu" else on_device(loader)
    for name in ("views", "crops"):
        assert len(batch[name]) > 1
        torch.testing.assert_close(batch[name], batch[name][:1].expand_as(batch[name]), atol=1e-5, rtol=0)
        assert not torch.allclose(batch[name][0, 0], batch[name][0, 1])


@pytest.mark.parametrize("on", ["cpu", "device"])
def test_all_slices_of_a_patch_are_changed_alike_and_each_patch_by_itself(source: Make, on: str) -> None:
    data = Dataset(source(n=2), {"train": {}}, [MinMax(), Resize((16, 20))])
    sample = data.sample(data.cases("train")[0])
    sample.image[:] = sample.image[:1]
    augmentation = Augmentation(on=on, views=[Views(2, [ShiftScaleRotate(p=1.0)], on)])
    draw = draw_of("patch3d", patches=3, patch_size=12)
    loader = Loader(data, data.cases("train"), Sampler(2, 2, 3), draw, augmentation)
    loader._sample = lambda index: sample  # type: ignore[method-assign]
    batch = next(iter(loader.epoch(0))) if on == "cpu" else on_device(loader)
    views = batch["views"]
    assert views.shape == (6, 2, 1, 12, 12, 12)
    slices = views[:, :, :, batch["image"].flatten(3).any(3)[0, 0]]  # others are filled up
    torch.testing.assert_close(slices, slices[:, :, :, :1].expand_as(slices), atol=1e-5, rtol=0)
    assert len({view.numpy().tobytes() for view in views.flatten(0, 1)}) == 12


def test_views_that_cut_to_unit_range_refuse_other_values(source: Make) -> None:
    data = Dataset(source(n=2), {"train": {}}, [Resize((16, 20))])
    views = [Views(2, [GaussNoise()])]
    loader = Loader(data, data.cases("train"), Sampler(2, 2, 3), augmentation=Augmentation(views=views))
    with pytest.raises(InputError, match=r"GaussNoise needs \[0,1\]"):
        next(iter(loader.epoch(0)))


# -- cuts ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(64, 64), (64, 40), (33, 80)])
@pytest.mark.parametrize("result", [(16, 16), (64, 40)])
def test_a_cut_keeps_proportions_lies_inside_and_has_its_share_of_the_area(shape: Any, result: Any) -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        area = rng.uniform(0.05, 1)
        cut = cut_of(shape, result, area, (rng.random(), rng.random()))
        assert 0 <= cut.top <= cut.top + cut.height <= shape[0]
        assert 0 <= cut.left <= cut.left + cut.width <= shape[1]
        assert abs(cut.width - cut.height * result[1] / result[0]) <= 1.3, "to the whole pixel"
        largest = min(shape[0], shape[1] * result[0] / result[1]) ** 2 * result[1] / result[0]
        assert cut.height * cut.width == pytest.approx(min(area * shape[0] * shape[1], largest), rel=0.1, abs=6)


@pytest.mark.parametrize(("step", "size"), [(RandomResizedCrop((0.1, 1.0)), 48), (SquareCrop((0.1, 0.9), 12), 12)])
def test_both_forms_of_a_cut_compute_the_same(step: Any, size: int) -> None:
    """The same part of an image and of its mask, enlarged or shrunk, comes out of OpenCV and of the device's weights."""
    image = np.random.default_rng(1).random((1, 48, 48)).astype(np.float32)
    arrays = {"image": image, "mask": (image > 0.5).astype(np.uint8)}
    for area in (0.11, 0.3, 0.5, 1.0):
        one = type(step)(**{**vars(step), "scale": (area, area)})
        cpu, rng, at = CPUChain([one]), np.random.default_rng(3), set()
        drawn = [cpu(arrays, rng) for _ in range(120)]
        torch.manual_seed(0)
        batch = {name: torch.from_numpy(array).float().repeat(60, 1, 1)[:, None] for name, array in arrays.items()}
        found = DeviceChain([one])(batch)
        for i in range(60):
            image, mask = found["image"][i, 0].numpy(), found["mask"][i, 0].numpy()
            same = [np.abs(image - other["image"][0]).max() for other in drawn]
            if min(same) < 1e-4:
                at.add(nearest := int(np.argmin(same)))
                assert np.array_equal(mask, drawn[nearest]["mask"][0])
            assert image.shape == (size, size)
        assert at, "some cut was drawn by both"
