"""Networks of the compared methods keep the promises of their kind, at odd sizes and any input size they claim."""

from __future__ import annotations

import pytest
import torch
from medkit_baselines.ctformer import CTformer
from medkit_baselines.dugan import DualDomain, UNetDiscriminator
from medkit_baselines.edcnn import EDCNN
from medkit_baselines.map_nn import MAPNN
from medkit_baselines.restormer import Restormer
from medkit_baselines.sobel import SobelMagnitude
from medkit_baselines.wgan_vgg import WGANVGG, Critic
from torch import nn

from medkit.errors import InputError
from medkit.parts.encoder_decoder import ConvGenerator
from medkit.parts.sliding import sliding_window
from medkit.testing import (
    check_construction,
    check_discriminator,
    check_dtype,
    check_generator,
    check_gradients,
    check_schema,
    check_state,
)

SMALL_RESTORMER = {"dim": 8, "blocks": (1, 1, 1, 1), "refinement": 1}
SMALL_CTFORMER = {"size": 20, "dim": 8, "token": 4, "heads": 2}


@pytest.mark.parametrize(
    ("constructor", "arguments"),
    [
        (EDCNN, {"width": 4, "edges": 5, "blocks": 3}),
        (Restormer, SMALL_RESTORMER),
        (WGANVGG, {"width": 4, "layers": 3}),
        (MAPNN, {"width": 4, "depth": 2}),
        (ConvGenerator, {"width": 4, "layers": 3}),
    ],
)
def test_a_generator_keeps_every_promise(constructor: type, arguments: dict) -> None:
    check_generator(constructor, **arguments)


def test_ctformer_keeps_every_promise_but_that_of_any_size() -> None:
    check_schema(CTformer)
    check_construction(CTformer, SMALL_CTFORMER)
    torch.manual_seed(0)
    model, x = CTformer(**SMALL_CTFORMER), torch.rand(2, 1, 20, 20)
    assert model(x).shape == x.shape
    check_gradients(model, (model(x) - 0.5).square().mean())
    check_state(model, lambda m: m(x), lambda: CTformer(**SMALL_CTFORMER))
    check_dtype(model, lambda m: m(x.double()))


def test_images_of_another_size_than_ctformer_s_are_refused_with_the_way_out() -> None:
    model = CTformer(dim=8, token=4, heads=2)
    with pytest.raises(InputError, match="takes images of 64x64, not 64x128; give the objective 'tile: 64'"):
        model(torch.rand(1, 1, 64, 128))


def test_ctformer_in_tiles_restores_images_of_any_size() -> None:
    torch.manual_seed(0)
    model, x = CTformer(**SMALL_CTFORMER).eval(), torch.rand(1, 1, 27, 41)
    with torch.no_grad():
        assert sliding_window(model, x, (20, 20), overlap=0.3).shape == x.shape


def test_restormer_treats_a_size_that_is_no_multiple_of_8_as_its_mirrored_image() -> None:
    torch.manual_seed(0)
    model, x = Restormer(**SMALL_RESTORMER).eval(), torch.rand(1, 1, 13, 16)
    mirrored = torch.cat([x, x.flip(-2)[..., :3, :]], dim=-2)
    with torch.no_grad():
        torch.testing.assert_close(model(x), model(mirrored)[..., :13, :])


def test_restormer_takes_images_smaller_than_its_padding() -> None:
    assert Restormer(**SMALL_RESTORMER)(torch.rand(1, 1, 1, 3)).shape == (1, 1, 1, 3)


def test_heads_that_do_not_divide_restormer_s_channels_are_refused() -> None:
    with pytest.raises(ValueError, match="not divided evenly by heads"):
        Restormer(dim=8, heads=(1, 3, 4, 8))


def test_images_too_small_for_map_nn_are_refused() -> None:
    with pytest.raises(InputError, match="at least 9 pixels per side"):
        MAPNN(width=2)(torch.rand(1, 1, 8, 16))


def test_map_nn_denoises_more_with_every_pass_through_the_same_module() -> None:
    torch.manual_seed(0)
    deep, shallow = MAPNN(depth=3, width=4), MAPNN(depth=1, width=4)
    shallow.load_state_dict(deep.state_dict())
    x = torch.rand(1, 1, 16, 16)
    torch.testing.assert_close(deep(x), shallow(shallow(shallow(x))))


@pytest.mark.parametrize(
    ("constructor", "arguments"),
    [
        (Critic, {"width": 4, "hidden": 8}),
        (Critic, {"width": 4, "hidden": 8, "pool": 2}),
        (UNetDiscriminator, {"base": 4}),
        (DualDomain, {"base": 4, "levels": 3}),
    ],
)
def test_a_discriminator_keeps_every_promise(constructor: type, arguments: dict) -> None:
    check_discriminator(constructor, **arguments)


def test_a_critic_of_one_size_refuses_others_with_the_way_out() -> None:
    with pytest.raises(InputError, match=r"images of 64x64, not 32x64; set its 'size'.*or 'pool: 8'"):
        Critic(width=2, hidden=2)(torch.rand(1, 1, 32, 64))


@pytest.mark.parametrize("size", [(17, 33), (64, 64), (8, 8)])
def test_a_pooling_critic_scores_images_of_any_size(size: tuple[int, int]) -> None:
    assert Critic(width=2, hidden=2, pool=4)(torch.rand(3, 1, *size))["cls"].shape == (3, 1)


def test_pooling_to_what_is_there_changes_nothing() -> None:
    torch.manual_seed(0)
    plain, pooling = Critic(width=2, hidden=4), Critic(width=2, hidden=4, pool=8)
    pooling.load_state_dict(plain.state_dict())
    x = torch.rand(2, 1, 64, 64)
    torch.testing.assert_close(pooling(x)["cls"], plain(x)["cls"])


@pytest.mark.parametrize("size", [(64, 64), (128, 64)])
def test_a_u_net_scores_every_pixel_of_any_multiple_of_its_step(size: tuple[int, int]) -> None:
    scores = UNetDiscriminator(base=2)(torch.rand(2, 1, *size))
    assert scores["cls"].shape == (2, 1)
    assert scores["seg"].shape == (2, 1, *size)


def test_a_u_net_refuses_a_size_that_cannot_be_halved() -> None:
    with pytest.raises(InputError, match=r"halves images 6 times.*not a multiple of 64"):
        UNetDiscriminator(base=2)(torch.rand(1, 1, 64, 96))


def test_the_second_domain_judges_the_length_of_the_gradient() -> None:
    torch.manual_seed(0)
    model, x = DualDomain(base=2, levels=2).eval(), torch.rand(2, 1, 16, 16)
    scores = model(x)
    assert list(scores) == ["cls", "seg", "gradient_cls", "gradient_seg"]
    torch.testing.assert_close(scores["seg"], model.image(x)["seg"])
    torch.testing.assert_close(scores["gradient_seg"], model.gradient(SobelMagnitude()(x))["seg"])


@pytest.mark.parametrize(
    "network",
    [
        Restormer(dim=8, blocks=(1, 1, 1, 1), refinement=1, start="identity"),
        CTformer(size=32, dim=8, token=4, heads=2, start="identity"),
    ],
    ids=["restormer", "ctformer"],
)
def test_a_network_that_starts_as_the_identity_gives_the_image_back_and_learns_all_the_same(network: nn.Module) -> None:
    image = torch.rand(2, 1, 32, 32)
    assert torch.equal(network(image), image)
    steps = torch.optim.SGD(network.parameters(), lr=0.1)
    for _ in range(4):
        steps.zero_grad()
        (network(image) - image / 2).square().mean().backward()
        steps.step()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in network.parameters() if p.ndim > 1)
