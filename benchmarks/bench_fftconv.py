"""The FFT-Conv block of MTD-GAN: its forms against the plain composition, for inference and for training."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from medkit_mtdgan.fft_conv import FFTConv, inverse
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from medkit.bench import PAGES_KEPT, Case, Rectified, Signs, Target, Truth, Unavailable, Variant, Work, compiled
from medkit.errors import InputError

Shape = tuple[int, int, int, int]
STACK = 4  # blocks of a training step, so that what they keep shows in the memory
FORMS = ("composed", "lean", "dft", "triton")


def block(way: str, channels: int, device: torch.device, dtype: torch.dtype, layout: torch.memory_format) -> nn.Module:
    """A block computed in one ``way``: a form, or another implementation."""
    torch.manual_seed(0)
    try:
        made = FFTConv(channels, way if way in FORMS else "composed")  # type: ignore[arg-type]
    except InputError as error:
        raise Unavailable(error.what) from error
    return made.to(device, dtype).to(memory_format=layout)


def runner(way: str, made: FFTConv, device: torch.device) -> Callable[[Tensor], Tensor]:
    if way == "checkpoint":
        return lambda x: checkpoint(made, x, use_reentrant=False)  # type: ignore[no-any-return]
    return in_pieces(made, device) if way == "compiled pieces" else made


def in_pieces(made: FFTConv, device: torch.device) -> Callable[[Tensor], Tensor]:
    """The composition with its real-valued pieces compiled, since no code is generated for complex numbers."""

    def mix(real: Tensor, imaginary: Tensor) -> Tensor:
        return F.relu(made.fft_conv(torch.cat([real, imaginary], dim=1)))

    def join(x: Tensor, spectral: Tensor) -> Tensor:
        return x + F.relu(made.img_conv(x)) + spectral

    mix, join = compiled(mix, device), compiled(join, device)

    def run(x: Tensor) -> Tensor:
        spectrum = torch.fft.rfft2(x, norm="ortho")
        real, imaginary = mix(spectrum.real, spectrum.imag).chunk(2, dim=1)
        return join(x, inverse(torch.complex(real, imaginary), *x.shape[-2:]))

    return run


def images(
    shape: Shape, device: torch.device, dtype: torch.dtype, layout: torch.memory_format, seed: int = 1
) -> Tensor:
    made = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=made).to(device, dtype).contiguous(memory_format=layout)


def infer(way: str, shape: Shape, dtype: torch.dtype, layout: torch.memory_format, device: torch.device) -> Any:
    run = runner(way, block(way, shape[1], device, dtype, layout), device)
    x = images(shape, device, dtype, layout)

    def call() -> Tensor:
        with torch.no_grad():
            return run(x)

    return call


def train(way: str, shape: Shape, dtype: torch.dtype, layout: torch.memory_format, device: torch.device) -> Rectified:
    """A forward and a backward pass of a stack; returns its output and every gradient."""
    blocks = nn.ModuleList(block(way, shape[1], device, dtype, layout) for _ in range(STACK))
    runs = [runner(way, made, device) for made in blocks]
    x, gradient = (images(shape, device, dtype, layout, seed) for seed in (1, 2))

    def traced(look: bool = True) -> tuple[list[Tensor], Signs]:
        given = x.detach().requires_grad_()
        h, signs = given, []
        for run in runs:
            before, h = h, run(h)
            if look:
                signs += open_relus(h, before, shape)
        return [h.detach(), *torch.autograd.grad(h, [given, *blocks.parameters()], gradient)], signs

    return Rectified(lambda: traced(look=False)[0], traced)


def open_relus(after: Tensor, before: Tensor, shape: Shape) -> list[Tensor]:
    """Where the spectral and the spatial ReLU of one block were open, from what autograd keeps between two tensors.

    The composition keeps the outputs of its ReLUs; forms with a backward pass of their own keep masks. For the spectrum
    these are (N,2C,H,F), (N,2C,HF) or, with real and imaginary parts interleaved, (N,C,H,F,2).
    """
    n, channels, height, width = shape
    kept: list[Tensor] = []
    waiting, seen = [after.grad_fn], set()
    while waiting:
        node: Any = waiting.pop()
        if node is None or node is before.grad_fn or node in seen:
            continue
        seen.add(node)
        if node.name() == "ReluBackward0":
            kept.append(node._saved_result > 0)
        elif hasattr(node, "saved_tensors"):
            kept += [tensor.bool() for tensor in node.saved_tensors if not tensor.is_floating_point()]
        waiting += [following for following, _ in node.next_functions]
    (spatial,) = (mask for mask in kept if mask.shape == shape)
    (spectral,) = (mask for mask in kept if mask.shape != shape)
    if spectral.ndim == 5:
        spectral = spectral.movedim(-1, 1)
    return [spectral.reshape(n, 2 * channels, height, width // 2 + 1), spatial]


def exact(shape: Shape, layout: torch.memory_format, device: torch.device) -> Truth:
    """The stack's output and gradients in double precision, with its ReLUs open at the given places."""
    wide = torch.float64
    blocks: Any = nn.ModuleList(block("composed", shape[1], device, wide, layout) for _ in range(STACK))
    x, gradient = (images(shape, device, wide, layout, seed) for seed in (1, 2))

    def run(signs: Signs | None) -> tuple[list[Tensor], list[Tensor]]:
        arguments: list[Tensor] = []

        def rectify(argument: Tensor) -> Tensor:
            arguments.append(argument.detach())
            is_open = argument > 0 if signs is None else signs[len(arguments) - 1]
            return torch.where(is_open, argument, 0)

        given = x.detach().requires_grad_()
        h = given
        for made in blocks:
            spectrum = torch.fft.rfft2(h, norm="ortho")
            mixed = rectify(made.fft_conv(torch.cat([spectrum.real, spectrum.imag], dim=1)))
            spectral = inverse(torch.complex(*mixed.chunk(2, dim=1)), *shape[-2:])
            h = h + rectify(made.img_conv(h)) + spectral
        return [h.detach(), *torch.autograd.grad(h, [given, *blocks.parameters()], gradient)], arguments

    return run


def work(shape: Shape, dtype: torch.dtype, times: int) -> Work:
    """``times`` the operations of both convolutions and of fast transforms, and the bytes of one image in and out."""
    n, c, h, w = shape
    flops = n * (18 * h * w * c * c + 8 * h * (w // 2 + 1) * c * c + 5 * c * h * w * math.log2(max(h * w, 2)))
    return Work(times * flops, times * 2 * n * c * h * w * dtype.itemsize, str(dtype).removeprefix("torch."))


def case(
    kind: str,
    shape: Shape,
    ways: tuple[str, ...],
    dtype: torch.dtype = torch.float32,
    layout: torch.memory_format = torch.contiguous_format,
    **options: Any,
) -> Case:
    """``infer`` or ``train`` at one shape, type and layout; the first way is the reference."""
    training = kind == "train"
    names = [f"training of {STACK} blocks" if training else "inference", "x".join(map(str, shape))]
    names += [str(dtype).removeprefix("torch.")] * (dtype != torch.float32)
    names += ["channels last"] * (layout == torch.channels_last)
    make = train if training else infer
    if dtype == torch.float64:
        held: dict[str, Any] = {"tolerance": 1e-12}
    elif training:
        held = {"flips": partial(exact, shape, layout)}
    else:
        held = {"truth": partial(infer, "composed", shape, torch.float64, layout)}
    return Case(
        " ".join(names),
        tuple(
            Variant(
                way,
                partial(make, way, shape, dtype, layout),
                memory=way != "compiled pieces",
            )
            for way in ways
        ),
        relative=training,
        work=work(shape, dtype, 3 * STACK if training else 1),
        **held,
        **options,
    )


def allocators(shape: Shape, **options: Any) -> Case:
    """The block with the C library's default allocator and with one that keeps its pages.

    Its settings apply to a whole process, so each variant has a process of its own; they still take turns.
    """
    settings = {"pages kept": PAGES_KEPT, "as it is": {}}
    return Case(
        f"allocator, inference {'x'.join(map(str, shape))}",
        tuple(
            Variant(
                f"{way}, {label}",
                partial(infer, way, shape, torch.float32, torch.contiguous_format),
                environ=environ,
            )
            for label, environ in settings.items()
            for way in ("composed", "lean")
        ),
        truth=partial(infer, "composed", shape, torch.float64, torch.contiguous_format),
        work=work(shape, torch.float32, 1),
        host=True,
        **options,
    )


def sweep(kind: str, name: str, shapes: dict[int, Shape], ways: tuple[str, ...] = FORMS, **options: Any) -> list[Case]:
    """Cases that form one curve, over the keys of ``shapes``."""
    return [case(kind, shape, ways, group=name, size=size, **options) for size, shape in shapes.items()]


def cases() -> list[Case]:
    speed, memory = (partial(Target, "lean", quantity) for quantity in ("speed", "memory"))
    few, two = ("composed", "lean", "triton"), ("composed", "lean")
    return [
        case("infer", (1, 8, 16, 16), FORMS, memory=True, quick=True),
        case("train", (1, 8, 17, 15), FORMS, quick=True),
        # The thesis's sizes: patches of training, with the class's default width too; whole slices.
        case("infer", (8, 96, 64, 64), (*FORMS, "compiled pieces"), memory=True, targets=(memory(0.55),)),
        case("infer", (8, 32, 64, 64), FORMS, memory=True),
        case("infer", (1, 96, 512, 512), few, memory=True, targets=(speed(1.4), memory(0.55))),
        allocators((1, 96, 512, 512), memory=True, targets=(Target("lean, pages kept", "speed", 1.05),)),
        case(
            "train",
            (8, 96, 64, 64),
            ("composed", "lean", "checkpoint", "triton"),
            memory=True,
            targets=(speed(0.95), memory(0.65)),
        ),
        case(
            "train",
            (8, 32, 64, 64),
            ("composed", "lean", "checkpoint", "dft", "triton"),
            memory=True,
            targets=(speed(0.83), memory(0.65)),
        ),
        *sweep("infer", "inference, 32 channels, over pixels", {s**2: (1, 32, s, s) for s in (16, 32, 64, 128, 256)}),
        *sweep("infer", "inference, 96 channels, over pixels", {s**2: (1, 96, s, s) for s in (32, 64, 128)}, few),
        *sweep("train", "training, 32 channels, over pixels", {s**2: (2, 32, s, s) for s in (16, 32, 64, 128)}),
        *sweep("infer", "inference, 64x64, over channels", {c: (2, c, 64, 64) for c in (8, 16, 32, 64, 128)}),
        *sweep("infer", "inference, 32 channels, height 64, over width", {w: (1, 32, 64, w) for w in (33, 100, 320)}),
        # The thesis's step has 20 images of 8 patches.
        *sweep("infer", "inference, 32x64x64, over images", {n: (n, 32, 64, 64) for n in (3, 20, 160)}, few),
        # Types and layouts.
        case("infer", (2, 32, 63, 65), ("composed", "lean", "dft"), dtype=torch.float64),
        *sweep(
            "infer",
            "inference, float64, 32 channels, over pixels",
            {s**2: (1, 32, s, s) for s in (32, 64, 128)},
            ("composed", "lean", "dft"),
            dtype=torch.float64,
        ),
        *sweep(
            "infer",
            "inference, channels last, 32 channels, over pixels",
            {s**2: (1, 32, s, s) for s in (32, 64, 128)},
            two,
            layout=torch.channels_last,
        ),
    ]


@pytest.mark.parametrize("case", cases(), ids=lambda case: case.name)
def test_fftconv(case, versus) -> None:
    versus(case)
