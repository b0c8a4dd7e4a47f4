"""Tokens of vision transformers: of all patches, or of those that are kept."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from medkit.parts.encoders import TimmEncoder
from medkit.protocols import TokenEncoder

MODELS = ["test_vit", "deit_tiny_distilled_patch16_224", "vit_tiny_patch16_dinov3_qkvb", "vit_small_patch16_rope_mixed_224"]  # fmt: skip


@pytest.fixture(scope="module", params=MODELS)
def encoder(request: pytest.FixtureRequest) -> TimmEncoder:
    """With weights so large that every block and every place counts."""
    made = TimmEncoder(request.param).eval()
    torch.manual_seed(0)
    for parameter in made.parameters():
        nn.init.normal_(parameter, 1.0 if parameter.ndim == 1 else 0.0, 0.1)
    return made


IMAGE = torch.randn(2, 1, 64, 40, generator=torch.Generator().manual_seed(1))  # 4 by 3 patches, the last column cut


@torch.inference_mode()
def tokens(encoder: TimmEncoder, image: Tensor, keep: Tensor | None = None) -> Tensor:
    return encoder.tokens(image, keep)


def test_tokens_of_all_patches_are_the_last_level_of_the_pyramid(encoder: TimmEncoder) -> None:
    with torch.inference_mode():
        deepest = encoder(IMAGE)[-1]
    found = tokens(encoder, IMAGE)[:, encoder.prefix_tokens :]
    assert torch.equal(found, deepest.flatten(2).transpose(1, 2))


def test_tokens_follow_the_order_of_the_patches_that_are_kept(encoder: TimmEncoder) -> None:
    keep = torch.stack([torch.arange(12).flip(0), torch.arange(12).roll(5)])
    whole, found = tokens(encoder, IMAGE), tokens(encoder, IMAGE, keep)
    first = encoder.prefix_tokens
    expected = whole[:, first:].gather(1, keep[:, :, None].expand(-1, -1, encoder.width))
    assert torch.allclose(found[:, first:], expected, atol=2e-5)
    assert torch.allclose(found[:, :first], whole[:, :first], atol=2e-5)


def test_patches_that_are_dropped_are_not_seen_and_others_are(encoder: TimmEncoder) -> None:
    keep = torch.tensor([[0, 7, 4], [11, 2, 3]])
    hidden = torch.ones(2, 12).scatter_(1, keep, 0.0).view(2, 1, 4, 3)
    height, width = encoder.patch
    hidden = hidden.repeat_interleave(height, 2).repeat_interleave(width, 3)[:, :, :64, :40]
    found = tokens(encoder, IMAGE, keep)
    assert found.shape == (2, encoder.prefix_tokens + 3, encoder.width)
    assert torch.equal(found, tokens(encoder, IMAGE + 9 * hidden, keep))
    assert not torch.allclose(found, tokens(encoder, IMAGE + 9 * (1 - hidden), keep), atol=1e-2)


def test_a_patch_keeps_its_place_when_others_are_dropped(encoder: TimmEncoder) -> None:
    flat = torch.full((1, 1, 64, 48), 0.5)
    first, second = (tokens(encoder, flat, torch.tensor([[5, place]])) for place in (0, 11))
    assert not torch.allclose(first, second, atol=1e-3)


@pytest.mark.parametrize("model", ["test_resnet", "test_convnext", "swin_tiny_patch4_window7_224"])
def test_encoders_without_tokens_have_none_of_their_attributes(model: str) -> None:
    with torch.device("meta"):
        encoder = TimmEncoder(model)
    assert not any(hasattr(encoder, name) for name in ("tokens", "patch", "prefix_tokens", "width"))
    assert not isinstance(encoder, TokenEncoder)


def test_a_vision_transformer_keeps_the_protocol_of_tokens() -> None:
    assert isinstance(TimmEncoder("test_vit"), TokenEncoder)
