"""Networks with a fixed window over images of any size: overlapping windows, blended."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from itertools import product
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from medkit.errors import InputError, RunError

Blend = Literal["gaussian", "constant"]
ON_DEVICE = 2**26
"""Output voxels (256 MiB of float32) up to which windows are blended on the images' device; above, in CPU memory."""
SIGMA = 0.125
"""Standard deviation of the Gaussian weights, in windows."""
LEAST = 1e-3
"""Smallest weight of a voxel relative to the window's centre: corners that no other window covers still count."""


def sliding_window(
    network: Callable[[Tensor], Tensor],
    images: Tensor,
    window: int | Sequence[int],
    *,
    overlap: float = 0.25,
    blend: Blend = "gaussian",
    batch: int = 8,
    on_device: int = ON_DEVICE,
) -> Tensor:
    """Apply ``network`` to overlapping windows of images and average what it says about each voxel.

    Windows are ``int(window * (1 - overlap))`` voxels apart; the last along each axis is moved back to end with the
    image. An image smaller than the window is padded with zeros on both sides and the result cropped back. Positions,
    padding and constant weights are those of MONAI's ``sliding_window_inference`` (checked), so published results can
    be reproduced; Gaussian weights follow its formula.

    When a CUDA device runs out of memory, ``batch`` is halved once, with a warning; a second time is an error.

    Parameters
    ----------
    network:
        From (n,C,*window) to (n,K,*window).
    images:
        (N,C,*spatial), any number of spatial dimensions.
    window:
        Voxels per side, or one number for each spatial dimension.
    overlap:
        Share of a window that the next one covers again, in [0, 1).
    blend:
        ``gaussian``: voxels count less towards the window's border (standard deviation an eighth of the window), which
        hides seams. ``constant``: a plain mean.
    batch:
        Windows per forward pass, over all images.
    on_device:
        Output voxels above which windows are gathered in the CPU's memory.

    Returns
    -------
    torch.Tensor
        (N,K,*spatial), on the images' device, in the network's type.

    Raises
    ------
    InputError
        for a window, an overlap or a batch out of range, or a network that changes the window's size.
    RunError
        if memory runs out again with half the batch.
    """
    spatial = tuple(images.shape[2:])
    size, before = _laid(images, window, overlap, batch)
    images = _padded(images, size, before)
    cuts = _cuts(images, size, overlap)
    weight = weights(size, blend)
    total: Tensor | None = None
    share = torch.zeros(())
    for chosen, output in _outputs(network, images, cuts, batch):
        if output.shape[2:] != size:
            raise InputError(f"the network makes {list(output.shape[2:])} of windows of {list(size)}")
        if total is None:
            shape = (len(images), output.shape[1], *images.shape[2:])
            place = output.device if math.prod(shape) <= on_device else torch.device("cpu")
            kind = torch.promote_types(output.dtype, torch.float32)  # half precision would lose what it adds up
            total, made = torch.zeros(shape, dtype=kind, device=place), output.dtype
            share = torch.zeros(shape[2:], dtype=kind, device=place)
            weight = weight.to(share)
        output = output.to(total) * weight
        for (item, cut), part in zip(chosen, output, strict=True):
            total[item][_all_channels(cut)] += part
            if item == 0:
                share[cut] += weight
    if total is None:
        raise InputError("there are no images to apply a network to")
    total /= share
    inner = tuple(slice(start, start + length) for start, length in zip(before, spatial, strict=True))
    return total[(slice(None), *_all_channels(inner))].to(device=images.device, dtype=made)


def each_window(
    network: Callable[[Tensor], Tensor],
    images: Tensor,
    window: int | Sequence[int],
    *,
    overlap: float = 0.25,
    batch: int = 8,
) -> Tensor:
    """What ``network`` makes of every window that :func:`sliding_window` would take, of any shape: (n,...), one image's
    after the other's; errors are the same."""
    size, before = _laid(images, window, overlap, batch)
    images = _padded(images, size, before)
    return torch.cat([output for _, output in _outputs(network, images, _cuts(images, size, overlap), batch)])


def _laid(images: Tensor, window: int | Sequence[int], overlap: float, batch: int) -> tuple[tuple[int, ...], list[int]]:
    """The sides of windows, and how many voxels a smaller image is filled up with before its first ones."""
    spatial = tuple(images.shape[2:])
    size = (window,) * len(spatial) if isinstance(window, int) else tuple(window)
    if len(size) != len(spatial) or min(size) < 1:
        raise InputError(f"a window {list(size)} does not fit images with {len(spatial)} spatial dimensions")
    if not 0 <= overlap < 1:
        raise InputError(f"the overlap must lie in [0, 1), not {overlap}")
    if batch < 1:
        raise InputError(f"a batch of {batch} windows is empty")
    return size, [max(side - length, 0) // 2 for side, length in zip(size, spatial, strict=True)]


def _cuts(images: Tensor, size: Sequence[int], overlap: float) -> list[Cut]:
    return list(product(range(len(images)), windows(tuple(images.shape[2:]), size, overlap)))


def windows(spatial: Sequence[int], size: Sequence[int], overlap: float) -> list[tuple[slice, ...]]:
    """Where windows of ``size`` are in an image of ``spatial``, both in voxels; the image is at least a window."""
    starts = []
    for length, side in zip(spatial, size, strict=True):
        step = max(1, int(side * (1 - overlap)))
        starts.append([min(i * step, length - side) for i in range(math.ceil((length - side) / step) + 1)])
    return [tuple(slice(start, start + side) for start, side in zip(at, size, strict=True)) for at in product(*starts)]


def weights(size: Sequence[int], blend: Blend) -> Tensor:
    """(*size) float32, how much each voxel of a window counts: at most 1, never 0."""
    weight = torch.ones(())
    for side in size:
        position = torch.arange(side, dtype=torch.float32) - (side - 1) / 2
        line = torch.exp(-((position / (SIGMA * side)) ** 2) / 2) if blend == "gaussian" else torch.ones(side)
        weight = weight[..., None] * line
    return weight.clamp(min=max(float(weight.min()), LEAST))


def _all_channels(cut: tuple[slice, ...]) -> tuple[slice, ...]:
    return (slice(None), *cut)


def _padded(images: Tensor, size: Sequence[int], before: Sequence[int]) -> Tensor:
    amounts: list[int] = []
    for length, side, first in zip(images.shape[2:], size, before, strict=True):
        amounts = [first, max(side - length, 0) - first, *amounts]  # F.pad names the last axis first
    return F.pad(images, amounts) if any(amounts) else images


Cut = tuple[int, tuple[slice, ...]]


def _outputs(
    network: Callable[[Tensor], Tensor], images: Tensor, cuts: Sequence[Cut], batch: int
) -> Iterator[tuple[Sequence[Cut], Tensor]]:
    """What the network makes of the windows, ``batch`` at a time, or half as many once memory has run out."""
    halved, at = False, 0
    while at < len(cuts):
        chosen = cuts[at : at + batch]
        output = _unless_memory_runs_out(network, images, chosen, last=halved or len(chosen) == 1)
        if output is None:
            halved, batch = True, len(chosen) // 2
            warnings.warn(f"out of memory: continuing with {batch} windows at a time", stacklevel=3)
            if images.is_cuda:
                torch.cuda.empty_cache()
            continue
        yield chosen, output
        at += len(chosen)


def _unless_memory_runs_out(
    network: Callable[[Tensor], Tensor], images: Tensor, chosen: Sequence[Cut], last: bool
) -> Tensor | None:
    """What the network makes of the chosen windows; None if memory runs out, unless this was the ``last`` attempt.

    It returns, so that no error remains that holds the memory of what failed.
    """
    try:
        return network(torch.stack([images[item][_all_channels(cut)] for item, cut in chosen]))
    except torch.OutOfMemoryError as error:
        if not last:
            return None
        size = "x".join(str(part.stop - part.start) for part in chosen[0][1])
        raise RunError(
            f"the device's memory does not hold {len(chosen)} windows of {size}",
            hint="make the window or the batch smaller, or use the CPU",
        ) from error
