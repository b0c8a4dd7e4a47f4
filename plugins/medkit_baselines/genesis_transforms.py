"""The distortions that Models Genesis undoes (Zhou et al. 2021): local shuffling, intensity maps, painting.

Images are numpy arrays (C,*space) with values in [0,1]: (C,H,W) for slices, (C,X,Y,Z) for cubes. Nothing is changed in
place. Every random number comes from the two generators that a function gets: gates, sizes and places from ``chance``
(``random.Random``), noise and permutations from ``rng`` (a numpy generator). With the same seeds they give the
published code's images, except that the blocks of local shuffling are drawn all at once, which is faster but draws
other blocks.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

Rng = np.random.Generator | np.random.RandomState
"""A numpy generator, of the new kind or the old."""

BLOCKS = 10_000
"""Blocks that local shuffling permutes, as published; they cover a voxel of its 64x64x32 cubes about twice."""

FEW = 0.95
"""Probability of another box, of at most five."""

MARGIN = 3
"""Pixels between a painted box and the border."""


@dataclass(frozen=True)
class Chances:
    """How likely each distortion is; the defaults are the published ones.

    Parameters
    ----------
    flip:
        Probability of a flip, and again of a second and third one.
    shuffle:
        Probability of local shuffling.
    intensity:
        Probability of a non-linear intensity map.
    paint:
        Probability of painting.
    inside:
        Probability that painting is in-painting and not out-painting.
    """

    flip: float = 0.4
    shuffle: float = 0.5
    intensity: float = 0.9
    paint: float = 0.9
    inside: float = 0.2


def distort(
    image: np.ndarray, chance: random.Random, rng: Rng, chances: Chances = Chances(), number: int = BLOCKS
) -> tuple[np.ndarray, np.ndarray]:
    """A distorted image and its target: the image, flipped in the same way.

    ``number`` blocks are shuffled. The order of the distortions and of all gates is the published one.
    """
    target = flip(image, chance, chances.flip)
    found = target
    if chance.random() < chances.shuffle:
        starts, sizes = blocks(image.shape[1:], number, rng)
        found = shuffle(found, starts, sizes, lambda block, size: rng.permutation(size))
    if chance.random() < chances.intensity:
        found = remap(found, *draw_map(chance))
    if chance.random() < chances.paint:
        paint = in_paint if chance.random() < chances.inside else out_paint
        found = paint(found, chance, rng)
    return np.ascontiguousarray(found), np.ascontiguousarray(target)


def flip(image: np.ndarray, chance: random.Random, probability: float, axes: Sequence[int] | None = None) -> np.ndarray:
    """At most three flips, each with ``probability`` after the one before, along one of ``axes`` (default: of space).

    The published code draws among the first three axes of (C,X,Y,Z): C has no effect, and Z is never drawn.
    """
    axes = range(1, image.ndim) if axes is None else axes
    left = 3
    while chance.random() < probability and left > 0:
        image = np.flip(image, chance.choice(axes))
        left -= 1
    return image


def blocks(shape: Sequence[int], number: int, rng: Rng) -> tuple[np.ndarray, np.ndarray]:
    """Corners and sizes (number, dimensions) of blocks with sides up to a tenth of the image's."""
    sides = np.asarray(shape)
    whole = rng.integers if isinstance(rng, np.random.Generator) else rng.randint
    sizes = whole(1, np.maximum(1, sides // 10) + 1, size=(number, len(sides)))
    return whole(0, sides - sizes + 1, size=sizes.shape), sizes


def shuffle(
    image: np.ndarray, starts: np.ndarray, sizes: np.ndarray, permutation: Callable[[int, int], np.ndarray]
) -> np.ndarray:
    """Permute pixels inside blocks; where blocks overlap, the last one shows. All of them read the original.

    Parameters
    ----------
    starts, sizes:
        Blocks, (n, dimensions of space) whole numbers.
    permutation:
        ``permutation(block, size)``: the order of the ``size`` pixels of a block; not called for a block that others
        cover.
    """
    owner = np.full(image.shape[1:], -1, np.int32)
    places = [
        tuple(slice(a, a + b) for a, b in zip(start, size, strict=True))
        for start, size in zip(starts.tolist(), sizes.tolist(), strict=True)
    ]
    for i, place in enumerate(places):
        owner[place] = i
    shuffled = image.copy()
    for i in np.unique(owner[owner >= 0]).tolist():
        block = image[:, *places[i]]
        mixed = block.reshape(len(image), -1)[:, permutation(i, block[0].size)].reshape(block.shape)
        shown = owner[places[i]] == i
        shuffled[:, *places[i]][:, shown] = mixed[:, shown]
    return shuffled


def bezier(points: Sequence[tuple[float, float]], count: int) -> tuple[np.ndarray, np.ndarray]:
    """x and y (count,) of a cubic Bezier curve, from its last control point to its first."""
    t = np.linspace(0.0, 1.0, count)
    weights = [t**3, 3 * t**2 * (1 - t), 3 * t * (1 - t) ** 2, (1 - t) ** 3]
    x, y = (sum(w * p[axis] for w, p in zip(weights, points, strict=True)) for axis in (0, 1))
    return np.asarray(x), np.asarray(y)


def draw_map(chance: random.Random) -> tuple[tuple[float, float], tuple[float, float], bool]:
    """Arguments of :func:`remap`: two inner control points, and whether the map rises (probability 0.5)."""
    first, second = ((chance.random(), chance.random()) for _ in range(2))
    # Published order: the points, then the direction; below a half the map falls.
    return first, second, chance.random() >= 0.5


def remap(
    image: np.ndarray, first: tuple[float, float], second: tuple[float, float], rising: bool, count: int = 10_000
) -> np.ndarray:
    """Map intensities along a Bezier curve from (0,0) to (1,1), or mirrored: from (0,1) to (1,0).

    Inner control points in the unit square make the curve monotone, so the map either rises or falls throughout.
    It is evaluated at ``count`` points and linear between them; the published 100,000 change nothing beyond 1e-6.
    """
    x, y = bezier([(0.0, 0.0), first, second, (1.0, 1.0)], count)
    # The curve runs from (1,1); in falling maps y keeps that order while x is reversed.
    return np.interp(image, np.sort(x), np.sort(y) if rising else y).astype(image.dtype)


def in_paint(image: np.ndarray, chance: random.Random, rng: Rng) -> np.ndarray:
    """Noise in U(0,1) in up to five boxes, whose sides are a sixth to a third of the image's."""
    painted = image.copy()
    left = 5
    while left > 0 and chance.random() < FEW:
        sizes = [chance.randint(max(1, side // 6), max(1, side // 3)) for side in image.shape[1:]]
        painted[:, *_place(sizes, image.shape[1:], chance)] = _noise(sizes, rng)
        left -= 1
    return painted


def out_paint(image: np.ndarray, chance: random.Random, rng: Rng) -> np.ndarray:
    """Noise in U(0,1) everywhere except in one to five boxes, whose sides are three to four sevenths of the image's."""
    painted = _noise(image.shape, rng).astype(image.dtype)
    left = 5
    while left == 5 or (left > 0 and chance.random() < FEW):
        sizes = [side - chance.randint(3 * side // 7, 4 * side // 7) for side in image.shape[1:]]
        place = _place(sizes, image.shape[1:], chance)
        painted[:, *place] = image[:, *place]
        left -= 1
    return painted


def _place(sizes: Sequence[int], shape: Sequence[int], chance: random.Random) -> tuple[slice, ...]:
    """A box of ``sizes`` anywhere inside, ``MARGIN`` pixels off the border or as many as fit."""
    starts = []
    for size, side in zip(sizes, shape, strict=True):
        margin = min(MARGIN, (side - size) // 2)
        starts.append(chance.randint(margin, side - size - margin))
    return tuple(slice(a, a + b) for a, b in zip(starts, sizes, strict=True))


def _noise(shape: Sequence[int], rng: Rng) -> np.ndarray:
    return rng.random(tuple(shape))
