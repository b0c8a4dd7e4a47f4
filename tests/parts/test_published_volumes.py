"""Published weights of encoders of volumes: tiny files with the published names, converted and loaded, or refused."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from medkit_baselines.genesis_encoder3d import GenesisEncoder3D
from torch import Tensor, nn

from medkit.errors import InputError
from medkit.parts.resenc import ResidualEncoder
from medkit.parts.resnet3d import ResNet3d
from medkit.registry.build import build
from medkit.runs.foreign_weights import convert_weights

WIDTHS, BLOCKS = (4, 6, 6), (1, 2, 1)
KERNELS = [[1, 3, 3], [3, 3, 3], [3, 3, 3]]


def drawn(**shapes: tuple[int, ...]) -> dict[str, Tensor]:
    made = torch.Generator().manual_seed(0)
    return {name: torch.randn(shape, generator=made) for name, shape in shapes.items()}


def conv_norm(name: str, inputs: int, outputs: int, kernel: list[int], bias: bool = True) -> dict[str, Tensor]:
    """A convolution with its norm as dynamic-network-architectures saves it: each tensor under two names."""
    found = drawn(**{f"{name}.conv.weight": (outputs, inputs, *kernel)})
    found |= drawn(**{f"{name}.conv.bias": (outputs,)}) if bias else {}
    found |= drawn(**{f"{name}.norm.weight": (outputs,), f"{name}.norm.bias": (outputs,)})
    for old, new in (("conv", "all_modules.0"), ("norm", "all_modules.1")):
        found |= {k.replace(f".{old}.", f".{new}."): v for k, v in found.items() if f".{old}." in k}
    return found


def resenc_file(skip: str = "") -> dict[str, Tensor]:
    """``network_weights`` of a U-Net with a residual encoder: its decoder holds the encoder a second time."""
    encoder = conv_norm("stem.convs.0", 1, WIDTHS[0], KERNELS[0])
    before = WIDTHS[0]
    for stage, (width, blocks, kernel) in enumerate(zip(WIDTHS, BLOCKS, KERNELS, strict=True)):
        for block in range(blocks):
            place = f"stages.{stage}.blocks.{block}"
            encoder |= conv_norm(f"{place}.conv1", before, width, kernel)
            encoder |= conv_norm(f"{place}.conv2", width, width, kernel)
            if before != width:  # behind the average over the stride
                encoder |= conv_norm(f"{place}.skip.1", before, width, [1, 1, 1], bias=False)
            before = width
    encoder = {name: tensor for name, tensor in encoder.items() if not skip or skip not in name}
    whole = {f"encoder.{name}": tensor for name, tensor in encoder.items()}
    whole |= {f"decoder.encoder.{name}": tensor for name, tensor in encoder.items()}
    return whole | drawn(**{"decoder.seg_layers.0.weight": (2, 4, 1, 1, 1)})


def med3d_file(shortcut: str = "A") -> dict[str, Tensor]:
    """``state_dict`` of Med3D's ResNet-10, as its training on several GPUs saved it."""
    found = drawn(**{"conv1.weight": (4, 1, 7, 7, 7)}) | norm("bn1", 4)
    inputs = 4
    for layer, outputs in enumerate((4, 8, 16, 32), 1):
        place = f"layer{layer}.0"
        found |= drawn(**{f"{place}.conv1.weight": (outputs, inputs, 3, 3, 3)}) | norm(f"{place}.bn1", outputs)
        found |= drawn(**{f"{place}.conv2.weight": (outputs, outputs, 3, 3, 3)}) | norm(f"{place}.bn2", outputs)
        if shortcut == "B" and layer > 1:
            found |= drawn(**{f"{place}.downsample.0.weight": (outputs, inputs, 1, 1, 1)})
            found |= norm(f"{place}.downsample.1", outputs)
        inputs = outputs
    found |= drawn(**{"conv_seg.0.weight": (32, 2, 2, 2, 2)})
    return {f"module.{name}": tensor for name, tensor in found.items()}


def norm(name: str, width: int) -> dict[str, Tensor]:
    kept = {f"{name}.{part}": (width,) for part in ("weight", "bias", "running_mean")}
    return drawn(**kept) | {f"{name}.running_var": torch.ones(width), f"{name}.num_batches_tracked": torch.tensor(7)}


def genesis_file() -> dict[str, Tensor]:
    """``state_dict`` of Models Genesis, whose norms keep statistics that nothing reads."""
    found: dict[str, Tensor] = {}
    for name, (inputs, middle, outputs) in {
        "down_tr64": (1, 2, 4),
        "down_tr128": (4, 4, 8),
        "down_tr256": (8, 8, 16),
        "down_tr512": (16, 16, 32),
    }.items():
        for i, (a, b) in enumerate(((inputs, middle), (middle, outputs))):
            place = f"{name}.ops.{i}"
            found |= drawn(**{f"{place}.conv1.weight": (b, a, 3, 3, 3), f"{place}.conv1.bias": (b,)})
            found |= norm(f"{place}.bn1", b)
    found |= drawn(**{"up_tr256.up_conv.weight": (32, 32, 2, 2, 2), "out_tr.final_conv.weight": (1, 4, 1, 1, 1)})
    return {f"module.{name}": tensor for name, tensor in found.items()}


def kept(folder: Path, held: dict[str, Any]) -> Path:
    torch.save(held, folder / "published.pth")
    return folder / "published.pth"


def converted(folder: Path, held: dict[str, Any], of: str, **more: Any) -> tuple[dict[str, Any], nn.Module]:
    """What is told of a conversion, and the encoder that its block builds."""
    told = convert_weights(kept(folder, held), of, folder / "found.safetensors", **more)
    block = dict(told["block"])
    return told, build("encoder", block.pop("use"), **block)


def same(encoder: Any, tensors: dict[str, Tensor], prefix: str) -> bool:
    own = encoder.net.state_dict()
    return all(torch.equal(own[name], tensors[prefix + name]) for name in own)


@pytest.mark.parametrize("of", ["openmind", "nnunet"])
def test_a_residual_encoder_is_taken_out_of_its_u_net(tmp_path: Path, of: str) -> None:
    tensors = resenc_file()
    told, encoder = converted(tmp_path, {"network_weights": tensors, "nnssl_adaptation_plan": {"a": [1, "b"]}}, of)
    assert isinstance(encoder, ResidualEncoder)
    assert same(encoder, tensors, "encoder.")
    assert (told["block"]["widths"], told["block"]["blocks"], told["block"]["kernels"]) == (
        list(WIDTHS),
        list(BLOCKS),
        KERNELS,
    )
    assert told["unknown"] == (["strides"] if of == "nnunet" else [])


@pytest.mark.parametrize("shortcut", ["A", "B"])
def test_a_resnet_of_med3d_is_taken_with_its_shortcut(tmp_path: Path, shortcut: str) -> None:
    tensors = med3d_file(shortcut)
    told, encoder = converted(tmp_path, {"epoch": 90, "state_dict": tensors}, "med3d")
    assert isinstance(encoder, ResNet3d)
    assert same(encoder, tensors, "module.")
    assert {**told["block"], "weights": ""} == {
        "use": "medkit:resnet3d",
        "depth": 10,
        "in_channels": 1,
        "width": 4,
        "shortcut": shortcut,
        "stem_stride": [2, 2, 2],
        "dilated": True,
        "weights": "",
    }


def test_the_way_down_of_models_genesis_is_taken(tmp_path: Path) -> None:
    tensors = genesis_file()
    told, encoder = converted(tmp_path, {"epoch": 1, "state_dict": tensors}, "genesis")
    assert isinstance(encoder, GenesisEncoder3D)
    assert same(encoder, {n: t.permute(0, 1, 4, 3, 2) if t.dim() == 5 else t for n, t in tensors.items()}, "module.")
    assert told["left_out"] == len(tensors) - told["tensors"]


@torch.no_grad()
def test_models_genesis_sees_slices_last_and_its_encoder_here_sees_them_first(tmp_path: Path) -> None:
    tensors, cube = genesis_file(), torch.rand(1, 1, 8, 16, 16)
    _, encoder = converted(tmp_path, {"state_dict": tensors}, "genesis")
    first = encoder.net.down_tr64.ops[0].conv1
    weight, bias = (tensors[f"module.down_tr64.ops.0.conv1.{name}"] for name in ("weight", "bias"))
    published = torch.nn.functional.conv3d(cube.transpose(2, 4), weight, bias, padding=1)
    torch.testing.assert_close(first(cube), published.transpose(2, 4))


def test_the_counts_of_batch_norms_may_be_missing(tmp_path: Path) -> None:
    tensors = {name: t for name, t in med3d_file().items() if not name.endswith("num_batches_tracked")}
    converted(tmp_path, {"state_dict": tensors}, "med3d")


def refused(folder: Path, held: dict[str, Any], of: str) -> InputError:
    with pytest.raises(InputError) as caught:
        convert_weights(kept(folder, held), of, folder / "found.safetensors")
    assert [path.name for path in folder.iterdir()] == ["published.pth"]
    return caught.value


def test_what_is_missing_is_named_and_nothing_written(tmp_path: Path) -> None:
    error = refused(tmp_path, {"network_weights": resenc_file("stages.1.blocks.0.conv2.norm")}, "openmind")
    assert "lacks 2 tensors" in error.what
    assert "stages.1.blocks.0.conv2.norm.weight" in error.what


def test_a_tensor_of_another_shape_is_named(tmp_path: Path) -> None:
    tensors = med3d_file() | {"module.layer2.0.conv2.weight": torch.zeros(8, 9, 3, 3, 3)}
    error = refused(tmp_path, {"state_dict": tensors}, "med3d")
    assert "layer2.0.conv2.weight [8, 9, 3, 3, 3], not [8, 8, 3, 3, 3]" in error.what


def test_other_weights_are_refused_by_what_they_lack(tmp_path: Path) -> None:
    assert "these are not Med3D's" in refused(tmp_path, {"network_weights": resenc_file()}, "med3d").what


def test_a_resnet_of_bottlenecks_is_refused(tmp_path: Path) -> None:
    tensors = med3d_file() | {"module.layer1.0.conv3.weight": torch.zeros(4, 4, 1, 1, 1)}
    assert "bottlenecks" in refused(tmp_path, {"state_dict": tensors}, "med3d").what


class Runs:
    """An object whose unpickling would run something."""

    def __reduce__(self) -> tuple[Any, ...]:
        return exec, ("raise SystemExit('it was run')",)


def test_a_file_that_would_run_something_is_not_run(tmp_path: Path) -> None:
    error = refused(tmp_path, {"state_dict": med3d_file(), "extra": Runs()}, "med3d")
    assert "nothing else in it is run" in error.what


@pytest.mark.parametrize("content", [b"", b"no archive", pickle.dumps([1])[:-2]])
def test_a_file_of_another_kind_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "w.pth").write_bytes(content)
    with pytest.raises(InputError):
        convert_weights(tmp_path / "w.pth", "med3d", tmp_path / "found.safetensors")


def test_an_encoder_of_other_stages_refuses_the_file_with_where_to_find_them(tmp_path: Path) -> None:
    convert_weights(kept(tmp_path, resenc_file()), "openmind", tmp_path / "found.safetensors")
    with pytest.raises(InputError, match="lacks") as caught:
        ResidualEncoder(1, (4, 6, 6, 6), (1, 2, 1, 1), weights=tmp_path / "found.safetensors")
    assert "convert-weights" in str(caught.value.hint)


def test_a_pickle_in_a_recipe_is_refused_with_the_command_that_converts_it(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not a safetensors file") as caught:
        ResNet3d(10, width=4, weights=kept(tmp_path, med3d_file()))
    assert "medkit convert-weights" in str(caught.value.hint)


def test_student_and_teacher_are_told_apart_by_a_prefix(tmp_path: Path) -> None:
    one = {name.removeprefix("module."): tensor for name, tensor in med3d_file().items()}
    other = {name: tensor + 1 for name, tensor in one.items()}
    both = {f"student.{n}": t for n, t in one.items()} | {f"teacher.{n}": t for n, t in other.items()}
    assert "this network twice" in refused(tmp_path, {"model": both}, "med3d").what
    assert same(converted(tmp_path, {"model": both}, "med3d", prefix="teacher.")[1], both, "teacher.")
