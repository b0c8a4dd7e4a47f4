"""Encoders of a handful of timm's families, and what they do with images of other sizes."""

from __future__ import annotations

import pytest
import torch

from medkit.errors import InputError
from medkit.parts.encoders import TimmEncoder
from medkit.testing import check_encoder

FAMILIES = ["test_vit", "test_mambaout", "test_coatnet", "test_vit_relpos"]


@pytest.mark.parametrize("model", FAMILIES)
def test_families_keep_every_promise_of_an_encoder(model: str) -> None:
    check_encoder(TimmEncoder, model=model)


@pytest.fixture(scope="module")
def swin() -> TimmEncoder:
    return TimmEncoder("swin_tiny_patch4_window7_224", depth=2).eval()


@torch.inference_mode()
def shapes(encoder: TimmEncoder, *size: int) -> list[tuple[int, ...]]:
    return [tuple(m.shape[1:]) for m in encoder(torch.zeros(1, 1, *size))]


def test_maps_that_timm_gives_with_channels_last_have_them_first(swin: TimmEncoder) -> None:
    assert shapes(swin, 224, 224) == [(96, 56, 56), (192, 28, 28)]


def test_sides_that_a_network_does_not_take_are_padded_and_maps_rounded_up(swin: TimmEncoder) -> None:
    assert shapes(swin, 61, 98) == [(96, 16, 25), (192, 8, 13)]


@torch.inference_mode()
def test_padding_is_below_and_on_the_right_and_black(swin: TimmEncoder) -> None:
    image = torch.rand(1, 1, 61, 98, generator=torch.Generator().manual_seed(1))
    whole = torch.zeros(1, 1, 64, 104)
    whole[:, :, :61, :98] = image
    for found, expected in zip(swin(image), swin(whole), strict=True):
        assert torch.equal(found, expected[:, :, : found.shape[2], : found.shape[3]])


def test_a_network_whose_convolutions_are_not_padded_says_so() -> None:
    encoder = TimmEncoder("inception_v4", depth=3).eval()
    assert encoder.unpadded
    assert shapes(encoder, 128, 96) == [(64, 61, 45), (160, 30, 22), (384, 13, 9)]


def test_the_pyramid_of_a_vision_transformer_is_the_ends_of_its_quarters_at_one_stride() -> None:
    encoder = TimmEncoder("test_vit")
    assert encoder.net.ends == [0, 2, 3, 5]
    assert encoder.strides == (16, 16, 16, 16)
    assert TimmEncoder("test_vit", depth=2).net.ends == [0, 2]


def test_an_image_of_a_size_that_the_network_is_not_made_for_is_refused_with_what_to_write() -> None:
    encoder = TimmEncoder("test_vit_relpos").eval()
    with pytest.raises(InputError, match="made for images of 160 x 160 here, and this one is 64 x 96") as caught:
        encoder(torch.zeros(1, 1, 64, 96))
    assert "image_size: [64, 96]" in str(caught.value.hint)
    assert shapes(TimmEncoder("test_vit_relpos", image_size=(64, 96)).eval(), 64, 96)[0] == (96, 4, 6)


def test_images_of_another_size_get_positions_between_those_that_were_made() -> None:
    torch.manual_seed(0)
    encoder = TimmEncoder("test_vit", image_size=64).eval()
    assert encoder.net.model.pos_embed.shape[1] == 1 + 16
    assert shapes(encoder, 96, 64)[0] == (64, 6, 4)
