"""Networks made ready to predict give what the original gives."""

from __future__ import annotations

import copy

import pytest
import torch
from medkit_smartnet.conv3d import Conv3DTail
from medkit_smartnet.scse_unet import ScseUNet
from torch import Tensor, nn

from medkit.parts.encoders import TimmEncoder
from medkit.parts.inference import prepare_for_inference

NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


def norms(module: nn.Module) -> int:
    return sum(isinstance(m, NORMS) for m in module.modules())


def lived(module: nn.Module) -> nn.Module:
    """The module with batch-norm statistics and weights of a trained one."""
    torch.manual_seed(0)
    for m in module.modules():
        if isinstance(m, NORMS):
            nn.init.normal_(m.running_mean, 0, 0.1)
            nn.init.uniform_(m.running_var, 0.5, 1.5)
            nn.init.uniform_(m.weight, 0.5, 1.5)
            nn.init.normal_(m.bias, 0, 0.1)
    return module.eval()


def assert_same(module: nn.Module, x: Tensor) -> nn.Module:
    ready = prepare_for_inference(lived(module), lambda m: m(x))
    with torch.no_grad():
        before, after = module(x), ready(x)
    for a, b in zip(*([v] if isinstance(v, Tensor) else v for v in (before, after)), strict=True):
        torch.testing.assert_close(b, a, rtol=1e-5, atol=1e-5 * float(a.abs().max()))
    return ready


@pytest.mark.parametrize("model", ["resnet18", "test_resnet", "test_efficientnet", "mobilenetv3_small_050"])
def test_backbones_lose_every_batch_norm_and_predict_the_same(model: str) -> None:
    assert norms(assert_same(TimmEncoder(model), torch.randn(2, 1, 64, 65))) == 0


def test_a_network_with_norms_before_convolutions_predicts_the_same() -> None:
    ready = assert_same(TimmEncoder("densenet121"), torch.randn(1, 1, 64, 64))
    # Those that read a concatenation stay.
    assert 0 < norms(ready) < norms(TimmEncoder("densenet121"))


def test_the_segmentation_network_predicts_the_same_without_batch_norm() -> None:
    encoder = TimmEncoder("test_resnet")
    net = nn.Sequential(encoder, ScseUNet(encoder.channels, encoder.strides, (8, 8, 8)))
    assert norms(assert_same(net, torch.randn(2, 1, 64, 64))) == 0


def test_3d_convolutions_are_folded_and_kept_channels_last() -> None:
    ready = assert_same(Conv3DTail(8), torch.randn(1, 8, 3, 9, 8))
    assert norms(ready) == 0
    assert ready.conv2.weight.is_contiguous(memory_format=torch.channels_last_3d)


class Branch(nn.Module):
    """A convolution that its batch norm shares with another reader, or with the caller."""

    def __init__(self, way: str) -> None:
        super().__init__()
        self.way, self.conv, self.norm = way, nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> list[Tensor]:
        y = self.conv(x)
        if self.way == "twice":
            return [self.norm(y), self.norm(y * 2)]
        if self.way == "returned":
            return [y, self.norm(y)]
        if self.way == "relu in place":
            return [self.norm(y.relu_())]
        return [self.norm(y), y.flatten(1).sum(1)]


@pytest.mark.parametrize("way", ["twice", "returned", "relu in place", "another reader"])
def test_a_convolution_with_another_reader_is_not_folded(way: str) -> None:
    assert norms(assert_same(Branch(way), torch.randn(2, 1, 8, 8))) == 1


def test_reading_the_shape_of_a_map_does_not_keep_it_from_being_folded() -> None:
    class Shaped(Branch):
        def forward(self, x: Tensor) -> list[Tensor]:
            y = self.conv(x)
            return [self.norm(y).reshape(y.shape[0], y.size(1), -1)]

    assert norms(assert_same(Shaped(""), torch.randn(2, 1, 8, 8))) == 0


def test_a_convolution_used_twice_is_folded_when_both_uses_agree() -> None:
    class Twice(Branch):
        def forward(self, x: Tensor) -> list[Tensor]:
            return [self.norm(self.conv(part)) for part in x.split(1)]

    assert norms(assert_same(Twice(""), torch.randn(2, 1, 8, 8))) == 0


def test_the_original_is_untouched() -> None:
    module = lived(Branch("another reader")).train()
    before = copy.deepcopy(module.state_dict())
    prepare_for_inference(module, lambda m: m(torch.randn(2, 1, 8, 8)))
    assert module.training
    assert all(p.requires_grad for p in module.parameters())
    assert all(torch.equal(a, b) for a, b in zip(before.values(), module.state_dict().values(), strict=True))
