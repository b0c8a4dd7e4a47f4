"""The FFT-Conv block: identity, a spatial convolution and a pointwise convolution of the spectrum, summed.

Two forms compute the same numbers. The training form keeps the input and two boolean masks instead of every
intermediate spectrum; the inference form mixes the spectrum tile by tile, in place.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

COLUMNS = 8192  # spectrum columns mixed at a time in inference: the tile stays in cache
SLAB = 16  # channels transformed at a time in inference


class FFTConv(nn.Module):
    """FFT-Conv block: ``x + relu(conv3x3(x)) + irfft2(relu(W [Re, Im] rfft2(x) + b))``.

    Shapes: (N,C,H,W) to (N,C,H,W), any H and W. Transforms are orthonormal; all C real parts come before all C
    imaginary ones in the 2C channels that ``fft_conv`` mixes. Source: thesis part C, Fig. 15; published
    ``FFT_ConvBlock``. The inverse of the rectified, hence non-Hermitian, spectrum is *defined* as a complex inverse
    transform down the columns and then a complex-to-real one along the rows, so that every device agrees.

    Parameters
    ----------
    channels:
        C, in and out.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.img_conv = nn.Conv2d(channels, channels, 3, padding=1)
        self.fft_conv = nn.Conv2d(2 * channels, 2 * channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        # Half precision has no FFT of arbitrary size, and spectra span more than bfloat16 resolves.
        with torch.autocast(x.device.type, enabled=False):
            x = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
            parameters = (self.img_conv.weight, self.img_conv.bias, self.fft_conv.weight, self.fft_conv.bias)
            if torch.is_grad_enabled() and (x.requires_grad or any(p.requires_grad for p in parameters)):
                return _LeanFFTConv.apply(x, *parameters)
            return _infer(x, *parameters)


def composed(block: FFTConv, x: Tensor) -> Tensor:
    """The block as its definition reads, by autograd: the reference that both forms are tested and timed against."""
    height, width = x.shape[-2:]
    spectrum = torch.fft.rfft2(x, norm="ortho")
    mixed = F.relu(block.fft_conv(torch.cat([spectrum.real, spectrum.imag], dim=1)))
    real, imaginary = mixed.chunk(2, dim=1)
    return x + F.relu(block.img_conv(x)) + inverse(torch.complex(real, imaginary), height, width)


def inverse(spectrum: Tensor, height: int, width: int) -> Tensor:
    """Orthonormal inverse of a half spectrum (...,H,W//2+1) to (...,H,W), in its defined order: columns, then rows."""
    return torch.fft.irfft(torch.fft.ifft(spectrum, n=height, dim=-2, norm="ortho"), n=width, dim=-1, norm="ortho")


def _samples_at_once(x: Tensor) -> int:
    # On a CPU one sample's spectrum fits the cache; a GPU wants the whole batch in one call.
    return 1 if x.device.type == "cpu" else x.shape[0]


def _mix(spectrum: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Pointwise product before the ReLU: (n,C,H,F) complex to (n,2C,H*F) real."""
    n, channels = spectrum.shape[:2]
    stacked = torch.cat([spectrum.real, spectrum.imag], dim=1).view(n, 2 * channels, -1)
    return torch.baddbmm(bias[None, :, None], weight.expand(n, -1, -1), stacked)


class _LeanFFTConv(torch.autograd.Function):
    """The block with x and two boolean masks as its only memory.

    With S = rfft2(x), the adjoint of the inverse transform doubles the inner columns of rfft2(g) and the adjoint of
    the forward one halves them. That diagonal commutes with the channel product and the mask, so
    ``dx = irfft2(W^T (mask * rfft2(g)))`` and only ``dW`` and ``db`` see it, as twice the sum over all columns less
    the edge ones (zero frequency, and Nyquist for even W).
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
            mixed = _mix(torch.fft.rfft2(x[i : i + step], norm="ortho"), weight, mix_bias)
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
        dx, d_conv_weight, d_conv_bias = torch.ops.aten.convolution_backward(
            grad * spatial_mask,
            x,
            conv_weight,
            [channels],
            [1, 1],
            [1, 1],
            [1, 1],
            False,
            [0, 0],
            1,
            [ctx.needs_input_grad[0], ctx.needs_input_grad[1], ctx.needs_input_grad[2]],
        )
        weight = mix_weight.flatten(1)
        wants_weight = ctx.needs_input_grad[3]
        wants_bias = ctx.needs_input_grad[4]
        d_weight = torch.zeros_like(weight) if wants_weight else None
        d_bias = torch.zeros_like(weight[:, 0]) if wants_bias else None
        edges = [0, frequencies - 1] if width % 2 == 0 else [0]
        if width == 1:
            edges = [0]
        step = _samples_at_once(x)
        for i in range(0, n, step):
            g = torch.fft.rfft2(grad[i : i + step], norm="ortho")
            g = torch.cat([g.real, g.imag], dim=1).view(-1, 2 * channels, height * frequencies)
            g.mul_(spectral_mask[i : i + step])
            grid = g.view(-1, 2 * channels, height, frequencies)
            if wants_bias:
                d_bias += 2 * g.sum((0, 2)) - grid[..., edges].sum((0, 2, 3))
            if wants_weight:
                s = torch.fft.rfft2(x[i : i + step], norm="ortho")
                s = torch.cat([s.real, s.imag], dim=1)
                d_weight += 2 * torch.einsum("nap,nbp->ab", g, s.flatten(2))
                d_weight -= torch.einsum("nahf,nbhf->ab", grid[..., edges], s[..., edges])
            if ctx.needs_input_grad[0]:
                back = torch.matmul(weight.t(), g).view(-1, 2 * channels, height, frequencies)
                real, imaginary = back.chunk(2, dim=1)
                dx[i : i + step] += inverse(torch.complex(real, imaginary), height, width)
        if ctx.needs_input_grad[0]:
            dx += grad
        return dx, d_conv_weight, d_conv_bias, None if d_weight is None else d_weight.view_as(mix_weight), d_bias


def _infer(x: Tensor, conv_weight: Tensor, conv_bias: Tensor, mix_weight: Tensor, mix_bias: Tensor) -> Tensor:
    n, channels, height, width = x.shape
    weight = mix_weight.flatten(1)
    frequencies = width // 2 + 1
    out = F.conv2d(x, conv_weight, conv_bias, padding=1).relu_()
    out += x
    if x.device.type != "cpu":
        mixed = _mix(torch.fft.rfft2(x, norm="ortho"), weight, mix_bias).relu_()
        real, imaginary = mixed.view(n, 2 * channels, height, frequencies).chunk(2, dim=1)
        return out.add_(inverse(torch.complex(real, imaginary), height, width))
    complex_type = torch.complex128 if x.dtype == torch.float64 else torch.complex64
    spectrum = torch.empty((channels, height, frequencies), dtype=complex_type)
    flat = torch.view_as_real(spectrum).view(channels, height * frequencies, 2)
    columns = height * frequencies
    stacked = torch.empty((2 * channels, min(COLUMNS, columns)), dtype=x.dtype)
    for i in range(n):
        for c in range(0, channels, SLAB):
            spectrum[c : c + SLAB] = torch.fft.rfft2(x[i, c : c + SLAB], norm="ortho")
        for p in range(0, columns, COLUMNS):
            tile = flat[:, p : p + COLUMNS]
            size = tile.shape[1]
            stacked[:channels, :size] = tile[..., 0]
            stacked[channels:, :size] = tile[..., 1]
            mixed = torch.addmm(mix_bias[:, None], weight, stacked[:, :size]).relu_()
            tile[..., 0] = mixed[:channels]
            tile[..., 1] = mixed[channels:]
        for c in range(0, channels, SLAB):
            out[i, c : c + SLAB] += inverse(spectrum[c : c + SLAB], height, width)
    return out
