"""MTD-GAN's parts against numbers of the published code."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from medkit_mtdgan.discriminator import MultiTaskDiscriminator
from medkit_mtdgan.fft_conv import FFTConv
from medkit_mtdgan.generator import ConvGenerator, FFTGenerator
from medkit_mtdgan.losses import lsgan, nds

CLOSE = {"rtol": 1e-4, "atol": 1e-5}


def tensors(path: Path) -> dict[str, torch.Tensor]:
    with np.load(path) as file:
        arrays = {name: file[name] for name in file.files}
    return {name: torch.from_numpy(a.astype(np.float32) if a.dtype.kind == "f" else a) for name, a in arrays.items()}


def weights(arrays: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name[2:]: array for name, array in arrays.items() if name.startswith("w/")}


@pytest.mark.parametrize("size", ["8x8", "9x7", "8x7", "7x8", "5x12"])
@pytest.mark.parametrize("form", ["lean", "composed", "dft"])
def test_fft_conv_block_and_its_gradients_equal_the_published_ones(golden: Path, size: str, form: str) -> None:
    arrays = tensors(golden / "fft_conv_block.npz")
    block = FFTConv(4, form)
    block.load_state_dict(weights(arrays))
    x = arrays[f"{size}/x"].requires_grad_()
    y = block(x)
    y.backward(arrays[f"{size}/gy"])
    torch.testing.assert_close(y, arrays[f"{size}/y"], **CLOSE)
    torch.testing.assert_close(x.grad, arrays[f"{size}/gx"], **CLOSE)
    for name in ("img_conv.weight", "fft_conv.weight", "fft_conv.bias"):
        torch.testing.assert_close(block.get_parameter(name).grad, arrays[f"{size}/g_{name}"], **CLOSE)


@pytest.mark.parametrize("size", ["32x32", "33x31"])
def test_fft_generator_equals_the_published_one(golden: Path, size: str) -> None:
    arrays = tensors(golden / "mtd_generator_c8.npz")
    generator = FFTGenerator(width=8)
    generator.load_state_dict(weights(arrays))
    x = arrays[f"{size}/x"].requires_grad_()
    y = generator(x)
    y.backward(arrays[f"{size}/gy"])
    torch.testing.assert_close(y, arrays[f"{size}/y"], **CLOSE)
    torch.testing.assert_close(x.grad, arrays[f"{size}/gx"], **CLOSE)
    for name in ("encoder.0.weight", "enforce.20.fft_conv.weight"):
        torch.testing.assert_close(generator.get_parameter(name).grad, arrays[f"{size}/g_{name}"], **CLOSE)


def test_ablation_generator_equals_the_published_one(golden: Path) -> None:
    arrays = tensors(golden / "ablation_redcnn_generator_c8.npz")
    generator = ConvGenerator(width=8)
    generator.load_state_dict(weights(arrays))
    with torch.no_grad():
        torch.testing.assert_close(generator(arrays["x"]), arrays["y"], **CLOSE)


def test_generator_has_the_published_number_of_parameters() -> None:
    assert sum(p.numel() for p in FFTGenerator().parameters()) == 467_137


def _published_name(name: str) -> str:
    """Our parameter's name in the published discriminator."""
    part, *rest = name.split(".")
    tail = {"parametrizations.weight.original": "weight_orig", "parametrizations.weight.0._u": "weight_u"}
    tail |= {"parametrizations.weight.0._v": "weight_v", "weight": "weight", "bias": "bias"}
    if part == "levels":
        return f"conv{int(rest[0]) + 1}{int(rest[1]) // 2 + 1}.{tail['.'.join(rest[2:])]}"
    if part == "downs":
        return f"down{int(rest[0]) + 1}.{tail['.'.join(rest[1:])]}"
    if part == "bottleneck":
        return f"bconv{int(rest[0]) // 2 + 1}.{tail['.'.join(rest[1:])]}"
    task, kind, *rest = rest
    if task == "cls":
        return f"{'c_fc' if kind == 'hidden' else 'enc_out'}.{tail['.'.join(rest)]}"
    if kind == "out":
        return f"{'dec_out' if task == 'seg' else 'rec_out'}.{rest[0]}"
    if kind == "ups":
        return f"r_up{int(rest[0]) + 1}.upsample.0.{rest[2]}"
    return f"{task[0]}_dconv{int(rest[0]) + 1}{int(rest[1]) // 2 + 1}.{tail['.'.join(rest[2:])]}"


def test_discriminator_equals_the_published_one(shared: Path) -> None:
    arrays = tensors(shared / "golden" / "mtd_discriminator_c4_256.npz")
    # The published classifier takes the 4x4 bottleneck of a 256x256 image whole: 32 * 4 * 4 = 512 features.
    model = MultiTaskDiscriminator(base=4, pool=4).eval()
    theirs = weights(arrays)
    model.load_state_dict({name: theirs.pop(_published_name(name)) for name in model.state_dict()})
    assert not theirs
    x = arrays["x"].requires_grad_()
    out = model(x)
    (out["cls"].sum() + out["seg"].mean() + out["rec"].mean()).backward()
    for task in ("cls", "seg", "rec"):
        torch.testing.assert_close(out[task], arrays[task], rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(x.grad, arrays["gx_of_clssum_plus_segmean_plus_recmean"], rtol=1e-3, atol=1e-5)


def test_discriminator_has_the_published_number_of_parameters() -> None:
    with torch.device("meta"):
        model = MultiTaskDiscriminator()
    assert sum(p.numel() for p in model.parameters()) == 68_432_027
    assert sum(p.numel() for p in model.shared_parameters()) == 28_609_920


@pytest.mark.parametrize("goal", [0, 1])
def test_nds_and_lsgan_equal_the_published_ones(golden: Path, goal: int) -> None:
    arrays = tensors(golden / "losses.npz")
    scores = arrays["seg_logit"].requires_grad_()
    loss = nds(scores, float(goal), arrays["ldct"], arrays["ndct"])
    loss.backward()
    torch.testing.assert_close(loss, arrays[f"nds_t{goal}"], **CLOSE)
    torch.testing.assert_close(scores.grad, arrays[f"nds_t{goal}_grad"], **CLOSE)
    torch.testing.assert_close(lsgan(arrays["seg_logit"], float(goal)), arrays[f"lsgan_t{goal}"], **CLOSE)
