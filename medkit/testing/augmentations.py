"""The conformance check of augmentations (:mod:`medkit.testing`)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch

from medkit.data.augment_chains import CPUChain, DeviceChain
from medkit.protocols import Augmentation, offered
from medkit.testing.common import generators_rest
from medkit.testing.transforms import INSIDE, block, inside

SHAPE = (3, 40, 40)
SEEDS = 8
"""Seeds that are tried, since many augmentations do nothing half of the time."""
DARK, BRIGHT = 0.2, 0.8
"""Two values of a block in the image, to see where it goes."""

Arrays = dict[str, np.ndarray]


def check_augmentation(augmentation: Any) -> None:
    """There is a form for the CPU or the device, a missing one says why, and each does what training relies on.

    The generator that it is given decides all that it draws; image and mask move together, on the CPU all slices alike;
    its input stays as it is; an image stays float32 and finite, a mask 0 and 1.
    """
    forms = 0
    for form in ("cpu", "device"):
        try:
            assert offered(Augmentation, augmentation, form)() is not None, f"{form}() returns nothing"
        except NotImplementedError as error:
            if not str(error):
                raise AssertionError(f"{form}() raises NotImplementedError without saying why") from error
        else:
            forms += 1
            _check_form(augmentation, form)
    assert forms, "an augmentation needs a form for the CPU, the device or both"


def _on_cpu(augmentation: Any) -> Callable[[Arrays, int], Arrays]:
    chain = CPUChain([augmentation])

    def apply(arrays: Arrays, seed: int) -> Arrays:
        found = chain(arrays, np.random.default_rng(seed))
        mask = found["mask"]
        assert all(np.array_equal(each, mask[0]) for each in mask), "it moves the slices of a volume differently"
        return found

    return apply


def _on_device(augmentation: Any) -> Callable[[Arrays, int], Arrays]:
    chain = DeviceChain([augmentation])

    def apply(arrays: Arrays, seed: int) -> Arrays:
        torch.random.default_generator.manual_seed(seed)  # as the engine does, unseen by generators_rest
        batch = {name: torch.from_numpy(array)[:, None] for name, array in arrays.items()}
        found = chain(batch)
        return {name: found[name].numpy()[:, 0] for name in arrays}

    return apply


def _check_form(augmentation: Any, form: str) -> None:
    make, what = _on_cpu if form == "cpu" else _on_device, f"the form of {form}()"
    one, other = make(augmentation), make(augmentation)
    mask = block(SHAPE).astype(np.uint8 if form == "cpu" else np.float32)
    for seed in range(SEEDS):
        dark, bright = _example(DARK, mask), _example(BRIGHT, mask)
        kept = {name: array.copy() for name, array in dark.items()}
        found = _applied(one, dark, seed, what)
        assert all(np.array_equal(kept[name], dark[name]) for name in kept), f"{what} changes its input: copy it"
        _check_arrays(found, what)
        for each in (one, other):
            again = _applied(each, {name: array.copy() for name, array in kept.items()}, seed, what)
            assert all(np.array_equal(found[name], again[name]) for name in found), (
                f"{what} gives another result under the same seed: it draws from a generator of its own, or remembers "
                "earlier calls, so a run could not be repeated or resumed. Draw with what albumentations gives a "
                "transform (self.py_random, self.random_generator) on the CPU, with torch's generator on the device"
            )
        with generators_rest(what):
            changed = np.abs(_applied(one, bright, seed, what)["image"] - found["image"])
        share = inside(changed, found["mask"] > 0.5) if changed.shape == found["mask"].shape else 0
        assert share >= INSIDE, (
            f"{what} does not move image and mask together: only {share:.0%} of what was changed in the image under a "
            "mask lies under it afterwards"
        )


def _example(value: float, mask: np.ndarray) -> Arrays:
    """Noise with a block of one value, and the block's mask."""
    image = np.random.default_rng(0).uniform(0.3, 0.6, mask.shape).astype(np.float32)
    image[mask > 0] = value
    return {"image": image, "mask": mask.copy()}


def _applied(apply: Callable[[Arrays, int], Arrays], arrays: Arrays, seed: int, what: str) -> Arrays:
    try:
        return apply(arrays, seed)
    except AssertionError as error:
        raise AssertionError(f"{what}: {error}") from error
    except Exception as error:
        raise AssertionError(f"{what} fails on slices with masks: {type(error).__name__}: {error}") from error


def _check_arrays(found: Mapping[str, np.ndarray], what: str) -> None:
    image, mask = found["image"], found["mask"]
    assert image.dtype == np.float32, f"{what} returns an image of {image.dtype}, not float32"
    assert np.isfinite(image).all(), f"{what} returns an image that is not finite (NaN or infinite)"
    assert image.shape == mask.shape, f"{what} returns an image {image.shape} and a mask {mask.shape}"
    assert len(image) == SHAPE[0], f"{what} returns {len(image)} slices of {SHAPE[0]}"
    assert set(np.unique(mask)) <= {0, 1}, f"{what} returns a mask that is no longer 0 and 1: move it without blurring"
