"""Whether a variant computes what it should: its error against the truth, and ReLUs that flipped, counted apart."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from medkit.bench.case import Case, Rectified, Signs, Truth, Variant, difference
from medkit.bench.remote import Remote

NEAR = 1000.0  # a flipped argument is at most this many roundings of the root mean square away from zero
MANY = 1e-4  # fraction of all arguments that may flip
WORST = 1e-3  # a reference that is off by more than this fraction of its result does not merely round


@dataclass(frozen=True)
class Accuracy:
    """What was found for a variant; ``wrong`` says why it is not right, or is empty.

    ``error`` is None if nothing was compared, ``flips`` if the case has none.
    """

    error: float | None = None
    flips: int | None = None
    wrong: str = ""


class Judge:
    """Compares the variants of ``case`` with its truth on ``device``, the reference first."""

    def __init__(self, case: Case, device: torch.device) -> None:
        self.case, self.device = case, device
        self.tolerance = case.allowed(device)  # in general, once the reference has shown its own error
        self._truth: Truth | None = None
        self._arguments: list[torch.Tensor] = []
        self._expected: Any = None
        if case.flips is not None:
            self._truth = case.flips(device)
            self._expected, self._arguments = self._truth(None)
        elif case.truth is not None:
            self._expected = case.truth(device)()
        self._exact = case.flips is not None or case.truth is not None
        self._shown = 0.0

    def look(self, variant: Variant, function: Callable[[], Any]) -> Accuracy:
        """Call the variant's ``function`` and compare what it gives."""
        reference = variant is self.case.reference
        given, signs = _call(function)
        if not variant.same:
            return Accuracy()
        if reference and not self._exact:
            self._expected = given
            return Accuracy()
        flips, expected = None, self._expected
        if self._truth is not None:
            assert signs is not None, "a case with flips has variants that are Rectified"
            flips, wrong = self._flips(signs)
            if wrong:
                return Accuracy(None, flips, wrong)
            if flips:
                expected = self._truth(signs)[0]
        error = difference(given, expected, self.case.relative)
        if not math.isfinite(error):
            return Accuracy(None, flips, "shapes differ, or numbers that are not finite")
        if reference:
            rounds = error <= self.tolerance or difference(given, expected, relative=True) <= WORST
            if variant.tolerance is None and not rounds:
                return Accuracy(error, flips, f"the reference is off by {error:.1e}, which is more than rounding")
            self._shown = error
            self.tolerance = self.case.allowed(self.device, error)
        allowed = self.case.allowed(self.device, self._shown, variant)
        if not error <= allowed:
            return Accuracy(error, flips, f"it is off by {error:.1e}, above the tolerance of {allowed:.1e}")
        return Accuracy(error, flips)

    def _flips(self, signs: Signs) -> tuple[int, str]:
        """How many arguments are on the other side of zero from the truth's, and what is wrong with that."""
        if [one.shape for one in signs] != [one.shape for one in self._arguments]:
            return 0, "its ReLUs are not those of the truth"
        flips, farthest = 0, 0.0
        for mine, argument in zip(signs, self._arguments, strict=True):
            turned = argument[mine != (argument > 0)]
            if turned.numel():
                rounding = torch.finfo(torch.float32).eps * argument.square().mean().sqrt()
                flips, farthest = flips + turned.numel(), max(farthest, float(turned.abs().max() / rounding))
        total = sum(argument.numel() for argument in self._arguments)
        if farthest > NEAR:
            return flips, f"a ReLU flipped whose argument is {farthest:.0f} roundings away from zero"
        return flips, f"{flips:,} of {total:,} ReLUs flipped" if flips > MANY * total else ""


def _call(function: Callable[[], Any]) -> tuple[Any, Signs | None]:
    if isinstance(function, Remote):
        return function.result(), None
    if isinstance(function, Rectified):
        return function.traced()
    return function(), None
