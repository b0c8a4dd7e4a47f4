"""Training batches: what an epoch holds, and that it depends on seed, epoch, rank and position only."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from medkit.data.augment import Dihedral, GaussNoise, HorizontalFlip, ShiftScaleRotate
from medkit.data.collate import whole
from medkit.data.dataset import Dataset
from medkit.data.draws import Unit, draw_of
from medkit.data.loader import Augmentation, Loader
from medkit.data.sampler import Sampler
from medkit.data.transforms import MinMax, Resize
from medkit.data.volume import Volume
from medkit.errors import InputError
from medkit.protocols import Case, Record

STEPS = [MinMax(), Resize((16, 20))]
AUGMENT = [ShiftScaleRotate(p=1.0), GaussNoise(p=1.0)]
Make = Callable[..., Any]
SIZES = ("patches", "patch_size")


def loader(
    given: Any, unit: Unit = "slice", batch: int = 2, seed: int = 3, fields: tuple = (), **options: Any
) -> Loader:
    data = Dataset(given, {"train": {}}, options.pop("steps", STEPS), fields=fields)
    cases = data.cases("train")
    draw = draw_of(unit, options.pop("draw", "uniform"), **{k: options.pop(k) for k in SIZES if k in options})
    augmentation = Augmentation(options.pop("augment", ()), options.pop("augment_on", "cpu"))
    workers, slices = options.pop("workers", 0), options.pop("slices", 1)
    positive = partial(data.positive, cases) if options.pop("balance", False) else None
    sampler = Sampler(len(cases), batch, seed, repeats=slices, positive=positive, **options)
    return Loader(data, cases, sampler, draw, augmentation, workers)


def same(a: dict[str, Any], b: dict[str, Any]) -> bool:
    return a.keys() == b.keys() and all(
        torch.equal(a[k], b[k]) if isinstance(a[k], torch.Tensor) else a[k] == b[k] for k in a
    )


def all_same(a: Iterable[dict[str, Any]], b: Iterable[dict[str, Any]]) -> bool:
    return all(same(x, y) for x, y in zip(a, b, strict=True))


def names(batches: Iterable[dict[str, Any]]) -> list[str]:
    return [name.split("#")[0] for batch in batches for name in batch["ids"]]


UNITS = [
    ("slice", {}),
    ("slice", {"slices": 3}),
    ("slice", {"balance": True}),
    ("volume", {}),
    ("patch", {"patches": 3, "patch_size": 8}),
    ("patch3d", {"patches": 2, "patch_size": (3, 8, 8)}),
]


@pytest.mark.parametrize(("unit", "options"), UNITS)
def test_an_epoch_started_later_gives_bit_for_bit_what_is_left_of_it(source: Make, unit: str, options: dict) -> None:
    straight = list(loader(source(n=8, paired=True), unit, augment=AUGMENT, **options).epoch(2))
    assert len(straight) >= 4
    for start in range(len(straight) + 1):
        resumed = loader(source(n=8, paired=True), unit, augment=AUGMENT, **options)
        assert all_same(resumed.epoch(2, start=start), straight[start:])


@pytest.mark.parametrize(("unit", "options"), UNITS)
def test_an_epoch_does_not_depend_on_those_before(source: Make, unit: str, options: dict) -> None:
    used, fresh = (loader(source(paired=True), unit, augment=AUGMENT, **options) for _ in range(2))
    list(used.epoch(0))
    list(used.epoch(7))
    assert all_same(used.epoch(3), fresh.epoch(3))


def test_epochs_and_seeds_differ(source: Make) -> None:
    given = source()
    first = list(loader(given).epoch(0))
    assert not all_same(first, loader(given).epoch(1))
    assert not all_same(first, loader(given, seed=4).epoch(0))


def test_batches_do_not_touch_the_global_generators(source: Make) -> None:
    torch.manual_seed(1)
    np.random.seed(1)
    before = torch.get_rng_state(), np.random.get_state()[1].copy()
    list(loader(source(), augment=AUGMENT).epoch(0))
    assert torch.equal(before[0], torch.get_rng_state())
    assert np.array_equal(before[1], np.random.get_state()[1])


def test_every_case_is_seen_once_an_epoch(source: Make) -> None:
    assert sorted(names(loader(source()).epoch(0))) == [f"c{i}" for i in range(6)]


def test_several_slices_a_case_are_drawn_when_asked_for(source: Make) -> None:
    assert Counter(names(loader(source(), slices=4).epoch(0))) == {f"c{i}": 4 for i in range(6)}


def test_slices_of_one_case_are_drawn_apart(source: Make) -> None:
    drawn = [name for batch in loader(source(n=1), batch=1, slices=12).epoch(0) for name in batch["ids"]]
    assert len(set(drawn)) > 1


def test_a_last_short_batch_is_left_out_unless_it_is_the_only_one(source: Make) -> None:
    assert [len(b["ids"]) for b in loader(source(), batch=4).epoch(0)] == [4]
    assert [len(b["ids"]) for b in loader(source(), batch=20).epoch(0)] == [6]
    assert loader(source(), batch=4).steps == 1


@pytest.mark.parametrize("n", [6, 7, 9])
@pytest.mark.parametrize("balance", [False, True])
def test_ranks_take_equal_numbers_of_steps_and_share_the_epoch(source: Make, n: int, balance: bool) -> None:
    given = source(n=n)
    ranks = [loader(given, batch=1, rank=r, ranks=2, balance=balance) for r in range(2)]
    single = loader(given, batch=1, balance=balance)
    assert ranks[0].steps == ranks[1].steps
    seen = [names(one.epoch(0)) for one in ranks]
    assert len(seen[0]) == len(seen[1]) == ranks[0].steps
    if not balance:
        assert set(seen[0]).isdisjoint(seen[1])
        together = [name for pair in zip(*seen, strict=True) for name in pair]
        assert together == names(single.epoch(0))[: len(together)]


@pytest.mark.parametrize("n", [2, 3])
def test_no_rank_is_left_with_a_single_case_where_a_batch_holds_more(source: Make, n: int) -> None:
    given = source(n=n)
    seen = [names(loader(given, batch=2, rank=r, ranks=2).epoch(0)) for r in range(2)]
    assert [len(set(each)) for each in seen] == [2, 2]
    assert len(set(seen[0] + seen[1])) == n
    assert len(names(loader(given, batch=1, rank=0, ranks=2).epoch(0))) == n // 2


def test_more_ranks_than_cases_is_refused(source: Make) -> None:
    with pytest.raises(InputError, match="too few for 4 ranks"):
        loader(source(n=3), ranks=4)


@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_balance_makes_half_of_every_batch_of_every_rank_positive(ranks: int) -> None:
    given = Unequal()
    for rank in range(ranks):
        batches = list(loader(given, batch=4, balance=True, rank=rank, ranks=ranks, steps=[]).epoch(0))
        assert len(batches) >= 1
        for batch in batches:
            assert batch["label"].sum() == 2


def test_balance_shows_every_case_of_the_commoner_kind_once() -> None:
    seen = Counter(names(loader(Unequal(), batch=2, balance=True, steps=[]).epoch(0)))
    assert [seen[f"c{i}"] for i in range(3, 15)] == [1] * 12
    assert [seen[f"c{i}"] for i in range(3)] == [4] * 3


def test_balance_needs_both_kinds(source: Make) -> None:
    with pytest.raises(InputError, match="positive and negative"):
        loader(source(n=1), balance=True)


class Unequal:
    """3 positive and 12 negative cases without masks."""

    def cases(self) -> list[Case]:
        return [Case(f"c{i}", f"p{i}", label=float(i < 3)) for i in range(15)]

    def identity(self, case: Case) -> str:
        return case.id

    def load(self, case: Case) -> Record:
        return Record(Volume(np.zeros((2, 8, 8), np.int16)))


def test_slices_are_drawn_in_proportion_to_their_positive_voxels_as_published(shared: Path) -> None:
    golden = np.load(shared / "golden" / "smart_preprocess_2022.npz")
    mask = np.ascontiguousarray(np.moveaxis(golden["resized96_label"], 2, 0))
    weight = golden["positive_voxels_per_slice_resized"] / golden["positive_voxels_per_slice_resized"].sum()

    class One(Unequal):
        def cases(self) -> list[Case]:
            return [Case("c0", "p0")]

        def load(self, case: Case) -> Record:
            return Record(Volume(np.zeros(mask.shape, np.int16)), Volume(mask))

    made = loader(One(), steps=[], draw="positive")
    drawn = Counter(int(made.batch((epoch, 0))["ids"][0].split("#")[1]) for epoch in range(1000))
    published = Counter(golden["sampled_slice_index_seed0_199"].tolist())
    for z, w in enumerate(weight):
        assert drawn[z] / 1000 == pytest.approx(w, abs=4 * np.sqrt(0.25 / 1000))
        assert published[z] / 200 == pytest.approx(drawn[z] / 1000, abs=4 * np.sqrt(0.25 / 200))


def test_cases_without_positive_voxels_give_every_slice(source: Make) -> None:
    made = loader(source(n=1), draw="positive")
    drawn = {made.batch((epoch, 0))["ids"][0] for epoch in range(60)}
    assert drawn == {f"c0#{z}" for z in range(4)}


@pytest.mark.parametrize(("unit", "size"), [("slice", {}), ("patch", {"patches": 1, "patch_size": 8})])
def test_slices_are_drawn_as_they_lie_in_the_data_unless_positive_ones_are_asked_for(unit: str, size: dict) -> None:
    mask = np.zeros((10, 8, 8), np.uint8)
    mask[4, 2:4, 2:4] = 1

    class One(Unequal):
        def cases(self) -> list[Case]:
            return [Case("c0", "p0")]

        def load(self, case: Case) -> Record:
            return Record(Volume(np.zeros(mask.shape, np.int16)), Volume(mask))

    def share(**options: Any) -> float:
        made = loader(One(), unit, steps=[], **size, **options)
        return sum(made.batch((epoch, 0))["ids"] == ["c0#4"] for epoch in range(400)) / 400

    assert share() == pytest.approx(0.1, abs=0.06)
    assert share(draw="uniform") == share()
    assert share(draw="positive") == 1


def test_the_label_of_a_slice_is_that_of_its_mask_and_of_a_volume_that_of_its_case(source: Make) -> None:
    for epoch in range(3):
        for batch in loader(source(), batch=3).epoch(epoch):
            assert torch.equal(batch["label"], batch["mask"].flatten(1).any(1).float())
        for batch in loader(source(), "volume").epoch(epoch):
            assert batch["label"].tolist() == [float(int(name[1:]) % 2) for name in batch["ids"]]


def test_slices_are_those_of_the_sample(source: Make) -> None:
    made = loader(source(paired=True))
    for batch in made.epoch(1):
        for i, name in enumerate(batch["ids"]):
            case, z = name.split("#")
            sample = made.dataset.sample(made.cases[int(case[1:])])
            for key in ("image", "mask", "target"):
                np.testing.assert_array_equal(batch[key][i, 0].numpy(), getattr(sample, key)[int(z)])


def test_volumes_are_packed_and_never_padded(source: Make) -> None:
    made = loader(source(), "volume", batch=3)
    for batch in made.epoch(0):
        samples = [made.dataset.sample(made.cases[int(name[1:])]) for name in batch["ids"]]
        assert batch["lengths"].tolist() == [len(sample.image) for sample in samples]
        assert len(set(batch["lengths"].tolist())) > 1
        expected = np.concatenate([sample.image for sample in samples])
        np.testing.assert_array_equal(batch["image"][:, 0].numpy(), expected)
        assert len(batch["mask"]) == len(batch["image"])


def test_shapes_and_types_are_those_of_the_contract(source: Make) -> None:
    batch = next(iter(loader(source(paired=True), "patch", fields=("age",), patches=3, patch_size=8).epoch(0)))
    assert batch["image"].shape == batch["target"].shape == batch["mask"].shape == (6, 1, 8, 8)
    assert len(batch["ids"]) == len(batch["label"]) == len(batch["age"]) == 6
    tensors = [value for value in batch.values() if isinstance(value, torch.Tensor)]
    assert all(tensor.dtype == torch.float32 and tensor.is_contiguous() for tensor in tensors)


def test_numeric_fields_come_along(source: Make) -> None:
    for batch in loader(source(), fields=("age",)).epoch(0):
        assert batch["age"].tolist() == [40.0 + int(name[1]) for name in batch["ids"]]


class Head(Unequal):
    """One pair whose foreground is a box; each pixel holds its own number."""

    def __init__(self, size: int = 32) -> None:
        self.size = size

    def cases(self) -> list[Case]:
        return [Case("c0", "p0")]

    def load(self, case: Case) -> Record:
        target = np.zeros((2, self.size, self.size), np.float32)
        box = target[:, 6 : self.size - 4, 9 : self.size - 2]
        box[:] = np.arange(1, box[0].size + 1).reshape(box[0].shape)
        return Record(Volume(target + 0.25), target=Volume(target))


def test_patches_lie_inside_the_foreground_at_the_same_place_in_image_and_target() -> None:
    made = loader(Head(), "patch", batch=1, steps=[], patches=40, patch_size=8)
    batch = next(iter(made.epoch(0)))
    assert torch.equal(batch["image"], batch["target"] + 0.25)
    assert batch["target"].min() >= 1
    corners = batch["target"][:, 0, 0, 0].unique()
    assert len(corners) > 20
    rows, columns = (corners - 1) // 21, (corners - 1) % 21
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (0, 14, 0, 13)


@pytest.mark.parametrize("size", [12, 24])
def test_patches_larger_than_foreground_or_image_still_have_their_size(size: int) -> None:
    batch = next(iter(loader(Head(size), "patch", batch=1, steps=[], patches=3, patch_size=20).epoch(0)))
    assert batch["image"].shape == (3, 1, 20, 20)
    assert batch["target"].max() == (size - 10) * (size - 11)


def test_every_patch_is_augmented_by_itself() -> None:
    made = loader(Head(10 + 8), "patch", batch=1, steps=[MinMax()], patches=24, patch_size=18, augment=[Dihedral()])
    images = next(iter(made.epoch(0)))["image"]
    assert len({image.numpy().tobytes() for image in images}) > 4


def test_augmentation_on_the_cpu_happens_in_the_loader(source: Make) -> None:
    given = source()
    plain, flipped = loader(given), loader(given, augment=[HorizontalFlip(p=1.0)])
    assert flipped.device_augment is None
    for a, b in zip(plain.epoch(0), flipped.epoch(0), strict=True):
        for name in ("image", "mask"):
            np.testing.assert_array_equal(a[name].flip(-1).numpy(), b[name].numpy())


def test_augmentation_on_the_device_is_left_to_the_engine(source: Make) -> None:
    given = source()
    plain = loader(given, "volume")
    flipped = loader(given, "volume", augment=[HorizontalFlip(p=1.0)], augment_on="device")
    assert all_same(plain.epoch(0), flipped.epoch(0))
    assert flipped.device_augment is not None
    batch = next(iter(flipped.epoch(0)))
    moved = flipped.device_augment(batch)
    np.testing.assert_allclose(moved["image"].numpy(), batch["image"].flip(-1).numpy(), atol=1e-6)


def test_slices_of_a_volume_are_augmented_alike(source: Make) -> None:
    class Same(Unequal):
        def load(self, case: Case) -> Record:
            image = np.random.default_rng(0).random((1, 16, 16), np.float32)
            return Record(Volume(np.repeat(image, 3, 0)))

    made = loader(Same(), "volume", batch=4, steps=[], augment=[ShiftScaleRotate(p=1.0)])
    for batch in made.epoch(0):
        volumes = batch["image"].split(batch["lengths"].tolist())
        assert all(torch.equal(v[0], v[1]) and torch.equal(v[0], v[2]) for v in volumes)
        assert not torch.equal(volumes[0][0], volumes[1][0])


def test_drawing_slices_of_whole_volumes_is_refused(source: Make) -> None:
    with pytest.raises(InputError, match="whole volumes"):
        loader(source(), "volume", slices=2)


class Broken(Unequal):
    def load(self, case: Case) -> Record:
        raise InputError("the file is cut short", "c7.dcm")


def test_an_error_while_loading_reaches_the_consumer() -> None:
    with pytest.raises(InputError, match=r"c7\.dcm"):
        list(loader(Broken(), steps=[]).epoch(0))


def test_leaving_an_epoch_early_ends_its_thread(source: Make) -> None:
    before = threading.active_count()
    batches = loader(source(n=12), batch=1).epoch(0)
    next(batches)
    assert threading.active_count() == before + 1
    batches.close()  # type: ignore[attr-defined]
    assert threading.active_count() == before


def test_a_whole_case_is_a_volume_batch(source: Make) -> None:
    made = loader(source(paired=True), fields=("age",))
    sample = made.dataset.sample(made.cases[1])
    batch = whole(sample, ("age",))
    assert batch["ids"] == ["c1"]
    assert batch["lengths"].tolist() == [len(sample.image)]
    assert (batch["label"].item(), batch["age"].item()) == (1.0, 41.0)
    for name in ("image", "mask", "target"):
        np.testing.assert_array_equal(batch[name][:, 0].numpy(), getattr(sample, name))


@pytest.mark.parametrize("where", ["cpu", "device"])
def test_augmentations_that_cut_to_0_to_1_refuse_other_values(source: Make, where: str) -> None:
    given = loader(source(), steps=[], augment=[HorizontalFlip(), GaussNoise()], augment_on=where)
    with pytest.raises(InputError, match=r"case 'c\d' spans -?\d.* to \d.*, but GaussNoise needs \[0,1\]; prepare it"):
        list(given.epoch(0))
    assert list(loader(source(), steps=[], augment=[HorizontalFlip()], augment_on=where).epoch(0))
