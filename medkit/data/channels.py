"""Preparation that makes several channels of an image: windows of one slice, and slices beside it.

Images of one channel are (D,H,W), of several (D,C,H,W). A step that says how many it makes (``channels``) gets and
gives arrays of either form; every other step is given one channel after the other, by
:func:`medkit.data.transforms.prepare`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from annotated_types import Gt

from medkit.data.transforms import IMAGES, Arrays, Step, Window
from medkit.data.volume import Units
from medkit.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Windows(Step):
    """Several HU windows of one image as its channels, each mapped linearly to [0,1] and clipped.

    Parameters
    ----------
    windows:
        The lowest and the highest value of each, such as ``[[0, 80], [-20, 180], [-800, 2000]]`` (brain, subdural,
        bone): one channel each, in this order.
    units:
        As that of ``window``.
    """

    windows: tuple[tuple[float, float], ...]
    units: Units = "HU"

    def __post_init__(self) -> None:
        if not self.windows:
            raise ValueError("no window is given")
        for low, high in self.windows:
            Window(low, high)

    @property
    def needs_hu(self) -> str | None:
        """What of this step needs CT in HU, in words, or None."""
        said = ", ".join(f"{low:g} to {high:g}" for low, high in self.windows)
        return f"the windows from {said} HU" if self.units == "HU" else None

    def channels(self, count: int) -> int:
        """How many channels it makes of ``count``."""
        if count != 1:
            what = f"'windows' makes channels of an image that has one, and this one has {count}"
            raise InputError(what, hint="write it before other steps that make channels; 'window' takes any number")
        return len(self.windows)

    def shown(self, count: int) -> int:
        """Which of ``count`` channels people are shown: the first window."""
        return 0

    def apply(self, arrays: Arrays) -> Arrays:
        for name in IMAGES:
            if name in arrays:
                arrays[name] = np.stack([Window(*ends).scaled(arrays[name]) for ends in self.windows], 1)
        return arrays

    def graph(self, images: Tensor) -> Tensor:
        from torch import cat

        return cat([Window(*ends).graph(images) for ends in self.windows], 1)


@dataclass(frozen=True)
class Neighbours(Step):
    """The slices beside each slice as further channels, from below to above (2.5-D).

    Of C channels it makes (2 * count + 1) * C: those of the lowest slice first. It takes slices as they lie in the
    volume, whatever the distance between them in mm, and images as they are prepared by then, so it belongs last: a
    slice is resized once, not once for each that it is beside.

    Parameters
    ----------
    count:
        Slices on either side.
    edges:
        What stands beside the first and the last slice: that slice again (``repeat``), or nothing but 0 (``zero``).
    """

    count: Annotated[int, Gt(0)] = 1
    edges: Literal["repeat", "zero"] = "repeat"

    def channels(self, count: int) -> int:
        """How many channels it makes of ``count``."""
        return (2 * self.count + 1) * count

    def shown(self, count: int) -> int:
        """Which of ``count`` channels people are shown: one of the slice itself."""
        return count // 2

    def apply(self, arrays: Arrays) -> Arrays:
        for name in IMAGES:
            if name in arrays:
                arrays[name] = self.stacked(arrays[name])
        return arrays

    def stacked(self, image: np.ndarray) -> np.ndarray:
        """(D,H,W) or (D,C,H,W) to (D,(2 * count + 1) * C,H,W)."""
        slices = image if image.ndim == 4 else image[:, None]
        depth = len(slices)
        found = []
        for offset in range(-self.count, self.count + 1):
            at = np.arange(depth) + offset
            taken = slices[np.clip(at, 0, depth - 1)]
            if self.edges == "zero":
                taken[(at < 0) | (at >= depth)] = 0
            found.append(taken)
        return np.concatenate(found, 1)


def channels_after(steps: Sequence[Any], count: int = 1) -> int:
    """How many channels images of ``count`` have once they are prepared."""
    for step in steps:
        if hasattr(step, "channels"):
            count = int(step.channels(count))
    return count


def one_shown(image: np.ndarray, steps: Sequence[Any]) -> np.ndarray:
    """(D,H,W) of an image (D,H,W) or (D,C,H,W) that people are shown: of several, the channel that ``steps`` choose."""
    if image.ndim == 3:
        return np.asarray(image)
    if image.shape[1] == 1:
        return np.asarray(image[:, 0])
    choose = next((step.shown for step in reversed(steps) if hasattr(step, "shown")), None)
    return np.asarray(image[:, 0 if choose is None else choose(image.shape[1])])
