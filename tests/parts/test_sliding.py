"""Overlapping windows: published numbers, sizes that do not fit, memory that runs out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from medkit.errors import InputError, RunError
from medkit.objectives.common import restore_slices
from medkit.parts.sliding import sliding_window, weights, windows


def image(*shape: int) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(sum(shape)))


def test_the_published_evaluation_is_repeated(golden: Path) -> None:
    with np.load(golden / "sliding_window_ov30.npz") as file:
        x, ramp, expected = (torch.from_numpy(file[name]) for name in ("x", "ramp", "y"))
    found = sliding_window(lambda tiles: tiles * ramp, x, 64, overlap=0.3, blend="constant")
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("blend", ["gaussian", "constant"])
@pytest.mark.parametrize(
    "shape", [(2, 1, 16, 16), (1, 3, 37, 53), (3, 1, 5, 40), (1, 2, 7, 9), (1, 1, 9, 20, 17), (2, 1, 33)]
)
@pytest.mark.parametrize("overlap", [0.0, 0.25, 0.9])
def test_a_network_that_looks_at_single_voxels_gives_what_it_gives_of_the_whole(blend, shape, overlap) -> None:
    x = image(*shape)
    found = sliding_window(lambda tiles: torch.cat([tiles**2, -tiles], 1), x, 16, overlap=overlap, blend=blend)
    torch.testing.assert_close(found, torch.cat([x**2, -x], 1))


def test_windows_reach_every_voxel_and_stay_inside() -> None:
    seen = torch.zeros(37, 16)
    for cut in windows((37, 16), (16, 16), 0.3):
        assert seen[cut].shape == (16, 16)
        seen[cut] += 1
    assert seen.min() >= 1


def test_gaussian_weights_are_largest_in_the_middle_and_never_nothing() -> None:
    weight = weights((64, 64), "gaussian")
    assert weight[31, 31] == weight.max()
    assert weight[0, 0] == pytest.approx(1e-3)
    assert torch.equal(weight, weight.flip(0).T)


def test_gaussian_blending_hides_the_seams_of_a_network_that_errs_at_its_borders() -> None:
    ramp = torch.linspace(-1, 1, 16) ** 5 * torch.ones(16, 1)

    def jump(blend) -> float:
        found = sliding_window(lambda tiles: tiles + ramp, torch.zeros(1, 1, 16, 96), 16, overlap=0.5, blend=blend)
        return float(found[..., 6:10, 8:-8].diff(dim=-1).abs().max())

    assert jump("gaussian") < 0.2 * jump("constant")


def test_windows_of_all_images_share_batches() -> None:
    sizes = []

    def network(tiles: Tensor) -> Tensor:
        sizes.append(len(tiles))
        return tiles

    sliding_window(network, image(3, 1, 16, 40), 16, overlap=0.25, batch=4)
    assert sizes == [4, 4, 1]


def test_large_results_are_gathered_in_memory_and_come_back_to_the_image() -> None:
    x = image(2, 1, 20, 20)
    torch.testing.assert_close(sliding_window(lambda tiles: tiles, x, 16, on_device=1), x)


def test_half_precision_is_blended_in_single_precision() -> None:
    x = image(1, 1, 40, 40).to(torch.bfloat16)
    found = sliding_window(lambda tiles: tiles, x, 16, overlap=0.75)
    assert found.dtype == torch.bfloat16
    assert torch.equal(found, x)


class Tight:
    """A network on a device that holds ``room`` windows."""

    def __init__(self, room: int) -> None:
        self.room, self.done = room, 0

    def __call__(self, tiles: Tensor) -> Tensor:
        if len(tiles) > self.room:
            raise torch.OutOfMemoryError("CUDA out of memory")
        self.done += len(tiles)
        return tiles * 2


def test_memory_that_runs_out_halves_the_batch_once_says_so_and_repeats_nothing() -> None:
    x, network = image(1, 1, 64, 64), Tight(4)
    with pytest.warns(UserWarning, match="continuing with 4 windows at a time") as said:
        found = sliding_window(network, x, 16, overlap=0, batch=8)
    torch.testing.assert_close(found, x * 2)
    assert (len(said), network.done) == (1, 16)


def test_memory_that_runs_out_twice_is_an_error_that_says_what_to_do() -> None:
    with (
        pytest.warns(UserWarning, match="4 windows"),
        pytest.raises(RunError, match="does not hold 4 windows of 16x16; make the window"),
    ):
        sliding_window(Tight(3), image(1, 1, 64, 64), 16, batch=8)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"window": (16, 16, 16)}, "2 spatial dimensions"),
        ({"window": 0}, "does not fit"),
        ({"window": 16, "overlap": 1.0}, r"\[0, 1\)"),
        ({"window": 16, "batch": 0}, "a batch of 0"),
    ],
)
def test_settings_out_of_range_are_refused(arguments, message) -> None:
    with pytest.raises(InputError, match=message):
        sliding_window(lambda tiles: tiles, image(1, 1, 20, 20), **arguments)


def test_a_network_that_changes_the_size_is_refused() -> None:
    with pytest.raises(InputError, match=r"makes \[8, 8\] of windows of \[16, 16\]"):
        sliding_window(lambda tiles: tiles[..., ::2, ::2], image(1, 1, 20, 20), 16)


def test_tiled_slices_are_whole_ones_but_for_the_borders_of_tiles() -> None:
    torch.manual_seed(0)
    generator = torch.nn.Conv2d(1, 1, 3)

    def same(x: Tensor) -> Tensor:
        return generator(torch.nn.functional.pad(x, (1, 1, 1, 1)))

    x = image(3, 1, 40, 50)
    with torch.inference_mode():
        whole = restore_slices(same, x, 2)
        tiled = restore_slices(same, x, 2, tile=32, overlap=0.5)
    # A tile's outermost ring sees zeros instead of its neighbours; inside the image its weight is small.
    assert (whole - tiled)[..., 8:-8, 8:-8].abs().max() < 0.02
