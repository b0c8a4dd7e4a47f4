"""Augmentations on the CPU and on the device: what moves together, what stays, and what the seed decides."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from medkit.data.augment import (
    Blur,
    Brightness,
    Contrast,
    Dihedral,
    GaussNoise,
    HorizontalFlip,
    ShiftIntensity,
    ShiftScaleRotate,
    symmetry,
)
from medkit.data.augment_chains import CPUChain, DeviceChain
from medkit.data.augment_crop import RandomResizedCrop

GEOMETRY = [ShiftScaleRotate(p=1.0), HorizontalFlip(p=1.0), Dihedral(), RandomResizedCrop()]
INTENSITY = [ShiftIntensity(p=1.0), Brightness(p=1.0), Contrast(p=1.0), GaussNoise(p=1.0), Blur(p=1.0)]
EVERY = [*GEOMETRY, *INTENSITY]
SILENT = [step for step in EVERY if not isinstance(step, GaussNoise)]
SIZE = 48


def name_of(step: Any) -> str:
    return type(step).__name__


def blobs() -> np.ndarray:
    """An asymmetric smooth pattern in [0.2,0.8]."""
    y, x = np.mgrid[:SIZE, :SIZE] / SIZE
    return (0.5 + 0.3 * np.sin(7 * x + 3 * y * y) * np.cos(5 * y + x)).astype(np.float32)


def arrays(depth: int = 3) -> dict[str, np.ndarray]:
    image = np.tile(blobs(), (depth, 1, 1))
    return {"image": image, "mask": (image > 0.5).astype(np.uint8), "target": image.copy()}


def on_cpu(step: Any, given: dict[str, np.ndarray], seed: int = 0) -> dict[str, np.ndarray]:
    return CPUChain([step])(given, np.random.default_rng(seed))


def on_device(step: Any, lengths: list[int] | None = None, seed: int = 0, depth: int = 4) -> dict[str, Any]:
    batch: dict[str, Any] = {k: torch.from_numpy(v).float()[:, None] for k, v in arrays(depth).items()}
    if lengths is not None:
        batch["lengths"] = torch.tensor(lengths)
    torch.manual_seed(seed)
    return DeviceChain([step])(batch)


@pytest.mark.parametrize("step", SILENT, ids=name_of)
def test_cpu_gives_all_slices_the_same_parameters(step: Any) -> None:
    for seed in range(4):
        image = on_cpu(step, arrays(), seed)["image"]
        assert np.array_equal(image[0], image[1])
        assert np.array_equal(image[0], image[2])


@pytest.mark.parametrize("step", EVERY, ids=name_of)
def test_cpu_results_follow_the_generator(step: Any) -> None:
    first, again = on_cpu(step, arrays(), 5)["image"], on_cpu(step, arrays(), 5)["image"]
    others = [on_cpu(step, arrays(), seed)["image"] for seed in range(6, 14)]
    assert np.array_equal(first, again)
    if not isinstance(step, HorizontalFlip):  # which has one outcome at p = 1
        assert any(not np.array_equal(first, other) for other in others)


@pytest.mark.parametrize("step", EVERY, ids=name_of)
def test_cpu_draws_do_not_depend_on_what_the_chain_did_before(step: Any) -> None:
    used, fresh = CPUChain([step]), CPUChain([step])
    used(arrays(), np.random.default_rng(1))
    a, b = used(arrays(), np.random.default_rng(2)), fresh(arrays(), np.random.default_rng(2))
    assert np.array_equal(a["image"], b["image"])


@pytest.mark.parametrize("step", GEOMETRY, ids=name_of)
def test_cpu_moves_image_mask_and_target_together(step: Any) -> None:
    for seed in range(4):
        out = on_cpu(step, arrays(), seed)
        assert set(np.unique(out["mask"])) <= {0, 1}
        assert np.array_equal(out["image"], out["target"])
        # Nearest neighbour and linear interpolation differ at the edge only.
        assert np.mean((out["image"] > 0.5) != out["mask"]) < 0.03


@pytest.mark.parametrize("step", INTENSITY, ids=name_of)
def test_intensity_leaves_masks_alone(step: Any) -> None:
    assert np.array_equal(on_cpu(step, arrays())["mask"], arrays()["mask"])
    assert torch.equal(on_device(step)["mask"], torch.from_numpy(arrays(4)["mask"]).float()[:, None])


@pytest.mark.parametrize("step", SILENT, ids=name_of)
def test_device_gives_the_slices_of_a_volume_the_same_parameters_and_volumes_their_own(step: Any) -> None:
    for seed in range(3):
        image = on_device(step, [3, 1], seed)["image"]
        assert torch.equal(image[0], image[1])
        assert torch.equal(image[0], image[2])
    if not isinstance(step, HorizontalFlip):
        images = [on_device(step, [3, 1], seed)["image"] for seed in range(6)]
        assert any(not torch.equal(image[2], image[3]) for image in images)


@pytest.mark.parametrize("step", [s for s in SILENT if not isinstance(s, HorizontalFlip)], ids=name_of)
def test_device_gives_single_slices_their_own_parameters(step: Any) -> None:
    image = on_device(step, depth=8)["image"]
    assert any(not torch.equal(image[0], other) for other in image[1:])


@pytest.mark.parametrize("step", EVERY, ids=name_of)
@pytest.mark.parametrize("lengths", [None, [3, 1]])
def test_device_results_follow_the_generator_of_torch(step: Any, lengths: list[int] | None) -> None:
    first, again = on_device(step, lengths, 7), on_device(step, lengths, 7)
    for name in ("image", "mask", "target"):
        assert torch.equal(first[name], again[name])


@pytest.mark.parametrize("step", GEOMETRY, ids=name_of)
@pytest.mark.parametrize("lengths", [None, [3, 1]])
def test_device_moves_image_mask_and_target_together(step: Any, lengths: list[int] | None) -> None:
    for seed in range(3):
        out = on_device(step, lengths, seed)
        assert set(out["mask"].unique().tolist()) <= {0.0, 1.0}
        assert torch.equal(out["image"], out["target"])
        assert ((out["image"] > 0.5) != out["mask"].bool()).float().mean() < 0.03


def test_flip_is_the_same_on_cpu_and_device() -> None:
    cpu, device = on_cpu(HorizontalFlip(p=1.0), arrays(4)), on_device(HorizontalFlip(p=1.0))
    for name in ("image", "mask"):
        assert np.array_equal(cpu[name], arrays(4)[name][..., ::-1])
        np.testing.assert_allclose(device[name][:, 0].numpy(), cpu[name], atol=1e-6)


def test_dihedral_gives_the_same_eight_pictures_on_cpu_and_device() -> None:
    expected = {symmetry(torch.from_numpy(blobs()), k).numpy().tobytes() for k in range(8)}
    cpu = {on_cpu(Dihedral(), arrays(1), seed)["image"][0].tobytes() for seed in range(80)}
    device = {
        image.numpy().tobytes() for seed in range(4) for image in on_device(Dihedral(), depth=20, seed=seed)["image"]
    }
    assert len(expected) == 8
    assert cpu == device == expected


def moved_by(image: np.ndarray, original: np.ndarray) -> tuple[float, float]:
    """Angle in degrees and scale that bring ``original`` to ``image`` (one bright bar off the centre)."""

    def bar(picture: np.ndarray) -> tuple[float, float]:
        y, x = np.indices(picture.shape)
        w = np.where(picture > 0.25, picture, 0)
        y, x = y - (w * y).sum() / w.sum(), x - (w * x).sum() / w.sum()
        cov = np.array([[(w * x * x).sum(), (w * x * y).sum()], [(w * x * y).sum(), (w * y * y).sum()]]) / w.sum()
        values, vectors = np.linalg.eigh(cov)
        return float(np.degrees(np.arctan2(vectors[1, 1], vectors[0, 1]))), float(np.sqrt(values[1]))

    (a, s), (b, t) = bar(original), bar(image)
    return (b - a + 90) % 180 - 90, t / s


@pytest.mark.parametrize("where", ["cpu", "device"])
def test_rotation_and_scale_stay_within_their_limits_and_use_them(where: str) -> None:
    picture = np.zeros((SIZE, SIZE), np.float32)
    picture[22:26, 14:34] = 1
    step, found = ShiftScaleRotate(shift=0.0, p=1.0), []
    if where == "cpu":
        images = [on_cpu(step, {"image": picture[None]}, seed)["image"][0] for seed in range(60)]
    else:
        torch.manual_seed(0)
        images = list(
            DeviceChain([step])({"image": torch.from_numpy(picture).repeat(60, 1, 1, 1)})["image"][:, 0].numpy()
        )
    found = np.array([moved_by(image, picture) for image in images])
    assert np.abs(found[:, 0]).max() < 16
    assert found[:, 0].min() < -8
    assert found[:, 0].max() > 8
    assert found[:, 1].min() > 0.85
    assert found[:, 1].max() < 1.15
    assert np.ptp(found[:, 1]) > 0.08


@pytest.mark.parametrize("where", ["cpu", "device"])
@pytest.mark.parametrize("step", [ShiftIntensity(p=1.0), Brightness(p=1.0)], ids=name_of)
def test_brightness_adds_one_offset_of_at_most_a_tenth(step: Any, where: str) -> None:
    offsets = []
    for seed in range(12):
        image = (
            on_cpu(step, arrays(), seed)["image"]
            if where == "cpu"
            else on_device(step, seed=seed)["image"][:1, 0].numpy()
        )
        difference = image[0] - blobs()
        assert np.ptp(difference) < 1e-5
        offsets.append(float(difference.mean()))
    assert max(map(abs, offsets)) <= 0.1001
    assert min(offsets) < 0 < max(offsets)


@pytest.mark.parametrize("where", ["cpu", "device"])
def test_contrast_multiplies_by_one_factor_within_a_tenth_of_1(where: str) -> None:
    step = Contrast(p=1.0)
    factors = []
    for seed in range(12):
        image = (
            on_cpu(step, arrays(), seed)["image"]
            if where == "cpu"
            else on_device(step, seed=seed)["image"][:1, 0].numpy()
        )
        factor = image[0] / blobs()
        assert np.ptp(factor) < 1e-4
        factors.append(float(factor.mean()))
    assert min(factors) >= 0.8999
    assert max(factors) <= 1.1001
    assert min(factors) < 1 < max(factors)


@pytest.mark.parametrize("where", ["cpu", "device"])
def test_noise_has_the_published_spread(where: str) -> None:
    flat = np.full((1, 64, 64), 0.5, np.float32)
    for seed in range(8):
        torch.manual_seed(seed)
        step = GaussNoise(p=1.0)
        if where == "cpu":
            image = on_cpu(step, {"image": flat}, seed)["image"]
        else:
            image = DeviceChain([step])({"image": torch.from_numpy(flat)[None]})["image"].numpy()
        assert 0.03 < image.std() < 0.075


@pytest.mark.parametrize("where", ["cpu", "device"])
def test_blur_smooths_and_keeps_the_mean(where: str) -> None:
    rough = np.random.default_rng(0).random((1, SIZE, SIZE), np.float32)
    torch.manual_seed(0)
    if where == "cpu":
        image = on_cpu(Blur(p=1.0), {"image": rough})["image"]
    else:
        image = DeviceChain([Blur(p=1.0)])({"image": torch.from_numpy(rough)[None]})["image"].numpy()
    assert image.std() < 0.9 * rough.std()
    assert image.mean() == pytest.approx(rough.mean(), abs=0.02)


def test_a_whole_chain_runs_on_both_and_stays_in_0_to_1() -> None:
    chain = [type(step)() for step in EVERY]
    for seed in range(5):
        out = CPUChain(chain)(arrays(), np.random.default_rng(seed))
        assert {k: v.shape for k, v in out.items()} == {k: v.shape for k, v in arrays().items()}
        assert out["image"].dtype == np.float32
        assert 0 <= out["image"].min() <= out["image"].max() <= 1
    torch.manual_seed(0)
    batch = {k: torch.from_numpy(v).float()[:, None] for k, v in arrays(4).items()} | {"ids": ["a", "b", "c", "d"]}
    moved = DeviceChain(chain)(batch)
    assert moved["ids"] == batch["ids"]
    assert 0 <= moved["image"].min() <= moved["image"].max() <= 1
