"""What a benchmark compares, as data."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch

Make = Callable[[torch.device], Callable[[], Any]]
Signs = Sequence[torch.Tensor]
"""For every ReLU, in the truth's order, where its argument is above zero: booleans of the argument's shape."""
Truth = Callable[[Signs | None], tuple[Any, list[torch.Tensor]]]
"""The expected result with the ReLUs open where they are told to be, or by themselves; and their arguments."""
Quantity = Literal["speed", "time", "memory", "error"]
MARGIN = 8.0
GPU_MARGIN = 4.0  # times the margin: libraries there choose among algorithms, such as Winograd's, that round worse


class Unavailable(Exception):
    """A variant cannot run on this device or installation; the message says why, and the table shows it."""


@dataclass(frozen=True)
class Rectified:
    """A function with gradients through ReLUs, for a case that has ``flips``.

    Parameters
    ----------
    run:
        The function that is timed.
    traced:
        Gives its result, and on which side of zero the arguments of its ReLUs were.
    """

    run: Callable[[], Any]
    traced: Callable[[], tuple[Any, Signs]]

    def __call__(self) -> Any:
        return self.run()


@dataclass(frozen=True)
class Variant:
    """One way to compute what a case asks for.

    Parameters
    ----------
    name:
        Unique in its case.
    make:
        Builds everything on the device and returns the function to time. Every variant's ``make`` draws the same
        numbers (it seeds its own), as their results are compared. May raise :class:`Unavailable`.
    tolerance:
        Largest error allowed, whatever the case allows and the reference shows: for a lower precision, say.
    same:
        False for a different function with the same purpose, whose result is not compared.
    memory:
        False if making the variant in a separate process would take long.
    dtype:
        What it computes in, if that is not the case's ``work.dtype``: its share of the roofline refers to that roof.
        ``tf32`` is single precision with TF32 allowed, on a GPU; without it, TF32 is off.
    environ:
        With it, the variant runs in a separate process with these environment variables, on a CPU only.
    """

    name: str
    make: Make
    tolerance: float | None = None
    same: bool = True
    memory: bool = True
    dtype: str | None = None
    environ: Mapping[str, str] | None = None


@dataclass(frozen=True)
class Work:
    """Floating-point operations and bytes that the task needs at least, however it is computed.

    Bytes are those of reading the inputs and writing the results once; ``dtype`` is the type of number whose rate is
    the roof.
    """

    flops: float = 0.0
    bytes: float = 0.0
    dtype: str = "float32"


@dataclass(frozen=True)
class Target:
    """What a variant promises against the case's reference.

    ``speed`` (times faster) is at least ``bound``; ``time`` and ``memory`` (shares of the reference's) and ``error``
    (absolute) are at most. Promised only on ``device`` (``cpu`` or ``cuda``), and judged nowhere else.
    """

    variant: str
    quantity: Quantity
    bound: float
    device: str = "cpu"

    def met(self, found: float) -> bool:
        return found >= self.bound if self.quantity == "speed" else found <= self.bound

    def __str__(self) -> str:
        sign = "≥" if self.quantity == "speed" else "≤"
        return f"{self.quantity} {sign} {self.bound:g}"


@dataclass(frozen=True)
class Case:
    """One task at one size, and the variants that compute it.

    Parameters
    ----------
    name:
        Unique in its suite.
    variants:
        The first is the reference that all others are timed against and, without a truth, checked against.
    tolerance:
        Largest error of a variant; with a truth, only where the reference's own error allows less.
    gpu_tolerance:
        What it is at least on a GPU, whose libraries choose among algorithms that round differently; of every variant.
    relative:
        Errors are norms of differences over norms of the expected arrays; else largest absolute differences.
    truth:
        Makes a function that gives the expected result in double precision. Every variant is compared with it, and may
        be off by ``margin`` times as much as the reference: how far rounding goes is different on every processor.
        Default: the reference is the truth, and ``tolerance`` the bound.
    flips:
        In place of ``truth`` for gradients through ReLUs, whose variants make a :class:`Rectified`: an argument near
        zero that rounds to the other side moves gradients by far more than rounding does. A variant is compared with
        the truth with the ReLUs open as the variant had them; how many were on the other side, and how near zero, is
        judged separately.
    margin:
        Times the reference's error; four times as much on a GPU.
    memory:
        Measure the peak memory of one call, on a CPU each in a fresh process.
    rounds:
        Times each variant is measured, fewer when that would take too long.
    group, size:
        Cases of one group form a curve over ``size`` in the plot.
    quick:
        Part of a quick run.
    host:
        The CPU computes it, whatever the device.
    """

    name: str
    variants: tuple[Variant, ...]
    tolerance: float = 0.0
    gpu_tolerance: float = 0.0
    relative: bool = False
    truth: Make | None = None
    flips: Callable[[torch.device], Truth] | None = None
    margin: float = MARGIN
    work: Work = Work()
    memory: bool = False
    rounds: int = 15
    group: str = ""
    size: int = 0
    targets: tuple[Target, ...] = ()
    quick: bool = False
    host: bool = False

    def __post_init__(self) -> None:
        names = [variant.name for variant in self.variants]
        if len(set(names)) != len(names) or not names:
            raise ValueError(f"case '{self.name}' needs variants of different names, not {names}")
        strangers = {target.variant for target in self.targets} - set(names)
        if strangers:
            raise ValueError(f"case '{self.name}' has targets for {sorted(strangers)}, which are not variants of it")
        if self.truth is not None and self.flips is not None:
            raise ValueError(f"case '{self.name}' has a truth and flips, which give one too")

    def allowed(self, device: torch.device, shown: float = 0.0, variant: Variant | None = None) -> float:
        """Largest error on ``device``, for ``variant`` or in general, once the reference has ``shown`` its own."""
        if variant is not None and variant.tolerance is not None:
            own = variant.tolerance
        else:
            own = max(self.tolerance, self.margin * shown * (GPU_MARGIN if device.type == "cuda" else 1.0))
        return max(own, self.gpu_tolerance) if device.type == "cuda" else own

    @property
    def reference(self) -> Variant:
        return self.variants[0]

    def variant(self, name: str) -> Variant:
        return next(variant for variant in self.variants if variant.name == name)


def difference(found: Any, expected: Any, relative: bool = False) -> float:
    """Largest error over all arrays of a result (tensors, arrays, numbers, or nested sequences and mappings of them).

    Infinite if shapes differ or a number is not finite on one side only.
    """
    one, other = list(arrays(found)), list(arrays(expected))
    if [a.shape for a in one] != [b.shape for b in other]:
        return math.inf
    return max((_apart(a, b, relative) for a, b in zip(one, other, strict=True)), default=0.0)


def arrays(value: Any) -> Iterator[np.ndarray]:
    """All arrays of a result, in a fixed order."""
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu()
        value = value.resolve_conj().resolve_neg()
        yield value.float().numpy() if value.dtype in (torch.bfloat16, torch.float16) else value.numpy()
    elif isinstance(value, Mapping):
        for key in sorted(value):
            yield from arrays(value[key])
    elif isinstance(value, list | tuple):
        for item in value:
            yield from arrays(item)
    elif value is not None:
        yield np.asarray(value)


def _apart(a: np.ndarray, b: np.ndarray, relative: bool) -> float:
    if not a.size:
        return 0.0
    wide = np.complex128 if np.iscomplexobj(a) or np.iscomplexobj(b) else np.float64
    a, b = a.astype(wide), b.astype(wide)
    if not np.array_equal(np.isfinite(a), np.isfinite(b)):
        return math.inf
    gap = np.abs(np.nan_to_num(a) - np.nan_to_num(b))
    if not relative:
        return float(gap.max())
    scale = float(np.linalg.norm(np.nan_to_num(b)))
    return float(np.linalg.norm(gap)) / scale if scale else float(gap.max())
