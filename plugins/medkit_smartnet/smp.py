"""Any decoder of segmentation-models-pytorch as a SEG head."""

from __future__ import annotations

from typing import Any, Literal

from torch import Tensor, nn

from medkit.api import Batch, Channels, InputError, MaskClasses, Strides
from medkit.parts.convblocks import fit, initialise_head
from medkit.parts.mask_losses import Form, MaskLoss, image_and_mask, probabilities

Architecture = Literal["unet", "unetplusplus", "manet", "linknet", "fpn", "pan", "pspnet", "deeplabv3plus"]


class SmpDecoder(nn.Module):
    """Segmentation by a decoder of segmentation-models-pytorch on the shared encoder; Dice loss.

    Shapes: pyramid to (N,1,H,W) logits, for masks with K classes (N,K+1,H,W), for overlapping ones (N,K,H,W);
    maps that a decoder leaves coarser, or that odd sizes leave a pixel off, are interpolated to the image.

    Parameters
    ----------
    architecture:
        The decoder.
    objective:
        ``dice`` or ``dice_bce``; null: ``dice``, or with classes Dice and cross-entropy.
    """

    def __init__(
        self,
        channels: Channels,
        strides: Strides,
        architecture: Architecture = "unet",
        objective: Form | None = None,
        classes: MaskClasses = None,
    ) -> None:
        super().__init__()
        self.decoder, width = _decoder(architecture, list(channels))
        self.smallest = 8 if architecture == "pan" else 1
        # DeepLabV3+ expects an encoder dilated to stride 16; ours goes to 32.
        self.enlarge = architecture == "deeplabv3plus"
        self.factor = strides[0]
        self.head = nn.Conv2d(width, 1 if classes is None else classes.outputs, 3, padding=1)
        initialise_head(self.head)
        self.classes, self.criterion = classes, MaskLoss(objective, classes)

    def view(self, batch: Batch) -> tuple[Tensor, Tensor]:
        return image_and_mask(batch)

    def forward(self, features: list[Tensor]) -> Tensor:
        shape = features[0].shape
        if min(features[-1].shape[-2:]) < self.smallest:
            raise InputError(f"pan needs a deepest map of 8x8 or more, not {tuple(features[-1].shape[-2:])}")
        size = (shape[2] * self.factor, shape[3] * self.factor)
        # Their decoders expect the image itself first, halved level by level: pad each map to twice the next.
        maps = _even(features)
        if self.enlarge:
            maps[-1] = fit(maps[-1], maps[-2].shape)
        image = maps[0].new_zeros(shape[0], 1, maps[0].shape[2] * 2, maps[0].shape[3] * 2)
        return fit(self.head(self.decoder([image, *maps])), size)

    def loss(self, output: Tensor, target: Tensor) -> dict[str, Tensor]:
        return self.criterion(fit(output, target.shape), target)

    def predict(self, output: Tensor) -> dict[str, Tensor]:
        return {"mask_probability": probabilities(output.float(), self.classes)}


def _even(features: list[Tensor]) -> list[Tensor]:
    """Feature maps resized so that each is exactly twice the next deeper one."""
    height, width = features[-1].shape[-2:]
    sizes = [(height * 2**i, width * 2**i) for i in range(len(features))]
    return [fit(f, size) for f, size in zip(features, reversed(sizes), strict=True)]


def _decoder(architecture: str, channels: list[int]) -> tuple[nn.Module, int]:
    """The decoder and the number of channels it outputs."""
    levels = len(channels)
    encoder = [1, *channels]
    widths = [256, 128, 64, 32, 16][-levels:] if levels <= 5 else [256] * (levels - 5) + [256, 128, 64, 32, 16]
    made: Any
    if architecture == "unet":
        from segmentation_models_pytorch.decoders.unet.decoder import UnetDecoder

        return UnetDecoder(encoder, widths, levels), widths[-1]
    if architecture == "unetplusplus":
        from segmentation_models_pytorch.decoders.unetplusplus.decoder import UnetPlusPlusDecoder

        return UnetPlusPlusDecoder(encoder, widths, levels), widths[-1]
    if architecture == "manet":
        from segmentation_models_pytorch.decoders.manet.decoder import MAnetDecoder

        return MAnetDecoder(encoder, widths, levels), widths[-1]
    if architecture == "linknet":
        from segmentation_models_pytorch.decoders.linknet.decoder import LinknetDecoder

        return LinknetDecoder(encoder, 32, levels), 32
    if architecture == "fpn":
        from segmentation_models_pytorch.decoders.fpn.decoder import FPNDecoder

        made = FPNDecoder(encoder, levels)
        return made, made.out_channels
    if architecture == "pspnet":
        from segmentation_models_pytorch.decoders.pspnet.decoder import PSPDecoder

        return PSPDecoder(encoder, out_channels=256), 256
    if levels not in (3, 4, 5):
        raise InputError(f"{architecture} needs an encoder of 3 to 5 levels, not {levels}")
    if architecture == "pan":
        from segmentation_models_pytorch.decoders.pan.decoder import PANDecoder

        return PANDecoder(encoder, levels, 32), 32  # type: ignore[arg-type]
    from segmentation_models_pytorch.decoders.deeplabv3.decoder import DeepLabV3PlusDecoder

    return DeepLabV3PlusDecoder(encoder, levels, 256, (6, 12, 18), 16, True, 0.5), 256  # type: ignore[arg-type]
