"""Weight files of whole colour models, and no network unless asked."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file

from medkit.errors import InputError
from medkit.parts.encoders import TimmEncoder


@pytest.mark.parametrize("model", ["test_resnet", "test_efficientnet", "test_convnext"])
def test_a_file_of_timms_whole_colour_model_is_read_with_colours_summed(tmp_path: Path, model: str) -> None:
    torch.manual_seed(0)
    whole = timm.create_model(model, pretrained=False).eval()
    save_file({k: v.contiguous() for k, v in whole.state_dict().items()}, tmp_path / "w.safetensors")
    encoder = TimmEncoder(model, weights=str(tmp_path / "w.safetensors")).eval()
    # A grey picture in three channels is to the colour model what one channel is to a summed first layer.
    grey = torch.randn(1, 1, 64, 64)
    colour = timm.create_model(model, pretrained=False, features_only=True).eval()
    names = {name.replace(".", "_", 1): tensor for name, tensor in whole.state_dict().items()} | whole.state_dict()
    colour.load_state_dict({name: names[name] for name in colour.state_dict()})
    with torch.no_grad():
        for found, expected in zip(encoder(grey), colour(grey.expand(-1, 3, -1, -1)), strict=True):
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


VIT = "test_vit"


@pytest.fixture(scope="module")
def vit() -> dict[str, torch.Tensor]:
    """timm's own state of a whole vision transformer for colour images."""
    torch.manual_seed(5)
    return {k: v.clone().contiguous() for k, v in timm.create_model(VIT, pretrained=False).state_dict().items()}


def test_timms_own_file_of_a_vision_transformer_is_read_without_a_word(
    tmp_path: Path, vit: dict[str, torch.Tensor], recwarn: pytest.WarningsRecorder
) -> None:
    save_file(vit, tmp_path / "w.safetensors")
    encoder = TimmEncoder(VIT, in_channels=3, weights=str(tmp_path / "w.safetensors"))
    own = encoder.net.model.state_dict()
    assert own
    assert all(torch.equal(tensor, vit[name]) for name, tensor in own.items())
    assert not recwarn.list


@pytest.mark.parametrize("prefix", ["module.", "backbone.", "student.backbone.", "model.encoder."])
@pytest.mark.parametrize("model", [VIT, "test_convnext"])
def test_a_prefix_of_the_files_names_is_stripped_and_told(tmp_path: Path, prefix: str, model: str) -> None:
    whole = timm.create_model(model, pretrained=False).state_dict()
    save_file({prefix + k: v.clone().contiguous() for k, v in whole.items()}, tmp_path / "w.safetensors")
    with pytest.warns(UserWarning, match=f"names have the prefix '{prefix}' there, which was stripped"):
        encoder = TimmEncoder(model, in_channels=3, weights=str(tmp_path / "w.safetensors"))
    last = [p for name, p in encoder.named_parameters() if name.endswith("mlp.fc2.weight")][-1]
    assert any(torch.equal(last, tensor) for tensor in whole.values())


def test_a_file_with_two_such_networks_is_refused_until_one_is_named(
    tmp_path: Path, vit: dict[str, torch.Tensor]
) -> None:
    both = {f"student.{k}": v + 1 for k, v in vit.items()} | {f"teacher.{k}": v.clone() for k, v in vit.items()}
    save_file(both, tmp_path / "w.safetensors")
    with pytest.raises(InputError, match=r"twice, with the prefixes 'student\.' and 'teacher\.'") as caught:
        TimmEncoder(VIT, weights=str(tmp_path / "w.safetensors"))
    assert "prefix: teacher." in str(caught.value.hint)
    encoder = TimmEncoder(VIT, weights=str(tmp_path / "w.safetensors"), prefix="teacher.")
    assert torch.equal(encoder.net.model.norm.weight, vit["norm.weight"])


def test_a_prefix_that_the_file_does_not_have_is_refused_with_those_it_has(
    tmp_path: Path, vit: dict[str, torch.Tensor]
) -> None:
    save_file({f"teacher.{k}": v.clone() for k, v in vit.items()}, tmp_path / "w.safetensors")
    with pytest.raises(InputError, match=r"has the prefix 'student\.'") as caught:
        TimmEncoder(VIT, weights=str(tmp_path / "w.safetensors"), prefix="student.")
    assert "'teacher.'" in str(caught.value.hint)


def test_positions_are_resampled_for_another_size_of_images_and_that_is_told(
    tmp_path: Path, vit: dict[str, torch.Tensor]
) -> None:
    save_file(vit, tmp_path / "w.safetensors")
    with pytest.warns(UserWarning, match="pos_embed resampled for images of 64 x 96"):
        encoder = TimmEncoder(VIT, weights=str(tmp_path / "w.safetensors"), image_size=(64, 96))
    assert encoder.net.model.pos_embed.shape[1] == 1 + 4 * 6


def test_tensors_that_the_network_has_no_place_for_are_told(tmp_path: Path, vit: dict[str, torch.Tensor]) -> None:
    save_file({**vit, "mask_token": torch.zeros(1, 64)}, tmp_path / "w.safetensors")
    with pytest.warns(UserWarning, match=r"1 tensor left out, .* \(mask_token\)"):
        TimmEncoder(VIT, weights=str(tmp_path / "w.safetensors"))


def test_blocks_that_are_not_built_are_not_missed(tmp_path: Path, vit: dict[str, torch.Tensor]) -> None:
    save_file(vit, tmp_path / "w.safetensors")
    encoder = TimmEncoder(VIT, weights=str(tmp_path / "w.safetensors"), depth=2)
    assert torch.equal(encoder.net.model.blocks[2].mlp.fc1.weight, vit["blocks.2.mlp.fc1.weight"])


def test_weights_of_another_width_are_refused_by_name(tmp_path: Path, vit: dict[str, torch.Tensor]) -> None:
    save_file({**vit, "blocks.1.mlp.fc1.weight": torch.zeros(3, 64)}, tmp_path / "w.safetensors")
    with pytest.raises(InputError, match=r"another shape for 1 .*blocks\.1\.mlp\.fc1\.weight \(3, 64\)"):
        TimmEncoder(VIT, weights=str(tmp_path / "w.safetensors"))


def test_a_pickle_is_not_opened_and_the_way_to_convert_it_works(tmp_path: Path, vit: dict[str, torch.Tensor]) -> None:
    torch.save({"state_dict": vit}, tmp_path / "w.pth")
    with pytest.raises(InputError, match="a pickle may run anything") as caught:
        TimmEncoder(VIT, weights=str(tmp_path / "w.pth"))
    command = str(caught.value.hint).partition("if you trust it, python -c ")[2].strip('"')
    done = subprocess.run([sys.executable, "-c", command], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert torch.equal(TimmEncoder(VIT, weights=str(tmp_path / "w.safetensors")).net.model.cls_token, vit["cls_token"])


def test_images_are_normalised_as_the_weights_were_trained() -> None:
    torch.manual_seed(0)
    plain = TimmEncoder("resnet18", in_channels=3, depth=1).eval()
    torch.manual_seed(0)
    normal = TimmEncoder("resnet18", in_channels=3, depth=1, normalize="pretrained").eval()
    image = torch.rand(1, 3, 32, 32)
    mean, deviation = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    with torch.inference_mode():
        expected = plain((image - mean[:, None, None]) / deviation[:, None, None])[0]
        assert torch.allclose(normal(image)[0], expected)


def test_one_channel_is_normalised_by_the_mean_over_colours_or_by_what_is_written() -> None:
    found = TimmEncoder("resnet18", depth=1, normalize="pretrained")
    assert (round(float(found.mean), 4), round(float(found.deviation), 4)) == (0.449, 0.226)
    written = TimmEncoder("resnet18", depth=1, normalize=(0.2, 0.3))
    assert (round(float(written.mean), 4), round(float(written.deviation), 4)) == (0.2, 0.3)


def test_weights_keep_what_images_they_were_trained_on(tmp_path: Path) -> None:
    save_file(TimmEncoder("test_resnet", normalize=(0.2, 0.3)).state_dict(), tmp_path / "w.safetensors")
    with pytest.raises(InputError, match=r"trained on images of mean \[0\.2\], and 'normalize' says otherwise"):
        TimmEncoder("test_resnet", weights=str(tmp_path / "w.safetensors"))
    encoder = TimmEncoder("test_resnet", weights=str(tmp_path / "w.safetensors"), normalize=(0.2, 0.3))
    assert "mean" in encoder.state_dict()


def test_a_file_of_another_backbone_is_refused(tmp_path: Path) -> None:
    save_file(TimmEncoder("test_resnet").state_dict(), tmp_path / "w.safetensors")
    with pytest.raises(InputError, match="lacks"):
        TimmEncoder("test_convnext", weights=str(tmp_path / "w.safetensors"))


@pytest.mark.parametrize(
    "model", ["resnet50", "efficientnet_b0", "convnext_tiny", "mobilenetv3_large_100", "inception_v3"]
)
def test_stages_of_common_backbones_run_from_input_to_output(model: str) -> None:
    with torch.device("meta"):
        encoder = TimmEncoder(model)
    stages = encoder.stages()
    order = [id(p) for p in encoder.parameters()]
    assert len(stages) in (4, 5)
    assert [id(p) for _, stage in stages for p in stage.parameters()] == order


def test_building_an_encoder_without_weights_opens_no_connection() -> None:
    code = (
        "import socket, sys\n"
        "def refuse(*_):\n"
        "    sys.exit('a connection was opened')\n"
        "socket.socket.connect = refuse\n"
        "socket.getaddrinfo = refuse\n"
        "from medkit.parts.encoders import TimmEncoder\n"
        "TimmEncoder('test_resnet')\n"
    )
    environment = {k: v for k, v in os.environ.items() if k != "HF_HUB_OFFLINE"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_weights_from_the_hub_without_a_network_are_a_clear_error() -> None:
    code = (
        "from medkit.errors import InputError\n"
        "from medkit.parts.encoders import TimmEncoder\n"
        "try:\n"
        "    TimmEncoder('test_resnet', weights='hub:')\n"
        "except InputError as error:\n"
        "    print(error)\n"
    )
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": "/nowhere"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert "cannot be fetched" in done.stdout, done.stderr
