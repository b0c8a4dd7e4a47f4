"""Heads of SMART-Net on the pyramids of transformers: of one stride throughout, or without one of stride 2."""

from __future__ import annotations

import pytest
import torch
from medkit_smartnet.pixel_shuffle import PixelShuffleDecoder
from medkit_smartnet.scse_unet import ScseUNet
from medkit_smartnet.slice_class import SliceClass

from medkit.parts.encoders import TimmEncoder

HEADS = {
    "cls": lambda encoder: SliceClass(encoder.channels),
    "seg": lambda encoder: ScseUNet(encoder.channels, encoder.strides),
    "rec": lambda encoder: PixelShuffleDecoder(encoder.channels, encoder.strides),
}
SIZE = (60, 72)  # no multiple of a patch


@pytest.fixture(scope="module", params=["test_vit", "swin_tiny_patch4_window7_224"])
def encoder(request: pytest.FixtureRequest) -> TimmEncoder:
    torch.manual_seed(0)
    return TimmEncoder(request.param)


@pytest.mark.parametrize("name", HEADS)
def test_a_head_trains_on_the_pyramid_of_a_transformer(encoder: TimmEncoder, name: str) -> None:
    torch.manual_seed(1)
    head = HEADS[name](encoder)
    batch = {"image": torch.rand(2, 1, *SIZE), "label": torch.tensor([0.0, 1.0]), "mask": torch.zeros(2, 1, *SIZE)}
    batch["mask"][1, :, 20:40, 20:40] = 1
    image, target = head.view(batch)
    output = head(encoder(image))
    loss = torch.stack(list(head.loss(output, target).values())).sum()
    loss.backward()
    assert torch.isfinite(loss)
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in head.parameters())
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in encoder.parameters())
