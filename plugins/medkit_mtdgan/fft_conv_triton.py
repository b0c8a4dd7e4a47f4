"""The FFT-Conv block with its pointwise spectral stage in one Triton kernel, for CUDA.

A complex spectrum (N,C,P) is read and written once in its memory layout, with real and imaginary parts interleaved: the
product with W (2C,2C), the bias and the ReLU need no concatenation, no split and no copy to complex. The backward pass
is the same kernel with W transposed and the mask of the ReLU instead of bias and ReLU.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
import triton
import triton.language as tl
from torch import Tensor

from medkit.api import InputError
from medkit_mtdgan.fft_conv_lean import conv_backward, edge_columns

TILE = 32  # rows of W at a time; C is padded to a multiple of it inside the kernel
COLUMNS = 64  # spectrum columns per program: 512 contiguous bytes per channel


@triton.jit
def _mix_kernel(
    source,
    target,
    mask,
    weight,
    bias,
    channels,
    columns,
    row_stride,
    column_stride,
    RECTIFY: tl.constexpr,
    WRITE_MASK: tl.constexpr,
    READ_MASK: tl.constexpr,
    ROWS: tl.constexpr,
    WIDTH: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """One program: all channels of WIDTH columns of one sample. Not in place: each tile of rows reads every channel."""
    pairs = tl.program_id(0) * 2 * WIDTH + tl.arange(0, 2 * WIDTH)
    base = tl.program_id(1).to(tl.int64) * channels * columns * 2
    for first in range(0, channels, ROWS):
        rows = first + tl.arange(0, ROWS)
        real = tl.zeros((ROWS, WIDTH), tl.float32)
        imaginary = tl.zeros((ROWS, WIDTH), tl.float32)
        for start in range(0, channels, ROWS):
            inner = start + tl.arange(0, ROWS)
            place = base + inner[:, None].to(tl.int64) * (2 * columns) + pairs[None, :]
            inside = (inner[:, None] < channels) & (pairs[None, :] < 2 * columns)
            tile = tl.load(source + place, mask=inside, other=0.0)
            if READ_MASK:
                tile = tl.where(tl.load(mask + place, mask=inside, other=0) != 0, tile, 0.0)
            x_real, x_imaginary = tl.split(tl.reshape(tile, (ROWS, WIDTH, 2)))
            corner = weight + rows[:, None] * row_stride + inner[None, :] * column_stride
            known = (rows[:, None] < channels) & (inner[None, :] < channels)
            right, below = channels * column_stride, channels * row_stride
            w = tl.load(corner, mask=known, other=0.0)
            real += tl.dot(w, x_real, input_precision=PRECISION)
            w = tl.load(corner + right, mask=known, other=0.0)
            real += tl.dot(w, x_imaginary, input_precision=PRECISION)
            w = tl.load(corner + below, mask=known, other=0.0)
            imaginary += tl.dot(w, x_real, input_precision=PRECISION)
            w = tl.load(corner + right + below, mask=known, other=0.0)
            imaginary += tl.dot(w, x_imaginary, input_precision=PRECISION)
        if RECTIFY:
            b = tl.load(bias + rows, mask=rows < channels, other=0.0)
            real = tl.maximum(real + b[:, None], 0.0)
            b = tl.load(bias + channels + rows, mask=rows < channels, other=0.0)
            imaginary = tl.maximum(imaginary + b[:, None], 0.0)
        place = base + rows[:, None].to(tl.int64) * (2 * columns) + pairs[None, :]
        inside = (rows[:, None] < channels) & (pairs[None, :] < 2 * columns)
        mixed = tl.reshape(tl.join(real, imaginary), (ROWS, 2 * WIDTH))
        tl.store(target + place, mixed, mask=inside)
        if WRITE_MASK:
            tl.store(mask + place, (mixed > 0).to(tl.uint8), mask=inside)


def mix(spectrum: Tensor, weight: Tensor, bias: Tensor | None = None, mask: Tensor | None = None) -> Tensor:
    """The pointwise stage of (N,C,H,F) complex64, to the same shape.

    Parameters
    ----------
    weight:
        (2C,2C), any strides; rows and columns hold all real parts before all imaginary ones.
    bias:
        (2C,); with it, the result is rectified. Without it, ``mask`` is applied to the spectrum instead.
    mask:
        (N,C,H,F,2) uint8: written where the rectified result is positive, or read.
    """
    n, channels, height, frequencies = spectrum.shape
    source = torch.view_as_real(spectrum.contiguous())
    target = torch.empty_like(source)
    columns = height * frequencies
    with torch.cuda.device_of(source):  # otherwise a kernel runs on the current GPU, which may be another
        _mix_kernel[(triton.cdiv(columns, COLUMNS), n)](
            source,
            target,
            source if mask is None else mask,
            weight,
            source if bias is None else bias,
            channels,
            columns,
            weight.stride(0),
            weight.stride(1),
            RECTIFY=bias is not None,
            WRITE_MASK=bias is not None and mask is not None,
            READ_MASK=bias is None and mask is not None,
            ROWS=TILE,
            WIDTH=COLUMNS,
            PRECISION="tf32" if torch.backends.cuda.matmul.fp32_precision == "tf32" else "ieee",
        )
    return torch.view_as_complex(target)


def fused(
    x: Tensor, conv_weight: Tensor, conv_bias: Tensor, mix_weight: Tensor, mix_bias: Tensor, training: bool
) -> Tensor:
    """The block, (N,C,H,W) to (N,C,H,W); with ``training``, autograd can differentiate it.

    Raises
    ------
    InputError
        for other types than float32.
    """
    if x.dtype != torch.float32:
        raise InputError(
            f"the Triton form computes in float32, not {x.dtype}", "form", "lean computes in any precision"
        )
    if training:
        return _FusedFFTConv.apply(x, conv_weight, conv_bias, mix_weight, mix_bias)
    spectrum, _ = _spectral(x, mix_weight, mix_bias, training=False)
    return F.conv2d(x, conv_weight, conv_bias, padding=1).relu_().add_(x).add_(spectrum)


def _spectral(x: Tensor, mix_weight: Tensor, mix_bias: Tensor, training: bool) -> tuple[Tensor, Tensor | None]:
    """The spectral branch and, for training, the mask of its ReLU.

    Transforms are not normalised: a positive factor passes through the ReLU, so both go into weight and bias.
    """
    height, width = x.shape[-2:]
    spectrum = torch.fft.rfft2(x)
    mask = torch.empty((*spectrum.shape, 2), dtype=torch.uint8, device=x.device) if training else None
    area = height * width
    mixed = mix(spectrum, mix_weight.flatten(1) / area, mix_bias / area**0.5, mask)
    return _inverse(mixed, height, width), mask


def _inverse(spectrum: Tensor, height: int, width: int) -> Tensor:
    """The inverse in the defined order, not normalised."""
    return torch.fft.irfft(torch.fft.ifft(spectrum, n=height, dim=-2, norm="forward"), n=width, dim=-1, norm="forward")


class _FusedFFTConv(torch.autograd.Function):
    """The block, keeping only x and two masks for the backward pass; the mathematics is that of the lean form."""

    @staticmethod
    def forward(ctx, x, conv_weight, conv_bias, mix_weight, mix_bias):  # type: ignore[no-untyped-def]
        out = F.conv2d(x, conv_weight, conv_bias, padding=1)
        spatial_mask = out > 0
        spectrum, spectral_mask = _spectral(x, mix_weight, mix_bias, training=True)
        ctx.save_for_backward(x, conv_weight, mix_weight, spatial_mask, spectral_mask)
        return out.relu_().add_(x).add_(spectrum)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad):  # type: ignore[no-untyped-def]
        x, conv_weight, mix_weight, spatial_mask, spectral_mask = ctx.saved_tensors
        height, width = x.shape[-2:]
        area, edges = height * width, edge_columns(width)
        grad = grad.contiguous()
        dx, d_conv_weight, d_conv_bias = conv_backward(grad * spatial_mask, x, conv_weight, ctx.needs_input_grad)
        g = torch.fft.rfft2(grad)
        if ctx.needs_input_grad[0]:
            back = mix(g, mix_weight.flatten(1).t() / area, mask=spectral_mask)
            dx = dx.add_(grad).add_(_inverse(back, height, width))
        d_weight = d_bias = None
        if ctx.needs_input_grad[3] or ctx.needs_input_grad[4]:
            # Channels as (part, channel), as W has them.
            g = torch.view_as_real(g).mul_(spectral_mask)
            g_edges = g[..., edges, :]
            d_bias = (2 * g.sum((0, 2, 3)) - g_edges.sum((0, 2, 3))).t().flatten() / area**0.5
        if ctx.needs_input_grad[3]:
            s = torch.view_as_real(torch.fft.rfft2(x))
            both = "nchfi,ndhfj->icjd"
            d_weight = 2 * torch.einsum(both, g, s) - torch.einsum(both, g_edges, s[..., edges, :])
            d_weight = d_weight.reshape(mix_weight.shape) / area
        return dx, d_conv_weight, d_conv_bias, d_weight, d_bias
