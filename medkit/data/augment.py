"""Random changes for training: one class each, run by albumentations on the CPU or by kornia on the training device.

All slices of a volume get the same parameters, masks follow geometry by nearest neighbour, and a paired ``target``
gets what its image gets, only noise is drawn for each of the two. Images are float32 in [0,1]. Defaults are those of
the published SMART-Net code where it has them.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import torch
from annotated_types import Ge, Le, Lt
from torch import Tensor, nn

from medkit.errors import InputError
from medkit.protocols import Batch

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")

BINOMIAL_SIGMA = 1 / math.sqrt(2 * math.log(2))  # the Gaussian that halves one pixel off: 1 2 1
Probability = Annotated[float, Ge(0), Le(1)]
Share = Annotated[float, Ge(0), Le(1)]


@dataclass(frozen=True)
class ShiftScaleRotate:
    """Shift, scale and rotate at once, both sides by one scale; images are interpolated linearly.

    Parameters
    ----------
    shift:
        Largest shift as a share of the side.
    scale:
        Largest relative change of size.
    rotate:
        Largest rotation in degrees.
    p:
        Probability.
    border:
        What comes in from outside: the image mirrored at its edge (``reflect``), or 0 (``zero``).
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
        # Aligned corners: edges are mirrored about the middle of the outermost pixels, as on the CPU.
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
        Largest offset, images lying in [0,1].
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
    """Sharpen by a 3x3 kernel that keeps the mean; the sharpened image is mixed with the image.

    Parameters
    ----------
    low:
        Smallest share of the sharpened image.
    high:
        Largest share.
    p:
        Probability.
    """

    unit_range: ClassVar[bool] = True
    low: Share = 0.1
    high: Share = 0.3
    p: Probability = 0.5

    def __post_init__(self) -> None:
        if self.low > self.high:
            raise ValueError(f"the smallest share {self.low} is above the largest {self.high}")

    def cpu(self) -> Any:
        import albumentations as A

        return A.Sharpen(alpha=(self.low, self.high), lightness=(1.0, 1.0), p=self.p)

    def device(self) -> nn.Module:
        from medkit.data.augment_device import Sharpen as Module

        return Module(self.low, self.high, self.p)


@dataclass(frozen=True)
class GaussNoise:
    """Add Gaussian noise of one standard deviation, other noise on every slice.

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
    """Blur by a 3x3 Gaussian (1 2 1, as published), median or motion kernel, drawn evenly.

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
    """One of the square's eight symmetries, drawn evenly; no interpolation (square images)."""

    def cpu(self) -> Any:
        import albumentations as A

        return A.D4(p=1)

    def device(self) -> nn.Module:
        return _Symmetry()


class _Symmetry(nn.Module):
    """A random symmetry of the square for each item of (N,C,H,H)."""

    def forward(self, *tensors: Tensor) -> list[Tensor]:
        choice = torch.randint(8, (len(tensors[0]),)).tolist()
        return [torch.stack([symmetry(item, k) for item, k in zip(t, choice, strict=True)]) for t in tensors]


def symmetry(item: Tensor, k: int) -> Tensor:
    """The k-th of eight symmetries of (...,H,H)."""
    turned = torch.rot90(item, k % 4, (-2, -1))
    return turned.flip(-1) if k >= 4 else turned


def _forms(steps: Sequence[Any], where: str) -> list[Any]:
    """The form of each step for ``cpu`` or ``device``; a step without one is an :class:`InputError`."""
    forms = []
    for step in steps:
        try:
            forms.append(getattr(step, where)())
        except (AttributeError, NotImplementedError) as error:
            what = f"augmentation '{type(step).__name__}' has no form for 'augment_on: {where}' ({error})"
            raise InputError(what, hint=f"write 'augment_on: {'cpu' if where == 'device' else 'device'}'") from error
    return forms


class CPUChain:
    """Augmentations of one item on the CPU: ``chain(arrays, rng)`` on (D,H,W) arrays, images also (D,C,H,W)."""

    def __init__(self, steps: Sequence[Any]) -> None:
        import albumentations as A

        self.compose = A.Compose(_forms(steps, "cpu"))

    def __call__(self, arrays: dict[str, np.ndarray], rng: np.random.Generator) -> dict[str, np.ndarray]:
        self.compose.set_random_seed(int(rng.integers(2**31)))
        names = [name for name in ("image", "target") if name in arrays]
        several = arrays["image"].ndim == 4
        if several:
            images = np.moveaxis(np.concatenate([arrays[name] for name in names], 1), 1, -1)
        else:
            images = np.stack([arrays[name] for name in names], -1)
        given: dict[str, Any] = {"images": images}
        if "mask" in arrays:
            given["masks"] = arrays["mask"]
        result = self.compose(**given)
        found = np.asarray(result["images"])
        out: dict[str, np.ndarray]
        if several:
            parts = np.split(np.moveaxis(found, -1, 1), len(names), 1)
            out = {n: np.ascontiguousarray(part) for n, part in zip(names, parts, strict=True)}
        else:
            out = {n: np.ascontiguousarray(found[..., i]) for i, n in enumerate(names)}
        if "mask" in arrays:
            out["mask"] = np.ascontiguousarray(result["masks"])
        return out


class DeviceChain:
    """Augmentations of a whole batch on its device, drawn from torch's generator.

    Items of slice batches differ; the slices of each volume of a volume batch, or of a patch of a volume, get the same
    parameters.
    """

    def __init__(self, steps: Sequence[Any]) -> None:
        self.modules = _forms(steps, "device")

    def __call__(self, batch: Batch) -> Batch:
        if batch["image"].dim() == 5:
            return self._patches(batch)
        names = [name for name in ("image", "target") if name in batch]
        stacked = torch.cat([batch[name] for name in names], 1)
        mask = batch.get("mask")
        if "lengths" in batch:
            lengths = batch["lengths"].tolist()
            masks = mask.split(lengths) if mask is not None else [None] * len(lengths)
            pairs = [self._volume(v, m) for v, m in zip(stacked.split(lengths), masks, strict=True)]
            stacked = torch.cat([v for v, _ in pairs])
            mask = torch.cat([m for _, m in pairs if m is not None]) if mask is not None else None
        else:
            stacked, mask = self._items(stacked, mask)
        out = dict(batch)
        for name, image in zip(names, stacked.chunk(len(names), 1), strict=True):
            out[name] = image.contiguous()
        if mask is not None:
            out["mask"] = mask
        return out

    def _patches(self, batch: Batch) -> Batch:
        """Patches (N,C,d,h,w) as N volumes of d slices."""
        names = [name for name in ("image", "target", "mask") if name in batch]
        count, depth = len(batch["image"]), batch["image"].shape[2]
        slices: Batch = {name: batch[name].transpose(1, 2).flatten(0, 1) for name in names}
        changed, out = self(slices | {"lengths": torch.full((count,), depth)}), dict(batch)
        for name in names:
            out[name] = changed[name].unflatten(0, (count, depth)).transpose(1, 2).contiguous()
        return out

    def _volume(self, images: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor | None]:
        # The slices of a volume as channels of one item share its parameters by construction.
        depth, channels = images.shape[:2]
        flat = images.reshape(1, depth * channels, *images.shape[2:])
        flat, moved = self._items(flat, None if mask is None else mask.transpose(0, 1))
        return flat.reshape(depth, channels, *flat.shape[2:]), None if moved is None else moved.transpose(0, 1)

    def _items(self, images: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor | None]:
        import kornia.augmentation as K

        from medkit.data.augment_device import Crop

        for module in self.modules:
            if isinstance(module, _Symmetry | Crop):
                moved = module(images, *([] if mask is None else [mask]))
                images, mask = moved[0], moved[1] if mask is not None else None
                continue
            if mask is None:
                images = module(images)
            else:
                both = K.AugmentationSequential(module, data_keys=["input", "mask"], extra_args={})
                images, mask = both(images, mask)
            if isinstance(module, K.IntensityAugmentationBase2D):
                images = images.clamp(0, 1)  # after each step, as albumentations does
        return images, mask
