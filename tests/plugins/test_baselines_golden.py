"""Denoising methods against numbers of the published code."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from medkit_baselines.ctformer import CTformer
from medkit_baselines.dugan import DualDomain, UNetDiscriminator
from medkit_baselines.edcnn import EDCNN
from medkit_baselines.map_nn import MAPNN
from medkit_baselines.restormer import Restormer
from medkit_baselines.sobel import SobelMagnitude
from medkit_baselines.wgan_vgg import WGANVGG, Critic
from torch import nn

from medkit.parts.encoder_decoder import ConvGenerator

Arrays = dict[str, torch.Tensor]
CLOSE = {"rtol": 1e-4, "atol": 1e-5}


def tensors(path: Path) -> Arrays:
    with np.load(path) as file:
        arrays = {name: file[name] for name in file.files}
    return {name: torch.from_numpy(a.astype(np.float32) if a.dtype.kind == "f" else a) for name, a in arrays.items()}


def load(model: nn.Module, arrays: Arrays, ours: Callable[[str], str | None]) -> None:
    """Load published weights; ``ours`` maps a published name to ours, or to None for what is not a weight of ours."""
    named = {ours(name[2:]): array for name, array in arrays.items() if name.startswith("w/")}
    named.pop(None, None)
    model.load_state_dict(named)


def renamed(*rules: tuple[str, str]) -> Callable[[str], str]:
    """Names changed by regular expressions, one after the other."""

    def ours(name: str) -> str:
        for pattern, new in rules:
            name = re.sub(pattern, new, name)
        return name

    return ours


def count(model: Callable[[], nn.Module]) -> int:
    with torch.device("meta"):
        return sum(p.numel() for p in model().parameters())


def test_edcnn_equals_the_published_one(golden: Path) -> None:
    arrays = tensors(golden / "edcnn_c8.npz")

    def ours(name: str) -> str | None:
        if name.startswith("conv_sobel."):
            return {"bias": "sobel.bias", "sobel_factor": "sobel.factor"}.get(name.split(".")[1])
        kind, number, rest = re.fullmatch(r"conv_(p|f)(\d)\.(.*)", name).groups()
        return f"{'points' if kind == 'p' else 'convs'}.{int(number) - 1}.{rest}"

    model = EDCNN(width=8, edges=8)
    load(model, arrays, ours)
    with torch.no_grad():
        torch.testing.assert_close(model.sobel(arrays["x"]), arrays["sobel_out"], **CLOSE)
        torch.testing.assert_close(model(arrays["x"]), arrays["y"], **CLOSE)


def test_wgan_vgg_s_generator_equals_the_published_one(golden: Path) -> None:
    arrays = tensors(golden / "wganvgg_generator.npz")
    model = WGANVGG()
    load(model, arrays, lambda n: "out.weight" if n == "net.22.weight" else f"convs.{int(n.split('.')[1]) // 2}.weight")
    with torch.no_grad():
        torch.testing.assert_close(model(arrays["x"]), arrays["y"], **CLOSE)


@pytest.mark.parametrize(("depth", "key"), [(1, "y_depth1"), (5, "y")])
def test_map_nn_s_generator_equals_the_published_one(golden: Path, depth: int, key: str) -> None:
    arrays = tensors(golden / "mapnn_generator.npz")

    def ours(name: str) -> str:
        kind, number, point = re.fullmatch(r"CPCE_2D\.(encoder|decoder)(\d)(_?)\.weight", name).groups()
        if point:
            return f"module.points.{int(number) - 5}.weight"
        return f"module.{kind}.{int(number) - (1 if kind == 'encoder' else 5)}.weight"

    model = MAPNN(depth=depth)
    load(model, arrays, ours)
    with torch.no_grad():
        torch.testing.assert_close(model(arrays["x"]), arrays[key], **CLOSE)


def test_restormer_equals_the_published_one(golden: Path) -> None:
    arrays = tensors(golden / "restormer_small_BiasFree.npz")
    ours = renamed(
        (r"^patch_embed\.proj", "embed"),
        (r"^encoder_level(\d)", lambda m: f"encoder.{int(m[1]) - 1}"),
        (r"^latent", "encoder.3"),
        (r"^decoder_level(\d)", lambda m: f"decoder.{3 - int(m[1])}"),
        (r"^down(\d)_\d\.body", lambda m: f"downs.{int(m[1]) - 1}"),
        (r"^up(\d)_\d\.body", lambda m: f"ups.{4 - int(m[1])}"),
        (r"^reduce_chan_level(\d)", lambda m: f"narrow.{3 - int(m[1])}"),
        (r"^output", "out"),
        (r"\.body\.weight", ".weight"),
        (r"attn\.qkv_dwconv", "attention.depth"),
        (r"attn\.qkv", "attention.point"),
        (r"attn\.", "attention."),
        (r"ffn\.project_in", "feed.point"),
        (r"ffn\.dwconv", "feed.depth"),
        (r"ffn\.", "feed."),
        (r"project_out", "out"),
    )
    model = Restormer(dim=8, blocks=(1, 1, 1, 1), refinement=1)
    load(model, arrays, ours)
    with torch.no_grad():
        first = model.encoder[0](model.embed(arrays["x"]))
        torch.testing.assert_close(first, arrays["enc1"], rtol=1e-3, atol=1e-5)
        torch.testing.assert_close(model(arrays["x"]), arrays["y"], rtol=1e-3, atol=1e-5)


def test_ctformer_equals_the_published_one(golden: Path) -> None:
    arrays = tensors(golden / "ctformer_small.npz")
    ours = renamed(
        (r"^tokens_to_token\.attention", "into"),
        (r"^tokens_to_token\.project", "into"),
        (r"^dconv1\.attention", "back"),
        (r"^dconv1\.project", "back"),
        (r"\.w$", ".features"),
        (r"^(blocks\.\d+)\.attn\.", r"\1."),
        (r"mlp\.fc1", "mlp.0"),
        (r"mlp\.fc2", "mlp.2"),
    )
    model = CTformer(dim=16, token=8, heads=2).eval()
    load(model, arrays, lambda name: None if name in ("cls_token", "pos_embed") else ours(name))
    # Published weights are kept in half precision, positions too.
    torch.testing.assert_close(model.positions, arrays["w/pos_embed"], rtol=0, atol=3e-4)
    model.positions = arrays["w/pos_embed"]
    with torch.no_grad():
        torch.testing.assert_close(model(arrays["x"]), arrays["y"], rtol=1e-3, atol=1e-5)


def test_du_gan_s_discriminator_equals_the_published_one(golden: Path) -> None:
    arrays = tensors(golden / "dugan_unet_small.npz")
    ours = renamed(
        (r"^down_blocks\.3", "deepest"),
        (r"^down_blocks", "downs"),
        (r"^up_blocks", "ups"),
        (r"^conv_out", "out"),
        (r"^conv\.", "bottleneck."),
        (r"^to_logit\.3", "cls"),
        (r"\.conv_res\.", ".shortcut."),
        (r"\.(net|conv)\.(\d)", r".pair.\2"),
        (r"weight_orig", "parametrizations.weight.original"),
        (r"weight_([uv])", r"parametrizations.weight.0._\1"),
    )
    model = UNetDiscriminator(base=8, levels=3).eval()
    load(model, arrays, ours)
    with torch.no_grad():
        scores = model(arrays["x"])
    torch.testing.assert_close(scores["cls"][:, 0], arrays["enc"], rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(scores["seg"], arrays["dec"], rtol=1e-3, atol=1e-5)


def test_the_sobel_magnitude_equals_the_published_one(golden: Path) -> None:
    arrays = tensors(golden / "sobel_operator.npz")
    torch.testing.assert_close(SobelMagnitude()(arrays["x"]), arrays["y"], **CLOSE)


@pytest.mark.parametrize(
    ("model", "published"),
    [
        (Restormer, 26_109_076),
        (WGANVGG, 92_480),
        (MAPNN, 62_016),
        (ConvGenerator, 185_569),
        (Critic, 17_923_521),
        pytest.param(UNetDiscriminator, 57_213_839, marks=pytest.mark.nightly),
    ],
)
def test_a_network_has_the_published_number_of_parameters(model: type[nn.Module], published: int) -> None:
    assert count(model) == published


@pytest.mark.nightly
def test_the_discriminator_of_du_gan_is_two_such_networks() -> None:
    small = {"base": 4, "levels": 3}
    assert count(lambda: DualDomain(**small)) == 2 * count(lambda: UNetDiscriminator(**small))


def test_edcnn_has_the_published_number_of_parameters_less_its_fixed_filters() -> None:
    assert count(EDCNN) == 81_249 - 32 * 9


def test_ctformer_has_the_published_number_of_parameters_less_the_unused_ones() -> None:
    model = CTformer()
    trained = sum(p.numel() for p in model.parameters())
    assert trained == 1_447_477 - 65_000 - 64
    assert trained + sum(b.numel() for b in model.buffers()) == 1_652_493 - 65_000 - 64


def test_42_convolutions_of_du_gan_s_discriminator_have_a_spectral_norm() -> None:
    model = UNetDiscriminator(base=8)
    assert sum(hasattr(layer, "parametrizations") for layer in model.modules() if isinstance(layer, nn.Conv2d)) == 42
