"""SMART-Net's parts keep the promises of their kinds, in all combinations of Table 7."""

from __future__ import annotations

from itertools import combinations

import pytest
import torch
from medkit_smartnet.conv3d import Conv3DSegmenter
from medkit_smartnet.lstm import LSTMClassifier
from medkit_smartnet.pixel_shuffle import PixelShuffleDecoder
from medkit_smartnet.scse_unet import ScseUNet
from medkit_smartnet.slice_class import SliceClass
from medkit_smartnet.smp import SmpDecoder

import medkit
from medkit.objectives.multitask import Multitask
from medkit.registry.marks import Placed
from medkit.testing import check_operator, check_pretext

SMALL = {"widths": (8, 8, 8)}
HEADS = {"cls": "slice_class", "seg": "scse_unet", "rec": "pixel_shuffle"}
ROWS = [(heads, False) for n in (1, 2, 3) for heads in combinations(HEADS, n)] + [
    (("cls", "seg"), True),
    (tuple(HEADS), True),
]


@pytest.mark.parametrize(
    ("head", "arguments"),
    [(SliceClass, {}), (ScseUNet, SMALL), (ScseUNet, {**SMALL, "objective": "dice_bce"}), (PixelShuffleDecoder, SMALL)],
)
def test_heads_keep_every_promise_of_a_pretext(head: type, arguments: dict) -> None:
    check_pretext(head, **arguments)


@pytest.mark.parametrize("architecture", ["unet", "unetplusplus", "manet", "linknet", "fpn", "pspnet", "deeplabv3plus"])
def test_any_smp_decoder_segments_at_the_size_of_the_image(architecture: str) -> None:
    encoder = medkit.build("encoder", "timm", model="resnet18")
    head = SmpDecoder(encoder.channels, encoder.strides, architecture)  # type: ignore[arg-type]
    x, mask = torch.randn(2, 1, 65, 67), (torch.rand(2, 1, 65, 67) > 0.5).float()
    loss = head.loss(head(encoder(x)), mask)["dice"]
    loss.backward()
    assert torch.isfinite(loss)
    assert head.head.weight.grad is not None


@pytest.mark.parametrize(
    ("operator", "arguments"),
    [(LSTMClassifier, {"hidden": 8}), (Conv3DSegmenter, SMALL), (Conv3DSegmenter, SMALL | {"factorised": True})],
)
def test_operators_keep_every_promise_of_an_operator(operator: type, arguments: dict) -> None:
    check_operator(operator, **arguments)


@pytest.mark.parametrize(("heads", "tied"), ROWS)
def test_every_row_of_table_7_trains(heads: tuple[str, ...], tied: bool) -> None:
    encoder = medkit.build("encoder", "timm", model="test_resnet")
    placed = {
        name: Placed(
            medkit.build(
                "pretext",
                HEADS[name],
                channels=encoder.channels,
                **({} if name == "cls" else {"strides": encoder.strides}),
            ),
            {"weight": 1.0},
        )
        for name in heads
    }
    ties = [Placed(medkit.build("loss", "consistency"), {"weight": 0.5, "between": ["cls", "seg"]})] if tied else []
    objective = Multitask(encoder, placed, ties)
    batch = {
        "image": torch.rand(2, 1, 64, 64),
        "mask": (torch.rand(2, 1, 64, 64) > 0.8).float(),
        "label": torch.tensor([1.0, 0.0]),
    }
    losses = objective.losses("train", batch)
    torch.stack(list(losses.values())).sum().backward()
    assert len(losses) == len(heads) + tied
    assert all(p.grad is not None for head in objective.heads.values() for p in head.parameters())


def test_heads_that_see_the_same_image_share_one_encoder_pass() -> None:
    encoder = medkit.build("encoder", "timm", model="test_resnet")
    passes = []
    encoder.register_forward_hook(lambda *_: passes.append(1))
    kinds = {"cls": "slice_class", "again": "slice_class"}
    heads = {
        n: Placed(medkit.build("pretext", k, channels=encoder.channels), {"weight": 1.0}) for n, k in kinds.items()
    }
    Multitask(encoder, heads).losses("train", {"image": torch.rand(2, 1, 64, 64), "label": torch.tensor([1.0, 0.0])})
    assert len(passes) == 1
