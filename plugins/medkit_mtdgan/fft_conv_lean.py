"""The FFT-Conv block in little memory.

The training form keeps the input and two boolean masks instead of every intermediate spectrum; the inference form mixes
the spectrum tile by tile, in place.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

COLUMNS = 8192  # spectrum columns mixed at a time in inference: the tile stays in cache
SLAB = 16  # channels transformed at a time in inference


def inverse(spectrum: Tensor, height: int, width: int) -> Tensor:
    """Orthonormal inverse of a half spectrum (...,H,W//2+1) to (...,H,W), in the defined order: columns, then rows."""
    return torch.fft.irfft(torch.fft.ifft(spectrum, n=height, dim=-2, norm="ortho"), n=width, dim=-1, norm="ortho")


def _samples_at_once(x: Tensor) -> int:
    # On a CPU one sample's spectrum fits the cache; a GPU wants the whole batch in one call.
    return 1 if x.device.type == "cpu" else x.shape[0]


def mix(spectrum: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Pointwise product before the ReLU: (n,C,H,F) complex to (n,2C,H*F) real."""
    return torch.baddbmm(bias[None, :, None], weight.expand(len(spectrum), -1, -1), _parts(spectrum).flatten(2))


def _parts(spectrum: Tensor) -> Tensor:
    """Real parts of all channels, then imaginary ones: (n,C,H,F) complex to (n,2C,H,F) real."""
    return torch.cat([spectrum.real, spectrum.imag], dim=1)


def conv_backward(grad: Tensor, x: Tensor, weight: Tensor, needs: Sequence[bool]) -> tuple[Tensor, Tensor, Tensor]:
    """The needed gradients of a 3x3 convolution with padding 1, for its input, weight and bias."""
    return torch.ops.aten.convolution_backward(
        grad, x, weight, [len(weight)], [1, 1], [1, 1], [1, 1], False, [0, 0], 1, list(needs[:3])
    )


def edge_columns(width: int) -> list[int]:
    """Columns of a half spectrum without a mirrored counterpart: zero frequency, and Nyquist for even widths."""
    return [0, width // 2] if width % 2 == 0 else [0]


class LeanFFTConv(torch.autograd.Function):
    """The block, keeping only x and two boolean masks for the backward pass.

    With S = rfft2(x), the adjoint of the inverse transform doubles the inner columns of rfft2(g) and the adjoint of
    the forward one halves them. That diagonal commutes with the channel product and the mask, so
    ``dx = irfft2(W^T (mask * rfft2(g)))``. The diagonal remains in ``dW`` and ``db`` only: twice the sum over all
    columns minus the edge ones (zero frequency, and Nyquist for even W).
    """

    @staticmethod
    def forward(ctx, x, conv_weight, conv_bias, mix_weight, mix_bias):  # type: ignore[no-untyped-def]
        n, channels, height, width = x.shape
        weight = mix_weight.flatten(1)
        out = F.conv2d(x, conv_weight, conv_bias, padding=1)
        spatial_mask = out > 0
        out.relu_().add_(x)
        frequencies = width // 2 + 1
        spectral_mask = torch.empty((n, 2 * channels, height * frequencies), dtype=torch.bool, device=x.device)
        step = _samples_at_once(x)
        for i in range(0, n, step):
            mixed = mix(torch.fft.rfft2(x[i : i + step], norm="ortho"), weight, mix_bias)
            torch.gt(mixed, 0, out=spectral_mask[i : i + step])
            real, imaginary = mixed.relu_().view(-1, 2 * channels, height, frequencies).chunk(2, dim=1)
            out[i : i + step] += inverse(torch.complex(real, imaginary), height, width)
        ctx.save_for_backward(x, conv_weight, mix_weight, spatial_mask, spectral_mask)
        return out

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad):  # type: ignore[no-untyped-def]
        x, conv_weight, mix_weight, spatial_mask, spectral_mask = ctx.saved_tensors
        n, channels, height, width = x.shape
        frequencies = width // 2 + 1
        grad = grad.contiguous()
        dx, d_conv_weight, d_conv_bias = conv_backward(grad * spatial_mask, x, conv_weight, ctx.needs_input_grad)
        weight = mix_weight.flatten(1)
        wants_weight = ctx.needs_input_grad[3]
        wants_bias = ctx.needs_input_grad[4]
        d_weight = torch.zeros_like(weight) if wants_weight else None
        d_bias = torch.zeros_like(weight[:, 0]) if wants_bias else None
        edges = edge_columns(width)
        step = _samples_at_once(x)
        for i in range(0, n, step):
            # mask * rfft2(g), from which all three gradients of the spectral branch are computed.
            masked = _parts(torch.fft.rfft2(grad[i : i + step], norm="ortho")).flatten(2)
            masked.mul_(spectral_mask[i : i + step])
            at_edges = masked.view(-1, 2 * channels, height, frequencies)[..., edges]
            if wants_bias:
                d_bias += 2 * masked.sum((0, 2)) - at_edges.sum((0, 2, 3))
            if wants_weight:
                spectrum = _parts(torch.fft.rfft2(x[i : i + step], norm="ortho"))
                d_weight += 2 * torch.einsum("nap,nbp->ab", masked, spectrum.flatten(2))
                d_weight -= torch.einsum("nahf,nbhf->ab", at_edges, spectrum[..., edges])
            if ctx.needs_input_grad[0]:
                back = torch.matmul(weight.t(), masked).view(-1, 2 * channels, height, frequencies)
                real, imaginary = back.chunk(2, dim=1)
                dx[i : i + step] += inverse(torch.complex(real, imaginary), height, width)
        if ctx.needs_input_grad[0]:
            dx += grad
        return dx, d_conv_weight, d_conv_bias, None if d_weight is None else d_weight.view_as(mix_weight), d_bias


def infer(x: Tensor, conv_weight: Tensor, conv_bias: Tensor, mix_weight: Tensor, mix_bias: Tensor) -> Tensor:
    """The block without gradients: (N,C,H,W) to (N,C,H,W)."""
    n, channels, height, width = x.shape
    weight = mix_weight.flatten(1)
    frequencies = width // 2 + 1
    out = F.conv2d(x, conv_weight, conv_bias, padding=1).relu_()
    out += x
    if x.device.type != "cpu":
        mixed = mix(torch.fft.rfft2(x, norm="ortho"), weight, mix_bias).relu_()
        real, imaginary = mixed.view(n, 2 * channels, height, frequencies).chunk(2, dim=1)
        return out.add_(inverse(torch.complex(real, imaginary), height, width))
    complex_type = torch.complex128 if x.dtype == torch.float64 else torch.complex64
    columns = height * frequencies
    spectrum = torch.empty((channels, height, frequencies), dtype=complex_type)  # of one image, mixed in place
    pairs = torch.view_as_real(spectrum).view(channels, columns, 2)
    parts = torch.empty((2 * channels, min(COLUMNS, columns)), dtype=x.dtype)  # of a tile, all real ones first
    for i in range(n):
        for c in range(0, channels, SLAB):
            spectrum[c : c + SLAB] = torch.fft.rfft2(x[i, c : c + SLAB], norm="ortho")
        for first in range(0, columns, COLUMNS):
            tile = pairs[:, first : first + COLUMNS]
            length = tile.shape[1]
            parts[:channels, :length] = tile[..., 0]
            parts[channels:, :length] = tile[..., 1]
            mixed = torch.addmm(mix_bias[:, None], weight, parts[:, :length]).relu_()
            tile[..., 0] = mixed[:channels]
            tile[..., 1] = mixed[channels:]
        for c in range(0, channels, SLAB):
            out[i, c : c + SLAB] += inverse(spectrum[c : c + SLAB], height, width)
    return out
