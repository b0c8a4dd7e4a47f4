"""The generator of MTD-GAN: a residual encoder-decoder with an FFT-Conv block at every layer."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field
from torch import Tensor, nn

from medkit.parts.encoder_decoder import ConvGenerator, initialise
from medkit_mtdgan.fft_conv import FFTConv


class FFTGenerator(ConvGenerator):
    """The generator of MTD-GAN: the encoder-decoder with an FFT-Conv block at every layer (467,137 parameters).

    Shapes: (N,1,H,W) in [0,1] to (N,1,H,W), at least 0, any H and W. Source: thesis part C, Fig. 15; published
    ``ResFFT_Generator``. Orthonormal spectra grow with the image: a network trained on 64x64 patches sees an
    8 times larger zero frequency at 512x512, so try tiled prediction as well.

    Parameters
    ----------
    width:
        Channels of every layer.
    layers:
        Convolutions after the first; the thesis says 10, the published code has 11 in all.
    kernel:
        Odd kernel size.
    init:
        ``normal``: N(0, 0.01) for convolutions, torch's default for transposed ones (published code); ``xavier``:
        uniform, as in the thesis's text.
    form:
        How FFT-Conv blocks are computed: ``composed``, ``lean``, ``dft`` or, with CUDA, ``triton``, which all give the
        same numbers; ``auto`` chooses by device and size.
    """

    def __init__(
        self,
        width: Annotated[int, Field(gt=0)] = 32,
        layers: Annotated[int, Field(gt=0)] = 10,
        kernel: Annotated[int, Field(gt=0)] = 3,
        init: Literal["normal", "xavier"] = "normal",
        form: Literal["auto", "composed", "lean", "dft", "triton"] = "auto",
    ) -> None:
        nn.Module.__init__(self)
        self._assemble(width, layers, kernel)
        self.enforce = nn.ModuleList(FFTConv(width, form) for _ in range(2 * layers + 1))
        initialise(self, init, (nn.Conv2d,) if init == "normal" else (nn.Conv2d, nn.ConvTranspose2d))

    def _enrich(self, index: int, features: Tensor) -> Tensor:
        return self.enforce[index](features)
