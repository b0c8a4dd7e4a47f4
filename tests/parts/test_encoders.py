"""The timm encoder: any backbone behaves alike."""

from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from medkit.errors import InputError
from medkit.parts.encoders import TimmEncoder
from medkit.testing import check_encoder


@pytest.mark.parametrize("model", ["test_resnet", "test_efficientnet", "test_convnext", "resnet18"])
def test_backbones_keep_every_promise_of_an_encoder(model: str) -> None:
    check_encoder(TimmEncoder, model=model)


def test_resnet50_with_a_stride_1_stem_equals_the_published_encoder(golden: Path) -> None:
    with np.load(golden / "smart_resnet50_encoder_2022.npz") as file:
        arrays = {name: file[name] for name in file.files}
    encoder = TimmEncoder("resnet50", stem_stride=1).eval()
    weights = {}
    for name, tensor in encoder.net.state_dict().items():
        rng = np.random.RandomState((zlib.crc32(name.encode()) + 100) % 2**32)
        shape = tuple(tensor.shape)
        if not tensor.is_floating_point():
            weights[name] = tensor
            continue
        if name.endswith("running_var"):
            value = 0.5 + rng.rand(*shape)
        elif name.endswith("running_mean"):
            value = 0.1 * rng.randn(*shape)
        elif tensor.dim() <= 1 and name.endswith("weight"):
            value = 1 + 0.1 * rng.randn(*shape)
        elif tensor.dim() <= 1:
            value = 0.05 * rng.randn(*shape)
        else:
            value = rng.randn(*shape) * np.sqrt(2 / np.prod(shape[1:]))
        weights[name] = torch.from_numpy(np.asarray(value, np.float32))
    encoder.net.load_state_dict(weights)
    with torch.no_grad():
        maps = encoder(torch.from_numpy(arrays["x"]))
    assert encoder.strides == (1, 2, 4, 8, 16)
    assert sum(p.numel() for p in encoder.parameters()) == 23_501_760
    # The published list begins with the input itself.
    for i, found in enumerate(maps, 1):
        assert tuple(found.shape) == tuple(arrays[f"feat{i}_shape"])
        np.testing.assert_allclose(
            [found.mean(), found.std(unbiased=False)], arrays[f"feat{i}_mean_std"], rtol=2e-2, atol=1e-3
        )
        part = arrays[f"feat{i}_slice"]
        np.testing.assert_allclose(
            found[0, : part.shape[0], : part.shape[1], : part.shape[2]], part, rtol=2e-3, atol=1e-3
        )


def test_an_unknown_model_is_refused_with_a_near_name() -> None:
    with pytest.raises(InputError, match="did you mean"):
        TimmEncoder("resnet5O")


def test_weights_are_read_from_a_safetensors_file(tmp_path: Path) -> None:
    first, second = TimmEncoder("test_resnet"), None
    save_file(first.state_dict(), tmp_path / "w.safetensors")
    second = TimmEncoder("test_resnet", weights=str(tmp_path / "w.safetensors"))
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))


def test_a_pickled_weight_file_is_refused(tmp_path: Path) -> None:
    torch.save({}, tmp_path / "w.pth")
    with pytest.raises(InputError, match="not a safetensors file"):
        TimmEncoder("test_resnet", weights=str(tmp_path / "w.pth"))
