"""Losses in features of ImageNet networks: which maps they compare, that nothing trains or saves the networks."""

from __future__ import annotations

from pathlib import Path

import pytest
import timm
import torch
import torch.nn.functional as F
import torchvision
from medkit_baselines.losses_features import ResNetLoss, VGGLoss
from safetensors.torch import save_file
from torch import Tensor

from medkit.errors import InputError
from medkit.testing import check_loss

RANDOM = "random_test_features"
LOSSES = [VGGLoss, ResNetLoss]


@pytest.fixture(scope="module")
def networks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weight files of a VGG19 and a ResNet-50 drawn at random."""
    folder = tmp_path_factory.mktemp("networks")
    torch.manual_seed(0)
    # The classifier of VGG19 alone has 120 million numbers; files of features only are read too.
    features = torchvision.models.vgg19().features
    save_file(
        {f"features.{name}": tensor for name, tensor in features.state_dict().items()}, folder / "vgg19.safetensors"
    )
    save_file(timm.create_model("resnet50").state_dict(), folder / "resnet50.safetensors")
    return folder


def images() -> tuple[Tensor, Tensor]:
    made = torch.Generator().manual_seed(1)
    prediction, target = torch.rand(2, 2, 1, 32, 32, generator=made).unbind(0)
    return prediction, target


def test_the_vgg_loss_compares_conv5_4_before_its_activation(networks: Path) -> None:
    prediction, target = images()
    torch.manual_seed(0)
    theirs = torchvision.models.vgg19().features[:35].eval()
    assert sum(p.numel() for p in theirs.parameters()) == 20_024_384
    with torch.no_grad():
        expected = F.mse_loss(theirs(prediction.repeat(1, 3, 1, 1)), theirs(target.repeat(1, 3, 1, 1)))
        found = VGGLoss(str(networks / "vgg19.safetensors"))(prediction, target)
    torch.testing.assert_close(found, expected)


def test_the_resnet_loss_compares_the_four_stages_in_evaluation_mode(networks: Path) -> None:
    prediction, target = images()
    theirs = timm.create_model("resnet50", features_only=True, out_indices=(1, 2, 3, 4), in_chans=3).eval()
    theirs.load_state_dict({k: v for k, v in timm_weights(networks).items() if not k.startswith("fc.")}, strict=True)
    with torch.no_grad():
        pairs = zip(theirs(prediction.repeat(1, 3, 1, 1)), theirs(target.repeat(1, 3, 1, 1)), strict=True)
        expected = torch.stack([F.mse_loss(a, b) for a, b in pairs]).mean()
        loss = ResNetLoss(str(networks / "resnet50.safetensors")).train()
        found = loss(prediction, target)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)


def timm_weights(networks: Path) -> dict[str, Tensor]:
    from safetensors.torch import load_file

    return load_file(networks / "resnet50.safetensors")


@pytest.mark.parametrize("loss", LOSSES)
def test_the_network_is_neither_trained_nor_saved_with_the_loss(loss: type) -> None:
    built = loss(RANDOM)
    assert not list(built.parameters())
    assert not built.state_dict()


@pytest.mark.parametrize("loss", LOSSES)
def test_building_the_loss_does_not_move_what_a_run_draws(loss: type, networks: Path) -> None:
    torch.manual_seed(3)
    expected = torch.rand(())
    torch.manual_seed(3)
    loss(str(networks / ("vgg19.safetensors" if loss is VGGLoss else "resnet50.safetensors")))
    assert torch.equal(torch.rand(()), expected)


@pytest.mark.parametrize("loss", LOSSES)
def test_a_loss_first_used_in_evaluation_trains_afterwards(loss: type) -> None:
    prediction, target = images()
    with torch.inference_mode():
        built = loss(RANDOM)
        built(prediction.clone(), target.clone())
    prediction.requires_grad_()
    built(prediction, target).backward()
    assert prediction.grad.abs().sum() > 0


@pytest.mark.parametrize("loss", LOSSES)
def test_weights_of_no_known_form_are_refused(loss: type) -> None:
    with pytest.raises(InputError, match=r"'vgg.pth' names no weights.*PATH.safetensors"):
        loss("vgg.pth")


@pytest.mark.parametrize("loss", LOSSES)
def test_weights_of_another_network_are_refused(loss: type, tmp_path: Path) -> None:
    save_file({"a": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(InputError, match=r"lacks \d+ tensors"):
        loss(str(tmp_path / "other.safetensors"))


@pytest.mark.parametrize("loss", LOSSES)
def test_a_feature_loss_keeps_every_promise(loss: type) -> None:
    check_loss(loss, weights=RANDOM)
