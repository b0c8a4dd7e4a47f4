"""The FFT-Conv block: identity, a spatial convolution and a pointwise convolution of the spectrum, summed.

Several forms compute the same numbers; only :func:`choose` decides which one is used.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medkit.api import InputError
from medkit_mtdgan.fft_conv_lean import LeanFFTConv, infer, inverse

Form = Literal["auto", "composed", "lean", "dft", "triton"]
SMALL = 32 * 32  # pixels below which a CPU computes the plain composition faster


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
    form:
        How it is computed: ``composed`` follows the definition, by autograd; ``lean`` uses little memory; ``dft`` uses
        matrix products instead of Fourier transforms; ``triton`` has the spectral stage in one CUDA kernel, in single
        precision; ``auto`` chooses by device and size.
    """

    def __init__(self, channels: int, form: Form = "auto") -> None:
        super().__init__()
        if form == "triton":
            _refuse_without_triton()
        self.form = form
        self.img_conv = nn.Conv2d(channels, channels, 3, padding=1)
        self.fft_conv = nn.Conv2d(2 * channels, 2 * channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        # Half precision has no FFT of arbitrary size, and spectra span more than bfloat16 resolves.
        with torch.autocast(x.device.type, enabled=False):
            x = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
            # Exporters know Fourier transforms, but neither our kernels nor spectra written in place.
            exported = "composed" if torch.compiler.is_exporting() else self.form
            form = choose(x) if exported == "auto" else exported
            if form == "composed":
                return composed(self, x)
            parameters = (self.img_conv.weight, self.img_conv.bias, self.fft_conv.weight, self.fft_conv.bias)
            if form == "dft":
                from medkit_mtdgan.fft_conv_dft import by_matrices

                return by_matrices(x, *parameters)
            training = torch.is_grad_enabled() and (x.requires_grad or any(p.requires_grad for p in parameters))
            if form == "triton":
                from medkit_mtdgan.fft_conv_triton import fused

                return fused(x, *parameters, training=training)
            return LeanFFTConv.apply(x, *parameters) if training else infer(x, *parameters)


def choose(x: Tensor) -> Form:
    """The form for an input (N,C,H,W).

    On a CPU, the lean form saves memory at every size but costs time below about 32x32 pixels, where there is little
    memory to save. On a GPU it is the form known to be correct; matrix products and the Triton kernel have not been
    measured there and are used only if named.
    """
    small = x.shape[-2] * x.shape[-1] < SMALL
    return "composed" if small and x.device.type == "cpu" else "lean"


def composed(block: FFTConv, x: Tensor) -> Tensor:
    """The block by its definition, with autograd: the reference for tests and timings of all forms."""
    height, width = x.shape[-2:]
    spectrum = torch.fft.rfft2(x, norm="ortho")
    mixed = F.relu(block.fft_conv(torch.cat([spectrum.real, spectrum.imag], dim=1)))
    real, imaginary = mixed.chunk(2, dim=1)
    return x + F.relu(block.img_conv(x)) + inverse(torch.complex(real, imaginary), height, width)


def _refuse_without_triton() -> None:
    import importlib.util

    if not torch.cuda.is_available():
        raise InputError("the Triton form needs a CUDA device and none was found", "form", "auto picks another form")
    if importlib.util.find_spec("triton") is None:
        raise InputError("the Triton form needs the package triton", "form", "pip install triton, or form: auto")


__all__ = ["FFTConv", "Form", "choose", "composed", "inverse"]
