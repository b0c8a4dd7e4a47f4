"""SMART-Net's parts against numbers of the published code."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from medkit_smartnet.consistency import Consistency
from medkit_smartnet.conv3d import Conv3DSegmenter, Conv3DTail
from medkit_smartnet.lstm import LSTMClassifier
from medkit_smartnet.pixel_shuffle import PixelShuffleDecoder, ShuffleBlock
from medkit_smartnet.scse_unet import ScseUNet, UpBlock
from medkit_smartnet.slice_class import SliceClass
from torch import nn

from medkit.parts.convblocks import SCSE
from medkit.parts.encoders import TimmEncoder

CLOSE = {"rtol": 1e-4, "atol": 1e-5}


def load(path: Path) -> dict[str, torch.Tensor]:
    with np.load(path) as file:
        return {n: torch.from_numpy(file[n]) for n in file.files if file[n].dtype.kind in "fiu"}


def state(arrays: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    names = {n.removeprefix(prefix): a for n, a in arrays.items() if n.startswith(prefix)}
    return {n.replace(".attention.", ".").replace("upsample.upsample.", "upsample."): a for n, a in names.items()}


def check(module: nn.Module, inputs: tuple[torch.Tensor, ...], arrays: dict[str, torch.Tensor], name: str) -> None:
    weights = state(arrays, f"{name}/sd/")
    module.load_state_dict(weights)
    with torch.no_grad():
        torch.testing.assert_close(module.train()(*inputs), arrays[f"{name}/train_out"], **CLOSE)
        # The recorded running statistics were taken after the training pass, r' = 0.9 r + 0.1 b, while the evaluation
        # pass came before it: r = (1.9 r' - (0.9 r' + 0.1 b)) / 0.9.
        before = dict(weights)
        for key in weights:
            if "running_" in key:
                before[key] = (1.9 * weights[key] - module.state_dict()[key]) / 0.9
        module.load_state_dict(before)
        torch.testing.assert_close(module.eval()(*inputs), arrays[f"{name}/eval_out"], **CLOSE)


def test_scse_equals_the_published_one(golden: Path) -> None:
    arrays = load(golden / "smart_scse.npz")
    check(SCSE(32), (arrays["x"],), arrays, "scse")


@pytest.mark.parametrize(("name", "scse"), [("block_scse", True), ("block_noatt", False)])
def test_segmentation_block_equals_the_published_one(golden: Path, name: str, scse: bool) -> None:
    arrays = load(golden / "smart_seg_decoder_block_2022.npz")
    check(UpBlock(32, 16, 16, scse), (arrays["x"], arrays["skip"]), arrays, name)


def test_last_segmentation_block_equals_the_published_one(golden: Path) -> None:
    arrays = load(golden / "smart_seg_decoder_block_2022.npz")
    check(UpBlock(32, 0, 16, True), (arrays["x"],), arrays, "last_block")


@pytest.mark.parametrize(("name", "scse"), [("block_scse_nobn", True), ("block_noatt_nobn", False)])
def test_reconstruction_block_equals_the_published_one(golden: Path, name: str, scse: bool) -> None:
    arrays = load(golden / "smart_rec_decoder_block_2022.npz")
    check(ShuffleBlock(32, 16, 2, norm=False, scse=scse), (arrays["x"],), arrays, name)


def test_last_reconstruction_block_equals_the_published_one(golden: Path) -> None:
    arrays = load(golden / "smart_rec_decoder_block_2022.npz")
    check(ShuffleBlock(32, 16, 1, norm=True, scse=True), (arrays["x"],), arrays, "last_block")


def test_consistency_and_its_gradients_equal_the_published_ones(golden: Path) -> None:
    arrays = load(golden / "smart_consistency.npz")
    classes, maps = arrays["cls_logits"].requires_grad_(), arrays["seg_logits"].requires_grad_()
    loss = Consistency()(classes, maps)
    loss.backward()
    torch.testing.assert_close(loss, arrays["thesis_loss"], rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(classes.grad, arrays["thesis_grad_cls"], rtol=1e-4, atol=1e-7)
    torch.testing.assert_close(maps.grad, arrays["thesis_grad_seg"], rtol=1e-4, atol=1e-9)


@pytest.mark.parametrize("size", [16, 40, 65, 512])
def test_consistency_takes_any_size(size: int) -> None:
    assert torch.isfinite(Consistency()(torch.randn(2), torch.randn(2, 1, size, size)))


@pytest.mark.parametrize(("depths", "logits"), [("depths", "logits"), ("depths_unsorted", "logits_unsorted")])
def test_lstm_classifier_equals_the_published_one(golden: Path, depths: str, logits: str) -> None:
    arrays = load(golden / "smart_lstm_operator_2022.npz")
    operator = LSTMClassifier((12,), hidden=8).eval()
    weights = {n.replace("LSTM.", "lstm."): a for n, a in state(arrays, "sd/").items()}
    operator.load_state_dict(weights)
    features = arrays["x"].permute(0, 4, 1, 2, 3)
    with torch.no_grad():
        pooled = operator.slices([features.flatten(0, 1)]).unflatten(0, features.shape[:2])
        torch.testing.assert_close(pooled, arrays["slice_features_B_D_C"], **CLOSE)
        torch.testing.assert_close(operator(pooled, arrays[depths]), arrays[logits][:, 0], **CLOSE)


def test_conv3d_tail_equals_the_published_one(golden: Path) -> None:
    arrays = load(golden / "smart_seg3d_operator_2022.npz")
    # The published code has depth as its last axis, and kernels follow.
    for name in list(arrays):
        if name.startswith("op/sd/") and arrays[name].dim() == 5:
            arrays[name] = arrays[name].permute(0, 1, 4, 2, 3).contiguous()
    for name in ("op/eval_out", "op/train_out"):
        arrays[name] = arrays[name].permute(0, 1, 4, 2, 3)
    check(Conv3DTail(16), (arrays["x_B_C_H_W_D"].permute(0, 1, 4, 2, 3),), arrays, "op")


def test_parameter_counts_are_the_published_ones() -> None:
    def count(*modules: nn.Module) -> int:
        return sum(p.numel() for m in modules for p in m.parameters())

    with torch.device("meta"):
        encoder = TimmEncoder("resnet50", stem_stride=1)
        c, s = encoder.channels, encoder.strides
        cls = SliceClass(c)
        whole = count(encoder, cls, ScseUNet(c, s), PixelShuffleDecoder(c, s))
        last = count(encoder, cls, ScseUNet(c, s, attention="last"), PixelShuffleDecoder(c, s, attention="last"))
        classifier = count(encoder, LSTMClassifier(c))
        segmenter = count(encoder, Conv3DSegmenter(c, s, attention="last"))
    assert (whole, last) == (57_392_549, 55_545_773)
    assert (classifier, segmenter) == (40_820_673, 32_529_302)
