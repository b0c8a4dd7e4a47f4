"""Preparation that makes several channels of an image: windows of a slice, and its neighbouring slices.

Images of one channel are (D,H,W), of several (D,C,H,W). A step with a method ``channels``, which says how many it
makes, takes arrays of either form; :func:`medkit.data.transforms.prepare` gives any other step one channel after the
other.
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
        Lowest and highest value of each, such as ``[[0, 80], [-20, 180], [-800, 2000]]`` (brain, subdural, bone): one
        channel each, in this order.
    units:
        As for ``window``.
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
        """What in this step needs CT in HU, in words, or None."""
        said = ", ".join(f"{low:g} to {high:g}" for low, high in self.windows)
        return f"the windows from {said} HU" if self.units == "HU" else None

    def channels(self, count: int) -> int:
        """How many channels ``count`` become."""
        if count != 1:
            what = f"'windows' needs an image of one channel, but this one has {count}"
            raise InputError(what, hint="put it before other steps that make channels; 'window' takes any number")
        return len(self.windows)

    def shown(self, count: int) -> int:
        """Which of ``count`` channels to display: the first window."""
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
    """The neighbours of each slice as further channels, from below to above (2.5-D).

    C channels become (2 * count + 1) * C, those of the lowest slice first. Neighbours are by slice number, whatever
    their distance in mm, and as prepared so far, so this step belongs last: then each slice is resized only once, not
    once for each of its neighbours.

    Parameters
    ----------
    count:
        Slices on either side.
    edges:
        What the first and the last slice have for missing neighbours: themselves (``repeat``) or 0 (``zero``).
    """

    count: Annotated[int, Gt(0)] = 1
    edges: Literal["repeat", "zero"] = "repeat"

    def channels(self, count: int) -> int:
        """How many channels ``count`` become."""
        return (2 * self.count + 1) * count

    def shown(self, count: int) -> int:
        """Which of ``count`` channels to display: one of the slice itself."""
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
    """How many channels images of ``count`` channels have after preparation."""
    for step in steps:
        if hasattr(step, "channels"):
            count = int(step.channels(count))
    return count


def one_shown(image: np.ndarray, steps: Sequence[Any]) -> np.ndarray:
    """The (D,H,W) to display of an image (D,H,W) or (D,C,H,W): the channel that ``steps`` choose, if several."""
    if image.ndim == 3:
        return np.asarray(image)
    if image.shape[1] == 1:
        return np.asarray(image[:, 0])
    choose = next((step.shown for step in reversed(steps) if hasattr(step, "shown")), None)
    return np.asarray(image[:, 0 if choose is None else choose(image.shape[1])])
