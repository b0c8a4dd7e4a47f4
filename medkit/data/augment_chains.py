"""Chains of augmentations: for one item on the CPU, or for a whole batch on its device."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from medkit.data.augment import Symmetry
from medkit.errors import InputError
from medkit.protocols import Batch


def _forms(steps: Sequence[Any], where: str) -> list[Any]:
    """The form of each step for ``cpu`` or ``device``; raises :class:`InputError` for a step without one."""
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

    Items of slice batches get different parameters; all slices of a volume, or of a patch of one, get the same.
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
        # As channels of one item, the slices of a volume share its parameters by construction.
        depth, channels = images.shape[:2]
        flat = images.reshape(1, depth * channels, *images.shape[2:])
        flat, moved = self._items(flat, None if mask is None else mask.transpose(0, 1))
        return flat.reshape(depth, channels, *flat.shape[2:]), None if moved is None else moved.transpose(0, 1)

    def _items(self, images: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor | None]:
        import kornia.augmentation as K

        from medkit.data.augment_device import Crop

        for module in self.modules:
            if isinstance(module, Symmetry | Crop):
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
