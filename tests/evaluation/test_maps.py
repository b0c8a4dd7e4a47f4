"""Activation and Grad-CAM."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from medkit.evaluation.maps import activation, channel_mean, contributions, grad_cam


def test_channel_mean_equals_the_published_map_at_both_sizes(golden: Path) -> None:
    with np.load(golden / "activation_map_channel_mean.npz") as arrays:
        x = torch.from_numpy(arrays["x"])
        small, large = arrays["map_256_every4"], arrays["pedxnet_map_512_every8"]
    np.testing.assert_allclose(channel_mean(x, (256, 256))[:, ::4, ::4], small, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(channel_mean(x, (512, 512))[:, ::8, ::8], large, rtol=1e-4, atol=1e-4)


class Blur(nn.Module):
    """Two maps: local means of the image, and of its negative."""

    def forward(self, x: Tensor) -> list[Tensor]:
        mean = nn.functional.avg_pool2d(x, 8)
        return [torch.cat([mean, -mean], 1)]


def test_activation_has_the_size_of_the_image() -> None:
    assert activation(Blur(), torch.rand(2, 1, 32, 48)).shape == (2, 32, 48)


def bright(features: list[Tensor]) -> Tensor:
    """Rises with the first map only."""
    return features[-1][:, 0].mean((1, 2))


def test_grad_cam_is_high_where_the_class_shows_and_not_inverted() -> None:
    image = torch.zeros(1, 1, 32, 32)
    image[..., 8:16, 16:24] = 1
    found = grad_cam(Blur(), bright, image)[0]
    assert found.min() == 0
    assert found.max() == 1
    assert found[12, 20] > 0.9
    assert found[28, 4] == 0


def test_grad_cam_equals_its_equation() -> None:
    """relu(sum_c mean(dY/dA_c) A_c), worked for one map and a score of its mean: the gradient is 1/16 everywhere."""
    torch.manual_seed(0)
    image = torch.rand(1, 1, 32, 32)
    map_ = nn.functional.avg_pool2d(image, 8) / 16
    wanted = nn.functional.interpolate(map_, (32, 32), mode="bilinear", align_corners=False)[0, 0]
    wanted = (wanted - wanted.min()) / (wanted.max() - wanted.min())
    np.testing.assert_allclose(grad_cam(Blur(), bright, image)[0], wanted.numpy(), atol=1e-5)


def test_grad_cam_of_a_score_that_no_map_raises_is_empty_not_nan() -> None:
    found = grad_cam(Blur(), lambda features: features[-1][:, 0].mean((1, 2)) * 0, torch.rand(1, 1, 16, 16))
    assert np.array_equal(found, np.zeros((1, 16, 16)))


def test_contributions_of_pooled_maps_add_up_to_gradient_times_mean() -> None:
    """Of a score w . mean(A), each place adds w . A / 16 and all of them w . mean(A): the score itself."""
    torch.manual_seed(0)
    features, weight = Blur()(torch.rand(3, 1, 32, 32)), torch.tensor([2.0, -1.0])
    found = contributions(features, lambda maps: maps[-1].mean((2, 3)) @ weight)
    torch.testing.assert_close(found.sum((1, 2, 3)), features[-1].mean((2, 3)) @ weight)


def test_contributions_keep_what_lowers_the_score() -> None:
    image = torch.rand(1, 1, 32, 32) + 0.1
    found = contributions(Blur()(image), lambda maps: -maps[-1][:, 0].mean((1, 2)))
    assert (found < 0).all()
    assert not grad_cam(Blur(), lambda maps: -maps[-1][:, 0].mean((1, 2)), image).any()
