"""The SEG head: a U-Net decoder with SCSE attention."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field
from torch import Tensor, nn

from medkit.api import Batch, Channels, MaskClasses, Strides
from medkit.parts.convblocks import fit, initialise_head
from medkit.parts.decoders import UNetDecoder, UpBlock
from medkit.parts.mask_losses import Form, MaskLoss, image_and_mask, probabilities

__all__ = ["ScseUNet", "UpBlock"]

Attention = Literal["all", "last", "none"]
Width = Annotated[int, Field(gt=0)]


class ScseUNet(nn.Module):
    """Segmentation (SEG): a U-Net decoder with SCSE at both ends of every block; Dice loss.

    Shapes: pyramid to (N,1,H,W) logits; for masks with K classes (N,K+1,H,W), for overlapping ones (N,K,H,W).
    10,308,044 parameters on ResNet-50, 145 of them in the last layer. Source: thesis part B, 2.2.1, Fig. 10; the
    published code's default has SCSE in the last block only (``attention: last``).

    Parameters
    ----------
    widths:
        Channels after each block; the last is the block at full resolution.
    attention:
        Blocks that have SCSE.
    objective:
        ``dice`` (thesis) or ``dice_bce`` (published code); null: ``dice``, or with classes Dice and cross-entropy.
    """

    def __init__(
        self,
        channels: Channels,
        strides: Strides,
        widths: tuple[Width, ...] = (256, 128, 64, 32, 16),
        attention: Attention = "all",
        objective: Form | None = None,
        classes: MaskClasses = None,
    ) -> None:
        super().__init__()
        self.decoder = UNetDecoder(channels, strides, tuple(widths), attention)
        self.head = nn.Conv2d(self.decoder.width, 1 if classes is None else classes.outputs, 3, padding=1)
        initialise_head(self.head)
        self.classes, self.criterion = classes, MaskLoss(objective, classes)

    def view(self, batch: Batch) -> tuple[Tensor, Tensor]:
        return image_and_mask(batch)

    def forward(self, features: list[Tensor]) -> Tensor:
        return self.head(self.decoder(features))

    def loss(self, output: Tensor, target: Tensor) -> dict[str, Tensor]:
        return self.criterion(fit(output, target.shape), target)

    def predict(self, output: Tensor) -> dict[str, Tensor]:
        return {"mask_probability": probabilities(output.float(), self.classes)}
