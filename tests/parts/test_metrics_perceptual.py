"""PL and TML against numbers of the published code, and what they share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from medkit.errors import InputError
from medkit.evaluation.evaluate import stack
from medkit.parts.features import RANDOM, VGG19, RandomTestFeatures, load_by_name
from medkit.parts.metrics_perceptual import PL, TML, WEIGHTS, Distances, grams
from medkit.testing import check_metric

CLOSE = {"rtol": 1e-4, "atol": 1e-6}


class Counted(RandomTestFeatures):
    """The random network, counting the slices it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[int] = []

    def forward(self, x: Tensor) -> Iterator[Tensor]:
        self.seen.append(len(x))
        yield from super().forward(x)


def case(seed: int = 0, depth: int = 3, size: int = 32, patient: str = "a") -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    image, target, output = rng.random((3, depth, size, size), dtype=np.float32)
    return {"patient": patient, "image": image, "target": target, "output": output}


@pytest.fixture(scope="module")
def arrays() -> dict[str, np.ndarray]:
    """Numbers of the published PL and TML, with a VGG19 of few channels."""
    with np.load(Path(__file__).parents[1] / "golden" / "metrics_pl_tml_smallvgg.npz") as file:
        return {name: file[name] for name in file.files}


@pytest.fixture(scope="module")
def small(arrays: dict[str, np.ndarray]) -> VGG19:
    net = VGG19((4, 8, 16, 32, 32)).eval()
    load_by_name(net, {f"features.{k[2:]}": torch.from_numpy(v) for k, v in arrays.items() if k[:2] == "w/"}, "")
    return net


@pytest.fixture(scope="module")
def images(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name: arrays[name][0, 0].astype(np.float32) for name in ("ldct", "ndct", "pred")}


def test_pl_equals_the_published_one(arrays: dict[str, Any], small: VGG19, images: dict[str, np.ndarray]) -> None:
    found = Distances(small)([(images[name], images["ndct"]) for name in ("ldct", "ndct", "pred")])
    np.testing.assert_allclose([pl for pl, _ in found], arrays["pl[input,gt,pred]"], **CLOSE)


def test_tml_equals_the_published_one(arrays: dict[str, Any], small: VGG19, images: dict[str, np.ndarray]) -> None:
    found = Distances(small)([(images[name], images["ndct"]) for name in ("ldct", "ndct", "pred")])
    np.testing.assert_allclose([tml for _, tml in found], arrays["tml[input,gt,pred]"], **CLOSE)


def test_the_differences_of_each_layer_equal_the_published_ones(
    arrays: dict[str, Any], small: VGG19, images: dict[str, np.ndarray]
) -> None:
    pair = torch.from_numpy(np.stack([images["pred"], images["ndct"]]))[:, None]
    with torch.inference_mode():
        found = [float((level[0] - level[1]).abs().mean()) for level in small(pair)]
    np.testing.assert_allclose(found, arrays["pl_per_layer_pred"], **CLOSE)
    assert float(np.dot(WEIGHTS, found)) == pytest.approx(arrays["pl[input,gt,pred]"][2], rel=1e-4)


def test_the_gram_matrix_of_a_patch_equals_the_published_one(
    arrays: dict[str, Any], small: VGG19, images: dict[str, np.ndarray]
) -> None:
    with torch.inference_mode():
        *_, deepest = small(torch.from_numpy(images["ndct"])[None, None])
    found = grams(deepest)
    assert found.shape == (1, 1, 32, 32)
    np.testing.assert_allclose(found[0, 0], arrays["gram_relu5_1_patch0"], rtol=1e-4, atol=1e-4)


def test_patches_do_not_overlap_and_what_fills_none_is_dropped() -> None:
    maps = torch.randn(2, 3, 37, 50)
    found = grams(maps)
    assert found.shape == (2, 6, 3, 3)
    patch = maps[1, :, 16:32, 32:48].flatten(1)
    torch.testing.assert_close(found[1, 5], patch @ patch.T)


def test_slices_of_a_case_are_measured_like_single_ones() -> None:
    many = case(depth=5)
    found = PL(RANDOM).per_case(many)
    assert found is not None
    single = [PL(RANDOM).measure([(many["output"][z], many["target"][z])])[0] for z in range(5)]
    assert found["value"] == pytest.approx(np.mean(single), rel=1e-5)


def test_a_slice_by_itself_is_measured_as_in_a_full_pass(small: VGG19, images: dict[str, np.ndarray]) -> None:
    pairs = [(images["ldct"], images["ndct"]), (images["pred"], images["ndct"])] * 2
    together = Distances(small)(pairs)
    alone = [Distances(small)([pair])[0] for pair in pairs]
    np.testing.assert_allclose(together, alone, rtol=1e-4)


def test_pl_and_tml_of_a_case_take_one_pass_and_the_input_is_never_measured_again() -> None:
    counted = Counted()
    pl, tml = PL(RANDOM), TML(RANDOM)
    pl.distances = tml.distances = Distances(counted)
    first = case()
    pl.per_case(first)
    tml.per_case(first)
    assert sum(counted.seen) == 9
    later = first | {"output": case(seed=1)["output"]}
    pl.per_case(later)
    assert sum(counted.seen) == 9 + 6


def test_the_input_s_own_value_goes_with_the_output_s() -> None:
    one = case()
    row = TML(RANDOM).per_case(one)
    other = TML(RANDOM).per_case(one | {"output": one["image"]})
    assert row is not None
    assert other is not None
    assert row["input"] == pytest.approx(other["value"], rel=1e-6)
    assert TML(RANDOM).extras(stack([row]))["input"] == row["input"]


def test_blank_slices_are_left_out_and_counted_and_the_plain_mean_stays() -> None:
    one = case()
    one["image"][0] = one["target"][0]
    metric = PL(RANDOM)
    row = metric.per_case(one)
    assert row is not None
    each = metric.measure([(one["output"][z], one["target"][z]) for z in range(3)])
    assert row["value"] == pytest.approx(np.mean(each[1:]))
    assert row["plain"] == pytest.approx(np.mean(each))
    assert metric.extras(stack([row]))["blank_slices"] == 1


def test_slices_smaller_than_a_patch_are_told_with_their_size(small: VGG19) -> None:
    metric = TML(RANDOM)
    metric.distances = Distances(small)
    with pytest.raises(InputError, match=r"128x128 are too small for metric 'tml.*256x256"):
        metric.per_case(case(size=128))


def test_pl_takes_slices_that_are_too_small_for_tml(small: VGG19) -> None:
    metric = PL(RANDOM)
    metric.distances = Distances(small)
    row = metric.per_case(case(size=64))
    assert row is not None
    assert row["value"] > 0


@pytest.mark.parametrize(("metric", "name"), [(PL, "pl_random"), (TML, "tml_random")])
def test_numbers_of_the_random_network_carry_it_in_their_name(metric: Any, name: str) -> None:
    assert metric(RANDOM).name == name


@pytest.mark.parametrize("metric", [PL, TML])
def test_perceptual_metrics_keep_every_promise_of_a_metric(metric: type) -> None:
    check_metric(metric, [case(i) for i in range(3)], weights=RANDOM)
