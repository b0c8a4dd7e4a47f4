"""A residual encoder-decoder with a skip on every layer, on which several denoising methods are built."""

from __future__ import annotations

from typing import Annotated, Literal

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn


class ConvGenerator(nn.Module):
    """A residual encoder-decoder: DU-GAN's generator, and MTD-GAN's without FFT-Conv blocks (185,569 parameters).

    Shapes: (N,1,H,W) in [0,1] to (N,1,H,W), at least 0, any H and W. ``layers + 1`` convolutions and as many
    transposed ones, each decoder layer added to the encoder layer at its level, the last to the input. A subclass
    may enrich the maps between layers.

    Parameters
    ----------
    width:
        Channels of every layer.
    layers:
        Convolutions after the first.
    kernel:
        Odd kernel size.
    init:
        ``normal``: N(0, 0.01) for convolutions and transposed ones; ``xavier``: uniform, as in the thesis' text.
    """

    def __init__(
        self,
        width: Annotated[int, Field(gt=0)] = 32,
        layers: Annotated[int, Field(gt=0)] = 10,
        kernel: Annotated[int, Field(gt=0)] = 3,
        init: Literal["normal", "xavier"] = "normal",
    ) -> None:
        super().__init__()
        self._assemble(width, layers, kernel)
        initialise(self, init, (nn.Conv2d, nn.ConvTranspose2d))

    def _assemble(self, width: int, layers: int, kernel: int) -> None:
        if kernel % 2 == 0:
            raise ValueError(f"the kernel size must be odd, not {kernel}")
        padding = kernel // 2
        self.encoder = nn.ModuleList(
            nn.Conv2d(width if i else 1, width, kernel, padding=padding) for i in range(layers + 1)
        )
        # decoder[0] is the last layer applied, as in the published state dictionary.
        self.decoder = nn.ModuleList(
            nn.ConvTranspose2d(width, width if i else 1, kernel, padding=padding) for i in range(layers + 1)
        )

    def _enrich(self, index: int, features: Tensor) -> Tensor:
        return features

    def forward(self, x: Tensor) -> Tensor:
        skips = [x]
        h = x
        for i, conv in enumerate(self.encoder):
            h = self._enrich(i, F.relu(conv(h)))
            skips.append(h)
        skips.pop()
        depth = len(self.decoder)
        for k in range(depth):
            # Block `depth - 1` is the bottleneck and already precedes the first transposed convolution.
            h = h if k == 0 else self._enrich(depth - 1 + k, h)
            h = F.relu(self.decoder[depth - 1 - k](h) + skips.pop())
        return h


def initialise(module: nn.Module, init: str, kinds: tuple[type[nn.Conv2d | nn.ConvTranspose2d], ...]) -> None:
    """Draw the weights of layers of ``kinds``: ``normal`` N(0, 0.01), or ``xavier`` uniform; biases become 0."""
    for layer in module.modules():
        if isinstance(layer, kinds):
            if init == "normal":
                nn.init.normal_(layer.weight, 0.0, 0.01)
            else:
                nn.init.xavier_uniform_(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
