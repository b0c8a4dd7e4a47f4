"""Models Genesis: its distortions against published numbers and as properties; the pretext; the 3-D U-Net."""

from __future__ import annotations

import random
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from medkit_baselines import genesis_transforms as genesis
from medkit_baselines.genesis_encoder3d import GenesisEncoder3D
from medkit_baselines.genesis_unet3d import GenesisUNet3D
from medkit_baselines.model_genesis import ModelGenesis
from medkit_baselines.model_genesis3d import ModelGenesis3D
from safetensors.torch import save_file

import medkit
from medkit.errors import InputError
from medkit.objectives.multitask import Multitask
from medkit.registry.marks import Placed
from medkit.testing import check_encoder, check_operator, check_pretext

UNIT = st.floats(0, 1)
SMALL = {"widths": (8, 8, 8), "blocks": 100}
CLOSE = {"rtol": 1e-6, "atol": 1e-7}


@pytest.fixture(scope="module")
def arrays(shared: Path) -> Iterator[np.lib.npyio.NpzFile]:
    with np.load(shared / "golden" / "modelsgenesis_transforms.npz") as file:
        yield file


def seeded(seed: int) -> tuple[random.Random, np.random.RandomState]:
    return random.Random(seed), np.random.RandomState(seed)


def picture(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).random((1, *shape))


# -- the published numbers -------------------------------------------------------------------------------------


def test_the_bezier_curve_is_the_published_one(arrays: np.lib.npyio.NpzFile) -> None:
    x, y = genesis.bezier([tuple(point) for point in arrays["bezier/points"]], 1000)
    np.testing.assert_allclose(x, arrays["bezier/x"], **CLOSE)
    np.testing.assert_allclose(y, arrays["bezier/y"], **CLOSE)


@pytest.mark.parametrize("seed", [0, 1, 2, 3])
def test_intensity_maps_are_the_published_ones(arrays: np.lib.npyio.NpzFile, seed: int) -> None:
    chance = random.Random(seed)
    chance.random()  # the gate, which was always open
    mapped = genesis.remap(arrays["x"], *genesis.draw_map(chance), count=100_000)
    np.testing.assert_allclose(mapped, arrays[f"nonlinear_seed{seed}"], **CLOSE)


def test_local_shuffling_is_the_published_one(arrays: np.lib.npyio.NpzFile) -> None:
    image = arrays["x"]
    chance, rng = seeded(3)
    chance.random()
    starts, sizes = np.zeros((2, genesis.BLOCKS, 3), int)
    for start, size in zip(starts, sizes, strict=True):  # one block after the other, as published
        size[:] = [chance.randint(1, side // 10) for side in image.shape[1:]]
        start[:] = [chance.randint(0, side - s) for side, s in zip(image.shape[1:], size, strict=True)]
    orders = [rng.permutation(n) for n in sizes.prod(1)]  # of covered blocks too
    shuffled = genesis.shuffle(image, starts, sizes, lambda block, _: orders[block])
    np.testing.assert_array_equal(shuffled, arrays["local_shuffle_seed3"])


@pytest.mark.parametrize(
    ("paint", "name", "seed"), [(genesis.in_paint, "inpaint", 4), (genesis.out_paint, "outpaint", 5)]
)
def test_painting_is_the_published_one(arrays: np.lib.npyio.NpzFile, paint, name: str, seed: int) -> None:
    np.testing.assert_array_equal(paint(arrays["x"], *seeded(seed)), arrays[f"{name}_seed{seed}"])


@pytest.mark.parametrize(("name", "seed", "probability"), [("flip_seed6_x", 6, 0.4), ("flip_seed7_prob0.9_x", 7, 0.9)])
def test_flips_are_the_published_ones(arrays: np.lib.npyio.NpzFile, name: str, seed: int, probability: float) -> None:
    found = genesis.flip(arrays["x"], random.Random(seed), probability, axes=(0, 1, 2))
    np.testing.assert_array_equal(found, arrays[name])


# -- what always holds -----------------------------------------------------------------------------------------


@given(seed=st.integers(0, 10_000), height=st.integers(2, 40), width=st.integers(2, 40))
@settings(max_examples=25, deadline=None)
def test_shuffling_keeps_to_the_values_of_the_original(seed: int, height: int, width: int) -> None:
    image, rng = picture(seed, height, width), np.random.default_rng(seed)
    shuffled = genesis.shuffle(image, *genesis.blocks((height, width), 50, rng), lambda _, n: rng.permutation(n))
    assert set(shuffled.ravel()) <= set(image.ravel())


@given(seed=st.integers(0, 10_000), side=st.integers(10, 60))
@settings(max_examples=25, deadline=None)
def test_shuffling_moves_no_pixel_further_than_a_block(seed: int, side: int) -> None:
    rng = np.random.default_rng(seed)
    rows = np.broadcast_to(np.arange(side, dtype=float)[:, None], (side, side))[None]
    shuffled = genesis.shuffle(rows, *genesis.blocks((side, side), 200, rng), lambda _, n: rng.permutation(n))
    assert np.abs(shuffled - rows).max() < max(1, side // 10)


@given(first=st.tuples(UNIT, UNIT), second=st.tuples(UNIT, UNIT), rising=st.booleans())
@settings(max_examples=50, deadline=None)
def test_intensity_maps_are_monotone_from_end_to_end(
    first: tuple[float, float], second: tuple[float, float], rising: bool
) -> None:
    values = np.linspace(0, 1, 101)[None]
    mapped = genesis.remap(values, first, second, rising)[0]
    assert mapped.min() >= -1e-12
    assert mapped.max() <= 1 + 1e-12
    assert mapped[[0, -1]] == pytest.approx([0, 1] if rising else [1, 0], abs=1e-9)
    steps = np.diff(mapped) if rising else -np.diff(mapped)
    assert steps.min() >= -1e-9


def test_intensity_maps_of_fewer_points_are_the_published_ones_to_rounding() -> None:
    values = np.linspace(0, 1, 1001)[None]
    for hard in (((0.0, 0.9), (0.0, 0.2)), ((1.0, 0.0), (0.0, 1.0)), ((0.9, 0.9), (0.9, 1.0))):
        difference = genesis.remap(values, *hard, True) - genesis.remap(values, *hard, True, count=100_000)
        assert np.abs(difference).max() < 1e-4


@given(seed=st.integers(0, 10_000), height=st.integers(2, 70), width=st.integers(2, 70))
@settings(max_examples=50, deadline=None)
def test_painting_leaves_what_it_does_not_paint(seed: int, height: int, width: int) -> None:
    image = picture(seed, height, width) + 2  # noise in [0,1) is told apart from it
    inside = genesis.in_paint(image, *seeded(seed))
    outside = genesis.out_paint(image, *seeded(seed))
    for painted in (inside, outside):
        kept = painted >= 2
        assert np.array_equal(painted[kept], image[kept])
        assert np.all((painted[~kept] >= 0) & (painted[~kept] < 1))
    if min(height, width) >= 16:
        assert np.all(inside[:, :3] >= 2), "boxes of noise stay off the border"
        assert np.all(outside[:, :3] < 2), "kept boxes do too"
        assert np.any(outside >= 2), "one box at least is kept"


@given(seed=st.integers(0, 10_000))
@settings(max_examples=25, deadline=None)
def test_flips_reach_image_and_target_alike(seed: int) -> None:
    image = picture(seed, 12, 15)
    only_flips = genesis.Chances(flip=0.9, shuffle=0, intensity=0, paint=0)
    distorted, target = genesis.distort(image, random.Random(seed), np.random.default_rng(seed), only_flips)
    assert np.array_equal(distorted, target)
    assert any(np.array_equal(target, image[:, ::a, ::b]) for a in (1, -1) for b in (1, -1))


def test_distorting_leaves_the_image_itself_alone() -> None:
    image = picture(0, 32, 32)
    before = image.copy()
    for seed in range(8):
        genesis.distort(image, random.Random(seed), np.random.default_rng(seed))
    assert np.array_equal(image, before)


# -- the pretext -----------------------------------------------------------------------------------------------


def test_model_genesis_keeps_every_promise_of_a_pretext() -> None:
    check_pretext(ModelGenesis, **SMALL)


def test_model_genesis_distorts_each_image_of_a_batch_by_itself() -> None:
    head = ModelGenesis((8,), (1,), flip=0, paint=1, inside=0, **SMALL)
    image = torch.rand(1, 1, 32, 32).expand(4, 1, 32, 32)
    inputs, targets = head.view({"image": image})
    assert torch.equal(targets, image)
    assert len({tuple(x.flatten().tolist()) for x in inputs}) == 4


def test_model_genesis_without_its_chances_restores_the_image_itself() -> None:
    head = ModelGenesis((8,), (1,), flip=0, shuffle=0, intensity=0, paint=0, **SMALL)
    image = torch.rand(2, 1, 17, 19)
    inputs, targets = head.view({"image": image})
    assert torch.equal(inputs, image)
    assert torch.equal(targets, image)


def test_model_genesis_learns_to_restore() -> None:
    torch.manual_seed(0)
    encoder = medkit.build("encoder", "timm", model="test_resnet")
    head = ModelGenesis(encoder.channels, encoder.strides, **SMALL)
    objective = Multitask(encoder, {"genesis": Placed(head, {"weight": 1.0})})
    optimizer = torch.optim.Adam(objective.parameters(), 1e-2)
    batch = {"image": torch.rand(4, 1, 8, 8).repeat_interleave(4, 2).repeat_interleave(4, 3)}
    losses = []
    for _ in range(8):
        optimizer.zero_grad()
        loss = objective.losses("train", batch)["genesis"]
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert np.mean(losses[-3:]) < np.mean(losses[:3])


# -- the 3-D U-Net ---------------------------------------------------------------------------------------------


def published_weights(model: GenesisUNet3D, seed: int) -> dict[str, torch.Tensor]:
    """Weights drawn by name, as those behind the recorded output were."""
    weights = {}
    for name, tensor in model.state_dict().items():
        rng = np.random.RandomState((zlib.crc32(name.encode()) + seed) % 2**32)
        drawn = rng.randn(*tensor.shape)
        if tensor.dim() == 1:
            drawn = 1 + 0.1 * drawn if name.endswith("weight") else 0.05 * drawn
        else:
            drawn = drawn * np.sqrt(2 / np.prod(tensor.shape[1:]))
        weights[name] = torch.from_numpy(drawn.astype(np.float32))
    return weights


def test_the_unet_equals_the_published_one(golden: Path) -> None:
    with np.load(golden / "modelsgenesis_unet3d.npz") as file:
        x, expected = torch.from_numpy(file["x"]), torch.from_numpy(file["out"])
    model = GenesisUNet3D((1,), (1,)).eval()
    assert sum(p.numel() for p in model.parameters()) == 19_073_665
    model.load_state_dict(published_weights(model, 200))
    with torch.no_grad():
        torch.testing.assert_close(torch.sigmoid(model.volume(x)), expected, rtol=1e-3, atol=1e-4)


def test_the_unet_keeps_every_promise_of_an_operator() -> None:
    check_operator(GenesisUNet3D, width=2)


def test_the_unet_takes_over_all_published_weights_but_the_last_layer(tmp_path: Path) -> None:
    weights = published_weights(GenesisUNet3D((1,), (1,), width=2), 1)
    saved = {f"module.{name}": tensor for name, tensor in weights.items()}
    saved["module.down_tr64.ops.0.bn1.running_mean"] = torch.zeros(2)
    save_file(saved, tmp_path / "genesis.safetensors")
    torch.manual_seed(0)
    model = GenesisUNet3D((1,), (1,), width=2, weights=str(tmp_path / "genesis.safetensors"))
    same = {name for name, tensor in model.state_dict().items() if torch.equal(tensor, weights[name])}
    assert set(weights) - same == {"out_tr.final_conv.weight", "out_tr.final_conv.bias"}


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    save_file({"conv.weight": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(InputError, match="lacks 62 tensors of this network"):
        GenesisUNet3D((1,), (1,), width=2, weights=str(tmp_path / "other.safetensors"))


# -- volumes -------------------------------------------------------------------------------------------------------


def test_the_pretext_of_volumes_keeps_every_promise() -> None:
    check_pretext(ModelGenesis3D, blocks=20)


def test_the_encoder_of_volumes_keeps_every_promise() -> None:
    check_encoder(GenesisEncoder3D, width=2)


def test_voxels_of_a_volume_move_between_its_slices() -> None:
    depths = (torch.arange(20.0) / 20)[:, None, None].expand(1, 1, 20, 20, 20)
    head = ModelGenesis3D((4,), ((1, 1, 1),), flip=0.0, shuffle=1.0, intensity=0.0, paint=0.0, blocks=400)
    inputs, target = head.view({"image": depths})
    torch.testing.assert_close(target, depths)
    assert (inputs != depths).any()
