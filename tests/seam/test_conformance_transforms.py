"""What a step of preparation may not do is found by its check: look at the answer, remember, put predictions elsewhere."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from seam.test_conformance_broken_data import SoundTransform

from medkit.data.transforms import Resize
from medkit.data.transforms_radiograph import PadResize
from medkit.testing import check_transform


class Same:
    """Keeps the positions."""

    def apply(self, arrays: Any) -> Any:
        return dict(arrays)

    def restore(self, array: Any, shape: Any) -> Any:
        return array


class Mirror(Same):
    """Flips left and right, and forgets to flip predictions back."""

    def apply(self, arrays: Any) -> Any:
        return {name: array[..., ::-1] for name, array in arrays.items()}


class MirrorBack(Mirror):
    """Flips predictions back."""

    def restore(self, array: Any, shape: Any) -> Any:
        return array[..., ::-1]


class Turned(Same):
    """Turns by a quarter."""

    def apply(self, arrays: Any) -> Any:
        return {name: np.rot90(array, 1, (1, 2)) for name, array in arrays.items()}

    def restore(self, array: Any, shape: Any) -> Any:
        return np.rot90(array, -1, (1, 2))


class TurnedOn(Turned):
    """Turns predictions on, not back."""

    def restore(self, array: Any, shape: Any) -> Any:
        return np.rot90(array, 1, (1, 2))


class Crop(Same):
    """The middle, without 8 rows and columns at each side."""

    def apply(self, arrays: Any) -> Any:
        return {name: array[:, 8:-8, 8:-8] for name, array in arrays.items()}

    def restore(self, array: Any, shape: Any) -> Any:
        return np.pad(array, ((0, 0), (8, 8), (8, 8)))


class CropAtCorner(Crop):
    """Puts the middle into a corner."""

    def restore(self, array: Any, shape: Any) -> Any:
        return np.pad(array, ((0, 0), (0, 16), (0, 16)))


class Emptying(Same):
    """Returns zeros of the right shape."""

    def restore(self, array: Any, shape: Any) -> Any:
        return np.zeros_like(array)


class Backwards(Same):
    """Puts slices into the other order."""

    def apply(self, arrays: Any) -> Any:
        return {name: array[::-1] for name, array in arrays.items()}


class Remembered(Crop):
    """Puts the crop where the last volume's was."""

    def apply(self, arrays: Any) -> Any:
        self.side = 8
        return super().apply(arrays)

    def restore(self, array: Any, shape: Any) -> Any:
        return np.pad(array, ((0, 0), (self.side, self.side), (self.side, self.side)))


class ImageMirror(Same):
    """Flips the image, not the mask."""

    def apply(self, arrays: Any) -> Any:
        return {**arrays, "image": arrays["image"][..., ::-1]}

    def restore(self, array: Any, shape: Any) -> Any:
        return array


class Peek(Same):
    """Brightness relative to the lesion, where there is one."""

    def apply(self, arrays: Any) -> Any:
        image, mask = arrays["image"].astype(np.float32), arrays.get("mask")
        known = mask is not None and mask.any()
        return {**arrays, "image": image - (image[mask > 0].mean() if known else image.mean())}


class Demanding(Peek):
    """Brightness relative to the lesion, which it needs."""

    def apply(self, arrays: Any) -> Any:
        image = arrays["image"].astype(np.float32)
        return {**arrays, "image": image - image[arrays["mask"] >= 0].mean()}


class TargetPeek(Same):
    """Brightness relative to the target."""

    def apply(self, arrays: Any) -> Any:
        image = arrays["image"].astype(np.float32)
        return {**arrays, "image": image - arrays.get("target", image)[:, 0].mean()}


class FitFirst(Same):
    """Mean and standard deviation of the first volume that it sees."""

    mean: Any = None

    def apply(self, arrays: Any) -> Any:
        image = arrays["image"].astype(np.float32)
        if self.mean is None:
            self.mean, self.std = image.mean(), image.std()
        return {**arrays, "image": (image - self.mean) / self.std}


class ZScore(Same):
    """Mean and standard deviation of the volume."""

    def apply(self, arrays: Any) -> Any:
        image = arrays["image"].astype(np.float32)
        return {**arrays, "image": (image - image.mean()) / (image.std() + 1e-6)}


class Edges(Same):
    """Differences of neighbouring columns."""

    def apply(self, arrays: Any) -> Any:
        image = arrays["image"].astype(np.float32)
        return {**arrays, "image": np.diff(image, axis=2, prepend=image[..., :1])}


SOUND = [
    *(SoundTransform(), Same(), MirrorBack(), Turned(), Crop(), ZScore(), Edges()),
    *(Resize(size) for size in ((256, 256), (64, 32), (40, 36), (20, 18), (16, 16), (8, 8))),
    *(PadResize(size) for size in ((64, 64), (32, 64), (16, 16))),
]


@pytest.mark.parametrize("transform", SOUND, ids=lambda step: f"{type(step).__name__}{getattr(step, 'size', '')}")
def test_a_step_that_puts_masks_back_passes(transform: Any) -> None:
    check_transform(transform)


@pytest.mark.parametrize(
    ("transform", "message"),
    [
        (Mirror, "does not put a mask back where it was: Dice 0"),
        (TurnedOn, "does not put a mask back where it was"),
        (CropAtCorner, "does not put a mask back where it was"),
        (Emptying, "makes nothing of a mask of ones"),
        (Backwards, "does not put a mask back where it was"),
        (Remembered, "fails in a step that has not prepared this volume itself"),
        (ImageMirror, "image and mask do not move together"),
        (Peek, "the image depends on the mask or the target"),
        (Demanding, "needs 'mask', which a case to predict does not have"),
        (TargetPeek, "the image depends on the mask or the target"),
        (FitFirst, "remembers earlier volumes"),
    ],
)
def test_a_step_that_would_falsify_results_is_told_so(transform: Any, message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        check_transform(transform())


def test_a_volume_of_one_s_own_is_tried_too() -> None:
    scan = np.full((2, 24, 30), -1000, np.int16)
    scan[:, 4:20, 5:25] = 40
    for transform in (Same(), Crop(), ZScore(), Resize((12, 15))):
        check_transform(transform, scan)
    with pytest.raises(AssertionError, match="does not put a mask back"):
        check_transform(Mirror(), scan)
