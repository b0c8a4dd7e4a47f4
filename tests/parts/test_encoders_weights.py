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
