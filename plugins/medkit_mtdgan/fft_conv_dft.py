"""The FFT-Conv block with Fourier transforms as real matrix products, for devices whose matrix units outrun FFTs."""

from __future__ import annotations

import functools
import math

import torch
import torch.nn.functional as F
from torch import Tensor


def by_matrices(x: Tensor, conv_weight: Tensor, conv_bias: Tensor, mix_weight: Tensor, mix_bias: Tensor) -> Tensor:
    """The block, (N,C,H,W) to (N,C,H,W), with gradients by autograd. For small images: work grows as H W (H + W)."""
    mixed = F.relu(F.conv2d(forward_transform(x), mix_weight, mix_bias))
    return x + F.relu(F.conv2d(x, conv_weight, conv_bias, padding=1)) + inverse_transform(mixed, x.shape[-1])


def forward_transform(x: Tensor) -> Tensor:
    """Orthonormal ``rfft2`` of (N,C,H,W) as (N,2C,H,W//2+1): all real parts, then all imaginary ones."""
    n, channels, height, width = x.shape
    rows, columns, _ = matrices(height, width, x.dtype, x.device)
    halves = (x @ rows).view(n, channels, height, 2, -1).transpose(2, 3).reshape(n, channels, 2 * height, -1)
    spectrum = (columns @ halves).view(n, channels, 2, height, -1)
    return spectrum.transpose(1, 2).reshape(n, 2 * channels, height, -1)


def inverse_transform(spectrum: Tensor, width: int) -> Tensor:
    """From (N,2C,H,W//2+1) to (N,C,H,W): a complex inverse down the columns, a complex-to-real one along the rows."""
    n, doubled, height, frequencies = spectrum.shape
    _, columns, rows = matrices(height, width, spectrum.dtype, spectrum.device)
    halves = spectrum.view(n, 2, doubled // 2, height, -1).transpose(1, 2).reshape(n, doubled // 2, 2 * height, -1)
    # The inverse of the orthonormal matrix is its transpose.
    waves = (columns.t() @ halves).view(n, doubled // 2, 2, height, frequencies)
    return waves.transpose(2, 3).reshape(n, doubled // 2, height, 2 * frequencies) @ rows


@functools.lru_cache(maxsize=16)
def matrices(height: int, width: int, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Orthonormal transforms as real matrices, made in double precision.

    Returns
    -------
    rows:
        (W,2F), F = W//2+1: real rows to the real and the imaginary part of their half spectra.
    columns:
        (2H,2H): complex columns, real parts above imaginary ones, to their spectra.
    back:
        (2F,W): half spectra to real rows; inner frequencies count twice, for the half that is not stored.
    """
    frequencies = width // 2 + 1
    cosine, sine = _waves(width, frequencies)
    rows = torch.cat([cosine, -sine], 1)
    twice = torch.full((frequencies, 1), 2.0, dtype=torch.float64)
    twice[[0, width // 2] if width % 2 == 0 else [0]] = 1
    back = torch.cat([twice * cosine.t(), -twice * sine.t()])
    cosine, sine = _waves(height, height)
    columns = torch.cat([torch.cat([cosine, sine], 1), torch.cat([-sine, cosine], 1)])
    made = [matrix.to(device, dtype) for matrix in (rows, columns, back)]
    return made[0], made[1], made[2]


def _waves(size: int, frequencies: int) -> tuple[Tensor, Tensor]:
    """Cosines and sines (size, frequencies) over the square root of ``size``."""
    product = torch.outer(torch.arange(size), torch.arange(frequencies)) % size
    angle = product.double() * (2 * math.pi / size)
    return angle.cos() / math.sqrt(size), angle.sin() / math.sqrt(size)
