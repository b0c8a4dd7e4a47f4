"""Augmentations: one class each, run by albumentations on the CPU or by kornia on the training device.

All slices of a volume get the same parameters, masks follow geometry by nearest neighbour, and a paired ``target``
gets the same changes as its image, except for noise, which is drawn for each of the two. Images are float32 in [0,1].
Defaults are those of the published SMART-Net code if it has them.
"""

from __future__ import annotations

import math
import os
import warnings
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import torch
from annotated_types import Ge, Le, Lt
from torch import Tensor, nn

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")

BINOMIAL_SIGMA = 1 / math.sqrt(2 * math.log(2))  # of the Gaussian that is half as high one pixel off: 1 2 1
Probability = Annotated[float, Ge(0), Le(1)]
Share = Annotated[float, Ge(0), Le(1)]


@dataclass(frozen=True)
class ShiftScaleRotate:
    """Shift, scale (isotropically) and rotate at once; images are interpolated linearly.

    Parameters
    ----------
    shift:
        Largest shift, as a fraction of the side.
    scale:
        Largest relative change of size.
    rotate:
        Largest rotation in degrees.
    p:
        Probability.
    border:
        What fills the outside: the image mirrored at its edge (``reflect``), or 0 (``zero``).
    """

    shift: Share = 0.0625
    scale: Annotated[float, Ge(0), Lt(1)] = 0.1
    rotate: Annotated[float, Ge(0), Le(180)] = 15.0
    p: Probability = 0.5
    border: Literal["reflect", "zero"] = "reflect"

    def cpu(self) -> Any:
        import cv2

        from medkit.data.augment_cpu import WholeAffine

        return WholeAffine(
            translate_percent=(-self.shift, self.shift),
            scale=(1 - self.scale, 1 + self.scale),
            rotate=(-self.rotate, self.rotate),
            keep_ratio=True,
            interpolation=cv2.INTER_LINEAR,
            mask_interpolation=cv2.INTER_NEAREST,
            border_mode=cv2.BORDER_REFLECT_101 if self.border == "reflect" else cv2.BORDER_CONSTANT,
            p=self.p,
        )

    def device(self) -> nn.Module:
        import kornia.augmentation as K

        limits = (1 - self.scale, 1 + self.scale)
        padding = "reflection" if self.border == "reflect" else "zeros"
        # Aligned corners: edges are mirrored about the centre of the outermost pixels, as on the CPU.
        return K.RandomAffine(
            self.rotate, (self.shift, self.shift), limits, p=self.p, padding_mode=padding, align_corners=True
        )


@dataclass(frozen=True)
class HorizontalFlip:
    """Flip left and right.

    Parameters
    ----------
    p:
        Probability.
    """

    p: Probability = 0.5

    def cpu(self) -> Any:
        import albumentations as A

        return A.HorizontalFlip(p=self.p)

    def device(self) -> nn.Module:
        import kornia.augmentation as K

        return K.RandomHorizontalFlip(p=self.p)


@dataclass(frozen=True)
class ShiftIntensity:
    """Add one offset to all values (MONAI's RandShiftIntensity).

    Parameters
    ----------
    limit:
        Largest offset, for images in [0,1].
    p:
        Probability.
    """

    unit_range: ClassVar[bool] = True
    limit: Share = 0.1
    p: Probability = 0.5

    def cpu(self) -> Any:
        import albumentations as A

        return A.RandomBrightnessContrast((-self.limit, self.limit), (0, 0), p=self.p)

    def device(self) -> nn.Module:
        import kornia.augmentation as K

        return K.RandomBrightness((1 - self.limit, 1 + self.limit), p=self.p)


@dataclass(frozen=True)
class Brightness(ShiftIntensity):
    """Change brightness by an offset relative to the largest possible value (albumentations' convention)."""


@dataclass(frozen=True)
class Contrast:
    """Multiply all values by one factor.

    Parameters
    ----------
    limit:
        Largest relative change.
    p:
        Probability.
    """

    unit_range: ClassVar[bool] = True
    limit: Share = 0.1
    p: Probability = 0.5

    def cpu(self) -> Any:
        import albumentations as A

        return A.RandomBrightnessContrast((0, 0), (-self.limit, self.limit), p=self.p)

    def device(self) -> nn.Module:
        import kornia.augmentation as K

        return K.RandomContrast((1 - self.limit, 1 + self.limit), p=self.p)


@dataclass(frozen=True)
class Gamma:
    """Raise all values to one power.

    Parameters
    ----------
    limit:
        Largest relative change of the power from 1.
    p:
        Probability.
    """

    unit_range: ClassVar[bool] = True
    limit: Annotated[float, Ge(0), Lt(1)] = 0.1
    p: Probability = 0.5

    def cpu(self) -> Any:
        import albumentations as A

        return A.RandomGamma((100 * (1 - self.limit), 100 * (1 + self.limit)), p=self.p)

    def device(self) -> nn.Module:
        import kornia.augmentation as K

        return K.RandomGamma((1 - self.limit, 1 + self.limit), p=self.p)


@dataclass(frozen=True)
class Sharpen:
    """Sharpen by a 3x3 kernel that keeps the mean; the sharpened image is mixed with the original.

    Parameters
    ----------
    low:
        Smallest fraction of the sharpened image.
    high:
        Largest fraction.
    p:
        Probability.
    """

    unit_range: ClassVar[bool] = True
    ends: ClassVar[tuple[str, str, str]] = ("low", "<=", "high")
    low: Share = 0.1
    high: Share = 0.3
    p: Probability = 0.5

    def __post_init__(self) -> None:
        if self.low > self.high:
            raise ValueError(f"the smallest fraction {self.low} is above the largest {self.high}")

    def cpu(self) -> Any:
        import albumentations as A

        return A.Sharpen(alpha=(self.low, self.high), lightness=(1.0, 1.0), p=self.p)

    def device(self) -> nn.Module:
        from medkit.data.augment_device import Sharpen as Module

        return Module(self.low, self.high, self.p)


@dataclass(frozen=True)
class GaussNoise:
    """Add Gaussian noise of one standard deviation, drawn anew for every slice.

    Parameters
    ----------
    low:
        Smallest standard deviation.
    high:
        Largest standard deviation; the published variances 0.001 to 0.005 are 0.032 to 0.071.
    p:
        Probability.
    """

    unit_range: ClassVar[bool] = True
    ends: ClassVar[tuple[str, str, str]] = ("low", "<=", "high")
    low: Share = 0.032
    high: Share = 0.071
    p: Probability = 0.5

    def __post_init__(self) -> None:
        if self.low > self.high:
            raise ValueError(f"the smallest standard deviation {self.low} is above the largest {self.high}")

    def cpu(self) -> Any:
        from medkit.data.augment_cpu import Noise

        return Noise(self.low, self.high, self.p)

    def device(self) -> nn.Module:
        from medkit.data.augment_device import Noise

        return Noise(self.low, self.high, self.p)


@dataclass(frozen=True)
class Blur:
    """Blur with a 3x3 Gaussian (1 2 1, as published), median or motion kernel, equally likely.

    Parameters
    ----------
    p:
        Probability.
    """

    p: Probability = 0.5

    def cpu(self) -> Any:
        import albumentations as A

        binomial = A.GaussianBlur((3, 3), (BINOMIAL_SIGMA, BINOMIAL_SIGMA), p=1)
        return A.OneOf([binomial, A.MedianBlur((3, 3), p=1), A.MotionBlur((3, 3), p=1)], p=self.p)

    def device(self) -> nn.Module:
        from medkit.data.augment_device import Blur as Module

        return Module(self.p)


@dataclass(frozen=True)
class Dihedral:
    """One of the square's eight symmetries, equally likely; without interpolation (square images)."""

    def cpu(self) -> Any:
        import albumentations as A

        return A.D4(p=1)

    def device(self) -> nn.Module:
        return Symmetry()


class Symmetry(nn.Module):
    """A random symmetry of the square for each item of (N,C,H,H)."""

    def forward(self, *tensors: Tensor) -> list[Tensor]:
        choice = torch.randint(8, (len(tensors[0]),)).tolist()
        return [torch.stack([symmetry(item, k) for item, k in zip(t, choice, strict=True)]) for t in tensors]


def symmetry(item: Tensor, k: int) -> Tensor:
    """The k-th of eight symmetries of (...,H,H)."""
    turned = torch.rot90(item, k % 4, (-2, -1))
    return turned.flip(-1) if k >= 4 else turned


def __getattr__(name: str) -> Any:
    """The chains, under the name of the module in which medkit 0.1 had them, until 0.3."""
    if name not in ("CPUChain", "DeviceChain"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from medkit.data import augment_chains

    warnings.warn(f"{__name__}.{name} is now {augment_chains.__name__}.{name}", DeprecationWarning, stacklevel=2)
    return getattr(augment_chains, name)
