"""Several augmented views of each item, for pretexts that compare them: of the whole image, or of square crops."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from medkit.data.augment_chains import CPUChain, DeviceChain
from medkit.data.augment_crop import SquareCrop
from medkit.data.draws import ItemDraw
from medkit.protocols import Batch

VIEWS, CROPS = "views", "crops"
NAMES = (VIEWS, CROPS)
"""Their names in a batch, and in a recipe's data block."""


class Views:
    """``count`` views of an item's prepared image, each changed by random ``steps``; ``augment`` does not touch them.

    Within a view, all slices of a volume, or of a patch of one, are changed alike, but each patch separately. Random
    numbers are drawn after those for augmentation, so that the image is the same with and without views.

    Parameters
    ----------
    on:
        ``cpu``: made with each item; ``device``: from whole batches, on their device.
    """

    def __init__(self, count: int, steps: Sequence[object], on: str = "cpu", name: str = VIEWS) -> None:
        self.name, self.count = name, count
        self.steps = list(steps)
        self.chain = CPUChain(self.steps) if on == "cpu" else None
        self.on_device = DeviceChain(self.steps) if on == "device" else None

    def of_item(self, image: np.ndarray, draw: ItemDraw, rng: np.random.Generator) -> np.ndarray:
        """Views (n,count,h,w), or (n,count,C,h,w), of an image (n,H,W): a slice, patches or all slices of a volume. For
        patches of volumes (n,d,h,w), or (n,d,C,h,w), the depth comes after the views."""
        assert self.chain is not None
        found = [draw.augmented({"image": image}, self.chain, rng)["image"] for _ in range(self.count)]
        return np.stack(found, 1)

    def of_batch(self, batch: Batch) -> Tensor:
        """Views (N,count,C,h,w) of a batch's images (N,C,H,W), or of patches of volumes, by torch's generator."""
        assert self.on_device is not None
        given: Batch = {key: batch[key] for key in ("image", "lengths") if key in batch}
        return torch.stack([self.on_device(given)["image"] for _ in range(self.count)], 1)


def crops(count: int, size: int, scale: tuple[float, float], steps: Sequence[object], on: str = "cpu") -> Views:
    """Square crops with a fraction ``scale`` (smallest, largest) of the image's area, resized to ``size`` pixels per
    side."""
    return Views(count, [SquareCrop(scale, size), *steps], on, CROPS)
