"""Stages of encoders: blocks where there is attention, levels elsewhere, from input to output."""

from __future__ import annotations

from typing import Any

import pytest
import timm
import timm.optim
import torch
from torch import nn

from medkit.engine.optimizers import parameter_groups
from medkit.parts.encoder_models import names_in
from medkit.parts.encoders import TimmEncoder
from medkit.protocols import Turn


class Task(nn.Module):
    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def parts(self) -> dict[str, nn.Module]:
        return {"encoder": self.encoder}


def names(model: str, **arguments: Any) -> list[str]:
    with torch.device("meta"):
        return [name for name, _ in TimmEncoder(model, **arguments).stages()]


def test_stages_of_a_vision_transformer_are_its_stem_and_its_blocks() -> None:
    assert names("test_vit") == ["stem", *(f"blocks.{i}" for i in range(6))]
    assert names("test_vit", depth=2) == ["stem", *(f"blocks.{i}" for i in range(3))]


def test_stages_inside_a_windowed_transformer_are_its_blocks() -> None:
    found = names("swin_tiny_patch4_window7_224")
    assert found[:4] == ["stem", "layers.0.blocks.0", "layers.0.blocks.1", "layers.1.blocks.0"]
    assert len(found) == 1 + 12


@pytest.mark.parametrize("model", ["coat_tiny", "crossvit_tiny_240", "xception41", "hiera_tiny_224"])  # fmt: skip
def test_stages_hold_every_parameter_once_also_where_blocks_share_some(model: str) -> None:
    with torch.device("meta"):
        encoder = TimmEncoder(model)
    found = [id(p) for _, stage in encoder.stages() for p in stage.parameters()]
    assert len(encoder.stages()) > 3
    assert len(found) == len(set(found))
    assert set(found) == {id(p) for p in encoder.parameters()}


@pytest.mark.parametrize("model", ["test_vit", "beit_base_patch16_224", "swin_tiny_patch4_window7_224"])  # fmt: skip
def test_rates_fall_block_by_block_as_in_timm(model: str) -> None:
    with torch.device("meta"):
        whole, encoder = timm.create_model(model), TimmEncoder(model)
    theirs = {id(p): name for name, p in whole.named_parameters()}
    expected = {
        theirs[id(p)]: round(group["lr_scale"], 12)
        for group in timm.optim.param_groups_layer_decay(whole, layer_decay=0.75, weight_decay=0.0)
        for p in group["params"]
    }
    mine = {id(encoder.net.get_parameter(own)): name for name, own in names_in(encoder.net, whole).items() if name in expected}  # fmt: skip
    groups = parameter_groups(Task(encoder), Turn("it", ("encoder",)), layer_decay=0.75)
    found = {mine[id(p)]: round(group["lr_scale"], 12) for group in groups for p in group["params"]}
    assert len(found) > 50
    assert found == {name: expected[name] for name in found}


def test_positions_and_classes_do_not_decay_as_timm_has_it() -> None:
    encoder = TimmEncoder("test_vit")
    groups = parameter_groups(Task(encoder), Turn("it", ("encoder",)), no_decay=True)
    resting = {id(p) for group in groups if group.get("weight_decay") == 0.0 for p in group["params"]}
    assert {id(encoder.net.model.pos_embed), id(encoder.net.model.cls_token)} <= resting
