"""Random crops of an image, resized without changing its aspect ratio, so that square pixels stay square.

A crop that is shrunk is averaged over areas, which avoids aliasing; one that is enlarged is interpolated linearly,
masks by nearest neighbour. The forms for CPU and device compute the same.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Any, NamedTuple

from annotated_types import Gt, Le
from torch import nn

from medkit.data.augment import Probability

Area = Annotated[float, Gt(0), Le(1)]


class Cut(NamedTuple):
    """A part of an image in whole pixels."""

    top: int
    left: int
    height: int
    width: int


def cut_of(shape: tuple[int, int], result: tuple[int, int], area: float, place: tuple[float, float]) -> Cut:
    """The part of an image (H,W) that has a fraction ``area`` of it and the aspect ratio of ``result`` (h,w).

    If that does not fit into the image, the part is the largest that does. ``place``, in [0,1), is its position between
    the image's edges, down and across.
    """
    height = math.sqrt(area * shape[0] * shape[1] * result[0] / result[1])
    width = height * result[1] / result[0]
    fitting = min(1.0, shape[0] / height, shape[1] / width)
    rows, columns = (max(1, round(side * fitting)) for side in (height, width))
    return Cut(int(place[0] * (shape[0] - rows + 1)), int(place[1] * (shape[1] - columns + 1)), rows, columns)


@dataclass(frozen=True)
class RandomResizedCrop:
    """Cut out a part of the image with the same aspect ratio, and enlarge it to the image's size.

    Parameters
    ----------
    scale:
        Smallest and largest fraction of the image's area, drawn uniformly; SimCLR and similar methods use 0.08 to 0.2
        and 1.
    p:
        Probability.
    """

    scale: tuple[Area, Area] = (0.2, 1.0)
    p: Probability = 1.0

    def __post_init__(self) -> None:
        if self.scale[0] > self.scale[1]:
            raise ValueError(f"the smallest fraction {self.scale[0]} is above the largest {self.scale[1]}")

    def cpu(self) -> Any:
        from medkit.data.augment_cpu import Crop

        return Crop(self.scale, p=self.p)

    def device(self) -> nn.Module:
        from medkit.data.augment_device import Crop

        return Crop(self.scale, p=self.p)


@dataclass(frozen=True)
class SquareCrop:
    """A square crop of the image, resized to ``size`` pixels per side."""

    scale: tuple[Area, Area]
    size: int

    def cpu(self) -> Any:
        from medkit.data.augment_cpu import Crop

        return Crop(self.scale, self.size)

    def device(self) -> nn.Module:
        from medkit.data.augment_device import Crop

        return Crop(self.scale, self.size)
