"""Inference over a volume: ResNet-50 (stride-1 stem) and SCSE U-Net, slice by slice.

64 slices at a time, as in the published evaluation, against a loop over slices, small chunks, and the prepared network:
batch norm folded, channels last; compiled; in bfloat16 where the device has it. ``valid slices`` leaves out the slices
that pad shorter volumes of a batch.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from medkit_smartnet.scse_unet import ScseUNet
from torch import Tensor, nn

from medkit.bench import Case, Target, Unavailable, Variant, compiled, has_bf16
from medkit.objectives.common import in_chunks
from medkit.parts.encoders import TimmEncoder
from medkit.parts.inference import prepare_for_inference


def network(small: bool) -> nn.Module:
    torch.manual_seed(0)
    encoder = TimmEncoder("resnet18" if small else "resnet50", stem_stride=1)
    return nn.Sequential(encoder, ScseUNet(encoder.channels, encoder.strides)).eval()


def volume(depth: int, size: int) -> Tensor:
    return torch.rand(depth, 1, size, size, generator=torch.Generator().manual_seed(1))


def prepared(small: bool, size: int) -> nn.Module:
    return prepare_for_inference(network(small), lambda m: m(volume(1, min(size, 64))))


def predict(
    way: str, chunk: int, small: bool, depth: int, size: int, padded: int, device: torch.device
) -> Callable[[], Tensor]:
    """Logits of ``depth`` slices; ``padded`` empty ones follow where padding is computed too."""
    if way == "bf16" and not has_bf16(device):
        raise Unavailable("this device has no bfloat16")
    net: Any = (network if way in ("plain", "padded", "double") else partial(prepared, size=size))(small).to(device)
    slices = volume(depth, size).to(device)
    if way == "padded":
        slices = torch.cat([slices, torch.zeros(padded, 1, size, size, device=device)])
    if kind := {"bf16": torch.bfloat16, "double": torch.float64}.get(way):
        net, slices = net.to(kind), slices.to(kind)
    if way == "compiled":
        net = compiled(net, device, options={"freezing": True})

    # Frozen code is made under no_grad, not in inference mode.
    @torch.no_grad() if way == "compiled" else torch.inference_mode()
    def run() -> Tensor:
        return in_chunks(net, slices, chunk)[:depth]

    return run


def case(
    name: str, depth: int, size: int, small: bool = False, ways: tuple[str, ...] = (), padded: int = 0, **options: Any
) -> Case:
    chosen = {
        "64 slices at once": ("plain", 64),
        "slice by slice": ("plain", 1),
        "chunks of 2, with padding": ("padded", 2),
        "chunks of 2": ("plain", 2),
        "chunks of 2, valid slices": ("plain", 2),
        "prepared": ("prepared", 2),
        "prepared, valid slices": ("prepared", 2),
        "prepared, 1 at a time": ("prepared", 1),
        "prepared, bf16": ("bf16", 2),
        "prepared, compiled": ("compiled", 2),
        # The fastest of 1, 2, 4 and 8 on the CPU used: the maps of one slice stay in its caches.
        "prepared, compiled, 1 at a time": ("compiled", 1),
    }
    return Case(
        name,
        tuple(
            Variant(
                label,
                partial(predict, *chosen[label], small, depth, size, padded),
                tolerance=0.05 if label.endswith("bf16") else None,
                memory="compiled" not in label,
                dtype="bfloat16" if label.endswith("bf16") else None,
            )
            for label in ways
        ),
        truth=partial(predict, "double", 1, small, depth, size, padded),
        relative=True,
        **options,
    )


def cases() -> list[Case]:
    compiled_ways = ("prepared, compiled", "prepared, compiled, 1 at a time")
    return [
        case(
            "2 slices of 32x32, ResNet-18",
            2,
            32,
            True,
            ("64 slices at once", "slice by slice", "chunks of 2", "prepared", "prepared, bf16"),
            quick=True,
        ),
        case(
            "8 slices of 256x256",
            8,
            256,
            ways=("64 slices at once", "slice by slice", "prepared", *compiled_ways, "prepared, bf16"),
            targets=(Target("prepared", "speed", 1.25), *(Target(way, "speed", 1.5) for way in compiled_ways)),
            rounds=3,
        ),
        case(
            "28 slices of 128x128",
            28,
            128,
            ways=("64 slices at once", "slice by slice", "prepared"),
            memory=True,
            targets=(Target("prepared", "memory", 0.2),),
            rounds=3,
        ),
        case(
            "4 slices of 128x128",
            4,
            128,
            ways=("64 slices at once", "chunks of 2", "prepared", "prepared, 1 at a time", "prepared, bf16"),
            rounds=7,
        ),
        case(
            "5 of 8 slices of 64x64 valid",
            5,
            64,
            ways=("chunks of 2, with padding", "chunks of 2, valid slices", "prepared, valid slices"),
            padded=3,
        ),
    ]


@pytest.mark.parametrize("case", cases(), ids=lambda case: case.name)
def test_volume(case, versus) -> None:
    versus(case)
